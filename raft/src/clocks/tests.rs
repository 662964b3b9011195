use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use quipu_protocol::environment::BoxFuture;

use super::*;

const HOUR: i64 = 3_600_000;

/// A sight of a clock that is so far ahead of one that shows `wall` at `now`.
fn ahead(wall: i64, now: Duration, by: i64, error_ms: i64) -> Sight {
    Sight { at_zero_ms: wall - i64::try_from(now.as_millis()).unwrap() + by, error_ms }
}

/// How a clock compares with others that are so far ahead of it, each known to
/// within so much.
fn among(peers: &[(i64, i64)]) -> Skew {
    let (wall, now) = (1_700_000_000_000, Duration::from_secs(77));
    let sights = peers.iter().map(|(by, error)| ahead(wall, now, *by, *error)).collect();
    skew(Timestamp::new(wall), now, sights)
}

fn by(ms: i64, at_most_ms: u64) -> Skew {
    Skew::Ahead { ms, at_most_ms }
}

#[test]
fn nothing_is_known_without_peers() {
    assert_eq!(among(&[]), Skew::Unheard);
}

#[test]
fn one_peer_is_the_median() {
    assert_eq!(among(&[(0, 0)]), by(0, 0));
    assert_eq!(among(&[(-HOUR, 7)]), by(HOUR, HOUR.unsigned_abs() + 7));
    assert_eq!(among(&[(HOUR, 7)]), by(-HOUR, HOUR.unsigned_abs() + 7));
}

#[test]
fn of_three_clocks_the_wrong_one_is_found() {
    // Its own clock is an hour ahead, or one of the others' is.
    assert_eq!(among(&[(-HOUR, 0), (-HOUR - 4, 0)]), by(HOUR, HOUR.unsigned_abs()));
    assert_eq!(among(&[(0, 0), (HOUR, 0)]), by(0, 0));
    assert_eq!(among(&[(-HOUR, 0), (3, 0)]), by(0, 0));
}

#[test]
fn of_five_clocks_two_wrong_ones_are_found() {
    assert_eq!(among(&[(1, 0), (2, 0), (HOUR, 0), (HOUR, 0)]), by(-2, 2));
    let own_and_another = [(-HOUR, 0), (-HOUR - 1, 0), (-HOUR - 2, 0), (0, 0)];
    assert_eq!(among(&own_and_another), by(HOUR, HOUR.unsigned_abs()));
}

#[test]
fn of_an_odd_number_of_peers_the_middle_one_counts() {
    assert_eq!(among(&[(5, 0), (-HOUR, 0), (9, 0)]), by(-5, 5));
}

#[test]
fn errors_add_to_how_far_the_clocks_may_be_apart() {
    assert_eq!(among(&[(100, 30)]), by(-100, 130));
    assert_eq!(among(&[(-100, 30)]), by(100, 130));
    // 40 ± 10, 0 ± 500 and 60 ± 30: the median lies between 10 and 90.
    assert_eq!(among(&[(40, 10), (0, 500), (60, 30)]), by(-40, 90));
}

#[test]
fn times_at_the_end_of_all_times_are_no_panic() {
    for at_zero_ms in [i64::MIN, i64::MAX] {
        let sight = Sight { at_zero_ms, error_ms: i64::MAX };
        for wall in [i64::MIN, 0, i64::MAX] {
            skew(Timestamp::new(wall), Duration::MAX, vec![sight, sight]);
        }
    }
}

/// Clocks that are set by hand.
#[derive(Default)]
struct Set {
    monotonic_ms: AtomicU64,
    off_by_ms: AtomicI64,
}

