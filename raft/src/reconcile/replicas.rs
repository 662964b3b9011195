//! Which replicas run on this node: those that the catalog wants on its disk.
//!
//! # Invariant
//! A replica is started only while the catalog, as far as it is known here, has
//! this very disk for the node's. A new disk's copy of the catalog begins with
//! what was before the disk was lost: at that time the node's replicas were
//! those of the lost disk, and none of them may ever speak again.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_protocol::{Incarnation, LogId, NodeId, ReplicaId, v1};
use quipu_storage::journal::{Journal, ReplicaKey};

use super::leaving::Leaving;
use crate::catalog::{Catalog, CatalogLog, Keeps, Place};
use crate::group::{self, Group, StartError, StopReason};
use crate::log::{LogOptions, LogReplica, LogSettings};
use crate::machine::Machine;
use crate::node::{Inner, LogHere, LogState};
use crate::peers::GroupNetwork;
use crate::registrar::RegistrarReplica;

/// What is to be done about the replicas here.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    /// Wanted, and not run yet.
    missing: Vec<(LogId, ReplicaId, CatalogLog)>,
    /// Run, and wanted no more.
    surplus: Vec<LogId>,
}

/// Starts what the catalog wants here and does not run yet, and stops what it
/// wants no more.
pub(super) async fn start_and_stop(node: &Arc<Inner>, catalog: &Group<Catalog>, leaving: &Leaving) {
    let (here, disk) = (node.config().node, node.disk_incarnation());
    let running = node.logs().borrow().iter().map(|(id, it)| (*id, it.replica)).collect();
    let Changes { missing, surplus } = catalog.view(|catalog| changes(catalog, here, disk, &running));
    for id in surplus {
        stop(node, catalog, leaving, id);
    }
    follow(node, catalog);
    for (id, replica, log) in missing {
        start(node, catalog, id, replica, &log).await;
    }
}

/// What has to be done on the node `here`, with this disk, where these replicas
/// run.
fn changes(catalog: &Catalog, here: NodeId, disk: Incarnation, running: &BTreeMap<LogId, ReplicaId>) -> Changes {
    let is_its_disk = catalog.has_disk(here, disk);
    let wanted = |log: &CatalogLog| log.replica_on(here).filter(|_| is_its_disk);
    let surplus = running.iter().filter(|(id, runs)| catalog.logs().get(*id).and_then(wanted) != Some(**runs));
    let missing = catalog.logs().iter().filter_map(|(id, log)| {
        let replica = wanted(log)?;
        (running.get(id) != Some(&replica)).then(|| (*id, replica, log.clone()))
    });
    Changes { missing: missing.collect(), surplus: surplus.map(|(id, _)| *id).collect() }
}

/// Lets every replica that runs here take and keep what its log is configured
/// to now.
fn follow(node: &Arc<Inner>, catalog: &Group<Catalog>) {
    let logs = node.logs().borrow();
    catalog.view(|catalog| {
        for (id, here) in &*logs {
            if let (LogState::Running(replica), Some(log)) = (&here.state, catalog.logs().get(id)) {
                replica.follow(LogSettings::of(&log.config));
            }
        }
    });
}

/// Lets go of a replica at once; it stops by itself, so that nothing else has
/// to wait for it.
fn stop(node: &Arc<Inner>, catalog: &Group<Catalog>, leaving: &Leaving, id: LogId) {
    let mut stopped = None;
    node.logs().send_modify(|logs| stopped = logs.remove(&id));
    let Some(here) = stopped else { return };
    node.peers().registry().remove(id, here.replica);
    leaving.leave(node, catalog, ReplicaKey { group: id, replica: here.replica }, Some(here.state));
}

async fn start(node: &Arc<Inner>, catalog: &Group<Catalog>, id: LogId, replica: ReplicaId, log: &CatalogLog) {
    let key = ReplicaKey { group: id, replica };
    let started = match log.keeps {
        Keeps::Records => start_log(node, key, log).await.map(LogState::Running),
        Keeps::ReaderGroups => start_registrar(node, catalog, key, log).await.map(LogState::Registrar),
    };
    let state = match started {
        Ok(running) => {
            quipu_protocol::point!("replica-started");
            running
        }
        Err(error) => {
            tracing::error!(log = id.get(), replica = replica.get(), %error, "replica cannot be started");
            let damaged = node.journal().damage(key).is_some();
            LogState::Failed { damaged, reason: error.to_string() }
        }
    };
    node.logs().send_modify(|logs| drop(logs.insert(id, LogHere { replica, state })));
}

