//! Classes and findings, from schemas written down.

use super::*;
use planner::catalog::Volatility;
use planner::placement::{Mapping, Range};

const INT8: u32 = 20;
const TEXT: u32 = 25;

fn name(table: &str) -> TableName {
    ("public".to_owned(), table.to_owned())
}

fn column(name: &str, type_oid: u32) -> Column {
    Column {
        name: name.to_owned(),
        type_name: format!("type_{type_oid}"),
        type_oid,
        is_domain: false,
        collation: Collation::Bytewise,
        not_null: false,
        default: ColumnDefault::Constant,
        generated_from: None,
    }
}

fn table(columns: &[(&str, u32)]) -> Relation {
    Relation {
        kind: RelationKind::Table,
        partition_of: None,
        columns: columns
            .iter()
            .map(|(name, oid)| column(name, *oid))
            .collect(),
        unique: vec![Unique {
            name: "pkey".to_owned(),
            columns: columns.iter().map(|(name, _)| name.to_string()).collect(),
            primary: true,
        }],
        comment: None,
        reads: vec![],
        immovable: Immovable::default(),
    }
}

fn schema(relations: &[(&str, Relation)]) -> ShardSchema {
    let relations = relations.iter().cloned();
    ShardSchema {
        search_path: vec!["public".to_owned()],
        relations: relations
            .map(|(table, relation)| (name(table), relation))
            .collect(),
        ..ShardSchema::default()
    }
}

fn by(key: &str) -> TableRule {
    TableRule::Sharded {
        key: key.split(' ').map(str::to_owned).collect(),
        by: None,
    }
}

/// The classes of all tables and the findings' texts.
fn check(
    rules: &[(&str, TableRule)],
    schemas: &[Option<&ShardSchema>],
) -> (BTreeMap<String, TableClass>, Vec<String>) {
    let rules = rules.iter().cloned();
    let rules = rules.map(|(table, rule)| (name(table), rule)).collect();
    let declared = Declared {
        tables: &rules,
        default_ids: &BTreeMap::new(),
        schemas: &BTreeMap::new(),
        placements: &[],
    };
    let classified = classify(declared, &["a", "b"], schemas, 1);
    let tables = classified.catalog.tables();
    let classes = tables.map(|t| (t.name.clone(), t.class.clone())).collect();
    let texts = classified.findings.into_iter().map(|f| f.text).collect();
    (classes, texts)
}

#[test]
fn declared_tables_have_their_class_on_every_shard() {
    let both = schema(&[
        ("orders", table(&[("id", INT8), ("note", TEXT)])),
        ("users", table(&[("name", TEXT)])),
        ("country", table(&[("code", TEXT)])),
    ]);
    let rules = [
        ("orders", by("id")),
        ("users", by("name")),
        ("country", TableRule::Reference),
    ];
    let (classes, findings) = check(&rules, &[Some(&both), Some(&both)]);
    assert_eq!(findings, Vec::<String>::new());
    let sharded = |key: &str, key_type| {
        TableClass::Sharded(ShardKey {
            columns: vec![KeyColumn {
                name: key.to_owned(),
                key_type,
            }],
            placement: Placement::Hash,
        })
    };
    assert_eq!(classes["orders"], sharded("id", KeyType::Int8));
    assert_eq!(classes["users"], sharded("name", KeyType::Text));
    assert_eq!(classes["country"], TableClass::Reference);
}

#[test]
fn ids_by_default_need_a_column_that_holds_them() {
    let both = schema(&[("orders", table(&[("id", INT8), ("note", TEXT)]))]);
    let check = |column: &str| {
        let declared = Declared {
            tables: &BTreeMap::from([(name("orders"), by("id"))]),
            default_ids: &BTreeMap::from([(name("orders"), column.to_owned())]),
            schemas: &BTreeMap::new(),
            placements: &[],
        };
        let found = classify(declared, &["a", "b"], &[Some(&both), Some(&both)], 1);
        let orders = found.catalog.table(None, "orders").unwrap();
        let default = found.catalog.default_id(orders).map(str::to_owned);
        (
            default,
            found.findings.into_iter().map(|f| f.text).collect(),
        )
    };
    let wrong = |why: &str, column: &str| {
        let told =
            format!("Column {column} of table public.orders cannot get ids by default: {why}.");
        (None, vec![told])
    };
    assert_eq!(check("id"), (Some("id".to_owned()), vec![]));
    assert_eq!(
        check("note"),
        wrong("it is neither bigint nor numeric", "note")
    );
    assert_eq!(check("nosuch"), wrong("it does not exist", "nosuch"));
}

