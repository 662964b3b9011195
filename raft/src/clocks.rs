//! A node's wall clock, held against its peers'.
//!
//! ```text
//!   ────┼───────────────┼──────────┼────┼────▶ time by this node's clock
//!       │               └ the peers' median, to within an error
//!       └ behind it: the least and the most that it may be
//! ```
//!
//! A leader whose clock is wrong would trim by age what is young, and forget
//! producers that are about to retry. So nothing goes by the clock of a node
//! that may differ from its peers' median by more than a bound, and what such a
//! node stamps, it stamps with the median's time: log time, which rows and
//! producers have their ages by, only ever goes forward, and a stamp that is
//! hours ahead would take effect once the clock is right again.
//!
//! What a peer's wall clock shows is kept against this node's monotonic clock,
//! so that this node's own wall clock may jump at any moment and is found out
//! at the next look, without asking anybody.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quipu_protocol::environment::Clock;
use quipu_protocol::peer::KnownClock;
use quipu_protocol::{NodeId, Timestamp};

/// A peer's clock counts for so long after it was last heard of.
const COUNTS_FOR: Duration = Duration::from_secs(60);

/// The best look at a peer's clock is kept for so long before one with a larger
/// error takes its place.
const BEST_FOR: Duration = Duration::from_secs(10);

/// A node's clock among its peers'. Clones are the same one.
#[derive(Clone)]
pub struct NodeClock {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    max_skew: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Whether there are other nodes.
    has_peers: bool,
    heard: BTreeMap<NodeId, Heard>,
    /// Whether it was told that the clocks are apart.
    told_apart: bool,
}

/// A peer's clock, as of when it was heard of.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Duration,
    /// The best sight there was lately, how it was had, and when.
    sight: Sight,
    way: Way,
    had: Duration,
}

/// How a clock was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its node told.
    Direct,
    /// Another node told that had it from that one.
    Relayed,
}

/// What a peer's wall clock shows when this node's monotonic clock is at zero,
/// milliseconds since 1970, give or take an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) at_zero_ms: i64,
    pub(crate) error_ms: i64,
}

/// How a node's wall clock compares with its peers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// There are no peers.
    Alone,
    /// There are, and none was heard of lately.
    Unheard,
    /// It is by this much ahead of their median.
    Ahead {
        /// The likeliest difference, milliseconds; less than 0 when it is behind.
        ms: i64,
        /// How far apart they are at most, milliseconds.
        at_most_ms: u64,
    },
}

impl fmt::Debug for NodeClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeClock").field("max_skew", &self.inner.max_skew).finish_non_exhaustive()
    }
}

impl NodeClock {
    /// The clock of a node without peers.
    pub fn alone(clock: Arc<dyn Clock>) -> Self {
        Self::among_peers(clock, Duration::MAX)
    }

    /// The clock of a node that will hear of its peers' clocks, and goes by its
    /// own while it is at most `max_skew` from their median.
    pub(crate) fn among_peers(clock: Arc<dyn Clock>, max_skew: Duration) -> Self {
        Self { inner: Arc::new(Inner { clock, max_skew, known: Mutex::default() }) }
    }

    /// There are other nodes.
    pub(crate) fn expect_peers(&self) {
        self.lock().has_peers = true;
    }

    /// What was seen of a peer's clock just now.
    pub(crate) fn heard(&self, peer: NodeId, sight: Sight, way: Way) {
        let now = self.inner.clock.monotonic();
        let mut known = self.lock();
        known.heard.retain(|_, heard| is_fresh(heard, now));
        let heard = known.heard.entry(peer).or_insert(Heard { at: now, sight, way, had: now });
        heard.at = now;
        if sight.error_ms <= heard.sight.error_ms || now.saturating_sub(heard.had) > BEST_FOR {
            (heard.sight, heard.way, heard.had) = (sight, way, now);
        }
        drop(known);
        self.skew();
    }

    /// What the clocks show at `now` that this node has seen itself lately: for
    /// other nodes.
    pub(crate) fn known(&self, now: Duration) -> Vec<KnownClock> {
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let known = self.lock();
        let seen = known
            .heard
            .iter()
            .filter(|(_, heard)| heard.way == Way::Direct && now.saturating_sub(heard.at) <= BEST_FOR);
        let shown = seen.map(|(node, heard)| KnownClock {
            node: node.get(),
            wall_ms: heard.sight.at_zero_ms.saturating_add(now_ms),
            error_ms: heard.sight.error_ms.unsigned_abs(),
        });
        shown.collect()
    }

