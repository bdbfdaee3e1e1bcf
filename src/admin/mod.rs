//! The admin database's language: its commands and the tables that answer them.
//!
//! No state here: [`session`] serves a client, the application fills the rows from live state,
//! and [`Table`] writes them in either protocol. Columns are PgBouncer 1.25's,
//! in its order, wherever PgBouncer has the command, so that its exporters and agents work.
//! <https://www.pgbouncer.org/usage.html>

pub mod config;
pub mod connections;
pub mod databases;
pub mod digests;
pub mod help;
pub mod lists;
pub mod memory;
pub mod peers;
pub mod plans;
pub mod pools;
pub mod prepared;
pub mod replicas;
pub mod routing;
pub mod session;
mod set;
pub mod shards;
pub mod slots;
pub mod sockets;
pub mod state;
pub mod stats;
pub mod table;
mod time;
pub mod transactions;
pub mod users;
pub mod version;

use crate::error::{Error, Fault};

pub use config::ConfigRow;
pub use connections::{ClientRow, ClientState, Connection, ServerRow, ServerState};
pub use databases::DatabaseRow;
pub use digests::{DigestRow, HotKeyRow, HotSlotRow};
pub use help::HelpRow;
pub use lists::Lists;
pub use memory::MemoryRow;
pub use peers::PeerRow;
pub use plans::PlansRow;
pub use pools::PoolRow;
pub use prepared::PreparedRow;
pub use replicas::ReplicaRow;
pub use routing::RoutingRow;
pub use shards::ShardRow;
pub use slots::SlotsRow;
pub use sockets::SocketRow;
pub use state::StateRow;
pub use stats::{AverageRow, StatsRow, SumRow, TotalRow};
pub use table::{Cell, Column, Row, Table, TypeOid};
pub use transactions::{InDoubtRow, TransactionRow};
pub use users::UserRow;
pub use version::VersionRow;

/// What an operator may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Nothing but white space and semicolons, which clients send to see if we are alive.
    Empty,
    Show(Show),
    /// Reads the configuration again.
    Reload,
    Order(Order),
    /// A SET of PostgreSQL's, accepted and forgotten: drivers send it after login, and the answers
    /// depend on none.
    Set,
    /// `SET key = value`: changes one of Ringway's settings until the next RELOAD.
    Change(Change),
}

/// A setting as SHOW CONFIG calls it, and what it is to be, as the file would have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    pub value: String,
}

impl Command {
    /// Open to `stats_users`.
    fn only_looks(&self) -> bool {
        match self {
            Self::Empty | Self::Show(_) | Self::Set => true,
            Self::Reload | Self::Order(_) | Self::Change(_) => false,
        }
    }
}

/// What changes the state of databases and clients; without a name, of all databases. PgBouncer's
/// commands, in its meaning.
/// <https://www.pgbouncer.org/usage.html#process-controlling-commands>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Waits until every server connection is free and closed; statements wait until RESUME.
    Pause(Option<String>),
    Resume(Option<String>),
    /// No new clients.
    Disable(String),
    Enable(String),
    /// Ends clients and servers at once, and pauses.
    Kill(Option<String>),
    /// By the number in SHOW CLIENTS.
    KillClient(u64),
    /// Closes each server connection when it is free.
    Reconnect(Option<String>),
    /// Waits until those are closed.
    WaitClose(Option<String>),
    Suspend,
    Shutdown(Shutdown),
    /// Query digests, hot keys and hot slots begin anew; Ringway's own.
    ResetDigests,
}

/// What the end of the process waits for; the sooner it comes, the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shutdown {
    Now,
    WhenServersAreFree,
    WhenClientsHaveLeft,
}

impl Order {
    /// Its word, which is the command tag too.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Disable(_) => "DISABLE",
            Self::Enable(_) => "ENABLE",
            Self::Kill(_) => "KILL",
            Self::KillClient(_) => "KILL_CLIENT",
            Self::Reconnect(_) => "RECONNECT",
            Self::WaitClose(_) => "WAIT_CLOSE",
            Self::Suspend => "SUSPEND",
            Self::Shutdown(_) => "SHUTDOWN",
            Self::ResetDigests => "RESET",
        }
    }

    /// `word` is in upper case, `rest` as it was written.
    fn read(word: &str, rest: &str) -> Option<Self> {
        let name = || match rest {
            "" => Some(None),
            _ => database_name(rest).map(Some),
        };
        match word {
            "PAUSE" => Some(Self::Pause(name()?)),
            "RESUME" => Some(Self::Resume(name()?)),
            "DISABLE" => Some(Self::Disable(database_name(rest)?)),
            "ENABLE" => Some(Self::Enable(database_name(rest)?)),
            "KILL" => Some(Self::Kill(name()?)),
            "KILL_CLIENT" => Some(Self::KillClient(rest.parse().ok()?)),
            "RECONNECT" => Some(Self::Reconnect(name()?)),
            "WAIT_CLOSE" => Some(Self::WaitClose(name()?)),
            "SUSPEND" if rest.is_empty() => Some(Self::Suspend),
            "RESET" if rest.eq_ignore_ascii_case("digests") => Some(Self::ResetDigests),
            "SHUTDOWN" => Some(Self::Shutdown(match rest.to_ascii_uppercase().as_str() {
                "" => Shutdown::Now,
                "WAIT_FOR_SERVERS" => Shutdown::WhenServersAreFree,
                "WAIT_FOR_CLIENTS" => Shutdown::WhenClientsHaveLeft,
                _ => return None,
            })),
            _ => None,
        }
    }
}