fn in_schema(schema: &str, table: &str) -> TableName {
    (schema.to_owned(), table.to_owned())
}

#[test]
fn placements_take_keys_of_their_types() {
    let ranges = vec![Range {
        from: Some(0),
        to: Some(60),
        shard: ShardId(0),
    }];
    let by_day = Rule {
        name: "by_day".to_owned(),
        mapping: Mapping::Ranges {
            of: KeyType::Date,
            ranges,
        },
        default: None,
    };
    const DATE: u32 = 1082;
    let both = schema(&[
        ("diary", table(&[("day", DATE)])),
        ("log", table(&[("day", INT8)])),
        ("pair", table(&[("a", INT8), ("b", TEXT)])),
    ]);
    let by = |key: &str| TableRule::Sharded {
        key: vec![key.to_owned()],
        by: Some(RuleId(0)),
    };
    let pair = ["a", "b"].map(str::to_owned).to_vec();
    let rules = BTreeMap::from([
        (name("diary"), by("day")),
        (name("log"), by("day")),
        (
            name("pair"),
            TableRule::Sharded {
                key: pair,
                by: None,
            },
        ),
    ]);
    let declared = Declared {
        tables: &rules,
        default_ids: &BTreeMap::new(),
        schemas: &BTreeMap::new(),
        placements: &[by_day],
    };
    let classified = classify(declared, &["a", "b"], &[Some(&both), Some(&both)], 1);
    let class = |table: &str| {
        let table = classified.catalog.table(Some("public"), table);
        table.map(|table| table.class.clone())
    };
    let key = |columns: &[(&str, KeyType)], placement| {
        let column = |(name, key_type): &(&str, KeyType)| KeyColumn {
            name: (*name).to_owned(),
            key_type: *key_type,
        };
        Some(TableClass::Sharded(ShardKey {
            columns: columns.iter().map(column).collect(),
            placement,
        }))
    };
    let ranges = Placement::Ranges(RuleId(0));
    assert_eq!(class("diary"), key(&[("day", KeyType::Date)], ranges));
    let pair = [("a", KeyType::Int8), ("b", KeyType::Text)];
    assert_eq!(class("pair"), key(&pair, Placement::Hash));
    assert_eq!(class("log"), Some(TableClass::Undeclared));
    let texts: Vec<_> = classified
        .findings
        .iter()
        .map(|f| f.text.as_str())
        .collect();
    assert_eq!(
        texts,
        [
            "Placement by_day has no default and no shard for keys from the least to \
             2000-01-01, from 2000-03-01 to the greatest: an INSERT of one is refused.",
            "Table public.log cannot be sharded by column day on shard \"a\": placement by_day \
             has no bigint keys.",
            "Table public.log cannot be sharded by column day on shard \"b\": placement by_day \
             has no bigint keys.",
        ]
    );
}

#[test]
fn schemas_live_on_their_shards() {
    let mut both = schema(&[("orders", table(&[("id", INT8)]))]);
    for (schema, name) in [("acme", "orders"), ("other", "orders"), ("acme", "users")] {
        both.relations
            .insert(in_schema(schema, name), table(&[("id", INT8)]));
    }
    let users = in_schema("acme", "users");
    let declared = Declared {
        tables: &BTreeMap::from([(users, TableRule::Reference)]),
        default_ids: &BTreeMap::new(),
        schemas: &BTreeMap::from([
            ("acme".to_owned(), ShardId(1)),
            ("*".to_owned(), ShardId(0)),
        ]),
        placements: &[],
    };
    let classified = classify(declared, &["a", "b"], &[Some(&both), Some(&both)], 1);
    let class = |schema, table| {
        let table = classified.catalog.table(Some(schema), table);
        table.map(|table| table.class.clone())
    };
    let on = |shard| Some(TableClass::Single(ShardId(shard)));
    assert_eq!(class("acme", "orders"), on(1));
    assert_eq!(class("other", "orders"), on(0));
    assert_eq!(class("acme", "users"), Some(TableClass::Reference));
    assert_eq!(class("public", "orders"), Some(TableClass::Undeclared));
}

