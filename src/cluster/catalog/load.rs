//! Reads one shard's schema from one server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use planner::Catalog;
use planner::catalog::{ColumnDefault, Function, RelationKind, Volatility};
use planner::merge::Collation;
use regex::Regex;
use tokio_postgres::{Client, IsolationLevel};

use super::classify::{Column, Relation, ShardSchema, TableName, Unique};
use super::hidden::{Callee, Definitions, Text, settle};
use super::setters::{Body, may_set_unseen};
use super::source::{Cells, Source};
use super::{Loaded, immovable};
use crate::backend::server::Server;
use crate::cluster::control::{ControlPool, Failure};
use crate::config::{FunctionName, FunctionRule};

/// Changes whenever something changes that the catalog tells: every change of a system row writes
/// a new row version with its own xmin, and drops change the count. Sums, since xmin wraps around.
/// Temporary relations are left out because they come and go without concerning anybody else.
const FINGERPRINT: &str = "
SELECT concat_ws(' ', current_schemas(false)::text,
  (SELECT concat(count(*), ':', sum(xmin::text::bigint))
     FROM pg_namespace WHERE nspname !~ '^pg_'),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint))
     FROM pg_proc WHERE pronamespace <> 'pg_catalog'::regnamespace),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint))
     FROM pg_class WHERE relpersistence <> 't' AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')),
  (SELECT concat(count(*), ':', sum(a.xmin::text::bigint))
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE a.attnum > 0 AND c.relpersistence <> 't'
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint)) FROM pg_inherits),
  (SELECT concat(count(*), ':', sum(i.xmin::text::bigint))
     FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE i.indisunique AND c.oid >= 16384 AND c.relpersistence <> 't'),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint)) FROM pg_description
    WHERE classoid = 'pg_class'::regclass AND objsubid = 0 AND objoid >= 16384),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint)) FROM pg_rewrite WHERE oid >= 16384),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint)) FROM pg_policy),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint)) FROM pg_operator WHERE oid >= 16384),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint)) FROM pg_collation WHERE oid >= 16384),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint)) FROM pg_cast WHERE oid >= 16384),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint)) FROM pg_depend
    WHERE refclassid = 'pg_proc'::regclass AND refobjid >= 16384),
  (SELECT concat(count(*), ':', sum(d.xmin::text::bigint))
     FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.objid >= 16384),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint)) FROM pg_constraint
    WHERE contypid >= 16384 OR contype = 'f'),
  (SELECT concat(count(*), ':', sum(xmin::text::bigint)) FROM pg_trigger
    WHERE NOT tgisinternal))";

/// Schema `ringway` is Ringway's own. A declared partition names its parent; the child of plain inheritance does not.
const RELATIONS: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
       parent_schema.nspname::text, parent.relname::text,
       d.description
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
  LEFT JOIN pg_class parent ON parent.oid = i.inhparent
  LEFT JOIN pg_namespace parent_schema ON parent_schema.oid = parent.relnamespace
  LEFT JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass
   AND d.objsubid = 0 AND c.relkind IN ('r', 'p')
 WHERE c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
   AND n.nspname NOT IN ('information_schema', 'ringway') AND n.nspname !~ '^pg_'";

/// What views mention, but for PostgreSQL's own relations; and the tables that own sequences.
const VIEW_READS: &str = "
SELECT DISTINCT r.ev_class, n.nspname::text, c.relname::text
  FROM pg_rewrite r
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
   AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
  JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
  JOIN pg_class c ON c.oid = d.refobjid AND c.relkind <> 'S'
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE r.oid >= 16384 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
UNION
SELECT s.oid, n.nspname::text, c.relname::text
  FROM pg_class s
  JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid
   AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
  JOIN pg_class c ON c.oid = d.refobjid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE s.relkind = 'S' AND s.oid >= 16384 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// With the text of each default, deparsed once.
