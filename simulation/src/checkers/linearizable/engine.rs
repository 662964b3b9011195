//! The search for an order of calls that explains every answer.
//!
//! ```text
//!   a ├────────┤           b was answered before c was made, so b comes before c;
//!   b    ├──┤              a may be anywhere between its ends; d was never
//!   c          ├────┤      answered and may come at any time after it was made,
//!   d      ├─────────···   or never
//! ```
//!
//! Wing and Gong's search with Lowe's memory ("Testing for linearizability",
//! 2017), as in Porcupine: calls and answers are a linked list; a call that
//! stands before the list's first answer may be next; taking it lifts it and its
//! answer out; a dead end puts them back. What was taken, with the state that it
//! led to, is remembered, and never searched twice.
//!
//! One thing is added. A call that never changes anything (a read) is taken as
//! soon as it may be next, and for good: wherever a valid order has it, moving
//! it here leaves the order valid. Only other calls are worth trying in more
//! than one order. That a call changes nothing *here* is not enough: a write of
//! what is there already may be needed later.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasherDefault, Hash};

use super::moments::Moments;

/// What is checked: how one thing that many use changes by calls made one after
/// the other.
pub trait Model {
    /// What is asked.
    type Call;
    /// What is answered.
    type Answer;
    /// What there is between two calls.
    type State: Clone + Eq + Hash;

    /// What there is before the first call.
    fn initial(&self) -> Self::State;

    /// What there is after `call` had `answer`; none if it cannot have had it in
    /// `state`. No answer means that it took effect and nobody heard how.
    fn step(&self, state: &Self::State, call: &Self::Call, answer: Option<&Self::Answer>) -> Option<Self::State>;

    /// Whether `call` with `answer` leaves every state as it is in which it is
    /// possible. Saying no where that is so costs time, saying yes where it is
    /// not makes the search miss orders.
    fn only_looks(&self, call: &Self::Call, answer: Option<&Self::Answer>) -> bool;
}

/// One call with its answer.
#[derive(Clone, Debug)]
pub struct Attempt<C, A> {
    /// What was asked.
    pub call: C,
    /// When, as a position in a sequence that all attempts share.
    pub asked: u64,
    /// The answer and its position in that sequence. Without one the call may
    /// have taken effect at any time after it was made, or never.
    pub answer: Option<(u64, A)>,
}

/// How much a search may cost before it is given up.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// How many times [`Model::step`] may be asked.
    pub steps: u64,
    /// How many bytes the memory of dead ends may take, about.
    pub memory_bytes: usize,
}