impl Set {
    fn pass(&self, duration: Duration) {
        self.monotonic_ms.fetch_add(duration.as_millis().try_into().unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Set {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        let off_by = self.off_by_ms.load(Ordering::Relaxed);
        Timestamp::new(i64::try_from(self.monotonic().as_millis()).unwrap() + off_by)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        unreachable!("nobody waits")
    }
}

fn of_three() -> (Arc<Set>, NodeClock) {
    let set = Arc::new(Set::default());
    let clock = NodeClock::among_peers(Arc::clone(&set) as _, Duration::from_secs(10));
    clock.expect_peers();
    (set, clock)
}

const RIGHT: Sight = Sight { at_zero_ms: 0, error_ms: 1 };

#[test]
fn own_clock_is_found_out_as_soon_as_it_jumps_and_believed_when_it_is_back() {
    let (set, clock) = of_three();
    clock.heard(NodeId::new(2), RIGHT, Way::Direct);
    clock.heard(NodeId::new(3), RIGHT, Way::Relayed);
    for (off_by, in_doubt) in [(0, false), (9_999, false), (10_001, true), (-HOUR, true), (-9_999, false)] {
        set.off_by_ms.store(off_by, Ordering::Relaxed);
        assert_eq!(clock.is_in_doubt(), in_doubt, "{off_by}");
        assert_eq!(clock.stamp().get(), if in_doubt { 0 } else { off_by });
    }
}

#[test]
fn nothing_is_believed_before_a_peer_was_heard_of_nor_long_after() {
    let (set, clock) = of_three();
    assert_eq!((clock.skew(), clock.is_in_doubt()), (Skew::Unheard, true));
    clock.heard(NodeId::new(2), RIGHT, Way::Direct);
    assert!(!clock.is_in_doubt());
    set.pass(COUNTS_FOR);
    assert!(!clock.is_in_doubt());
    set.pass(Duration::from_millis(1));
    assert_eq!((clock.skew(), clock.is_in_doubt()), (Skew::Unheard, true));
}

#[test]
fn node_without_peers_goes_by_its_own_clock() {
    let set = Arc::new(Set::default());
    let clock = NodeClock::alone(Arc::clone(&set) as _);
    set.off_by_ms.store(HOUR, Ordering::Relaxed);
    assert_eq!((clock.skew(), clock.is_in_doubt(), clock.stamp().get()), (Skew::Alone, false, HOUR));
}

#[test]
fn best_sight_is_kept_for_a_while_and_no_longer() {
    let (set, clock) = of_three();
    let peer = NodeId::new(2);
    let at_most = |clock: &NodeClock| match clock.skew() {
        Skew::Ahead { at_most_ms, .. } => at_most_ms,
        other => panic!("{other:?}"),
    };
    clock.heard(peer, Sight { at_zero_ms: 0, error_ms: 5 }, Way::Direct);
    clock.heard(peer, Sight { at_zero_ms: 0, error_ms: 900 }, Way::Relayed);
    assert_eq!(at_most(&clock), 5);
    clock.heard(peer, Sight { at_zero_ms: 0, error_ms: 2 }, Way::Direct);
    assert_eq!(at_most(&clock), 2);
    set.pass(BEST_FOR + Duration::from_millis(1));
    clock.heard(peer, Sight { at_zero_ms: 0, error_ms: 900 }, Way::Direct);
    assert_eq!(at_most(&clock), 900);
}

#[test]
fn others_are_told_of_what_was_seen_here_lately_and_nothing_else() {
    let (set, clock) = of_three();
    clock.heard(NodeId::new(2), Sight { at_zero_ms: 40, error_ms: 3 }, Way::Direct);
    clock.heard(NodeId::new(3), RIGHT, Way::Relayed);
    set.pass(BEST_FOR);
    let shown = KnownClock { node: 2, wall_ms: 10_040, error_ms: 3 };
    assert_eq!(clock.known(set.monotonic()), [shown]);
    set.pass(Duration::from_millis(1));
    assert_eq!(clock.known(set.monotonic()), []);
}

#[test]
fn one_peer_alone_moves_no_stamp_forward() {
    for (by, stamped_by) in [(72 * HOUR, 0), (-72 * HOUR, -72 * HOUR)] {
        let (set, clock) = of_three();
        let wall = set.wall().get();
        clock.heard(NodeId::new(2), ahead(wall, set.monotonic(), by, 0), Way::Direct);
        assert_eq!(clock.stamp(), Timestamp::new(wall + stamped_by), "the peer is {by} ms ahead");
        assert!(clock.is_in_doubt());
        // Another one that agrees with this node settles it.
        clock.heard(NodeId::new(3), ahead(wall, set.monotonic(), 0, 0), Way::Direct);
        assert_eq!(clock.stamp(), Timestamp::new(wall));
    }
}
