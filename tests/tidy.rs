//! The rules of the house that a compiler does not know: which room may import which, no globals,
//! a pure planner, files of a readable length.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What each room of `src/` may import beside itself and, unless it is in there, [`COMMON`]. Imports run one way:
/// session -> executor -> {cluster, pool} -> backend -> wire; admin is a sibling of session.
const IMPORTS: [(&str, &[&str]); 22] = [
    ("admin", &["backend", "cluster", "executor", "pool", "wire"]),
    ("analyze", &["cluster"]),
    ("app", &["*"]),
    ("backend", &["wire"]),
    ("cli", &[]),
    ("cluster", &["backend", "wire"]),
    ("config", &["error"]),
    ("demo", &[]),
    ("error", &[]),
    ("executor", &["backend", "cluster", "pool", "wire"]),
    ("http", &["cluster", "pool"]),
    ("import", &[]),
    ("lib", &[]),
    ("log", &[]),
    ("main", &["*"]),
    ("metrics", &[]),
    ("net", &["config", "error"]),
    ("pool", &["backend", "wire"]),
    (
        "session",
        &["backend", "cluster", "executor", "pool", "spans", "wire"],
    ),
    ("spans", &[]),
    ("top", &["http"]),
    ("wire", &[]),
];

/// Rooms that every other room may import.
const COMMON: [&str; 4] = ["config", "error", "metrics", "net"];

/// Crates that the planner may depend on: none of them touches the world.
const PLANNER_DEPENDENCIES: [&str; 1] = ["sqlparser"];

/// Words that have no place in the planner.
const IMPURE: [&str; 8] = [
    ".await",
    "async fn",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time",
];

/// What makes a value global.
const GLOBALS: [&str; 5] = [
    "LazyLock",
    "LazyCell",
    "OnceLock",
    "lazy_static!",
    "thread_local!",
];

/// Lines; a longer file has more than one subject.
const LONGEST_FILE: usize = 900;

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let room = room_of(&file);
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!(
                "{}: the room `{room}` is not in the table",
                file.display()
            ));
            continue;
        };
        for import in imports(&code_of(&file)) {
            let known = IMPORTS.iter().any(|(name, _)| *name == import);
            let import = import.as_str();
            let common = COMMON.contains(&import) && !COMMON.contains(&room.as_str());
            let free = import == room || common || *allowed == ["*"];
            if known && !free && !allowed.contains(&import) {
                wrong.push(format!(
                    "{}: `{room}` may not import `{import}`",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_imports_has_no_cycle() {
    // Taking away what imports nothing that is left ends with nothing, unless there is a cycle.
    let mut left: Vec<_> = IMPORTS
        .iter()
        .filter(|(_, allowed)| *allowed != ["*"])
        .collect();
    loop {
        let names: BTreeSet<_> = left.iter().map(|(name, _)| *name).collect();
        let before = left.len();
        left.retain(|(_, allowed)| allowed.iter().any(|import| names.contains(import)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "these import each other: {left:?}");
}

#[test]
fn the_planner_is_pure() {
    let manifest = std::fs::read_to_string(root().join("planner/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    for section in ["dependencies", "build-dependencies"] {
        let Some(toml::Value::Table(found)) = manifest.get(section) else {
            continue;
        };
        for name in found.keys() {
            let allowed = PLANNER_DEPENDENCIES.contains(&name.as_str());
            assert!(
                allowed,
                "planner/Cargo.toml: {name} is not among {PLANNER_DEPENDENCIES:?}"
            );
        }
    }
    for file in rust_files("planner/src") {
        let code = code_of(&file);
        for word in IMPURE {
            assert!(
                !code.contains(word),
                "{}: `{word}` in the planner",
                file.display()
            );
        }
    }
}

#[test]
fn there_are_no_globals() {
    for file in rust_files("src")
        .into_iter()
        .chain(rust_files("planner/src"))
    {
        let code = code_of(&file);
        // The language knows no other way to choose an allocator.
        let code = code.replace("#[global_allocator]\nstatic", "");
        for line in code.lines() {
            let words: Vec<&str> = line.split_whitespace().take(2).collect();
            let item = match words.as_slice() {
                ["static", ..] => true,
                [visibility, "static"] => visibility.starts_with("pub"),
                _ => false,
            };
            let global = item || GLOBALS.iter().any(|word| line.contains(word));
            assert!(!global, "{}: a global: {}", file.display(), line.trim());
        }
    }
}

#[test]
fn files_are_short_enough_to_read() {
    let rooms = ["src", "planner", "integration", "tests", "benches", "fuzz"];
    for file in rooms.into_iter().flat_map(rust_files) {
        let lines = std::fs::read_to_string(root().join(&file))
            .unwrap()
            .lines()
            .count();
        assert!(
            lines <= LONGEST_FILE,
            "{}: {lines} lines, split it",
            file.display()
        );
    }
}

/// Lines such as "- `src/app.rs`: `serve`, `accept`".
#[test]
fn the_life_of_a_query_names_what_exists() {
    let text = std::fs::read_to_string(root().join("docs/life-of-a-query.md")).unwrap();
    let mut named = 0;
    for line in text.lines() {
        let Some((file, functions)) = line
            .strip_prefix("- `")
            .and_then(|line| line.split_once("`: "))
        else {
            continue;
        };
        let code = code_of(Path::new(file));
        for function in functions.split(", ").map(|name| name.trim_matches('`')) {
            let defined = ["(", "<"]
                .iter()
                .any(|after| code.contains(&format!("fn {function}{after}")));
            assert!(defined, "{file} has no function {function}");
            named += 1;
        }
    }
    assert!(named >= 40, "only {named} functions were looked for");
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::wire::Frame;\nuse crate::{net::Stream, pool::{Lease, Pool}, error};\n\
                fn f() -> crate::session::Session {}\npub(in crate::demo) fn g() {}";
    let expected = ["demo", "error", "net", "pool", "session", "wire"];
    assert_eq!(imports(code), expected.map(str::to_owned).into());
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory of the repository, by its path from the root.
fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::from(directory)];
    while let Some(directory) = pending.pop() {
        // A room may not have been built yet.
        let Ok(entries) = std::fs::read_dir(root().join(&directory)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// `src/pool/lease.rs` and `src/pool.rs` belong to `pool`.
fn room_of(file: &Path) -> String {
    let below = file.strip_prefix("src").unwrap();
    let first = below.components().next().unwrap().as_os_str();
    Path::new(first)
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

/// The file without lines that are comments.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// The rooms that code names after `crate::`.
fn imports(code: &str) -> BTreeSet<String> {
    code.split("crate::")
        .skip(1)
        .flat_map(first_names)
        .filter(|name| !name.is_empty())
        .collect()
}

/// The first name of a path, or those of each path in a group of braces.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let text = text.trim_start();
        text.chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut names = vec![name(group)];
    let mut depth = 1;
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(name(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}
