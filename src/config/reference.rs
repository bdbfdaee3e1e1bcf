//! `docs/configuration.md`, made from `conf/ringway.toml` and from what the code knows.
//!
//! The file has each key with its meaning; the code has the keys that it reads and their defaults. What
//! one of them has and the other has not, or has otherwise, fails here. `REWRITE=1` writes the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::*;

const PAGE: &str = "docs/configuration.md";
const HEAD: &str = "# Configuration\n\n\
    Made from [conf/ringway.toml](../conf/ringway.toml) and from the code by `REWRITE=1 cargo test --lib \
    config::reference`: change it there. It has every section and every key of the TOML file that `-c` names.\n\n\
    - Unknown keys are mistakes, and all mistakes of a file are told at once, by `ringway check --offline` too.\n\
    - Paths are relative to the file.\n\
    - SIGHUP, `RELOAD`, and a look each `watch_interval_s` apply a changed file without dropping a client; a file \
    with mistakes changes nothing. What has \u{201c}restart\u{201d} behind it waits for the next start. `SET` in the admin \
    database changes one key until the next reload.\n\
    - `SHOW CONFIG` in the admin database tells what holds, and the defaults.\n\
    - ms, s and MiB are whole numbers of them, and the end of the key's name. `_` may part digits: `10_000`.\n\
    - A default in code type is the code's own.\n";

/// One line `key = value  # comment`, also one that is commented out.
struct Key {
    /// As in the file, with the user's names as `NAME`: `databases.NAME.shards`.
    section: String,
    name: String,
    value: String,
    comment: String,
    /// Among the lines of the file, from 0.
    line: usize,
    is_commented_out: bool,
}

/// What stands in the file, in its order.
enum Part {
    Section {
        name: String,
        header: String,
    },
    Prose(String),
    Key(Key),
    /// A line of a section whose keys are the user's names.
    Verbatim(String),
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file() -> PathBuf {
    root().join("conf/ringway.toml")
}

fn text() -> String {
    std::fs::read_to_string(file()).unwrap()
}

fn parsed(text: &str) -> Result<Config, ConfigErrors> {
    parse(text, &file(), &|_| None)
}

/// `databases.shop.reads` as `databases.NAME.reads`.
fn general_name(section: &str) -> String {
    let mut words: Vec<&str> = section.split('.').collect();
    if let [first, name, ..] = &mut words[..]
        && matches!(*first, "databases" | "users")
    {
        *name = "NAME";
    }
    if let [_, _, "placements", name] = &mut words[..] {
        *name = "NAME";
    }
    words.join(".")
}

/// Sections whose keys are names that the user gives.
fn has_names_for_keys(section: &str) -> bool {
    let parts = [".tables", ".placements.", ".schemas", ".functions"];
    section == "peers" || parts.iter().any(|part| section.contains(part))
}

/// The name within the brackets of a section's first line.
fn header(line: &str) -> Option<&str> {
    let line = line.trim();
    let inner = line.strip_prefix("[[").and_then(|l| l.strip_suffix("]]"));
    inner.or_else(|| line.strip_prefix('[')?.strip_suffix(']'))
}

/// `key = value  # comment`.
fn assignment(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.split_once(" = ")?;
    let is_key = |b: u8| b.is_ascii_lowercase() || b == b'_';
    if !name.bytes().all(is_key) {
        return None;
    }
    let (value, comment) = rest
        .split_once("  # ")
        .unwrap_or_else(|| rest.split_once(" # ").unwrap_or((rest, "")));
    Some((name, value.trim(), comment.trim()))
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut section = String::new();
    let mut prose: Vec<&str> = Vec::new();
    let mut verbatim = false;
    for (line, whole) in text.lines().enumerate() {
        let bare = whole.strip_prefix("# ").unwrap_or(whole);
        let is_commented_out = bare.len() < whole.len();
        let said = |prose: &mut Vec<&str>| {
            let text = std::mem::take(prose).join(" ");
            (!text.is_empty()).then_some(Part::Prose(text))
        };
        if let Some(found) = header(bare) {
            section = general_name(found);
            verbatim = has_names_for_keys(&section);
            parts.push(Part::Section {
                name: section.clone(),
                header: bare.to_owned(),
            });
            parts.extend(said(&mut prose));
            if verbatim {
                parts.push(Part::Verbatim(whole.to_owned()));
            }
        } else if verbatim && !is_commented_out && !whole.is_empty() {
            parts.push(Part::Verbatim(whole.to_owned()));
        } else if let Some((name, value, comment)) = assignment(bare) {
            parts.extend(said(&mut prose));
            parts.push(Part::Key(Key {
                section: section.clone(),
                name: name.to_owned(),
                value: value.to_owned(),
                comment: comment.to_owned(),
                line,
                is_commented_out,
            }));
        } else if is_commented_out {
            prose.push(bare);
        } else if whole.is_empty() || whole == "#" {
            parts.extend(said(&mut prose));
        } else {
            panic!("conf/ringway.toml, line {}: {whole}", line + 1);
        }
    }
    parts
}

/// The keys of sections that are in tables, each once.
fn keys(text: &str) -> Vec<Key> {
    let mut seen = BTreeSet::new();
    let keys = parts(text).into_iter().filter_map(|part| match part {
        Part::Key(key) => Some(key),
        Part::Section { .. } | Part::Prose(_) | Part::Verbatim(_) => None,
    });
    keys.filter(|key| seen.insert((key.section.clone(), key.name.clone())))
        .collect()
}

/// What a comment says: the default, in words or as the value that is written, the rest, and whether it
/// takes a restart.
struct Told<'a> {
    default: Default<'a>,
    meaning: String,
    restart: bool,
}

