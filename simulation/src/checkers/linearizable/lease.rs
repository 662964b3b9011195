//! A holder's lease as a model: an offset, or nothing.
//!
//! ```text
//!   held from 5, may end ──▶ "held from 5"      it has not ended
//!                       └──▶ "not held"         it ended at some time before
//! ```
//!
//! Nobody is told that one ends by itself. One that may have is taken to be held until
//! an answer says that it is not: until then nothing depends on it.

use super::engine::Model;
use crate::history::{LeaseAnswer, LeaseCall};

/// Any one holder's lease of a log, not held at first.
#[derive(Clone, Copy, Debug)]
pub struct LeaseModel;

/// What there is of a lease between two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The first offset that it keeps.
    pub offset: u64,
    /// Whether it may end by itself.
    pub ends: bool,
}

impl Model for LeaseModel {
    type Call = LeaseCall;
    type Answer = LeaseAnswer;
    type State = Option<Held>;

    fn initial(&self) -> Option<Held> {
        None
    }

    fn step(&self, &state: &Option<Held>, call: &LeaseCall, answer: Option<&LeaseAnswer>) -> Option<Option<Held>> {
        let ended = || state.filter(|held| held.ends).and_then(|_| after(None, *call, answer.copied()));
        after(state, *call, answer.copied()).or_else(ended)
    }

    fn only_looks(&self, call: &LeaseCall, answer: Option<&LeaseAnswer>) -> bool {
        // Other answers may make sure that it has ended.
        let is_held = matches!(answer, Some(LeaseAnswer::Held { .. } | LeaseAnswer::Strands { .. }));
        is_held && matches!(call, LeaseCall::Get | LeaseCall::Trim { .. })
    }
}

/// What there is after `call` had `answer`, if it can have had it, no lease ending
/// meanwhile.
fn after(state: Option<Held>, call: LeaseCall, answer: Option<LeaseAnswer>) -> Option<Option<Held>> {
    match (call, answer) {
        (LeaseCall::Hold { renew: true, .. } | LeaseCall::Get, Some(LeaseAnswer::NotHeld)) => {
            state.is_none().then_some(None)
        }
        (LeaseCall::Hold { offset, renew, ends }, None) => {
            (!renew || state.is_some()).then_some(Some(Held { offset, ends }))
        }
        (LeaseCall::Hold { offset, renew, ends }, Some(LeaseAnswer::Held { offset: told })) => {
            let is_granted = offset == told && (!renew || state.is_some());
            is_granted.then_some(Some(Held { offset, ends }))
        }
        (LeaseCall::Release, None) => Some(None),
        (LeaseCall::Release, Some(LeaseAnswer::Released { existed })) => (existed == state.is_some()).then_some(None),
        (LeaseCall::Get, None) => Some(state),
        (LeaseCall::Get, Some(LeaseAnswer::Held { offset })) => {
            state.is_some_and(|held| held.offset == offset).then_some(state)
        }
        (LeaseCall::Trim { .. }, Some(LeaseAnswer::Trimmed { start })) => {
            state.is_none_or(|held| held.offset >= start).then_some(state)
        }
        (LeaseCall::Trim { to }, Some(LeaseAnswer::Strands { offset })) => {
            state.is_some_and(|held| held.offset == offset && offset < to).then_some(state)
        }
        _ => None,
    }
}
