//! Every refusal of the planner, in one place: what, why, and what works instead.

use super::parse::Source;
use crate::catalog::{RelationKind, Table};
use crate::refusal::{Refusal, UNKNOWN_TABLE, UNREADABLE};

pub(super) fn undeclared(table: &Table) -> Refusal {
    let Table {
        name: table, kind, ..
    } = table;
    if matches!(kind, RelationKind::View | RelationKind::MaterializedView) {
        return Refusal::unsupported(
            format!("view \"{table}\" may concern several shards"),
            "It is on each of them, or reads tables that are, and shows rows of one shard only.",
            format!(
                "Query its tables; or declare \"{table}\" in the configuration, if one shard has \
                 all that it reads."
            ),
        );
    }
    Refusal::unsupported(
        format!("table \"{table}\" is on several shards and in no table class"),
        "Nothing says whether its rows are spread, copied or separate.",
        format!("Declare \"{table}\" as sharded, reference or single in the configuration."),
    )
}

pub(super) fn unreadable() -> Refusal {
    Refusal::unsupported(
        UNREADABLE,
        "It uses syntax that the planner does not know, and it may concern several shards.",
        "Write it in simpler syntax, or split it.",
    )
}

pub(super) fn unknown_table(table: &str) -> Refusal {
    Refusal::unsupported(
        UNKNOWN_TABLE,
        format!("Where rows of \"{table}\" belong is not known before its schema has been read."),
        "Check the name; if it is right, try again: what another process has made is known within seconds. A hint names a shard to ask.",
    )
}

/// What PostgreSQL says of the table named at token `at`.
pub(super) fn not_there(source: &Source<'_>, at: usize) -> Refusal {
    let is_dotted = source.tokens.get(at + 1);
    let is_dotted = is_dotted.is_some_and(|token| source.text(token) == ".");
    let name = |at| source.name(at).unwrap_or_default();
    let relation = match is_dotted {
        true => format!("{}.{}", name(at), name(at + 2)),
        false => name(at),
    };
    Refusal::as_postgresql("42P01", format!("relation \"{relation}\" does not exist"))
}

pub(super) fn not_rewritten() -> Refusal {
    not_one_shard("a query written like this")
}

pub(super) fn write_target() -> Refusal {
    Refusal::unsupported(
        "a write to what is not plainly named is not supported",
        "Which table it writes is not known, so its shards are not either.",
        "Name one table, without a function, a join or a query in its place.",
    )
}

pub(super) fn merge() -> Refusal {
    Refusal::unsupported(
        "this MERGE of rows of several shards is not supported",
        "It is not proven that the rows that it joins, and those that it inserts, are on the same shard.",
        "Join the source by the sharding key, and insert the source's key; or give one key, in ON and in INSERT.",
    )
}

pub(super) fn multiple() -> Refusal {
    Refusal::unsupported(
        "several statements in one query do not concern one and the same shard",
        "Statements sent together run as one transaction on one shard.",
        "Send the statements one by one.",
    )
}

pub(super) fn not_one_shard(what: &str) -> Refusal {
    Refusal::unsupported(
        format!("{what} over several shards is not supported"),
        "The shards' answers cannot be put together to the answer of one PostgreSQL.",
        "Compare the sharding key of every sharded table with a constant, so that one shard has all rows.",
    )
}

pub(super) fn physical_column() -> Refusal {
    Refusal::unsupported(
        "a system column in a condition over several shards is not supported",
        "Where a row lies and what wrote it is told by each server for itself, and several may tell the same.",
        "Compare the sharding key with a constant too, or use columns of the table.",
    )
}

pub(super) fn conflict_elsewhere(table: &str) -> Refusal {
    Refusal::unsupported(
        format!(
            "ON CONFLICT by a unique constraint of \"{table}\" without its sharding key is not supported"
        ),
        "The row that it conflicts with may be on another shard, which is not asked.",
        "Name columns of a unique constraint that has the key among them.",
    )
}

pub(super) fn single_tables_apart(first: &str, second: &str) -> Refusal {
    Refusal::unsupported(
        format!("tables \"{first}\" and \"{second}\" are not on one shard"),
        "A join needs all its rows in one place.",
        "Query the tables one by one.",
    )
}

