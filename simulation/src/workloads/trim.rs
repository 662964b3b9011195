//! Trims logs, and remembers what was in them.
//!
//! ```text
//!   read, remember ──▶ trim up to some of that ──▶ nothing below is readable
//! ```
//!
//! What is remembered stands in for what the copies do not hold any more, so
//! that everything which was ever appended is judged by whole copies.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use quipu_sdk::{Offset, OffsetRange, ReadError, TrimError};

use super::Context;
use super::remember::remember;
use crate::environment::clock::now;
use crate::history::{Call, Outcome};
use crate::violation::Violation;

/// What is known of a log that is trimmed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trimmed {
    /// What was read, by offset: at least what clients trimmed.
    pub(crate) values: BTreeMap<u64, u64>,
    /// What was not read before this offset is gone.
    pub(crate) next: u64,
    /// The furthest start that was asked for.
    pub(crate) asked: u64,
    /// The furthest start that was acknowledged.
    pub(crate) start: u64,
}

impl Context {
    /// Looks at what is known of a log that is trimmed.
    pub(crate) fn trimmed<T>(&self, log: &str, look: impl FnOnce(&mut Trimmed) -> T) -> T {
        let mut trimmed = self.shared.trimmed.lock().unwrap_or_else(PoisonError::into_inner);
        look(trimmed.entry(log.to_owned()).or_default())
    }

    /// The furthest that a log may start by now.
    fn furthest_start(&self, log: &str) -> u64 {
        // How far it lets go of records by itself, nobody has to ask for.
        if self.forgets(log) { u64::MAX } else { self.trimmed(log, |trimmed| trimmed.asked) }
    }

    /// A read from `from` was answered, or refused, when starts up to `start`
    /// had been acknowledged before it was asked.
    pub(crate) fn check_start(&self, log: &str, from: u64, start: u64, answer: Result<(), &ReadError>) {
        let asked = self.furthest_start(log);
        let details = match answer {
            Ok(()) if from < start => format!("{log}: a read from {from} was served after a trim to {start}"),
            Err(ReadError::BelowStart { start, .. }) if start.get() > asked || start.get() <= from => {
                format!(
                    "{log}: a read from {from} was told that it starts at {start}; {asked} is the furthest asked for"
                )
            }
            Err(ReadError::BelowStart { .. }) => {
                return self.shared.recorder.mark(now(), "read-below-start-refused");
            }
            _ => return,
        };
        self.shared.recorder.violated(now(), Violation::new("start-is-what-was-asked", details), None);
    }
}

/// Trims again and again.
pub(super) async fn run(context: Context, log: usize, keep: u64, pause_ms: u64) {
    let log = context.log(log);
    while context.goes_on() {
        context.pause(pause_ms).await;
        remember(&context, log.as_str()).await;
        let known = context.trimmed(log.as_str(), |trimmed| trimmed.next);
        let to = known.saturating_sub(context.below(keep + 1));
        context.trimmed(log.as_str(), |trimmed| trimmed.asked = trimmed.asked.max(to));
        let operation = context.invoke(log.as_str(), Call::Trim { to });
        let answer = context.client.trim(&log, Offset::new(to)).await;
        let outcome = match &answer {
            Ok(range) => Outcome::Trimmed { start: range.start().get() },
            Err(TrimError::StrandsLeases { leases, .. }) => Outcome::Strands {
                leases: leases.iter().map(|lease| (lease.holder.clone(), lease.offset.get())).collect(),
            },
            Err(error) => Outcome::Unknown { why: error.to_string() },
        };
        context.complete(operation, outcome);
        if let Ok(range) = answer {
            acknowledged(&context, log.as_str(), to, range);
        }
    }
}

fn acknowledged(context: &Context, log: &str, to: u64, range: OffsetRange) {
    let start = range.start().get();
    let asked = context.furthest_start(log);
    context.trimmed(log, |trimmed| trimmed.start = trimmed.start.max(start));
    if start < to || start > asked {
        let details = format!("{log}: it starts at {start} after a trim to {to}, the furthest being {asked}");
        context.shared.recorder.violated(now(), Violation::new("start-is-what-was-asked", details), None);
    }
    if start > 0 {
        context.shared.recorder.mark(now(), "entries-trimmed");
    }
}
