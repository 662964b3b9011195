//! Replicas that leave this node for good, and what they leave behind.
//!
//! ```text
//!   runs ──▶ stopped ──▶ the catalog's state kept ──▶ rows removed ──▶ retired
//!                        (journal, stable storage)    (Kv)             (journal)
//! ```
//!
//! A node may have been down when a log was deleted, or have crashed halfway:
//! what its journal holds is looked at as well, and, once after a start, its
//! rows: a crash may bring rows back that had been removed.
//!
//! # Invariants
//! - A replica that was not deleted as far as this node knows is left alone: a
//!   copy of the catalog that is behind does not know the newest logs.
//! - What says that a log is deleted is on stable storage before its replica is
//!   forgotten: a node that came back without it would found that replica again,
//!   and it would vote a second time.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use quipu_storage::Kv;
use quipu_storage::journal::{Journal, ReplicaKey};

use crate::catalog::Catalog;
use crate::group::Group;
use crate::log::LogReplica;
use crate::node::Inner;
use crate::{log_store, machine};

const POISONED: &str = "a holder of this lock panicked";

/// The replicas that are on their way out.
#[derive(Default)]
pub(super) struct Leaving {
    under_way: Arc<Mutex<BTreeSet<ReplicaKey>>>,
    /// After how many deletions nothing of a deleted log is left.
    swept: Option<u64>,
}

impl Leaving {
    /// Forgets `key` for good, once it has stopped.
    pub(super) fn leave(
        &self,
        node: &Arc<Inner>,
        catalog: &Group<Catalog>,
        key: ReplicaKey,
        running: Option<LogReplica>,
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

    /// Forgets what is left here of logs that were deleted.
    pub(super) fn sweep(&mut self, node: &Arc<Inner>, catalog: &Group<Catalog>) {
        let deletions = catalog.view(Catalog::deletions);
        if self.swept == Some(deletions) {
            return;
        }
        let rows = if self.swept.is_none() && deletions > 0 { machine::keys(&**node.kv()) } else { Ok(Vec::new()) };
        match rows.map(|rows| left(node.journal(), rows, catalog)) {
            Ok(left) if left.is_empty() && self.under_way.lock().expect(POISONED).is_empty() => {
                self.swept = Some(deletions);
            }
            Ok(left) => {
                for key in left {
                    self.leave(node, catalog, key, None);
                }
            }
            Err(error) => tracing::warn!(%error, "looking for what deleted logs have left"),
        }
    }
}

/// The replicas of deleted logs of which something is in the journal or has
/// `rows`.
fn left(journal: &Journal, rows: Vec<ReplicaKey>, catalog: &Group<Catalog>) -> BTreeSet<ReplicaKey> {
    let mut found: BTreeSet<ReplicaKey> = journal.replicas().into_iter().chain(rows).collect();
    catalog.view(|catalog| found.retain(|key| catalog.is_deleted(key.group)));
    found
}

async fn forget(catalog: &Group<Catalog>, journal: &Journal, kv: &dyn Kv, key: ReplicaKey) -> io::Result<()> {
    catalog.keep_state().await?;
    machine::remove(kv, key).map_err(io::Error::other)?;
    if journal.replicas().contains(&key) {
        log_store::retire(journal, key).await?;
    }
    Ok(())
}