pub(super) fn insert_needs_key(column: &str, why: &str) -> Refusal {
    Refusal::unsupported(
        format!("INSERT does not tell the value of sharding key {column}"),
        format!("{why}."),
        format!("Give {column} as a constant or a parameter in each row of VALUES."),
    )
}

pub(super) fn insert_many_shards() -> Refusal {
    Refusal::unsupported(
        "this INSERT of rows of several shards is not supported",
        "It is more than a list of rows, and cannot be divided into one for each shard.",
        "Send one INSERT for each row or for the rows of each shard.",
    )
}

pub(super) fn insert_untyped(param: usize) -> Refusal {
    Refusal::unsupported(
        format!("parameter ${param} stands in several places of an INSERT for several shards"),
        "Its type is taken from the first of them, and a shard may not get that one.",
        "Declare its type in Parse, or give each place a parameter of its own.",
    )
}

pub(super) fn insert_select(table: &str) -> Refusal {
    Refusal::unsupported(
        format!("INSERT into sharded table \"{table}\" from a query is not supported"),
        "The rows of the query may belong to other shards than the one that made them.",
        "Run the query, then send INSERT with VALUES.",
    )
}

/// An INSERT from a query whose rows would have to be gathered; `why` is a sentence.
pub(super) fn insert_gathered(table: &str, why: &'static str) -> Refusal {
    Refusal::unsupported(
        format!("INSERT into \"{table}\" from this query is not supported"),
        why,
        "Run the query, then send INSERT with VALUES.",
    )
}

/// A MERGE whose source would have to be gathered; `why` is a sentence.
pub(super) fn merge_gathered(table: &str, why: &'static str) -> Refusal {
    Refusal::unsupported(
        format!(
            "MERGE of rows of several shards into \"{table}\" from this source is not supported"
        ),
        why,
        "Run the query of the source, then send MERGE with its rows in VALUES.",
    )
}

pub(super) fn update_of_key(column: &str, why: &str) -> Refusal {
    Refusal::unsupported(
        format!("sharding key {column} cannot be updated"),
        format!("The row may have to move to another shard: {why}."),
        "Leave the column out of SET where it stays; else DELETE the row and INSERT it with the new key, in one transaction.",
    )
}

pub(super) fn type_of_key(table: &str, column: &str) -> Refusal {
    Refusal::unsupported(
        format!("the type of sharding key {table}.{column} cannot be changed like this"),
        "Its values would belong to other shards by the new type, and the rows would stay where they are.",
        "CREATE another TABLE with a key of that type, and INSERT INTO it the rows of this one.",
    )
}

pub(super) fn write_joins(table: &str) -> Refusal {
    Refusal::unsupported(
        format!("a write to \"{table}\" that reads other tables may concern several shards"),
        "It is not proven that the rows it reads are on the shard that it writes.",
        "Read those rows first, then send what was found as constants or parameters.",
    )
}

pub(super) fn write_picks(table: &str) -> Refusal {
    Refusal::unsupported(
        format!("a write to \"{table}\" whose subquery picks rows may concern several shards"),
        "Each shard would pick for itself, where one PostgreSQL picks once.",
        "Run the subquery first, then send what it found as a constant or a parameter.",
    )
}

pub(super) fn computed_default(table: &str, column: &str) -> Refusal {
    Refusal::unsupported(
        format!("column \"{column}\" of reference table \"{table}\" needs a value"),
        "Each shard would compute another default, and the copies would differ.",
        format!("Give {column} as a constant or a parameter."),
    )
}

pub(super) fn sequence_default(table: &str, column: &str) -> Refusal {
    Refusal::unsupported(
        format!("column \"{column}\" of sharded table \"{table}\" needs a value"),
        "Its default is a sequence, each shard has its own, and values would repeat.",
        format!(
            "Declare default_id = \"{column}\" for the table, give ringway.next_id(), a constant or a \
             parameter, or make gen_random_uuid() its default. An identity column that is GENERATED ALWAYS \
             takes none of these before ALTER COLUMN \"{column}\" SET GENERATED BY DEFAULT."
        ),
    )
}

