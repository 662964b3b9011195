//! Random numbers from a seed.

use std::sync::{Mutex, PoisonError};

use quipu_protocol::environment::Random;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The random numbers of one host.
pub(crate) struct SeededRandom {
    generator: Mutex<StdRng>,
}

impl SeededRandom {
    /// The numbers of the host `host` under `seed`.
    pub(crate) fn new(seed: u64, host: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&host.to_le_bytes());
        Self { generator: Mutex::new(StdRng::from_seed(bytes)) }
    }
}

impl Random for SeededRandom {
    fn next(&self) -> u64 {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
