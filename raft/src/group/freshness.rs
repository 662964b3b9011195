//! How old a replica's state may be at most, as the replica can tell by itself.
//!
//! ```text
//!   leader   ──────┬─ echo s, its majority m ago, its reach e ─▶
//!                  ▲                                            │ once e is applied:
//!   replica  ── answer, stamp s                                 ▼ fresh as of s − m
//! ```
//!
//! When the leader sent, the stamp had been given, and a majority had taken it for
//! its leader m before. Whatever was acknowledged anywhere up to m before the stamp
//! lies within e, since no later leader was elected by then. No two clocks are
//! compared, and a message that comes late, twice or after a pause repeats an old
//! stamp and says no more than that.

use std::collections::VecDeque;
use std::time::Duration;

use quipu_protocol::peer::Pulse;

/// A stamp serves all answers within so long: it says less than it might then.
const STAMP_INTERVAL: Duration = Duration::from_millis(10);
/// What is echoed later than so many stamps is not known any more.
const STAMPS: usize = 256;
/// How many reaches of a leader wait until they are applied here.
const PENDING: usize = 64;

/// How fresh a replica's state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The furthest that the leader has told, or its own reach: a log's end.
    pub reach: u64,
    /// Whatever was acknowledged anywhere before this moment, of this node's
    /// monotonic clock, has been applied here. None: nothing is known.
    pub as_of: Option<Duration>,
}

/// What a replica has heard of its leaders since it started.
#[derive(Debug)]
pub(super) struct Heard {
    /// The number of the next stamp.
    next: u64,
    stamps: VecDeque<(u64, Duration)>,
    /// Reaches that are not applied here yet, and as of when they are all there is.
    pending: VecDeque<(u64, Duration)>,
    as_of: Option<Duration>,
    furthest: u64,
}

impl Heard {
    /// Nothing yet. No stamp of an earlier start is taken for one of this, both
    /// counting from numbers drawn at random.
    pub(super) fn nothing(random: u64) -> Self {
        // 0 is no stamp.
        let next = (random >> 1) + 1;
        Self { next, stamps: VecDeque::new(), pending: VecDeque::new(), as_of: None, furthest: 0 }
    }

    /// The stamp of an answer that is given at `now`.
    pub(super) fn stamp(&mut self, now: Duration) -> u64 {
        if let Some((stamp, given)) = self.stamps.back()
            && now.saturating_sub(*given) < STAMP_INTERVAL
        {
            return *stamp;
        }
        if self.stamps.len() == STAMPS {
            self.stamps.pop_front();
        }
        let stamp = self.next;
        self.next += 1;
        self.stamps.push_back((stamp, now));
        stamp
    }

    /// Takes in what a leader sent to this replica, which has come as far as
    /// `reach`.
    pub(super) fn hear(&mut self, pulse: Pulse, reach: u64) {
        self.settle(reach);
        self.furthest = self.furthest.max(pulse.end);
        let given = self.stamps.iter().find(|(stamp, _)| *stamp == pulse.echo).map(|(_, given)| *given);
        // Before this replica started, nothing can be said.
        let as_of = given.and_then(|given| given.checked_sub(Duration::from_millis(pulse.majority_ms)));
        let Some(as_of) = as_of.filter(|as_of| Some(*as_of) > self.as_of) else { return };
        if self.pending.len() == PENDING {
            // The first ones are the next to be reached.
            self.pending.pop_back();
        }
        self.pending.push_back((pulse.end, as_of));
        self.settle(reach);
    }

    /// What is known by a replica that has come as far as `reach`.
    pub(super) fn freshness(&mut self, reach: u64) -> Freshness {
        self.settle(reach);
        Freshness { reach: self.furthest.max(reach), as_of: self.as_of }
    }

    fn settle(&mut self, reach: u64) {
        let as_of = &mut self.as_of;
        self.pending.retain(|(end, moment)| {
            let reached = *end <= reach;
            if reached {
                *as_of = (*as_of).max(Some(*moment));
            }
            !reached
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn pulse(echo: u64, majority_ms: u64, end: u64) -> Pulse {
        Pulse { echo, majority_ms, end }
    }

    #[test]
    fn what_is_applied_is_fresh_as_of_the_stamp_less_the_age_of_the_majority() {
        let mut heard = Heard::nothing(77);
        assert_eq!(heard.freshness(5), Freshness { reach: 5, as_of: None });
        let stamp = heard.stamp(MS(1_000));
        heard.hear(pulse(stamp, 30, 9), 5);
        assert_eq!(heard.freshness(8), Freshness { reach: 9, as_of: None }, "what was told is not applied yet");
        assert_eq!(heard.freshness(9), Freshness { reach: 9, as_of: Some(MS(970)) });
    }

    #[test]
    fn what_comes_late_says_no_more_than_when_it_was_sent() {
        let mut heard = Heard::nothing(0);
        let (first, second) = (heard.stamp(MS(1_000)), heard.stamp(MS(2_000)));
        assert_ne!(first, second);
        heard.hear(pulse(second, 0, 3), 3);
        heard.hear(pulse(first, 0, 2), 3);
        assert_eq!(heard.freshness(3).as_of, Some(MS(2_000)));
    }

    #[test]
    fn an_unknown_echo_and_one_from_before_the_start_say_nothing() {
        let mut heard = Heard::nothing(u64::MAX);
        let stamp = heard.stamp(MS(20));
        for unknown in [0, stamp + 1, stamp - 1] {
            heard.hear(pulse(unknown, 0, 1), 1);
        }
        heard.hear(pulse(stamp, 21, 1), 1);
        assert_eq!(heard.freshness(1).as_of, None);
        heard.hear(pulse(stamp, 20, 1), 1);
        assert_eq!(heard.freshness(1).as_of, Some(MS(0)));
    }

    #[test]
    fn a_replica_that_stays_behind_knows_how_far_it_has_come_and_remembers_a_bounded_number() {
        let mut heard = Heard::nothing(5);
        for second in 1..=10_000 {
            let stamp = heard.stamp(MS(1_000 * second));
            heard.hear(pulse(stamp, 0, 10 * second), 0);
        }
        assert!(heard.pending.len() <= PENDING && heard.stamps.len() <= STAMPS);
        assert_eq!(heard.freshness(29), Freshness { reach: 100_000, as_of: Some(MS(2_000)) });
        assert_eq!(heard.freshness(100_000).as_of, Some(MS(10_000_000)));
    }

    #[test]
    fn answers_of_the_same_moment_share_a_stamp_of_their_first() {
        let mut heard = Heard::nothing(5);
        let first = heard.stamp(MS(100));
        assert_eq!(heard.stamp(MS(109)), first);
        heard.hear(pulse(first, 0, 0), 0);
        assert_eq!(heard.freshness(0).as_of, Some(MS(100)));
    }
}
