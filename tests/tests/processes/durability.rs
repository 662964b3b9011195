//! No acknowledgement leaves before a majority's fdatasync has returned.

use std::time::Duration;

use quipu_sdk::{Offset, Producer, ProducerConfig};
use quipu_tests::{Cluster, Node, PATIENCE, eventually};
use tokio::io::AsyncWriteExt;

/// How long an acknowledgement that must not come is watched for. An honest
/// one comes within milliseconds.
const WATCHED: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledgement_leaves_before_a_majority_has_fsynced() {
    let cluster = Cluster::of(3).stallable().start().await;
    let producer = a_producer(&cluster).await;

    let [_, one, other] = leader_and_followers(&cluster).await;
    assert_nothing_is_acknowledged(&cluster, &producer, [one, other]).await;
    // A leader that counts itself before its own disk has answered would show here.
    let [leader_now, follower, _] = leader_and_followers(&cluster).await;
    assert_nothing_is_acknowledged(&cluster, &producer, [leader_now, follower]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stalled_disk_of_three_holds_nothing_up() {
    let cluster = Cluster::of(3).stallable().start().await;
    let producer = a_producer(&cluster).await;
    let [_, follower, _] = leader_and_followers(&cluster).await;

    let held = cluster.stall(follower);
    for _ in 0..100 {
        acknowledged(&producer).await;
    }
    held.hangs().await;
    drop(held);

    let appender = cluster.keeps_appending_to("orders").await;
    appender.has_acknowledged(100).await;
    appender.stop().await;
    let copies = cluster.each_replica_reads("orders").await;
    assert_eq!(copies.count(), 3, "the replica that was held up has caught up");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_of_unknown_outcome_exits_with_3_and_lands_at_most_once() {
    let cluster = Cluster::of(3).stallable().start().await;
    cluster.create("orders").await;
    let mut append = cluster.quipu(["append", "orders", "--timeout", "8"]).spawn_fed();
    let mut input = append.stdin.take().expect("a pipe");
    input.write_all(b"acknowledged\n").await.expect("the command reads");
    eventually("the first line has landed", async || match cluster.describe("orders").await.range.end() {
        Offset::ZERO => Err("the log is empty".to_owned()),
        _ => Ok(()),
    })
    .await;

    let [_, one, other] = leader_and_followers(&cluster).await;
    let held = [one, other].map(|node| cluster.stall(node));
    input.write_all(b"in doubt\n").await.expect("the command reads");
    drop(input);
    let ended = tokio::time::timeout(PATIENCE, append.wait_with_output()).await.expect("an end").expect("an output");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{said}");
    assert!(said.contains("1 record was acknowledged"), "{said}");
    assert!(ended.stdout.is_empty(), "it does not say that it appended: {ended:?}");

    drop(held);
    cluster.quipu(["append", "orders"]).input("after\n").succeeds().await;
    let read = cluster.quipu(["read", "orders"]).succeeds().await;
    let landed = read.text().lines().filter(|line| *line == "in doubt").count();
    assert!(landed <= 1, "{read}");
    let others: Vec<&str> = read.text().lines().filter(|line| *line != "in doubt").collect();
    assert_eq!(others, ["acknowledged", "after"], "{read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_created_only_once_a_majority_has_fsynced_it() {
    let cluster = Cluster::of(3).stallable().start().await;
    let held = cluster.nodes().iter().take(2).map(|node| cluster.stall(node)).collect::<Vec<_>>();
    let name = "orders".parse().expect("a name");
    let mut creating = std::pin::pin!(cluster.client().create_log(&name, Default::default()));
    let early = tokio::time::timeout(WATCHED, &mut creating).await;
    assert!(early.is_err(), "a log was created on one disk of three: {early:?}");

    drop(held);
    let created = tokio::time::timeout(PATIENCE, creating).await.expect("an answer").expect("the log is created");
    assert_eq!(created.log.name, name);
}

/// Holds two disks of three back, appends, watches, and lets go.
async fn assert_nothing_is_acknowledged(cluster: &Cluster, producer: &Producer, held_back: [&Node; 2]) {
    let held = held_back.map(|node| cluster.stall(node));
    let mut delivery = producer.send(producer.record("held back")).await.expect("room");
    for held in &held {
        held.hangs().await;
    }
    let early = tokio::time::timeout(WATCHED, &mut delivery).await;
    assert!(
        early.is_err(),
        "acknowledged while the disks of {:?} had not answered: {early:?}",
        held_back.map(Node::id)
    );

    drop(held);
    let offset = tokio::time::timeout(PATIENCE, delivery).await.expect("an answer").expect("acknowledged");
    assert!(offset > Offset::ZERO, "it lies behind the first record");
}

async fn a_producer(cluster: &Cluster) -> Producer {
    let log = cluster.create("orders").await;
    let producer = cluster.client().producer(&log, ProducerConfig::default()).expect("a producer");
    acknowledged(&producer).await;
    producer
}

async fn acknowledged(producer: &Producer) {
    let delivery = producer.send(producer.record("let through")).await.expect("room");
    tokio::time::timeout(PATIENCE, delivery).await.expect("an answer").expect("acknowledged");
}

async fn leader_and_followers(cluster: &Cluster) -> [&Node; 3] {
    let leader = cluster.leader_of("orders").await;
    let mut followers = cluster.nodes().iter().filter(|node| node.id() != leader.id());
    [leader, followers.next().expect("a follower"), followers.next().expect("another")]
}
