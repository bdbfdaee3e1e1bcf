//! Users as PgCat and PgDog have them, each of one or more databases, made into Ringway's.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{Draft, Section};
use super::notes::Notes;

/// A user at the servers, and its password.
type ServerLogin = (String, Option<String>);

/// Who asks the servers of a database for one of its users.
struct Whom {
    place: String,
    /// The user itself.
    own: ServerLogin,
    /// Somebody else for it.
    server: Option<ServerLogin>,
}

impl Whom {
    fn login(&self) -> &ServerLogin {
        self.server.as_ref().unwrap_or(&self.own)
    }
}

/// A user as it is written for some databases.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// For notes.
    pub(super) place: String,
    pub(super) name: String,
    pub(super) password: Option<String>,
    pub(super) databases: Vec<String>,
    /// Keys of `[users.NAME]`.
    pub(super) settings: Section,
    /// As whom servers are asked, where it is not the user itself.
    pub(super) server: Option<ServerLogin>,
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    Scram,
    Md5,
    Trust,
}

impl Login {
    fn name(self) -> &'static str {
        match self {
            Self::Scram => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Trust => "trust",
        }
    }
}

/// Who may use the admin database, and the password.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) place: String,
    pub(super) name: String,
    pub(super) password: String,
}

/// Writes the users, who logs in to servers, and rules that let everybody into their own databases only.
pub(super) fn write(
    accounts: Vec<Account>,
    admin: Option<Admin>,
    login: Login,
    draft: &mut Draft,
    notes: &Notes,
) {
    let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut servers: BTreeMap<String, Vec<Whom>> = BTreeMap::new();
    for account in accounts {
        for database in &account.databases {
            if draft.databases.contains_key(database) {
                let names = members.entry(database.clone()).or_default();
                names.insert(account.name.clone());
                let whom = Whom {
                    place: account.place.clone(),
                    own: (account.name.clone(), account.password.clone()),
                    server: account.server.clone(),
                };
                servers.entry(database.clone()).or_default().push(whom);
            } else {
                let setting = format!("{}: database {database}", account.place);
                notes.dropped(setting, "there is no such database");
            }
        }
        user(account, draft, notes);
    }
    for (database, whom) in &servers {
        server_user(database, whom, draft, notes);
    }
    monitors(&servers, draft, notes);
    let admin = admin.map(|admin| administrator(admin, draft, notes));
    rules(&members, admin, login, draft, notes);
}

fn user(account: Account, draft: &mut Draft, notes: &Notes) {
    let place = &account.place;
    let Some(known) = draft.users.get(&account.name) else {
        let mut section = account.settings;
        section.set_some("password", account.password);
        draft.users.insert(account.name, section);
        return;
    };
    let mut other = account.settings;
    other.set_some("password", account.password);
    if *known != other {
        let why = "the user is written before with another password or other limits, which hold for all \
                   its databases: Ringway knows a user once";
        notes.dropped(place.clone(), why);
    }
}

/// Who logs in to the servers of a database: one for all its users, or each as itself.
fn server_user(database: &str, whom: &[Whom], draft: &mut Draft, notes: &Notes) {
    let Some(database) = draft.databases.get_mut(database) else {
        return;
    };
    let known = database.settings.get("server_user").is_some();
    let Some(first) = whom.iter().find(|whom| whom.server.is_some() && !known) else {
        return;
    };
    let (name, password) = first.login().clone();
    if whom.iter().all(|whom| whom.login() == first.login()) {
        database.settings.set("server_user", name);
        database.settings.set_some("server_password", password);
        return;
    }
    for Whom { place, .. } in whom.iter().filter(|whom| whom.server.is_some()) {
        let why = "the users of the database log in to its servers as different users, and Ringway has \
                   one server_user for a database: each logs in as itself";
        notes.dropped(format!("{place}: user at the servers"), why);
    }
}

/// A database whose servers have to be watched needs a user for that: one that is known there.
fn monitors(servers: &BTreeMap<String, Vec<Whom>>, draft: &mut Draft, notes: &Notes) {
    for (name, database) in &mut draft.databases {
        let is_watched = database
            .settings
            .get("servers")
            .is_none_or(|servers| servers.as_array().is_some_and(|servers| servers.len() > 1));
        if !is_watched || database.settings.get("server_user").is_some() {
            continue;
        }
        let logins = servers.get(name).into_iter().flatten().map(Whom::login);
        let mut logins: Vec<_> = logins.filter(|(_, password)| password.is_some()).collect();
        logins.sort();
        if let Some((user, password)) = logins.first() {
            let why = "it is also asked for roles, lag and the schema now: make it a member of pg_monitor, or \
                       write a monitor_user that is";
            notes.changed(format!("user {user} of database {name}"), why);
            database.settings.set("monitor_user", user.clone());
            database
                .settings
                .set_some("monitor_password", password.clone());
        }
    }
}

fn administrator(admin: Admin, draft: &mut Draft, notes: &Notes) -> String {
    match draft.users.get(&admin.name) {
        None => {
            let mut section = Section::default();
            section.set("password", admin.password);
            draft.users.insert(admin.name.clone(), section);
        }
        Some(known)
            if known.get("password").and_then(toml::Value::as_str) != Some(&admin.password) =>
        {
            let why = "there is a user of that name, who keeps its own password";
            notes.changed(format!("{}: password = ***", admin.place), why);
        }
        Some(_) => {}
    }
    draft.general.set("admin_users", vec![admin.name.clone()]);
    admin.name
}

/// Without rules everybody may try every database, and proves itself by its password.
fn rules(
    members: &BTreeMap<String, BTreeSet<String>>,
    admin: Option<String>,
    login: Login,
    draft: &mut Draft,
    notes: &Notes,
) {
    let everybody: BTreeSet<_> = members.values().flatten().collect();
    let all_everywhere = draft.databases.keys().all(|name| {
        members
            .get(name)
            .is_some_and(|names| names.len() == everybody.len())
    });
    if all_everywhere && login == Login::Scram {
        return;
    }
    let mut rule = |databases: Vec<String>, users: Vec<String>, login: Login| {
        for transport in ["host", "local"] {
            let mut section = Section::default();
            section.set("type", transport);
            section.set("database", databases.clone());
            section.set("user", users.clone());
            if transport == "host" {
                section.set("address", "all");
            }
            section.set("method", login.name());
            draft.rules.push(section);
        }
    };
    if let Some(admin) = admin {
        let names = ["ringway", "pgbouncer"].map(str::to_owned);
        rule(names.to_vec(), vec![named(&admin)], Login::Scram);
    }
    for (database, users) in members {
        rule(
            vec![named(database)],
            users.iter().map(|user| named(user)).collect(),
            login,
        );
    }
    let why = "the rules of [[auth.hba]] let each into its own databases only, as before";
    notes.changed("databases of users", why);
}

/// A name that stands for itself, though it look like a keyword or an expression of the rules.
fn named(name: &str) -> String {
    let keyword = ["all", "sameuser", "samerole", "replication", "samegroup"].contains(&name);
    match keyword || name.starts_with(['/', '+', '@']) {
        true => format!("/^{}$", regex::escape(name)),
        false => name.to_owned(),
    }
}
