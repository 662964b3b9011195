//! A holder's lease as a model: a grant and an offset, or nothing.
//!
//! ```text
//!   held from 5, may end ──▶ "held from 5"      it has not ended
//!                       └──▶ "not held"         it ended at some time before
//! ```
//!
//! The number of a grant that nobody was told of is unknown, and whatever an answer
//! says first.
//!
//! Nobody is told that one ends by itself. One that may have is taken to be held until
//! an answer says that it is not: until then nothing depends on it.

use super::engine::Model;
use crate::history::{LeaseAnswer, LeaseCall};

/// Any one holder's lease of a log, not held at first.
#[derive(Clone, Copy, Debug)]
pub struct LeaseModel;

/// What there is of a lease between two calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The highest number of a grant that an answer has named.
    last: u64,
    held: Option<Held>,
}

/// A lease that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The number of its grant, if that was told.
    pub grant: Option<u64>,
    /// The first offset that it keeps.
    pub offset: u64,
    /// Whether it may end by itself.
    pub ends: bool,
}

impl Model for LeaseModel {
    type Call = LeaseCall;
    type Answer = LeaseAnswer;
    type State = State;

    fn initial(&self) -> State {
        State::default()
    }

    fn step(&self, &state: &State, call: &LeaseCall, answer: Option<&LeaseAnswer>) -> Option<State> {
        let may_end = state.held.is_some_and(|held| held.ends);
        let ended = || may_end.then(|| State { held: None, ..state }.after(*call, answer.copied())).flatten();
        state.after(*call, answer.copied()).or_else(ended)
    }

    fn only_looks(&self, call: &LeaseCall, answer: Option<&LeaseAnswer>) -> bool {
        // Other answers may make sure that it has ended, or which grant it is.
        matches!((call, answer), (LeaseCall::Trim { .. }, Some(LeaseAnswer::Strands { .. })))
    }
}

impl State {
    /// What there is after `call` had `answer`, if it can have had it, no lease ending
    /// meanwhile.
    fn after(self, call: LeaseCall, answer: Option<LeaseAnswer>) -> Option<Self> {
        match (call, answer) {
            (LeaseCall::Hold { offset, grant: 0, ends }, None) => {
                Some(self.holding(Held { grant: None, offset, ends }))
            }
            (LeaseCall::Hold { offset, grant: 0, ends }, Some(LeaseAnswer::Held { grant, offset: told })) => {
                let is_granted = offset == told && self.last < grant;
                is_granted.then_some(Self { last: grant, held: Some(Held { grant: Some(grant), offset, ends }) })
            }
            (LeaseCall::Hold { offset, grant, ends }, None) => {
                let known = self.by(grant)?;
                Some(known.holding(Held { grant: Some(grant), offset, ends }))
            }
            (LeaseCall::Hold { offset, grant, ends }, Some(LeaseAnswer::Held { grant: by, offset: told })) => {
                let known = self.by(grant).filter(|_| by == grant && offset == told)?;
                Some(known.holding(Held { grant: Some(grant), offset, ends }))
            }
            (LeaseCall::Hold { grant, .. } | LeaseCall::Release { grant }, Some(LeaseAnswer::NotHeld { now })) => {
                self.but_by(grant, now)
            }
            (LeaseCall::Release { grant }, None) => Some(Self { held: None, ..self.by(grant)? }),
            (LeaseCall::Release { grant }, Some(LeaseAnswer::Released { existed: true })) => {
                Some(Self { held: None, ..self.by(grant)? })
            }
            (LeaseCall::Release { .. }, Some(LeaseAnswer::Released { existed: false }))
            | (LeaseCall::Get, Some(LeaseAnswer::NotHeld { now: None })) => self.held.is_none().then_some(self),
            (LeaseCall::Get, None) => Some(self),
            (LeaseCall::Get, Some(LeaseAnswer::Held { grant, offset })) => {
                self.by(grant).filter(|known| known.held.is_some_and(|held| held.offset == offset))
            }
            (LeaseCall::Trim { .. }, Some(LeaseAnswer::Trimmed { start })) => {
                self.held.is_none_or(|held| held.offset >= start).then_some(self)
            }
            (LeaseCall::Trim { to }, Some(LeaseAnswer::Strands { offset })) => {
                self.held.is_some_and(|held| held.offset == offset && offset < to).then_some(self)
            }
            _ => None,
        }
    }

    fn holding(self, held: Held) -> Self {
        Self { held: Some(held), ..self }
    }

    /// The same, if it may be held by `grant`.
    fn by(self, grant: u64) -> Option<Self> {
        let held = self.held?;
        let may_be = held.grant.map_or(self.last < grant, |by| by == grant);
        may_be.then(|| Self { last: self.last.max(grant), held: Some(Held { grant: Some(grant), ..held }) })
    }

    /// The same, if it is not held by `grant`, but by the grant `now`.
    fn but_by(self, grant: u64, now: Option<u64>) -> Option<Self> {
        match now {
            None => self.held.is_none().then_some(self),
            Some(now) => self.by(now).filter(|_| now != grant),
        }
    }
}
