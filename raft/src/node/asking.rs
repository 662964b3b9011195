//! Asking the catalog: changes go to its leader, wherever that is; lookups go
//! to the local copy, and to the leader when that may be too old.
//!
//! ```text
//!   change ─▶ lead here? ── yes ─▶ propose ─────────────▶ reply
//!        ▲        │ no                                      │
//!        │        └ known leader ─▶ Peers.Propose ─▶ reply ─┤
//!        └── nobody, not any more, not known: again         ▼
//!                                    wait until the local copy has it, too
//! ```
//!
//! Every command may be repeated, so an unknown outcome is simply tried again
//! until the deadline.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::environment::BoxFuture;
use quipu_protocol::peer::catalog_reply::Outcome;
use quipu_protocol::peer::{
    CatalogReply, Introduction, Joined, ProposeReply, Refusal, propose_reply, refusal as refused,
};
use quipu_protocol::stored::catalog_command::Command;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::{ClusterId, LogId, LogName, NodeId, stored, v1};

use super::inner::{Inner, LogState};
use super::{CatalogError, ChangeLogError, LogLookupError};
use crate::catalog::{self, CatalogLog};
use crate::group::{ProposeError, Role};
use crate::log::LogReplica;
use crate::peers::refusal;
use crate::types::Reply;

/// One try to reach the catalog's leader takes no longer than this.
const TRY_DEADLINE: Duration = Duration::from_secs(2);
/// The leader is looked for again after this time, or when it changes.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// So many nodes are asked one right after the other, each for its word that
/// the next one leads.
const MAX_HOPS: u32 = 3;
/// A node that asks to be taken in waits no longer than this.
const TAKE_IN_DEADLINE: Duration = Duration::from_secs(5);
/// A replica that is being started is waited for this long.
const START_PATIENCE: Duration = Duration::from_secs(2);
/// The local copy of the catalog is waited for this long to catch up.
const COPY_PATIENCE: Duration = Duration::from_secs(2);

/// Why one try did not do.
enum Missed {
    /// Another node leads, perhaps this one.
    Elsewhere(Option<NodeId>),
    /// Anything else.
    Failed(String),
}

impl Inner {
    /// Changes the catalog and returns what it answers. The local copy has the
    /// change, unless it lags far behind.
    pub(crate) async fn change(&self, command: Command) -> Result<Outcome, CatalogError> {
        let reply = self.ask(Some(command), self.config.catalog_deadline).await?;
        outcome(reply)
    }

    /// The same, and makes sure that the local copy has the change.
    ///
    /// # Errors
    /// When it lags; the change was made all the same.
    pub(super) async fn change_and_see(&self, command: Command) -> Result<Outcome, CatalogError> {
        let reply = self.ask(Some(command), self.config.catalog_deadline).await?;
        self.has_version(reply.version)?;
        outcome(reply)
    }

    /// Makes sure that the local copy of the catalog has everything that was
    /// changed before the call.
    ///
    /// # Errors
    /// When nobody could be asked, or the copy lags: what it lacks must not be
    /// taken for what there is not.
    pub(crate) async fn refresh(&self) -> Result<(), CatalogError> {
        let reply = self.ask(None, self.config.catalog_deadline).await?;
        self.has_version(reply.version)
    }

    fn has_version(&self, wanted: u64) -> Result<(), CatalogError> {
        if self.view(catalog::Catalog::version).is_some_and(|version| version >= wanted) {
            return Ok(());
        }
        quipu_protocol::point!("catalog-copy-lags");
        Err(unavailable("this node's copy of the catalog lags behind its leader's"))
    }

