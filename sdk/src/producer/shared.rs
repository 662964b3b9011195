//! What a producer's callers, its stream and its driver have in common.
//!
//! ```text
//!   callers ──take──► Outbox ◄──next── Outgoing (polled by the connection)
//!                       ▲
//!                       └─answers, deadlines── driver (one task)
//! ```
//!
//! One lock, held for the time of a decision; whoever changes something wakes
//! whom it concerns after letting go of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::outbox::{Next, Outbox};
use crate::SendError;

pub(super) struct Shared {
    state: Mutex<State>,
    /// `buffer_bytes`, less what is taken and not answered.
    pub(super) room: Semaphore,
}

struct State {
    outbox: Outbox,
    /// Which stream is the current one; an older one gets nothing any more.
    stream: u64,
    stream_waker: Option<Waker>,
    driver_waker: Option<Waker>,
    /// Why nothing is taken any more.
    closed: Option<SendError>,
}

/// What the driver has to do.
pub(super) enum Work {
    /// Something was taken.
    Waiting,
    /// Nothing is left and nothing will come.
    Over,
}

impl Shared {
    pub(super) fn new(outbox: Outbox, buffer_bytes: usize) -> Self {
        let state = State { outbox, stream: 0, stream_waker: None, driver_waker: None, closed: None };
        Self { state: Mutex::new(state), room: Semaphore::new(buffer_bytes) }
    }

    /// Changes the outbox, then lets everyone know whom it concerns.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.outbox);
        self.release(state);
        result
    }

    /// As [`change`](Self::change), unless the producer is closed.
    pub(super) fn take<T>(&self, take: impl FnOnce(&mut Outbox) -> Result<T, SendError>) -> Result<T, SendError> {
        let mut state = self.lock();
        let result = state.closed.clone().map_or_else(|| take(&mut state.outbox), Err);
        self.release(state);
        result
    }

    /// Takes nothing more, for `reason`. The first reason stays.
    pub(super) fn close(&self, reason: SendError) {
        let mut state = self.lock();
        state.closed.get_or_insert(reason);
        // Whoever waits for room is turned away.
        self.room.close();
        let wakers = [state.stream_waker.take(), state.driver_waker.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Why nothing is taken any more.
    pub(super) fn closed(&self) -> SendError {
        self.lock().closed.clone().unwrap_or(SendError::Closed)
    }

    /// Completes when there is something to send or nothing will come.
    pub(super) async fn work(&self) -> Work {
        std::future::poll_fn(|context| self.poll_work(context)).await
    }

    fn poll_work(&self, context: &Context<'_>) -> Poll<Work> {
        let mut state = self.lock();
        if !state.outbox.is_empty() {
            return Poll::Ready(Work::Waiting);
        }
        if state.closed.is_some() {
            return Poll::Ready(Work::Over);
        }
        state.driver_waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether nothing is left and nothing will come.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.closed.is_some() && state.outbox.is_empty()
    }

    /// Begins a stream; earlier ones end.
    pub(super) fn begin_stream(&self, now: Duration) -> u64 {
        let mut state = self.lock();
        state.stream += 1;
        state.outbox.stream_begins(now);
        state.stream_waker = None;
        state.stream
    }

    /// The current stream is over; what it left open is decided.
    pub(super) fn end_stream(&self, now: Duration) {
        let mut state = self.lock();
        state.stream += 1;
        state.outbox.stream_ended(now);
        self.release(state);
    }

    /// What goes on `stream` next; `None` when it ends. Unless that is a
    /// request, `context` is woken when it may have changed.
    pub(super) fn next(&self, stream: u64, context: &Context<'_>, now: Duration) -> Option<Next> {
        let mut state = self.lock();
        if state.stream != stream || (state.closed.is_some() && state.outbox.is_empty()) {
            return None;
        }
        let next = state.outbox.next(now);
        let registered = |waker: &Waker| waker.will_wake(context.waker());
        if !matches!(next, Next::Request { .. }) && !state.stream_waker.as_ref().is_some_and(registered) {
            state.stream_waker = Some(context.waker().clone());
        }
        Some(next)
    }

    fn release(&self, mut state: MutexGuard<'_, State>) {
        let freed = state.outbox.take_freed();
        let over = state.closed.is_some() && state.outbox.is_empty();
        let stream = if over || state.outbox.may_send() { state.stream_waker.take() } else { None };
        let driver = if over || !state.outbox.is_empty() { state.driver_waker.take() } else { None };
        drop(state);
        if freed > 0 {
            self.room.add_permits(freed);
        }
        stream.into_iter().chain(driver).for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
