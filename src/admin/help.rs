//! SHOW HELP.

use super::Show;
use super::table::{Cell, Column, Row, text};

pub struct HelpRow {
    command: String,
    meaning: &'static str,
}

impl HelpRow {
    /// Every command.
    pub fn all() -> Vec<Self> {
        let show = |show: Show| Self {
            command: format!("SHOW {}", show.name()),
            meaning: meaning(show),
        };
        let mut rows: Vec<Self> = Show::ALL.into_iter().map(show).collect();
        let meaning = "Reads the configuration again; a file with mistakes changes nothing.";
        rows.push(Self {
            command: "RELOAD".to_owned(),
            meaning,
        });
        rows.push(Self {
            command: "SET key = value".to_owned(),
            meaning: "Changes a setting until the next RELOAD; keys as in SHOW CONFIG.",
        });
        rows.extend(ORDERS.map(|(command, meaning)| Self {
            command: command.to_owned(),
            meaning,
        }));
        rows
    }
}

/// How the command that begins with `word` is written; empty when there is none. SHOW is not one of
/// them: its tables are many.
pub(super) fn forms(word: &str) -> Vec<String> {
    let of_word = |row: &HelpRow| row.command.split(' ').next() == Some(word);
    let rows = HelpRow::all().into_iter().filter(of_word);
    rows.filter(|row| !row.command.starts_with("SHOW "))
        .map(|row| row.command)
        .collect()
}

const ORDERS: [(&str, &str); 12] = [
    (
        "PAUSE [db]",
        "Waits until server connections are free and closes them; statements wait.",
    ),
    ("RESUME [db]", "Ends PAUSE and KILL."),
    ("DISABLE db", "Refuses new clients."),
    ("ENABLE db", "Lets new clients in again."),
    (
        "KILL [db]",
        "Ends clients and server connections at once; statements wait until RESUME.",
    ),
    (
        "KILL_CLIENT id",
        "Ends one client; SHOW CLIENTS has its number.",
    ),
    (
        "RECONNECT [db]",
        "Closes each server connection when it is free.",
    ),
    (
        "WAIT_CLOSE [db]",
        "Waits until RECONNECT and RELOAD have closed what they had to.",
    ),
    (
        "RESET DIGESTS",
        "Query digests, hot keys and hot slots begin anew.",
    ),
    ("SHUTDOWN", "Ends the process at once."),
    (
        "SHUTDOWN WAIT_FOR_SERVERS",
        "Ends the process when transactions have ended.",
    ),
    (
        "SHUTDOWN WAIT_FOR_CLIENTS",
        "Ends the process when all clients have left.",
    ),
];

fn meaning(show: Show) -> &'static str {
    match show {
        Show::ActiveSockets => "Of SHOW SOCKETS, those that somebody works or waits on.",
        Show::Clients => "Connections of clients.",
        Show::Config => "Settings in force, and which of them RELOAD can change.",
        Show::Databases => "Databases, a row for each of their servers.",
        Show::Digests => "Statements by shape: calls, errors, rows, times, shards, hot keys.",
        Show::DnsHosts | Show::DnsZones => "Nothing: names are looked up for every connection.",
        Show::Help => "This table.",
        Show::HotKeys => "Sharding keys that most statements are about.",
        Show::HotSlots => "Slots that most statements are about.",
        Show::InDoubt => {
            "Transactions that are prepared on a shard, and that no commit here is at work on."
        }
        Show::Lists => "How many there are of everything.",
        Show::Memory => "What plans and prepared statements take.",
        Show::PeerPools => "Nothing: a cancel for a peer has a connection of its own.",
        Show::Plans => "The plan cache of each database.",
        Show::Prepared => "Statements that clients have prepared, without their values.",
        Show::Slots => "Which shard owns which slots.",
        Show::Peers => "Other processes that CancelRequests are passed on to.",
        Show::Pools => "Clients and server connections for each database and user.",
        Show::Replicas => "Servers with role, health and lag.",
        Show::Routing => "Reads by the role of the server that answered, and why it did.",
        Show::Servers => "Connections to servers.",
        Show::Shards => "Shards with their slots and their primary.",
        Show::Sockets => "Connections of clients and to servers.",
        Show::State => "Whether all databases are paused.",
        Show::Stats => "Totals and averages for each database.",
        Show::StatsAverages => "The averages of SHOW STATS.",
        Show::StatsTotals => "The totals of SHOW STATS.",
        Show::Totals => "SHOW STATS over all databases.",
        Show::Transactions => "Commits over several shards that are under way here.",
        Show::Users => "Users and their connections.",
        Show::Version => "Ringway's version.",
    }
}

impl Row for HelpRow {
    const COLUMNS: &'static [Column] = &[text("command"), text("meaning")];

    fn cells(self) -> Vec<Cell> {
        vec![self.command.into(), self.meaning.into()]
    }
}
