//! A small shop on three shards, as the tests see it.

use planner::catalog::{
    ColumnDefault, Function, Keeps, KeyColumn, KeyType, RelationKind, ShardKey, Table, TableClass,
    TableColumn, Volatility,
};
use planner::merge::Collation;
use planner::placement::{Mapping, Placement, Range, Rule, RuleId};
use planner::topology::ShardWeight;
use planner::{Catalog, ShardId, Topology};

const INT4: u32 = 23;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const UUID: u32 = 2950;
const NUMERIC: u32 = 1700;
const BPCHAR: u32 = 1042;
const DATE: u32 = 1082;
const TIMESTAMPTZ: u32 = 1184;
const BYTEA: u32 = 17;
const VARCHAR: u32 = 1043;

/// Columns as `name type, …`; the first is NOT NULL. `numeric2` is numeric(10, 2), `varchar9` is varchar(9).
fn table(name: &str, class: TableClass, kind: RelationKind, columns: &str) -> Table {
    let column = |(index, column): (usize, &str)| {
        let (name, type_name) = column.trim().split_once(' ').expect("name and type");
        let type_oid = match type_name {
            "int4" => INT4,
            "int8" => INT8,
            "text" => TEXT,
            "uuid" => UUID,
            "numeric" | "numeric2" => NUMERIC,
            "bpchar" => BPCHAR,
            "date" => DATE,
            "timestamptz" => TIMESTAMPTZ,
            "bytea" => BYTEA,
            "varchar9" => VARCHAR,
            other => panic!("unknown type {other}"),
        };
        let collation = if type_name == "text" {
            Collation::Other
        } else {
            Collation::Bytewise
        };
        TableColumn {
            name: name.into(),
            type_oid,
            is_domain: false,
            collation,
            not_null: index == 0,
            default: default_of(name),
            generated_from: (name == "twice").then(|| vec!["id".into()]),
            keeps: match type_name {
                "numeric2" => Keeps::Rounded { scale: 2 },
                "varchar9" => Keeps::WithoutSpaces,
                _ => Keeps::Same,
            },
        }
    };
    Table {
        schema: "public".into(),
        name: name.into(),
        class,
        columns: columns.split(',').enumerate().map(column).collect(),
        kind,
    }
}

/// Columns that tests leave out have these names.
fn default_of(column: &str) -> ColumnDefault {
    match column {
        "made" => ColumnDefault::Computed,
        "number" => ColumnDefault::Sequence,
        _ => ColumnDefault::Constant,
    }
}

fn sharded(key: &str, key_type: KeyType) -> TableClass {
    by(&[(key, key_type)], Placement::Hash)
}

fn by(columns: &[(&str, KeyType)], placement: Placement) -> TableClass {
    let column = |(name, key_type): &(&str, KeyType)| KeyColumn {
        name: (*name).into(),
        key_type: *key_type,
    };
    TableClass::Sharded(ShardKey {
        columns: columns.iter().map(column).collect(),
        placement,
    })
}

