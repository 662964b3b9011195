//! The operating system's randomness.

use std::sync::{Mutex, PoisonError};

use quipu_protocol::environment::Random;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};

/// A generator that the operating system has seeded: a draw costs no system
/// call.
pub(super) struct SystemRandom {
    generator: Mutex<StdRng>,
}

impl SystemRandom {
    /// # Panics
    /// When the operating system has no randomness to give. Going on without
    /// would give two nodes the same incarnation.
    pub(super) fn new() -> Self {
        let generator = StdRng::try_from_rng(&mut SysRng).expect("the operating system gives randomness");
        Self { generator: Mutex::new(generator) }
    }
}

impl Random for SystemRandom {
    fn next(&self) -> u64 {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