#[derive(PartialEq)]
enum Default<'a> {
    Absent,
    /// The value that is written is it; the note may be empty.
    Written {
        note: &'a str,
    },
    Words(&'a str),
}

fn told(comment: &str) -> Told<'_> {
    let (comment, restart) = match comment.strip_suffix("(restart)") {
        Some(rest) => (rest.trim(), true),
        None => (comment, false),
    };
    let is_end = |rest: &str| rest.is_empty() || rest.starts_with([';', ',', ' ']);
    if let Some(rest) = comment.strip_prefix("default").filter(|rest| is_end(rest)) {
        let (note, meaning) = rest.split_once(';').unwrap_or((rest, ""));
        let note = note.trim_start_matches(',').trim();
        return Told {
            default: Default::Written { note },
            meaning: meaning.trim().to_owned(),
            restart,
        };
    }
    let Some((before, after)) = comment.split_once("default: ") else {
        return Told {
            default: Default::Absent,
            meaning: comment.to_owned(),
            restart,
        };
    };
    let (words, behind) = after.split_once("; ").unwrap_or((after, ""));
    let said = [before.trim().trim_end_matches(';'), behind];
    let said: Vec<&str> = said.into_iter().filter(|part| !part.is_empty()).collect();
    Told {
        default: Default::Words(words),
        meaning: said.join("; "),
        restart,
    }
}

/// What SHOW CONFIG calls it, and its default there, for a database, user or shard of any name.
fn shown() -> BTreeMap<(String, String), (String, bool)> {
    let config = parsed(&text()).unwrap_or_else(|errors| panic!("{errors}"));
    let entries = entries(&config).into_iter();
    entries
        .filter_map(|entry| {
            let (section, name) = entry.key.rsplit_once('.')?;
            let mut section = general_name(section);
            if section.starts_with("databases.NAME.shards.") {
                section = "databases.NAME.shards".to_owned();
            }
            let told = (entry.default, !entry.changeable);
            Some(((section, name.to_owned()), told))
        })
        .collect()
}

/// A value as SHOW CONFIG has it.
fn as_shown(value: &str) -> String {
    if value.contains('"') {
        return value.replace(['"', '[', ']'], "");
    }
    value.replace('_', "")
}

fn unit(key: &Key) -> &'static str {
    match key.name.rsplit_once('_').map(|(_, unit)| unit) {
        Some("ms") => "ms",
        Some("s") => "s",
        Some("mib") => "MiB",
        Some(_) | None => match key.value.as_bytes().first() {
            Some(b'"') => "text",
            Some(b'[') => "list",
            Some(b'{') => "table",
            Some(b't' | b'f') => "true, false",
            Some(_) | None => "number",
        },
    }
}

