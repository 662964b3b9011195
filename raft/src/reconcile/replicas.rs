//! Which replicas run on this node: those that the catalog wants here.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_protocol::{LogId, NodeId, ReplicaId};
use quipu_storage::journal::ReplicaKey;

use crate::catalog::{Catalog, CatalogLog, Place};
use crate::group::{Group, StartError, StopReason};
use crate::log::{LogOptions, LogReplica};
use crate::machine::Machine;
use crate::node::{Inner, LogHere, LogState};
use crate::peers::GroupNetwork;

/// Starts what the catalog wants here and does not run yet, and stops what it
/// wants no more.
pub(super) async fn start_and_stop(node: &Arc<Inner>, catalog: &Group<Catalog>) {
    let here = node.config().node;
    let (missing, surplus) = {
        let running = node.logs().borrow();
        catalog.view(|catalog| {
            let wanted = |id: &LogId| catalog.logs().get(id).and_then(|log| log.replica_on(here));
            let surplus: Vec<LogId> =
                running.iter().filter(|(id, it)| wanted(id) != Some(it.replica)).map(|(id, _)| *id).collect();
            let missing = catalog.logs().iter().filter_map(|(id, log)| {
                let replica = log.replica_on(here)?;
                let runs = running.get(id).is_some_and(|it| it.replica == replica);
                (!runs).then(|| (*id, replica, log.clone()))
            });
            (missing.collect::<Vec<_>>(), surplus)
        })
    };
    for id in surplus {
        stop(node, id).await;
    }
    for (id, replica, log) in missing {
        start(node, id, replica, &log).await;
    }
}

async fn stop(node: &Inner, id: LogId) {
    node.peers().registry().remove(id);
    let mut stopped = None;
    node.logs().send_modify(|logs| stopped = logs.remove(&id));
    let Some(here) = stopped else { return };
    if let LogState::Running(replica) = here.state {
        replica.shutdown().await;
    }
    let retired = Box::new(move |result: Result<(), _>| {
        if let Err(error) = result {
            tracing::warn!(log = id.get(), %error, "retiring a replica");
        }
    });
    node.journal().retire(ReplicaKey { group: id, replica: here.replica }, retired);
}

async fn start(node: &Arc<Inner>, id: LogId, replica: ReplicaId, log: &CatalogLog) {
    let network = GroupNetwork::new(Arc::clone(node.peers()), id, replica);
    let max_batch_bytes = u64::from(log.config.max_batch_bytes).min(node.config().log.max_batch_bytes);
    let started = LogReplica::start(
        ReplicaKey { group: id, replica },
        node.journal().clone(),
        Arc::clone(node.kv()),
        node.environment(),
        network,
        node.config().group.clone(),
        LogOptions { max_batch_bytes, ..node.config().log.clone() },
    );
    let state = match started.await {
        Ok(running) => {
            quipu_protocol::point!("replica-started");
            node.peers().registry().insert(id, replica, Arc::new(running.group().clone()));
            watch(node, id, replica, &running);
            initialize(node, running.group().clone(), &log.founders);
            LogState::Running(running)
        }
        Err(error) => {
            tracing::error!(log = id.get(), replica = replica.get(), %error, "replica cannot be started");
            LogState::Failed { damaged: matches!(error, StartError::Damaged { .. }), reason: error.to_string() }
        }
    };
    node.logs().send_modify(|logs| drop(logs.insert(id, LogHere { replica, state })));
}

/// Notices when a replica stops by itself.
fn watch(node: &Arc<Inner>, id: LogId, replica: ReplicaId, running: &LogReplica) {
    let stopped = running.group().stopped();
    let owner = Arc::downgrade(node);
    node.spawn("log-watch", async move {
        let reason = stopped.await;
        let Some(node) = owner.upgrade().filter(|_| reason != StopReason::Shutdown) else { return };
        node.peers().registry().remove(id);
        let failed = LogState::Failed { reason: reason.to_string(), damaged: false };
        node.logs().send_modify(|logs| {
            if let Some(here) = logs.get_mut(&id).filter(|here| here.replica == replica) {
                here.state = failed;
            }
        });
    });
}

/// Writes the catalog's first membership, on the founders of the cluster.
pub(super) fn found_catalog(node: &Arc<Inner>, catalog: &Group<Catalog>) {
    let founders = node.identity().founders;
    let voters = founders.iter().filter(|founder| founder.catalog_voter);
    let places: Vec<Place> =
        voters.map(|it| Place { replica: ReplicaId::new(it.catalog_replica), node: NodeId::new(it.id) }).collect();
    initialize(node, catalog.clone(), &places);
}

/// Writes a group's first membership if `replica` is among its founders: the
/// first founder at once, so that it leads; the others when it does not come.
///
/// A founder's id is bound to a disk that never was another replica, so an
/// empty founder has never voted. A replica that took a founder's place has
/// another id and waits to be contacted.
fn initialize<M: Machine>(node: &Arc<Inner>, group: Group<M>, founders: &[Place]) {
    let replica = group.key().replica;
    let Some(position) = founders.iter().position(|place| place.replica == replica) else { return };
    let members: BTreeMap<ReplicaId, NodeId> = founders.iter().map(|place| (place.replica, place.node)).collect();
    let patience = node.config().group.election_max * 2;
    let clock = Arc::clone(&node.environment().clock);
    node.spawn("found-group", async move {
        if !is_empty(&group) {
            return;
        }
        if position > 0 {
            clock.sleep(patience).await;
        }
        if !is_empty(&group) {
            return;
        }
        if let Err(error) = group.initialize(&members).await {
            tracing::warn!(group = group.key().group.get(), %error, "founding a group");
        }
    });
}

fn is_empty<M: Machine>(group: &Group<M>) -> bool {
    let status = group.status();
    status.last.is_none() && status.membership.set_at.is_none()
}