#[test]
fn views_are_on_a_shard_only_with_all_that_they_read() {
    let view = |reads: &[TableName]| Relation {
        kind: RelationKind::View,
        reads: reads.to_vec(),
        ..table(&[("id", INT8)])
    };
    let mut both = schema(&[
        ("orders", table(&[("id", INT8)])),
        ("countries", table(&[("id", INT8)])),
    ]);
    let own = in_schema("acme", "users");
    for (view_name, relation) in [
        ("users", table(&[("id", INT8)])),
        ("good", view(&[own.clone(), name("countries")])),
        ("spread", view(&[own.clone(), name("orders")])),
        ("nested", view(&[in_schema("acme", "spread")])),
        ("constant", view(&[])),
        ("ring", view(&[in_schema("acme", "chain")])),
        (
            "chain",
            view(&[
                in_schema("acme", "ring"),
                in_schema("acme", "constant"),
                own.clone(),
            ]),
        ),
        ("broken", view(&[in_schema("acme", "split")])),
        (
            "split",
            view(&[in_schema("acme", "broken"), name("orders")]),
        ),
        ("declared", view(&[name("orders")])),
    ] {
        both.relations
            .insert(in_schema("acme", view_name), relation);
    }
    let mut first = both.clone();
    first
        .relations
        .insert(name("alone"), view(&[name("orders")]));
    let declared = Declared {
        tables: &BTreeMap::from([
            (name("orders"), by("id")),
            (name("countries"), TableRule::Reference),
            (in_schema("acme", "declared"), TableRule::Single(ShardId(1))),
        ]),
        schemas: &BTreeMap::from([("acme".to_owned(), ShardId(1))]),
        placements: &[],
        default_ids: &BTreeMap::new(),
    };
    let classified = classify(declared, &["a", "b"], &[Some(&first), Some(&both)], 1);
    let class = |schema, table| {
        let table = classified.catalog.table(Some(schema), table);
        table.map(|table| table.class.clone())
    };
    let on_b = Some(TableClass::Single(ShardId(1)));
    assert_eq!(class("acme", "good"), on_b);
    assert_eq!(class("acme", "declared"), on_b);
    // CREATE OR REPLACE VIEW lets views read each other.
    assert_eq!(class("acme", "ring"), on_b);
    assert_eq!(class("acme", "chain"), on_b);
    for (schema, view) in [
        ("acme", "spread"),
        ("acme", "nested"),
        ("acme", "broken"),
        ("acme", "split"),
        ("public", "alone"),
    ] {
        assert_eq!(class(schema, view), Some(TableClass::Undeclared), "{view}");
    }
    let told = |text: &str| {
        classified
            .findings
            .iter()
            .any(|found| found.text.contains(text))
    };
    assert!(told("View acme.spread reads "));
}

#[test]
fn a_view_waits_for_shards_that_may_have_what_it_reads_too() {
    let view = Relation {
        kind: RelationKind::View,
        reads: vec![name("notes")],
        ..table(&[("id", INT8)])
    };
    let mut only = schema(&[("notes", table(&[("id", INT8)]))]);
    only.relations.insert(in_schema("acme", "all_notes"), view);
    let none = schema(&[]);
    let class = |first: Option<&ShardSchema>| {
        let declared = Declared {
            tables: &BTreeMap::new(),
            schemas: &BTreeMap::from([("acme".to_owned(), ShardId(1))]),
            placements: &[],
            default_ids: &BTreeMap::new(),
        };
        let classified = classify(declared, &["a", "b"], &[first, Some(&only)], 1);
        let view = classified.catalog.table(Some("acme"), "all_notes");
        view.unwrap().class.clone()
    };
    assert_eq!(class(Some(&none)), TableClass::Single(ShardId(1)));
    assert_eq!(class(None), TableClass::Undeclared);
}

#[test]
fn comments_declare_what_the_configuration_does_not() {
    let commented = |comment: &str| Relation {
        comment: Some(comment.to_owned()),
        ..table(&[("id", INT8)])
    };
    let with = |third: &str| {
        schema(&[
            ("orders", commented("ringway: key=id")),
            ("country", commented("ringway: reference")),
            ("users", commented(third)),
            ("wrong", commented("ringway: key")),
        ])
    };
    let (a, b) = (with("ringway: reference"), with("ringway: key=id"));
    let (classes, findings) = check(&[("country", by("id"))], &[Some(&a), Some(&b)]);
    assert!(matches!(classes["orders"], TableClass::Sharded(_)));
    assert!(matches!(classes["country"], TableClass::Sharded(_)));
    assert_eq!(classes["users"], TableClass::Undeclared);
    assert_eq!(classes["wrong"], TableClass::Undeclared);
    let told = |text: &str| findings.iter().any(|finding| finding.contains(text));
    assert!(
        told("country tells another class than the configuration"),
        "{findings:?}"
    );
    assert!(
        told("comments on table public.users differ"),
        "{findings:?}"
    );
    assert!(
        told("wrong on shard \"a\" tells no class: \"key\" is not"),
        "{findings:?}"
    );
}