/// Calls of `ringway.next_id()` that a constant cannot stand for.
pub(super) fn next_id_here() -> Refusal {
    Refusal::unsupported(
        "ringway.next_id() is not supported here",
        "It may run once for each of several rows, and each would get the same id.",
        "Call it in rows of VALUES, or fetch ids with SELECT ringway.next_id() and give them as constants.",
    )
}

pub(super) fn next_id_beside() -> Refusal {
    Refusal::unsupported(
        "an id beside a subquery or a function that may return several rows is not supported",
        "One row of VALUES might become several, and each would get the same id.",
        "Compute the other value first and give it as a constant or a parameter.",
    )
}

pub(super) fn default_id_unclear(table: &str, column: &str) -> Refusal {
    Refusal::unsupported(
        format!("which rows of \"{table}\" need an id for \"{column}\" is not clear"),
        "It is not read in full, or its rows come from a query on a database without shards, and the column may \
         be left out.",
        format!("Name the columns of the INSERT, with {column} among them: SELECT ringway.next_id() gives ids."),
    )
    .everywhere()
}

pub(super) fn default_id_inside(table: &str, column: &str) -> Refusal {
    Refusal::unsupported(
        format!(
            "an INSERT into \"{table}\" inside of another statement needs a value for \"{column}\""
        ),
        "The column gets an id by default, which is not drawn inside of a statement.",
        format!("Give {column} as a constant or a parameter, or send the INSERT alone."),
    )
    .everywhere()
}

pub(super) fn default_id_of_copy(table: &str, column: &str) -> Refusal {
    Refusal::unsupported(
        format!("COPY to \"{table}\" needs data for column \"{column}\""),
        "The column gets an id by default, which is not drawn for the rows of COPY.",
        "Put ids into the data; SELECT ringway.next_id() gives them.",
    )
    .everywhere()
}

pub(super) fn volatile_on_reference(table: &str) -> Refusal {
    Refusal::unsupported(
        format!("a write to reference table \"{table}\" may differ between its copies"),
        "Each shard would compute another value, and the copies would differ.",
        "Compute the value first, then send it as a constant or a parameter.",
    )
}

pub(super) fn update_from_on_reference(table: &str) -> Refusal {
    Refusal::unsupported(
        format!("UPDATE … FROM of reference table \"{table}\" may differ between its copies"),
        "Where several rows match one, each shard would take another.",
        "Use a subquery in SET: SET column = (SELECT … WHERE …).",
    )
}

pub(super) fn reference_from_others(table: &str) -> Refusal {
    Refusal::unsupported(
        format!("a write to reference table \"{table}\" may read reference tables only"),
        "Each shard has other rows of the other tables, and the copies would differ.",
        "Run the query first, then send its rows as constants or parameters.",
    )
}

pub(super) fn sequence_on_sharded(table: &str) -> Refusal {
    Refusal::unsupported(
        format!("a sequence function in a write to \"{table}\" is not supported"),
        "Each shard has its own sequence, so values would repeat.",
        "Use ringway.next_id() or gen_random_uuid(), or fetch the value with SELECT nextval first.",
    )
}

pub(super) fn copy_of_file(table: &str) -> Refusal {
    Refusal::unsupported(
        format!("COPY of \"{table}\" with a file or a program of the server is not supported"),
        "Its rows are on several servers, and each has files of its own.",
        "Use COPY … FROM STDIN or TO STDOUT; psql's \\copy does.",
    )
}

pub(super) fn copy_to_file() -> Refusal {
    Refusal::unsupported(
        "COPY of a query over several shards to a file or a program of the server is not supported",
        "Its rows are on several servers, and each has files of its own.",
        "Use COPY … TO STDOUT; psql's \\copy does.",
    )
}

pub(super) fn copy_of_write() -> Refusal {
    Refusal::unsupported(
        "COPY of the rows that a write on several shards returns is not supported",
        "What one shard has written would be kept, should another one fail.",
        "Run the write by itself, with RETURNING.",
    )
}

pub(super) fn copy_option(option: &str) -> Refusal {
    Refusal::unsupported(
        format!("option {option} of COPY over several shards is not supported"),
        "The data is divided by its rows' keys, and how this option is to be read is not known.",
        "Leave the option out, or write it as PostgreSQL's manual does, in parentheses.",
    )
}

