//! The operator's book, `docs/` and README.md: its links lead somewhere, its configurations are accepted, its
//! commands can be typed, and it has every SQLSTATE and every refusal of the code.
//!
//! Its SQL is run by `integration/book.rs`, its refusals and rewrites by `planner/tests/refused.rs`, and
//! `docs/configuration.md` is written by `src/config/reference.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Parser;
use ringway::cli::Cli;
use ringway::config;

/// Languages of code blocks. What is in none of them is `text`.
const LANGUAGES: [&str; 9] = [
    "console", "ini", "json", "mermaid", "sh", "sql", "text", "toml", "yaml",
];

/// What a block of TOML that leaves things out is laid over: what the block has goes before, and a database with
/// `servers` loses these shards and what needs them.
const FRAME: &str = r#"
[general]
peer_id = 1
[users.app]
password = "x"
[users.operator]
password = "x"
[users.monitor]
password = "x"
[databases.shop]
server_user = "shop"
[[databases.shop.shards]]
name = "s1"
servers = ["10.0.0.1:5432"]
[[databases.shop.shards]]
name = "s2"
servers = ["10.0.0.2:5432"]
[databases.shop.placements.by_country]
list = { s1 = ["NO"] }
[databases.shop.placements.by_year]
ranges = [{ to = 2026-01-01, shard = "s1" }]
"#;

/// A fenced block of code.
struct Block {
    page: String,
    /// Of the fence, from 1.
    line: usize,
    language: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All pages, by their path from the root.
fn pages() -> BTreeMap<String, String> {
    let mut pages = vec![PathBuf::from("README.md"), PathBuf::from("ARCHITECTURE.md")];
    for directory in ["docs", "docs/adr"] {
        let entries = std::fs::read_dir(root().join(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        pages.extend(
            names
                .map(|name| Path::new(directory).join(name))
                .filter(|path| path.extension().is_some_and(|ext| ext == "md")),
        );
    }
    pages
        .into_iter()
        .map(|path| (path.to_str().unwrap().to_owned(), read(path)))
        .collect()
}

/// The book without the records of decisions.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for (page, text) in pages() {
        if page.starts_with("docs/adr/") {
            continue;
        }
        let mut open: Option<Block> = None;
        for (at, line) in text.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            match (fence, &mut open) {
                (Some(language), None) => {
                    open = Some(Block {
                        page: page.clone(),
                        line: at + 1,
                        language: language.trim().to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => {
                    block.text += line;
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{page}: a block of code does not end");
    }
    blocks
}

#[track_caller]
fn check_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_block_of_code_has_a_language() {
    let faults: Vec<String> = blocks()
        .iter()
        .filter(|block| !LANGUAGES.contains(&&*block.language))
        .map(|block| format!("{}:{}: ```{}", block.page, block.line, block.language))
        .collect();
    check_none(&faults);
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if !in_code && heading.len() < line.len() && heading.starts_with(' ') {
            anchors.insert(anchor(heading));
        }
    }
    anchors
}

/// Where the links of a page lead, code aside.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        in_block ^= line.trim_start().starts_with("```");
        if in_block {
            continue;
        }
        let prose: Vec<&str> = line.split('`').step_by(2).collect();
        let prose = prose.join("`");
        for after in prose.split("](").skip(1) {
            links.extend(after.split_once(')').map(|(link, _)| link.to_owned()));
        }
    }
    links
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut faults = Vec::new();
    for (page, text) in &pages {
        for link in links(text) {
            if link.contains("://") {
                continue;
            }
            let (file, wanted) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => PathBuf::from(page),
                file => Path::new(page).parent().unwrap().join(file),
            };
            let path = root().join(&target);
            if !path.exists() {
                faults.push(format!("{page}: there is no {link}"));
            } else if !wanted.is_empty() && !anchors(&read(&target)).contains(wanted) {
                faults.push(format!("{page}: there is no heading for {link}"));
            }
        }
    }
    check_none(&faults);
}

#[test]
fn the_contents_have_every_page() {
    let contents = links(&read("docs/README.md"));
    let faults: Vec<String> = pages()
        .into_keys()
        .filter_map(|page| Some(page.strip_prefix("docs/")?.to_owned()))
        .filter(|page| page != "README.md" && !page.contains('/') && !contents.contains(page))
        .map(|page| format!("docs/README.md has no link to {page}"))
        .collect();
    check_none(&faults);
}

/// Puts `over` into `base`, table by table.
fn lay(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(table)) => lay(below, table),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn framed(block: toml::Table) -> toml::Table {
    let mut whole: toml::Table = toml::from_str(FRAME).unwrap();
    lay(&mut whole, block);
    let databases = whole["databases"].as_table_mut().unwrap();
    for (_, database) in databases.iter_mut() {
        let database = database.as_table_mut().unwrap();
        if database.contains_key("servers") {
            database.remove("shards");
            database.remove("placements");
        }
    }
    whole
}

#[test]
fn every_configuration_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    // The files that blocks name.
    for (name, text) in [
        ("server.crt", key.cert.pem()),
        ("clients.crt", key.cert.pem()),
        ("ca.crt", key.cert.pem()),
        ("ringway.crt", key.cert.pem()),
        ("server.key", key.key_pair.serialize_pem()),
        ("ringway.key", key.key_pair.serialize_pem()),
        ("userlist.txt", "\"listed\" \"x\"\n".to_owned()),
        ("pg_hba.conf", "host all all all scram-sha-256\n".to_owned()),
        ("pg_ident.conf", String::new()),
        ("shop.password", "x\n".to_owned()),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let env = |name: &str| name.ends_with("_PASSWORD").then(|| "x".to_owned());
    let mut faults = Vec::new();
    for block in blocks().iter().filter(|block| block.language == "toml") {
        let place = format!("{}:{}", block.page, block.line);
        let text = match toml::from_str(&block.text) {
            Ok(table) => toml::to_string(&framed(table)).unwrap(),
            Err(error) => {
                faults.push(format!("{place}: {error}"));
                continue;
            }
        };
        if let Err(mistakes) = config::parse(&text, &directory.path().join("ringway.toml"), &env) {
            faults.push(format!("{place}: {mistakes}"));
        }
    }
    check_none(&faults);
}

/// The words of a command as a shell parts them, as far as the book uses one; a comment ends it.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_can_be_typed() {
    let targets = read("Makefile");
    let benches = ["proxy", "route"];
    let (mut faults, mut tried) = (Vec::new(), 0);
    for block in blocks().iter().filter(|block| block.language == "sh") {
        for line in block.text.replace("\\\n", " ").lines() {
            let words = words(line);
            let words = words.iter().map(String::as_str);
            // What comes behind is the shell's.
            let words: Vec<&str> = words.take_while(|word| *word != ">").collect();
            let wrong = match &words[..] {
                ["ringway", ..] => Cli::try_parse_from(&words).err().map(|e| e.to_string()),
                ["make", target, ..] => (!targets.contains(&format!("\n{target}:")))
                    .then(|| format!("no target {target}")),
                ["cargo", "bench", rest @ ..] => {
                    let name = rest.iter().skip_while(|word| **word != "--bench").nth(1);
                    let name = name.filter(|name| !benches.contains(name));
                    name.map(|name| format!("no benchmark {name}"))
                }
                _ => continue,
            };
            tried += 1;
            faults.extend(wrong.map(|why| format!("{}:{}: {line}: {why}", block.page, block.line)));
        }
    }
    check_none(&faults);
    assert!(tried >= 8, "only {tried} commands were found");
}

/// The code of every room, and of the planner if asked for, tests aside.
fn code(directories: &[&str]) -> String {
    let mut left: Vec<PathBuf> = directories.iter().map(|dir| root().join(dir)).collect();
    let mut code = String::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
        } else if !path.ends_with("tests.rs") && !path.to_string_lossy().contains("/demo/") {
            let text = read(&path);
            code += text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default();
        }
    }
    code
}