/// One name, which may stand in double quotes.
fn database_name(text: &str) -> Option<String> {
    match text.strip_prefix('"') {
        Some(quoted) => {
            let inner = quoted.strip_suffix('"')?.replace("\"\"", "\u{0}");
            (!inner.is_empty() && !inner.contains('"')).then(|| inner.replace('\u{0}', "\""))
        }
        None => (!text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"'))
            .then(|| text.to_owned()),
    }
}

/// The tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    ActiveSockets,
    Clients,
    Config,
    Databases,
    Digests,
    DnsHosts,
    DnsZones,
    Help,
    HotKeys,
    HotSlots,
    InDoubt,
    Lists,
    Memory,
    PeerPools,
    Peers,
    Plans,
    Pools,
    Prepared,
    Replicas,
    Routing,
    Servers,
    Shards,
    Slots,
    Sockets,
    State,
    Stats,
    StatsAverages,
    StatsTotals,
    Totals,
    Transactions,
    Users,
    Version,
}

/// PgBouncer's tables that would be empty words here, and why.
const ABSENT: [(&str, &str); 1] = [(
    "FDS",
    "PgBouncer hands its open files over by it; `ringway serve --take-over` needs no such table.",
)];

impl Show {
    /// In the order of SHOW HELP.
    pub const ALL: [Self; 32] = [
        Self::ActiveSockets,
        Self::Clients,
        Self::Config,
        Self::Databases,
        Self::Digests,
        Self::DnsHosts,
        Self::DnsZones,
        Self::Help,
        Self::HotKeys,
        Self::HotSlots,
        Self::InDoubt,
        Self::Lists,
        Self::Memory,
        Self::PeerPools,
        Self::Peers,
        Self::Plans,
        Self::Pools,
        Self::Prepared,
        Self::Replicas,
        Self::Routing,
        Self::Servers,
        Self::Shards,
        Self::Slots,
        Self::Sockets,
        Self::State,
        Self::Stats,
        Self::StatsAverages,
        Self::StatsTotals,
        Self::Totals,
        Self::Transactions,
        Self::Users,
        Self::Version,
    ];

