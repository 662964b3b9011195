//! What a replica knows of its group at a moment.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ServerState;
use quipu_protocol::{NodeId, ReplicaId, Term};
use quipu_storage::journal::EntryId;

use crate::types::{self, Member, StoredMembership, TypeConfig};

/// What a replica is to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes appends.
    Leader,
    /// A voter that follows a leader, or looks for one.
    Follower,
    /// Receives everything and does not vote.
    Learner,
}

/// Who votes in a group and who learns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The entry that set it; none before this replica has heard of one.
    pub set_at: Option<EntryId>,
    /// One set of voters, or two while one replaces the other.
    pub voters: Vec<BTreeSet<ReplicaId>>,
    /// Every replica, voter or learner, and its node.
    pub replicas: BTreeMap<ReplicaId, NodeId>,
}

impl Membership {
    pub(crate) fn of(stored: &StoredMembership) -> Self {
        let configs = stored.membership().get_joint_config();
        Self {
            set_at: stored.log_id().as_ref().map(types::entry_id),
            voters: configs.iter().map(|set| set.iter().copied().map(ReplicaId::new).collect()).collect(),
            replicas: stored.nodes().map(|(id, member)| (ReplicaId::new(*id), member.node)).collect(),
        }
    }

    /// Whether one set of voters is being replaced by another.
    pub fn is_joint(&self) -> bool {
        self.voters.len() > 1
    }

    /// Whether `replica` votes, in both sets where there are two.
    pub fn is_settled_voter(&self, replica: ReplicaId) -> bool {
        !self.voters.is_empty() && self.voters.iter().all(|set| set.contains(&replica))
    }

    /// Whether `replica` votes, in either set.
    pub fn is_voter(&self, replica: ReplicaId) -> bool {
        self.voters.iter().any(|set| set.contains(&replica))
    }
}

/// What a replica knows of its group at a moment.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// What this replica is.
    pub role: Role,
    /// The newest term it knows.
    pub term: Term,
    /// The leader and its node, as far as it knows.
    pub leader: Option<(ReplicaId, NodeId)>,
    /// Its last entry, on stable storage or not yet.
    pub last: Option<EntryId>,
    /// The last entry that its own disk has fsynced.
    pub durable: Option<EntryId>,
    /// The last entry it knows to be committed.
    pub committed: Option<EntryId>,
    /// The last entry it has applied.
    pub applied: Option<EntryId>,
    /// The newest membership in its log, committed or not.
    pub membership: Membership,
    /// Whether that membership is committed.
    pub membership_committed: bool,
    /// On the leader: up to where each replica is known to have fsynced the
    /// leader's log. Empty elsewhere.
    pub matched: BTreeMap<ReplicaId, Option<EntryId>>,
}

impl GroupStatus {
    pub(crate) fn of(
        metrics: &openraft::RaftMetrics<TypeConfig>,
        last: Option<EntryId>,
        durable: Option<EntryId>,
        applied: Option<EntryId>,
    ) -> Self {
        let membership = Membership::of(&metrics.membership_config);
        let leader = metrics.current_leader.map(ReplicaId::new);
        Self {
            role: match metrics.state {
                ServerState::Leader => Role::Leader,
                // One that votes in only one of two sets does not yet stand in for
                // another: whoever looks whether a disk can be spared has to know.
                _ if membership.is_settled_voter(ReplicaId::new(metrics.id)) => Role::Follower,
                _ => Role::Learner,
            },
            term: Term::new(metrics.current_term),
            leader: leader.and_then(|leader| Some((leader, *membership.replicas.get(&leader)?))),
            last,
            durable,
            committed: metrics.local_committed.as_ref().map(types::entry_id),
            applied,
            membership_committed: metrics.membership_config == metrics.committed_membership_config,
            membership,
            matched: metrics
                .replication
                .iter()
                .flatten()
                .map(|(id, matched)| (ReplicaId::new(*id), matched.as_ref().map(types::entry_id)))
                .collect(),
        }
    }
}

/// A leader as openraft names it when it forwards.
pub(crate) fn forwarded(forward: &openraft::errors::ForwardToLeader<TypeConfig>) -> Option<(ReplicaId, NodeId)> {
    let Member { node } = forward.leader_node.as_ref()?;
    Some((ReplicaId::new(forward.leader_id?), *node))
}
