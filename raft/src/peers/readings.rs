//! What two nodes' wall clocks show, on top of what they send each other anyway.
//!
//! ```text
//!   this node   ──1──▶                    ◀── 2, answers 1, held h ──
//!               sent                                             taken
//!               └──────────── on the way: taken − sent − h ──────────┘
//! ```
//!
//! When the answer left, the peer's clock showed what it says, and this node's
//! was between `taken − on the way` and `taken`. Either side answers the other,
//! so both learn, however the requests go. With its own clock each tells of the
//! others that it has read itself: followers have nothing to send each other.

use std::collections::VecDeque;
use std::time::Duration;

use quipu_protocol::peer::{ClockReading, KnownClock};
use quipu_protocol::{NodeId, Timestamp};

use crate::clocks::Sight;

/// A reading goes out no more often than that.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many readings wait for an answer; older ones are forgotten, so that no
/// error is larger than their intervals.
const UNANSWERED: usize = 8;

/// What an answer tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The peer's own clock.
    pub(super) peer: Sight,
    /// The clocks that the peer has read.
    pub(super) others: Vec<(NodeId, Sight)>,
}

/// The readings of one stream, as one side of it knows them.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// By number, with when they were sent.
    sent: VecDeque<(u64, Duration)>,
    count: u64,
    /// The peer's newest, and when it came.
    held: Option<(u64, Duration)>,
}

impl Readings {
    /// The reading to be sent at `now`, when the wall clock shows `wall` and the
    /// others' show what `others` tells, if one is due.
    pub(super) fn next(
        &mut self,
        now: Duration,
        wall: Timestamp,
        others: impl FnOnce() -> Vec<KnownClock>,
    ) -> Option<ClockReading> {
        if self.sent.back().is_some_and(|(_, sent)| now.saturating_sub(*sent) < INTERVAL) {
            return None;
        }
        self.count += 1;
        if self.sent.len() == UNANSWERED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.count, now));
        let (answers, held) =
            self.held.map_or((0, Duration::ZERO), |(number, came)| (number, now.saturating_sub(came)));
        let held_us = u64::try_from(held.as_micros()).unwrap_or(u64::MAX);
        Some(ClockReading { wall_ms: wall.get(), number: self.count, answers, held_us, others: others() })
    }

    /// Takes the peer's reading that came at `now`; what it tells, if it answers
    /// one of ours.
    pub(super) fn take(&mut self, reading: &ClockReading, now: Duration) -> Option<Seen> {
        if reading.number > 0 {
            self.held = Some((reading.number, now));
        }
        let (_, sent) = self.sent.iter().find(|(number, _)| *number == reading.answers)?;
        // None when it says to have held ours for longer than it was gone.
        let on_the_way = now.checked_sub(*sent)?.checked_sub(Duration::from_micros(reading.held_us))?;
        let half_ms = i64::try_from((on_the_way / 2).as_millis()).ok()?;
        let now_ms = i64::try_from(now.as_millis()).ok()?;
        let seen = |wall_ms: i64, error_ms: u64| Sight {
            at_zero_ms: wall_ms.saturating_sub(now_ms - half_ms),
            // Each clock was cut to the millisecond.
            error_ms: i64::try_from(error_ms).unwrap_or(i64::MAX).saturating_add(half_ms + 2),
        };
        let others = reading.others.iter().map(|it| (NodeId::new(it.node), seen(it.wall_ms, it.error_ms)));
        Some(Seen { peer: seen(reading.wall_ms, 0), others: others.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Two sides of a stream: the other's monotonic clock is `MONOTONIC` ahead
    /// of this one's, its wall clock `WALL` ahead of it.
    const MONOTONIC: u64 = 70_000;
    const WALL: i64 = 1_700_000_000_000;

    /// What the other side's clocks show at a moment of this side's.
    fn there(at: u64) -> (Duration, Timestamp) {
        (MS(at + MONOTONIC), Timestamp::new(WALL + i64::try_from(at).unwrap()))
    }

    #[test]
    fn answer_tells_the_others_clock_to_half_the_time_on_the_way() {
        let (mut here, mut other) = (Readings::default(), Readings::default());
        let first = here.next(MS(1_000), Timestamp::new(5), Vec::new).expect("one is due");
        assert_eq!(first, ClockReading { wall_ms: 5, number: 1, answers: 0, held_us: 0, others: Vec::new() });
        // 30 ms there, 400 ms held, 10 ms back.
        assert_eq!(other.take(&first, there(1_030).0), None);
        let (now, wall) = there(1_430);
        let third = KnownClock { node: 3, wall_ms: wall.get() + 9_000, error_ms: 7 };
        let answer = other.next(now, wall, || vec![third]).expect("one is due");
        assert_eq!((answer.answers, answer.held_us), (1, 400_000));
        let Seen { peer: sight, others } = here.take(&answer, MS(1_440)).expect("it answers");
        assert_eq!(sight.error_ms, 20 + 2);
        assert!((sight.at_zero_ms - WALL).abs() <= sight.error_ms, "{sight:?}");
        // The third one's clock is 9 s ahead of the other's.
        let relayed = Sight { at_zero_ms: sight.at_zero_ms + 9_000, error_ms: sight.error_ms + 7 };
        assert_eq!(others, [(NodeId::new(3), relayed)]);
        // And the other way round, by the next one.
        let second = here.next(MS(2_000), Timestamp::new(1_005), Vec::new).expect("one is due");
        let sight = other.take(&second, there(2_030).0).expect("it answers").peer;
        // This wall clock shows the monotonic one's time less 995 ms.
        let expected = -995 - i64::try_from(MONOTONIC).unwrap();
        assert!((sight.at_zero_ms - expected).abs() <= sight.error_ms, "{sight:?}");
    }

    #[test]
    fn readings_go_out_once_a_second_and_old_ones_are_forgotten() {
        let mut here = Readings::default();
        let sent = (0..30_000).filter_map(|at| here.next(MS(at), Timestamp::new(0), Vec::new)).count();
        assert_eq!(sent, 30);
        let answer = |answers| ClockReading { number: 1, answers, ..ClockReading::default() };
        assert_eq!(here.take(&answer(30 - 8), MS(30_000)), None);
        assert!(here.take(&answer(30 - 7), MS(30_000)).is_some());
    }

    #[test]
    fn reading_that_cannot_be_an_answer_tells_nothing() {
        let mut here = Readings::default();
        here.next(MS(100), Timestamp::new(0), Vec::new).expect("one is due");
        let other = KnownClock { node: 3, wall_ms: i64::MIN, error_ms: u64::MAX };
        let answer = ClockReading { wall_ms: i64::MIN, number: 1, answers: 1, held_us: 0, others: vec![other] };
        for wrong in [
            ClockReading { answers: 0, ..answer.clone() },
            ClockReading { answers: 2, ..answer.clone() },
            ClockReading { held_us: 51_000, ..answer.clone() },
            ClockReading { held_us: u64::MAX, ..answer.clone() },
        ] {
            assert_eq!(here.take(&wrong, MS(150)), None, "{wrong:?}");
        }
        let peer = Sight { at_zero_ms: i64::MIN, error_ms: 27 };
        let others = vec![(NodeId::new(3), Sight { error_ms: i64::MAX, ..peer })];
        assert_eq!(here.take(&answer, MS(150)), Some(Seen { peer, others }));
    }
}