impl Default for Bound {
    fn default() -> Self {
        Self { steps: 20_000_000, memory_bytes: 256 << 20 }
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<S> {
    /// There is such an order: attempts by their indices. Those without an
    /// answer may be missing.
    Linearizable {
        /// The order.
        order: Vec<usize>,
    },
    /// There is none.
    Not(Stuck<S>),
    /// The bound came first.
    TooHard,
}

/// The longest beginning of an order that was found, and where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck<S> {
    /// Attempts that can be ordered so, by their indices.
    pub order: Vec<usize>,
    /// What there is after them.
    pub state: S,
    /// Those of which one has to be next, and none can be.
    pub candidates: Vec<usize>,
}

/// Searches for an order of `attempts` under `model`, within `bound`.
///
/// # Panics
/// When an attempt was answered before it was made.
pub fn search<M: Model>(model: &M, attempts: &[Attempt<M::Call, M::Answer>], bound: Bound) -> Outcome<M::State> {
    Search::new(model, attempts, bound).run()
}

/// A call that was taken.
struct Taken<S> {
    attempt: usize,
    /// What there was before, unless the call only looks: then no other has to
    /// be tried in its place.
    before: Option<S>,
}

struct Search<'a, M: Model> {
    model: &'a M,
    attempts: &'a [Attempt<M::Call, M::Answer>],
    bound: Bound,
    steps: u64,
    moments: Moments,
    state: M::State,
    taken: Vec<Taken<M::State>>,
    taken_set: Vec<u64>,
    /// How many of those with an answer are not taken yet.
    owed: usize,
    seen: HashSet<(Vec<u64>, M::State), BuildHasherDefault<DefaultHasher>>,
    deepest: Option<Stuck<M::State>>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, attempts: &'a [Attempt<M::Call, M::Answer>], bound: Bound) -> Self {
        Self {
            model,
            attempts,
            bound,
            steps: 0,
            moments: Moments::of(attempts.iter().map(|it| (it.asked, it.answer.as_ref().map(|&(at, _)| at)))),
            state: model.initial(),
            taken: Vec::new(),
            taken_set: vec![0; attempts.len().div_ceil(64)],
            owed: attempts.iter().filter(|attempt| attempt.answer.is_some()).count(),
            seen: HashSet::default(),
            deepest: None,
        }
    }

    fn run(mut self) -> Outcome<M::State> {
        self.take_what_only_looks();
        let mut next = self.moments.first_candidate();
        loop {
            if self.owed == 0 {
                return Outcome::Linearizable { order: self.order() };
            }
            if self.is_spent() {
                return Outcome::TooHard;
            }
            if let Some(attempt) = next {
                if self.try_to_take(attempt) {
                    self.take_what_only_looks();
                    next = self.moments.first_candidate();
                } else {
                    next = self.moments.candidate_after(attempt);
                }
            } else {
                self.remember_if_deepest();
                match self.give_back() {
                    Some(attempt) => next = self.moments.candidate_after(attempt),
                    None => return Outcome::Not(self.deepest.take().expect("a dead end was just remembered")),
                }
            }
        }
    }

    fn is_spent(&self) -> bool {
        let remembered_bytes = self.taken_set.len() * size_of::<u64>() + size_of::<(Vec<u64>, M::State)>();
        self.steps > self.bound.steps || self.seen.len().saturating_mul(remembered_bytes) > self.bound.memory_bytes
    }

    fn step(&mut self, attempt: usize) -> Option<M::State> {
        self.steps += 1;
        let Attempt { call, answer, .. } = &self.attempts[attempt];
        self.model.step(&self.state, call, answer.as_ref().map(|(_, answer)| answer))
    }

    /// One pass is enough: what it takes changes nothing for those it passed.
    fn take_what_only_looks(&mut self) {
        let mut next = self.moments.first_candidate();
        while let Some(attempt) = next {
            let Attempt { call, answer, .. } = &self.attempts[attempt];
            let only_looks = self.model.only_looks(call, answer.as_ref().map(|(_, answer)| answer));
            if only_looks && self.step(attempt).is_some() {
                self.take(attempt, None);
            }
            next = self.moments.candidate_after(attempt);
        }
    }

    /// Takes `attempt` if it can be next and leads somewhere new.
    fn try_to_take(&mut self, attempt: usize) -> bool {
        let Some(after) = self.step(attempt) else { return false };
        let mut taken_set = self.taken_set.clone();
        toggle(&mut taken_set, attempt);
        if !self.seen.insert((taken_set, after.clone())) {
            return false;
        }
        let before = std::mem::replace(&mut self.state, after);
        self.take(attempt, Some(before));
        true
    }

    fn take(&mut self, attempt: usize, before: Option<M::State>) {
        self.moments.lift(attempt);
        toggle(&mut self.taken_set, attempt);
        self.owed -= usize::from(self.attempts[attempt].answer.is_some());
        self.taken.push(Taken { attempt, before });
    }

    /// Gives back all that was taken since the last choice, and the choice: the
    /// call in whose place another may be tried.
    fn give_back(&mut self) -> Option<usize> {
        while let Some(Taken { attempt, before }) = self.taken.pop() {
            self.moments.put_back(attempt);
            toggle(&mut self.taken_set, attempt);
            self.owed += usize::from(self.attempts[attempt].answer.is_some());
            if let Some(before) = before {
                self.state = before;
                return Some(attempt);
            }
        }
        None
    }

    fn order(&self) -> Vec<usize> {
        self.taken.iter().map(|taken| taken.attempt).collect()
    }

    fn remember_if_deepest(&mut self) {
        if self.deepest.as_ref().is_none_or(|deepest| deepest.order.len() < self.taken.len()) {
            let first = self.moments.first_candidate();
            let candidates = std::iter::successors(first, |&attempt| self.moments.candidate_after(attempt)).collect();
            self.deepest = Some(Stuck { order: self.order(), state: self.state.clone(), candidates });
        }
    }
}

fn toggle(set: &mut [u64], index: usize) {
    set[index / 64] ^= 1 << (index % 64);
}
