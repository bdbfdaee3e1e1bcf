//! Which functions, relations, types and operators call what may write, by the definitions that the
//! servers tell. Pure.
//!
//! A view over a volatile function is as volatile, and so is a function that is declared stable and
//! calls one. Whatever is not found out counts as the worse.

use std::collections::HashSet;

use planner::catalog::{Suspects, TableClass};
use planner::plan::{Access, PlanOptions, plan};
use planner::{Catalog, ShardId};

use super::classify::{ShardSchema, planner_table};

/// Definitions as a server told them; names are unqualified.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// Functions of users that are not volatile, with all of their definition. Of an aggregate, its
    /// functions.
    pub functions: Vec<Text>,
    /// Views and tables with policies, with a query that calls what reading them calls.
    pub relations: Vec<Text>,
    /// Domains, with their checks and the type they are over.
    pub domains: Vec<Text>,
    /// Relations and composite types that have columns of users' types, with these types.
    pub rows: Vec<Text>,
    /// Operators, with their function.
    pub operators: Vec<(String, Callee)>,
    /// The functions of casts.
    pub casts: Vec<Callee>,
    pub foreign: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Text {
    pub name: String,
    pub text: String,
}

/// One function, not all of its name.
#[derive(Debug, Clone)]
pub struct Callee {
    pub name: String,
    pub volatile: bool,
}

/// Marks the functions that call what may write, and answers with what else does.
pub fn settle(schema: &mut ShardSchema, told: &Definitions) -> Suspects {
    let mut catalog = Catalog::new(0, 1);
    catalog.search_path.clone_from(&schema.search_path);
    for (name, relation) in &schema.relations {
        catalog.add_table(planner_table(
            name,
            relation,
            TableClass::Single(ShardId(0)),
        ));
    }
    for (name, function) in &schema.functions {
        catalog.add_function(name, *function);
    }
    catalog.suspects.foreign = told.foreign.iter().cloned().collect();
    // Each round finds more or is the last, and there is only so much to find.
    let mut raised = HashSet::new();
    while spread(&mut catalog, told, &mut raised) {}
    while spread_reads(&mut catalog, told) {}
    for (name, function) in &mut schema.functions {
        *function = catalog.function(name).unwrap_or(*function);
    }
    catalog.suspects
}

/// One round; false when it found nothing new. `raised`: functions that call what may write.
fn spread<'a>(catalog: &mut Catalog, told: &'a Definitions, raised: &mut HashSet<&'a str>) -> bool {
    let mut found = false;
    for Text { name, text } in &told.functions {
        if !raised.contains(name.as_str()) && planner::may_write(text, catalog) {
            raised.insert(name);
            catalog.distrust_function(name);
            found = true;
        }
    }
    for Text { name, text } in &told.domains {
        found |= planner::may_write(text, catalog) && catalog.suspects.callers.insert(name.clone());
    }
    for Text { name, text } in &told.rows {
        found |= planner::may_write(text, catalog) && catalog.suspects.rows.insert(name.clone());
    }
    // Of several functions of a name, that its volatile ones write says nothing of the others.
    let writes = |callee: &Callee, catalog: &Catalog| {
        let function = catalog.function(&callee.name);
        function.is_none_or(|function| function.may_write)
            && (callee.volatile || raised.contains(callee.name.as_str()))
    };
    for (operator, callee) in &told.operators {
        found |= writes(callee, catalog) && catalog.suspects.operators.insert(operator.clone());
    }
    if !catalog.suspects.casts && told.casts.iter().any(|callee| writes(callee, catalog)) {
        catalog.suspects.casts = true;
        found = true;
    }
    for Text { name, text } in &told.relations {
        if catalog.suspects.callers.contains(name) {
            continue;
        }
        if plan(text, catalog, PlanOptions::default()).access != Access::Read {
            catalog.suspects.callers.insert(name.clone());
            found = true;
        }
    }
    found
}

