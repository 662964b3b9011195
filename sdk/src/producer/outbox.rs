//! What a producer has taken and what became of it: every decision about
//! order, retries and duplicates, without any I/O.
//!
//! ```text
//!   gathering        ready             sent
//!   one open batch   closed batches    stamped: producer id, epoch, sequence
//!   [r r r]    ──►   [B9] [B8]   ──►   [B7] [B6] │ [B5] [B4]   ──► answered
//!                                      to send   │ on the stream
//!                                      again     cursor     oldest
//! ```
//!
//! **Order and once.** Sequences are given in the order of `sent`, and the log
//! takes a producer's batches in no other order and each once. When a stream
//! is lost, everything unanswered is sent again as it was; the log answers a
//! batch that had landed with its first offsets. At most
//! [`ProducerConfig::MAX_IN_FLIGHT`] batches lie between the oldest unanswered
//! one and the newest, which is how many the log remembers.
//!
//! **A batch that fails leaves a hole**, and batches after it, stamped with
//! later sequences, can never land: its sequence never will. They are stamped
//! anew under the *next epoch* of the producer id, from sequence 0. That is
//! done only once all batches before the hole are answered, since a new epoch
//! fences the old one.
//!
//! **An unknown outcome** means that a copy may still be under way. It, and all
//! that was sent after it under the same epoch (they can land if it does), end
//! as [`AppendError::OutcomeUnknown`]. What follows is sent under the next
//! epoch: as soon as one such batch has landed, no straggler of the old epoch
//! can, so that order is kept, and nothing that was reported as failed for
//! certain is ever found in the log.
//!
//! *Loose copies* count the sends of a batch that had no answer: with none, a
//! batch that is not acknowledged certainly did not land.
//!
//! Without idempotence there are no stamps: a batch with a loose copy whose
//! stream is lost is of unknown outcome at once, and order is kept only as
//! long as nothing fails.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::batch::{Producer as Stamp, Record, with_producer};
use quipu_protocol::v1::error::Kind;
use quipu_protocol::{LogName, OffsetRange, ProducerEpoch, ProducerId, Sequence, v1};
use tokio::sync::oneshot;

use super::batch::{Batch, Waiter};
use super::gathering::Gathering;
use crate::cluster::Refusal;
use crate::{AppendError, FailedAttempt, ProducerConfig, SendError};

/// See the module's text.
pub(super) struct Outbox {
    log: LogName,
    config: ProducerConfig,
    gathering: Gathering,
    ready: VecDeque<Batch>,
    sent: VecDeque<Sent>,
    /// `sent[..cursor]` are on the stream or answered.
    cursor: usize,
    identity: Option<Identity>,
    /// Something on the stream was declined: nothing more goes on it.
    paused: bool,
    /// How many on the stream are unanswered, and their bytes.
    waiting: usize,
    waiting_bytes: usize,
    /// When the stream last answered, or had nothing to answer.
    progress_at: Duration,
    next_request: u64,
    next_ticket: u64,
    freed: usize,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    last_failure: Option<FailedAttempt>,
}

struct Sent {
    batch: Batch,
    request: u64,
    state: State,
    loose: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// On the stream, unanswered.
    Waiting,
    /// To be sent (again).
    Due,
    /// Told that it landed, or that nobody knows.
    Done,
    /// Told that it did not land: a hole.
    Hole,
}

#[derive(Clone, Copy, Debug)]
struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
    next: Sequence,
}

/// What is to be done for the stream.
pub(super) enum Next {
    /// Send this.
    Request { request: u64, batch: Bytes },
    /// Nothing before then, unless something changes.
    At(Duration),
    /// Nothing, until something changes.
    Nothing,
}

