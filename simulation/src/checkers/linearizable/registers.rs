//! Whether one order explains all answers about a cursor, or a holder's lease: each of
//! them is searched by itself, as each log is.

use std::collections::BTreeMap;
use std::fmt;

use super::candidates;
use super::cursor::CursorModel;
use super::engine::{Attempt, Bound, Model, Outcome, Stuck, search};
use super::lease::LeaseModel;
use crate::checkers::order;
use crate::checkers::tell::Told;
use crate::history::{self, Call, CursorAnswer, CursorCall, LeaseAnswer, LeaseCall, Operation};
use crate::violation::Violation;

/// Judges all calls to cursors and leases: `cursors-linearizable` for each cursor and
/// `leases-linearizable` for each holder's lease of a log whose calls have no order.
pub(super) fn check(operations: &[Operation]) -> Vec<Violation> {
    let mut cursors: BTreeMap<(&str, &str), Vec<&Operation>> = BTreeMap::new();
    let mut leases: BTreeMap<(&str, &str), Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        match &operation.call {
            Call::Cursor { cursor, .. } => cursors.entry((&operation.log, cursor)).or_default().push(operation),
            Call::Lease { holder, .. } => drop(leases.entry((&operation.log, holder)).or_default()),
            _ => {}
        }
    }
    // A trim meets every lease of its log.
    for ((log, holder), calls) in &mut leases {
        let of_this = |operation: &&Operation| match &operation.call {
            Call::Lease { holder: of, .. } => of == holder,
            Call::Trim { .. } => true,
            _ => false,
        };
        calls.extend(operations.iter().filter(|operation| operation.log == *log).filter(of_this));
    }
    let cursors =
        cursors.into_iter().filter_map(|((log, cursor), calls)| {
            let what = format!("log {log}, cursor {cursor}");
            let stuck = unordered(&what, &CursorModel, &calls, of_cursor)?;
            Some(stuck.unwrap_or_else(|(details, shown_by)| {
                Violation::new("cursors-linearizable", details).shown_by(shown_by)
            }))
        });
    let leases =
        leases.into_iter().filter_map(|((log, holder), calls)| {
            let what = format!("log {log}, lease of {holder}");
            let stuck = unordered(&what, &LeaseModel, &calls, |operation| of_lease(operation, holder))?;
            Some(stuck.unwrap_or_else(|(details, shown_by)| {
                Violation::new("leases-linearizable", details).shown_by(shown_by)
            }))
        });
    cursors.chain(leases).collect()
}

/// A call to a cursor with its answer, if an order has to explain it or may need it.
fn of_cursor(operation: &Operation) -> Option<(CursorCall, Option<CursorAnswer>)> {
    let Call::Cursor { call, .. } = &operation.call else { return None };
    match &operation.outcome {
        history::Outcome::Cursor(answer) => Some((*call, Some(*answer))),
        history::Outcome::Unknown { .. } | history::Outcome::Pending if *call != CursorCall::Get => Some((*call, None)),
        _ => None,
    }
}

fn of_lease(operation: &Operation, holder: &str) -> Option<(LeaseCall, Option<LeaseAnswer>)> {
    let call = match &operation.call {
        Call::Lease { call, .. } => call,
        Call::Trim { to } => return Some((LeaseCall::Trim { to: *to }, Some(of_trim(&operation.outcome, holder)?))),
        _ => return None,
    };
    match &operation.outcome {
        history::Outcome::Lease(answer) => Some((*call, Some(*answer))),
        history::Outcome::Unknown { .. } | history::Outcome::Pending if *call != LeaseCall::Get => Some((*call, None)),
        _ => None,
    }
}

/// What the answer to a trim says of a holder's lease.
fn of_trim(outcome: &history::Outcome, holder: &str) -> Option<LeaseAnswer> {
    match outcome {
        history::Outcome::Trimmed { start } => Some(LeaseAnswer::Trimmed { start: *start }),
        history::Outcome::Strands { leases } => {
            let (_, offset) = leases.iter().find(|(of, _)| of == holder)?;
            Some(LeaseAnswer::Strands { offset: *offset })
        }
        _ => None,
    }
}

/// Why there is no order, with the calls that show it, or that none was found in time.
fn unordered<M: Model>(
    what: &str,
    model: &M,
    calls: &[&Operation],
    of: impl Fn(&Operation) -> Option<(M::Call, Option<M::Answer>)>,
) -> Option<Result<Violation, (String, Vec<u64>)>>
where
    M::State: fmt::Debug,
{
    let judged = calls.iter().zip(order::spans(calls)).filter_map(|(&operation, span)| {
        let (call, answer) = of(operation)?;
        let answer = answer.and_then(|answer| Some((span.answered?, answer)));
        Some((operation, Attempt { call, asked: span.asked, answer }))
    });
    let (judged, attempts): (Vec<&Operation>, Vec<_>) = judged.unzip();
    match search(model, &attempts, Bound::default()) {
        Outcome::Linearizable { .. } => None,
        Outcome::Not(stuck) => Some(Err(explain(what, &judged, &stuck))),
        Outcome::TooHard => {
            let details = format!("{what}: no order of {} calls was found or excluded", attempts.len());
            Some(Ok(Violation::new("linearizable-undecided", details)))
        }
    }
}

fn explain<S: fmt::Debug>(what: &str, judged: &[&Operation], stuck: &Stuck<S>) -> (String, Vec<u64>) {
    let last = stuck.order.last().map(|&index| judged[index]);
    let after = last.map_or("at the beginning".to_owned(), |last| {
        format!("after {} of {} calls, the last of them {}", stuck.order.len(), judged.len(), Told(last))
    });
    let (told, shown_by) = candidates(judged, stuck);
    let details = format!("{what}: {after}, it is {:?}, and none of these can be next: {told}", stuck.state);
    (details, shown_by.into_iter().chain(last.map(|last| last.id)).collect())
}
