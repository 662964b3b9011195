//! The operating system's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quipu_protocol::Timestamp;
use quipu_protocol::environment::{BoxFuture, Clock};

/// The monotonic clock counts from when this value was made.
pub(super) struct SystemClock {
    started: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the environment is where time comes from")]
    pub(super) fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the environment is where time comes from")]
    fn wall(&self) -> Timestamp {
        let now = SystemTime::now();
        // A clock set before 1970 gives a negative stamp, not a panic.
        let millis = match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
        };
        Timestamp::new(millis)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Duration, SystemClock};

    #[tokio::test]
    async fn a_sleep_lasts_at_least_as_long_as_it_says() {
        let clock = SystemClock::new();
        let before = clock.monotonic();
        clock.sleep(Duration::from_millis(5)).await;
        assert!(clock.monotonic() - before >= Duration::from_millis(5));
    }

    #[test]
    fn the_wall_clock_is_in_milliseconds_since_1970() {
        // Between 2020 and 2200: seconds or microseconds would fall outside.
        let wall = SystemClock::new().wall().get();
        assert!((1_577_836_800_000..7_258_118_400_000).contains(&wall), "{wall}");
    }
}