/// One round of what may read tables; false when it found nothing new. Functions tell it by their
/// volatility, but for aggregates, which are immutable by name.
fn spread_reads(catalog: &mut Catalog, told: &Definitions) -> bool {
    let mut found = Vec::new();
    for Text { name, text } in &told.domains {
        if planner::may_read_tables(text, catalog) {
            found.push(name.clone());
        }
    }
    for (operator, callee) in &told.operators {
        let function = catalog.function(&callee.name);
        if function.is_some_and(|function| function.may_read_tables) {
            found.push(operator.clone());
        }
    }
    let aggregates = told.functions.iter().filter(|Text { name, text }| {
        let function = catalog.function(name);
        function.is_some_and(|function| function.is_aggregate && !function.may_read_tables)
            && planner::may_read_tables(text, catalog)
    });
    let aggregates: Vec<_> = aggregates.map(|function| &function.name).collect();
    for name in &aggregates {
        catalog.unsettle_function(name);
    }
    let readers = &mut catalog.suspects.readers;
    let before = readers.len();
    readers.extend(found);
    readers.len() > before || !aggregates.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::catalog::{Function, Volatility};

    fn schema(functions: &[(&str, bool)]) -> ShardSchema {
        let function = |(name, may_write): &(&str, bool)| {
            let function = Function {
                volatility: Volatility::Stable,
                may_write: *may_write,
                user_defined: *name != "nextval",
                is_aggregate: false,
                may_read_tables: false,
            };
            ((*name).to_owned(), function)
        };
        ShardSchema {
            functions: functions.iter().map(function).collect(),
            ..ShardSchema::default()
        }
    }

    fn text(name: &str, text: &str) -> Text {
        let (name, text) = (name.to_owned(), text.to_owned());
        Text { name, text }
    }

    #[test]
    fn what_calls_a_writer_is_one_however_far_away() {
        let mut schema = schema(&[("nextval", true), ("a", false), ("b", false), ("c", false)]);
        let told = Definitions {
            // In an order in which each needs a round of its own.
            functions: vec![
                text("a", "SELECT b(1)"),
                text("b", "EXECUTE 'SELECT \"nextval\" (1)'"),
                text("c", "SELECT nextval FROM a_table -- b"),
            ],
            domains: vec![text("d", "int CHECK (a(VALUE))"), text("e", "d")],
            rows: vec![text("r", "e[]"), text("q", "f")],
            relations: vec![
                text("v", "SELECT * FROM w"),
                text("w", "SELECT 1 + a(2);"),
                text("plain", "SELECT c(1)"),
            ],
            ..Definitions::default()
        };
        let suspects = settle(&mut schema, &told);
        let names = |set: &HashSet<String>| {
            let mut names: Vec<_> = set.iter().cloned().collect();
            names.sort();
            names.join(" ")
        };
        // Of relations that are not in the schema the worst is thought.
        assert_eq!(names(&suspects.callers), "d e v w");
        assert_eq!(names(&suspects.rows), "r");
        let writes = |name: &str| schema.functions[name].may_write;
        assert_eq!([writes("a"), writes("b"), writes("c")], [true, true, false]);
    }

    #[test]
    fn what_reads_tables_unseen_is_found_however_far_away() {
        let mut schema = schema(&[("reads", false), ("sums", false), ("plain", false)]);
        for name in ["reads", "sums"] {
            let function = schema.functions.get_mut(name).unwrap();
            function.may_read_tables = name == "reads";
            function.is_aggregate = name == "sums";
        }
        let callee = |name: &str| Callee {
            name: name.to_owned(),
            volatile: false,
        };
        let told = Definitions {
            functions: vec![text("sums", "reads() integer")],
            domains: vec![
                text("over", "few"),
                text("few", "int CHECK (VALUE @+ 1 > 0)"),
                text("small", "int CHECK (plain(VALUE))"),
            ],
            operators: vec![
                ("@+".to_owned(), callee("reads")),
                ("@-".to_owned(), callee("plain")),
            ],
            ..Definitions::default()
        };
        let suspects = settle(&mut schema, &told);
        let readers: HashSet<_> = ["@+", "few", "over"].map(String::from).into();
        assert_eq!(suspects.readers, readers);
        assert!(schema.functions["sums"].may_read_tables);
        assert!(!schema.functions["plain"].may_read_tables);
    }

    #[test]
    fn casts_and_operators_are_as_their_own_function_is() {
        let callee = |name: &str, volatile| Callee {
            name: name.to_owned(),
            volatile,
        };
        let told = Definitions {
            functions: vec![text("b", "SELECT nextval('s')")],
            operators: vec![
                ("+".to_owned(), callee("a", false)),
                ("-".to_owned(), callee("a", true)),
                ("*".to_owned(), callee("b", false)),
            ],
            casts: vec![callee("a", false)],
            ..Definitions::default()
        };
        // Another function called a writes.
        let functions = [("nextval", true), ("a", true), ("b", false)];
        let suspects = settle(&mut schema(&functions), &told);
        assert!(!suspects.casts);
        let operators: HashSet<_> = ["-", "*"].map(String::from).into();
        assert_eq!(suspects.operators, operators);
        let casts = vec![callee("a", true)];
        let told = Definitions { casts, ..told };
        assert!(settle(&mut schema(&functions), &told).casts);
        // The operator of the proxy knows better.
        let functions = [("nextval", true), ("a", false), ("b", false)];
        assert!(!settle(&mut schema(&functions), &told).casts);
    }
}
