//! Histories told call by call.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::checkers::{linearizable, oracle};
use crate::history::{Call, Copies, History, Outcome, Terms};

/// What happens on one log, `a`, and what its replicas hold afterwards. Each
/// call and each answer happens a millisecond after the one before.
#[derive(Default)]
pub(super) struct Story {
    history: History,
    copies: Copies,
    now: Duration,
}

pub(super) const LOG: &str = "a";

impl Story {
    /// A call that stays under way.
    pub(super) fn ask(&mut self, call: Call) -> u64 {
        self.now += Duration::from_millis(1);
        self.history.invoke(self.now, 1, LOG, call)
    }

    /// The answer to a call under way.
    pub(super) fn answer(&mut self, id: u64, outcome: Outcome) -> &mut Self {
        self.now += Duration::from_millis(1);
        self.history.complete(self.now, id, outcome);
        self
    }

    /// A call that is answered before anything else happens.
    pub(super) fn does(&mut self, call: Call, outcome: Outcome) -> &mut Self {
        let id = self.ask(call);
        self.answer(id, outcome)
    }

    /// All three replicas hold `values` from offset 0 on.
    pub(super) fn holds(&mut self, values: &[u64]) -> &mut Self {
        for node in 1..=3 {
            self.node_holds(node, (0..).zip(values.iter().copied()).collect());
        }
        self
    }

    /// `node` holds these offsets and values.
    pub(super) fn node_holds(&mut self, node: u64, records: Vec<(u64, u64)>) -> &mut Self {
        self.copies.entry(LOG.to_owned()).or_default().insert(node, records);
        self
    }

    /// The oracle finds that these promises were broken and no other.
    #[track_caller]
    pub(super) fn breaks(&self, promises: &[&str]) {
        let violations = oracle::check(&self.history.snapshot(), &self.copies);
        let found: BTreeSet<&str> = violations.iter().map(|it| it.promise.as_str()).collect();
        assert_eq!(found, promises.iter().copied().collect(), "{violations:#?}");
    }

    /// No judge finds anything.
    #[track_caller]
    pub(super) fn is_well(&self) {
        self.breaks(&[]);
        assert_eq!(self.unordered(), None);
    }

    /// What searches for an order say, of all logs, cursors and leases.
    pub(super) fn found(&self) -> Vec<String> {
        linearizable::check(&self.history.snapshot(), &self.copies).iter().map(ToString::to_string).collect()
    }

    /// What the search for an order says, if there is none.
    #[track_caller]
    pub(super) fn unordered(&self) -> Option<String> {
        let violations = linearizable::check(&self.history.snapshot(), &self.copies);
        assert!(violations.iter().all(|it| it.promise == "linearizable"), "{violations:#?}");
        violations.first().map(|it| it.details.clone())
    }
}

pub(super) fn append(values: &[u64]) -> Call {
    append_by(1, values)
}

pub(super) fn append_by(producer: u64, values: &[u64]) -> Call {
    Call::Append { producer, values: values.to_vec(), terms: Terms::default() }
}

pub(super) fn read(from: u64, max: u64) -> Call {
    Call::Read { from, max, local: false }
}

pub(super) fn local_read(from: u64, max: u64) -> Call {
    Call::Read { from, max, local: true }
}

pub(super) fn at(start: u64, end: u64) -> Outcome {
    Outcome::Appended { start, end }
}

pub(super) fn saw(from: u64, values: &[u64]) -> Outcome {
    Outcome::Read { records: (from..).zip(values.iter().copied()).collect() }
}

pub(super) fn is(end: u64) -> Outcome {
    Outcome::End { end }
}

pub(super) fn unknown() -> Outcome {
    Outcome::Unknown { why: "the reply was lost".to_owned() }
}

pub(super) fn failed() -> Outcome {
    Outcome::Failed { why: "refused".to_owned() }
}
