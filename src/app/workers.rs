//! The worker threads, each a single-threaded runtime that serves the clients it was given.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use super::cannot;
use super::live::Live;
use super::{deadlocks, keeper};
use crate::error::Error;
use crate::net::listener::Accepted;
use crate::net::{self, Stream};
use crate::session::login::{Arrival, arrive};
use crate::session::{Arriving, ClientState};

/// A worker busier than this share of its time gets no new clients while another is less busy.
const BUSY: f64 = 0.7;
const LOAD_INTERVAL: Duration = Duration::from_millis(250);
/// Connections beyond `max_clients` that may be logging in: those who are refused are told so once
/// they have said who they are, and CancelRequests are no clients. A burst of them is no attack.
const CROWD: usize = 1_000;

/// The worker threads.
pub struct Workers {
    workers: Vec<Worker>,
    live: Arc<Live>,
}

/// A new client on its way to its worker.
type Newcomer = (Accepted, Arriving);

struct Worker {
    clients: mpsc::UnboundedSender<Newcomer>,
    /// Share of time spent working lately, in thousandths.
    load: AtomicUsize,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn start(count: usize, live: &Arc<Live>) -> Result<Arc<Self>, Error> {
        let mut workers = Vec::new();
        let mut runtimes = Vec::new();
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| cannot("start a runtime", &e))?;
            runtimes.push(runtime.metrics());
            let (sender, receiver) = mpsc::unbounded_channel();
            let live = Arc::clone(live);
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || work(number, &runtime, receiver, live))
                .map_err(|e| cannot("start a thread", &e))?;
            workers.push(Worker {
                clients: sender,
                load: AtomicUsize::new(0),
            });
        }
        let live = Arc::clone(live);
        let workers = Arc::new(Self { workers, live });
        if count > 1 {
            tokio::spawn(measure(Arc::clone(&workers), runtimes));
        }
        Ok(workers)
    }

    /// More connections are logging in than clients may be let in.
    pub fn are_crowded(&self) -> bool {
        let shared = &self.live.shared;
        shared.arriving_count() >= shared.directory.load().config.general.max_clients + CROWD
    }

    /// The first worker with time to spare, else the least busy one.
    pub fn give(&self, client: Accepted) {
        let load = |worker: &&Worker| worker.load.load(Relaxed);
        let spare = self
            .workers
            .iter()
            .find(|worker| load(worker) < (BUSY * 1000.0) as usize);
        let Some(worker) = spare.or_else(|| self.workers.iter().min_by_key(load)) else {
            return;
        };
        let _ = worker.clients.send((client, self.live.shared.arriving()));
    }
}

async fn measure(workers: Arc<Workers>, runtimes: Vec<tokio::runtime::RuntimeMetrics>) {
    let mut before: Vec<Duration> = runtimes
        .iter()
        .map(|r| r.worker_total_busy_duration(0))
        .collect();
    loop {
        net::sleep(LOAD_INTERVAL).await;
        for ((worker, runtime), before) in workers.workers.iter().zip(&runtimes).zip(&mut before) {
            let now = runtime.worker_total_busy_duration(0);
            let busy = now.saturating_sub(std::mem::replace(before, now));
            worker.load.store(
                (busy.as_secs_f64() / LOAD_INTERVAL.as_secs_f64() * 1000.0) as usize,
                Relaxed,
            );
        }
    }
}

fn work(
    number: usize,
    runtime: &Runtime,
    mut clients: mpsc::UnboundedReceiver<Newcomer>,
    live: Arc<Live>,
) {
    runtime.block_on(async move {
        if number == 0 {
            // Here, so that connections that are kept ready belong to a thread that serves clients.
            tokio::spawn(deadlocks::watch(Arc::clone(&live.shared)));
            tokio::spawn(keeper::keep(Arc::clone(&live.shared)));
        }
        while let Some((client, arriving)) = clients.recv().await {
            let options = live.shared.directory.load().config.general.tcp;
            match Stream::from_accepted(client, &options) {
                Ok(stream) => {
                    tokio::spawn(serve_client(stream, arriving, Arc::clone(&live)));
                }
                Err(error) => tracing::error!(%error, "cannot take a client over"),
            }
        }
    });
}

async fn serve_client(stream: Stream, arriving: Arriving, live: Arc<Live>) {
    // Boxed: what does not last takes far more room than the session that does.
    match Box::pin(welcome(stream, arriving, &live)).await {
        Arrival::Over => {}
        Arrival::Session(session, registration) => {
            let conn = session.run().await;
            drop(registration);
            if let Some(conn) = conn {
                conn.linger().await;
            }
        }
        Arrival::Replication(relay, registration) => {
            let conn = Box::pin(relay.run()).await;
            drop(registration);
            conn.linger().await;
        }
        Arrival::Admin { conn, registration } => {
            Box::pin(live.serve_admin(conn, registration)).await;
        }
    }
}

/// Who waits for the last client sees a new one at any moment: while it arrives, or logged in.
async fn welcome(stream: Stream, arriving: Arriving, live: &Live) -> Arrival {
    let arrival = arrive(stream, &live.shared).await;
    if let Arrival::Session(_, registration) | Arrival::Admin { registration, .. } = &arrival {
        registration.info.set(ClientState::Idle);
    }
    drop(arriving);
    arrival
}