const COLUMNS: &str = "
SELECT a.attrelid, a.attname::text, a.atttypid, format_type(a.atttypid, a.atttypmod),
       a.attcollation, a.attnotnull, a.attnum, a.attidentity <> '',
       CASE WHEN a.attgenerated <> '' THEN to_json(ARRAY(
         SELECT DISTINCT s.attname::text
           FROM pg_depend p JOIN pg_attribute s ON s.attrelid = p.refobjid AND s.attnum = p.refobjsubid
          WHERE p.refclassid = 'pg_class'::regclass AND s.attrelid = a.attrelid AND s.attnum <> a.attnum
            AND (p.classid = 'pg_attrdef'::regclass AND p.objid = written.id
              OR p.classid = 'pg_class'::regclass AND p.objid = a.attrelid AND p.objsubid = a.attnum)
          ORDER BY 1)) END,
       written.text
  FROM pg_attribute a
  LEFT JOIN (SELECT oid AS id, adrelid, adnum, pg_get_expr(adbin, adrelid) AS text
               FROM pg_attrdef OFFSET 0) AS written
    ON written.adrelid = a.attrelid AND written.adnum = a.attnum
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE a.attnum > 0 AND NOT a.attisdropped
   AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
   AND n.nspname NOT IN ('information_schema', 'ringway') AND n.nspname !~ '^pg_'
 ORDER BY a.attrelid, a.attnum";

/// A default that is a constant, as PostgreSQL writes it: a literal and perhaps a cast.
const CONSTANT: &str =
    r"^('([^']|'')*'|\(?-?[0-9.]+\)?|true|false|NULL)(::[^()]+(\([0-9,]+\))?(\[\])?)?$";

/// Unique indexes with the numbers of the columns that they are over, in order; an expression is 0.
const UNIQUE: &str = "
SELECT i.indrelid, x.relname::text, i.indisprimary, to_json((i.indkey::int2[])[0:i.indnkeyatts - 1])
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
 WHERE i.indisunique AND c.oid >= 16384 AND c.relpersistence <> 't'
   AND c.relkind IN ('r', 'p', 'm') ORDER BY x.relname";

/// Schema `ringway` is Ringway's own; see [`crate::cluster::own`].
const HAS_EPOCH: &str = "
SELECT COALESCE(has_schema_privilege(to_regnamespace('ringway'), 'USAGE')
            AND has_table_privilege(to_regclass('ringway.epoch'), 'SELECT')
            AND has_table_privilege(to_regclass('ringway.epoch'), 'UPDATE'), false)";

const DOMAINS: &str = "SELECT oid, typbasetype FROM pg_type WHERE typtype = 'd'";

/// Through jsonb, because the columns' names differ between PostgreSQL's versions: the locale is
/// collcollate up to 14, colliculocale (15, 16) or colllocale (17) for ICU and builtin, and
/// datlocprovider exists from 15 on.
const COLLATIONS: &str = "
SELECT c.oid, c.collprovider::text, c.collisdeterministic,
       COALESCE(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale',
                to_jsonb(c) ->> 'collcollate')
  FROM pg_collation c";

const EQUATES_TEXTS: &str =
    "SELECT EXISTS (SELECT FROM pg_collation WHERE NOT collisdeterministic)";

