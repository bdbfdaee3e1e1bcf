//! Clients that read and write without a pause, and what they saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Statement};

/// What clients saw until they were stopped.
#[derive(Debug, Default)]
pub struct Report {
    /// SQLSTATE and message of each.
    pub errors: Vec<String>,
    pub reads: u64,
    /// Client and number of each write that was acknowledged.
    pub acknowledged: Vec<(i32, i32)>,
    pub longest_read: Duration,
    pub longest_write: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reads, the longest {:?}; {} writes, the longest {:?}; {} errors",
            self.reads,
            self.longest_read,
            self.acknowledged.len(),
            self.longest_write,
            self.errors.len()
        )?;
        let mut kinds = BTreeMap::new();
        for error in &self.errors {
            *kinds.entry(error).or_insert(0) += 1;
        }
        write!(f, " {kinds:?}")
    }
}

#[derive(Default)]
struct Seen {
    report: Mutex<Report>,
    writes: AtomicU64,
    reads_by_port: Mutex<BTreeMap<u16, u64>>,
    over: AtomicBool,
}

/// A load in threads of its own, until it is ended.
pub struct Load {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// So many clients that read, that write, and that write in transactions of several statements.
    pub fn start(port: u16, readers: i32, writers: i32, transactions: i32) -> Self {
        let seen = Arc::new(Seen::default());
        let theirs = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                for client in 0..readers {
                    tasks.spawn(read(Arc::clone(&theirs), port, client));
                }
                for client in 0..writers {
                    tasks.spawn(write(Arc::clone(&theirs), port, client));
                }
                for client in writers..writers + transactions {
                    tasks.spawn(write_in_transactions(Arc::clone(&theirs), port, client));
                }
                while let Some(done) = tasks.join_next().await {
                    done.unwrap();
                }
            });
        });
        let thread = Some(thread);
        Self { seen, thread }
    }

    pub fn writes(&self) -> u64 {
        self.seen.writes.load(Relaxed)
    }

    /// Since it was last forgotten.
    pub fn longest_read(&self) -> Duration {
        self.seen.report.lock().unwrap().longest_read
    }

    pub fn forget_longest_read(&self) {
        self.seen.report.lock().unwrap().longest_read = Duration::ZERO;
    }

    pub fn reads_on(&self, port: u16) -> u64 {
        let counts = self.seen.reads_by_port.lock().unwrap();
        counts.get(&port).copied().unwrap_or_default()
    }

    /// Lets it run until as much has been done as in a while.
    pub fn settle(&self) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(700) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn end(mut self) -> Report {
        self.seen.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        std::mem::take(&mut *self.seen.report.lock().unwrap())
    }
}

impl Seen {
    fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    fn failed(&self, error: &tokio_postgres::Error) {
        let error = match error.as_db_error() {
            Some(error) => format!(
                "{} {} {}",
                error.code().code(),
                error.message(),
                error.detail().unwrap_or_default()
            ),
            None => error.to_string(),
        };
        self.report.lock().unwrap().errors.push(error);
    }
}

async fn connect(seen: &Seen, port: u16) -> Client {
    let url = format!("postgresql://ringway@127.0.0.1:{port}/shop");
    loop {
        match tokio_postgres::connect(&url, NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => seen.failed(&error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A client and its statement; another one once it is closed.
async fn session(seen: &Seen, port: u16, sql: &str) -> (Client, Statement) {
    loop {
        let client = connect(seen, port).await;
        match client.prepare(sql).await {
            Ok(statement) => return (client, statement),
            Err(error) => seen.failed(&error),
        }
    }
}

async fn read(seen: Arc<Seen>, port: u16, client: i32) {
    let sql = "SELECT inet_server_port(), v FROM t WHERE id = $1";
    let (mut connection, mut statement) = session(&seen, port, sql).await;
    let mut turn = client;
    while !seen.is_over() {
        turn += 1;
        let start = Instant::now();
        let answer = match turn % 2 {
            0 => connection
                .query_one(&statement, &[&(turn % 100)])
                .await
                .map(|row| row.get::<_, i32>(0)),
            _ => {
                let sql = sql.replace("$1", &(turn % 100).to_string());
                connection.simple_query(&sql).await.map(|rows| {
                    let port = rows.iter().find_map(|message| match message {
                        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
                        _ => None,
                    });
                    port.unwrap_or_default()
                })
            }
        };
        match answer {
            Ok(port) => {
                *seen
                    .reads_by_port
                    .lock()
                    .unwrap()
                    .entry(port as u16)
                    .or_default() += 1;
                let mut report = seen.report.lock().unwrap();
                report.reads += 1;
                report.longest_read = report.longest_read.max(start.elapsed());
            }
            Err(error) => seen.failed(&error),
        }
        if connection.is_closed() {
            (connection, statement) = session(&seen, port, sql).await;
        }
    }
}

async fn write(seen: Arc<Seen>, port: u16, client: i32) {
    let sql = "INSERT INTO log VALUES ($1, $2)";
    let (mut connection, mut statement) = session(&seen, port, sql).await;
    let mut n = 0;
    while !seen.is_over() {
        n += 1;
        let start = Instant::now();
        let answer = match n % 2 {
            0 => connection.execute(&statement, &[&client, &n]).await,
            _ => {
                let sql = format!("INSERT INTO log VALUES ({client}, {n})");
                connection.simple_query(&sql).await.map(|_| 1)
            }
        };
        match answer {
            Ok(_) => {
                seen.writes.fetch_add(1, Relaxed);
                let mut report = seen.report.lock().unwrap();
                report.acknowledged.push((client, n));
                report.longest_write = report.longest_write.max(start.elapsed());
            }
            Err(error) => {
                seen.failed(&error);
                // As an application would, before it tries again.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if connection.is_closed() {
            (connection, statement) = session(&seen, port, sql).await;
        }
    }
}

/// Two rows in each transaction, which is open for a while.
async fn write_in_transactions(seen: Arc<Seen>, port: u16, client: i32) {
    let mut connection = connect(&seen, port).await;
    let mut n = 0;
    while !seen.is_over() {
        n += 2;
        let start = Instant::now();
        let transaction = async {
            connection.batch_execute("BEGIN").await?;
            for n in [n, n + 1] {
                let sql = format!("INSERT INTO log VALUES ({client}, {n})");
                connection.batch_execute(&sql).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            connection.batch_execute("COMMIT").await
        };
        match transaction.await {
            Ok(()) => {
                seen.writes.fetch_add(1, Relaxed);
                let mut report = seen.report.lock().unwrap();
                report.acknowledged.extend([(client, n), (client, n + 1)]);
                report.longest_write = report.longest_write.max(start.elapsed());
            }
            Err(error) => {
                seen.failed(&error);
                let _ = connection.batch_execute("ROLLBACK").await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if connection.is_closed() {
            connection = connect(&seen, port).await;
        }
    }
}
