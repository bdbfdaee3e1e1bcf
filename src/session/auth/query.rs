//! What a server says of users who are not in the configuration: `auth_query`, over control
//! connections of its own, never as a client and never on a client's connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use planner::ShardId;
use tokio_postgres::types::Type;

use super::mock::Tally;
use super::{Known, SaltSecret};
use crate::cluster::EndpointId;
use crate::cluster::control::{self, ControlPool, Failure};
use crate::config::{AuthQuery, StoredSecret};
use crate::error::{Error, Fault, Result};
use crate::executor::database::Database;
use crate::net::{Instant, timeout};

/// No role has a longer name (NAMEDATALEN).
const MAX_NAME: usize = 63;

/// Asks the servers of one database for users, and remembers for a while what they said, of users
/// who do not exist too.
pub struct Lookup {
    query: AuthQuery,
    /// Whose servers are asked.
    db: Arc<Database>,
    ttl: Duration,
    salts: SaltSecret,
    pools: Mutex<HashMap<EndpointId, ControlPool>>,
    remembered: Mutex<Memory>,
}

/// What was said of users, so many at most.
struct Memory {
    capacity: usize,
    users: HashMap<String, Remembered>,
    /// Of these users, so that how often one is asked for has no weight.
    tally: Tally,
}

#[derive(Clone)]
struct Remembered {
    /// `None` for a user who does not exist.
    known: Option<Arc<Known>>,
    until: Instant,
}

impl Memory {
    /// Who exists stays until there are too many of those: whoever tries many names shall neither
    /// make it grow nor change the tally.
    fn insert(&mut self, user: &str, entry: Remembered) {
        if self.users.len() >= self.capacity && !self.users.contains_key(user) {
            self.users.retain(|_, entry| entry.known.is_some());
        }
        if self.users.len() >= self.capacity && !self.users.contains_key(user) {
            if entry.known.is_none() {
                return;
            }
            // Any: the others say as much of what most are asked for.
            if let Some(any) = self.users.keys().next().cloned() {
                self.forget(&any);
            }
        }
        self.forget(user);
        if let Some(known) = &entry.known {
            self.tally.add(known);
        }
        self.users.insert(user.to_owned(), entry);
    }

    fn forget(&mut self, user: &str) {
        let gone = self.users.remove(user);
        if let Some(known) = gone.and_then(|entry| entry.known) {
            self.tally.remove(&known);
        }
    }
}

/// What is known of a user, and whether it was known before.
pub(super) struct Found {
    pub(super) known: Option<Arc<Known>>,
    pub(super) is_remembered: bool,
}

impl Found {
    /// By the configuration, whatever a server would say.
    pub(super) fn sure(known: Option<&Arc<Known>>) -> Self {
        Self {
            known: known.cloned(),
            is_remembered: false,
        }
    }
}

impl Lookup {
    pub(super) fn new(
        query: AuthQuery,
        db: Arc<Database>,
        ttl: Duration,
        capacity: usize,
        salts: SaltSecret,
    ) -> Self {
        Self {
            salts,
            query,
            db,
            ttl,
            pools: Mutex::default(),
            remembered: Mutex::new(Memory {
                capacity,
                users: HashMap::new(),
                tally: Tally::default(),
            }),
        }
    }

    /// Whether it is the same as one that would be made of these.
    pub(super) fn is_of(&self, query: &AuthQuery, db: &Arc<Database>, ttl: Duration) -> bool {
        self.query == *query && Arc::ptr_eq(&self.db, db) && self.ttl == ttl
    }

    /// What is known of the user, asking a server unless it is remembered.
    ///
    /// # Errors
    /// 57P03 when no server can be asked, F0000 for a query that fails or answers oddly. The cause
    /// is logged here and not told to the client.
    pub(super) async fn find(&self, user: &str) -> Result<Found> {
        let now = Instant::now();
        let remembered = self.remembered().users.get(user).cloned();
        if let Some(remembered) = remembered.filter(|remembered| remembered.until > now) {
            return Ok(Found {
                known: remembered.known,
                is_remembered: true,
            });
        }
        let known = self.ask(user).await?;
        Ok(Found {
            known,
            is_remembered: false,
        })
    }

