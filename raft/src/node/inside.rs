//! A node as who looks inside sees it: the simulator's checkers, metrics, and
//! tests.
//! Only looks; changes nothing and asks nobody else.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use quipu_protocol::{LogId, OffsetRange, ReplicaId};
use quipu_storage::journal::{EntryId, Journal, ReplicaKey};

use super::{LogState, RaftNode};
use crate::catalog::Catalog;
use crate::clocks::Skew;
use crate::group::{Group, GroupStatus};
use crate::log::LogReplica;
use crate::machine::Machine;

/// A log's replica that should run on a node and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedReplica {
    /// The log.
    pub log: LogId,
    /// The replica.
    pub replica: ReplicaId,
    /// Why.
    pub reason: String,
    /// Whether its entries are damaged.
    pub damaged: bool,
}

/// A log's replica that runs on a node, at a moment.
#[derive(Clone, Debug)]
pub struct RunningLog {
    /// The log.
    pub log: LogId,
    /// The log's name; its number while the catalog here does not know it.
    pub name: String,
    /// What the replica knows of its group.
    pub status: GroupStatus,
    /// What can be read here.
    pub range: OffsetRange,
}

impl RaftNode {
    /// The replicas that run here and what each knows of its group.
    pub fn replicas(&self) -> Vec<(LogId, ReplicaId, GroupStatus)> {
        let running = self.inner().peers().registry().all().into_iter();
        running.map(|(group, local)| (group, local.replica, local.endpoint.status())).collect()
    }

    /// The logs' replicas that run here, in the order in which the logs were
    /// created. The catalog and the registrars are not among them.
    pub fn running_logs(&self) -> Vec<RunningLog> {
        let inner = self.inner();
        let running: Vec<_> = {
            let logs = inner.logs().borrow();
            let running = logs.iter().filter_map(|(log, here)| Some((*log, here.state.log()?.clone())));
            running.collect()
        };
        let name =
            |log: LogId| inner.view(|catalog| catalog.logs().get(&log).map(|log| log.name.to_string())).flatten();
        let figures = running.into_iter().map(|(log, replica)| RunningLog {
            log,
            name: name(log).unwrap_or_else(|| log.to_string()),
            status: replica.group().status(),
            range: replica.range(),
        });
        figures.collect()
    }

    /// The replica of a log that runs here.
    pub(super) fn running_log(&self, log: LogId) -> Option<LogReplica> {
        match &self.inner().logs().borrow().get(&log)?.state {
            LogState::Running(replica) => Some(replica.clone()),
            LogState::Registrar(_) | LogState::Failed { .. } => None,
        }
    }

    /// How the node's wall clock compares with its peers', and whether nothing is
    /// let go of by age here meanwhile.
    pub fn skew(&self) -> (Skew, bool) {
        let clock = self.inner().peers().clock();
        (clock.skew(), clock.is_in_doubt())
    }

    /// How often the leader of a group with a replica here, the catalog too,
    /// has become another, or the same in a new term, since the node started.
    pub fn leader_changes(&self) -> u64 {
        self.inner().leader_changes.load(Ordering::Relaxed)
    }

    /// The logs' replicas that should run here and do not.
    pub fn failed_replicas(&self) -> Vec<FailedReplica> {
        let logs = self.inner().logs().borrow();
        let failed = logs.iter().filter_map(|(log, here)| match &here.state {
            LogState::Failed { reason, damaged } => {
                Some(FailedReplica { log: *log, replica: here.replica, reason: reason.clone(), damaged: *damaged })
            }
            LogState::Running(_) | LogState::Registrar(_) => None,
        });
        failed.collect()
    }

    /// How often a replica here stopped, of damage or for want of room, and
    /// started anew since the node started, as after a crash.
    pub fn recoveries(&self, key: ReplicaKey) -> u64 {
        self.inner().casualty(key).recoveries
    }

    /// The state of every group that has a replica here, with the entry that it
    /// is as of: wherever that entry is, the state is the same.
    pub fn states(&self) -> Vec<(LogId, EntryId, Bytes)> {
        let inner = self.inner();
        let catalog = inner.catalog().and_then(|group| Some((LogId::CATALOG, state_of(&group)?)));
        let logs = inner.logs().borrow().clone();
        let logs = logs.into_iter().filter_map(|(log, here)| match here.state {
            LogState::Running(replica) => Some((log, state_of(replica.group())?)),
            LogState::Registrar(replica) => Some((log, state_of(replica.group())?)),
            LogState::Failed { .. } => None,
        });
        catalog.into_iter().chain(logs).map(|(log, (applied, image))| (log, applied, image)).collect()
    }

    /// The names of all logs and registrars, by their numbers, as far as this node knows.
    pub fn log_names(&self) -> Vec<(u64, String)> {
        let names = |catalog: &Catalog| {
            let logs = catalog.logs().iter();
            logs.map(|(id, log)| (id.get(), log.name.to_string())).collect()
        };
        self.inner().view(names).unwrap_or_default()
    }

    /// Where its replicas' entries are.
    pub fn journal(&self) -> &Journal {
        self.inner().journal()
    }
}

/// A group's state and the entry that it is as of; none while it changes, or
/// before anything was applied.
fn state_of<M: Machine>(group: &Group<M>) -> Option<(EntryId, Bytes)> {
    let before = *group.applied().borrow();
    let image = group.view(Machine::image);
    let after = *group.applied().borrow();
    before.filter(|_| before == after).map(|applied| (applied, image))
}
