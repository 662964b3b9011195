//! What a run writes down: events, rare states, counts of faults.
//!
//! Clones write into the same record. Everything recorded follows from the
//! scenario alone, so that two runs of it can be compared byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Event, What};
use crate::faults::Kind;
use crate::violation::Violation;

/// More violations than these say nothing new.
const MAX_VIOLATIONS: usize = 50;

/// How often faults of a kind were planned, began, and struck while an
/// operation was under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// How often the scenario had one.
    pub scheduled: u64,
    /// How often one really began: there was a node to strike, and enough good
    /// copies would be left.
    pub fired: u64,
    /// How often a client's operation was under way at that moment.
    pub hit: u64,
}

/// The record of a run.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The simulated time as of the last step; events of hosts carry their own.
    events: Vec<Event>,
    violations: Vec<Violation>,
    marks: BTreeSet<String>,
    faults: BTreeMap<Kind, Struck>,
}

/// What a record came to.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Everything that happened.
    pub events: Vec<Event>,
    /// The promises that were not kept.
    pub violations: Vec<Violation>,
    /// The rare states that were reached.
    pub marks: BTreeSet<String>,
    /// The faults.
    pub faults: BTreeMap<Kind, Struck>,
}

impl Recorder {
    /// Something happened at `at`.
    pub fn event(&self, at: Duration, what: What) {
        self.state().events.push(Event { at, what });
    }

    /// A promise was not kept.
    pub fn violated(&self, at: Duration, violation: Violation, node: Option<u64>) {
        let mut state = self.state();
        if state.violations.len() >= MAX_VIOLATIONS {
            return;
        }
        let (promise, details) = (violation.promise.clone(), violation.details.clone());
        state.events.push(Event { at, what: What::Violated { promise, details, node } });
        state.violations.push(violation);
    }

    /// Whether any promise was not kept so far.
    pub fn has_violations(&self) -> bool {
        !self.state().violations.is_empty()
    }

    /// A rare state was reached.
    pub fn mark(&self, at: Duration, mark: &str) {
        let mut state = self.state();
        if !state.marks.contains(mark) {
            state.marks.insert(mark.to_owned());
            state.events.push(Event { at, what: What::Mark { mark: mark.to_owned() } });
        }
    }

    /// Changes the counts of a kind of fault.
    pub fn count(&self, kind: Kind, change: impl FnOnce(&mut Struck)) {
        change(self.state().faults.entry(kind).or_default());
    }

    /// Everything so far.
    pub fn record(&self) -> Record {
        let state = self.state();
        Record {
            events: state.events.clone(),
            violations: state.violations.clone(),
            marks: state.marks.clone(),
            faults: state.faults.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// The events, a line each: what two runs of the same scenario have in
    /// common to the byte.
    pub fn trace(&self) -> String {
        let mut text = String::new();
        for event in &self.events {
            let _ = writeln!(text, "{event}");
        }
        text
    }
}
