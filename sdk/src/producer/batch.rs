//! A batch on its way, and who waits for it.

use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::{Offset, OffsetRange};
use tokio::sync::oneshot;

use crate::AppendError;

/// A batch that was taken and is not yet answered.
pub(super) struct Batch {
    /// Its place among all that was taken.
    pub(super) ticket: u64,
    /// RecordBatch v2; stamped with a producer once it was sent.
    pub(super) bytes: Bytes,
    pub(super) count: u32,
    /// The log has to end there.
    pub(super) expected_end: Option<Offset>,
    /// What is committed with it: [`CarriedCommits`](quipu_protocol::v1::CarriedCommits).
    pub(super) cursors: Bytes,
    /// What it holds of the producer's `buffer_bytes`.
    pub(super) room: usize,
    pub(super) taken_at: Duration,
    pub(super) waiter: Waiter,
}

/// Who waits for a batch's outcome.
pub(super) enum Waiter {
    /// One `append` for the whole of it.
    Whole(oneshot::Sender<Result<OffsetRange, AppendError>>),
    /// A `send` for each record, in the batch's order.
    Each(Vec<oneshot::Sender<Result<Offset, AppendError>>>),
    /// Nobody any more: it was told.
    Told,
}

impl Waiter {
    /// Tells the outcome, once. Who has gone away in the meantime does not
    /// want to know.
    pub(super) fn tell(&mut self, outcome: Result<OffsetRange, AppendError>) {
        match std::mem::replace(self, Self::Told) {
            Self::Whole(waiter) => {
                let _ = waiter.send(outcome);
            }
            Self::Each(waiters) => {
                for (position, waiter) in (0..).zip(waiters) {
                    let _ = waiter.send(outcome.clone().map(|range| range.start().advance(position)));
                }
            }
            Self::Told => unreachable!("an outcome is told once"),
        }
    }
}
