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

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// Its sleeps are over at once, or never.
    struct Frozen {
        sleeps_end: bool,
    }

    impl Clock for Frozen {
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        fn wall(&self) -> Timestamp {
            Timestamp::new(0)
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            if self.sleeps_end { Box::pin(ready(())) } else { Box::pin(pending()) }
        }
    }

    fn timeout<F: Future>(sleeps_end: bool, future: F) -> Result<F::Output, Elapsed> {
        let clock: &dyn Clock = &Frozen { sleeps_end };
        clock.timeout(Duration::from_secs(1), future).now_or_never().expect("either side is ready")
    }

    #[test]
    fn what_never_ends_is_given_up_at_the_deadline() {
        assert_eq!(timeout(true, pending::<u8>()), Err(Elapsed));
    }

    #[test]
    fn what_ends_is_returned_before_and_at_the_deadline() {
        assert_eq!(timeout(false, ready(7)), Ok(7));
        assert_eq!(timeout(true, ready(7)), Ok(7));
        // Ready only when looked at a second time, by when the deadline is there.
        let mut looked_at = false;
        let late = std::future::poll_fn(move |_| {
            if std::mem::replace(&mut looked_at, true) { std::task::Poll::Ready(7) } else { std::task::Poll::Pending }
        });
        assert_eq!(timeout(true, late), Ok(7));
    }
}
