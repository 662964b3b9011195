//! The local replicas that peers may address, and who they are.
//!
//! A message names the group and the replica id that it is meant for. A replica
//! answers for no other id, so what was meant for a lost disk is refused. A
//! group that is not known *yet* is waited for, shortly: the sender's catalog
//! may be ahead of this node's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use openraft::ChangeMembers;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use quipu_protocol::environment::{BoxFuture, Clock};
use quipu_protocol::peer::{Pulse, Refusal, refusal as refused};
use quipu_protocol::{LogId, ReplicaId};
use tokio::sync::watch;

use super::bounds::UNKNOWN_GROUP_WAIT;
use super::convert::RaftSnapshot;
use super::{POISONED, refusal};
use crate::group::{Group, GroupStatus};
use crate::machine::Machine;
use crate::reconcile::Step;
use crate::types::{Member, TypeConfig, Vote};

/// A local replica as its peers see it, whatever its machine.
pub(crate) trait Endpoint: Send + Sync {
    /// One append by itself: a heartbeat.
    fn append(&self, request: AppendEntriesRequest<TypeConfig>) -> Answer<AppendEntriesResponse<TypeConfig>>;
    /// Appends in their order, pipelined; ends with the first that fails.
    fn append_all(
        &self,
        requests: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<AppendEntriesResponse<TypeConfig>, String>>;
    fn vote(&self, request: VoteRequest<TypeConfig>) -> Answer<VoteResponse<TypeConfig>>;
    fn pre_vote(&self, request: VoteRequest<TypeConfig>) -> Answer<VoteResponse<TypeConfig>>;
    fn install(&self, vote: Vote, snapshot: RaftSnapshot) -> Answer<SnapshotResponse<TypeConfig>>;
    /// Answers why the transfer was not accepted, if it was not.
    fn transfer(&self, request: TransferLeaderRequest<TypeConfig>) -> Answer<Option<String>>;
    /// What it tells a replica that follows it and gave it the stamp `echo`.
    fn pulse(&self, echo: u64) -> Option<Pulse>;
    /// Its leader tells that.
    fn hear(&self, pulse: Pulse);
    /// The stamp of an answer to its leader.
    fn stamp(&self) -> u64;
    /// What it knows of its group.
    fn status(&self) -> GroupStatus;
    /// Takes a step of its group's membership, as its leader.
    fn step(&self, step: Step) -> Answer<()>;
    /// Asks `to` to lead in its place.
    fn hand_over(&self, to: ReplicaId) -> Answer<()>;
}

/// An answer of a replica, or why it cannot give one any more.
pub(crate) type Answer<T> = BoxFuture<'static, Result<T, String>>;

impl<M: Machine> Endpoint for Group<M> {
    fn append(&self, request: AppendEntriesRequest<TypeConfig>) -> Answer<AppendEntriesResponse<TypeConfig>> {
        let raft = self.raft().clone();
        Box::pin(self.scope(async move { raft.append_entries(request).await.map_err(|error| error.to_string()) }))
    }