pub(super) fn copy_without_key(column: &str) -> Refusal {
    Refusal::unsupported(
        format!("COPY does not tell the value of sharding key {column}"),
        "The key is not among its columns.",
        format!("Give {column} in each row."),
    )
}

pub(super) fn aggregate(what: &str, hint: &'static str) -> Refusal {
    Refusal::unsupported(
        format!("{what} over several shards is not supported"),
        "The shards' parts do not add up to the whole.",
        hint,
    )
}

pub(super) fn unknown_code() -> Refusal {
    Refusal::unsupported(
        "DO and CALL are not supported on a sharded database",
        "Their code may concern rows of any shard.",
        "Send its statements one by one; what is right on each shard, with /* ringway: shards=all */ before it.",
    )
}

pub(super) fn write_inside() -> Refusal {
    Refusal::unsupported(
        "a write inside WITH that mentions a reference table is not supported",
        "A reference table is written on every shard, and the rest of the statement is not.",
        "Send the statements one by one.",
    )
}

pub(super) fn lock_with_limit() -> Refusal {
    Refusal::unsupported(
        "a query over several shards that locks rows, with LIMIT or OFFSET, is not supported",
        "Each shard would lock as many rows as are wanted of all.",
        "Lock without LIMIT, or compare the sharding key of every sharded table with a constant.",
    )
}

pub(super) fn lock_in_order() -> Refusal {
    Refusal::unsupported(
        "a query over several shards that locks rows may be ordered by columns that it selects only",
        "Its rows are put in order once all shards have locked theirs, by what they return.",
        "Select what it is ordered by, or leave ORDER BY out.",
    )
}

pub(super) fn writes_in_query() -> Refusal {
    Refusal::unsupported(
        "a query over several shards that locks or writes is not supported",
        "It would have to be applied on all of them or on none.",
        "Compare the sharding key of every sharded table with a constant.",
    )
}

pub(super) fn order_of_text(column: &str) -> Refusal {
    Refusal::unsupported(
        format!("the order of text column \"{column}\" over several shards is not known here"),
        "Its collation sorts by rules of the servers' operating system.",
        format!("Use {column} COLLATE \"C\", or order by another column."),
    )
}

pub(super) fn order_of_type(column: &str) -> Refusal {
    Refusal::unsupported(
        format!("values of column \"{column}\" over several shards cannot be compared here"),
        "Only PostgreSQL knows how values of its type compare.",
        "Cast it to a built-in type, or order and group by another column.",
    )
}

pub(super) fn not_grouped() -> Refusal {
    Refusal::unsupported(
        "a grouped query over several shards may select group keys and plain aggregates only",
        "An expression over aggregates cannot be computed from the shards' parts.",
        "Select the aggregates by themselves and compute the rest in the application, or group by the sharding key.",
    )
}

pub(super) fn ordinal_unknown() -> Refusal {
    Refusal::unsupported(
        "this ORDER BY or GROUP BY position over several shards is not supported",
        "The select list has no such plain column at that position.",
        "Name the column instead of its position.",
    )
}

pub(super) fn limit_value() -> Refusal {
    Refusal::unsupported(
        "this LIMIT or OFFSET over several shards is not supported",
        "It must be known before the query runs.",
        "Give it as an integer constant or a parameter of type bigint.",
    )
}

pub(super) fn session_sequence() -> Refusal {
    Refusal::unsupported(
        "currval and lastval are not supported on a sharded database",
        "Each shard has its own sequences, and the session may have used any of them.",
        "Use RETURNING, or keep the value that nextval gave.",
    )
}

pub(super) fn setval() -> Refusal {
    Refusal::unsupported(
        "setval of a sequence that is not told, on a sharded database",
        "A sequence is on one shard or on all of them, by its name.",
        "Write its name and the value as constants: SELECT setval('s', 17). A hint names a shard to set it on.",
    )
}

pub(super) fn sequences_of_one_shard() -> Refusal {
    Refusal::unsupported(
        "pg_get_sequence_data is not supported on a sharded database",
        "Each shard has its own sequences, and would tell their state alone.",
        "Ask for one sequence: SELECT last_value, is_called FROM s.",
    )
}

