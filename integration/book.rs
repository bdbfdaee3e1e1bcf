//! The SQL of the operator's book, through Ringway over two shards.
//!
//! Every block of `sql` in `docs/` and README.md is run, in a session of its own, after the tables of
//! `docs/concepts.md` were made. A comment `-- 0A000` behind a statement tells the SQLSTATE that it gets. Of a
//! `console` block those lines are run that begin with `shop=>`; what stands below has to be in the answer, lines
//! with `…` aside.

use std::path::Path;
use std::process::Command;

use ringway::demo::captive::Spec;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{self, Ringway};

/// A block of code with its language and where it is.
struct Block {
    place: String,
    language: String,
    text: String,
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The page with the tables first.
fn blocks() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    let mut pages: Vec<_> = docs.map(|entry| entry.unwrap().path()).collect();
    pages.push(root.join("README.md"));
    pages.retain(|path| path.extension().is_some_and(|ext| ext == "md"));
    pages.sort_by_key(|path| (!path.ends_with("concepts.md"), path.clone()));
    let mut blocks = Vec::new();
    for page in pages {
        let text = read(&page);
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let Some(language) = line.trim().strip_prefix("```") else {
                continue;
            };
            let code = lines.by_ref().map(|(_, line)| line);
            let code: Vec<&str> = code.take_while(|line| line.trim() != "```").collect();
            blocks.push(Block {
                place: format!("{}:{}", page.file_name().unwrap().display(), at + 1),
                language: language.to_owned(),
                text: code.join("\n"),
            });
        }
    }
    blocks
}

/// The statements of a text, each with the SQLSTATE that is expected.
fn statements(text: &str) -> Vec<(String, Option<String>)> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    for line in text.lines() {
        let (sql, comment) = line.split_once("--").unwrap_or((line, ""));
        statement += line;
        statement.push('\n');
        let is_whole = statement.matches("$$").count().is_multiple_of(2);
        if is_whole && sql.trim_end().ends_with(';') {
            let code = comment.trim();
            let is_code = code.len() == 5 && code.bytes().all(|b| b.is_ascii_alphanumeric());
            let told = is_code.then(|| code.to_owned());
            statements.push((std::mem::take(&mut statement), told));
        }
    }
    if !statement.trim().is_empty() {
        statements.push((statement, None));
    }
    statements
}

/// The configuration of the tables is the one that the page shows.
fn config(cluster: &ringway::demo::captive::CaptiveCluster, tables: &str, port: u16) -> String {
    let mut toml = format!(
        "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
         [databases.shop]\nserver_user = \"ringway\"\nreads = {{ split = true }}\n{tables}\n\
         [databases.shop.placements.by_year]\nranges = [{{ to = 2026-01-01, shard = \"s1\" }}, \
         {{ from = 2026-01-01, shard = \"s2\" }}]\n"
    );
    for (at, shard) in cluster.shards.iter().enumerate() {
        let port = shard.primary.port;
        toml += &format!(
            "[[databases.shop.shards]]\nname = \"s{}\"\nservers = [\"127.0.0.1:{port}\"]\n",
            at + 1
        );
    }
    toml
}

async fn run(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    let answer = client.simple_query(sql).await.map_err(|error| {
        let code = error.code().map_or("", |code| code.code()).to_owned();
        let told = error.as_db_error().map(ToString::to_string);
        format!("{code} {}", told.unwrap_or(error.to_string()))
    })?;
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    };
    Ok(answer.iter().filter_map(row).collect())
}

#[tokio::test]
async fn the_books_sql_runs() {
    let blocks = blocks();
    let cluster = support::cluster(&Spec {
        shards: 2,
        ..Spec::default()
    });
    for shard in &cluster.shards {
        shard.primary.exec("CREATE ROLE asker LOGIN").unwrap();
    }
    let tables = blocks
        .iter()
        .find(|block| block.language == "toml" && block.place.starts_with("concepts.md"))
        .expect("the classes of the tables");
    let ringway = Ringway::start(|port| config(&cluster, &tables.text, port));
    let init = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["init", "-c"])
        .arg(ringway.config_file())
        .output()
        .unwrap();
    assert!(init.status.success(), "{init:?}");
    let url = format!("postgresql://ringway@127.0.0.1:{}/shop", ringway.port());
    let (mut faults, mut ran) = (Vec::new(), 0);
    for block in &blocks {
        let client = support::client(&url).await;
        if block.language == "sql" {
            for (sql, expected) in statements(&block.text) {
                ran += 1;
                let answer = run(&client, &sql).await;
                let code = answer.as_ref().err().map(|error| &error[..5]);
                if code != expected.as_deref() {
                    faults.push(format!("{}: {sql} {answer:?}", block.place));
                }
            }
        } else if block.language == "console" {
            let mut answer = Vec::new();
            for line in block.text.lines() {
                if let Some(sql) = line.strip_prefix("shop=> ") {
                    ran += 1;
                    match run(&client, sql).await {
                        Ok(rows) => answer = rows,
                        Err(error) => faults.push(format!("{}: {sql}: {error}", block.place)),
                    }
                } else if !answer.is_empty()
                    && !line.contains('…')
                    && !answer.iter().any(|row| row.trim() == line.trim())
                {
                    faults.push(format!("{}: {line:?} is not in {answer:#?}", block.place));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(ran > 20, "only {ran} statements were found");
}