/// Every page that the text names by its path, as a link from docs/.
fn linked(text: &str) -> String {
    let mut linked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("docs/") {
        let (before, from) = rest.split_at(at);
        let end = from.find(".md").map_or(from.len(), |end| end + 3);
        let (path, after) = from.split_at(end);
        let name = path.trim_start_matches("docs/");
        write!(linked, "{before}[{name}]({name})").unwrap();
        rest = after;
    }
    linked + rest
}

fn row(key: &Key, code: Option<&(String, bool)>) -> String {
    let told = told(&key.comment);
    let default = match (&told.default, code) {
        (Default::Written { note: "" }, _) => format!("`{}`", key.value),
        (Default::Written { note }, _) => format!("`{}`: {note}", key.value),
        (Default::Words(words), _) => (*words).to_owned(),
        (Default::Absent, _) => "–".to_owned(),
    };
    let restart = if told.restart { ", restart" } else { "" };
    let meaning = linked(&told.meaning).replace('|', "\\|");
    let default = linked(&default).replace('|', "\\|");
    format!(
        "| `{}`{restart} | {} | {default} | {meaning} |\n",
        key.name,
        unit(key)
    )
}

fn page(text: &str) -> String {
    let code = shown();
    let mut page = HEAD.to_owned();
    let mut seen = BTreeSet::new();
    let mut last = None;
    let parts = parts(text);
    for part in &parts {
        let is_verbatim = matches!(part, Part::Verbatim(_));
        if last == Some("verbatim") && !is_verbatim {
            page.push_str("```\n");
        }
        let kind = match part {
            Part::Section { name, header } => {
                if !seen.insert((name.clone(), String::new())) {
                    last = Some("section");
                    continue;
                }
                let shown = header.replace(".shop", ".NAME").replace(".app", ".NAME");
                let shown = shown.replace(".by_country", ".NAME");
                write!(page, "\n## `{shown}`\n").unwrap();
                "section"
            }
            // What the file's head says is the page's head.
            Part::Prose(_) if last.is_none() => continue,
            Part::Prose(prose) => {
                write!(page, "\n{}\n", linked(prose)).unwrap();
                "prose"
            }
            Part::Key(key) => {
                if !seen.insert((key.section.clone(), key.name.clone())) {
                    continue;
                }
                if last != Some("key") {
                    page.push_str("\n| key | | default | |\n|---|---|---|---|\n");
                }
                let place = (key.section.clone(), key.name.clone());
                page.push_str(&row(key, code.get(&place)));
                "key"
            }
            Part::Verbatim(line) => {
                if last != Some("verbatim") {
                    page.push_str("\n```toml\n");
                }
                page.push_str(line);
                page.push('\n');
                "verbatim"
            }
        };
        last = Some(kind);
    }
    page
}

#[test]
fn the_page_is_as_the_code_has_it() {
    let page = page(&text());
    let path = root().join(PAGE);
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = page.lines().zip(written.lines()).find(|(a, b)| a != b);
    assert!(
        page == written,
        "{PAGE} is not what conf/ringway.toml and the code say; REWRITE=1 writes it: {differs:?}"
    );
}

/// The file with all that is commented out, and a key that nobody knows in every table: what is known there
/// is told for it.
fn probe(text: &str) -> String {
    let mut probe = String::new();
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let is_code = header(bare).is_some() || assignment(bare).is_some();
        let line = if is_code { bare } else { line };
        probe.push_str(&line.replace("{ ", "{ zzz = 1, "));
        probe.push('\n');
        if header(bare).is_some() {
            probe.push_str("zzz = 1\n");
        }
    }
    format!("zzz = 1\n{probe}")
}