    /// Asks anew, whatever is remembered.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(super) async fn ask(&self, user: &str) -> Result<Option<Arc<Known>>> {
        let secret = match user.len() <= MAX_NAME {
            true => self.ask_server(user).await?,
            false => None,
        };
        let known = match secret {
            Some(secret) => Some(Arc::new(Known::derived(user, secret, &self.salts).await)),
            None => None,
        };
        let entry = Remembered {
            known: known.clone(),
            until: Instant::now() + self.ttl,
        };
        self.remembered().insert(user, entry);
        Ok(known)
    }

    /// `None` as long as nobody is remembered who exists.
    pub(super) fn tally(&self) -> Option<Tally> {
        Some(self.remembered().tally).filter(|tally| !tally.is_empty())
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The secret that the server has for the user; `None` when there is no such user, one whose
    /// password is NULL has none.
    async fn ask_server(&self, user: &str) -> Result<Option<StoredSecret>> {
        let limit = self.db.config.pool.connect_timeout;
        let deadline = Instant::now() + limit;
        let shard = ShardId(0);
        let endpoint = self
            .db
            .cluster
            .primary_or_wait(shard, deadline)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let pool = self.pool(shard, endpoint);
        let asked = async {
            let client = pool.get().await.map_err(Failure::from)?;
            let rows = client
                .query_typed(&self.query.query, &[(&user, Type::TEXT)])
                .await;
            Ok::<_, Failure>(rows?)
        };
        // Connecting has a limit of its own, within the pool.
        let rows = match timeout(limit * 2, asked).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(Failure::Postgres(error))) if error.as_db_error().is_some() => {
                return Err(self.unusable(&Failure::Postgres(error)));
            }
            Ok(Err(failure)) => return Err(self.unreachable(&failure)),
            Err(_) => return Err(self.unreachable(&Failure::Slow("auth_query", limit * 2))),
        };
        let row = match &rows[..] {
            [] => return Ok(None),
            [row] => row,
            _ => return Err(self.unusable(&"it answered more than one row")),
        };
        if row.len() != 2 {
            return Err(self.unusable(&"it did not answer a user name and a password"));
        }
        let name: Option<&str> = row.try_get(0).map_err(|error| self.unusable(&error))?;
        let secret: Option<&str> = row.try_get(1).map_err(|error| self.unusable(&error))?;
        if name != Some(user) {
            // Such as a query that folds case: who was asked for does not exist.
            return Ok(None);
        }
        StoredSecret::parse(secret.unwrap_or_default())
            .map(Some)
            .map_err(|what| self.unusable(&what))
    }

    fn pool(&self, shard: ShardId, endpoint: EndpointId) -> ControlPool {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.entry(endpoint).or_insert_with(|| {
            let config = &self.db.config;
            let dbname = &config.shards[usize::from(shard.0)].dbname;
            let address = self.db.cluster.endpoint(shard, endpoint);
            let tls = self.db.tls().cloned();
            control::lookup_pool(config, dbname, address, &self.query.user, tls)
        });
        pool.clone()
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Error {
        self.log(why);
        let what = "the server that knows the users cannot be asked";
        Error::new(Fault::Operator, "57P03", what)
            .detail(format!(
                "auth_query runs on database \"{}\".",
                self.db.config.name
            ))
            .hint("Try again later; the log of Ringway tells why.")
            .fatal()
    }

    fn unusable(&self, why: &dyn std::fmt::Display) -> Error {
        self.log(why);
        Error::new(Fault::Operator, "F0000", "auth_query does not work")
            .detail(format!("It runs on database \"{}\".", self.db.config.name))
            .hint("The log of Ringway tells why; names in the query need their schema.")
            .fatal()
    }

    fn log(&self, why: &dyn std::fmt::Display) {
        let database = self.db.config.name.as_str();
        let auth_user = self.query.user.name.as_str();
        tracing::error!(database, auth_user, error = %why, "auth_query failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Method, Secret};

    fn memory(capacity: usize) -> Memory {
        Memory {
            capacity,
            users: HashMap::new(),
            tally: Tally::default(),
        }
    }

    fn entry(known: Option<Known>) -> Remembered {
        Remembered {
            known: known.map(Arc::new),
            until: Instant::now(),
        }
    }

    fn user(user: &str, method: Method) -> Remembered {
        let secret = match method {
            Method::Md5 => StoredSecret::parse(&super::super::md5_of(user, &Secret("x".into()))),
            _ => StoredSecret::parse("x"),
        };
        let secret = secret.unwrap_or_else(|what| panic!("{what}"));
        entry(Some(Known::new(user, method, secret, &SaltSecret([0; 32]))))
    }

    #[test]
    fn a_user_counts_once_however_often_it_is_asked_for() {
        let mut memory = memory(10);
        memory.insert("scram1", user("scram1", Method::Scram));
        memory.insert("scram2", user("scram2", Method::Scram));
        for _ in 0..5 {
            memory.insert("md5", user("md5", Method::Md5));
        }
        assert_eq!(memory.tally.own(), Method::Scram);
        // Who is no more does not count any more.
        memory.insert("scram1", entry(None));
        memory.insert("scram2", entry(None));
        assert_eq!(memory.tally.own(), Method::Md5);
        memory.insert("md5", entry(None));
        assert!(memory.tally.is_empty());
    }

    #[test]
    fn names_that_nobody_has_displace_nobody_who_exists() {
        let mut memory = memory(3);
        memory.insert("one", user("one", Method::Md5));
        memory.insert("two", user("two", Method::Md5));
        for name in 0..10 {
            memory.insert(&format!("nobody{name}"), entry(None));
        }
        assert!(memory.users.len() <= 3 && memory.users.contains_key("one"));
        memory.insert("three", user("three", Method::Md5));
        memory.insert("nobody", entry(None));
        assert!(memory.users.len() == 3 && !memory.users.contains_key("nobody"));
        memory.insert("four", user("four", Method::Md5));
        assert!(memory.users.len() == 3 && memory.users.contains_key("four"));
        assert_eq!(memory.tally.own(), Method::Md5);
    }
}
