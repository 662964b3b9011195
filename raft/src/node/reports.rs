//! What a node says of itself and of its replicas, and what the cluster's
//! nodes say together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use quipu_protocol::environment::BoxFuture;
use quipu_protocol::peer::{NodeReport, ReplicaReport};
use quipu_protocol::v1::node_status::State as NodeState;
use quipu_protocol::v1::replica_description::{Role, State};
use quipu_protocol::{LogId, NodeId, ReplicaId, Timestamp, v1};
use quipu_storage::journal::ReplicaKey;

use super::inner::{Inner, LogState};
use crate::catalog::{Catalog, CatalogLog};
use crate::clocks::Skew;
use crate::group::{self, GroupStatus};
use crate::log::LogReplica;

/// A node that does not answer within this time counts as down.
const REPORT_DEADLINE: Duration = Duration::from_secs(1);
/// A node that does not answer within this time is not chosen for a new log,
/// if others are.
const REACH_DEADLINE: Duration = Duration::from_millis(300);

impl Inner {
    /// What this node says of itself and of its replicas of `groups`.
    pub(crate) fn report(&self, groups: &[u64]) -> NodeReport {
        let clock_ahead_ms = match self.peers.clock().skew() {
            Skew::Ahead { ms, .. } => Some(ms),
            Skew::Alone | Skew::Unheard => None,
        };
        let replicas = groups.iter().filter_map(|group| self.replica_report(LogId::new(*group)));
        NodeReport {
            version: self.config.version.clone(),
            journal: Some(self.journal_counters()),
            cpu_micros: (self.config.cpu_micros)(),
            resyncing: self.is_resyncing(),
            replicas: replicas.collect(),
            services: Some((self.config.services)()),
            damaged_replicas: self.damaged_logs().len() as u64,
            refetched_entries: self.journal.counters().mended_entries,
            clock_ahead_ms,
            age_retention_held: self.peers.clock().is_in_doubt(),
        }
    }

    fn journal_counters(&self) -> v1::JournalCounters {
        let counters = self.journal.counters();
        v1::JournalCounters {
            commits: counters.commits,
            fsyncs: counters.fsyncs,
            payload_bytes: counters.payload_bytes,
            written_bytes: counters.written_bytes,
            prepared_bytes: counters.prepared_bytes,
            metadata_bytes: self.kv.bytes_written(),
        }
    }

    /// Whether a replica here that should vote does not know itself to do so.
    fn is_resyncing(&self) -> bool {
        let Some(catalog) = self.catalog() else { return true };
        let me = catalog.view(|catalog| catalog.nodes().get(&self.config.node).map(|node| node.catalog_voter));
        let votes = |status: &GroupStatus, replica: ReplicaId| status.membership.is_voter(replica);
        if me.is_none_or(|should_vote| should_vote && !votes(&catalog.status(), catalog.key().replica)) {
            return true;
        }
        let local = self.peers.registry().all().into_iter().filter(|(group, _)| *group != LogId::CATALOG);
        local.into_iter().any(|(_, local)| !votes(&local.endpoint.status(), local.replica))
    }

    fn replica_report(&self, group: LogId) -> Option<ReplicaReport> {
        if let Some(local) = self.peers.registry().get(group) {
            let status = local.endpoint.status();
            let log = self.logs.borrow().get(&group).and_then(|here| here.state.log().cloned());
            let casualty = self.casualty(ReplicaKey { group, replica: local.replica });
            return Some(ReplicaReport {
                damaged_since: casualty.since.map_or(0, Timestamp::get),
                refetched_entries: casualty.refetched,
                ..running(group, local.replica, &status, log.as_ref())
            });
        }
        let here = self.logs.borrow().get(&group).cloned()?;
        let state = match here.state {
            LogState::Failed { damaged: true, .. } => State::Damaged,
            LogState::Failed { .. } => State::Failed,
            LogState::Running(_) | LogState::Registrar(_) => State::Starting,
        };
        let casualty = self.casualty(ReplicaKey { group, replica: here.replica });
        Some(ReplicaReport {
            group: group.get(),
            replica: here.replica.get(),
            state: state.into(),
            damaged_since: casualty.since.map_or(0, Timestamp::get),
            refetched_entries: casualty.refetched,
            ..ReplicaReport::default()
        })
    }

