//! A leader makes sure that it still leads: for reads that miss nothing, and for
//! the ages that local reads tell. Why that may be believed is in [`confirmation`].
//!
//! [`confirmation`]: super::confirmation

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{RaftMetrics, ReadPolicy, ServerState};
use quipu_protocol::{NodeId, ReplicaId, Term};

use super::confirmation::{Electorate, Mark};
use super::{BarrierError, Group, status, stop_reason};
use crate::machine::Machine;
use crate::types::{self, TypeConfig};

/// Whether a majority has followed a leader since a mark.
enum Standing {
    Followed,
    NotYet,
    /// It leads no more, or not in that term.
    Over,
}

impl<M: Machine> Group<M> {
    /// Waits until this replica has applied everything that was acknowledged
    /// anywhere before the call. Only the leader can: it makes sure of a
    /// majority first, for as long as the longest election timeout.
    ///
    /// # Errors
    /// [`BarrierError::NotLeader`] when it does not lead, or no more;
    /// [`BarrierError::Unavailable`] when no majority answers in time.
    pub async fn barrier(&self) -> Result<(), BarrierError> {
        let (raft, clock) = (&self.inner.raft, &self.inner.environment.clock);
        let (asked, mark) = (clock.monotonic(), self.inner.confirmations.mark());
        // Has heartbeats sent, and names what has to be applied.
        let linearizer =
            self.scope(raft.get_read_linearizer(ReadPolicy::ReadIndex)).await.map_err(|error| match error {
                RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
                    BarrierError::NotLeader { leader: status::forwarded(&forward) }
                }
                RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => BarrierError::Unavailable,
                RaftError::Fatal(fatal) => BarrierError::Stopped(stop_reason(&fatal)),
            })?;
        let term = types::entry_id(linearizer.read_log_id().log_id()).term;
        let left = (asked + self.inner.patience).saturating_sub(clock.monotonic());
        clock.timeout(left, self.followed_since(term, mark)).await.map_err(|_| BarrierError::Unavailable)??;
        let ready = self.scope(linearizer.await_ready(raft)).await;
        ready.map(drop).map_err(|fatal| BarrierError::Stopped(stop_reason(&fatal)))
    }

    /// Waits until a majority has followed this leader of `term` since `mark`.
    async fn followed_since(&self, term: Term, mark: Mark) -> Result<(), BarrierError> {
        let mut answers = self.inner.confirmations.changes();
        let mut metrics = self.inner.raft.metrics();
        loop {
            // Seen before it is looked at: what changes meanwhile wakes this up.
            answers.mark_unchanged();
            let standing = self.standing(&metrics.borrow_and_update(), term, mark);
            match standing {
                Standing::Followed => return Ok(()),
                Standing::NotYet => {}
                Standing::Over => return Err(BarrierError::NotLeader { leader: self.other_leader() }),
            }
            tokio::select! {
                // The answers last as long as this replica.
                _ = answers.changed() => {}
                changed = metrics.changed() => if changed.is_err() {
                    return Err(BarrierError::Stopped(self.stopped().await));
                }
            }
        }
    }

    fn standing(&self, metrics: &RaftMetrics<TypeConfig>, term: Term, mark: Mark) -> Standing {
        if !self.holds_own_vote(term) {
            return Standing::Over;
        }
        match metrics.state {
            ServerState::Leader if metrics.current_term == term.get() => {}
            // The metrics come after the fact.
            ServerState::Leader | ServerState::Candidate => return Standing::NotYet,
            _ if metrics.current_term < term.get() => return Standing::NotYet,
            _ => return Standing::Over,
        }
        match self.inner.confirmations.since(mark, electorate(metrics)) {
            true => Standing::Followed,
            false => Standing::NotYet,
        }
    }

    /// The latest moment, `now` at most, at which a majority took this replica for
    /// its leader; none unless it leads and has applied everything that leaders
    /// before it acknowledged. `now` is a moment of the node's monotonic clock that
    /// has been.
    pub(crate) fn followed_as_of(&self, now: Duration) -> Option<Duration> {
        let applied = (*self.inner.shared.applied().borrow())?;
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        // An entry of its own term comes after all of those.
        if metrics.state != ServerState::Leader || applied.term.get() != metrics.current_term {
            return None;
        }
        let as_of = self.inner.confirmations.as_of(now, electorate(&metrics));
        as_of.filter(|_| self.holds_own_vote(applied.term))
    }

    /// How long ago a majority took this replica for its leader, at most: see
    /// [`followed_as_of`](Self::followed_as_of).
    pub(crate) fn majority(&self) -> Option<Duration> {
        let now = self.inner.environment.clock.monotonic();
        Some(now.saturating_sub(self.followed_as_of(now)?))
    }

    /// Whether this replica has granted its vote to nobody since it was elected in
    /// `term`: another vote is in the journal before its grant is answered.
    fn holds_own_vote(&self, term: Term) -> bool {
        let vote = self.inner.journal.replica(self.inner.key).and_then(|state| state.vote);
        vote.is_some_and(|vote| vote.term == term && vote.voted_for == Some(self.inner.key.replica))
    }

    /// Who leads in place of this replica, if it knows.
    fn other_leader(&self) -> Option<(ReplicaId, NodeId)> {
        self.status().leader.filter(|(leader, _)| *leader != self.inner.key.replica)
    }
}

/// Who has to follow, of a leader with these metrics.
fn electorate(metrics: &RaftMetrics<TypeConfig>) -> Electorate<'_> {
    let voters = metrics.membership_config.membership().get_joint_config();
    Electorate { leader: metrics.id, term: Term::new(metrics.current_term), voters }
}
