//! Simulated time: one monotonic clock for all, and a wall clock a host.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use quipu_protocol::Timestamp;
use quipu_protocol::environment::{BoxFuture, Clock};

/// The wall clock at the start of every run: 2026-01-01T00:00:00Z.
const STARTED_AT_MS: i64 = 1_767_225_600_000;

/// How far a host's wall clock is off, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct WallClock {
    off_by_ms: AtomicI64,
}

impl WallClock {
    /// Puts the wall clock so far ahead of the time, or behind it. It jumps
    /// there.
    pub(crate) fn set_off_by(&self, milliseconds: i64) {
        self.off_by_ms.store(milliseconds, Ordering::Relaxed);
    }
}

/// A host's clock.
pub(crate) struct SimulatedClock {
    wall: Arc<WallClock>,
}

impl SimulatedClock {
    pub(crate) fn new(wall: Arc<WallClock>) -> Self {
        Self { wall }
    }
}

/// The simulated time since the run began, as of the host that runs.
pub(crate) fn now() -> Duration {
    // None only while the simulation is taken apart.
    turmoil::sim_elapsed().unwrap_or_default()
}

impl Clock for SimulatedClock {
    fn monotonic(&self) -> Duration {
        now()
    }

    fn wall(&self) -> Timestamp {
        let elapsed = i64::try_from(now().as_millis()).unwrap_or(i64::MAX);
        let off_by = self.wall.off_by_ms.load(Ordering::Relaxed);
        Timestamp::new(STARTED_AT_MS.saturating_add(elapsed).saturating_add(off_by))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