    /// What `node` says, or nothing.
    pub(super) async fn report_of(&self, node: NodeId, groups: &[u64], deadline: Duration) -> Option<NodeReport> {
        if self.is_me(node) {
            return Some(self.report(groups));
        }
        // Boxed, so that callers' futures do not hold a client each.
        let report: BoxFuture<'_, _> = Box::pin(self.peers.report(node, groups.to_vec(), deadline));
        report.await.ok()
    }

    /// The nodes that answer now.
    pub(super) async fn reachable_nodes(&self) -> Vec<NodeId> {
        let nodes: Vec<NodeId> = self.view(|catalog| catalog.nodes().keys().copied().collect()).unwrap_or_default();
        let asked =
            nodes.into_iter().map(|node| async move { self.report_of(node, &[], REACH_DEADLINE).await.map(|_| node) });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The cluster as this node sees it.
    pub(super) async fn cluster_status(&self) -> v1::StatusResponse {
        let (nodes, logs) = self.view(|catalog| (catalog.peers(), catalog.count())).unwrap_or_default();
        let asked = nodes.into_iter().map(|peer| async move {
            let report = self.report_of(NodeId::new(peer.node), &[], REPORT_DEADLINE).await;
            node_status(peer, report)
        });
        let leader = self.catalog().and_then(|catalog| catalog.status().leader);
        v1::StatusResponse {
            cluster_id: self.peers.cluster().unwrap_or_default().get(),
            nodes: join_all(asked).await,
            logs: logs as u64,
            catalog_leader: leader.map_or(0, |(_, node)| node.get()),
        }
    }

    /// A log with what its replicas say.
    pub(super) async fn describe(&self, id: LogId, log: &CatalogLog, peers: &[v1::Peer]) -> v1::DescribeLogResponse {
        let asked = log.wanted.iter().map(|place| async move {
            let report = self.report_of(place.node, &[id.get()], REPORT_DEADLINE).await;
            (place.node, report)
        });
        let reports: BTreeMap<NodeId, Option<NodeReport>> = join_all(asked).await.into_iter().collect();
        let holding = reports.iter().filter(|(_, it)| it.as_ref().is_some_and(|it| it.age_retention_held));
        let holding: BTreeSet<NodeId> = holding.map(|(node, _)| *node).collect();
        let reports: BTreeMap<NodeId, Answer> = reports.into_iter().map(|(node, it)| (node, Answer::of(it))).collect();
        let leads = |answer: &&Answer| matches!(answer, Answer::Replica(it) if it.role() == Role::Leader);
        let replica = |answer: &Answer| match answer {
            Answer::Replica(report) => Some(*report),
            Answer::Silent | Answer::NoReplica => None,
        };
        let leader = reports.iter().filter(|(_, it)| leads(it));
        let leader = leader.filter_map(|(node, it)| Some((*node, replica(it)?))).max_by_key(|(_, it)| it.term);
        let foremost = leader.map(|(_, it)| it);
        let foremost = foremost.or_else(|| reports.values().filter_map(replica).max_by_key(|it| it.end));
        let last = foremost.map_or(0, |it| it.last_index);
        let address = |node: NodeId| peers.iter().find(|it| it.node == node.get()).map(|it| it.address.clone());
        let describe = |place: &crate::catalog::Place| {
            let node = v1::ReplicaDescription {
                node: place.node.get(),
                address: address(place.node).unwrap_or_default(),
                replica: place.replica.get(),
                ..v1::ReplicaDescription::default()
            };
            match &reports[&place.node] {
                Answer::Silent => v1::ReplicaDescription { state: State::Unreachable.into(), ..node },
                Answer::Replica(report) if report.replica == place.replica.get() => v1::ReplicaDescription {
                    role: report.role,
                    state: report.state,
                    durable_index: report.durable_index,
                    applied_index: report.applied_index,
                    lag: last.saturating_sub(report.durable_index),
                    end: report.end,
                    damaged_since: report.damaged_since,
                    refetched_entries: report.refetched_entries,
                    ..node
                },
                Answer::NoReplica | Answer::Replica(_) => {
                    v1::ReplicaDescription { state: State::Starting.into(), lag: last, ..node }
                }
            }
        };
        v1::DescribeLogResponse {
            log: self.view(|catalog: &Catalog| catalog.summary(id)).flatten(),
            start: foremost.map_or(0, |it| it.start),
            end: foremost.map_or(0, |it| it.end),
            leader: leader.map_or(0, |(node, _)| node.get()),
            term: foremost.map_or(0, |it| it.term),
            replicas: log.wanted.iter().map(describe).collect(),
            bytes: foremost.map_or(0, |it| it.bytes),
            entries: foremost.map_or(0, |it| it.entries),
            cursors: foremost.map_or(0, |it| it.cursors),
            cursor_bytes: foremost.map_or(0, |it| it.cursor_bytes),
            cursor_entry_bytes: foremost.map_or(0, |it| it.cursor_entry_bytes),
            leases: foremost.map_or(0, |it| it.leases),
            lease_entry_bytes: foremost.map_or(0, |it| it.lease_entry_bytes),
            age_retention_held: log.config.retention_ms > 0 && leader.is_some_and(|(node, _)| holding.contains(&node)),
        }
    }
}

/// What a node said of one replica.
enum Answer {
    Silent,
    NoReplica,
    Replica(ReplicaReport),
}

impl Answer {
    fn of(report: Option<NodeReport>) -> Self {
        match report {
            None => Self::Silent,
            Some(report) => report.replicas.into_iter().next().map_or(Self::NoReplica, Self::Replica),
        }
    }
}

fn running(group: LogId, replica: ReplicaId, status: &GroupStatus, log: Option<&LogReplica>) -> ReplicaReport {
    let range = log.map(LogReplica::range);
    // Rows that cannot be read stop the replica soon; until then it says less.
    let retained = log.and_then(|log| log.retained().ok()).unwrap_or_default();
    let cursors = log.map(|log| log.local_cursors(|cursors| cursors.totals())).unwrap_or_default();
    let leases = log.map(LogReplica::local_lease_totals).unwrap_or_default();
    let role = match status.role {
        group::Role::Leader => Role::Leader,
        group::Role::Follower => Role::Follower,
        group::Role::Learner => Role::Learner,
    };
    let index = |id: Option<quipu_storage::journal::EntryId>| id.map_or(0, |id| id.index.get());
    ReplicaReport {
        group: group.get(),
        replica: replica.get(),
        state: State::Running.into(),
        role: role.into(),
        leader: status.leader.map_or(0, |(replica, _)| replica.get()),
        term: status.term.get(),
        last_index: index(status.last),
        durable_index: index(status.durable),
        applied_index: index(status.applied),
        start: range.map_or(0, |range| range.start().get()),
        end: range.map_or(0, |range| range.end().get()),
        bytes: retained.bytes,
        entries: retained.entries,
        cursors: cursors.count,
        cursor_bytes: cursors.bytes,
        cursor_entry_bytes: cursors.entry_bytes,
        leases: leases.count,
        lease_entry_bytes: leases.entry_bytes,
        ..ReplicaReport::default()
    }
}

fn node_status(peer: v1::Peer, report: Option<NodeReport>) -> v1::NodeStatus {
    let v1::Peer { node: id, address } = peer;
    match report {
        Some(report) => v1::NodeStatus {
            id,
            address,
            state: if report.resyncing { NodeState::Resyncing } else { NodeState::Up }.into(),
            version: report.version,
            journal: report.journal,
            cpu_micros: report.cpu_micros,
            services: report.services,
            damaged_replicas: report.damaged_replicas,
            refetched_entries: report.refetched_entries,
            clock_ahead_ms: report.clock_ahead_ms,
            age_retention_held: report.age_retention_held,
        },
        None => v1::NodeStatus { id, address, state: NodeState::Down.into(), ..v1::NodeStatus::default() },
    }
}
