//! What calling a function means for where a statement may run and what it leaves behind.

use crate::catalog::{Catalog, Volatility};
use crate::plan::{Access, Pin, SessionEffect};

/// What a statement, or a part of it, does beyond its tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conduct {
    pub(super) access: Access,
    pub(super) effect: SessionEffect,
}

impl Conduct {
    pub(super) const HARMLESS: Self = Self {
        access: Access::Read,
        effect: SessionEffect::None,
    };

    pub(super) fn new(access: Access, effect: SessionEffect) -> Self {
        Self { access, effect }
    }

    /// Both happen.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            access: worse_access(self.access, other.access),
            effect: worse_effect(self.effect, other.effect),
        }
    }
}

/// What is needed for both.
pub fn worse_access(a: Access, b: Access) -> Access {
    match (a, b) {
        (Access::Write, _) | (_, Access::Write) => Access::Write,
        (Access::Primary, _) | (_, Access::Primary) => Access::Primary,
        (Access::Read, Access::Read) => Access::Read,
    }
}

/// What both leave behind.
pub fn worse_effect(a: SessionEffect, b: SessionEffect) -> SessionEffect {
    let rank = |effect: &SessionEffect| match effect {
        SessionEffect::None => 0,
        SessionEffect::Releases => 1,
        SessionEffect::DiscardAll => 2,
        SessionEffect::LocalSettings => 3,
        SessionEffect::Settings => 4,
        SessionEffect::Taint(_) => 5,
        SessionEffect::Pin(_) => 6,
    };
    match (&a, &b) {
        // Both have to be seen to, which only the connection itself can.
        (SessionEffect::Settings, SessionEffect::Taint(_))
        | (SessionEffect::Taint(_), SessionEffect::Settings) => SessionEffect::Pin(Pin::Setting),
        (SessionEffect::Settings, SessionEffect::Pin(pin))
        | (SessionEffect::Pin(pin), SessionEffect::Settings)
            if pin.ends() =>
        {
            SessionEffect::Pin(Pin::Setting)
        }
        _ if rank(&b) > rank(&a) => b,
        _ => a,
    }
}

/// Volatile functions of PostgreSQL that a replica answers as well and that leave nothing behind.
const HARMLESS_VOLATILE: &[&str] = &[
    "clock_timestamp",
    "gen_random_uuid",
    "pg_column_compression",
    "pg_column_size",
    "pg_database_size",
    "pg_indexes_size",
    "pg_relation_size",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "random",
    "random_normal",
    "timeofday",
];

/// Written like functions, but part of the grammar: pg_proc does not hold them.
const SYNTAX: &[&str] = &[
    "array",
    "coalesce",
    "greatest",
    "grouping",
    "least",
    "nullif",
    "row",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
];

/// What a call of `name` (without schema) does. `ends_with_transaction` tells of set_config that
/// its last argument is the word TRUE.
pub(super) fn conduct(name: &str, ends_with_transaction: bool, catalog: &Catalog) -> Conduct {
    let users = catalog
        .function(name)
        .is_some_and(|function| function.user_defined);
    match by_name(name, ends_with_transaction, catalog) {
        Some(known) if users => known.and(by_catalog(name, catalog)),
        Some(known) => known,
        None => by_catalog(name, catalog),
    }
}

/// Of PostgreSQL's own functions, of which pg_proc does not tell enough.
fn by_name(name: &str, ends_with_transaction: bool, catalog: &Catalog) -> Option<Conduct> {
    if SYNTAX.contains(&name) {
        return Some(Conduct::HARMLESS);
    }
    if name.starts_with("pg_advisory_xact_lock") || name.starts_with("pg_try_advisory_xact_lock") {
        return Some(Conduct::new(Access::Primary, SessionEffect::None));
    }
    if name.starts_with("pg_advisory_unlock") {
        return Some(Conduct::new(Access::Primary, SessionEffect::Releases));
    }
    if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") {
        let pin = SessionEffect::Pin(Pin::AdvisoryLock);
        return Some(Conduct::new(Access::Primary, pin));
    }
    // Stable, but they run queries over views that their arguments name.
    let reads_by_name = ["table_to_xml", "schema_to_xml", "database_to_xml"];
    if reads_by_name.iter().any(|prefix| name.starts_with(prefix)) {
        return Some(Conduct::new(Access::Primary, SessionEffect::None));
    }
    let conduct = match name {
        // On several shards each of them has to hear of it.
        "set_config" if ends_with_transaction && !catalog.is_sharded() => {
            Conduct::new(Access::Primary, SessionEffect::LocalSettings)
        }
        "set_config" => Conduct::new(Access::Primary, SessionEffect::Settings),
        "currval" | "lastval" => Conduct::new(Access::Primary, SessionEffect::Pin(Pin::Sequence)),
        // Stable by name, but they take a transaction id, which a replica has none to give of.
        "txid_current" | "pg_current_xact_id" => Conduct::new(Access::Primary, SessionEffect::None),
        "pg_export_snapshot" => Conduct::new(Access::Primary, SessionEffect::None),
        _ => return None,
    };
    Some(conduct)
}

