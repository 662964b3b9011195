//! Reading what is stored so that rot is found before somebody needs it, and
//! looking how much room is left.

use std::sync::{Arc, Weak};
use std::time::Duration;

use quipu_protocol::environment::Clock;
use quipu_storage::journal::{Journal, ReplicaKey, Scrubbed};
use tokio::sync::oneshot;

use super::NodeConfig;
use super::inner::{Inner, LogHere, LogState};

/// About so many portions are read a second.
const PORTIONS_PER_SECOND: u64 = 4;
/// The most bytes in one, however high the rate.
const MAX_PORTION_BYTES: u64 = 4 << 20;
/// A pass that could not go on begins anew after this time, unless the interval
/// is longer.
const AGAIN: Duration = Duration::from_secs(1);

/// How often it is looked how much room there is.
const SPACE_CHECK: Duration = Duration::from_secs(1);

/// Reads everything sealed again and again, at the configured rate.
pub(super) fn run(
    journal: Journal,
    clock: Arc<dyn Clock>,
    config: &NodeConfig,
) -> impl Future<Output = ()> + Send + 'static {
    let (rate, interval) = (config.scrub_bytes_per_second, config.scrub_interval);
    async move {
        if rate == 0 {
            return;
        }
        loop {
            let began = clock.monotonic();
            pass(&journal, &*clock, rate).await;
            let due = began + interval.max(AGAIN);
            clock.sleep(due.saturating_sub(clock.monotonic())).await;
        }
    }
}

/// Reads everything sealed once.
async fn pass(journal: &Journal, clock: &dyn Clock, rate: u64) {
    let portion = (rate / PORTIONS_PER_SECOND).clamp(1, MAX_PORTION_BYTES);
    let mut from = None;
    loop {
        let (done, scrubbed) = oneshot::channel();
        journal.scrub(from, portion, Box::new(move |scrubbed| drop(done.send(scrubbed))));
        let Scrubbed { bytes, next, .. } = match scrubbed.await {
            Ok(Ok(scrubbed)) => scrubbed,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a scrub cannot go on");
                return;
            }
            // The journal is gone.
            Err(_) => return,
        };
        let Some(next) = next else { return };
        from = Some(next);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        clock.sleep(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))).await;
    }
}

/// Keeps the journal's view of the room that is left up to date, and starts the
/// replicas again that stopped for want of it.
pub(super) async fn mind_space(node: Weak<Inner>) {
    let mut was_low = false;
    loop {
        let Some(node) = node.upgrade() else { return };
        // Room may have been short, and come back, since the last look.
        was_low |= node.journal.low_space().is_some();
        if let Err(error) = node.journal.check_space() {
            tracing::warn!(%error, "the file system does not tell how much room is left");
        }
        let is_low = node.journal.low_space().is_some();
        if was_low && !is_low {
            was_low = !node.start_failed_again().await;
        } else {
            was_low |= is_low;
        }
        let clock = Arc::clone(&node.environment.clock);
        drop(node);
        clock.sleep(SPACE_CHECK).await;
    }
}

impl Inner {
    /// Lets the replicas be started again that could not be, or stopped by
    /// themselves, with whole entries; whether that was done for all of them.
    async fn start_failed_again(&self) -> bool {
        let failed = |here: &LogHere| matches!(here.state, LogState::Failed { damaged: false, .. });
        let keys: Vec<ReplicaKey> = {
            let logs = self.logs.borrow();
            let failed = logs.iter().filter(|(_, here)| failed(here));
            failed.map(|(group, here)| ReplicaKey { group: *group, replica: here.replica }).collect()
        };
        let mut all = true;
        for key in keys {
            if !self.is_on_stable_storage(key).await {
                all = false;
                continue;
            }
            self.logs.send_if_modified(|logs| {
                let same = logs.get(&key.group).is_some_and(|here| here.replica == key.replica && failed(here));
                same && logs.remove(&key.group).is_some()
            });
            self.note_recovery(key);
            self.nudge.notify_one();
        }
        all
    }

    /// Waits until all that a replica which has stopped had staged is on stable
    /// storage: one that starts takes what it finds for that, as after a crash.
    async fn is_on_stable_storage(&self, key: ReplicaKey) -> bool {
        let Some(held) = self.journal.replica(key) else { return true };
        let Some(vote) = held.vote else { return held.last == self.journal.durable(key) };
        // It is written behind everything else of the replica.
        let (done, saved) = oneshot::channel();
        self.journal.save_vote(key, vote, Box::new(move |saved| drop(done.send(saved))));
        matches!(saved.await, Ok(Ok(())))
    }
}
