//! Several statements in one simple query: they run together, in one place.

use super::keys;
use super::parse::Source;
use super::{functions, refuse};
use crate::catalog::Catalog;
use crate::plan::{Access, KeySet, Many, Plan, PlanOptions, SessionEffect, Statement, Target};
use crate::route::ValueRef;

pub(super) fn plan(source: &Source<'_>, catalog: &Catalog, options: PlanOptions<'_>) -> Plan {
    let mut whole = Plan {
        statement: Statement::Multiple,
        access: Access::Read,
        effect: SessionEffect::None,
        target: Target::AnyShard,
        reason: "the statements run together".into(),
    };
    for range in source.statements() {
        let text = source.sql.get(range.clone()).unwrap_or_default();
        let part = super::plan(text, catalog, options);
        let effect = effect(&part);
        whole.access = functions::worse_access(whole.access, part.access);
        whole.effect = functions::worse_effect(whole.effect, effect);
        let target = in_whole(part.target, text, range.start, source);
        whole.target = both(whole.target, target);
    }
    whole
}

/// What a statement leaves behind that the session does not see on its own.
fn effect(part: &Plan) -> SessionEffect {
    match &part.statement {
        Statement::Begin { .. }
        | Statement::Commit
        | Statement::Rollback
        | Statement::Savepoint
        | Statement::TwoPhase => {
            SessionEffect::Pin("several statements with transaction control run as one query")
        }
        Statement::Set(_) => SessionEffect::Pin("SET runs in one query with other statements"),
        Statement::Empty
        | Statement::Query
        | Statement::Insert
        | Statement::Update
        | Statement::Delete
        | Statement::Ddl { .. }
        | Statement::Show(_)
        | Statement::CopyIn
        | Statement::CopyOut
        | Statement::ExplainRoute { .. }
        | Statement::Other
        | Statement::Multiple => part.effect.clone(),
    }
}

/// The target of a statement that starts at byte `start`, with its literals counted in the whole.
fn in_whole(target: Target, text: &str, start: usize, source: &Source<'_>) -> Target {
    let Target::Keys { keys, many: _ } = target else {
        return target;
    };
    let before = source
        .pieces
        .partition_point(|piece| piece.range.start < start);
    let counted = |value: ValueRef| match value {
        ValueRef::Literal { piece, negative } => ValueRef::Literal {
            piece: piece + before,
            negative,
        },
        ValueRef::Param(_) | ValueRef::Text(_) | ValueRef::Null => value,
    };
    let keys = if source.pieces.is_empty() {
        keys::with_constants(keys, text)
    } else {
        KeySet {
            values: keys.values.into_iter().map(counted).collect(),
            ..keys
        }
    };
    Target::Keys {
        keys,
        many: Many::Refused(refuse::multiple()),
    }
}

/// One target for two statements that run together.
fn both(first: Target, second: Target) -> Target {
    let refused = || Target::Refused(refuse::multiple());
    match (first, second) {
        (Target::Refused(refusal), _) | (_, Target::Refused(refusal)) => Target::Refused(refusal),
        (Target::AllShards(_), _) | (_, Target::AllShards(_)) => refused(),
        (Target::AnyShard, other) | (other, Target::AnyShard) => other,
        (Target::OneShard(a), Target::OneShard(b)) if a == b => Target::OneShard(a),
        (Target::Keys { keys: a, many }, Target::Keys { keys: b, many: _ }) => {
            keys::union(a, b).map_or_else(refused, |keys| Target::Keys { keys, many })
        }
        (Target::OneShard(_), Target::OneShard(_) | Target::Keys { .. })
        | (Target::Keys { .. }, Target::OneShard(_)) => refused(),
    }
}