#[test]
fn an_undeclared_table_is_single_only_where_no_other_shard_can_have_it() {
    let a = schema(&[("both", table(&[])), ("a_only", table(&[]))]);
    let b = schema(&[("both", table(&[])), ("b_only", table(&[]))]);
    let (classes, findings) = check(&[], &[Some(&a), Some(&b)]);
    assert_eq!(classes["a_only"], TableClass::Single(ShardId(0)));
    assert_eq!(classes["b_only"], TableClass::Single(ShardId(1)));
    assert_eq!(classes["both"], TableClass::Undeclared);
    let [unseen, undeclared] = &findings[..] else {
        panic!("{findings:?}");
    };
    // The first shard is asked for the schema.
    assert!(
        unseen.contains("public.b_only does not exist on shard \"a\""),
        "{unseen}"
    );
    assert!(undeclared.contains("public.both"), "{undeclared}");

    let (classes, _) = check(&[], &[Some(&a), None]);
    assert_eq!(classes["a_only"], TableClass::Undeclared);
}

#[test]
fn with_one_shard_everything_is_single() {
    let only = schema(&[("orders", table(&[("id", INT8)])), ("log", table(&[]))]);
    let (classes, findings) = check(&[("orders", by("id"))], &[Some(&only)]);
    assert_eq!(findings, Vec::<String>::new());
    for class in classes.values() {
        assert_eq!(*class, TableClass::Single(ShardId(0)));
    }
}

#[test]
fn partitions_inherit_the_class_of_the_table_above() {
    let child = |parent: &str| Relation {
        partition_of: Some(name(parent)),
        ..table(&[("id", INT8)])
    };
    let both = schema(&[
        ("orders", table(&[("id", INT8)])),
        ("orders_2026", child("orders")),
        ("orders_2026_11", child("orders_2026")),
        ("lost", child("lost")),
    ]);
    let (classes, _) = check(&[("orders", by("id"))], &[Some(&both), Some(&both)]);
    assert_eq!(classes["orders_2026"], classes["orders"]);
    assert_eq!(classes["orders_2026_11"], classes["orders"]);
    assert_eq!(classes["lost"], TableClass::Undeclared);
}

#[test]
fn a_key_that_cannot_shard_leaves_the_table_undeclared_and_says_why() {
    let mut nondeterministic = table(&[("id", TEXT)]);
    nondeterministic.columns[0].collation = Collation::Unknown;
    let cases = [
        (table(&[("id", 701)]), "type type_701 is not"),
        (table(&[("id", 1700)]), "domain type_1700 may round"),
        (table(&[("other", INT8)]), "no such column"),
        (nondeterministic, "nondeterministic"),
    ];
    for (relation, why) in cases {
        let both = schema(&[("orders", relation)]);
        let (classes, findings) = check(&[("orders", by("id"))], &[Some(&both), Some(&both)]);
        assert_eq!(classes["orders"], TableClass::Undeclared, "{why}");
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains(why), "{findings:?}");
    }
}

#[test]
fn what_a_column_rounds_is_known() {
    let cases = [
        (1700, "numeric", Some(Keeps::Same)),
        (1700, "numeric(10,2)", Some(Keeps::Rounded { scale: 2 })),
        (1700, "numeric(10,-2)", Some(Keeps::Rounded { scale: -2 })),
        (1700, "price", None),
        (1184, "timestamp with time zone", Some(Keeps::Same)),
        (
            1184,
            "timestamp(3) with time zone",
            Some(Keeps::Rounded { scale: 3 }),
        ),
        (
            1114,
            "timestamp(0) without time zone",
            Some(Keeps::Rounded { scale: 0 }),
        ),
        (1114, "timestamp_of_ours", None),
        (1082, "anything", Some(Keeps::Same)),
    ];
    for (type_oid, type_name, expected) in cases {
        let column = Column {
            type_name: type_name.to_owned(),
            ..column("id", type_oid)
        };
        assert_eq!(rounding(&column), expected, "{type_name}");
    }
    let varchar = Column {
        type_name: "character varying(9)".to_owned(),
        ..column("id", VARCHAR)
    };
    assert_eq!(keeps(&varchar), Keeps::WithoutSpaces);
}

