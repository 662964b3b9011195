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

mod answers;
mod endings;
#[cfg(test)]
mod faults;
mod identity;
#[cfg(test)]
mod terms;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::batch::Record;
use quipu_protocol::{LogId, LogName, Offset, OffsetRange};
use tokio::sync::oneshot;

use super::batch::{Batch, Waiter};
use super::gathering::Gathering;
use crate::{AppendError, FailedAttempt, ProducerConfig, SendError};
use identity::Identity;

/// See the module's text.
pub(super) struct Outbox {
    log: LogName,
    /// The log's id, once it is known: batches go to none of its name that comes
    /// after it.
    log_id: Option<LogId>,
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

/// What is to be done for the stream.
pub(super) enum Next {
    /// Send this.
    Request { request: u64, log: Option<LogId>, batch: Bytes, expected_end: Option<Offset>, cursors: Bytes },
    /// Nothing before then, unless something changes.
    At(Duration),
    /// Nothing, until something changes.
    Nothing,
}

impl Outbox {
    pub(super) fn new(log: LogName, config: ProducerConfig) -> Self {
        Self {
            log,
            log_id: None,
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
        waiter: oneshot::Sender<Result<Offset, AppendError>>,
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
        (bytes, count): (Bytes, u32),
        (expected_end, cursors): (Option<Offset>, Bytes),
        room: usize,
        waiter: oneshot::Sender<Result<OffsetRange, AppendError>>,
        now: Duration,
    ) {
        self.close_gathering();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let waiter = Waiter::Whole(waiter);
        self.ready.push_back(Batch { ticket, bytes, count, expected_end, cursors, room, taken_at: now, waiter });
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
        let Batch { bytes, expected_end, cursors, .. } = &sent.batch;
        let (batch, cursors) = (bytes.clone(), cursors.clone());
        Next::Request { request: sent.request, log: self.log_id, batch, expected_end: *expected_end, cursors }
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

    /// For messages.
    pub(super) fn note_failure(&mut self, failure: Option<FailedAttempt>) {
        self.last_failure = failure;
    }

    /// How many bytes of room have become free since the last call.
    pub(super) fn take_freed(&mut self) -> usize {
        std::mem::take(&mut self.freed)
    }

    fn off_stream(&mut self, position: usize) {
        let sent = &mut self.sent[position];
        debug_assert_eq!(sent.state, State::Waiting, "only what is on the stream leaves it");
        sent.state = State::Due;
        self.waiting -= 1;
        self.waiting_bytes -= sent.batch.bytes.len();
    }

    /// The first hole, if there is any.
    fn hole(&self) -> Option<usize> {
        if !self.config.idempotent {
            return None;
        }
        self.sent.iter().position(|sent| sent.state == State::Hole)
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