fn by_catalog(name: &str, catalog: &Catalog) -> Conduct {
    let Some(function) = catalog.function(name) else {
        let effect = SessionEffect::Taint("it calls a function that is not in the catalog");
        return Conduct::new(Access::Write, effect);
    };
    match (function.may_write, function.user_defined) {
        (false, _) => Conduct::HARMLESS,
        (true, true) => Conduct::new(
            Access::Write,
            SessionEffect::Taint("it calls a function that users defined and that may write"),
        ),
        (true, false) if HARMLESS_VOLATILE.contains(&name) => Conduct::HARMLESS,
        (true, false) => Conduct::new(Access::Write, SessionEffect::None),
    }
}

/// As [`conduct`], of a function that is in the catalog; `None` when it only reads or is in none.
pub(super) fn misconduct(name: &str, catalog: &Catalog) -> Option<Conduct> {
    catalog.function(name)?;
    let conduct = conduct(name, false, catalog);
    (conduct.access != Access::Read).then_some(conduct)
}

/// True for functions that give another value for each call: their result may not be computed
/// once per shard where one value is meant.
pub(super) fn is_volatile(name: &str, catalog: &Catalog) -> bool {
    !SYNTAX.contains(&name)
        && catalog
            .function(name)
            .is_none_or(|function| function.volatility == Volatility::Volatile)
}

/// True for functions, not volatile ones, that may give another value on each server.
pub(super) fn differs_by_server(name: &str, catalog: &Catalog) -> bool {
    /// Stable ones whose value depends on arguments and settings only.
    const SAME: [&str; 12] = [
        "array_to_string",
        "concat",
        "concat_ws",
        "date_part",
        "date_trunc",
        "format",
        "json_build_object",
        "jsonb_build_object",
        "to_char",
        "to_date",
        "to_json",
        "to_jsonb",
    ];
    !SYNTAX.contains(&name)
        && !SAME.contains(&name)
        && catalog
            .function(name)
            .is_none_or(|function| function.volatility != Volatility::Immutable)
}

/// True for functions whose value is one for a statement of one server, and another one on each.
pub(super) fn is_each_servers_own(name: &str, catalog: &Catalog) -> bool {
    differs_by_server(name, catalog) && !is_volatile(name, catalog)
}

/// True for the functions that are called without parentheses and tell the time.
pub(super) fn tells_time(name: &str) -> bool {
    matches!(
        name,
        "current_date" | "current_time" | "current_timestamp" | "localtime" | "localtimestamp"
    )
}

/// True for functions that may read tables which the statement does not name.
pub(super) fn may_read_tables(name: &str, catalog: &Catalog) -> bool {
    const RUN_SQL: [&str; 10] = [
        "connectby",
        "crosstab",
        "cursor_to_xml",
        "database_to_xml",
        "dblink",
        "query_to_xml",
        "schema_to_xml",
        "table_to_xml",
        "ts_rewrite",
        "ts_stat",
    ];
    // Their variants have longer names: query_to_xml_and_xmlschema, crosstab3.
    RUN_SQL.iter().any(|prefix| name.starts_with(prefix))
        || catalog
            .function(name)
            .is_some_and(|function| function.may_read_tables)
}

/// True for functions that read or move a sequence; each shard has its own.
pub(super) fn is_of_sequence(name: &str) -> bool {
    matches!(name, "nextval" | "setval" | "currval" | "lastval")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Function;

    fn catalog() -> Catalog {
        let mut catalog = Catalog::new(1, 1);
        let volatile = |user_defined| Function {
            volatility: Volatility::Volatile,
            may_write: true,
            user_defined,
            is_aggregate: false,
            may_read_tables: false,
        };
        for name in ["random", "nextval", "set_config", "pg_advisory_lock"] {
            catalog.add_function(name, volatile(false));
        }
        catalog.add_function("mine", volatile(true));
        catalog
    }

    #[test]
    fn conduct_of_functions() {
        let pins = |conduct: Conduct| matches!(conduct.effect, SessionEffect::Pin(_));
        let taints = |conduct: &Conduct| matches!(conduct.effect, SessionEffect::Taint(_));
        let of = |name| conduct(name, false, &catalog());
        assert_eq!(of("random"), Conduct::HARMLESS);
        assert_eq!(
            of("nextval"),
            Conduct::new(Access::Write, SessionEffect::None)
        );
        assert!(pins(of("pg_advisory_lock")) && pins(of("lastval")));
        assert_eq!(of("pg_advisory_unlock").effect, SessionEffect::Releases);
        assert_eq!(of("set_config").effect, SessionEffect::Settings);
        let ends = conduct("set_config", true, &catalog());
        assert_eq!(ends.effect, SessionEffect::LocalSettings);
        assert!(taints(&of("mine")) && of("mine").access == Access::Write);
        assert!(taints(&of("unheard_of")) && of("unheard_of").access == Access::Write);
    }

    #[test]
    fn a_users_overload_makes_a_harmless_name_suspect() {
        let mut catalog = catalog();
        catalog.add_function(
            "random",
            Function {
                volatility: Volatility::Volatile,
                may_write: true,
                user_defined: true,
                is_aggregate: false,
                may_read_tables: false,
            },
        );
        assert_eq!(conduct("random", false, &catalog).access, Access::Write);
    }
}