impl Outbox {
    pub(super) fn new(log: LogName, config: ProducerConfig) -> Self {
        Self {
            log,
            gathering: Gathering::new(&config),
            config,
            ready: VecDeque::new(),
            sent: VecDeque::new(),
            cursor: 0,
            identity: None,
            paused: false,
            waiting: 0,
            waiting_bytes: 0,
            progress_at: Duration::ZERO,
            next_request: 1,
            next_ticket: 0,
            freed: 0,
            flushes: Vec::new(),
            last_failure: None,
        }
    }

    // Taking.

    /// Takes a record into the open batch.
    pub(super) fn take_record(
        &mut self,
        record: &Record,
        room: usize,
        waiter: oneshot::Sender<Result<quipu_protocol::Offset, AppendError>>,
        now: Duration,
    ) -> Result<(), SendError> {
        if self.gathering.has_no_room_for(record) {
            self.close_gathering();
        }
        let ticket = self.next_ticket;
        self.gathering.add(record, room, waiter, ticket, now).map_err(|reason| SendError::Unfit { reason })?;
        self.next_ticket += 1;
        Ok(())
    }

    /// Takes a batch, behind everything that was taken before.
    pub(super) fn take_batch(
        &mut self,
        bytes: Bytes,
        count: u32,
        room: usize,
        waiter: oneshot::Sender<Result<OffsetRange, AppendError>>,
        now: Duration,
    ) {
        self.close_gathering();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.ready.push_back(Batch { ticket, bytes, count, room, taken_at: now, waiter: Waiter::Whole(waiter) });
    }

    /// A signal for when everything taken so far is answered; `None` if it is.
    /// Nothing lingers meanwhile.
    pub(super) fn flush(&mut self) -> Option<oneshot::Receiver<()>> {
        self.close_gathering();
        self.oldest_ticket()?;
        let (sender, receiver) = oneshot::channel();
        self.flushes.push((self.next_ticket, sender));
        Some(receiver)
    }

    fn close_gathering(&mut self) {
        self.ready.extend(self.gathering.close());
    }

