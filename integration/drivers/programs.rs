//! The programs, one per driver: how each is started, and what a run of it says.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// For everything that one program checks on one target.
const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);

pub struct Program {
    /// The driver's name; the table that its program uses is called the same.
    pub name: &'static str,
    /// What `scripts/install-drivers` installs together.
    pub group: &'static str,
    /// `{tools}` is the directory of installed tools, `{here}` is `integration/drivers`.
    command: &'static str,
    /// It runs migrations, and is asked for nothing else.
    pub migrates: bool,
}

const fn program(name: &'static str, group: &'static str, command: &'static str) -> Program {
    Program {
        name,
        group,
        command,
        migrates: false,
    }
}

const fn migrations(name: &'static str, group: &'static str, command: &'static str) -> Program {
    Program {
        migrates: true,
        ..program(name, group, command)
    }
}

#[rustfmt::skip]
pub const PROGRAMS: [Program; 23] = [
    program("psql", "libpq", "bash {here}/libpq/psql.sh"),
    program("pgbench", "libpq", "bash {here}/libpq/pgbench.sh"),
    program("psycopg3", "python", "{tools}/venv/bin/python {here}/python/psycopg3.py"),
    program("psycopg2", "python", "{tools}/venv/bin/python {here}/python/psycopg2_.py"),
    program("asyncpg", "python", "{tools}/venv/bin/python {here}/python/asyncpg_.py"),
    program("sqlalchemy", "python", "{tools}/venv/bin/python {here}/python/sqlalchemy_.py"),
    program("sqlalchemy_async", "python", "{tools}/venv/bin/python {here}/python/sqlalchemy_async.py"),
    program("django", "python", "{tools}/venv/bin/python {here}/python/django_.py"),
    program("node_postgres", "node", "node {here}/node/node_postgres.js"),
    program("postgres_js", "node", "node {here}/node/postgres_js.js"),
    program("drizzle", "node", "node {here}/node/drizzle.js"),
    program("pgjdbc", "java", "java -XX:TieredStopAtLevel=1 -cp {tools}/java:/usr/share/java/postgresql.jar Jdbc"),
    program("pgx", "go", "{tools}/go/pgx"),
    program("lib_pq", "go", "{tools}/go/pq"),
    program("ruby_pg", "ruby", "ruby {here}/ruby/ruby_pg.rb"),
    program("tokio_postgres", "rust", "{tools}/rust/debug/with_tokio_postgres"),
    program("sqlx", "rust", "{tools}/rust/debug/with_sqlx"),
    program("perl_dbd_pg", "perl", "perl {here}/perl/dbd_pg.pl"),
    program("php_pdo", "php", "php {here}/php/pdo.php"),
    migrations("django_migrate", "python", "{tools}/venv/bin/python {here}/python/django_migrate.py"),
    migrations("alembic", "python", "{tools}/venv/bin/python {here}/python/alembic_.py"),
    migrations("knex", "node", "node {here}/node/knex.js"),
    migrations("active_record", "ruby", "ruby {here}/ruby/active_record.rb"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The driver cannot do it, and why.
    Absent(String),
    Failed(String),
}

/// What one run of a program said.
#[derive(Debug, Default)]
pub struct Said {
    pub outcomes: BTreeMap<String, Outcome>,
    /// Of the driver, as it names it.
    pub version: Option<String>,
    /// Everything that it printed.
    pub output: String,
    pub took: Duration,
}

impl Said {
    /// A capability that was asked for and not spoken of has failed.
    pub fn of(&self, capability: &str) -> Outcome {
        self.outcomes.get(capability).cloned().unwrap_or_else(|| {
            let last = self.output.lines().rev().take(1).collect::<String>();
            Outcome::Failed(format!(
                "the program said nothing about it; at the end: {last}"
            ))
        })
    }
}

/// Where programs and their tools are.
pub struct Places<'a> {
    pub here: &'a Path,
    pub tools: &'a Path,
}

/// Runs the program in `directory` with `environment` added to ours, and kills it when it takes too long.
pub fn run(
    program: &Program,
    places: &Places<'_>,
    environment: &[(&str, String)],
    directory: &Path,
) -> std::io::Result<Said> {
    let fill = |word: &str| {
        word.replace("{tools}", &places.tools.to_string_lossy())
            .replace("{here}", &places.here.to_string_lossy())
    };
    let words: Vec<String> = program.command.split(' ').map(fill).collect();
    let log_file = directory.join("output of the program");
    let log = File::create(&log_file)?;
    let start = Instant::now();
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .current_dir(directory)
        .env("NODE_PATH", places.tools.join("node/node_modules"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status.to_string();
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            break format!("killed after {} s", LIMIT.as_secs());
        }
        std::thread::sleep(POLL);
    };
    let output = String::from_utf8_lossy(&std::fs::read(&log_file)?).into_owned() + &status;
    let mut said = parse(&output);
    said.took = start.elapsed();
    said.output = output;
    Ok(said)
}

/// Lines such as `ok copy`, `absent listen: why` and `failed copy: what`; others are for people.
fn parse(output: &str) -> Said {
    let mut said = Said::default();
    for line in output.lines() {
        let Some((word, rest)) = line.split_once(' ') else {
            continue;
        };
        let (capability, why) = rest.split_once(": ").unwrap_or((rest, ""));
        let outcome = match word {
            "ok" => Outcome::Ok,
            "absent" => Outcome::Absent(why.to_owned()),
            "failed" => Outcome::Failed(why.to_owned()),
            "version" => {
                said.version = Some(rest.to_owned());
                continue;
            }
            _ => continue,
        };
        said.outcomes.insert(capability.to_owned(), outcome);
    }
    said
}
