//! What changes of servers' roles mean for the pools: connections to a server that is no primary any
//! more, or is down, are of no use.

use std::sync::{Arc, Weak};

use planner::ShardId;
use tokio::task::JoinSet;

use super::pools::Pools;
use crate::cluster::{Cluster, EndpointId, Standing};

/// What the pools of a server have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// It is not the primary any more: close what is open.
    Demote,
    /// It is down: nobody waits for it.
    Leave,
    /// It is there again.
    Return,
}

/// Watches the shards on the current runtime, until the answer is dropped.
pub(super) fn watch(cluster: &Arc<Cluster>, pools: &Arc<Pools>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for shard in &cluster.database().shards {
        let cluster = Arc::clone(cluster);
        tasks.spawn(follow(cluster, Arc::downgrade(pools), shard.id));
    }
    tasks
}

async fn follow(cluster: Arc<Cluster>, pools: Weak<Pools>, shard: ShardId) {
    let mut news = cluster.news(shard);
    let mut known = cluster.standings(shard);
    while news.changed().await.is_ok() {
        let standings = cluster.standings(shard);
        if standings == known {
            continue;
        }
        let Some(pools) = pools.upgrade() else {
            return;
        };
        for (endpoint, order) in orders(&known, &standings) {
            pools.obey(shard, endpoint, order);
        }
        known = standings;
    }
}

/// What follows from a change of the standings of a shard's servers.
fn orders(before: &[Standing], after: &[Standing]) -> Vec<(EndpointId, Order)> {
    let is_led = after.contains(&Standing::Primary);
    let changes = (0..).map(EndpointId).zip(before.iter().zip(after));
    let order = |(id, (before, after)): (EndpointId, (&Standing, &Standing))| {
        let order = match (before, after) {
            (before, after) if before == after => return None,
            // Of a primary that does not answer a poll, and has no successor, transactions may go on.
            (Standing::Primary, Standing::Down) if !is_led => return None,
            (Standing::Primary, _) => Order::Demote,
            (Standing::Down, Standing::Fenced | Standing::Foreign) => Order::Demote,
            (_, Standing::Fenced) => Order::Demote,
            (_, Standing::Down) => Order::Leave,
            (Standing::Down, _) => Order::Return,
            _ => return None,
        };
        Some((id, order))
    };
    // When the successor of a primary that is down is found, that one is long known to be down.
    let succeeded = is_led && !before.contains(&Standing::Primary);
    let old = changes.clone().filter(|(_, (before, after))| {
        succeeded && **before == Standing::Down && **after == Standing::Down
    });
    let old = old.map(|(id, _)| (id, Order::Demote));
    changes.clone().filter_map(order).chain(old).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Down, Fenced, Fresh, Lagging, Primary, Returning};

    #[track_caller]
    fn check(before: &[Standing], after: &[Standing], expected: &[(u16, Order)]) {
        let expected: Vec<_> = (expected.iter())
            .map(|(id, order)| (EndpointId(*id), *order))
            .collect();
        assert_eq!(orders(before, after), expected, "{before:?} -> {after:?}");
    }

    #[test]
    fn a_primary_is_left_when_another_is_there_or_it_is_none_itself() {
        check(&[Primary, Fresh], &[Primary, Lagging], &[]);
        check(&[Primary, Fresh], &[Fenced, Primary], &[(0, Order::Demote)]);
        check(&[Primary, Fresh], &[Fresh, Primary], &[(0, Order::Demote)]);
        check(&[Primary, Fresh], &[Lagging, Fresh], &[(0, Order::Demote)]);
        // A poll that took too long.
        check(&[Primary, Fresh], &[Down, Fresh], &[]);
        check(&[Down, Fresh], &[Down, Primary], &[(0, Order::Demote)]);
        check(&[Down, Primary], &[Fenced, Primary], &[(0, Order::Demote)]);
    }

    #[test]
    fn a_replica_is_left_when_it_is_down_and_found_again() {
        check(&[Primary, Fresh], &[Primary, Down], &[(1, Order::Leave)]);
        check(
            &[Primary, Down],
            &[Primary, Returning],
            &[(1, Order::Return)],
        );
        check(&[Down, Fresh], &[Primary, Fresh], &[(0, Order::Return)]);
    }
}
