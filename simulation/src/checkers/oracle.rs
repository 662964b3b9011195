//! The clients' oracle: what a log promises to those who use it, one promise
//! after the other.
//!
//! | promise | kept by |
//! |---|---|
//! | `created-log-exists` | a log said to exist has a copy |
//! | `contiguous-offsets` | a copy starts at 0 and skips nothing |
//! | `replicas-agree` | every copy is the same |
//! | `no-lost-record` | what was acknowledged is there |
//! | `no-doubled-record` | no value is there twice |
//! | `no-invented-record` | only what was appended to this log is there |
//! | `failed-never-lands` | what failed is not there |
//! | `batch-is-atomic` | a batch is there whole and in order, or not at all |
//! | `range-fits-batch` | an acknowledgement has as many offsets as records |
//! | `offset-never-changes-meaning` | what was acknowledged is where it was said to be |
//! | `producer-order` | a producer's acknowledged batches lie in the order of its calls |
//! | `reads-agree` | what was read is what the log holds there |
//! | `reads-miss-nothing` | a read that is not local shows all that was acknowledged before |
//! | `end-covers-acknowledged` | so does an end |
//! | `end-within-log` | an end counts nothing that the log does not hold |
//! | `end-never-goes-back` | a later end is no lower |
//! | `barrier-sees-all` | a read after a barrier shows all that lies before it |
//! | `freshness-is-true` | a replica has all that was acknowledged before it was as old as it says |
//! | `epoch-is-given-once` | no two acquisitions have the same writer epoch |
//! | `fenced-never-lands` | nothing lands under an older epoch once a newer one was acknowledged |
//! | `resolve-never-lies` | what was resolved is as it was said to be |
//!
//! An append without an answer is held to be neither landed nor lost: it may be
//! there or not, but whole and once.
//!
//! Promises whose breach explains others come first: a record lost in the
//! middle moves all that follow.

mod answers;
mod appends;
mod copies;
mod writers;

use std::collections::BTreeMap;
use std::fmt;

use super::settled::{self, Settled};
use crate::history::{Call, Copies, Operation};
use crate::violation::Violation;

/// So many violations of one promise on one log are told; one is enough to
/// look into, and one defect may break a promise for every record that follows.
const MAX_PER_PROMISE: usize = 8;

/// Judges `operations`, all of a run, by the copies that the replicas hold once
/// the run is over and nothing is under way any more.
///
/// # Panics
/// When the history is none that a run can have: an answer that does not fit
/// its call, or a value that was appended twice.
pub fn check(operations: &[Operation], copies: &Copies) -> Vec<Violation> {
    super::assert_well_formed(operations);
    let authors = authors(operations);
    let mut violations = Vec::new();
    for log in settled::logs(operations, copies) {
        let calls = settled::upon(operations, log);
        let held = copies.get(log);
        let settled = Settled::of(held);
        let mut findings = Findings::of(log);
        copies::check(&calls, held, &mut findings);
        appends::check(&calls, &settled, &authors, &mut findings);
        answers::check(&calls, &settled, &mut findings);
        writers::check(&calls, &settled, &mut findings);
        violations.extend(findings.into_violations());
    }
    violations
}

/// Which call appends a value.
type Authors<'a> = BTreeMap<u64, &'a Operation>;

fn authors(operations: &[Operation]) -> Authors<'_> {
    let mut authors = Authors::new();
    for operation in operations {
        let Call::Append { values, .. } = &operation.call else { continue };
        for &value in values {
            let other = authors.insert(value, operation);
            assert!(other.is_none(), "value {value} of operation {} was appended before", operation.id);
        }
    }
    authors
}

/// What was found on one log.
struct Findings<'a> {
    log: &'a str,
    violations: Vec<Violation>,
    counts: BTreeMap<&'static str, usize>,
}

impl<'a> Findings<'a> {
    fn of(log: &'a str) -> Self {
        Self { log, violations: Vec::new(), counts: BTreeMap::new() }
    }

    fn add(&mut self, promise: &'static str, operations: impl IntoIterator<Item = u64>, details: impl fmt::Display) {
        let count = self.counts.entry(promise).or_default();
        *count += 1;
        if *count <= MAX_PER_PROMISE {
            let violation = Violation::new(promise, format_args!("log {}: {details}", self.log));
            self.violations.push(violation.shown_by(operations));
        }
    }

    fn into_violations(mut self) -> Vec<Violation> {
        for (promise, count) in self.counts {
            let last = self.violations.iter_mut().rfind(|violation| violation.promise == promise);
            if let (Some(last), 1..) = (last, count.saturating_sub(MAX_PER_PROMISE)) {
                last.details = format!("{} (and {} more like it)", last.details, count - MAX_PER_PROMISE);
            }
        }
        self.violations
    }
}