pub(super) fn snapshot() -> Refusal {
    Refusal::unsupported(
        "pg_export_snapshot is not supported on a sharded database",
        "A snapshot is one server's, and each shard of the transaction has its own.",
        "pg_dump needs it with --jobs only: leave that out, or dump each shard by itself.",
    )
}

pub(super) fn own_schema() -> Refusal {
    Refusal::unsupported(
        "LOCK of tables in schema ringway is not supported",
        "They are Ringway's own, and other ones on each shard.",
        "pg_dump leaves them out with --exclude-schema=ringway.",
    )
}

pub(super) fn notifies_elsewhere() -> Refusal {
    Refusal::unsupported(
        "pg_notify in a statement over tables of a sharded database",
        "All sessions listen on the first shard, and the statement may run on another.",
        "Send NOTIFY, or SELECT pg_notify(…) by itself.",
    )
}

pub(super) fn function_reads_tables(function: &str) -> Refusal {
    Refusal::unsupported(
        format!("function {function} is not supported on a sharded database"),
        "Its code may read tables, and a shard has only a part of their rows.",
        "Send the function's statements themselves; if it reads no table, declare it IMMUTABLE.",
    )
}

pub(super) fn policy(table: &str) -> Refusal {
    Refusal::unsupported(
        format!("a policy of table \"{table}\" over several shards is not supported"),
        "It is not proven that the shard with a row has all rows that the policy reads.",
        "Let the policy compare columns of the row, or join other tables by the sharding key.",
    )
}

pub(super) fn temporary() -> Refusal {
    Refusal::unsupported(
        "temporary tables are not supported on a sharded database",
        "One would be on one shard only, and nothing could join it with sharded rows.",
        "Use WITH inside the query, or an ordinary table.",
    )
}

pub(super) fn create_table_as() -> Refusal {
    Refusal::unsupported(
        "CREATE TABLE AS is not supported on a sharded database",
        "Each shard would fill the table from its own rows.",
        "Send CREATE TABLE, declare the table's class, and INSERT its rows; where each shard's own rows are right, \
         write /* ringway: shards=all */ before it.",
    )
}

pub(super) fn lock_apart() -> Refusal {
    Refusal::unsupported(
        "LOCK of tables that are not on the same shards is not supported",
        "Each shard is sent the whole statement, and one of the tables is on one shard only.",
        "Lock them one by one.",
    )
}

pub(super) fn explain_format() -> Refusal {
    Refusal::unsupported(
        "EXPLAIN over several shards in another format than TEXT is not supported",
        "The plans of all shards are shown as lines of one.",
        "Leave FORMAT out, or ask a shard by /* ringway: shard=NAME */.",
    )
}

pub(super) fn explain_parameters() -> Refusal {
    Refusal::unsupported(
        "EXPLAIN of a statement with parameters over several shards is not supported",
        "Their values are not in what each shard is asked to explain.",
        "Write constants in their place.",
    )
}

pub(super) fn explain_analyze() -> Refusal {
    Refusal::unsupported(
        "EXPLAIN ANALYZE over several shards of what gathers, locks or writes is not supported",
        "It would have to run on all of them as one statement.",
        "Leave ANALYZE out, or run the statement itself.",
    )
}

pub(super) fn explain_parts() -> Refusal {
    Refusal::unsupported(
        "EXPLAIN of a write whose shards do different things is not supported",
        "Which shard gets which rows depends on the rows.",
        "EXPLAIN (ROUTE) tells what would happen.",
    )
}

pub(super) fn output_name(name: &str) -> Refusal {
    Refusal::unsupported(
        format!("what \"{name}\" means in ORDER BY or GROUP BY over several shards is not known"),
        "An item of the select list without AS may have that name.",
        "Name the items of the select list with AS.",
    )
}

pub(super) fn tells_storage() -> Refusal {
    Refusal::unsupported(
        "functions that tell how a value is stored over several shards are not supported",
        "The query would run over values that have left their tables.",
        "Compare the sharding key of every sharded table with a constant.",
    )
}
