//! What time it is, and waiting.

use std::time::Duration;

use futures_util::future::{self, Either, FutureExt};

use super::BoxFuture;
use crate::Timestamp;

/// The deadline of [`Clock::timeout`](trait.Clock.html) passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

/// A source of time. Two clocks in one: a monotonic one for durations and a
/// wall clock for stamps that people read.
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// The wall clock, which may jump either way.
    fn wall(&self) -> Timestamp;

    /// Completes once `duration` has passed on the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

impl dyn Clock {
    /// `future`'s output, unless `limit` passes first.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        let future = std::pin::pin!(future);
        match future::select(future, self.sleep(limit)).await {
            Either::Left((output, _)) => Ok(output),
            // What is ready at the very deadline counts as in time.
            Either::Right(((), future)) => future.now_or_never().ok_or(Elapsed),
        }
    }
}
