//! An environment on tokio's clock, with repeatable random numbers and
//! without a network.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quipu_protocol::Timestamp;
use quipu_protocol::environment::{BoxFuture, Clock, Connection, Environment, Listener, Network, Random, Spawn, Task};
use tokio::time::Instant;

/// When every test begins: 2023-11-14.
pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;

pub(crate) fn environment(seed: u64) -> Environment {
    Environment {
        clock: Arc::new(TokioClock { start: now() }),
        random: Arc::new(Seeded(AtomicU64::new(seed))),
        tasks: Arc::new(TokioTasks),
        network: Arc::new(NoNetwork),
        spans: None,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn now() -> Instant {
    Instant::now()
}

struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    fn monotonic(&self) -> Duration {
        now() - self.start
    }

    fn wall(&self) -> Timestamp {
        let passed = i64::try_from(self.monotonic().as_millis()).expect("a test ends within centuries");
        Timestamp::new(EPOCH_MS + passed)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// SplitMix64.
pub(crate) struct Seeded(AtomicU64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for Seeded {
    fn next(&self) -> u64 {
        let gamma = 0x9e37_79b9_7f4a_7c15_u64;
        let z = self.0.fetch_add(gamma, Ordering::Relaxed).wrapping_add(gamma);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

struct TokioTasks;

impl Spawn for TokioTasks {
    #[expect(clippy::disallowed_methods, reason = "this is what spawns")]
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        Task::new(tokio::task::spawn(future))
    }
}

struct NoNetwork;

impl Network for NoNetwork {
    fn connect<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn listen<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}
