//! Which calls were answered before others were made.
//!
//! ```text
//!   time ──────────▶ t
//!   a     ├──────────┤          answered at t
//!   b                ├───────┤  made at t: after a
//!   c                │          made and answered at t: after a, beside b
//! ```
//!
//! Requests and answers take time to travel. What is asked at the very moment
//! of an answer therefore finds that answer's call done: a client that reads
//! as soon as its append is acknowledged has to see it, although a simulated
//! clock shows one time for both.

use crate::history::Operation;

/// When a call was made and when it was answered, as positions in one sequence
/// of all calls and answers. No two positions are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) asked: u64,
    pub(crate) answered: Option<u64>,
}

/// One position in the sequence of calls and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The operation at this index is asked for.
    Asked(usize),
    /// The operation at this index is answered.
    Answered(usize),
}

/// The calls and answers of `operations` as one sequence.
pub(crate) fn sequence(operations: &[&Operation]) -> Vec<Moment> {
    let mut moments = Vec::with_capacity(2 * operations.len());
    for (index, operation) in operations.iter().enumerate() {
        moments.push((operation.invoked, 1, operation.id, Moment::Asked(index)));
        if let Some(at) = operation.completed {
            // What takes no time at all is beside whatever else is asked then.
            let rank = if at == operation.invoked { 2 } else { 0 };
            moments.push((at, rank, operation.id, Moment::Answered(index)));
        }
    }
    moments.sort_by_key(|&(at, rank, id, _)| (at, rank, id));
    moments.into_iter().map(|(.., moment)| moment).collect()
}

/// The span of each of `operations`, in their order.
pub(crate) fn spans(operations: &[&Operation]) -> Vec<Span> {
    let mut spans = vec![Span { asked: 0, answered: None }; operations.len()];
    for (position, moment) in (0_u64..).zip(sequence(operations)) {
        match moment {
            Moment::Asked(index) => spans[index].asked = position,
            Moment::Answered(index) => spans[index].answered = Some(position),
        }
    }
    spans
}

/// The highest of what was answered before each of `operations` was made:
/// `value` tells what an answered operation counts for, none being nothing.
pub(crate) fn highest_before<T: Ord + Copy>(
    operations: &[&Operation],
    value: impl Fn(&Operation) -> Option<T>,
) -> Vec<Option<T>> {
    let mut before = vec![None; operations.len()];
    let mut highest = None;
    for moment in sequence(operations) {
        match moment {
            Moment::Asked(index) => before[index] = highest,
            Moment::Answered(index) => highest = highest.max(value(operations[index])),
        }
    }
    before
}
