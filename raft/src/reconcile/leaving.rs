//! Replicas that leave this node for good, and what they leave behind.
//!
//! ```text
//!   runs ──▶ stopped ──▶ the catalog's state kept ──▶ rows removed ──▶ retired
//!                        (journal, stable storage)    (Kv)             (journal)
//! ```
//!
//! Those are the replicas of deleted logs, and those that gave way to a newer
//! one on the same disk. A node may have been down when a log was deleted, or
//! have crashed halfway: what its journal holds is looked at as well, and, once
//! after a start, its rows: a crash may bring rows back that had been removed.
//!
//! # Invariants
//! - A replica that has not left as far as this node knows is left alone: a copy
//!   of the catalog that is behind does not know the newest logs, and wants older
//!   replicas than there are.
//! - What says that a replica has left is on stable storage before it is
//!   forgotten: a node that came back without it would found that replica again,
//!   and it would vote a second time.
//! - A replica that runs is stopped first.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use quipu_protocol::{Incarnation, NodeId};
use quipu_storage::Kv;
use quipu_storage::journal::{Journal, ReplicaKey};

use crate::catalog::Catalog;
use crate::group::Group;
use crate::node::{Inner, LogState};
use crate::{log_store, machine};

const POISONED: &str = "a holder of this lock panicked";

/// The replicas that are on their way out.
#[derive(Default)]
pub(super) struct Leaving {
    under_way: Arc<Mutex<BTreeSet<ReplicaKey>>>,
    /// As of which version of the catalog nothing is left of what has left.
    swept: Option<u64>,
}

impl Leaving {
    /// Forgets `key` for good, once it has stopped.
    pub(super) fn leave(
        &self,
        node: &Arc<Inner>,
        catalog: &Group<Catalog>,
        key: ReplicaKey,
        running: Option<LogState>,
    ) {
        if !self.under_way.lock().expect(POISONED).insert(key) {
            return;
        }
        let under_way = Arc::clone(&self.under_way);
        let (journal, kv, catalog) = (node.journal().clone(), Arc::clone(node.kv()), catalog.clone());
        node.spawn("log-stop", async move {
            if let Some(replica) = running {
                replica.shutdown().await;
            }
            match forget(&catalog, &journal, &*kv, key).await {
                Ok(()) => tracing::info!(%key, "a replica was forgotten"),
                Err(error) => tracing::warn!(%key, %error, "a replica cannot be forgotten"),
            }
            under_way.lock().expect(POISONED).remove(&key);
        });
    }

    /// Forgets what is left here of replicas that have left.
    pub(super) fn sweep(&mut self, node: &Arc<Inner>, catalog: &Group<Catalog>) {
        let version = catalog.view(Catalog::version);
        if self.swept == Some(version) {
            return;
        }
        let rows = if self.swept.is_none() { machine::keys(&**node.kv()) } else { Ok(Vec::new()) };
        match rows.map(|rows| left(node, rows, catalog)) {
            Ok(left) if left.is_empty() && self.under_way.lock().expect(POISONED).is_empty() => {
                self.swept = Some(version);
            }
            Ok(left) => {
                let runs = |key: &ReplicaKey| {
                    node.logs().borrow().get(&key.group).is_some_and(|here| here.replica == key.replica)
                };
                // What runs is stopped by the next pass, and leaves with that.
                for key in left.into_iter().filter(|key| !runs(key)) {
                    self.leave(node, catalog, key, None);
                }
            }
            Err(error) => tracing::warn!(%error, "looking for what replicas that are gone have left"),
        }
    }
}

/// The replicas that have left and of which something is in the journal or has
/// `rows`.
fn left(node: &Inner, rows: Vec<ReplicaKey>, catalog: &Group<Catalog>) -> BTreeSet<ReplicaKey> {
    let (here, disk) = (node.config().node, node.disk_incarnation());
    let mut found: BTreeSet<ReplicaKey> = node.journal().replicas().into_iter().chain(rows).collect();
    catalog.view(|catalog| found.retain(|key| has_left(catalog, here, disk, *key)));
    found
}

/// Whether nothing asks for `key` any more, of which something is on this disk
/// of the node `here`: its log was deleted, or a newer replica has its place.
fn has_left(catalog: &Catalog, here: NodeId, disk: Incarnation, key: ReplicaKey) -> bool {
    let place = catalog.logs().get(&key.group).and_then(|log| log.replica_on(here));
    let replaced = catalog.has_disk(here, disk) && place.is_some_and(|newer| key.replica < newer);
    catalog.is_deleted(key.group) || replaced
}

async fn forget(catalog: &Group<Catalog>, journal: &Journal, kv: &dyn Kv, key: ReplicaKey) -> io::Result<()> {
    catalog.keep_state().await?;
    machine::remove(kv, key).map_err(io::Error::other)?;
    if journal.replicas().contains(&key) {
        log_store::retire(journal, key).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