    // Sending.

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.ready.is_empty() && self.gathering.is_empty()
    }

    /// Whether [`next`](Self::next) would give something, now or after the
    /// linger time.
    pub(super) fn may_send(&self) -> bool {
        !self.paused
            && (!self.config.idempotent || self.identity.is_some())
            && (self.cursor < self.sent.len()
                || (self.sent.len() < self.config.in_flight && !(self.ready.is_empty() && self.gathering.is_empty())))
    }

    pub(super) fn needs_identity(&self) -> bool {
        self.config.idempotent && self.identity.is_none()
    }

    /// The producer has a new id: whatever waits is stamped with it.
    pub(super) fn identify(&mut self, id: ProducerId) {
        self.identity = Some(Identity { id, epoch: ProducerEpoch::new(0), next: Sequence::new(0) });
        self.stamp_anew();
    }

    /// What goes on the stream next.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        if self.paused || self.needs_identity() {
            return Next::Nothing;
        }
        let hole = self.hole();
        while self.cursor < hole.unwrap_or(self.sent.len()) {
            self.cursor += 1;
            if self.sent[self.cursor - 1].state == State::Due {
                return self.put_on_stream(self.cursor - 1, now);
            }
        }
        if hole.is_some() || self.sent.len() >= self.config.in_flight {
            return Next::Nothing;
        }
        if self.ready.is_empty() {
            match self.gathering.ripe_at() {
                None => return Next::Nothing,
                Some(at) if now < at => return Next::At(at),
                Some(_) => self.close_gathering(),
            }
        }
        let Some(mut batch) = self.ready.pop_front() else { return Next::Nothing };
        if let Some(identity) = &mut self.identity {
            identity.stamp(&mut batch);
        }
        self.sent.push_back(Sent { batch, request: 0, state: State::Due, loose: 0 });
        self.cursor = self.sent.len();
        self.put_on_stream(self.cursor - 1, now)
    }

    fn put_on_stream(&mut self, position: usize, now: Duration) -> Next {
        if self.waiting == 0 {
            self.progress_at = now;
        }
        let sent = &mut self.sent[position];
        sent.request = self.next_request;
        sent.state = State::Waiting;
        sent.loose += 1;
        self.next_request += 1;
        self.waiting += 1;
        self.waiting_bytes += sent.batch.bytes.len();
        Next::Request { request: sent.request, batch: sent.batch.bytes.clone() }
    }

    /// A stream begins: nothing is on it yet.
    pub(super) fn stream_begins(&mut self, now: Duration) {
        self.progress_at = now;
    }

    /// The stream is gone: what it did not answer is due again, or, without
    /// sequences to tell a copy by, of unknown outcome.
    pub(super) fn stream_ended(&mut self, now: Duration) {
        for position in 0..self.sent.len() {
            if self.sent[position].state == State::Waiting {
                self.off_stream(position);
                if !self.config.idempotent {
                    self.unknown(position, now);
                }
            }
        }
        self.cursor = 0;
        self.paused = false;
        self.clear_front();
    }

    /// Whether what is due can only be sent on another stream.
    pub(super) fn wants_new_stream(&self) -> bool {
        if self.needs_identity() {
            return true;
        }
        let front_is_due = || self.sent.front().is_some_and(|sent| sent.state == State::Due);
        self.paused && (self.waiting == 0 || (self.config.idempotent && front_is_due()))
    }

    /// How long the stream may stay silent from `now` on: nothing is left when
    /// it has owed an answer for `limit`, and for the time that its bytes take.
    pub(super) fn patience(&self, limit: Duration, now: Duration) -> Duration {
        if self.waiting == 0 {
            return limit;
        }
        let transfer = Duration::from_secs((self.waiting_bytes / SLOWEST_BYTES_PER_SECOND) as u64);
        (self.progress_at + limit + transfer).saturating_sub(now)
    }

    // Answers.

    /// The batch of `request` landed. `Err` if the answer cannot be true.
    pub(super) fn landed(&mut self, request: u64, range: OffsetRange, now: Duration) -> Result<(), FalseAnswer> {
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
    pub(super) fn declined(&mut self, request: u64, maybe_done: bool, now: Duration) {
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
    pub(super) fn refused(&mut self, request: u64, refusal: &Refusal, now: Duration) -> Result<(), SendError> {
        let Some(position) = self.position(request, now) else { return Ok(()) };
        let oldest = position == 0;
        match &refusal.error.kind {
            // What these say of a batch that others precede follows from what
            // becomes of those: it is sent again after them.
            Some(Kind::OutOfSequence(_) | Kind::UnknownProducer(_)) if !oldest => {
                self.sent[position].loose -= 1;
                self.paused |= self.hole().is_none();
            }
            // The log does not remember the producer (any more): a new id.
            Some(Kind::UnknownProducer(_)) => {
                self.sent[position].loose -= 1;
                if self.sent[position].loose > 0 {
                    self.last_failure = Some(refusal.attempt());
                    self.unknown_outcome(position, now);
                }
                self.identity = None;
            }
            // An earlier copy may have landed.
            Some(Kind::OutOfSequence(_) | Kind::InvalidArgument(_)) if self.sent[position].loose > 1 => {
                self.last_failure = Some(refusal.attempt());
                self.unknown_outcome(position, now);
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

    /// Fails whatever has been waiting for too long.
    pub(super) fn expire(&mut self, now: Duration) {
        let limit = self.config.delivery_timeout;
        let expired = |batch: &Batch| now.saturating_sub(batch.taken_at) >= limit;
        if self.config.idempotent {
            while self.sent.front().is_some_and(|sent| expired(&sent.batch)) {
                if self.sent[0].loose > 0 {
                    self.unknown_outcome(0, now);
                } else {
                    self.settle(0, State::Hole, Err(self.unavailable(&self.sent[0].batch, now)));
                    self.clear_front();
                }
            }
        } else {
            for position in 0..self.sent.len() {
                let sent = &self.sent[position];
                if matches!(sent.state, State::Waiting | State::Due) && expired(&sent.batch) {
                    self.unknown(position, now);
                }
            }
            self.clear_front();
        }
        if self.gathering.since().is_some_and(|since| now.saturating_sub(since) >= limit) {
            self.close_gathering();
        }
        while self.ready.front().is_some_and(expired) {
            let Some(mut batch) = self.ready.pop_front() else { break };
            batch.waiter.tell(Err(self.unavailable(&batch, now)));
            self.freed += batch.room;
        }
        self.signal_flushes();
    }

    /// When [`expire`](Self::expire) has something to do at the earliest.
    pub(super) fn expires_at(&self, now: Duration) -> Duration {
        let unanswered = self.sent.iter().find(|sent| matches!(sent.state, State::Waiting | State::Due));
        let oldest = unanswered.map(|sent| sent.batch.taken_at);
        let oldest = oldest.or(self.ready.front().map(|batch| batch.taken_at)).or(self.gathering.since());
        oldest.unwrap_or(now) + self.config.delivery_timeout
    }

    /// Fails everything: with `error` what certainly did not land, the rest is
    /// of unknown outcome.
    pub(super) fn fail_all(&mut self, error: &AppendError, now: Duration) {
        self.close_gathering();
        for position in 0..self.sent.len() {
            match self.sent[position].state {
                State::Waiting | State::Due if self.sent[position].loose > 0 => self.unknown(position, now),
                State::Waiting | State::Due => self.settle(position, State::Hole, Err(error.clone())),
                State::Done | State::Hole => {}
            }
        }
        while let Some(mut batch) = self.ready.pop_front() {
            batch.waiter.tell(Err(error.clone()));
            self.freed += batch.room;
        }
        if !self.sent.is_empty() {
            self.next_epoch();
        }
        self.signal_flushes();
    }

    /// There is no such log.
    pub(super) fn fail_unknown_log(&mut self, now: Duration) {
        self.fail_all(&AppendError::UnknownLog { log: self.log.clone() }, now);
    }

    /// For messages.
    pub(super) fn note_failure(&mut self, failure: Option<FailedAttempt>) {
        self.last_failure = failure;
    }

    /// How many bytes of room have become free since the last call.
    pub(super) fn take_freed(&mut self) -> usize {
        std::mem::take(&mut self.freed)
    }

    // Within.

    /// Where the batch of `request` is. An answer to what is not waiting any
    /// more (it failed or was sent again) is late, and of no use.
    fn position(&mut self, request: u64, now: Duration) -> Option<usize> {
        self.progress_at = now;
        let position = self.sent.iter().position(|sent| sent.request == request && sent.state == State::Waiting)?;
        self.off_stream(position);
        Some(position)
    }

    fn off_stream(&mut self, position: usize) {
        let sent = &mut self.sent[position];
        debug_assert_eq!(sent.state, State::Waiting, "only what is on the stream leaves it");
        sent.state = State::Due;
        self.waiting -= 1;
        self.waiting_bytes -= sent.batch.bytes.len();
    }

    fn settle(&mut self, position: usize, state: State, outcome: Result<OffsetRange, AppendError>) {
        if self.sent[position].state == State::Waiting {
            self.off_stream(position);
        }
        let sent = &mut self.sent[position];
        debug_assert_eq!(sent.state, State::Due, "a batch is settled once");
        sent.batch.waiter.tell(outcome);
        sent.batch.bytes = Bytes::new();
        sent.state = state;
        self.freed += std::mem::take(&mut sent.batch.room);
    }

    fn unknown(&mut self, position: usize, now: Duration) {
        let batch = &self.sent[position].batch;
        let error = if self.sent[position].loose > 0 {
            AppendError::OutcomeUnknown { waited: now.saturating_sub(batch.taken_at), last: self.last_failure.clone() }
        } else {
            self.unavailable(batch, now)
        };
        self.settle(position, State::Done, Err(error));
    }

    fn unavailable(&self, batch: &Batch, now: Duration) -> AppendError {
        AppendError::Unavailable { waited: now.saturating_sub(batch.taken_at), last: self.last_failure.clone() }
    }

    /// Nobody will tell what became of the oldest batch: nor of any that
    /// follows it with a loose copy. What has none follows in the next epoch.
    /// (Without idempotence each is on its own.)
    fn unknown_outcome(&mut self, of: usize, now: Duration) {
        if !self.config.idempotent {
            self.unknown(of, now);
            return self.clear_front();
        }
        for position in 0..self.sent.len() {
            let sent = &self.sent[position];
            if matches!(sent.state, State::Waiting | State::Due) && sent.loose > 0 {
                self.unknown(position, now);
            }
        }
        self.next_epoch();
    }

    /// The first hole, if there is any.
    fn hole(&self) -> Option<usize> {
        if !self.config.idempotent {
            return None;
        }
        self.sent.iter().position(|sent| sent.state == State::Hole)
    }

    /// Lets go of what is settled at the front. A hole that has come there
    /// begins a new epoch.
    fn clear_front(&mut self) {
        while let Some(state) = self.sent.front().map(|sent| sent.state) {
            match state {
                State::Waiting | State::Due => break,
                State::Hole if self.config.idempotent => {
                    self.next_epoch();
                    break;
                }
                State::Done | State::Hole => {
                    self.sent.pop_front();
                    self.cursor = self.cursor.saturating_sub(1);
                }
            }
        }
        self.signal_flushes();
    }

    /// Moves on to the next epoch, or to another id when there is none left.
    fn next_epoch(&mut self) {
        self.identity = self.identity.and_then(|identity| {
            let epoch = identity.epoch.get().checked_add(1)?;
            Some(Identity { epoch: ProducerEpoch::new(epoch), next: Sequence::new(0), ..identity })
        });
        self.stamp_anew();
    }

    /// Stamps what is not settled with the identity as it is now, to be sent
    /// from the beginning. Only right when no copy of it can land any more.
    fn stamp_anew(&mut self) {
        for position in 0..self.sent.len() {
            if self.sent[position].state == State::Waiting {
                self.off_stream(position);
            }
        }
        self.sent.retain(|sent| sent.state == State::Due);
        for sent in &mut self.sent {
            sent.loose = 0;
            if let Some(identity) = &mut self.identity {
                identity.stamp(&mut sent.batch);
            }
        }
        self.cursor = 0;
        self.paused = false;
        self.signal_flushes();
    }

    fn oldest_ticket(&self) -> Option<u64> {
        let unanswered = self.sent.iter().find(|sent| matches!(sent.state, State::Waiting | State::Due));
        let sent = unanswered.map(|sent| sent.batch.ticket);
        sent.or(self.ready.front().map(|batch| batch.ticket)).or(self.gathering.ticket())
    }

    fn signal_flushes(&mut self) {
        if self.flushes.is_empty() {
            return;
        }
        let oldest = self.oldest_ticket().unwrap_or(u64::MAX);
        for (_, waiter) in self.flushes.extract_if(.., |(before, _)| *before <= oldest) {
            let _ = waiter.send(());
        }
    }
}

/// A stream that owes answers may take this long for each of its bytes before
/// it counts as stalled.
const SLOWEST_BYTES_PER_SECOND: usize = 1 << 20;

/// An acknowledgement that cannot be meant for the batch it names.
#[derive(Debug, thiserror::Error)]
#[error("an append of {count} records was acknowledged as {range}")]
pub(super) struct FalseAnswer {
    range: OffsetRange,
    count: u32,
}

impl Identity {
    /// Gives `batch` the next place in the producer's stream.
    fn stamp(&mut self, batch: &mut Batch) {
        let stamp = Stamp { id: self.id, epoch: self.epoch, sequence: self.next };
        batch.bytes = with_producer(std::mem::take(&mut batch.bytes), Some(stamp));
        self.next = self.next.advance(batch.count);
    }
}
