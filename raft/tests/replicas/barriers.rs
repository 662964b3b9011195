//! What a leader that makes sure of its majority believes, and what that costs. Among
//! them one that is paused while answers are on their way to it, and goes on when
//! another one leads.

use std::time::Duration;

use futures_util::future::{join, join_all};
use quipu_raft::group::BarrierError;
use quipu_storage::journal::EntryId;
use tokio::time::sleep;

use crate::cluster::{Cluster, batch, key};
use crate::stories::story;

const TICK: Duration = Duration::from_millis(1);

impl Cluster {
    fn last(&self, replica: u64) -> Option<EntryId> {
        self.journal(replica).replica(key(replica))?.last
    }

    /// The moment of a replica's monotonic clock.
    fn now(&self, replica: u64) -> Duration {
        self.node(replica).environment.clock.monotonic()
    }
}

/// ```text
///   old leader   b ─┐      paused      ┌ barrier? ─ b is committed ─ commit index ─▶ nobody
///   one            b ─ answer ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─▶┘                     ▲
///   other          b ─ answer ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┘
///   one leads            └── c is acknowledged
/// ```
///
/// The answer of `other` is to what was sent before the pause. The commit index went
/// out after the barrier was asked for, and ends at the same entry.
#[tokio::test(start_paused = true)]
async fn a_leader_that_was_paused_never_misses_what_a_newer_one_acknowledged() {
    story(async {
        let cluster = Cluster::start(3).await;
        cluster.append(batch(&["a"], None)).await;
        let old = cluster.leader().await;
        let others: Vec<u64> = cluster.running().into_iter().filter(|replica| *replica != old).collect();
        let [one, other] = others[..] else { panic!("three replicas") };
        // Until everybody knows what is committed, and nothing is on its way.
        sleep(Duration::from_secs(1)).await;

        let before = cluster.last(old);
        cluster.switch.pause(old);
        let appended = cluster.log(old).append(batch(&["b"], None));
        let events = async {
            while cluster.last(old) == before || others.iter().any(|other| cluster.last(*other) != cluster.last(old)) {
                sleep(TICK).await;
            }
            cluster.switch.cut_off_paused();
            let c = cluster.append(batch(&["c"], None)).await;
            let acknowledged = cluster.now(old);

            sleep(TICK).await;
            let barrier = cluster.log(old).linearizable_range();
            let goes_on = async {
                sleep(TICK).await;
                let sent = cluster.switch.sent(other);
                cluster.switch.read_from(one);
                cluster.switch.sends(other, sent).await;
                sleep(TICK).await;
                cluster.switch.read_from(other);
                sleep(TICK).await;
                cluster.log(old).freshness()
            };
            let (range, freshness) = join(barrier, goes_on).await;
            (c, acknowledged, range, freshness)
        };
        let (b, (c, acknowledged, range, freshness)) = join(appended, events).await;
        assert_eq!(b.expect("all replicas have it").range.end(), c.range.start());
        assert!(freshness.as_of.is_some_and(|as_of| as_of < acknowledged), "{freshness:?}, c at {acknowledged:?}");
        assert_eq!(range, Err(BarrierError::Unavailable), "a barrier that misses {:?}", c.range);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn barriers_that_are_asked_for_together_share_a_round_of_heartbeats_and_nothing_is_sent_without() {
    story(async {
        let cluster = Cluster::start(3).await;
        cluster.append(batch(&["a"], None)).await;
        let leader = cluster.leader().await;
        sleep(Duration::from_secs(1)).await;
        let log = cluster.log(leader);

        let idle = cluster.switch.appends();
        sleep(Duration::from_secs(3)).await;
        let beats = cluster.switch.appends() - idle;
        assert!(beats <= 2 * 3000 / 150 + 2, "{beats} heartbeats to two followers in 3 s");

        let before = cluster.switch.appends();
        for barrier in join_all((0..100).map(|_| log.linearizable_range())).await {
            barrier.expect("a majority is there");
        }
        let sent = cluster.switch.appends() - before;
        // One on its way when more are asked for, and one for those; and one that was due.
        assert!(sent <= 2 * 3, "{sent} messages for 100 barriers");

        let before = cluster.switch.appends();
        for _ in 0..100 {
            log.linearizable_range().await.expect("a majority is there");
        }
        let sent = cluster.switch.appends() - before;
        assert!(sent <= 2 * 101, "{sent} messages for 100 barriers");
    })
    .await;
}
