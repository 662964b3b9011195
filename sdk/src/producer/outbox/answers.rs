//! What the log answers, and what that means for the batches that wait.

use std::time::Duration;

use quipu_protocol::v1::error::Kind;
use quipu_protocol::{Offset, OffsetRange, WriterEpoch, v1};

use super::{Outbox, State};
use crate::cluster::Refusal;
use crate::{AppendError, CursorRefusal, SendError};

impl Outbox {
    /// The batch of `request` landed. `Err` if the answer cannot be true.
    pub(in crate::producer) fn landed(
        &mut self,
        request: u64,
        range: OffsetRange,
        now: Duration,
    ) -> Result<(), FalseAnswer> {
        let Some(position) = self.position(request, now) else { return Ok(()) };
        let count = self.sent[position].batch.count;
        if range.count() != u64::from(count) {
            self.last_failure = None;
            self.unknown_outcome(position, now);
            return Err(FalseAnswer { range, count });
        }
        self.settle(position, State::Done, Ok(range));
        self.clear_front();
        Ok(())
    }

    /// The batch of `request` was not taken now; another node, or this one
    /// later, may take it.
    pub(in crate::producer) fn declined(&mut self, request: u64, maybe_done: bool, now: Duration) {
        let Some(position) = self.position(request, now) else { return };
        if maybe_done && !self.config.idempotent {
            self.unknown(position, now);
        } else if !maybe_done {
            self.sent[position].loose -= 1;
        }
        self.paused = true;
        self.clear_front();
    }

    /// The batch of `request` was refused for good. `Err` fences the producer:
    /// everything has failed, and nothing may be taken any more.
    pub(in crate::producer) fn refused(
        &mut self,
        request: u64,
        refusal: &Refusal,
        now: Duration,
    ) -> Result<(), SendError> {
        let Some(position) = self.position(request, now) else { return Ok(()) };
        let (oldest, kind) = (position == 0, refusal.error.kind.as_ref());
        let expected_end = self.sent[position].batch.expected_end;
        if kind.is_some_and(changes_nothing) {
            self.sent[position].loose -= 1;
        }
        let loose = self.sent[position].loose > 0;
        match kind {
            // What these say of a batch that others precede follows from what
            // becomes of those: it is sent again after them.
            Some(Kind::OutOfSequence(_) | Kind::UnknownProducer(_)) if !oldest => {
                self.paused |= self.hole().is_none();
            }
            Some(Kind::OffsetMismatch(v1::OffsetMismatch { end }))
                if !oldest && self.config.idempotent && expected_end.is_some_and(|expected| *end < expected.get()) =>
            {
                self.paused |= self.hole().is_none();
            }
            // Where a cursor is may follow from the batches before this one.
            Some(Kind::CursorRefused(_)) if !oldest && self.config.idempotent => {
                self.paused |= self.hole().is_none();
            }
            // The log does not remember the producer (any more): a new id.
            Some(Kind::UnknownProducer(_)) => {
                if loose {
                    self.last_failure = Some(refusal.attempt());
                    self.unknown_outcome(position, now);
                }
                self.identity = None;
            }
            // An earlier copy may have landed: when the log's settings were
            // others, or the records not as old.
            Some(Kind::OutOfSequence(_) | Kind::InvalidArgument(_) | Kind::TooLarge(_) | Kind::NotTaken(_))
                if loose =>
            {
                self.last_failure = Some(refusal.attempt());
                self.unknown_outcome(position, now);
            }
            // Epochs and ends only grow: what was refused for one that is passed
            // will be refused again, every copy of it.
            Some(Kind::Fenced(v1::Fenced { current_epoch, holder })) => {
                let (current, holder) = (WriterEpoch::new(*current_epoch), holder.clone());
                self.settle(position, State::Hole, Err(AppendError::WriterFenced { current, holder }));
            }
            Some(Kind::WriterRequired(_)) => {
                self.settle(position, State::Hole, Err(AppendError::WriterRequired));
            }
            Some(Kind::OffsetMismatch(v1::OffsetMismatch { end }))
                if !loose || expected_end.is_some_and(|expected| expected.get() < *end) =>
            {
                let (expected, end) = (expected_end.unwrap_or_default(), Offset::new(*end));
                self.settle(position, State::Hole, Err(AppendError::OffsetMismatch { expected, end }));
            }
            Some(Kind::EpochAhead(v1::EpochAhead { current_epoch })) if !loose => {
                let current = WriterEpoch::new(*current_epoch);
                self.settle(position, State::Hole, Err(AppendError::EpochAhead { current }));
            }
            // A cursor may be deleted, and a log's end grows: an earlier copy may yet
            // be taken.
            Some(Kind::CursorRefused(refused)) if !loose && CursorRefusal::of(refused).is_some() => {
                if let Some(refusal) = CursorRefusal::of(refused) {
                    let cursor = refused.cursor.clone();
                    self.settle(position, State::Hole, Err(AppendError::CursorRefused { cursor, refusal }));
                }
            }
            Some(Kind::ProducerFenced(fenced)) => {
                let current_epoch = fenced.current_epoch;
                self.fail_all(&AppendError::Fenced { current_epoch }, now);
                return Err(SendError::Fenced { current_epoch });
            }
            Some(Kind::TooLarge(v1::TooLarge { bound, limit, actual })) => {
                let error = AppendError::TooLarge { bound: bound.clone(), limit: *limit, actual: *actual };
                self.settle(position, State::Hole, Err(error));
            }
            Some(Kind::NotTaken(v1::NotTaken { setting })) => {
                let (setting, message) = (setting.clone(), refusal.error.message.clone());
                self.settle(position, State::Hole, Err(AppendError::NotAccepted { setting, message }));
            }
            Some(Kind::BadBatch(_) | Kind::InvalidArgument(_) | Kind::OutOfSequence(_)) => {
                let error = AppendError::Refused { message: refusal.error.message.clone() };
                self.settle(position, State::Hole, Err(error));
            }
            // Nothing says that this kind of refusal leaves nothing behind.
            _ => {
                self.last_failure = Some(refusal.attempt());
                self.unknown_outcome(position, now);
            }
        }
        self.clear_front();
        Ok(())
    }

    /// Where the batch of `request` is. An answer to what is not waiting any
    /// more (it failed or was sent again) is late, and of no use.
    pub(super) fn position(&mut self, request: u64, now: Duration) -> Option<usize> {
        self.progress_at = now;
        let position = self.sent.iter().position(|sent| sent.request == request && sent.state == State::Waiting)?;
        self.off_stream(position);
        Some(position)
    }
}

/// An acknowledgement that cannot be meant for the batch it names.
#[derive(Debug, thiserror::Error)]
#[error("an append of {count} records was acknowledged as {range}")]
pub(in crate::producer) struct FalseAnswer {
    range: OffsetRange,
    count: u32,
}

/// Whether a refusal of this kind says that the refused copy did not land.
const fn changes_nothing(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::OutOfSequence(_)
            | Kind::UnknownProducer(_)
            | Kind::ProducerFenced(_)
            | Kind::TooLarge(_)
            | Kind::BadBatch(_)
            | Kind::NotTaken(_)
            | Kind::InvalidArgument(_)
            | Kind::Fenced(_)
            | Kind::EpochAhead(_)
            | Kind::WriterRequired(_)
            | Kind::OffsetMismatch(_)
            | Kind::CursorRefused(_)
    )
}
