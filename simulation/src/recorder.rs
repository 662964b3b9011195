//! What a run writes down: events, rare states, counts of faults.
//!
//! Clones write into the same record. Everything recorded follows from the
//! scenario alone, so that two runs of it can be compared byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::io::Write;
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
    teller: Teller,
}

/// Where each event is told the moment it happens.
#[derive(Default)]
struct Teller(Option<Box<dyn Write + Send>>);

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Teller").field(&self.0.is_some()).finish()
    }
}

impl State {
    fn happened(&mut self, event: Event) {
        if let Some(teller) = &mut self.teller.0 {
            // Whoever does not listen any more misses it; the record has it.
            let _ = writeln!(teller, "{event}");
        }
        self.events.push(event);
    }
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
    /// Writes every event to `teller` as it happens, too: of a run that never
    /// ends that is all there will be.
    pub fn tell(&self, teller: impl Write + Send + 'static) {
        self.state().teller = Teller(Some(Box::new(teller)));
    }

    /// Something happened at `at`.
    pub fn event(&self, at: Duration, what: What) {
        self.state().happened(Event { at, what });
    }

    /// A promise was not kept.
    pub fn violated(&self, at: Duration, violation: Violation, node: Option<u64>) {
        let mut state = self.state();
        if state.violations.len() >= MAX_VIOLATIONS {
            return;
        }
        let (promise, details) = (violation.promise.clone(), violation.details.clone());
        state.happened(Event { at, what: What::Violated { promise, details, node } });
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
            state.happened(Event { at, what: What::Mark { mark: mark.to_owned() } });
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What was written so far.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<u8>>>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_told_as_it_happens_is_the_trace() {
        let (recorder, told) = (Recorder::default(), Told::default());
        recorder.tell(told.clone());
        recorder.event(Duration::from_secs(1), What::Serves { node: 1 });
        recorder.mark(Duration::from_secs(2), "vote-saved");
        recorder.mark(Duration::from_secs(3), "vote-saved");
        recorder.violated(Duration::from_secs(4), Violation::new("no-lost-record", "one is gone"), Some(1));
        let told = told.0.lock().expect("nobody panicked").clone();
        assert_eq!(String::from_utf8(told).expect("text"), recorder.record().trace());
        assert_eq!(recorder.record().events.len(), 3);
    }
}
