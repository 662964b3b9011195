//! Who has followed a leader, and since when: what barriers and the ages of local
//! reads are made of.
//!
//! ```text
//!              mark 8
//!   leader  ─── 7 ──┴── 8 ──────────── 9 ──────────────▶
//!                └────────┼─ answer ─▶   says: followed at 7, before the mark
//!                         └──────────── answer ─▶   followed at 8, after it
//! ```
//!
//! Every append and every heartbeat has a number, drawn as it is handed to the
//! network ([`Confirming`]), and its answer counts for this number and no other. A
//! replica that took an append under a leader's vote had granted no higher one by
//! then, and so not before the append was sent. Once a majority, of either set of
//! voters while one replaces the other, has answered what was sent after a mark, no
//! later leader was elected before the mark: that would have taken one of them. So
//! whatever was acknowledged anywhere before it lies within what this leader knew to
//! be committed then, or before the first entry of its term.
//!
//! - **Numbers, not times, make a barrier.** Two moments of a clock may be equal, and
//!   a clock may stand still; what was sent before a mark has a smaller number. Only
//!   an age, which is a span of time, goes by the moment at which a request was sent.
//! - **The leader counts as of now**, since [`Group`](super::Group) looks at its own
//!   newest vote in the journal afterwards: a higher one is there before anybody
//!   hears that it was granted.
//! - **The voters are those of the newest membership in openraft's metrics.** That
//!   may be one change behind, and never two: openraft takes no change before the
//!   last one is committed, and tells its metrics in between. Majorities of
//!   neighbouring memberships have a replica in common.
//! - **openraft's own clock of acknowledgements is not believed.** It takes an answer
//!   for one to every append under way that ends at the same entry, the last of which
//!   may have been sent after the replica has given its answer, by a leader that was
//!   paused in between and has been replaced. It informs `status`, and it lets a
//!   barrier wait, never pass.
//!
//! A message of our own that asks for nothing but this would be sound as well. Every
//! barrier already has openraft send heartbeats, which barriers that are asked for at
//! the same time share; so counting their answers costs no message.

mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use quipu_protocol::Term;
use quipu_protocol::environment::Clock;
use tokio::sync::watch;

pub(super) use network::Confirming;

/// What the replicas of a group have answered to this one as their leader.
pub(super) struct Confirmations {
    clock: Arc<dyn Clock>,
    state: watch::Sender<Answers>,
}

/// See [`Confirmations`].
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The number of the next request.
    next: u64,
    /// Of which term as a leader the answers are.
    term: Term,
    /// Of the requests that each replica has answered, the latest.
    latest: BTreeMap<u64, Request>,
}

/// Something that was sent to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    number: u64,
    /// When, by this node's monotonic clock.
    sent: Duration,
}

/// A moment between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// Who has to be asked: the leader, its term, and one set of voters, or two while
/// one replaces the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Electorate<'a> {
    pub(super) leader: u64,
    pub(super) term: Term,
    pub(super) voters: &'a [BTreeSet<u64>],
}

impl Confirmations {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: watch::channel(Answers::default()).0 }
    }

    /// Something is about to be sent.
    pub(super) fn send(&self) -> Request {
        let mut number = 0;
        self.state.send_if_modified(|answers| {
            number = answers.next;
            answers.next += 1;
            false
        });
        Request { number, sent: self.clock.monotonic() }
    }

    /// `replica` took `request`, sent as the leader of `term`.
    pub(super) fn answer(&self, term: Term, replica: u64, request: Request) {
        self.state.send_if_modified(|answers| answers.hear(term, replica, request));
    }

    /// This moment: whatever is sent from now on comes after it.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.state.borrow().next)
    }

    /// Notice of every answer that says something new.
    pub(super) fn changes(&self) -> watch::Receiver<Answers> {
        self.state.subscribe()
    }

    /// Whether a majority has taken something that was sent after `mark`, the leader
    /// being one of those that have.
    pub(super) fn since(&self, mark: Mark, electorate: Electorate<'_>) -> bool {
        let answers = self.state.borrow();
        let own = answers.next.max(mark.0);
        answers.of_majority(electorate, own, |request| request.number).is_some_and(|number| number >= mark.0)
    }

    /// The latest moment, `now` at most, after which a majority has taken something
    /// that was sent, the leader being taken to follow itself at `now`.
    pub(super) fn as_of(&self, now: Duration, electorate: Electorate<'_>) -> Option<Duration> {
        self.state.borrow().of_majority(electorate, now, |request| request.sent).map(|sent| sent.min(now))
    }
}

impl Answers {
    /// Takes an answer in; tells whether it says anything new.
    fn hear(&mut self, term: Term, replica: u64, request: Request) -> bool {
        if term < self.term {
            return false;
        }
        if term > self.term {
            self.term = term;
            self.latest.clear();
        }
        let known = self.latest.get(&replica).copied();
        let latest = known.map_or(request, |known| Request {
            number: known.number.max(request.number),
            sent: known.sent.max(request.sent),
        });
        self.latest.insert(replica, latest);
        known != Some(latest)
    }

    /// The highest value that a majority of each set of voters has at least.
    fn of_majority<T: Copy + Ord>(
        &self,
        electorate: Electorate<'_>,
        own: T,
        value: impl Fn(&Request) -> T,
    ) -> Option<T> {
        let Electorate { leader, term, voters } = electorate;
        let of = |replica: &u64| match self.latest.get(replica) {
            _ if *replica == leader => Some(own),
            latest => latest.filter(|_| term == self.term).map(&value),
        };
        let of_set = |set: &BTreeSet<u64>| {
            let mut values: Vec<Option<T>> = set.iter().map(of).collect();
            values.sort_unstable();
            // Of n ascending ones, the one that n / 2 + 1 reach; none sorts first.
            values.len().checked_sub(values.len() / 2 + 1).and_then(|at| values[at])
        };
        voters.iter().map(of_set).min().flatten()
    }
}

#[cfg(test)]
mod tests;
