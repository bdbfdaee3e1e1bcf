//! What sessions share: limits, and who is connected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use super::auth::Authenticators;
use crate::backend::server::Identity;
use crate::config::Config;
use crate::executor::database::Database;
use crate::net::{Instant, TlsAcceptor};

/// What every session of a process shares.
pub struct Shared {
    pub directory: ArcSwap<Directory>,
    /// The directory's generation, for a look that costs nothing.
    pub generation: AtomicU64,
    pub clients: Clients,
}

/// One configuration and what was built of it. Replaced as a whole by a reload.
pub struct Directory {
    pub generation: u64,
    pub config: Config,
    pub authenticators: Authenticators,
    pub tls: Option<TlsAcceptor>,
    pub databases: HashMap<String, Arc<Database>>,
}

/// The servers that now work for a client: where its CancelRequest goes.
#[derive(Default)]
pub struct CancelSlot(Mutex<Vec<Arc<Identity>>>);

impl CancelSlot {
    pub fn add(&self, server: &Arc<Identity>) {
        if let Ok(mut servers) = self.0.lock() {
            servers.push(Arc::clone(server));
        }
    }

    pub fn clear(&self) {
        if let Ok(mut servers) = self.0.lock() {
            servers.clear();
        }
    }

    pub fn servers(&self) -> Vec<Arc<Identity>> {
        self.0
            .lock()
            .map(|servers| servers.clone())
            .unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    Idle,
    Active,
    Waiting,
}

/// A connected client, for SHOW CLIENTS and CancelRequest.
pub struct ClientInfo {
    pub pid: i32,
    pub key: Vec<u8>,
    pub user: String,
    pub database: String,
    pub application: String,
    pub address: String,
    pub tls: bool,
    pub connected_at: Instant,
    pub cancel: CancelSlot,
    pub pinned: Mutex<Option<&'static str>>,
    state: AtomicU8,
}

impl ClientInfo {
    pub fn set(&self, state: ClientState) {
        self.state.store(state as u8, Relaxed);
    }

    /// True while it runs or awaits a statement, or holds a server connection.
    pub fn is_busy(&self) -> bool {
        self.state() != ClientState::Idle
    }

    pub fn state(&self) -> ClientState {
        match self.state.load(Relaxed) {
            1 => ClientState::Active,
            2 => ClientState::Waiting,
            _ => ClientState::Idle,
        }
    }
}

/// The connected clients by the process id they were told.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<i32, Arc<ClientInfo>>>);

/// Who a client is, before it has a process id.
pub struct Newcomer {
    pub user: String,
    pub database: String,
    pub application: String,
    pub address: String,
    pub tls: bool,
}

/// Takes the client off the list when dropped.
pub struct Registration {
    shared: Arc<Shared>,
    pub info: Arc<ClientInfo>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Ok(mut clients) = self.shared.clients.0.lock() {
            clients.remove(&self.info.pid);
        }
    }
}

impl Shared {
    pub fn new(directory: Directory) -> Arc<Self> {
        Arc::new(Self {
            generation: AtomicU64::new(directory.generation),
            directory: ArcSwap::from_pointee(directory),
            clients: Clients::default(),
        })
    }

    /// Puts a new configuration in force: for new clients at once, for others at their next
    /// transaction.
    pub fn replace(&self, directory: Directory) {
        let generation = directory.generation;
        self.directory.store(Arc::new(directory));
        self.generation.store(generation, Relaxed);
    }

    /// Gives the client a process id that no other has, and a key of `key_len` random bytes.
    pub fn register(self: &Arc<Self>, who: Newcomer, key_len: usize) -> Registration {
        let mut key = vec![0; key_len];
        rand::fill(&mut key[..]);
        let make = |pid| {
            Arc::new(ClientInfo {
                pid,
                key,
                user: who.user,
                database: who.database,
                application: who.application,
                address: who.address,
                tls: who.tls,
                connected_at: Instant::now(),
                cancel: CancelSlot::default(),
                pinned: Mutex::new(None),
                state: AtomicU8::new(0),
            })
        };
        let info = match self.clients.0.lock() {
            Ok(mut clients) => {
                let mut pid = 0;
                while pid <= 0 || clients.contains_key(&pid) {
                    pid = rand::random();
                }
                let info = make(pid);
                clients.insert(pid, Arc::clone(&info));
                info
            }
            Err(_) => make(1),
        };
        Registration {
            shared: Arc::clone(self),
            info,
        }
    }

    /// The database and servers to cancel for a CancelRequest; none when the key is not the client's.
    pub fn cancel_targets(&self, pid: i32, key: &[u8]) -> Option<(String, Vec<Arc<Identity>>)> {
        let client = self.clients.0.lock().ok()?.get(&pid).cloned()?;
        let is_his = client.key.len() == key.len() && same(&client.key, key);
        is_his.then(|| (client.database.clone(), client.cancel.servers()))
    }

    pub fn clients(&self) -> Vec<Arc<ClientInfo>> {
        self.clients
            .0
            .lock()
            .map(|clients| clients.values().cloned().collect())
            .unwrap_or_default()
    }
}

/// Takes the same time wherever the keys differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}