async fn start_log(node: &Arc<Inner>, key: ReplicaKey, log: &CatalogLog) -> Result<LogReplica, StartError> {
    let begin = found(node.journal(), key, &log.founders).await?;
    let network = GroupNetwork::new(Arc::clone(node.peers()), key.group, key.replica);
    let running = LogReplica::start(
        key,
        node.journal().clone(),
        Arc::clone(node.kv()),
        node.environment(),
        network,
        node.config().group.clone(),
        LogOptions {
            settings: LogSettings::of(&log.config),
            exclusive: log.config.writers() == v1::Writers::Exclusive,
            clock: Some(node.peers().clock().clone()),
            ..node.config().log.clone()
        },
    )
    .await?;
    let_take_part(node, running.group(), begin).await;
    Ok(running)
}

async fn start_registrar(
    node: &Arc<Inner>,
    catalog: &Group<Catalog>,
    key: ReplicaKey,
    log: &CatalogLog,
) -> Result<RegistrarReplica, StartError> {
    let begin = found(node.journal(), key, &log.founders).await?;
    let network = GroupNetwork::new(Arc::clone(node.peers()), key.group, key.replica);
    let running = RegistrarReplica::start(
        key,
        node.journal().clone(),
        Arc::clone(node.kv()),
        node.environment(),
        network,
        node.config().group.clone(),
        catalog.clone(),
        node.peers().clock().clone(),
    )
    .await?;
    let_take_part(node, running.group(), begin).await;
    Ok(running)
}

/// Lets peers address a replica that was started.
async fn let_take_part<M: Machine>(node: &Arc<Inner>, group: &Group<M>, begin: Begin) {
    let key = group.key();
    node.peers().registry().insert(key.group, key.replica, Arc::new(group.clone()));
    watch(node, group);
    begin.with(group).await;
}

/// Notices when a replica stops by itself.
fn watch<M: Machine>(node: &Arc<Inner>, running: &Group<M>) {
    let (key, stopped) = (running.key(), running.stopped());
    let owner = Arc::downgrade(node);
    node.spawn("log-watch", async move {
        let reason = stopped.await;
        let Some(node) = owner.upgrade().filter(|_| reason != StopReason::Shutdown) else { return };
        let ReplicaKey { group, replica } = key;
        node.peers().registry().remove(group, replica);
        let damaged = node.journal().damage(key).is_some();
        let failed = LogState::Failed { reason: reason.to_string(), damaged };
        node.logs().send_modify(|logs| {
            if let Some(here) = logs.get_mut(&group).filter(|here| here.replica == replica) {
                here.state = failed;
            }
        });
    });
}

/// What a replica does once it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The group's first founder, which has never voted: it leads, unless
    /// another does.
    Campaigning,
    /// Any other: it hears from a leader, or campaigns when it is due.
    Listening,
}

impl Begin {
    /// Does it.
    pub(crate) async fn with<M: Machine>(self, group: &Group<M>) {
        if self == Self::Campaigning {
            group.campaign().await;
        }
    }
}

/// Prepares the start of a replica: if it is among the `founders` of its group,
/// makes the group's first entry durable. A replica that took a founder's place
/// is none of them.
pub(crate) async fn found(journal: &Journal, key: ReplicaKey, founders: &[Place]) -> Result<Begin, StartError> {
    let Some(position) = founders.iter().position(|place| place.replica == key.replica) else {
        return Ok(Begin::Listening);
    };
    let members = founders.iter().map(|place| (place.replica, place.node)).collect();
    group::found(journal, key, &members).await?;
    let has_voted = journal.replica(key).is_some_and(|state| state.vote.is_some());
    Ok(if position == 0 && !has_voted { Begin::Campaigning } else { Begin::Listening })
}

#[cfg(test)]
mod tests;
