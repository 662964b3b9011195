//! Whether one order of all calls explains every answer, each call at some
//! moment between when it was made and when it was answered.
//!
//! [`search`] looks for such an order under any [`Model`]; [`LogModel`] is
//! the log's, [`CursorModel`] a cursor's and [`LeaseModel`] a lease's. Each log, each
//! cursor and each holder's lease is searched by itself: what is linearizable one by
//! one is so as a whole.
//!
//! Local reads promise no such order and are left out; the
//! [oracle](super::oracle) judges them. So are calls that failed, and calls
//! without an answer that left nothing behind.

mod cursor;
mod engine;
mod lease;
mod log;
mod moments;
mod registers;

pub use cursor::{CursorModel, CursorState};
pub use engine::{Attempt, Bound, Model, Outcome, Stuck, search};
pub use lease::{Held, LeaseModel};
pub use log::{LogModel, LogState};

use super::order::{self, Span};
use super::settled::{self, Settled};
use super::tell::Told;
use crate::history::{self, Call, Copies, Operation};
use crate::violation::Violation;

/// A violation lists so many of the calls that cannot be ordered.
const MAX_CANDIDATES: usize = 8;

/// Judges `operations`, all of a run, by the copies that the replicas hold once
/// the run is over: `linearizable` for each log whose calls have no order, and
/// `linearizable-undecided` for each whose search was given up, since that is
/// no proof; `cursors-linearizable` and `leases-linearizable` for each cursor, and each
/// holder's lease, whose calls have none.
///
/// # Panics
/// When an answer does not fit its call.
pub fn check(operations: &[Operation], copies: &Copies) -> Vec<Violation> {
    super::assert_well_formed(operations);
    let judge = |log| check_log(log, &settled::upon(operations, log), &Settled::of(copies.get(log)), Bound::default());
    let logs = settled::logs(operations, copies).into_iter().filter_map(judge);
    logs.chain(registers::check(operations)).collect()
}

fn check_log(log: &str, calls: &[&Operation], settled: &Settled, bound: Bound) -> Option<Violation> {
    let (judged, attempts) = attempts(calls, settled);
    match search(&LogModel::new(settled.values()), &attempts, bound) {
        Outcome::Linearizable { .. } => None,
        Outcome::Not(stuck) => Some(violation(log, &judged, &stuck)),
        Outcome::TooHard => {
            let details = format_args!("log {log}: no order of {} calls was found or excluded", attempts.len());
            Some(Violation::new("linearizable-undecided", details))
        }
    }
}

/// The calls that an order has to explain, and the same as the search takes
/// them.
fn attempts<'a>(calls: &[&'a Operation], settled: &Settled) -> (Vec<&'a Operation>, Vec<LogAttempt>) {
    let judged = calls.iter().zip(order::spans(calls)).filter(|(operation, _)| is_judged(operation, settled));
    judged.map(|(&operation, span)| (operation, attempt(operation, span))).unzip()
}

type LogAttempt = Attempt<Call, history::Outcome>;

fn is_judged(operation: &Operation, settled: &Settled) -> bool {
    match (&operation.call, &operation.outcome) {
        (
            Call::Append { .. },
            history::Outcome::Appended { .. } | history::Outcome::Fenced { .. } | history::Outcome::Mismatch { .. },
        ) => true,
        (
            Call::Acquire,
            history::Outcome::Acquired { .. } | history::Outcome::Unknown { .. } | history::Outcome::Pending,
        ) => true,
        (Call::Append { values, .. }, history::Outcome::Unknown { .. } | history::Outcome::Pending) => {
            values.iter().any(|&value| !settled.places(value).is_empty())
        }
        (Call::Read { local, .. }, history::Outcome::Read { .. }) => !local,
        (Call::End, history::Outcome::End { .. }) => true,
        _ => false,
    }
}

fn attempt(operation: &Operation, span: Span) -> LogAttempt {
    // An unknown outcome says when the client gave up, not when it happened.
    let is_definite = !matches!(operation.outcome, history::Outcome::Unknown { .. } | history::Outcome::Pending);
    let answered = span.answered.filter(|_| is_definite);
    Attempt {
        call: operation.call.clone(),
        asked: span.asked,
        answer: answered.map(|at| (at, operation.outcome.clone())),
    }
}

fn violation(log: &str, judged: &[&Operation], stuck: &Stuck<LogState>) -> Violation {
    let last = stuck.order.last().map(|&index| judged[index]);
    let after = match last {
        Some(last) => format!("after {} of {} calls, the last of them {}", stuck.order.len(), judged.len(), Told(last)),
        None => "at the beginning".to_owned(),
    };
    let (told, candidates) = candidates(judged, stuck);
    let LogState { length, epoch } = stuck.state;
    let under = if epoch > 0 { format!(" and writer epoch {epoch}") } else { String::new() };
    let details =
        format_args!("log {log}: {after}, it has {length} records{under}, and none of these can be next: {told}");
    let shown_by = candidates.into_iter().chain(last.map(|last| last.id));
    Violation::new("linearizable", details).shown_by(shown_by)
}

/// The calls of which one has to be next and none can be, in words and by their ids.
fn candidates<S>(judged: &[&Operation], stuck: &Stuck<S>) -> (String, Vec<u64>) {
    let candidates: Vec<&Operation> = stuck.candidates.iter().map(|&index| judged[index]).collect();
    let mut told: Vec<String> = candidates.iter().take(MAX_CANDIDATES).map(|it| Told(it).to_string()).collect();
    if let more @ 1.. = candidates.len().saturating_sub(MAX_CANDIDATES) {
        told.push(format!("{more} more"));
    }
    (told.join("; "), candidates.iter().map(|operation| operation.id).collect())
}
