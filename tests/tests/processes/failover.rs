//! Nodes die by SIGKILL while records are being appended.

use quipu_sdk::{Consistency, From, ReaderConfig};
use quipu_tests::{Cluster, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_survive_the_leaders_kill() {
    let cluster = Cluster::start(3).await;
    let appender = cluster.keeps_appending_to("orders").await;
    appender.has_acknowledged(2_000).await;

    let killed = cluster.leader_of("orders").await.kill();
    appender.acknowledges_more(2_000).await;
    assert_ne!(cluster.leader_of("orders").await.id(), killed.id(), "another node leads");

    killed.start().serves().await;
    let ledger = appender.stop().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_survive_leader_after_leader() {
    let cluster = Cluster::start(3).await;
    let appender = cluster.keeps_appending_to("orders").await;
    for _ in 0..3 {
        appender.acknowledges_more(300).await;
        let killed = cluster.leader_of("orders").await.kill();
        appender.acknowledges_more(300).await;
        killed.start().serves().await;
    }
    let ledger = appender.stop().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_survive_the_kill_of_every_node() {
    let cluster = Cluster::start(3).await;
    let appender = cluster.keeps_appending_to("orders").await;
    appender.has_acknowledged(2_000).await;

    cluster.kill_all();
    cluster.start_all().await;

    appender.acknowledges_more(500).await;
    let ledger = appender.stop().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_cluster_remembers_its_logs() {
    let cluster = Cluster::start(3).await;
    let orders = cluster.appends("orders", 10).await;
    let returns = cluster.appends("returns", 20).await;
    let before = cluster.client().list_logs().await.expect("the logs");

    cluster.kill_all();
    cluster.start_all().await;

    assert_eq!(cluster.client().list_logs().await.expect("the logs"), before);
    cluster.each_replica_reads("orders").await.holds(&orders);
    cluster.each_replica_reads("returns").await.holds(&returns);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_misses_nothing_when_the_leader_is_killed() {
    let cluster = Cluster::start(3).await;
    let appender = cluster.keeps_appending_to("orders").await;
    let name = "orders".parse().expect("a name");
    let config = ReaderConfig { from: From::Start, follow: true, ..ReaderConfig::default() };
    let mut tail = cluster.client().reader(&name, config).expect("a reader");

    appender.has_acknowledged(500).await;
    cluster.leader_of("orders").await.kill();
    appender.acknowledges_more(500).await;
    let ledger = appender.stop().await;
    let end = cluster.client().offsets(&name, Consistency::Linearizable).await.expect("the offsets").end();

    let mut acknowledged = ledger.acknowledged.iter().peekable();
    for expected in 0..end.get() {
        let next = tokio::time::timeout(PATIENCE, tail.next()).await.expect("the tail goes on");
        let record = next.expect("the tail finds the new leader").expect("a tail has no end");
        assert_eq!(record.offset.get(), expected, "a tail skips and repeats nothing");
        if let Some((_, value)) = acknowledged.next_if(|(offset, _)| *offset == record.offset) {
            assert_eq!(record.value.as_ref(), Some(value), "the record at {expected}");
        }
    }
    assert_eq!(acknowledged.next(), None, "the tail saw every acknowledged record");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged_and_with_one_again_it_goes_on() {
    let cluster = Cluster::start(3).await;
    let appender = cluster.keeps_appending_to("orders").await;
    appender.has_acknowledged(100).await;

    let follower = cluster.follower_of("orders").await.kill();
    let leader = cluster.leader_of("orders").await.kill();
    let before = appender.acknowledged();
    let waiting = tokio::time::timeout(std::time::Duration::from_secs(3), appender.acknowledges_more(65));
    assert!(waiting.await.is_err(), "one node of three acknowledged records beyond the {before} before");

    follower.start();
    appender.acknowledges_more(500).await;
    leader.start().serves().await;
    let ledger = appender.stop().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
}
