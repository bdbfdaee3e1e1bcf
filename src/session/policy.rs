//! Policies on statements that run on several shards: checked where the route is decided.

use bytes::BytesMut;
use planner::plan::{Many, Plan, Target};
use planner::route::{Execution, Shards};
use planner::{Route, ShardSet};

use super::Session;
use crate::config::{Policies, Policy};
use crate::error::Error;
use crate::metrics::PolicyHit;
use crate::wire::write;

/// The policies that a statement falls under: its own, and that on a missing key.
fn policies_on(
    policies: &Policies,
    plan: &Plan,
    route: &Route<'_>,
) -> [(Policy, [PolicyHit; 2]); 2] {
    let reads = (
        policies.scatter_reads,
        [PolicyHit::ReadWarned, PolicyHit::ReadDenied],
    );
    let writes = (
        policies.scatter_writes,
        [PolicyHit::WriteWarned, PolicyHit::WriteDenied],
    );
    let keys = [PolicyHit::MissingKeyWarned, PolicyHit::MissingKeyDenied];
    let none = (Policy::Allow, keys);
    let own = match route.execution {
        Execution::Merge { .. }
        | Execution::Gather(_)
        | Execution::CopyOut(_)
        | Execution::CopyRows(_) => reads,
        // Of a table on one shard.
        Execution::Write { ref on, .. } if on.len() == 1 => reads,
        Execution::Insert(ref inserting) if inserting.insertion.has_keys_by_row() => {
            return [none; 2];
        }
        Execution::SumTags
        | Execution::Write { .. }
        | Execution::Lock(_)
        | Execution::Insert(_) => writes,
        Execution::Move { ref from, .. } if from.len() > 1 => writes,
        // On one shard; each row on its own; or on all for good reason.
        Execution::Direct
        | Execution::Split { .. }
        | Execution::Move { .. }
        | Execution::CopyIn(_)
        | Execution::Explain(_)
        // Its query is judged by itself.
        | Execution::Cursor(_)
        | Execution::SameAnswer => return [none; 2],
    };
    match &plan.target {
        Target::Moves(moving) if !moving.has_keys() => [own, (policies.missing_key, keys)],
        Target::AllShards(Many::Insert(insertion)) if !insertion.lacks_keys() => [own, none],
        Target::AllShards(_) => [own, (policies.missing_key, keys)],
        Target::AnyShard
        | Target::OneShard(_)
        | Target::Keys { .. }
        | Target::Moves(_)
        | Target::Ids(_)
        | Target::Refused(_) => [own, none],
    }
}

/// The key of the policy that denies an execution.
pub fn denied_by(policies: &Policies, plan: &Plan, route: &Route<'_>) -> Option<&'static str> {
    let mut found = policies_on(policies, plan, route).into_iter();
    let denied = found.find(|(policy, _)| *policy == Policy::Deny);
    denied.map(|(_, [_, denied])| denied.names().0)
}

impl Session {
    /// # Errors
    /// 0A000 for a statement that a policy denies.
    pub(super) fn check_policy(&self, plan: &Plan, route: &Route<'_>) -> Result<(), Error> {
        if let Execution::Direct = route.execution {
            return Ok(());
        }
        let policies = &self.db.config.policies;
        for (policy, [_, denied]) in policies_on(policies, plan, route) {
            if policy == Policy::Deny {
                self.db.metrics.policies.increment(denied);
                let key = denied.names().0;
                return Err(planner::Refusal::unsupported(
                    format!("statement on several shards is denied by {key}"),
                    self.concerned(route),
                    format!("Compare the sharding key with a constant, or set {key} to \"warn\"."),
                )
                .into());
            }
        }
        Ok(())
    }

    /// A notice for each policy that warns of this execution.
    pub(super) fn policy_notices(&self, plan: &Plan, route: &Route<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        let policies = &self.db.config.policies;
        for (policy, [warned, _]) in policies_on(policies, plan, route) {
            if policy == Policy::Warn {
                self.db.metrics.policies.increment(warned);
                let key = warned.names().0;
                let message = format!("statement runs on several shards, which {key} warns of");
                write::notice(
                    &mut out,
                    "NOTICE",
                    "00000",
                    &message,
                    &self.concerned(route),
                );
            }
        }
        out
    }

    fn concerned(&self, route: &Route<'_>) -> String {
        let shards = match &route.shards {
            Shards::Exactly(shards) => shards.clone(),
            Shards::Any => ShardSet::default(),
        };
        let names = shards
            .as_slice()
            .iter()
            .map(|shard| self.shard_name(*shard));
        let names: Vec<_> = names.collect();
        format!("It concerns shards {}.", names.join(", "))
    }
}
