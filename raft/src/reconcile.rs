//! From what the catalog wants to what is: replicas started here, memberships
//! walked where this node leads.
//!
//! ```text
//!   catalog applied ─┐         ┌─▶ know where nodes are, which disks are gone
//!   a leader changed ├─▶ pass ─┼─▶ start and stop local replicas, and forget
//!                    │         │   those that have left
//!   a step was taken ┤         ├─▶ found, as the catalog's first leader
//!   now and then ────┘         └─▶ one step of each group that is led here
//! ```
//!
//! Keeps nothing that it could not find again: a pass may be repeated at any
//! time, and errors are tried again with the next one.

mod leaving;
mod memberships;
mod replicas;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quipu_protocol::{NodeId, v1};

use crate::catalog::{self, Catalog, CatalogNode};
use crate::group::{Group, Role};
use crate::node::Inner;

pub(crate) use replicas::found;
pub(crate) use walk::Step;

/// A pass is made at least this often.
const NOW_AND_THEN: Duration = Duration::from_millis(200);

/// Reconciles for as long as the node lives.
pub(crate) async fn run(node: &Arc<Inner>) {
    let Some(catalog) = node.catalog() else { return };
    let mut reconciler = Reconciler {
        node: Arc::clone(node),
        catalog,
        nodes: BTreeMap::new(),
        leaving: leaving::Leaving::default(),
        memberships: memberships::Memberships::default(),
    };
    let mut applied = reconciler.catalog.applied();
    loop {
        applied.mark_unchanged();
        reconciler.pass().await;
        tokio::select! {
            biased;
            () = node.nudge().notified() => {}
            changed = applied.changed() => if changed.is_err() {
                return;
            },
            () = node.environment().clock.sleep(NOW_AND_THEN) => {}
        }
    }
}

struct Reconciler {
    node: Arc<Inner>,
    catalog: Group<Catalog>,
    /// The nodes as the catalog had them in the last pass.
    nodes: BTreeMap<NodeId, CatalogNode>,
    leaving: leaving::Leaving,
    memberships: memberships::Memberships,
}

impl Reconciler {
    async fn pass(&mut self) {
        self.found().await;
        let (here, disk) = (self.node.config().node, self.node.disk_incarnation());
        let (version, founded, counted) =
            self.catalog.view(|catalog| (catalog.version(), catalog.cluster().is_some(), catalog.has_disk(here, disk)));
        if !founded {
            return;
        }
        self.learn_nodes();
        replicas::start_and_stop(&self.node, &self.catalog, &self.leaving).await;
        self.leaving.sweep(&self.node, &self.catalog);
        if !counted {
            // A new disk whose copy of the catalog is still on its way to the
            // present; or one that was replaced, which is told so.
            return;
        }
        self.node.peers().registry().settle(version);
        self.node.become_ready();
        self.memberships.walk(&self.node, &self.catalog);
    }

    /// The first leader of the catalog tells it who founded the cluster.
    async fn found(&self) {
        let identity = self.node.identity();
        let founded = self.catalog.view(|catalog| catalog.cluster().is_some());
        if founded || identity.founders.is_empty() || self.catalog.status().role != Role::Leader {
            return;
        }
        let cluster = quipu_protocol::ClusterId::new(identity.cluster_id);
        if let Err(error) = self.node.change(catalog::found(cluster, identity.founders)).await {
            tracing::warn!(%error, "telling the catalog who founded the cluster");
        }
    }

    /// Takes over where the nodes are and which of their disks are gone.
    fn learn_nodes(&mut self) {
        let nodes = self.catalog.view(|catalog| (*catalog.nodes() != self.nodes).then(|| catalog.nodes().clone()));
        let Some(nodes) = nodes else { return };
        let peers = self.node.peers();
        for (id, node) in &nodes {
            peers.learn(*id, node.incarnation, node.boot_count, node.boot, &node.retired);
            let moved = match self.nodes.get(id) {
                Some(before) => before.address != node.address,
                // What this node was told at its start is newer than what the
                // catalog knew before.
                None => !self.node.config().peers.contains_key(id),
            };
            if moved && !self.node.is_me(*id) {
                peers.set_address(*id, &node.address);
            }
        }
        let known = nodes.iter().map(|(id, node)| v1::Peer { node: id.get(), address: node.address.clone() });
        if let Err(error) = self.node.remember_peers(known.collect()) {
            tracing::warn!(%error, "remembering where the peers are");
        }
        self.nodes = nodes;
    }
}