    /// The word after SHOW.
    pub fn name(self) -> &'static str {
        match self {
            Self::ActiveSockets => "ACTIVE_SOCKETS",
            Self::Clients => "CLIENTS",
            Self::Config => "CONFIG",
            Self::Databases => "DATABASES",
            Self::Digests => "DIGESTS",
            Self::DnsHosts => "DNS_HOSTS",
            Self::DnsZones => "DNS_ZONES",
            Self::Help => "HELP",
            Self::HotKeys => "HOT_KEYS",
            Self::HotSlots => "HOT_SLOTS",
            Self::InDoubt => "IN_DOUBT",
            Self::Lists => "LISTS",
            Self::Memory => "MEM",
            Self::PeerPools => "PEER_POOLS",
            Self::Peers => "PEERS",
            Self::Plans => "PLANS",
            Self::Pools => "POOLS",
            Self::Prepared => "PREPARED",
            Self::Replicas => "REPLICAS",
            Self::Routing => "ROUTING",
            Self::Servers => "SERVERS",
            Self::Shards => "SHARDS",
            Self::Slots => "SLOTS",
            Self::Sockets => "SOCKETS",
            Self::State => "STATE",
            Self::Stats => "STATS",
            Self::StatsAverages => "STATS_AVERAGES",
            Self::StatsTotals => "STATS_TOTALS",
            Self::Totals => "TOTALS",
            Self::Transactions => "TRANSACTIONS",
            Self::Users => "USERS",
            Self::Version => "VERSION",
        }
    }

    /// What the table has, for Describe in the extended protocol.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Clients => ClientRow::COLUMNS,
            Self::Config => ConfigRow::COLUMNS,
            Self::Databases => DatabaseRow::COLUMNS,
            Self::Digests => DigestRow::COLUMNS,
            Self::DnsHosts => lists::DNS_HOSTS,
            Self::DnsZones => lists::DNS_ZONES,
            Self::Help => HelpRow::COLUMNS,
            Self::HotKeys => HotKeyRow::COLUMNS,
            Self::HotSlots => HotSlotRow::COLUMNS,
            Self::InDoubt => InDoubtRow::COLUMNS,
            Self::Lists => lists::ListRow::COLUMNS,
            Self::Memory => MemoryRow::COLUMNS,
            Self::PeerPools => lists::PEER_POOLS,
            Self::Peers => PeerRow::COLUMNS,
            Self::Plans => PlansRow::COLUMNS,
            Self::Pools => PoolRow::COLUMNS,
            Self::Prepared => PreparedRow::COLUMNS,
            Self::Replicas => ReplicaRow::COLUMNS,
            Self::Routing => RoutingRow::COLUMNS,
            Self::Servers => ServerRow::COLUMNS,
            Self::Shards => ShardRow::COLUMNS,
            Self::Slots => SlotsRow::COLUMNS,
            Self::ActiveSockets | Self::Sockets => SocketRow::COLUMNS,
            Self::State => StateRow::COLUMNS,
            Self::Stats => StatsRow::COLUMNS,
            Self::StatsAverages => AverageRow::COLUMNS,
            Self::StatsTotals => TotalRow::COLUMNS,
            Self::Totals => SumRow::COLUMNS,
            Self::Transactions => TransactionRow::COLUMNS,
            Self::Users => UserRow::COLUMNS,
            Self::Version => VersionRow::COLUMNS,
        }
    }
}

/// Reads one command; case and a trailing semicolon do not matter.
///
/// # Errors
/// 42601 (syntax_error) for anything else.
pub fn parse(sql: &str) -> Result<Command, Error> {
    let text = sql.trim_matches(|c: char| c.is_whitespace() || c == ';');
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if let Some(order) = Order::read(&word.to_ascii_uppercase(), rest.trim()) {
        return Ok(Command::Order(order));
    }
    let words: Vec<String> = text
        .split_whitespace()
        .map(str::to_ascii_uppercase)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => Ok(Command::Empty),
        ["RELOAD"] => Ok(Command::Reload),
        ["SET", _, ..] => set::parse(rest),
        ["SHOW", word] => show(word),
        ["SHOW"] => Err(unknown("SHOW needs to know what".to_owned(), "")),
        [word, ..] => Err(match help::forms(word) {
            forms if forms.is_empty() => {
                unknown(format!("unknown admin command \"{}\"", shortened(text)), "")
            }
            forms => Error::new(
                Fault::Client,
                "42601",
                format!("{word} is not written like this: \"{}\"", shortened(text)),
            )
            .hint(format!("Write {}.", forms.join(", or "))),
        }),
    }
}

fn show(word: &str) -> Result<Command, Error> {
    if let Some((name, why)) = ABSENT.iter().find(|(name, _)| *name == word) {
        let message = format!("SHOW {name} is not supported");
        return Err(Error::new(Fault::Client, "0A000", message)
            .detail(*why)
            .hint("SHOW HELP lists the commands."));
    }
    let known = Show::ALL.into_iter().find(|show| show.name() == word);
    known.map(Command::Show).ok_or_else(|| {
        let likely = Show::ALL
            .into_iter()
            .max_by(|a, b| likeness(word, *a).total_cmp(&likeness(word, *b)))
            .filter(|show| likeness(word, *show) > 0.8);
        let hint = likely.map(|show| format!("Did you mean SHOW {}? ", show.name()));
        let message = format!("unknown table \"{}\"", shortened(word));
        unknown(message, hint.as_deref().unwrap_or_default())
    })
}

fn likeness(word: &str, show: Show) -> f64 {
    strsim::jaro_winkler(word, show.name())
}

/// Enough of a text to recognise it.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

