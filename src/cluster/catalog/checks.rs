//! What the schema of a table keeps from working over shards: for people to read. Pure.

use planner::catalog::{ColumnDefault, RelationKind, ShardKey, TableClass};

use super::Finding;
use super::classify::{Relation, TableName, Unique, dotted, notice};

/// About one table of a sharded database, of which the column `default_id` gets ids by default.
pub(super) fn of_table(
    name: &TableName,
    relation: &Relation,
    class: &TableClass,
    default_id: Option<&String>,
) -> Vec<Finding> {
    // A partition is as the table above it.
    if relation.kind != RelationKind::Table || relation.partition_of.is_some() {
        return Vec::new();
    }
    let mut found = Vec::new();
    match class {
        TableClass::Sharded(_) | TableClass::Reference => {
            if !relation.unique.iter().any(|unique| unique.primary) {
                let text = format!(
                    "Table {} has no primary key: its rows cannot be told apart when they have to \
                     move or to be compared.",
                    dotted(name)
                );
                found.push(notice(text));
            }
        }
        TableClass::Single(_) | TableClass::Undeclared => return Vec::new(),
    }
    if let TableClass::Sharded(key) = class {
        let lacks = |unique: &&Unique| lacks_key(unique, key);
        for unique in relation.unique.iter().filter(lacks) {
            found.push(notice(format!(
                "Index {} of table {} is unique on each shard and not over all of them: sharding \
                 key {} is not in it.",
                unique.name,
                dotted(name),
                key.name()
            )));
        }
        let sequence = |column: &&super::classify::Column| {
            column.default == ColumnDefault::Sequence && default_id != Some(&column.name)
        };
        for column in relation.columns.iter().filter(sequence) {
            found.push(notice(format!(
                "Column {} of table {} has a sequence for its default, and each shard has its own: \
                 an INSERT has to give a value. Declare default_id = \"{}\", and it gets one; \
                 gen_random_uuid() can be the default of a uuid.",
                column.name,
                dotted(name),
                column.name
            )));
        }
    }
    found
}

/// Unique indexes of a sharded table without its whole key, on any shard.
pub(super) fn keyless_unique<'a>(
    class: &TableClass,
    copies: impl Iterator<Item = &'a Relation>,
) -> Vec<String> {
    let TableClass::Sharded(key) = class else {
        return Vec::new();
    };
    let lacks = |unique: &&Unique| lacks_key(unique, key);
    let mut names: Vec<String> = copies
        .flat_map(|copy| copy.unique.iter().filter(lacks))
        .map(|unique| unique.name.clone())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn lacks_key(unique: &Unique, key: &ShardKey) -> bool {
    let mut parts = key.columns.iter();
    !parts.all(|part| unique.columns.contains(&part.name))
}

#[cfg(test)]
mod tests {
    use super::super::classify::Column;
    use super::super::immovable::Immovable;
    use super::*;
    use planner::catalog::{KeyColumn, KeyType};
    use planner::merge::Collation;
    use planner::placement::Placement;

    fn unique(name: &str, columns: &[&str], primary: bool) -> Unique {
        Unique {
            name: name.to_owned(),
            columns: columns.iter().map(ToString::to_string).collect(),
            primary,
        }
    }

    fn found(unique: Vec<Unique>, default: ColumnDefault) -> Vec<String> {
        let column = Column {
            name: "id".to_owned(),
            type_name: "bigint".to_owned(),
            type_oid: 20,
            is_domain: false,
            collation: Collation::Bytewise,
            not_null: true,
            default,
            generated_from: None,
        };
        let relation = Relation {
            kind: RelationKind::Table,
            partition_of: None,
            columns: vec![column],
            unique,
            comment: None,
            reads: vec![],
            immovable: Immovable::default(),
        };
        let key = |name: &str| KeyColumn {
            name: name.to_owned(),
            key_type: KeyType::Int8,
        };
        let class = TableClass::Sharded(ShardKey {
            columns: vec![key("tenant"), key("code")],
            placement: Placement::Hash,
        });
        let name = ("public".to_owned(), "orders".to_owned());
        let found = of_table(&name, &relation, &class, None);
        found.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn what_shards_cannot_enforce_is_told() {
        let whole = unique("orders_pkey", &["id", "code", "tenant"], true);
        assert!(found(vec![whole.clone()], ColumnDefault::Constant).is_empty());
        let part = unique("orders_code_key", &["code"], false);
        let told = found(vec![whole, part.clone()], ColumnDefault::Sequence);
        assert_eq!(
            told,
            [
                "Index orders_code_key of table public.orders is unique on each shard and not over \
                 all of them: sharding key (tenant, code) is not in it.",
                "Column id of table public.orders has a sequence for its default, and each shard \
                 has its own: an INSERT has to give a value. Declare default_id = \"id\", and it \
                 gets one; gen_random_uuid() can be the default of a uuid.",
            ]
        );
        let told = found(vec![part], ColumnDefault::Computed);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("has no primary key"), "{told:?}");
    }
}