    fn append_all(
        &self,
        requests: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<AppendEntriesResponse<TypeConfig>, String>> {
        let raft = self.raft().clone();
        let answers = self.scope(async move { raft.stream_append(requests).boxed() });
        let answer = |answer| match answer {
            Ok(Ok(_)) => Ok(AppendEntriesResponse::Success),
            Ok(Err(StreamAppendError::Conflict(_))) => Ok(AppendEntriesResponse::Conflict),
            Ok(Err(StreamAppendError::HigherVote(vote))) => Ok(AppendEntriesResponse::HigherVote(vote)),
            Err(fatal) => Err(openraft::errors::Fatal::to_string(&fatal)),
        };
        futures_util::stream::once(answers).flatten().map(answer).boxed()
    }

    fn vote(&self, request: VoteRequest<TypeConfig>) -> Answer<VoteResponse<TypeConfig>> {
        let raft = self.raft().clone();
        Box::pin(self.scope(async move { raft.vote(request).await.map_err(|error| error.to_string()) }))
    }

    fn pre_vote(&self, request: VoteRequest<TypeConfig>) -> Answer<VoteResponse<TypeConfig>> {
        let raft = self.raft().clone();
        Box::pin(self.scope(async move { raft.pre_vote(request).await.map_err(|error| error.to_string()) }))
    }

    fn install(&self, vote: Vote, snapshot: RaftSnapshot) -> Answer<SnapshotResponse<TypeConfig>> {
        if self.is_on_another_branch(snapshot.meta.last_log_id.as_ref()) {
            quipu_protocol::point!("snapshot-over-another-branch");
        }
        let raft = self.raft().clone();
        let installed = async move { raft.install_full_snapshot(vote, snapshot).await };
        Box::pin(self.scope(async move { installed.await.map_err(|error| error.to_string()) }))
    }

    fn transfer(&self, request: TransferLeaderRequest<TypeConfig>) -> Answer<Option<String>> {
        let raft = self.raft().clone();
        Box::pin(self.scope(async move {
            match raft.handle_transfer_leader(request).await {
                Ok(accepted) => Ok(accepted.err().map(|why| why.to_string())),
                Err(fatal) => Err(fatal.to_string()),
            }
        }))
    }

    fn pulse(&self, echo: u64) -> Option<Pulse> {
        Self::pulse(self, echo)
    }

    fn hear(&self, pulse: Pulse) {
        Self::hear(self, pulse);
    }

    fn stamp(&self) -> u64 {
        Self::stamp(self)
    }

    fn status(&self) -> GroupStatus {
        Self::status(self)
    }

    fn step(&self, step: Step) -> Answer<()> {
        let raft = self.raft().clone();
        Box::pin(self.scope(async move {
            let ids = |set: BTreeSet<ReplicaId>| set.into_iter().map(ReplicaId::get).collect::<BTreeSet<u64>>();
            let done = match step {
                Step::Learn { replica, node } => raft.add_learner(replica.get(), Member { node }, false).await,
                Step::Vote { voters } => raft.change_membership(ids(voters), false).await,
                Step::Forget { learners } => {
                    raft.change_membership(ChangeMembers::RemoveNodes(ids(learners)), false).await
                }
            };
            done.map(drop).map_err(|error| error.to_string())
        }))
    }

    fn hand_over(&self, to: ReplicaId) -> Answer<()> {
        let raft = self.raft().clone();
        Box::pin(
            self.scope(
                async move { raft.trigger().transfer_leader(to.get()).await.map_err(|error| error.to_string()) },
            ),
        )
    }
}

/// The local replicas.
pub(crate) struct Registry {
    clock: Arc<dyn Clock>,
    replicas: Mutex<BTreeMap<LogId, Local>>,
    /// Rises with every change to `replicas` and to the settled version.
    changes: watch::Sender<Settled>,
}

/// A replica that runs here.
#[derive(Clone)]
pub(crate) struct Local {
    /// Its id.
    pub(crate) replica: ReplicaId,
    /// What peers ask of it.
    pub(crate) endpoint: Arc<dyn Endpoint>,
}

/// How far the registry has followed the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Settled {
    changes: u64,
    version: u64,
    closed: bool,
}

impl Registry {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, replicas: Mutex::default(), changes: watch::channel(Settled::default()).0 }
    }

    /// Lets peers address `replica` of `group`.
    pub(crate) fn insert(&self, group: LogId, replica: ReplicaId, endpoint: Arc<dyn Endpoint>) {
        self.replicas.lock().expect(POISONED).insert(group, Local { replica, endpoint });
        self.changes.send_modify(|settled| settled.changes += 1);
    }

    /// Peers address `replica` of `group` no more. One that has taken its place
    /// since is left alone.
    pub(crate) fn remove(&self, group: LogId, replica: ReplicaId) {
        let mut replicas = self.replicas.lock().expect(POISONED);
        if replicas.get(&group).is_some_and(|local| local.replica == replica) {
            replicas.remove(&group);
            self.changes.send_modify(|settled| settled.changes += 1);
        }
    }

    /// Every replica that the catalog's `version` wants here has been started,
    /// or cannot be.
    pub(crate) fn settle(&self, version: u64) {
        self.changes.send_if_modified(|settled| {
            let later = version > settled.version;
            settled.version = settled.version.max(version);
            later
        });
    }

    /// The catalog's version up to which this node has acted.
    pub(crate) fn settled(&self) -> u64 {
        self.changes.borrow().version
    }

    /// Lets go of every replica.
    pub(super) fn close(&self) {
        self.replicas.lock().expect(POISONED).clear();
        self.changes.send_modify(|settled| settled.closed = true);
    }

    /// The replicas that run here.
    pub(crate) fn all(&self) -> Vec<(LogId, Local)> {
        self.replicas.lock().expect(POISONED).iter().map(|(group, local)| (*group, local.clone())).collect()
    }

    pub(crate) fn get(&self, group: LogId) -> Option<Local> {
        self.replicas.lock().expect(POISONED).get(&group).cloned()
    }

    /// The replica `to` of `group`, waited for as long as this node may learn
    /// of it from the catalog's `version`.
    pub(super) async fn find(&self, group: LogId, to: ReplicaId, version: u64) -> Result<Arc<dyn Endpoint>, Refusal> {
        let mut changes = self.changes.subscribe();
        let found = self.clock.timeout(UNKNOWN_GROUP_WAIT, async {
            loop {
                let settled = *changes.borrow_and_update();
                match self.get(group) {
                    Some(local) if local.replica == to => return Ok(local.endpoint),
                    // The catalog's replica is what brings the news: it is
                    // itself not waited for.
                    _ if settled.closed || group == LogId::CATALOG || settled.version >= version => {
                        return Err(self.unknown(group, to));
                    }
                    _ => {}
                }
                if changes.changed().await.is_err() {
                    return Err(self.unknown(group, to));
                }
            }
        });
        found.await.unwrap_or_else(|_| Err(self.unknown(group, to)))
    }

    fn unknown(&self, group: LogId, to: ReplicaId) -> Refusal {
        let message = match self.get(group) {
            Some(local) => format!("group {group} has replica {} here, not {to}", local.replica),
            None => format!("group {group} has no replica here"),
        };
        refusal(refused::Reason::NoSuchReplica, message)
    }
}
