//! Random numbers.

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
}
