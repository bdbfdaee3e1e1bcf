//! Why rows of a table cannot be deleted on one shard and inserted on another as if they were updated.

use std::collections::HashMap;

use planner::Catalog;
use planner::catalog::TableClass;

use super::classify::TableName;
use super::source::Source;
use crate::cluster::control::Failure;

/// What is so with a table or its partitions. A trigger may fire for each row before its UPDATE if all it
/// does is to change that row: it is PostgreSQL's own, or its text holds no statement and calls nothing but
/// what is listed here.
const HINDRANCES: &str = r#"
WITH RECURSIVE parts AS (
  SELECT oid AS root, oid FROM pg_class
   WHERE relkind IN ('r', 'p') AND oid >= 16384 AND relpersistence <> 't'
   UNION ALL
  SELECT parts.root, i.inhrelid FROM parts JOIN pg_inherits i ON i.inhparent = parts.oid),
hindrances AS (
  SELECT t.tgrelid AS oid,
         format('trigger %s fires for more than an update, or may do more than change the row',
                t.tgname) AS why
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language l ON l.oid = p.prolang
   WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 28 <> 0
     AND (t.tgtype & 12 <> 0 OR t.tgtype & 3 <> 3
      OR EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid
                    AND d.refclassid = 'pg_proc'::regclass AND d.refobjid <> t.tgfoid)
      OR l.lanname <> 'internal'
     AND (l.lanname <> 'plpgsql'
      OR p.prosrc ~* '\m(select|insert|update|delete|merge|perform|execute|call|copy|do|from|table|values)\M'
      OR EXISTS (SELECT FROM regexp_matches(p.prosrc, '([[:alnum:]_."]+)\s*\(', 'g') AS call
                  WHERE lower(call[1]) NOT IN ('if', 'elsif', 'when', 'and', 'or', 'not', 'in',
                        'then', 'return', 'coalesce', 'nullif', 'greatest', 'least', 'now',
                        'clock_timestamp', 'statement_timestamp', 'transaction_timestamp',
                        'lower', 'upper', 'initcap', 'trim', 'btrim', 'ltrim', 'rtrim', 'length',
                        'md5', 'abs', 'round', 'numeric', 'varchar', 'char'))))
   UNION ALL
  SELECT confrelid, format('foreign key %s of %s refers to it', conname, conrelid::regclass)
    FROM pg_constraint WHERE contype = 'f'
   UNION ALL
  SELECT k.conrelid, format('another constraint with the name of its foreign key %s is deferred otherwise', k.conname)
    FROM pg_constraint k JOIN pg_constraint o ON o.conname = k.conname AND o.connamespace = k.connamespace
   WHERE k.contype = 'f' AND k.condeferrable
     AND (o.condeferrable, o.condeferred) <> (k.condeferrable, k.condeferred)
   UNION ALL
  SELECT ev_class, format('rule %s is on its table', rulename) FROM pg_rewrite WHERE oid >= 16384
   UNION ALL
  SELECT oid, 'its table has row-level security' FROM pg_class WHERE relrowsecurity
   UNION ALL
  SELECT oid, 'its table has foreign tables below it' FROM pg_class WHERE relkind = 'f'
   UNION ALL
  SELECT i.inhparent, 'other tables inherit from its table'
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
   WHERE NOT c.relispartition AND c.relkind IN ('r', 'f')
   UNION ALL
  SELECT attrelid, format('column %s holds the OID of something on its server', attname)
    FROM pg_attribute
   WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped
     AND atttypid IN ('regclass'::regtype, 'regtype'::regtype, 'regproc'::regtype,
                      'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype,
                      'regrole'::regtype, 'regnamespace'::regtype, 'regconfig'::regtype,
                      'regdictionary'::regtype, 'regcollation'::regtype))
SELECT parts.root, min(why) FROM parts JOIN hindrances ON hindrances.oid = parts.oid
 GROUP BY parts.root"#;

const FOREIGN_KEYS: &str = "
SELECT k.conrelid, k.conname::text,
       (SELECT json_agg(a.attname::text) FROM pg_attribute a
         WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)),
       n.nspname::text, c.relname::text
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype = 'f' AND NOT k.condeferrable";

/// What one shard says of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Immovable {
    /// The end of a sentence.
    why: Option<String>,
    /// Foreign keys that are checked when a statement ends, not later.
    keys: Vec<ForeignKey>,
}

/// By its columns here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ForeignKey {
    name: String,
    columns: Vec<String>,
    to: TableName,
}

/// By the table's OID.
pub(super) async fn load(source: &mut Source<'_>) -> Result<HashMap<u32, Immovable>, Failure> {
    let mut found: HashMap<u32, Immovable> = HashMap::new();
    for row in source.rows(HINDRANCES).await? {
        found.entry(row.number(0)?).or_default().why = row.maybe(1).map(str::to_owned);
    }
    for row in source.rows(FOREIGN_KEYS).await? {
        let key = ForeignKey {
            name: row.name(1)?,
            columns: row.list(2)?.unwrap_or_default(),
            to: (row.name(3)?, row.name(4)?),
        };
        found.entry(row.number(0)?).or_default().keys.push(key);
    }
    Ok(found)
}

/// The reason, as the end of a sentence, by what the shards say of the sharded table `name`; `None` for
/// other tables.
pub(super) fn why<'a>(
    name: &TableName,
    copies: impl Iterator<Item = &'a Immovable> + Clone,
    catalog: &Catalog,
) -> Option<String> {
    let TableClass::Sharded(key) = &catalog.table(Some(&name.0), &name.1)?.class else {
        return None;
    };
    if let Some(why) = copies.clone().find_map(|copy| copy.why.as_ref()) {
        return Some(why.clone());
    }
    // What the new key refers to is where the row goes, and the check is made where it was.
    let is_elsewhere = |foreign: &&ForeignKey| {
        let to = catalog.table(Some(&foreign.to.0), &foreign.to.1);
        foreign.columns.iter().any(|column| key.has(column))
            && to.is_none_or(|to| to.class != TableClass::Reference)
    };
    let mut keys = copies.flat_map(|copy| &copy.keys);
    let foreign = keys.find(is_elsewhere)?;
    Some(format!(
        "foreign key {} of it is not deferrable, so it is checked before the row is where it belongs",
        foreign.name
    ))
}
