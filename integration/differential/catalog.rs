//! What tools ask of the system catalogs is answered by one shard, as one server would. The shards'
//! OIDs differ, so that all questions of one description have to meet the same shard.

use std::process::Command;

use ringway::demo::answer::{Answer, ask};
use ringway::demo::tour;

use super::answers::full;
use super::world::{PROTOCOLS, World, file};

/// Commands of psql, which asks the catalogs for each.
const DESCRIBES: [&str; 33] = [
    r"\d",
    r"\dt",
    r"\dt public.*",
    r"\d people",
    r"\d+ people",
    r"\d orders",
    r#"\d "Mixed Case""#,
    r"\d+ plots",
    r"\d kinds",
    r"\d numbered",
    r"\d people_view",
    r"\d+ people_view",
    r"\d people_pkey",
    r"\d nothing",
    r"\di",
    r"\dv+",
    r"\ds",
    r"\dn+",
    r"\df",
    r"\df double",
    r"\sf double",
    r"\dT+",
    r"\dD",
    r"\du",
    r"\dx",
    r"\dp people",
    r"\dO",
    r"\da count",
    r"\do =",
    r"\dC",
    // Of this database alone: others come and go beside it.
    r"\drds ringway described_*",
    r"\dRp",
    r"\ddp",
];

fn psql(url: &str, commands: &[&str]) -> String {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-A"]);
    for command in commands {
        psql.args(["-c", command]);
    }
    let output = psql.arg(url).output().unwrap();
    // What a missing relation is told with comes on the other stream.
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn psql_describes_as_it_does_on_one_server() {
    let world = World::start("described", 4).await;
    let described = tokio::task::spawn_blocking(move || {
        let (ringway, plain) = world.urls(PROTOCOLS[0]);
        let mut found = Vec::new();
        // Each over several connections, since servers take turns.
        for command in DESCRIBES.iter().chain(&DESCRIBES) {
            let (got, wanted) = (psql(&ringway, &[command]), psql(&plain, &[command]));
            if got != wanted {
                found.push(format!("{command}\n{got}\nplain:\n{wanted}"));
            }
        }
        // Their sizes differ, the names do not.
        for command in [r"\l", r"\dt+", r"\db"] {
            let names = |url: &str| -> Vec<String> {
                let output = psql(url, &[command]);
                let first = |line: &str| line.split('|').take(3).collect::<Vec<_>>().join("|");
                output.lines().map(first).collect()
            };
            let (got, wanted) = (names(&ringway), names(&plain));
            let all = wanted
                .iter()
                .all(|line| got.contains(line) || command == r"\l" && line.contains("_"));
            if !all || got.len() < 3 {
                found.push(format!("{command}\n{got:?}\nplain:\n{wanted:?}"));
            }
        }
        found
    });
    let found = described.await.unwrap();
    assert!(
        found.is_empty(),
        "{} differ\n{}",
        found.len(),
        found.join("\n\n")
    );
}

#[tokio::test]
async fn what_tools_ask_of_the_catalogs_is_answered_as_by_one_server() {
    let world = World::start("asked", 4).await;
    let blocks = tour::parse(&file("catalog.sql")).unwrap();
    let mut found = Vec::new();
    for protocol in PROTOCOLS {
        let (ringway, plain) = world.clients(protocol).await;
        for block in &blocks {
            for statement in &block.statements {
                let got = without_oids(ask(&ringway, statement, protocol).await);
                let wanted = without_oids(ask(&plain, statement, protocol).await);
                let failed = matches!(wanted, Answer::Failed { .. });
                if failed || got != wanted {
                    let (title, sql) = (&block.title, &statement.sql);
                    let (got, wanted) = (full(&got), full(&wanted));
                    found.push(format!(
                        "[{title}] {protocol:?}: {sql}\n{got}\nplain: {wanted}"
                    ));
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} differ\n{}",
        found.len(),
        found.join("\n\n")
    );
}

/// An answer in any order, without what each database numbers by itself, in text and in binary.
fn without_oids(answer: Answer) -> Answer {
    let Answer::Rows {
        mut columns,
        mut rows,
    } = answer
    else {
        return answer;
    };
    let is_own = |oid: u32| (16384..100_000).contains(&oid);
    for (_, type_oid) in &mut columns {
        if is_own(*type_oid) {
            *type_oid = 0;
        }
    }
    for value in rows.iter_mut().flatten().flatten() {
        // pgjdbc puts the OID behind a function's name.
        let text = std::str::from_utf8(value).ok();
        let text = text.and_then(|text| text.rsplit('_').next()?.parse().ok());
        let binary = value.as_slice().try_into().ok().map(u32::from_be_bytes);
        if text.or(binary).is_some_and(is_own) {
            *value = b"oid".to_vec();
        }
    }
    Answer::Rows { columns, rows }.unordered()
}