    /// How it compares with its peers' clocks, now. A change is logged.
    pub fn skew(&self) -> Skew {
        self.look(self.inner.clock.wall()).0
    }

    /// How it compares with its peers' clocks when it shows `wall`, and how many of
    /// those were heard of.
    fn look(&self, wall: Timestamp) -> (Skew, usize) {
        let mut known = self.lock();
        if !known.has_peers {
            return (Skew::Alone, 0);
        }
        let now = self.inner.clock.monotonic();
        let sights: Vec<Sight> =
            known.heard.values().filter(|heard| is_fresh(heard, now)).map(|heard| heard.sight).collect();
        let peers = sights.len();
        let skew = skew(wall, now, sights);
        let is_apart = self.is_apart(skew);
        let is_news = skew != Skew::Unheard && std::mem::replace(&mut known.told_apart, is_apart) != is_apart;
        drop(known);
        if let Skew::Ahead { ms, at_most_ms } = skew
            && is_news
        {
            let bound_ms = self.inner.max_skew.as_millis();
            if is_apart {
                tracing::warn!(
                    ahead_ms = ms,
                    at_most_ms,
                    bound_ms,
                    peers,
                    "this node's clock and its peers' are apart: nothing is trimmed by age here"
                );
            } else {
                tracing::info!(ahead_ms = ms, at_most_ms, peers, "this node's clock agrees with its peers' again");
            }
        }
        (skew, peers)
    }

    /// What the wall clock shows, and whether nothing may be let go of by that.
    pub fn now(&self) -> (Timestamp, bool) {
        let wall = self.inner.clock.wall();
        let (skew, _) = self.look(wall);
        (wall, skew == Skew::Unheard || self.is_apart(skew))
    }

    /// Whether nothing may be let go of by this node's clock.
    pub fn is_in_doubt(&self) -> bool {
        self.now().1
    }

    /// What a command is stamped with: the wall clock's time, or the peers'
    /// median's while the two are apart. Of two clocks nobody knows which is right,
    /// and log time never goes back: the earlier one's time does less harm.
    pub fn stamp(&self) -> Timestamp {
        let wall = self.inner.clock.wall();
        match self.look(wall) {
            (skew @ Skew::Ahead { ms, .. }, peers) if self.is_apart(skew) => {
                let ahead = if peers < 2 { ms.max(0) } else { ms };
                Timestamp::new(wall.get().saturating_sub(ahead))
            }
            _ => wall,
        }
    }

    fn is_apart(&self, skew: Skew) -> bool {
        matches!(skew, Skew::Ahead { at_most_ms, .. } if u128::from(at_most_ms) > self.inner.max_skew.as_millis())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // Every change under the lock is whole before anything can panic.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(heard: &Heard, now: Duration) -> bool {
    now.saturating_sub(heard.at) <= COUNTS_FOR
}

/// How a clock that shows `wall` when the monotonic clock shows `now` compares
/// with those that were seen.
///
/// Where these are even in number, the clock itself counts as one of them, so
/// that of three clocks a single wrong one holds up nobody but its own node.
fn skew(wall: Timestamp, now: Duration, mut sights: Vec<Sight>) -> Skew {
    let at_zero = wall.get().saturating_sub(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
    if sights.is_empty() {
        return Skew::Unheard;
    }
    if sights.len().is_multiple_of(2) {
        sights.push(Sight { at_zero_ms: at_zero, error_ms: 0 });
    }
    // The median of the true differences lies between the medians of the least
    // and of the most that each may be.
    let ahead = |shown: fn(&Sight) -> i64| {
        let mut all: Vec<i64> = sights.iter().map(|sight| at_zero.saturating_sub(shown(sight))).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let most = ahead(|sight| sight.at_zero_ms.saturating_sub(sight.error_ms));
    let least = ahead(|sight| sight.at_zero_ms.saturating_add(sight.error_ms));
    Skew::Ahead { ms: ahead(|sight| sight.at_zero_ms), at_most_ms: least.unsigned_abs().max(most.unsigned_abs()) }
}

#[cfg(test)]
mod tests;
