//! The batch that `send` is filling.

use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::Offset;
use quipu_protocol::batch::{BatchBuilder, BatchError, Record};
use tokio::sync::oneshot;

use super::batch::{Batch, Waiter};
use crate::{AppendError, ProducerConfig};

/// Records that are to go together; at most one such batch is open.
pub(super) struct Gathering {
    builder: BatchBuilder,
    linger: Duration,
    batch_bytes: usize,
    batch_records: u32,
    ticket: u64,
    since: Duration,
    room: usize,
    waiters: Vec<oneshot::Sender<Result<Offset, AppendError>>>,
}

impl Gathering {
    pub(super) fn new(config: &ProducerConfig) -> Self {
        Self {
            builder: BatchBuilder::new(config.compression),
            linger: config.linger,
            batch_bytes: config.batch_bytes,
            batch_records: config.batch_records,
            ticket: 0,
            since: Duration::ZERO,
            room: 0,
            waiters: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// Whether `record` has to go into the next batch.
    pub(super) fn has_no_room_for(&self, record: &Record) -> bool {
        !self.is_empty()
            && (self.builder.count() >= self.batch_records || self.builder.bytes_with(record) > self.batch_bytes)
    }

    /// Adds `record`; `ticket` and `now` count if it is the first.
    pub(super) fn add(
        &mut self,
        record: &Record,
        room: usize,
        waiter: oneshot::Sender<Result<Offset, AppendError>>,
        ticket: u64,
        now: Duration,
    ) -> Result<(), BatchError> {
        let first = self.is_empty();
        self.builder.push(record)?;
        if first {
            (self.ticket, self.since) = (ticket, now);
        }
        self.room += room;
        self.waiters.push(waiter);
        Ok(())
    }

    /// Since when it gathers, if it holds anything.
    pub(super) fn since(&self) -> Option<Duration> {
        (!self.is_empty()).then_some(self.since)
    }

    pub(super) fn ticket(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.ticket)
    }

    /// When it is to be sent even if it is not full.
    pub(super) fn ripe_at(&self) -> Option<Duration> {
        self.since().map(|since| since + self.linger)
    }

    /// The batch; another one may be begun.
    pub(super) fn close(&mut self) -> Option<Batch> {
        let count = self.builder.count();
        // Only an empty batch cannot be finished.
        let bytes = self.builder.finish(None).ok()?;
        Some(Batch {
            expected_end: None,
            cursors: Bytes::new(),
            ticket: self.ticket,
            bytes,
            count,
            room: std::mem::take(&mut self.room),
            taken_at: self.since,
            waiter: Waiter::Each(std::mem::take(&mut self.waiters)),
        })
    }
}