fn unknown(message: String, hint: &str) -> Error {
    Error::new(Fault::Client, "42601", message)
        .detail("This is Ringway's admin database, which has no tables of its own.")
        .hint(format!("{hint}SHOW HELP lists the commands."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, value: &str) -> Command {
        Command::Change(Change {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }

    /// docs/admin.md has every table with its columns, in their order.
    #[test]
    fn every_table_is_documented() {
        let text = include_str!("../../docs/admin.md");
        let mut told = std::collections::HashMap::new();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            if let (Some(names), Some(columns)) = (
                pair[0].strip_prefix("### "),
                pair[1].strip_prefix("Columns: "),
            ) {
                for name in names.split(", ") {
                    told.insert(name, columns);
                }
            }
        }
        for show in Show::ALL {
            let columns = show
                .columns()
                .iter()
                .map(|column| format!("`{}`", column.name));
            let columns = columns.collect::<Vec<_>>().join(", ");
            let name = format!("SHOW {}", show.name());
            assert_eq!(told.remove(&*name), Some(&*columns), "{name}");
        }
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn tables_that_make_no_sense_here_are_refused_by_name() {
        for (name, _) in ABSENT {
            let error = parse(&format!("show {name}")).err().unwrap();
            assert_eq!(error.code, "0A000");
            assert_eq!(error.message, format!("SHOW {name} is not supported"));
        }
    }

    #[test]
    fn commands() {
        let cases = [
            ("", Command::Empty),
            (" ; ;\n", Command::Empty),
            ("reload", Command::Reload),
            ("RELOAD;", Command::Reload),
            ("SET extra_float_digits = 3", Command::Set),
            ("set application_name to 'a b';", Command::Set),
            ("SET max_clients = 5;", change("general.max_clients", "5")),
            (
                "set databases.\"a.b\".pool_mode to 'session'",
                change("databases.\"a.b\".pool_mode", "'session'"),
            ),
            ("show pools", Command::Show(Show::Pools)),
            ("PAUSE", Command::Order(Order::Pause(None))),
            (
                "pause Shop;",
                Command::Order(Order::Pause(Some("Shop".into()))),
            ),
            (
                "RESUME \"my \"\"shop\"\"\"",
                Command::Order(Order::Resume(Some("my \"shop\"".into()))),
            ),
            (
                "kill shop",
                Command::Order(Order::Kill(Some("shop".into()))),
            ),
            (
                "DISABLE shop",
                Command::Order(Order::Disable("shop".into())),
            ),
            ("reset Digests;", Command::Order(Order::ResetDigests)),
            ("KILL_CLIENT 17", Command::Order(Order::KillClient(17))),
            (
                "shutdown wait_for_clients",
                Command::Order(Order::Shutdown(Shutdown::WhenClientsHaveLeft)),
            ),
            ("  Show\n\tClients ;", Command::Show(Show::Clients)),
        ];
        for (sql, command) in cases {
            assert_eq!(parse(sql).ok(), Some(command), "{sql}");
        }
        for show in Show::ALL {
            assert_eq!(
                parse(&format!("SHOW {};", show.name())).ok(),
                Some(Command::Show(show))
            );
        }
    }

    #[test]
    fn what_is_no_command_is_refused_with_a_way_out() {
        let cases = [
            (
                "SELECT 1",
                "unknown admin command \"SELECT 1\"",
                "SHOW HELP lists the commands.",
            ),
            (
                "SHOW",
                "SHOW needs to know what",
                "SHOW HELP lists the commands.",
            ),
            (
                "DISABLE",
                "DISABLE is not written like this: \"DISABLE\"",
                "Write DISABLE db.",
            ),
            (
                "pause a b",
                "PAUSE is not written like this: \"pause a b\"",
                "Write PAUSE [db].",
            ),
            (
                "RELOAD now",
                "RELOAD is not written like this: \"RELOAD now\"",
                "Write RELOAD.",
            ),
            (
                "SHUTDOWN now",
                "SHUTDOWN is not written like this: \"SHUTDOWN now\"",
                "Write SHUTDOWN, or SHUTDOWN WAIT_FOR_SERVERS, or SHUTDOWN WAIT_FOR_CLIENTS.",
            ),
            (
                "HELP",
                "unknown admin command \"HELP\"",
                "SHOW HELP lists the commands.",
            ),
            (
                "SHOW POOL",
                "unknown table \"POOL\"",
                "Did you mean SHOW POOLS? SHOW HELP lists the commands.",
            ),
            (
                "SHOW \0é",
                "unknown table \"\0é\"",
                "SHOW HELP lists the commands.",
            ),
        ];
        for (sql, message, hint) in cases {
            let error = parse(sql).err().unwrap();
            assert_eq!(error.code, "42601");
            assert_eq!(error.message, message);
            assert_eq!(error.hint.as_deref(), Some(hint));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_gets_an_answer(sql in "(?i)(show|set|reload|\\PC{0,5})[ ;]?\\PC{0,80}") {
            if let Err(error) = parse(&sql) {
                proptest::prop_assert!(["42601", "0A000"].contains(&&*error.code));
            }
        }
    }
}
