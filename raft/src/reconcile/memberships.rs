//! Memberships, walked by the leaders of their groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quipu_protocol::{LogId, NodeId, ReplicaId};

use super::walk::{Wanted, next_step};
use crate::catalog::{Catalog, CatalogLog, CatalogNode};
use crate::group::{Group, Role};
use crate::node::Inner;

/// A step is given up for this time's sake; what it changed shows anyway.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

const POISONED: &str = "a holder of this lock panicked";

/// The groups of which a step is being taken.
#[derive(Default)]
pub(super) struct Memberships {
    busy: Arc<Mutex<BTreeSet<LogId>>>,
}

impl Memberships {
    /// Takes the next step of every group that is led here.
    pub(super) fn walk(&self, node: &Arc<Inner>, catalog: &Group<Catalog>) {
        for (group, local) in node.peers().registry().all() {
            let status = local.endpoint.status();
            if status.role != Role::Leader || self.busy.lock().expect(POISONED).contains(&group) {
                continue;
            }
            let wanted = catalog.view(|catalog| match group {
                LogId::CATALOG => Some(wanted_in_catalog(catalog.nodes())),
                log => catalog.logs().get(&log).map(wanted_in_log),
            });
            let Some(step) = wanted.and_then(|wanted| next_step(&wanted, &status)) else { continue };
            self.busy.lock().expect(POISONED).insert(group);
            tracing::info!(group = group.get(), ?step, "changing a membership");
            let (busy, nudge) = (Arc::clone(&self.busy), Arc::clone(node.nudge()));
            let clock = Arc::clone(&node.environment().clock);
            node.spawn("membership-step", async move {
                quipu_protocol::point!("membership-step");
                let taken = clock.timeout(STEP_DEADLINE, local.endpoint.step(step)).await;
                busy.lock().expect(POISONED).remove(&group);
                match taken {
                    Ok(Ok(())) => nudge.notify_one(),
                    // Tried again with the next pass, not at once: whatever
                    // stood in the way may still do.
                    Ok(Err(why)) => tracing::warn!(group = group.get(), why, "changing a membership failed"),
                    Err(_) => tracing::warn!(group = group.get(), "changing a membership takes long"),
                }
            });
        }
    }
}

fn wanted_in_log(log: &CatalogLog) -> Wanted {
    let voters = log.wanted.iter().map(|place| (place.replica, place.node)).collect();
    Wanted { voters, learners: BTreeMap::new() }
}

fn wanted_in_catalog(nodes: &BTreeMap<NodeId, CatalogNode>) -> Wanted {
    let replicas = |voter: bool| -> BTreeMap<ReplicaId, NodeId> {
        let chosen = nodes.iter().filter(|(_, node)| node.catalog_voter == voter);
        chosen.map(|(id, node)| (node.catalog_replica, *id)).collect()
    };
    Wanted { voters: replicas(true), learners: replicas(false) }
}