    async fn ask(&self, command: Option<Command>, limit: Duration) -> Result<CatalogReply, CatalogError> {
        let clock = &self.environment.clock;
        let deadline = clock.monotonic() + limit;
        let (mut hint, mut hops) = (None, 0);
        let mut strangers = self.peers.others().into_iter().cycle();
        let mut reason = "this node has no cluster yet".to_owned();
        loop {
            let left = deadline.saturating_sub(clock.monotonic());
            if left.is_zero() {
                return Err(CatalogError::Unavailable { reason });
            }
            // Boxed: everything down to the network would be part of each
            // caller's future.
            let tried = self.try_leader(command.clone(), hint.take(), left.min(TRY_DEADLINE));
            let tried: BoxFuture<'_, _> = Box::pin(tried);
            match clock.timeout(left, tried).await {
                Ok(Ok(reply)) => {
                    self.wait_for_copy(reply.version).await;
                    return Ok(reply);
                }
                // Followed at once, but not from node to node for ever: two
                // may well name each other.
                Ok(Err(Missed::Elsewhere(Some(leader)))) if !self.is_me(leader) => {
                    hint = Some(leader);
                    hops += 1;
                }
                Ok(Err(Missed::Elsewhere(_))) => {
                    "nobody leads the catalog".clone_into(&mut reason);
                    // Nobody that this node knows of: one of the others may.
                    clock.sleep(TRY_AGAIN).await;
                    hint = strangers.next();
                    continue;
                }
                Ok(Err(Missed::Failed(why))) => reason = why,
                Err(_) => {}
            }
            if hint.is_none() || hops >= MAX_HOPS {
                hops = 0;
                clock.sleep(TRY_AGAIN).await;
            }
        }
    }

    async fn try_leader(
        &self,
        command: Option<Command>,
        hint: Option<NodeId>,
        limit: Duration,
    ) -> Result<CatalogReply, Missed> {
        let catalog = self.catalog().ok_or_else(|| Missed::Failed("this node has no cluster yet".to_owned()))?;
        let status = catalog.status();
        let leader = hint.or(status.leader.map(|(_, node)| node));
        match leader {
            Some(node) if self.is_me(node) || (hint.is_none() && status.role == Role::Leader) => {
                let here = self.propose_here(command);
                let timely = self.environment.clock.timeout(limit, here).await;
                timely.unwrap_or_else(|_| Err(Missed::Failed("no majority of the catalog answers".to_owned())))
            }
            Some(node) => self.propose_to(node, command, limit).await,
            None => Err(Missed::Elsewhere(None)),
        }
    }

