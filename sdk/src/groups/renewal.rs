//! Keeping a log's position that nothing else keeps.
//!
//! A cursor that nobody claims or commits expires, and its fence with it. The log of
//! a living member may be idle for longer than that: its member then claims the
//! position again, under the generation that it has.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quipu_protocol::Offset;
use quipu_protocol::environment::{BoxFuture, Clock};

use super::PositionError;

/// A position that was neither claimed nor committed for so long is claimed again:
/// far less than the time after which cursors expire by default, 7 days.
const RENEWED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A claim under way.
pub(super) type Claim = BoxFuture<'static, Result<Option<Offset>, PositionError>>;

/// When a position is to be claimed again.
pub(super) struct Renewal {
    clock: Arc<dyn Clock>,
    /// Ends once it is; none once it has ended.
    due: Option<BoxFuture<'static, ()>>,
    claim: Option<Claim>,
}

impl Renewal {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let due = Some(clock.sleep(RENEWED_AFTER));
        Self { clock, due, claim: None }
    }

    /// It was claimed or committed just now.
    pub(super) fn put_off(&mut self) {
        self.due = Some(self.clock.sleep(RENEWED_AFTER));
    }

    /// Waits until it is to be claimed again, and does so with `claim`. After an
    /// error it does so the next time that it is looked at.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        claim: impl FnOnce() -> Claim,
    ) -> Poll<Result<(), PositionError>> {
        if let Some(due) = &mut self.due {
            ready!(due.as_mut().poll(cx));
            self.due = None;
        }
        let claimed = ready!(self.claim.get_or_insert_with(claim).as_mut().poll(cx));
        self.claim = None;
        // Where it is, the reader knows: nobody else has committed under this generation.
        claimed?;
        self.put_off();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicBool, Ordering};

    use quipu_protocol::Timestamp;

    use super::*;

    /// Of its sleeps those are over that begin while it runs.
    #[derive(Default)]
    struct Days {
        run: AtomicBool,
    }

    impl Clock for Days {
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        fn wall(&self) -> Timestamp {
            Timestamp::new(0)
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            assert_eq!(duration, RENEWED_AFTER);
            if self.run.load(Ordering::Relaxed) { Box::pin(ready(())) } else { Box::pin(pending()) }
        }
    }

    fn look(renewal: &mut Renewal, claimed: Result<Option<Offset>, PositionError>) -> (Poll<bool>, usize) {
        let mut claims = 0;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let looked = renewal.poll(&mut cx, || {
            claims += 1;
            Box::pin(ready(claimed))
        });
        (looked.map(|renewed| renewed.is_ok()), claims)
    }

    #[test]
    fn a_position_is_claimed_again_once_nothing_else_kept_it_for_long() {
        let clock = Arc::new(Days::default());
        let mut renewal = Renewal::new(clock.clone());
        assert_eq!(look(&mut renewal, Ok(None)), (Poll::Pending, 0));
        clock.run.store(true, Ordering::Relaxed);
        renewal.put_off();
        clock.run.store(false, Ordering::Relaxed);
        assert_eq!(look(&mut renewal, Err(PositionError::Fenced)), (Poll::Ready(false), 1));
        assert_eq!(look(&mut renewal, Ok(None)), (Poll::Ready(true), 1), "what failed is tried again");
        assert_eq!(look(&mut renewal, Ok(None)), (Poll::Pending, 0), "and what succeeded is not");
    }
}
