//! Random numbers.

use std::time::Duration;

/// A source of random numbers; the simulator's is seeded.
pub trait Random: Send + Sync + 'static {
    /// The next 64 random bits.
    fn next(&self) -> u64;
}

impl dyn Random {
    /// A number in `0..bound`, near enough to evenly for jitter and choice.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        // The high half of a 128-bit product: no division, negligible bias.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A wait between half of `longest` and all of it, so that those who
    /// failed together do not try again together.
    pub fn jittered(&self, longest: Duration) -> Duration {
        let half = longest / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.below(micros.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    struct Always(u64);

    impl Random for Always {
        fn next(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn numbers_lie_below_their_bound_and_reach_it() {
        let draw = |bits, bound| (&Always(bits) as &dyn Random).below(bound);
        for bound in [1, 2, 3, 1000, u64::MAX] {
            assert_eq!(draw(0, bound), 0);
            assert_eq!(draw(u64::MAX, bound), bound - 1);
        }
        assert_eq!(draw(1 << 63, 10), 5);
    }
}