    /// Proposes, or makes sure of what is known, as the catalog's leader.
    async fn propose_here(&self, command: Option<Command>) -> Result<CatalogReply, Missed> {
        let catalog = self.catalog().ok_or(Missed::Elsewhere(None))?;
        let failed = |error: &dyn std::error::Error| Missed::Failed(error.to_string());
        let Some(command) = command else {
            use crate::group::BarrierError;
            return match catalog.barrier().await {
                Ok(()) => Ok(CatalogReply { version: catalog.view(catalog::Catalog::version), outcome: None }),
                Err(BarrierError::NotLeader { leader }) => Err(Missed::Elsewhere(leader.map(|(_, node)| node))),
                Err(error) => Err(failed(&error)),
            };
        };
        if catalog.view(catalog::Catalog::cluster).is_none() && !matches!(command, Command::Found(_)) {
            // Whatever is asked of an empty catalog would be refused for good.
            return Err(Missed::Failed("the cluster is being founded".to_owned()));
        }
        let command = catalog::encode(self.peers.clock().stamp(), command);
        match catalog.propose(command.into()).await {
            Ok(Reply::Catalog(reply)) => CatalogReply::decode(reply).map_err(|error| failed(&error)),
            Ok(_) => Err(Missed::Failed("the catalog answered like a log".to_owned())),
            Err(ProposeError::NotLeader { leader }) => Err(Missed::Elsewhere(leader.map(|(_, node)| node))),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn propose_to(
        &self,
        node: NodeId,
        command: Option<Command>,
        limit: Duration,
    ) -> Result<CatalogReply, Missed> {
        let command = match command {
            Some(command) => stored::CatalogCommand { stamp: 0, command: Some(command) }.encode_to_vec().into(),
            None => Bytes::new(),
        };
        let answer = self.peers.propose(node, command, limit).await;
        let ProposeReply { outcome } = answer.map_err(|error| Missed::Failed(format!("node {node}: {error}")))?;
        match outcome {
            Some(propose_reply::Outcome::Reply(reply)) => Ok(reply),
            Some(propose_reply::Outcome::Refusal(refusal)) if refusal.reason() == refused::Reason::NotLeader => {
                Err(Missed::Elsewhere((refusal.leader != 0).then_some(NodeId::new(refusal.leader))))
            }
            // Not to be helped by asking again: that is the answer.
            Some(propose_reply::Outcome::Refusal(refusal))
                if matches!(refusal.reason(), refused::Reason::OlderDisk | refused::Reason::OtherCluster) =>
            {
                Ok(CatalogReply { version: 0, outcome: Some(Outcome::Refusal(refusal)) })
            }
            Some(propose_reply::Outcome::Refusal(refusal)) => Err(Missed::Failed(refusal.message)),
            Some(propose_reply::Outcome::Unknown(_)) | None => {
                Err(Missed::Failed(format!("node {node} does not know what became of it")))
            }
        }
    }

    /// A peer takes this node for the catalog's leader.
    pub(crate) async fn propose_for_peer(&self, command: Bytes) -> propose_reply::Outcome {
        let malformed = |why: &str| propose_reply::Outcome::Refusal(refusal(refused::Reason::Malformed, why));
        let command = match stored::CatalogCommand::decode(command.clone()) {
            _ if command.is_empty() => None,
            Ok(stored::CatalogCommand { command: Some(command), .. }) => Some(command),
            Ok(_) => return malformed("a command of a newer version"),
            Err(_) => return malformed("the command cannot be read"),
        };
        let here = self.environment.clock.timeout(TRY_DEADLINE, self.propose_here(command));
        match here.await.unwrap_or_else(|_| Err(Missed::Failed(String::new()))) {
            Ok(reply) => propose_reply::Outcome::Reply(reply),
            Err(Missed::Elsewhere(leader)) => propose_reply::Outcome::Refusal(Refusal {
                leader: leader.map_or(0, NodeId::get),
                ..refusal(refused::Reason::NotLeader, "this node does not lead the catalog")
            }),
            Err(Missed::Failed(_)) => propose_reply::Outcome::Unknown(true),
        }
    }

    /// Takes a node into the cluster, by way of the catalog's leader.
    pub(crate) async fn take_in(&self, from: Introduction) -> Result<Joined, Refusal> {
        let cluster = self.peers.cluster();
        let cluster = cluster.ok_or_else(|| refusal(refused::Reason::NotNow, "this node has no cluster yet"))?;
        if from.cluster_id != 0 && from.cluster_id != cluster.get() {
            let message = format!("node {} is of another cluster, {}", from.node, ClusterId::new(from.cluster_id));
            return Err(refusal(refused::Reason::OtherCluster, message));
        }
        self.peers.remember(&from)?;
        let not_now = |error: CatalogError| refusal(refused::Reason::NotNow, error.to_string());
        let reply = self.ask(Some(catalog::register(&from)), TAKE_IN_DEADLINE).await.map_err(not_now)?;
        match reply.outcome {
            Some(Outcome::Joined(joined)) => Ok(joined),
            Some(Outcome::Refusal(refusal)) => Err(refusal),
            Some(Outcome::Error(error)) => Err(refusal(refused::Reason::Malformed, error.message)),
            other => Err(refusal(refused::Reason::NotNow, format!("the catalog answered {other:?}"))),
        }
    }

    async fn wait_for_copy(&self, version: u64) {
        let Some(catalog) = self.catalog() else { return };
        let mut applied = catalog.applied();
        let there = async {
            while catalog.view(catalog::Catalog::version) < version {
                if applied.changed().await.is_err() {
                    return;
                }
            }
        };
        // A copy that lags further behind serves what it has.
        let _ = self.environment.clock.timeout(COPY_PATIENCE, there).await;
    }

    /// The log of that name, and of this `id` if one is given, as the catalog
    /// has it, and the nodes that have a replica.
    pub(crate) async fn look_up(
        &self,
        name: &LogName,
        id: Option<LogId>,
    ) -> Result<(LogId, CatalogLog, Vec<v1::Peer>), LogLookupError> {
        let look = || {
            let found = self.view(|catalog| {
                let (id, log) = catalog.log_named(name)?;
                Some((id, log.clone(), catalog.peers_of(log)))
            });
            found.flatten()
        };
        let is_meant = |found: LogId| id.is_none_or(|id| id == found);
        match look() {
            Some(found) if is_meant(found.0) => return Ok(found),
            // It has made way for another one of its name: ids only grow.
            Some((found, ..)) if id.is_some_and(|id| id < found) => return Err(unknown(name)),
            // It may have been created through another node just now.
            _ => {}
        }
        let refreshed = self.refresh().await;
        match (look(), refreshed) {
            (Some(found), _) if is_meant(found.0) => Ok(found),
            (_, Ok(())) => Err(unknown(name)),
            (_, Err(error)) => Err(LogLookupError::Starting { reason: error.to_string(), replicas: Vec::new() }),
        }
    }

    /// Changes the log of that name, and of this `id` if one is given, by the command
    /// that `command` makes for its id; returns that, too.
    pub(super) async fn change_log(
        &self,
        name: &LogName,
        id: Option<LogId>,
        command: impl Fn(LogId) -> Command,
    ) -> Result<(LogId, Outcome), ChangeLogError> {
        let mut tried = None;
        loop {
            let id = match self.look_up(name, id).await {
                Ok((id, ..)) => id,
                Err(LogLookupError::Unknown { name }) => return Err(ChangeLogError::Unknown { name }),
                Err(other) => return Err(unavailable(other.to_string()).into()),
            };
            match self.change_log_as(name, command(id)).await {
                // The local copy was behind: the log of that name is another
                // now, or none. Ids only grow, so that this ends.
                Err(ChangeLogError::Unknown { .. }) if tried.replace(id) != Some(id) => {}
                outcome => return outcome.map(|outcome| (id, outcome)),
            }
        }
    }

    /// Changes the log of that name, whose id `command` holds.
    pub(super) async fn change_log_as(&self, name: &LogName, command: Command) -> Result<Outcome, ChangeLogError> {
        match self.change(command).await? {
            Outcome::Error(v1::Error { kind: Some(Kind::UnknownLog(_)), .. }) => {
                Err(ChangeLogError::Unknown { name: name.as_str().to_owned() })
            }
            Outcome::Error(error) => Err(ChangeLogError::Refused(error)),
            outcome => Ok(outcome),
        }
    }

    /// This node's replica of a log.
    pub(crate) async fn local_log(
        &self,
        id: LogId,
        log: &CatalogLog,
        replicas: Vec<v1::Peer>,
    ) -> Result<LogReplica, LogLookupError> {
        if log.replica_on(self.config.node).is_none() {
            return Err(LogLookupError::NoReplicaHere { replicas });
        }
        match self.started(id).await {
            Some(LogState::Running(replica)) => Ok(replica),
            Some(LogState::Failed { reason, damaged: true }) => Err(LogLookupError::Damaged { reason, replicas }),
            Some(LogState::Failed { reason, .. }) => Err(LogLookupError::Starting { reason, replicas }),
            // No log is found by a registrar's name.
            Some(LogState::Registrar(_)) | None => {
                Err(LogLookupError::Starting { reason: "it has not been started yet".to_owned(), replicas })
            }
        }
    }

    /// This node's replica of a group, waited for while it may be about to be
    /// started.
    pub(super) async fn started(&self, id: LogId) -> Option<LogState> {
        let mut logs = self.logs.subscribe();
        let started = logs.wait_for(|logs| logs.contains_key(&id));
        let started = self.environment.clock.timeout(START_PATIENCE, started).await;
        started.ok().and_then(Result::ok).and_then(|logs| logs.get(&id).map(|here| here.state.clone()))
    }
}

fn outcome(reply: CatalogReply) -> Result<Outcome, CatalogError> {
    reply.outcome.ok_or_else(|| unavailable("the catalog's answer is empty"))
}

fn unknown(name: &LogName) -> LogLookupError {
    LogLookupError::Unknown { name: name.as_str().to_owned() }
}

fn unavailable(reason: impl Into<String>) -> CatalogError {
    CatalogError::Unavailable { reason: reason.into() }
}

/// The catalog answered something else than what was asked.
pub(super) fn unexpected(outcome: &Outcome) -> CatalogError {
    match outcome {
        Outcome::Refusal(refusal) => unavailable(refusal.message.as_str()),
        Outcome::Error(error) => unavailable(error.message.as_str()),
        _ => unavailable("the catalog's answer does not fit the question"),
    }
}
