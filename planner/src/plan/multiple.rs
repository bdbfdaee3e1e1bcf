//! Several statements in one simple query: they run together, in one place.

use super::keys;
use super::parse::Source;
use super::{functions, refuse};
use crate::catalog::Catalog;
use crate::ids;
use crate::plan::{Access, Many, Pin, Plan, PlanOptions, SessionEffect, Statement, Target};
use crate::route::ValueRef;

pub(super) fn plan(source: &Source<'_>, catalog: &Catalog, options: PlanOptions<'_>) -> Plan {
    let mut known = Vec::new();
    let mut whole = Plan {
        statement: Statement::Multiple(Vec::new()),
        access: Access::Read,
        effect: SessionEffect::None,
        target: Target::AnyShard,
        reason: "the statements run together".into(),
    };
    let ranges = source.statements();
    let controls = ranges.iter().any(|range| {
        let text = source.sql.get(range.clone()).unwrap_or_default();
        controls_transaction(text)
    });
    for range in ranges {
        let text = source.sql.get(range.clone()).unwrap_or_default();
        let part = super::plan(text, catalog, options);
        let mut effect = effect(&part, controls);
        if part.statement.makes_temporary() {
            // What the others create may be temporary.
            effect = functions::worse_effect(effect, SessionEffect::Pin(Pin::Temporary));
        }
        whole.access = functions::worse_access(whole.access, part.access);
        let is_known = is_session_s(&part.statement) || part.statement.controls_transaction();
        if controls || is_known {
            whole.access = functions::worse_access(whole.access, Access::Primary);
        }
        whole.effect = functions::worse_effect(whole.effect, effect);
        let target = in_whole(part.target, text, range.start, source);
        whole.target = both(whole.target, target);
        known.extend(is_known.then_some(part.statement));
    }
    Plan {
        statement: Statement::Multiple(known),
        ..whole
    }
}

/// Has a session to act on it, wherever it stands?
fn is_session_s(statement: &Statement) -> bool {
    match statement {
        Statement::Set(_) | Statement::Deallocate(_) | Statement::Unlisten(_) => true,
        Statement::Show(name) => name.starts_with("ringway."),
        Statement::Empty
        | Statement::Query
        | Statement::Insert
        | Statement::Update
        | Statement::Delete
        | Statement::Merge
        | Statement::Ddl { .. }
        | Statement::Begin { .. }
        | Statement::Commit
        | Statement::Rollback
        | Statement::Chain { .. }
        | Statement::Savepoint(_)
        | Statement::TwoPhase
        | Statement::Prepare(_)
        | Statement::Execute(_)
        | Statement::Listen(_)
        | Statement::Notify
        | Statement::CopyIn
        | Statement::CopyOut
        | Statement::ExplainRoute { .. }
        | Statement::LockTable
        | Statement::Other
        | Statement::Multiple(_) => false,
    }
}

/// Begins it or ends a transaction or a part of one?
fn controls_transaction(text: &str) -> bool {
    const WORDS: [&str; 8] = [
        "begin",
        "start",
        "commit",
        "end",
        "rollback",
        "abort",
        "savepoint",
        "release",
    ];
    let words = crate::leading_words(text, 2);
    let is = |at: usize, known: &str| {
        let word = words.get(at);
        word.is_some_and(|word| word.eq_ignore_ascii_case(known))
    };
    WORDS.iter().any(|known| is(0, known)) || (is(0, "prepare") && is(1, "transaction"))
}

/// What a statement leaves behind that the session does not see on its own. `controls`: some of
/// the text's statements may be undone while others are not.
fn effect(part: &Plan, controls: bool) -> SessionEffect {
    if part.effect == SessionEffect::DiscardAll {
        // It fails among others, whose text is a transaction.
        return SessionEffect::Releases;
    }
    match &part.statement {
        Statement::Set(set) if set.local || !controls => SessionEffect::None,
        Statement::Set(_) => SessionEffect::Settings,
        Statement::Prepare(_) | Statement::Execute(_) => SessionEffect::Pin(Pin::Prepared),
        Statement::Listen(_) => SessionEffect::Pin(Pin::Listen),
        Statement::Begin { .. }
        | Statement::Commit
        | Statement::Rollback
        | Statement::Chain { .. }
        | Statement::Savepoint(_)
        | Statement::TwoPhase
        | Statement::Deallocate(_)
        | Statement::Unlisten(_)
        | Statement::Notify
        | Statement::Empty
        | Statement::Query
        | Statement::Insert
        | Statement::Update
        | Statement::Delete
        | Statement::Merge
        | Statement::Ddl { .. }
        | Statement::Show(_)
        | Statement::CopyIn
        | Statement::CopyOut
        | Statement::ExplainRoute { .. }
        | Statement::LockTable
        | Statement::Other
        | Statement::Multiple(_) => part.effect.clone(),
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
    let keys = if source.pieces.is_empty() {
        keys::with_constants(keys, text)
    } else {
        keys.map(&mut |value| match value {
            ValueRef::Literal { piece, negative } => ValueRef::Literal {
                piece: piece + before,
                negative,
            },
            ValueRef::Param(_) | ValueRef::Text(_) | ValueRef::Null => value,
        })
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
        (Target::Ids(_), _) | (_, Target::Ids(_)) => Target::Refused(ids::not_drawn()),
        (Target::AllShards(_) | Target::Moves(_), _)
        | (_, Target::AllShards(_) | Target::Moves(_)) => refused(),
        (Target::AnyShard, other) | (other, Target::AnyShard) => other,
        (Target::OneShard(a), Target::OneShard(b)) if a == b => Target::OneShard(a),
        (Target::Keys { keys: a, many }, Target::Keys { keys: b, many: _ }) => {
            let keys = a.union(b);
            Target::Keys { keys, many }
        }
        (Target::OneShard(_), Target::OneShard(_) | Target::Keys { .. })
        | (Target::Keys { .. }, Target::OneShard(_)) => refused(),
    }
}