const DEFAULT_COLLATION: &str = "
SELECT COALESCE(to_jsonb(d) ->> 'datlocprovider', 'c'),
       CASE WHEN COALESCE(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c' THEN d.datcollate
            ELSE COALESCE(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') END,
       getdatabaseencoding()
  FROM pg_database d WHERE d.datname = current_database()";

/// Whether the default collation sorts 18,000 code points, spread over all of Unicode, each below
/// the next as bytes do. Surrogates are no characters.
const SORTS_BY_BYTES: &str = "
SELECT COALESCE(bool_and(character < next), false) FROM (
  SELECT chr(point) AS character, lead(chr(point)) OVER (ORDER BY point) AS next
    FROM generate_series(1, 1114111, 61) AS point
   WHERE point NOT BETWEEN 55296 AND 57343) AS pairs
 WHERE next IS NOT NULL";

/// The letters of provolatile sort as the volatilities do.
const FUNCTIONS: &str = "
SELECT n.nspname::text, p.proname::text, max(p.provolatile::text COLLATE \"C\"),
       bool_or(p.pronamespace <> 'pg_catalog'::regnamespace), bool_or(p.prokind = 'a'),
       bool_or(p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
               AND p.provolatile <> 'i' AND l.lanname NOT IN ('internal', 'c'))
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
  JOIN pg_namespace n ON n.oid = p.pronamespace GROUP BY n.nspname, p.proname";

/// See [`Definitions`]. Objects below OID 16384 are PostgreSQL's own.
const FUNCTION_TEXTS: &str = "
SELECT p.proname::text, CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) ELSE (
         SELECT concat(string_agg(f.proname || '()', ' '), ' ', pg_get_function_arguments(p.oid))
           FROM pg_aggregate a JOIN pg_proc f ON f.oid IN (a.aggtransfn, a.aggfinalfn,
                a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn,
                a.aggmfinalfn)
          WHERE a.aggfnoid = p.oid) END
  FROM pg_proc p WHERE p.oid >= 16384 AND p.provolatile <> 'v'";

const VIEW_TEXTS: &str = "
SELECT c.relname::text, pg_get_viewdef(c.oid) FROM pg_class c
 WHERE c.relkind = 'v' AND c.oid >= 16384";

/// The columns of a policy's expression are those of its table.
const POLICY_TEXTS: &str = "
SELECT c.relname::text,
       concat('SELECT 1 FROM ', c.oid::regclass, ' WHERE ', pg_get_expr(p.polqual, p.polrelid))
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
 WHERE c.relrowsecurity AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL";

/// What a policy lets through to be read, and to be written.
const POLICIES: &str = "
SELECT n.nspname::text, c.relname::text,
       concat('SELECT 1 FROM ', c.oid::regclass, ' WHERE ', pg_get_expr(said.expr, p.polrelid))
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
       LATERAL (VALUES (p.polqual), (p.polwithcheck)) AS said (expr)
 WHERE c.relrowsecurity AND said.expr IS NOT NULL ORDER BY 1, 2, 3";

const DOMAIN_TEXTS: &str = "
SELECT t.typname::text, concat(format_type(t.typbasetype, NULL), ' ',
         string_agg(pg_get_constraintdef(c.oid), ' '))
  FROM pg_type t LEFT JOIN pg_constraint c ON c.contypid = t.oid
 WHERE t.typtype = 'd' AND t.oid >= 16384 GROUP BY t.oid";

const ROW_TEXTS: &str = "
SELECT c.relname::text, string_agg(format_type(a.atttypid, NULL), ' ')
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
   AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND c.oid >= 16384 GROUP BY c.oid";

const OPERATORS: &str = "
SELECT p.proname::text, p.provolatile = 'v', o.oprname::text
  FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode WHERE o.oid >= 16384";

const CASTS: &str = "
SELECT p.proname::text, p.provolatile = 'v'
  FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc WHERE c.oid >= 16384";

/// Foreign tables, and tables that have one below them.
const FOREIGN: &str = "
WITH RECURSIVE above AS (
  SELECT oid FROM pg_class WHERE relkind = 'f'
   UNION SELECT i.inhparent FROM pg_inherits i JOIN above ON above.oid = i.inhrelid)
SELECT c.relname::text FROM pg_class c JOIN above ON above.oid = c.oid";

/// See [`Body`]. Functions of C are trusted; on what depends on one, a write may call it.
const BODIES: &str = "
SELECT p.proname::text,
       CASE WHEN l.lanname NOT IN ('sql', 'plpgsql') THEN 'set_config'
            WHEN p.prosrc = '' THEN pg_get_functiondef(p.oid) ELSE p.prosrc END,
       EXISTS (SELECT FROM pg_depend d
                WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid)
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.oid >= 16384 AND p.prokind <> 'a' AND l.lanname NOT IN ('internal', 'c')";

/// What stands for an expression among the columns of an index.
const EXPRESSION: &str = "()";

/// Reads the schema unless its fingerprint is still `known`.
///
/// Errors: the server failed, or answered what PostgreSQL would not.
pub async fn load(
    pool: &ControlPool,
    known: Option<&str>,
    rules: &BTreeMap<FunctionName, FunctionRule>,
) -> Result<Option<Loaded>, Failure> {
    let mut client = pool.get().await?;
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let fingerprint: String = transaction.query_one(FINGERPRINT, &[]).await?.try_get(0)?;
    if known == Some(fingerprint.as_str()) {
        transaction.commit().await?;
        return Ok(None);
    }
    let schema = schema(Source::Control(transaction), rules).await?;
    Ok(Some(Loaded {
        fingerprint,
        schema: Arc::new(schema),
    }))
}

/// Reads the schema over any connection.
///
/// # Errors
/// As [`load`].
pub(super) async fn read(
    client: &mut Client,
    rules: &BTreeMap<FunctionName, FunctionRule>,
) -> Result<ShardSchema, Failure> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    schema(Source::Control(transaction), rules).await
}

/// Reads the schema as a client's transaction block sees it, which it leaves as it was.
///
/// # Errors
/// As [`load`].
pub(super) async fn read_within(
    server: &mut Server,
    rules: &BTreeMap<FunctionName, FunctionRule>,
    moved: bool,
) -> Result<ShardSchema, Failure> {
    // Servers resolve names by what is committed now, and queries read by the transaction's snapshot.
    if moved && !reads_what_is_committed(server).await? {
        return Err(Failure::Odd(
            "others have changed it since this transaction's snapshot",
        ));
    }
    // Views of others may be locked.
    let begin = "SAVEPOINT ringway_schema; SET LOCAL statement_timeout = '10s'; \
                 SET LOCAL lock_timeout = '5s'; SET LOCAL standard_conforming_strings = on";
    let end = "ROLLBACK TO ringway_schema; RELEASE ringway_schema";
    let schema = match server.ask_hidden(begin).await {
        Ok(_) => schema(Source::Block(server), rules).await,
        Err(error) => Err(Failure::Session(error)),
    };
    server.ask_hidden(end).await.map_err(Failure::Session)?;
    schema
}

async fn reads_what_is_committed(server: &mut Server) -> Result<bool, Failure> {
    let mut source = Source::Block(server);
    let isolation = source.row("SELECT current_setting('transaction_isolation')");
    Ok(matches!(
        isolation.await?.text(0)?,
        "read committed" | "read uncommitted"
    ))
}

async fn schema(
    mut source: Source<'_>,
    rules: &BTreeMap<FunctionName, FunctionRule>,
) -> Result<ShardSchema, Failure> {
    let source = &mut source;
    // The queries are large by the planner's count, and over sooner than they are compiled.
    source.rows("SET LOCAL jit = off").await?;
    let path = source.row("SELECT to_json(current_schemas(false)::text[])");
    let mut schema = ShardSchema {
        search_path: path.await?.list(0)?.unwrap_or_default(),
        relations: relations(source).await?,
        has_epoch: source.row(HAS_EPOCH).await?.flag(0)?,
        ..ShardSchema::default()
    };
    functions(source, rules, &mut schema).await?;
    let told = definitions(source, rules).await?;
    schema.suspects = settle(&mut schema, &told);
    for row in source.rows(POLICIES).await? {
        let table = (row.name(0)?, row.name(1)?);
        schema.policies.push((table, row.name(2)?));
    }
    schema.suspects.equates_texts = source.row(EQUATES_TEXTS).await?.flag(0)?;
    schema.suspects.writes_set = may_set_unseen(&bodies(source).await?);
    Ok(schema)
}

async fn bodies(source: &mut Source<'_>) -> Result<Vec<Body>, Failure> {
    let body = |row: &Cells| -> Result<Body, Failure> {
        Ok(Body {
            name: row.name(0)?,
            text: row.name(1)?,
            is_hook: row.flag(2)?,
        })
    };
    let rows = source.rows(BODIES).await?;
    rows.iter().map(body).collect()
}

async fn definitions(
    source: &mut Source<'_>,
    rules: &BTreeMap<FunctionName, FunctionRule>,
) -> Result<Definitions, Failure> {
    let mut told = Definitions {
        functions: texts(source, FUNCTION_TEXTS).await?,
        relations: texts(source, VIEW_TEXTS).await?,
        domains: texts(source, DOMAIN_TEXTS).await?,
        rows: texts(source, ROW_TEXTS).await?,
        ..Definitions::default()
    };
    // What a listed function calls is the operator's to know.
    told.functions
        .retain(|function| !rules.keys().any(|rule| rule.name == function.name));
    told.relations.extend(texts(source, POLICY_TEXTS).await?);
    for row in source.rows(OPERATORS).await? {
        told.operators.push((row.name(2)?, callee(&row)?));
    }
    for row in source.rows(CASTS).await? {
        told.casts.push(callee(&row)?);
    }
    for row in source.rows(FOREIGN).await? {
        told.foreign.push(row.name(0)?);
    }
    Ok(told)
}

fn callee(row: &Cells) -> Result<Callee, Failure> {
    let (name, volatile) = (row.name(0)?, row.flag(1)?);
    Ok(Callee { name, volatile })
}

/// Rows of name and text, some of which PostgreSQL may leave out.
async fn texts(source: &mut Source<'_>, sql: &str) -> Result<Vec<Text>, Failure> {
    let mut texts = Vec::new();
    for row in source.rows(sql).await? {
        let (name, text) = (row.name(0)?, row.maybe(1).unwrap_or_default());
        let text = text.to_owned();
        texts.push(Text { name, text });
    }
    Ok(texts)
}

async fn relations(source: &mut Source<'_>) -> Result<BTreeMap<TableName, Relation>, Failure> {
    let mut columns = columns(source).await?;
    let mut unique: HashMap<u32, Vec<Unique>> = HashMap::new();
    for row in source.rows(UNIQUE).await? {
        let (relation, numbers): (u32, Option<Vec<i16>>) = (row.number(0)?, row.list(3)?);
        let columns = columns.get(&relation).map_or(&[][..], Vec::as_slice);
        let name = |number: &i16| {
            let column = columns.iter().find(|(at, _)| at == number);
            column
                .map_or(EXPRESSION, |(_, column)| &column.name)
                .to_owned()
        };
        let index = Unique {
            name: row.name(1)?,
            primary: row.flag(2)?,
            columns: numbers.iter().flatten().map(name).collect(),
        };
        unique.entry(relation).or_default().push(index);
    }
    let mut reads: HashMap<u32, Vec<TableName>> = HashMap::new();
    for row in source.rows(VIEW_READS).await? {
        let read = (row.name(1)?, row.name(2)?);
        reads.entry(row.number(0)?).or_default().push(read);
    }
    let mut immovable = immovable::load(source).await?;
    let mut relations = BTreeMap::new();
    for row in source.rows(RELATIONS).await? {
        let oid: u32 = row.number(0)?;
        let owned = |at| row.maybe(at).map(str::to_owned);
        let columns = columns.remove(&oid).unwrap_or_default();
        let relation = Relation {
            kind: relation_kind(row.text(3)?)?,
            partition_of: owned(4).zip(owned(5)),
            columns: columns.into_iter().map(|(_, column)| column).collect(),
            unique: unique.remove(&oid).unwrap_or_default(),
            comment: owned(6),
            reads: reads.remove(&oid).unwrap_or_default(),
            immovable: immovable.remove(&oid).unwrap_or_default(),
        };
        relations.insert((row.name(1)?, row.name(2)?), relation);
    }
    Ok(relations)
}

fn relation_kind(letter: &str) -> Result<RelationKind, Failure> {
    match letter {
        "r" | "p" => Ok(RelationKind::Table),
        "v" => Ok(RelationKind::View),
        "m" => Ok(RelationKind::MaterializedView),
        "f" => Ok(RelationKind::ForeignTable),
        "S" => Ok(RelationKind::Sequence),
        _ => Err(Failure::Odd("a relation kind that was not asked for")),
    }
}

/// By the relation's OID, with their numbers, which ascend.
async fn columns(source: &mut Source<'_>) -> Result<HashMap<u32, Vec<(i16, Column)>>, Failure> {
    let constant = Regex::new(CONSTANT).map_err(|_| Failure::Odd("a regular expression"))?;
    let domains = domains(source).await?;
    let collations = collations(source).await?;
    let mut columns: HashMap<u32, Vec<(i16, Column)>> = HashMap::new();
    for row in source.rows(COLUMNS).await? {
        let (oid, collation): (u32, u32) = (row.number(2)?, row.number(4)?);
        let generated_from = row.list(8)?;
        let column = Column {
            name: row.name(1)?,
            type_oid: base_type(&domains, oid),
            is_domain: domains.contains_key(&oid),
            type_name: row.name(3)?,
            collation: if collation == 0 {
                Collation::Bytewise
            } else {
                *collations.get(&collation).unwrap_or(&Collation::Unknown)
            },
            not_null: row.flag(5)?,
            default: default(
                row.flag(7)?,
                generated_from.is_some(),
                row.maybe(9),
                &constant,
            ),
            generated_from,
        };
        let of = columns.entry(row.number(0)?).or_default();
        of.push((row.number(6)?, column));
    }
    Ok(columns)
}

/// One that is not plainly a constant counts as computed.
fn default(
    is_identity: bool,
    is_generated: bool,
    written: Option<&str>,
    constant: &Regex,
) -> ColumnDefault {
    match written {
        _ if is_identity => ColumnDefault::Sequence,
        Some(text) if text.contains("nextval(") => ColumnDefault::Sequence,
        _ if is_generated => ColumnDefault::Constant,
        Some(text) if !constant.is_match(text) => ColumnDefault::Computed,
        Some(_) | None => ColumnDefault::Constant,
    }
}

/// Domain to the type it is over, which may be a domain again.
async fn domains(source: &mut Source<'_>) -> Result<HashMap<u32, u32>, Failure> {
    let rows = source.rows(DOMAINS).await?;
    let pair = |row: &Cells| Ok((row.number(0)?, row.number(1)?));
    rows.iter().map(pair).collect()
}

fn base_type(domains: &HashMap<u32, u32>, mut oid: u32) -> u32 {
    // A server that lies about domains in a circle must not hold us: no chain is longer than all.
    for _ in 0..domains.len() {
        match domains.get(&oid) {
            Some(base) => oid = *base,
            None => break,
        }
    }
    oid
}

/// What each collation of the database means for merging.
async fn collations(source: &mut Source<'_>) -> Result<HashMap<u32, Collation>, Failure> {
    let row = source.row(DEFAULT_COLLATION).await?;
    let (provider, locale, encoding) = (row.text(0)?, row.maybe(1), row.text(2)?);
    let measured = match (encoding, is_libc_c_utf8(provider, locale)) {
        ("UTF8", true) => source.row(SORTS_BY_BYTES).await?.flag(0)?,
        _ => false,
    };
    let judge = |provider: &str, locale: Option<&str>| {
        if !is_ascii_superset_in_code_point_order(encoding) {
            Collation::Other
        } else {
            order(provider, locale, measured)
        }
    };
    let default = judge(provider, locale);
    let mut collations = HashMap::new();
    for row in source.rows(COLLATIONS).await? {
        let (provider, deterministic) = (row.text(1)?, row.flag(2)?);
        let collation = if !deterministic {
            Collation::Unknown
        } else if provider == "d" {
            default
        } else {
            judge(provider, row.maybe(3))
        };
        collations.insert(row.number(0)?, collation);
    }
    Ok(collations)
}

/// Encodings whose byte order survives the conversion to UTF-8, as clients get it.
fn is_ascii_superset_in_code_point_order(encoding: &str) -> bool {
    matches!(encoding, "UTF8" | "SQL_ASCII" | "LATIN1")
}

fn is_libc_c_utf8(provider: &str, locale: Option<&str>) -> bool {
    provider == "c" && locale.is_some_and(|l| matches!(l, "C.UTF-8" | "C.utf8" | "C.UTF8"))
}

/// The order of a deterministic collation.
///
/// PostgreSQL itself compares bytes for C and POSIX and for the builtin provider. C.UTF-8 of the
/// system's library is in code point order by glibc's promise since 2.35, which a server does not
/// tell, so it counts only when the server's own sorting was `measured` to be so.
fn order(provider: &str, locale: Option<&str>, measured: bool) -> Collation {
    match (provider, locale) {
        ("c", Some("C" | "POSIX")) => Collation::Bytewise,
        ("b", Some("C" | "C.UTF-8" | "PG_UNICODE_FAST")) => Collation::Bytewise,
        _ if measured && is_libc_c_utf8(provider, locale) => Collation::Bytewise,
        _ => Collation::Other,
    }
}

/// Reads the functions, as far as the configuration does not say otherwise.
async fn functions(
    source: &mut Source<'_>,
    rules: &BTreeMap<FunctionName, FunctionRule>,
    schema: &mut ShardSchema,
) -> Result<(), Failure> {
    let mut catalog = Catalog::new(0, 1);
    let mut names = BTreeSet::new();
    let mut unknown: BTreeSet<_> = rules.keys().collect();
    for row in source.rows(FUNCTIONS).await? {
        let (home, name) = (row.name(0)?, row.name(1)?);
        let volatility = match row.text(2)? {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            // What is not known to be harmless is not.
            _ => Volatility::Volatile,
        };
        let mut function = Function {
            volatility,
            may_write: volatility == Volatility::Volatile,
            user_defined: row.flag(3)?,
            is_aggregate: row.flag(4)?,
            may_read_tables: row.flag(5)?,
        };
        for (rule_name, rule) in rules.iter().filter(|(rule, _)| rule.names(&home, &name)) {
            unknown.remove(rule_name);
            match rule {
                FunctionRule::Read => function.may_write = false,
                // The planner trusts some of PostgreSQL's own, whatever is said of them here.
                FunctionRule::Write => {
                    function.may_write = true;
                    function.user_defined = true;
                }
            }
        }
        catalog.add_function(&name, function);
        names.insert(name);
    }
    let known = |name: String| catalog.function(&name).map(|function| (name, function));
    schema.functions = names.into_iter().filter_map(known).collect();
    schema.unknown_functions = unknown.into_iter().map(ToString::to_string).collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_byte_orders_count_as_bytewise() {
        let cases = [
            ("c", Some("C"), false, Collation::Bytewise),
            ("c", Some("POSIX"), false, Collation::Bytewise),
            ("c", Some("C.UTF-8"), false, Collation::Other),
            ("c", Some("C.utf8"), true, Collation::Bytewise),
            ("c", Some("en_US.UTF-8"), true, Collation::Other),
            ("b", Some("C.UTF-8"), false, Collation::Bytewise),
            ("i", Some("und"), true, Collation::Other),
            ("i", Some("C"), true, Collation::Other),
            ("c", None, true, Collation::Other),
        ];
        for (provider, locale, measured, expected) in cases {
            assert_eq!(
                order(provider, locale, measured),
                expected,
                "{provider} {locale:?} {measured}"
            );
        }
    }

    #[test]
    fn domains_resolve_to_their_base_even_in_a_circle() {
        let domains = HashMap::from([(10, 11), (11, 25), (20, 21), (21, 20)]);
        assert_eq!(base_type(&domains, 10), 25);
        assert_eq!(base_type(&domains, 25), 25);
        assert!([20, 21].contains(&base_type(&domains, 20)));
    }
}
