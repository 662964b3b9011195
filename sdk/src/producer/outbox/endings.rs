//! How batches end, and that everything they held is let go of.

use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::OffsetRange;

use super::{Batch, Outbox, State};
use crate::{AppendError, AppendId};

impl Outbox {
    /// Fails whatever has been waiting for too long.
    pub(in crate::producer) fn expire(&mut self, now: Duration) {
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
    pub(in crate::producer) fn expires_at(&self, now: Duration) -> Duration {
        let unanswered = self.sent.iter().find(|sent| matches!(sent.state, State::Waiting | State::Due));
        let oldest = unanswered.map(|sent| sent.batch.taken_at);
        let oldest = oldest.or(self.ready.front().map(|batch| batch.taken_at)).or(self.gathering.since());
        oldest.unwrap_or(now) + self.config.delivery_timeout
    }

    /// Fails everything: with `error` what certainly did not land, the rest is
    /// of unknown outcome.
    pub(in crate::producer) fn fail_all(&mut self, error: &AppendError, now: Duration) {
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
    pub(in crate::producer) fn fail_unknown_log(&mut self, now: Duration) {
        self.fail_all(&AppendError::UnknownLog { log: self.log.clone() }, now);
    }

    pub(super) fn settle(&mut self, position: usize, state: State, outcome: Result<OffsetRange, AppendError>) {
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

    pub(super) fn unknown(&mut self, position: usize, now: Duration) {
        let batch = &self.sent[position].batch;
        let error = if self.sent[position].loose > 0 {
            AppendError::OutcomeUnknown {
                append: AppendId::of(self.log_id, &batch.bytes),
                waited: now.saturating_sub(batch.taken_at),
                last: self.last_failure.clone(),
            }
        } else {
            self.unavailable(batch, now)
        };
        self.settle(position, State::Done, Err(error));
    }

    pub(super) fn unavailable(&self, batch: &Batch, now: Duration) -> AppendError {
        AppendError::Unavailable { waited: now.saturating_sub(batch.taken_at), last: self.last_failure.clone() }
    }

    /// Nobody will tell what became of the oldest batch: nor of any that
    /// follows it with a loose copy. What has none follows in the next epoch.
    /// (Without idempotence each is on its own.)
    pub(super) fn unknown_outcome(&mut self, of: usize, now: Duration) {
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

    /// Lets go of what is settled at the front. A hole that has come there
    /// begins a new epoch.
    pub(super) fn clear_front(&mut self) {
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
}