#[test]
fn shards_that_disagree_are_reported_all_at_once() {
    let a = schema(&[
        ("orders", table(&[("id", INT8)])),
        ("country", table(&[("code", TEXT)])),
        ("half", table(&[])),
    ]);
    let b = schema(&[
        ("orders", table(&[("id", 23)])),
        ("country", table(&[("code", TEXT), ("name", TEXT)])),
    ]);
    let rules = [
        ("orders", by("id")),
        ("country", TableRule::Reference),
        ("gone", TableRule::Reference),
        ("half", TableRule::Single(ShardId(1))),
    ];
    let (classes, findings) = check(&rules, &[Some(&a), Some(&b)]);
    assert_eq!(classes["orders"], TableClass::Undeclared);
    let expected = [
        "Table public.country differs between shards \"a\" and \"b\": 1 columns against 2.",
        "Table public.gone is declared but exists on no shard: CREATE TABLE through Ringway makes it \
         where it belongs.",
        "Table public.half is declared to live on shard \"b\" but does not exist there.",
        "Table public.half is declared to live on shard \"b\" but exists on others too: rows \
         there are not seen.",
        "Table public.orders differs between shards \"a\" and \"b\": column id type_20 against \
         id type_23.",
    ];
    assert_eq!(findings, expected);
}

#[test]
fn policies_that_need_rows_of_other_shards_are_told() {
    let policy = |table: &str, condition: &str| {
        let query = format!("SELECT 1 FROM {table} WHERE {condition}");
        (name(table), query)
    };
    let one = ShardSchema {
        policies: vec![
            // Known to be wrong only when what it reads is.
            policy("c", "(EXISTS (SELECT 1 FROM b WHERE (b.id = c.id)))"),
            policy("b", "(n < (SELECT max(a.n) AS max FROM a))"),
            policy("a", "(n > 0)"),
            policy("d", "(EXISTS (SELECT 1 FROM a WHERE (a.id = d.id)))"),
        ],
        ..schema(&["a", "b", "c", "d"].map(|name| (name, table(&[("id", INT8), ("n", INT8)]))))
    };
    let rules = ["a", "b", "c", "d"].map(|name| (name, by("id")));
    let told = |table| {
        format!(
            "A policy of table public.{table} may need rows of other shards: statements that name the \
             table are refused."
        )
    };
    let (_, findings) = check(&rules, &[Some(&one), Some(&one)]);
    assert_eq!(findings, ["b", "c"].map(told));
}

#[test]
fn a_listed_function_that_no_shard_has_is_a_mistake() {
    let unknown = |names: &[&str]| ShardSchema {
        unknown_functions: names.iter().map(ToString::to_string).collect(),
        ..schema(&[])
    };
    let (a, b) = (unknown(&["f", "g"]), unknown(&["g"]));
    let expected = ["Function g is listed in functions but exists on no shard."];
    assert_eq!(check(&[], &[Some(&a), Some(&b)]).1, expected);
    assert!(check(&[], &[Some(&a), None]).1.is_empty());
}

#[test]
fn a_function_is_as_unsafe_as_its_worst_shard() {
    let shard = |volatility| {
        let function = Function {
            volatility,
            may_write: volatility == Volatility::Volatile,
            user_defined: true,
            is_aggregate: false,
            may_read_tables: false,
        };
        ShardSchema {
            functions: BTreeMap::from([("f".to_owned(), function)]),
            ..schema(&[])
        }
    };
    let (a, b) = (shard(Volatility::Stable), shard(Volatility::Volatile));
    let declared = Declared {
        tables: &BTreeMap::new(),
        default_ids: &BTreeMap::new(),
        schemas: &BTreeMap::new(),
        placements: &[],
    };
    let classified = classify(declared, &["a", "b"], &[Some(&a), Some(&b)], 7);
    let worst = classified.catalog.function("f").map(|f| f.volatility);
    assert_eq!(worst, Some(Volatility::Volatile));
    assert_eq!(classified.catalog.version, 7);
}
