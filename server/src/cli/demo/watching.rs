//! What the cluster says of the log while things happen to it.

use std::time::Duration;

use indicatif::ProgressBar;
use quipu_protocol::ReplicaId;
use quipu_sdk::{Client, Environment, LogDescription, LogName, NodeId, ReplicaDescription, ReplicaRole, ReplicaState};

use crate::cli::failure::Failure;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);
/// What makes no progress for so long is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Somebody who asks about one log.
pub(super) struct Watcher<'a> {
    pub(super) client: &'a Client,
    pub(super) log: &'a LogName,
    pub(super) environment: &'a Environment,
}

impl Watcher<'_> {
    /// Asks until `seen` finds what it looks for. What it returns instead is
    /// how far things are; patience starts anew whenever that changes.
    async fn until<T>(
        &self,
        what: &str,
        mut seen: impl FnMut(&LogDescription) -> Result<T, u64>,
    ) -> Result<T, Failure> {
        let clock = &self.environment.clock;
        let (mut progress, mut since) = (0, clock.monotonic());
        loop {
            // Right after a crash there may be nobody who can tell.
            if let Ok(description) = self.client.describe_log(self.log).await {
                match seen(&description) {
                    Ok(found) => return Ok(found),
                    Err(now) if now != progress => (progress, since) = (now, clock.monotonic()),
                    Err(_) => {}
                }
            }
            if clock.monotonic().saturating_sub(since) > PATIENCE {
                return Err(Failure::Unavailable(format!("waited {PATIENCE:?} in vain until {what}")));
            }
            clock.sleep(PAUSE).await;
        }
    }

    /// Waits for a leader that is not on `lost`; its node and term.
    pub(super) async fn leader_other_than(&self, lost: Option<NodeId>) -> Result<(NodeId, u64), Failure> {
        let seen = |description: &LogDescription| match description.leader {
            Some(leader) if Some(leader) != lost => Ok((leader, description.term.get())),
            _ => Err(0),
        };
        self.until("the log has a leader", seen).await
    }

    /// The replica on `node` as of now.
    pub(super) async fn replica_on(&self, node: NodeId) -> Result<ReplicaId, Failure> {
        let seen = |description: &LogDescription| on(description, node).map(|replica| replica.replica).ok_or(0);
        self.until("the node has a replica", seen).await
    }

    /// Waits until the copy on `node` has everything.
    pub(super) async fn caught_up(&self, node: NodeId) -> Result<(), Failure> {
        let seen = |description: &LogDescription| {
            let replica = on(description, node).ok_or(0_u64)?;
            if votes(replica) && replica.end == description.range.end() { Ok(()) } else { Err(replica.end.get()) }
        };
        self.until("the node has caught up", seen).await
    }

    /// Waits until `node` has another replica than `lost`, which has
    /// everything and votes, and until `lost` is gone. Tells each stage of it
    /// once, and how far it is by `bar`.
    pub(super) async fn resynced(
        &self,
        node: NodeId,
        lost: ReplicaId,
        bar: &ProgressBar,
        mut tell: impl FnMut(Resync, ReplicaId),
    ) -> Result<(), Failure> {
        let mut told = None;
        let seen = |description: &LogDescription| {
            let Some(replica) = on(description, node).filter(|replica| replica.replica != lost) else {
                return Err(0);
            };
            let is_whole = replica.end == description.range.end();
            let stage = match (is_whole, votes(replica)) {
                (true, true) => Resync::Votes,
                (true, false) => Resync::CaughtUp,
                (false, _) => Resync::Learns,
            };
            bar.set_length(description.range.end().get());
            bar.set_position(replica.end.get());
            if told < Some(stage) {
                told = Some(stage);
                tell(stage, replica.replica);
            }
            let lost_is_gone = description.replicas.iter().all(|replica| replica.replica != lost);
            if stage == Resync::Votes && lost_is_gone { Ok(()) } else { Err(replica.end.get() + 1) }
        };
        self.until("the node has resynced", seen).await
    }
}

/// How far a replica is that began with nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resync {
    /// It is there and is being sent the log.
    Learns,
    /// It has everything.
    CaughtUp,
    /// It is a full member.
    Votes,
}

/// The newest replica on `node`.
fn on(description: &LogDescription, node: NodeId) -> Option<&ReplicaDescription> {
    description.replicas.iter().filter(|replica| replica.node == node).max_by_key(|replica| replica.replica)
}

fn votes(replica: &ReplicaDescription) -> bool {
    replica.state == ReplicaState::Running && matches!(replica.role, Some(ReplicaRole::Leader | ReplicaRole::Follower))
}
