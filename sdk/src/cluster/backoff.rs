//! How long to wait before asking again.

use std::time::Duration;

use quipu_protocol::environment::Random;

/// Waits that double up to a bound. Each is drawn from the upper half of its
/// range: clients that failed together do not come back together.
pub(super) struct Backoff {
    initial: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(initial: Duration, longest: Duration) -> Self {
        Self { initial, longest, next: initial }
    }

    /// The next wait.
    pub(super) fn next(&mut self, random: &dyn Random) -> Duration {
        let range = self.next;
        self.next = (range * 2).min(self.longest);
        let half = range / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX - 1);
        half + Duration::from_micros(random.below(micros + 1))
    }

    /// Begins again with the shortest wait.
    pub(super) fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Duration, Random};

    struct Constant(u64);
    impl Random for Constant {
        fn next(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn waits_double_up_to_the_bound_and_keep_to_the_upper_half() {
        let millis = Duration::from_millis;
        for (draw, share) in [(0, 0.5), (u64::MAX, 1.0)] {
            let mut backoff = Backoff::new(millis(20), millis(50));
            for expect in [20, 40, 50, 50] {
                assert_eq!(backoff.next(&Constant(draw)), millis(expect).mul_f64(share));
            }
            backoff.reset();
            assert_eq!(backoff.next(&Constant(draw)), millis(20).mul_f64(share));
        }
    }
}
