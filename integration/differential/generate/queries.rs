//! SELECT: what is in FROM, select lists of four kinds, set operations, WITH, ORDER BY and LIMIT.

use super::tables::{Column, Table, Ty};
use super::{Check, Generator, Source};

/// A query that may stand in another one.
#[derive(Default)]
struct Query {
    sql: String,
    columns: Vec<Column>,
    /// What puts its rows in an order without ties, and what else they may be put in order by.
    unique: Option<(String, Vec<String>)>,
}

/// A FROM clause.
struct From {
    text: String,
    sources: Vec<Source>,
    /// Goes into WHERE.
    conditions: Vec<String>,
}

impl Generator {
    /// A whole statement that reads.
    pub(super) fn query(&mut self) -> (String, Check) {
        let mut head = String::new();
        if self.chance(12) {
            let name = format!("w{}", self.below(3));
            let recursive = self.chance(20);
            let query = if recursive {
                self.recursive_query(&name)
            } else {
                self.select(None, true)
            };
            let materialized = *self.pick(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
            let (keyword, materialized) = if recursive {
                ("WITH RECURSIVE", "")
            } else {
                ("WITH", materialized)
            };
            head = format!("{keyword} {name} AS {materialized}({})", query.sql);
            self.withs.push((name, query.columns));
            if self.chance(25) {
                let query = self.select(None, true);
                head += &format!(", w9 AS ({})", query.sql);
                self.withs.push(("w9".to_owned(), query.columns));
            }
            head += " ";
        }
        let query = if self.chance(12) {
            self.set_operation()
        } else {
            self.select(None, false)
        };
        let (mut sql, mut check) = self.ordered(query);
        sql.insert_str(0, &head);
        let copied = self.params.is_empty() && !check.limited && !check.loose && self.chance(4);
        if copied && !self.loose {
            let options = *self.pick(&[
                "",
                " (FORMAT csv)",
                " (FORMAT csv, HEADER)",
                " (NULL 'none', DELIMITER '|')",
                " CSV DELIMITER ';' NULL 'a' ESCAPE 'b' FORCE QUOTE *",
            ]);
            sql = format!("COPY ({sql}) TO STDOUT{options}");
            check.order.clear();
        }
        (sql, check)
    }

    /// Adds ORDER BY and LIMIT, and says what they fix.
    fn ordered(&mut self, query: Query) -> (String, Check) {
        let types: Vec<Ty> = query.columns.iter().map(|column| column.ty).collect();
        let mut check = Check {
            types,
            ..Check::default()
        };
        let mut sql = query.sql;
        let sortable: Vec<usize> = (0..check.types.len())
            .filter(|at| check.types[*at].is_comparable())
            .collect();
        // Windows and DISTINCT ON have an ORDER BY of their own.
        let has_order = sql.contains("DISTINCT ON");
        if has_order || sortable.is_empty() || self.chance(40) {
            if !has_order && self.chance(10) {
                sql += &format!(" LIMIT {}", self.below(12));
                check.limited = true;
            }
            return (sql, check);
        }
        if let Some((unique, others)) = &query.unique
            && self.chance(40)
        {
            let mut items = Vec::new();
            if !others.is_empty() && self.chance(70) {
                let direction = *self.pick(&[
                    "",
                    " DESC",
                    " NULLS FIRST",
                    " DESC NULLS LAST",
                    " USING <",
                    " USING > NULLS LAST",
                ]);
                items.push(self.pick(others).clone() + direction);
            }
            items.push(unique.clone());
            sql += &format!(" ORDER BY {}", items.join(", "));
            check.order = (0..check.types.len()).collect();
            match self.below(5) {
                0..=1 => sql += &format!(" LIMIT {}", self.below(14)),
                2 => sql += &format!(" OFFSET {} LIMIT {}", self.below(5), self.below(9)),
                _ => {}
            }
            return (sql, check);
        }
        let all = self.chance(50) && sortable.len() == check.types.len();
        let count = if all {
            sortable.len()
        } else {
            1 + self.below(sortable.len().min(2))
        };
        let start = self.below(sortable.len());
        let mut items = Vec::new();
        for n in 0..count {
            let at = sortable[(start + n) % sortable.len()];
            let column = &query.columns[at];
            // Two columns of one name would be ambiguous.
            let is_named = query
                .columns
                .iter()
                .filter(|c| c.name == column.name)
                .count()
                == 1;
            let by = if is_named && self.chance(50) {
                column.name.clone()
            } else {
                (at + 1).to_string()
            };
            let direction =
                *self.pick(&["", "", " ASC", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
            items.push(format!("{by}{direction}"));
            check.order.push(at);
        }
        // PostgreSQL up to 17 leaves out of ORDER BY what is equal to a constant, though a grouping set makes it NULL.
        let in_sets =
            ["ROLLUP (", "CUBE (", "GROUPING SETS ("].map(|set| format!("GROUP BY {set}"));
        let in_sets = in_sets.iter().any(|set| sql.contains(set));
        if in_sets {
            check.order.clear();
        }
        sql += &format!(" ORDER BY {}", items.join(", "));
        if !in_sets && self.chance(45) {
            // Equal values may be written differently.
            check.limited = !all || !check.types.iter().all(|ty| ty.is_exact());
            let limit = self.below(14);
            match self.below(6) {
                // PostgreSQL 15 fails where it finds a greatest value by an index.
                0 if !sql.contains("max(") && !sql.contains("min(") => {
                    sql += &format!(" FETCH FIRST {} ROWS WITH TIES", limit + 1);
                    check.limited = false;
                }
                1 => sql += &format!(" OFFSET {limit}"),
                2 => sql += &format!(" LIMIT {limit} OFFSET {}", self.below(6)),
                3 => sql += &format!(" FETCH NEXT {} ROWS ONLY", limit + 1),
                4 => {
                    let param = self.param(Some(limit.to_string()));
                    sql += &format!(" LIMIT {param}");
                }
                _ => sql += &format!(" LIMIT {limit}"),
            }
        }
        (sql, check)
    }

    fn set_operation(&mut self) -> Query {
        let types: Vec<Ty> = (0..=self.below(3))
            .map(|_| *self.pick(&[Ty::Int, Ty::Int, Ty::Text, Ty::Date, Ty::Bool, Ty::Stamp]))
            .collect();
        let first = self.select(Some(&types), true);
        let mut sql = first.sql;
        for _ in 0..=self.below(2) {
            let operation = *self.pick(&[
                "UNION",
                "UNION ALL",
                "UNION ALL",
                "INTERSECT",
                "INTERSECT ALL",
                "EXCEPT",
                "EXCEPT ALL",
            ]);
            let next = self.select(Some(&types), true);
            sql = format!("{sql} {operation} {}", next.sql);
        }
        Query {
            sql,
            columns: first.columns,
            unique: None,
        }
    }

    /// Counts along the keys of a table.
    fn recursive_query(&mut self, name: &str) -> Query {
        let table = (*self.pick(&["people", "mid", "tiny"])).to_owned();
        let (step, end) = (1 + self.below(3), 3 + self.below(9));
        let columns = ["id", "n"].map(|name| Column {
            name: name.to_owned(),
            ty: Ty::Int,
        });
        Query {
            sql: format!(
                "SELECT id, 1 AS n FROM {table} WHERE id IN (1, {step}) UNION \
                 SELECT x.id, {name}.n + 1 FROM {table} x JOIN {name} ON x.id = {name}.id + {step} \
                 WHERE {name}.n < {end}"
            ),
            columns: columns.into(),
            unique: None,
        }
    }

    /// A SELECT without ORDER BY, of some types where they are given; `nested` stands in another
    /// query, so that nothing of it may be open.
    fn select(&mut self, types: Option<&[Ty]>, nested: bool) -> Query {
        let from = self.from(nested);
        let mut conditions = from.conditions;
        let own = from.sources;
        if self.chance(55) {
            conditions.push(self.condition(&own, 2));
        }
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        let tail = format!(" FROM {}{filter}", from.text);
        if let Some(types) = types {
            let distinct = if self.chance(20) { "DISTINCT " } else { "" };
            let types = types.to_vec();
            let items = types
                .iter()
                .map(|ty| (self.value(*ty, &own, 1), *ty))
                .collect();
            return self.listed(distinct, items, &tail, "");
        }
        match self.below(20) {
            0..=4 => self.grouped(&own, &tail, nested),
            5..=6 => {
                let items = (0..=self.below(3))
                    .map(|_| self.aggregate(&own, nested))
                    .collect();
                self.listed("", items, &tail, "")
            }
            7..=8 => {
                let items = (0..=self.below(2))
                    .map(|_| {
                        let ty = self
                            .some_type(&own, |ty| ty.is_exact() || !nested && ty.is_comparable());
                        self.loose |= !ty.is_exact();
                        (self.value(ty, &own, 1), ty)
                    })
                    .collect();
                self.listed("DISTINCT ", items, &tail, "")
            }
            9 if own.len() == 1 && !own[0].unique.is_empty() && !nested => {
                self.distinct_on(&own[0], &tail)
            }
            10..=11 => {
                let mut items = self.items(&own, 2);
                items.push(self.window(&own));
                self.listed("", items, &tail, "")
            }
            12 if !nested => {
                let at = self.below(own.len());
                let columns = own[at].columns.clone();
                let star = if own.len() == 1 && self.chance(50) {
                    "*".to_owned()
                } else {
                    own[at].reference("*")
                };
                let query = Query {
                    sql: format!("SELECT {star}{tail}"),
                    columns,
                    unique: None,
                };
                self.with_unique(query, &own)
            }
            13 if !nested && self.chance(40) => {
                let at = self.below(own.len());
                let alias = own[at].alias.clone();
                let item =
                    *self.pick(&["{}::text", "row_to_json({})::text", "({}).*", "count({})"]);
                if item == "({}).*" {
                    let columns = own[at].columns.clone();
                    return Query {
                        sql: format!("SELECT ({alias}).*{tail}"),
                        columns,
                        unique: None,
                    };
                }
                self.listed("", vec![(item.replace("{}", &alias), Ty::Text)], &tail, "")
            }
            14 if !nested && self.chance(30) && own.iter().all(|source| !source.key.is_empty()) => {
                let items = self.items(&own, 2);
                let lock = *self.pick(&[
                    " FOR UPDATE",
                    " FOR SHARE",
                    " FOR NO KEY UPDATE",
                    " FOR KEY SHARE",
                ]);
                let mut query = self.listed("", items, &tail, lock);
                // Nothing may follow.
                query
                    .columns
                    .iter_mut()
                    .for_each(|column| column.ty = Ty::Opaque("locked"));
                query
            }
            _ => {
                let count = 1 + self.below(4);
                let items = self.items(&own, count);
                let query = self.listed("", items, &tail, "");
                self.with_unique(query, &own)
            }
        }
    }

    /// A combination of the sources' rows is told by their unique columns.
    fn with_unique(&mut self, mut query: Query, own: &[Source]) -> Query {
        if own.iter().any(|source| source.unique.is_empty()) {
            return query;
        }
        let unique: Vec<String> = own
            .iter()
            .flat_map(|source| source.unique.iter().map(|column| source.reference(column)))
            .collect();
        let mut others = Vec::new();
        for _ in 0..2 {
            let ty = self.some_type(own, Ty::is_comparable);
            let value = self.value(ty, own, 1);
            // A constant would be a position.
            if own
                .iter()
                .any(|source| value.contains(&source.reference("")))
            {
                others.push(value);
            }
        }
        query.unique = Some((unique.join(", "), others));
        query
    }

    fn items(&mut self, scope: &[Source], count: usize) -> Vec<(String, Ty)> {
        let item = |_| {
            let ty = self.some_type(scope, |_| true);
            (self.value(ty, scope, 2), ty)
        };
        (0..count).map(item).collect()
    }

    /// Puts a select list before what follows it, and names the columns.
    fn listed(&mut self, distinct: &str, items: Vec<(String, Ty)>, from: &str, end: &str) -> Query {
        let mut columns = Vec::new();
        let mut list = Vec::new();
        for (at, (item, ty)) in items.into_iter().enumerate() {
            let name = format!("c{}", at + 1);
            list.push(format!("{item} AS {name}"));
            columns.push(Column { name, ty });
        }
        Query {
            sql: format!("SELECT {distinct}{}{from}{end}", list.join(", ")),
            columns,
            unique: None,
        }
    }

    fn grouped(&mut self, scope: &[Source], tail: &str, nested: bool) -> Query {
        let count = 1 + self.below(2);
        let mut items = Vec::new();
        for _ in 0..count {
            let ty = self.some_type(scope, |ty| ty.is_exact() || !nested && ty.is_comparable());
            self.loose |= !ty.is_exact();
            let depth = self.below(2);
            // A constant would be the place of a column, or no group at all.
            let Some((column, _)) = self.first_column(scope, ty) else {
                continue;
            };
            let value = if depth == 0 {
                column
            } else {
                self.value(ty, scope, 1)
            };
            if scope
                .iter()
                .any(|source| value.contains(&source.reference("")))
            {
                items.push((value, ty));
            }
        }
        if items.is_empty() {
            let item = self.aggregate(scope, nested);
            return self.listed("", vec![item], tail, "");
        }
        let by: Vec<String> = items.iter().map(|(item, _)| item.clone()).collect();
        let parameters = by.iter().any(|item| item.contains('$'));
        let groups = items.len();
        let kind = self.below(10);
        let by = match kind {
            0 => format!("ROLLUP ({})", by.join(", ")),
            1 => format!("CUBE ({})", by.join(", ")),
            2 => format!("GROUPING SETS (({}), ())", by.join(", ")),
            // Two parameters are not known to be equal.
            3..=5 if !parameters => (1..=items.len())
                .map(|n| n.to_string())
                .collect::<Vec<_>>()
                .join(", "),
            _ => by.join(", "),
        };
        for _ in 0..self.below(3) {
            items.push(self.aggregate(scope, nested));
        }
        let having = if self.chance(25) {
            let number = self.below(5);
            let (aggregate, ty) = self.aggregate(scope, true);
            match ty {
                Ty::Int | Ty::Num => format!(" HAVING {aggregate} > {number}"),
                _ => format!(" HAVING {aggregate} IS NOT NULL OR count(*) > {number}"),
            }
        } else {
            String::new()
        };
        let mut query = self.listed("", items, tail, &format!(" GROUP BY {by}{having}"));
        if kind > 2 {
            let unique: Vec<String> = (1..=groups).map(|at| at.to_string()).collect();
            let (hidden, _) = self.aggregate(scope, true);
            query.unique = Some((unique.join(", "), vec![hidden]));
        }
        query
    }

    fn first_column(&mut self, scope: &[Source], ty: Ty) -> Option<(String, Ty)> {
        let at = self.below(scope.len());
        let source = &scope[at];
        let found = source.columns.iter().find(|column| column.ty == ty);
        found.map(|column| (source.reference(&column.name), ty))
    }

    /// The first row of each group, in an order that has no ties.
    fn distinct_on(&mut self, source: &Source, tail: &str) -> Query {
        let scope = std::slice::from_ref(source);
        let ty = self.some_type(scope, Ty::is_exact);
        let by = self.value(ty, scope, 0);
        if !by.starts_with(&source.alias) {
            return self.grouped(scope, tail, false);
        }
        let mut items = self.items(scope, 2);
        items.insert(0, (by.clone(), ty));
        let unique: Vec<String> = source
            .unique
            .iter()
            .map(|column| source.reference(column) + " DESC")
            .collect();
        let order = format!(" ORDER BY {by}, {}", unique.join(", "));
        self.listed(&format!("DISTINCT ON ({by}) "), items, tail, &order)
    }

    fn from(&mut self, nested: bool) -> From {
        let (mut text, first, table) = self.source(nested);
        let mut from = From {
            text: String::new(),
            sources: vec![first],
            conditions: Vec::new(),
        };
        if let Some(table) = &table
            && self.chance(if nested { 45 } else { 35 })
        {
            let first = from.sources[0].clone();
            let condition = self.key_condition(&first, table);
            from.conditions.extend(condition);
        }
        let joins = match self.below(10) {
            0..=4 => 0,
            5..=8 => 1,
            _ => 2,
        };
        for _ in 0..if nested { joins.min(1) } else { joins } {
            let lateral = self.chance(6);
            let (joined, source, table) = if lateral {
                self.lateral(&from.sources)
            } else {
                self.source(nested)
            };
            let on = self.join_condition(&from.sources, &source, lateral);
            from.sources.push(source.clone());
            if let Some(table) = &table
                && self.chance(15)
            {
                let condition = self.key_condition(&source, table);
                from.conditions.extend(condition);
            }
            match self.below(10) {
                0 if !lateral => {
                    text = format!("{text}, {joined}");
                    from.conditions.push(on);
                }
                1..=3 => text = format!("{text} LEFT JOIN {joined} ON {on}"),
                4 if !lateral => text = format!("{text} RIGHT JOIN {joined} ON {on}"),
                // FULL JOIN wants an equality that can be merged or hashed.
                5 if !lateral && on.contains(" = ") && !on.contains(['<', '(']) => {
                    text = format!("{text} FULL JOIN {joined} ON {on}");
                }
                _ => text = format!("{text} JOIN {joined} ON {on}"),
            }
        }
        from.text = text;
        from
    }

    /// What ties a joined source to those before it.
    fn join_condition(&mut self, before: &[Source], joined: &Source, lateral: bool) -> String {
        if lateral && self.chance(60) {
            return "true".to_owned();
        }
        let at = self.below(before.len());
        let other = &before[at];
        let (mine, theirs) = (joined.key.first(), other.key.first());
        let mut on = match (mine, theirs) {
            (Some(mine), Some(theirs))
                if joined.type_of(mine) == other.type_of(theirs) && self.chance(65) =>
            {
                format!("{} = {}", joined.reference(mine), other.reference(theirs))
            }
            _ => {
                // Two columns of one type.
                let scope = std::slice::from_ref(joined);
                let mut on = None;
                for _ in 0..6 {
                    let ty = self.some_type(scope, Ty::is_comparable);
                    let mine = self.first_column(scope, ty);
                    let theirs = self.first_column(std::slice::from_ref(other), ty);
                    if let (Some((mine, _)), Some((theirs, _))) = (mine, theirs) {
                        on = Some(format!("{mine} = {theirs}"));
                        break;
                    }
                }
                on.unwrap_or_else(|| "1 = 2".to_owned())
            }
        };
        if self.chance(20) {
            let mut scope = before.to_vec();
            scope.push(joined.clone());
            on = format!("{on} AND {}", self.condition(&scope, 1));
        }
        on
    }

    /// Something in FROM: its text, what it offers, and the table it is.
    fn source(&mut self, nested: bool) -> (String, Source, Option<Table>) {
        let alias = self.alias();
        if !self.withs.is_empty() && self.chance(40) {
            let withs = self.withs.clone();
            let (name, columns) = self.pick(&withs).clone();
            let source = Source {
                alias: alias.clone(),
                columns,
                key: Vec::new(),
                unique: Vec::new(),
            };
            return (format!("{name} AS {alias}"), source, None);
        }
        if self.chance(3) {
            let columns = [("n", Ty::Int), ("s", Ty::Text)].map(|(name, ty)| Column {
                name: name.to_owned(),
                ty,
            });
            let source = Source {
                alias: alias.clone(),
                columns: columns.into(),
                key: Vec::new(),
                unique: Vec::new(),
            };
            let text = match self.below(2) {
                0 => format!("(VALUES (1, 'a'), (17, NULL), (3, 'Oslo')) AS {alias} (n, s)"),
                _ => format!("(SELECT g AS n, 'v' || g AS s FROM generate_series(1, 3) g) {alias}"),
            };
            return (text, source, None);
        }
        if self.subqueries > 0 && (!nested || self.chance(20)) && self.chance(10) {
            self.subqueries -= 1;
            let query = self.select(None, true);
            let source = Source {
                alias: alias.clone(),
                columns: query.columns,
                key: Vec::new(),
                unique: Vec::new(),
            };
            return (format!("({}) AS {alias}", query.sql), source, None);
        }
        let table = self.table();
        let schema = if self.chance(5) { "public." } else { "" };
        let text = match self.below(3) {
            0 => format!("{schema}{} AS {alias}", table.name),
            _ => format!("{schema}{} {alias}", table.name),
        };
        (text, table.as_source(&alias), Some(table))
    }

    fn lateral(&mut self, before: &[Source]) -> (String, Source, Option<Table>) {
        let alias = self.alias();
        let query = self.lateral_query(before);
        let source = Source {
            alias: alias.clone(),
            columns: query.columns,
            key: Vec::new(),
            unique: Vec::new(),
        };
        (format!("LATERAL ({}) AS {alias}", query.sql), source, None)
    }

    fn lateral_query(&mut self, before: &[Source]) -> Query {
        let inner = self.table();
        let alias = self.alias();
        let source = inner.as_source(&alias);
        let tie = self.join_condition(before, &source, false);
        let scope = [source];
        let item = self.aggregate(&scope, true);
        self.listed(
            "",
            vec![item],
            &format!(" FROM {} {alias} WHERE {tie}", inner.name),
            "",
        )
    }

    /// One value, of what another table holds for this row.
    pub(super) fn scalar_subquery(&mut self, outer: &[Source]) -> String {
        self.subqueries -= 1;
        let table = self.table();
        let alias = self.alias();
        let source = table.as_source(&alias);
        let tie = self.tie(outer, &source);
        let value = {
            let scope = [source];
            match self.below(3) {
                0 => "count(*)".to_owned(),
                1 => format!("max({})", self.value(Ty::Int, &scope, 0)),
                _ => format!("count(DISTINCT {})", self.value(Ty::Int, &scope, 0)),
            }
        };
        format!("(SELECT {value} FROM {} {alias}{tie})", table.name)
    }

    /// WHERE that ties a subquery to its outer row, or not.
    fn tie(&mut self, outer: &[Source], source: &Source) -> String {
        if outer.is_empty() || self.chance(25) {
            let scope = [source.clone()];
            return format!(" WHERE {}", self.condition(&scope, 1));
        }
        format!(" WHERE {}", self.join_condition(outer, source, false))
    }

    pub(super) fn subquery_condition(&mut self, outer: &[Source]) -> String {
        self.subqueries -= 1;
        let table = self.table();
        let alias = self.alias();
        let source = table.as_source(&alias);
        let not = if self.chance(35) { "NOT " } else { "" };
        match self.below(4) {
            0..=1 => {
                let tie = self.tie(outer, &source);
                format!("{not}EXISTS (SELECT 1 FROM {} {alias}{tie})", table.name)
            }
            2 => {
                let scope = [source.clone()];
                let ty = self.some_type(&scope, Ty::is_comparable);
                let left = self.value(ty, outer, 0);
                let inner = self.value(ty, &scope, 0);
                let tie = if self.chance(60) {
                    String::new()
                } else {
                    self.tie(outer, &source)
                };
                format!(
                    "{left} {not}IN (SELECT {inner} FROM {} {alias}{tie})",
                    table.name
                )
            }
            _ => {
                let scope = [source.clone()];
                let left = self.value(Ty::Int, outer, 0);
                let inner = self.value(Ty::Int, &scope, 0);
                let operator = *self.pick(&["= ANY", "> ALL", "<> ALL", "< ANY"]);
                format!(
                    "{left} {operator} (SELECT {inner} FROM {} {alias})",
                    table.name
                )
            }
        }
    }
}
