//! Nodes whose wall clocks are wrong: what a log keeps by age, and whom it
//! remembers, while its leader's is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::batch::{BatchBuilder, Compression, Producer, Record};
use quipu_protocol::environment::{BoxFuture, Clock, Environment};
use quipu_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, v1};
use quipu_raft::{AppendError, Appended, CommandError, LogReplica, Skew};

use crate::cluster::{Cluster, batch, log_name};

const HOUR_MS: i64 = 3_600_000;

/// The system's clock, with a wall clock that can be put wrong.
pub(crate) struct WallClock {
    system: Arc<dyn Clock>,
    off_by_ms: AtomicI64,
}

impl WallClock {
    pub(crate) fn new(environment: &Environment) -> Self {
        Self { system: Arc::clone(&environment.clock), off_by_ms: AtomicI64::new(0) }
    }

    pub(crate) fn set_off_by(&self, milliseconds: i64) {
        self.off_by_ms.store(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for WallClock {
    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::new(self.system.wall().get() + self.off_by_ms.load(Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.system.sleep(duration)
    }
}

/// A log of which four batches are kept, and none that is older than ten minutes.
async fn log_that_keeps_little(cluster: &Cluster) -> (u64, LogReplica) {
    let retention_bytes = 4 * batch(&[&[7; 100]]).len() as u64;
    let config = v1::LogConfig { retention_bytes, retention_ms: 600_000, ..v1::LogConfig::default() };
    cluster.create(1, "orders", config).await;
    cluster.leader("orders").await
}

/// Appends at one that leads, or is about to.
async fn append(cluster: &Cluster, log: &LogReplica, batch: Bytes) -> Appended {
    cluster
        .eventually("it is appended", async || match log.append(batch.clone()).await {
            Ok(appended) => Some(appended),
            Err(AppendError::Command(CommandError::NotLeader { .. })) => None,
            Err(error) => panic!("the append failed: {error}"),
        })
        .await
}

/// Appends four batches more and waits until the start has followed: until what
/// is kept was looked at. All that may be kept by its bytes has to be.
async fn only_bytes_count(cluster: &Cluster, log: &LogReplica) {
    for _ in 0..4 {
        append(cluster, log, batch(&[&[7; 100]])).await;
    }
    let end = log.range().end().get();
    cluster.eventually("what is too much goes", async || (log.range().start().get() + 4 >= end).then_some(())).await;
    assert_eq!(log.range().start(), Offset::new(end - 4), "nothing goes for its age");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_young_goes_while_the_leaders_clock_is_an_hour_ahead_and_retention_goes_on_when_it_is_right() {
    let cluster = Cluster::new(3).whose_leaders_stay().found().await;
    let (leader, log) = log_that_keeps_little(&cluster).await;
    for _ in 0..4 {
        append(&cluster, &log, batch(&[&[7; 100]])).await;
    }
    cluster.set_clock_off_by(leader, HOUR_MS);
    for _ in 0..3 {
        only_bytes_count(&cluster, &log).await;
    }
    // It leads on, and everyone is told.
    assert_eq!(cluster.leader("orders").await.0, leader);
    let (skew, held) = cluster.node(leader).skew();
    assert!(matches!(skew, Skew::Ahead { ms, .. } if (HOUR_MS - 5_000..HOUR_MS + 5_000).contains(&ms)), "{skew:?}");
    assert!(held);
    cluster
        .eventually("the others know which of them is wrong", async || {
            let status = cluster.node(1).status().await;
            let held = status.nodes.iter().filter(|node| node.age_retention_held).map(|node| node.id);
            (held.collect::<Vec<_>>() == [leader]).then_some(())
        })
        .await;
    let described = cluster.node(1).describe_log(&log_name("orders")).await.expect("it is described");
    assert!(described.age_retention_held);

    // What was appended meanwhile has its age by the right time.
    cluster.set_clock_off_by(leader, 0);
    let kept_shortly = v1::LogAlteration { retention_ms: Some(1), ..v1::LogAlteration::default() };
    cluster.node(1).alter_log(&log_name("orders"), None, kept_shortly).await.expect("it is altered");
    cluster.eventually("what is old goes", async || log.range().is_empty().then_some(())).await;
    assert_eq!(cluster.leader("orders").await.0, leader);
    let described = cluster.node(1).describe_log(&log_name("orders")).await.expect("it is described");
    assert!(!described.age_retention_held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_follower_with_a_wrong_clock_holds_nothing_up() {
    let cluster = Cluster::new(3).whose_leaders_stay().found().await;
    let (leader, log) = log_that_keeps_little(&cluster).await;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    cluster.set_clock_off_by(follower, HOUR_MS);
    cluster.eventually("it is found out there", async || cluster.node(follower).skew().1.then_some(())).await;
    only_bytes_count(&cluster, &log).await;
    let kept_shortly = v1::LogAlteration { retention_ms: Some(1), ..v1::LogAlteration::default() };
    cluster.node(1).alter_log(&log_name("orders"), None, kept_shortly).await.expect("it is altered");
    cluster.eventually("what is old goes", async || log.range().is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_producer_is_forgotten_for_a_leaders_clock_that_is_days_ahead() {
    let cluster = Cluster::new(3).whose_leaders_stay().found().await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    let (leader, log) = cluster.leader("orders").await;
    let id = cluster.node(1).allocate_producer().await.expect("an id is allotted").id;
    append(&cluster, &log, numbered(id, 0)).await;
    cluster.set_clock_off_by(leader, 72 * HOUR_MS);
    // Log time would have passed the expiry with the first of these.
    append(&cluster, &log, batch(&[b"of nobody"])).await;
    let next = append(&cluster, &log, numbered(id, 1)).await;
    assert_eq!((next.range.start(), next.duplicate), (Offset::new(2), false));
    let again = append(&cluster, &log, numbered(id, 0)).await;
    assert_eq!((again.range.start(), again.duplicate), (Offset::new(0), true));
    // Nor later, when the clock is right again.
    cluster.set_clock_off_by(leader, 0);
    append(&cluster, &log, numbered(id, 2)).await;
}

/// A producer's batch of one record.
fn numbered(id: ProducerId, sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&Record::new(Timestamp::new(1), Bytes::from_static(b"value"))).expect("it fits");
    let producer = Producer { id, epoch: ProducerEpoch::new(0), sequence: Sequence::new(sequence) };
    builder.finish(Some(producer)).expect("a batch")
}
