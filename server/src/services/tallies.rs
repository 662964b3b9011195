//! What the services have done since the node started, counted where answers
//! are given.

use std::sync::atomic::{AtomicU64, Ordering};

use quipu_protocol::v1;
use quipu_protocol::v1::error::Kind;
use quipu_raft::Appended;

/// Why something was not done, in the words of `quipu.v1.Error`. The last one
/// is for whatever has no kind.
pub(crate) const REASONS: [&str; 28] = [
    "not_leader",
    "unknown_log",
    "log_exists",
    "invalid_argument",
    "bad_batch",
    "too_large",
    "overloaded",
    "out_of_range",
    "too_few_nodes",
    "unknown_producer",
    "producer_fenced",
    "out_of_sequence",
    "outcome_unknown",
    "unavailable",
    "damaged",
    "no_such_replica",
    "not_taken",
    "no_space",
    "fenced",
    "epoch_ahead",
    "writer_required",
    "offset_mismatch",
    "cursor_refused",
    "too_stale",
    "not_yet_applied",
    "strands_leases",
    "lease_not_held",
    "other",
];

/// The counts.
#[derive(Default)]
pub(crate) struct Tallies {
    /// Appends that were acknowledged, and their records and bytes.
    pub(crate) appends: Count,
    pub(crate) appended_records: Count,
    pub(crate) appended_bytes: Count,
    /// Those of them that repeated an append that had landed.
    pub(crate) duplicates: Count,
    /// Appends that were not acknowledged, by [`REASONS`].
    pub(crate) append_errors: Errors,
    /// Read streams that were begun, and what they carried.
    pub(crate) reads: Count,
    pub(crate) read_batches: Count,
    pub(crate) read_bytes: Count,
    /// Read streams that were refused or broke, by [`REASONS`].
    pub(crate) read_errors: Errors,
}

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

/// How many errors there were, by reason.
#[derive(Default)]
pub(crate) struct Errors([Count; REASONS.len()]);

impl Tallies {
    /// An append of so many bytes is answered.
    pub(super) fn append(&self, bytes: usize, outcome: &Result<Appended, v1::Error>) {
        match outcome {
            Ok(appended) => {
                self.appends.add(1);
                self.appended_records.add(appended.range.count());
                self.appended_bytes.add(bytes as u64);
                self.duplicates.add(u64::from(appended.duplicate));
            }
            Err(error) => self.append_errors.add(error),
        }
    }

    /// The sums, as a node tells its cluster.
    pub(crate) fn counters(&self) -> v1::ServiceCounters {
        v1::ServiceCounters {
            appends: self.appends.get(),
            appended_records: self.appended_records.get(),
            appended_bytes: self.appended_bytes.get(),
            append_errors: self.append_errors.by_reason().map(|(_, count)| count).sum(),
            reads: self.reads.get(),
            read_batches: self.read_batches.get(),
            read_bytes: self.read_bytes.get(),
        }
    }

    /// A read was begun or refused.
    pub(super) fn read<T>(&self, started: &Result<T, v1::Error>) {
        match started {
            Ok(_) => self.reads.add(1),
            Err(error) => self.read_errors.add(error),
        }
    }

    /// A read stream answers, or breaks.
    pub(super) fn read_answer(&self, answer: &Result<v1::ReadResponse, v1::Error>) {
        match answer {
            Ok(answer) => {
                self.read_batches.add(answer.batches.len() as u64);
                self.read_bytes.add(answer.batches.iter().map(|batch| batch.len() as u64).sum());
            }
            Err(error) => self.read_errors.add(error),
        }
    }
}

impl Count {
    fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it is now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Errors {
    fn add(&self, error: &v1::Error) {
        self.0[reason(error)].add(1);
    }

    /// Every reason and how often it was given.
    pub(crate) fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        REASONS.iter().zip(&self.0).map(|(reason, count)| (*reason, count.get()))
    }
}

/// The place of an error's kind in [`REASONS`].
fn reason(error: &v1::Error) -> usize {
    match &error.kind {
        Some(Kind::NotLeader(_)) => 0,
        Some(Kind::UnknownLog(_)) => 1,
        Some(Kind::LogExists(_)) => 2,
        Some(Kind::InvalidArgument(_)) => 3,
        Some(Kind::BadBatch(_)) => 4,
        Some(Kind::TooLarge(_)) => 5,
        Some(Kind::Overloaded(_)) => 6,
        Some(Kind::OutOfRange(_)) => 7,
        Some(Kind::TooFewNodes(_)) => 8,
        Some(Kind::UnknownProducer(_)) => 9,
        Some(Kind::ProducerFenced(_)) => 10,
        Some(Kind::OutOfSequence(_)) => 11,
        Some(Kind::OutcomeUnknown(_)) => 12,
        Some(Kind::Unavailable(_)) => 13,
        Some(Kind::Damaged(_)) => 14,
        Some(Kind::NoSuchReplica(_)) => 15,
        Some(Kind::NotTaken(_)) => 16,
        Some(Kind::NoSpace(_)) => 17,
        Some(Kind::Fenced(_)) => 18,
        Some(Kind::EpochAhead(_)) => 19,
        Some(Kind::WriterRequired(_)) => 20,
        Some(Kind::OffsetMismatch(_)) => 21,
        Some(Kind::CursorRefused(_)) => 22,
        Some(Kind::TooStale(_)) => 23,
        Some(Kind::NotYetApplied(_)) => 24,
        Some(Kind::StrandsLeases(_)) => 25,
        Some(Kind::LeaseNotHeld(_)) => 26,
        // Neither appends nor reads are refused for reader groups.
        Some(
            Kind::UnknownReaderGroup(_)
            | Kind::UnknownReaderMember(_)
            | Kind::OtherPattern(_)
            | Kind::NoMatchingLogs(_),
        )
        | None => 27,
    }
}

#[cfg(test)]
mod tests {
    use quipu_protocol::{Offset, OffsetRange};

    use super::*;

    #[test]
    fn appends_are_counted_by_what_became_of_them() {
        let tallies = Tallies::default();
        let range = OffsetRange::new(Offset::new(7), Offset::new(10));
        tallies.append(100, &Ok(Appended { range, duplicate: false }));
        tallies.append(50, &Ok(Appended { range, duplicate: true }));
        tallies.append(999, &Err(v1::Error::overloaded("append_queue_bytes", 1)));
        tallies.append(999, &Err(v1::Error::unavailable("nobody leads")));
        tallies.append(0, &Err(v1::Error::unavailable("nobody leads")));
        assert_eq!((tallies.appends.get(), tallies.duplicates.get()), (2, 1));
        assert_eq!((tallies.appended_records.get(), tallies.appended_bytes.get()), (6, 150));
        let errors: Vec<_> = tallies.append_errors.by_reason().filter(|(_, count)| *count > 0).collect();
        assert_eq!(errors, [("overloaded", 1), ("unavailable", 2)]);
    }
}
