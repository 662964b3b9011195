//! Lets a replica's floor rise.
//!
//! ```text
//!   applied ─▶ state image in the journal ─▶ snapshot there ─▶ purge
//! ```
//!
//! Each replica does so by itself, for what every replica has applied alike.
//! Whoever lacks what was purged gets the image, and every entry after it.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use quipu_protocol::environment::Environment;
use quipu_storage::journal::EntryId;

use crate::machine::{Floor, Machine, Shared};
use crate::runtime::scope;
use crate::types::Raft;

/// A floor that could not rise is tried again after so long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Raises the floor whenever that is worth it, until the replica stops.
pub(super) async fn keep<M: Machine>(raft: Raft<M>, shared: Arc<Shared<M>>, environment: Environment, step: u64) {
    let mut applied = shared.applied();
    // A crash may have come between an image and its purge.
    if let Some(floor) = shared.unpurged() {
        scope(&environment, lower(raft.clone(), floor)).await;
    }
    let mut trimmed = None;
    loop {
        let now = shared.view(Machine::trimmed);
        if trimmed != Some(now) || M::FLOOR == Floor::Applied {
            trimmed = Some(now);
            match shared.raise_if_due(step).await {
                Ok(Some(floor)) => scope(&environment, lower(raft.clone(), floor)).await,
                Ok(None) => {}
                // Nothing is lost: the entries stay until the next attempt.
                Err(error) => {
                    tracing::warn!(key = %shared.key(), %error, "a replica's floor does not rise");
                    trimmed = None;
                    environment.clock.sleep(RETRY_AFTER).await;
                    if applied.has_changed().is_ok() {
                        continue;
                    }
                    return;
                }
            }
        }
        if applied.changed().await.is_err() {
            return;
        }
    }
}

/// Lets openraft know of the image, and then purges the entries up to it.
pub(super) async fn lower<M: Machine>(raft: Raft<M>, floor: EntryId) {
    let index = floor.index.get();
    let mut metrics = raft.metrics();
    // The only errors are that the replica has stopped.
    let mut asked = false;
    while metrics.borrow_watched().snapshot.is_none_or(|snapshot| snapshot.index < index) {
        if !std::mem::replace(&mut asked, true) && raft.trigger().snapshot().await.is_err() {
            return;
        }
        if metrics.changed().await.is_err() || metrics.borrow_watched().running_state.is_err() {
            return;
        }
    }
    let _ = raft.trigger().purge_log(index).await;
}