/// String literals that are SQLSTATEs.
fn sqlstates(code: &str) -> BTreeSet<&str> {
    let is_sqlstate = |text: &&str| {
        let class = text.get(..2).unwrap_or_default();
        let known =
            ["F0", "P0", "XX"].contains(&class) || class.starts_with(|c: char| c.is_ascii_digit());
        let is_word = |b: u8| b.is_ascii_digit() || b.is_ascii_uppercase();
        text.len() == 5 && known && text.bytes().all(is_word)
    };
    code.split('"').filter(is_sqlstate).collect()
}

#[test]
fn troubleshooting_has_every_sqlstate() {
    let page = read("docs/troubleshooting.md");
    // Its own line of a table, or a heading.
    let first: String = page
        .lines()
        .filter_map(|line| match line.strip_prefix("| ") {
            Some(row) => row.split(" |").next(),
            None => line.strip_prefix("## "),
        })
        .map(|cell| format!("{cell}\n"))
        .collect();
    let code = code(&["src", "planner/src"]);
    let made = sqlstates(&code);
    // What is no error, a number, and what servers' errors are compared with.
    let none = ["00000", "10000", "23503"];
    let missing: Vec<String> = made
        .iter()
        .filter(|code| !none.contains(*code) && !first.contains(**code))
        .map(|code| format!("docs/troubleshooting.md says nothing of {code}"))
        .collect();
    assert!(made.len() > 50, "only {} were found", made.len());
    check_none(&missing);
}

/// The first literal of each call of `call`, with `…` for what is put into it.
fn messages(code: &str, call: &str) -> BTreeSet<String> {
    let mut messages = BTreeSet::new();
    for (at, _) in code.match_indices(call) {
        let rest = code[at + call.len()..].trim_start();
        let rest = rest.strip_prefix("format!(").unwrap_or(rest).trim_start();
        let Some(rest) = rest.strip_prefix('"') else {
            continue;
        };
        let mut message = String::new();
        let (mut escaped, mut inside) = (false, false);
        for c in rest.chars() {
            match c {
                '"' if !escaped => break,
                '\\' if !escaped => {
                    escaped = true;
                    continue;
                }
                '{' => message.push('…'),
                _ if inside || c == '\n' => {}
                _ => message.push(c),
            }
            inside = c == '{' || inside && c != '}';
            escaped = false;
        }
        messages.insert(message.replace('}', ""));
    }
    messages
}

#[test]
fn the_page_of_refusals_has_those_of_sessions() {
    let page = read("docs/refused.md");
    let messages = messages(&code(&["src"]), "Refusal::unsupported(");
    assert!(messages.len() > 20, "only {} were found", messages.len());
    let missing: Vec<String> = messages
        .iter()
        .filter(|message| !page.contains(*message))
        .map(|message| format!("docs/refused.md says nothing of: {message}"))
        .collect();
    check_none(&missing);
}
