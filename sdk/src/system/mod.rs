//! The operating system as an [`Environment`]: the real clock, real
//! randomness, tokio's tasks and TCP.
//!
//! This is one of two places (the other is storage's `SystemDisk`) where
//! time, chance, tasks and sockets are taken from outside; everything else
//! receives them as values, which is what lets a simulator replace them.
//! That is why the calls that `clippy.toml` bans are allowed here.

mod clock;
mod network;
mod random;
mod tasks;

use std::sync::Arc;

use quipu_protocol::environment::Environment;

/// The operating system's clock, randomness, tasks and network.
///
/// Its parts need a tokio runtime around them when they are used, not yet
/// when this is called.
pub fn environment() -> Environment {
    Environment {
        clock: Arc::new(clock::SystemClock::new()),
        random: Arc::new(random::SystemRandom::new()),
        tasks: Arc::new(tasks::TokioTasks),
        network: Arc::new(network::Tcp),
        spans: None,
    }
}
