//! A small shop on three shards, as the tests see it.

use planner::catalog::{
    ColumnDefault, Function, KeyType, RelationKind, Table, TableClass, TableColumn, Volatility,
};
use planner::merge::Collation;
use planner::topology::ShardWeight;
use planner::{Catalog, ShardId, Topology};

const INT4: u32 = 23;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const UUID: u32 = 2950;
const NUMERIC: u32 = 1700;

/// Columns as `name type, …`; the first is NOT NULL.
fn table(name: &str, class: TableClass, kind: RelationKind, columns: &str) -> Table {
    let column = |(index, column): (usize, &str)| {
        let (name, type_name) = column.trim().split_once(' ').expect("name and type");
        let type_oid = match type_name {
            "int4" => INT4,
            "int8" => INT8,
            "text" => TEXT,
            "uuid" => UUID,
            "numeric" => NUMERIC,
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
            cuts_spaces: false,
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
    TableClass::Sharded {
        key: key.into(),
        key_type,
    }
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
        "rates",
        TableClass::Reference,
        plain,
        "code text, made text",
    );
    add("stray", TableClass::Undeclared, plain, "id int8");
    add(
        "order_view",
        TableClass::Single(ShardId(1)),
        RelationKind::View,
        "id int8",
    );
    for (names, volatility, is_aggregate) in [
        (
            "count sum min max avg bool_and bool_or every array_agg string_agg",
            Volatility::Immutable,
            true,
        ),
        (
            "lower upper abs length coalesce substring ceil floor generate_series",
            Volatility::Immutable,
            false,
        ),
        ("now version row_number rank", Volatility::Stable, false),
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
    Topology::new(shards, &[])
}