/// The keys that the code asks for, by section.
fn known(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mistakes = parsed(&probe(text))
        .expect_err("a probe has mistakes")
        .mistakes;
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for mistake in mistakes {
        assert!(!mistake.what.starts_with("not TOML"), "{mistake}");
        if mistake.what != "unknown key" {
            continue;
        }
        let section = mistake.path.strip_suffix("zzz");
        let section = section.unwrap_or_else(|| panic!("nobody reads {mistake}"));
        let keys = mistake.remedy.strip_prefix("known here: ").unwrap();
        let bare: String = section
            .trim_end_matches('.')
            .split('[')
            .next()
            .unwrap()
            .to_owned();
        known
            .entry(general_name(&bare))
            .or_default()
            .extend(keys.split(", ").map(str::to_owned));
    }
    known
}

#[test]
fn every_key_of_the_code_is_in_the_file() {
    let text = text();
    let known = known(&text);
    let told: BTreeSet<(String, String)> = keys(&text)
        .into_iter()
        .map(|key| (key.section, key.name))
        .collect();
    let sections: BTreeSet<String> = text
        .lines()
        .filter_map(|line| header(line.strip_prefix("# ").unwrap_or(line)))
        .map(general_name)
        .collect();
    let mut missing = Vec::new();
    for (section, keys) in &known {
        for key in keys {
            let path = match section.is_empty() {
                true => key.clone(),
                false => format!("{section}.{key}"),
            };
            let is_section = sections
                .iter()
                .any(|known| *known == path || known.starts_with(&format!("{path}.")));
            let in_names = has_names_for_keys(section) && text.contains(&format!("{key} = "));
            if !is_section && !in_names && !told.contains(&(section.clone(), key.clone())) {
                missing.push(path);
            }
        }
    }
    assert!(missing.is_empty(), "not in conf/ringway.toml: {missing:?}");
    // The probe has seen the sections that matter.
    for (section, key) in [
        ("", "general"),
        ("tls", "client_ca"),
        ("auth", "auth_query"),
        ("auth.hba", "clientname"),
        ("users.NAME", "verifier"),
        ("databases.NAME", "pool_size"),
        ("databases.NAME.reads", "zones"),
        ("databases.NAME.shards", "weight"),
        ("databases.NAME.tables.bills", "default_id"),
        ("databases.NAME.placements.NAME", "ranges"),
        ("databases.NAME.slot_overrides", "slots"),
    ] {
        let keys = known.get(section);
        assert!(
            keys.is_some_and(|keys| keys.contains(key)),
            "{section}: {keys:?}"
        );
    }
}

#[test]
fn every_key_says_what_it_means_and_its_true_default() {
    let text = text();
    let code = shown();
    let lines: Vec<&str> = text.lines().collect();
    let whole = parsed(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let same = |a: &Config, b: &Config| {
        let auth = |config: &Config| format!("{:?}", config.auth);
        a.general == b.general
            && a.tls == b.tls
            && auth(a) == auth(b)
            && a.users == b.users
            && a.databases == b.databases
            && a.peers == b.peers
    };
    for key in keys(&text) {
        let name = format!("{}.{}", key.section, key.name);
        let told = told(&key.comment);
        let has_default = told.default != Default::Absent;
        assert!(
            !told.meaning.is_empty() || has_default,
            "{name} has no comment"
        );
        let code = code.get(&(key.section.clone(), key.name.clone()));
        if let Some((default, restart)) = code {
            match &told.default {
                Default::Written { .. } => assert_eq!(as_shown(&key.value), *default, "{name}"),
                Default::Words(words) if !default.is_empty() && !key.name.starts_with("tcp_") => {
                    let is_told = key.name == "dbname" || key.name.starts_with("auth_query");
                    assert!(
                        is_told || words.starts_with(default.as_str()),
                        "{name}: {words}, {default}"
                    );
                }
                Default::Words(_) => {}
                Default::Absent => assert!(default.is_empty(), "{name}: the default is {default}"),
            }
            assert_eq!(told.restart, *restart, "{name}: restart");
        } else {
            assert!(!told.restart, "{name}: restart");
        }
        if matches!(told.default, Default::Written { .. }) && !key.is_commented_out {
            let mut without = lines.clone();
            without.remove(key.line);
            let without = parsed(&without.join("\n")).unwrap_or_else(|errors| panic!("{errors}"));
            assert!(same(&whole, &without), "{name} is not the default");
        }
    }
}
