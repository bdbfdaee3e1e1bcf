//! A connection to a shard's primary, also through a failover: as long as nothing of a statement was
//! sent, it can wait.

use planner::ShardId;

use super::database::Database;
use super::pools::AsUser;
use crate::backend::server::Server;
use crate::cluster::EndpointId;
use crate::error::{Error, Fault};
use crate::net::Instant;
use crate::pool::{Amid, Denied, Lease};

const IS_STANDBY: &str = "it says that it is a standby";

impl Database {
    /// A connection to the primary, for who found none or one that lets nobody in: held until there is
    /// one that does, at most for `failover_hold`. A pause comes on top.
    ///
    /// # Errors
    /// As [`Pool::checkout`](crate::pool::Pool::checkout) and [`Database::primary_or_wait`].
    pub async fn lease_from_primary(
        &self,
        shard: ShardId,
        login: &dyn AsUser,
        amid: Amid,
    ) -> Result<Lease, Denied> {
        let mut since = Instant::now();
        let mut was_out = self.cluster.primary(shard).is_none();
        loop {
            let endpoint = self.primary_or_wait(shard, amid, &mut since).await?;
            let pool = self.pool(shard, endpoint, login);
            if was_out {
                // It was found to be up after a login failed.
                pool.forget_failure();
            }
            let lease = self.usable(shard, endpoint, pool.checkout(amid).await);
            match lease {
                Some(Ok(lease)) => return Ok(lease),
                Some(Err(denied)) => return Err(denied),
                None => was_out = true,
            }
        }
    }

    /// What a checkout from the primary has come to; `None` when it turned out not to be one, or to let
    /// nobody in, which the cluster knows then.
    pub fn usable(
        &self,
        shard: ShardId,
        endpoint: EndpointId,
        lease: Result<Lease, Denied>,
    ) -> Option<Result<Lease, Denied>> {
        match lease {
            Ok(lease) if lease.in_hot_standby && self.is_standby(shard, endpoint, &lease) => {
                self.cluster
                    .checkout_failed(shard, endpoint, IS_STANDBY.to_owned());
                None
            }
            // Its role may have moved while a connection was waited for.
            Ok(lease) => (self.cluster.primary(shard) == Some(endpoint)).then_some(Ok(lease)),
            Err(Denied::Moved) => None,
            Err(Denied::Error(error)) if is_outage(&error) => {
                self.cluster
                    .checkout_failed(shard, endpoint, error.to_string());
                None
            }
            Err(denied @ (Denied::Error(_) | Denied::Gone)) => Some(Err(denied)),
        }
    }

    /// A connection that was opened before its server was promoted says so only with its next answer.
    fn is_standby(&self, shard: ShardId, endpoint: EndpointId, server: &Server) -> bool {
        let as_of = self.cluster.primary_as_of(shard, endpoint);
        as_of.is_none_or(|as_of| server.identity.connected_at > as_of)
    }
}

/// Whether a connection failed because the server is not there: not reached, lost, starting or
/// shutting down.
pub fn is_outage(error: &Error) -> bool {
    error.fault == Fault::Server
        && ["08001", "08006", "57P01", "57P02", "57P03"].contains(&&*error.code)
}
