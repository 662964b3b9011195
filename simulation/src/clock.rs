//! Simulated time.

use std::time::Duration;

use quipu_protocol::Timestamp;
use quipu_protocol::environment::{BoxFuture, Clock};

/// The wall clock at the start of every simulation: 2026-01-01T00:00:00Z.
const STARTED_AT_MS: i64 = 1_767_225_600_000;

/// The simulation's clock; every host sees the same time.
pub(crate) struct SimulatedClock;

impl Clock for SimulatedClock {
    fn monotonic(&self) -> Duration {
        // None only while the simulation is taken apart.
        turmoil::sim_elapsed().unwrap_or_default()
    }

    fn wall(&self) -> Timestamp {
        let elapsed = i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX);
        Timestamp::new(STARTED_AT_MS.saturating_add(elapsed))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