/// The shop's catalog for `shards` shards.
pub fn catalog(shards: usize) -> Catalog {
    let mut catalog = Catalog::new(1, shards);
    let customer = sharded("customer_id", KeyType::Int8);
    let mut add = |name, class, kind, columns| catalog.add_table(table(name, class, kind, columns));
    let plain = RelationKind::Table;
    add(
        "customers",
        sharded("id", KeyType::Int8),
        plain,
        "id int8, name text, city text",
    );
    add(
        "orders",
        customer.clone(),
        plain,
        "id int8, customer_id int8, total numeric, note text",
    );
    add(
        "items",
        customer,
        plain,
        "order_id int8, customer_id int8, product_id int4, quantity int4",
    );
    add(
        "small",
        sharded("id", KeyType::Int4),
        plain,
        "id int4, v int4",
    );
    add(
        "doubled",
        sharded("twice", KeyType::Int8),
        plain,
        "id int8, name text, twice int8",
    );
    add(
        "users",
        sharded("name", KeyType::Text),
        plain,
        "name text, age int4",
    );
    add(
        "sessions",
        sharded("id", KeyType::Uuid),
        plain,
        "id uuid, name text",
    );
    add(
        "products",
        TableClass::Reference,
        plain,
        "id int4, name text, price numeric",
    );
    add(
        "countries",
        TableClass::Reference,
        plain,
        "code text, name text",
    );
    add(
        "settings",
        TableClass::Single(ShardId(1)),
        plain,
        "key text, value text",
    );
    add(
        "audit",
        TableClass::Single(ShardId(1)),
        plain,
        "id int8, what text",
    );
    add(
        "archive",
        TableClass::Single(ShardId(2)),
        plain,
        "id int8, what text",
    );
    add(
        "tickets",
        sharded("customer_id", KeyType::Int8),
        plain,
        "number int8, customer_id int8, note text",
    );
    add(
        "notes",
        sharded("id", KeyType::Int8),
        plain,
        "id int8, body text, made text",
    );
    add(
        "bills",
        sharded("customer_id", KeyType::Int8),
        plain,
        "customer_id int8, number int8, note text",
    );
    add(
        "rates",
        TableClass::Reference,
        plain,
        "code text, made text",
    );
    for (name, key, key_type, columns) in [
        ("visits", "day", KeyType::Date, "day date, page text"),
        (
            "events",
            "at",
            KeyType::Timestamptz,
            "at timestamptz, what text",
        ),
        (
            "prices",
            "price",
            KeyType::Numeric,
            "price numeric2, name text",
        ),
        ("codes", "code", KeyType::Bpchar, "code bpchar, name text"),
        ("tags", "tag", KeyType::Text, "tag varchar9, note text"),
        ("blobs", "hash", KeyType::Bytea, "hash bytea, size int8"),
    ] {
        add(name, sharded(key, key_type), plain, columns);
    }
    add(
        "parcels",
        by(
            &[("tenant", KeyType::Int8), ("code", KeyType::Text)],
            Placement::Hash,
        ),
        plain,
        "tenant int8, code text, weight int4",
    );
    add(
        "scans",
        by(
            &[("tenant", KeyType::Int4), ("parcel", KeyType::Text)],
            Placement::Hash,
        ),
        plain,
        "tenant int4, parcel text, place text",
    );
    let ranges = |key, key_type, rule| by(&[(key, key_type)], Placement::Ranges(RuleId(rule)));
    let list = |key, key_type, rule| by(&[(key, key_type)], Placement::List(RuleId(rule)));
    add(
        "readings",
        ranges("sensor", KeyType::Int8, 0),
        plain,
        "sensor int8, value numeric",
    );
    add(
        "sensors",
        ranges("id", KeyType::Int4, 0),
        plain,
        "id int4, name text",
    );
    add(
        "diary",
        ranges("day", KeyType::Date, 1),
        plain,
        "day date, note text",
    );
    add(
        "branches",
        list("country", KeyType::Text, 2),
        plain,
        "country text, name text",
    );
    add(
        "letters",
        list("country", KeyType::Text, 3),
        plain,
        "country text, body text",
    );
    add(
        "rooted",
        sharded("id", KeyType::Int8),
        plain,
        "id int8, twice int8",
    );
    add(
        "walled",
        sharded("id", KeyType::Int8),
        plain,
        "id int8, note text",
    );
    add("stray", TableClass::Undeclared, plain, "id int8");
    let sequence = RelationKind::Sequence;
    let state = "last_value int8, log_cnt int8, is_called int8";
    add("numbers", TableClass::Undeclared, sequence, state);
    add(
        "settings_seq",
        TableClass::Single(ShardId(1)),
        sequence,
        state,
    );
    add(
        "order_view",
        TableClass::Single(ShardId(1)),
        RelationKind::View,
        "id int8",
    );
    add(
        "mixed",
        TableClass::Undeclared,
        RelationKind::View,
        "id int8",
    );
    for (names, volatility, is_aggregate) in [
        (
            "count sum min max avg bool_and bool_or every bit_and bit_or bit_xor array_agg string_agg",
            Volatility::Immutable,
            true,
        ),
        (
            "lower upper abs length coalesce substring ceil floor generate_series",
            Volatility::Immutable,
            false,
        ),
        (
            "now version row_number rank pg_column_size",
            Volatility::Stable,
            false,
        ),
        (
            "random nextval setval currval lastval set_config pg_sleep gen_random_uuid",
            Volatility::Volatile,
            false,
        ),
        (
            "pg_advisory_lock pg_advisory_xact_lock lo_create txid_current",
            Volatility::Volatile,
            false,
        ),
    ] {
        for name in names.split(' ') {
            catalog.add_function(
                name,
                Function {
                    volatility,
                    may_write: volatility == Volatility::Volatile,
                    user_defined: false,
                    is_aggregate,
                    may_read_tables: false,
                },
            );
        }
    }
    let mine = Function {
        volatility: Volatility::Volatile,
        may_write: true,
        user_defined: true,
        is_aggregate: false,
        may_read_tables: true,
    };
    catalog.add_function("charge", mine);
    catalog.add_function(
        "tax",
        Function {
            volatility: Volatility::Stable,
            may_write: false,
            ..mine
        },
    );
    catalog.set_immovable("public", "rooted", "foreign key f of leaves refers to it");
    catalog.suspects.readers = ["weighty".to_owned(), "<#>".to_owned()].into();
    catalog.suspects.policed = ["walled".to_owned()].into();
    let keyless = vec!["tickets_number_key".to_owned()];
    catalog.set_keyless_unique("public", "tickets", keyless);
    catalog.set_default_id("public", "notes", "id");
    catalog.set_default_id("public", "bills", "number");
    catalog
}

/// Equal shards s1, s2, …
pub fn topology(shards: usize) -> Topology {
    let shards = (1..=shards)
        .map(|n| ShardWeight {
            name: format!("s{n}"),
            weight: 1,
        })
        .collect();
    Topology::new(shards, &[]).with_rules(rules())
}

/// On three shards, what [`catalog`] places without a hash.
fn rules() -> Vec<Rule> {
    let range = |from, to, shard| Range {
        from,
        to,
        shard: ShardId(shard),
    };
    let rule = |name: &str, mapping, default: Option<u16>| Rule {
        name: name.into(),
        mapping,
        default: default.map(ShardId),
    };
    let list = |countries: &[(&str, u16)]| {
        let entry = |(name, shard): &(&str, u16)| (name.as_bytes().to_vec(), ShardId(*shard));
        Mapping::Texts(countries.iter().map(entry).collect())
    };
    let numbers = vec![
        range(None, Some(100), 0),
        range(Some(100), Some(200), 1),
        range(Some(200), Some(300), 0),
        range(Some(400), None, 2),
    ];
    // Up to 2024, 2024, from 2025 on: days since 2000.
    let days = vec![
        range(None, Some(8766), 0),
        range(Some(8766), Some(9132), 1),
        range(Some(9132), None, 2),
    ];
    vec![
        rule(
            "by_sensor",
            Mapping::Ranges {
                of: KeyType::Int8,
                ranges: numbers,
            },
            None,
        ),
        rule(
            "by_year",
            Mapping::Ranges {
                of: KeyType::Date,
                ranges: days,
            },
            None,
        ),
        rule(
            "by_country",
            list(&[("NO", 0), ("SE", 0), ("DK", 1)]),
            Some(2),
        ),
        rule("by_office", list(&[("NO", 1), ("SE", 2)]), None),
    ]
}
