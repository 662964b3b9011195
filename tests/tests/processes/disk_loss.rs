//! Nodes lose their data directory and come back by themselves.

use std::collections::BTreeSet;

use quipu_tests::{Cluster, Node};

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_its_disk_comes_back_under_a_new_replica_id() {
    let cluster = Cluster::start(3).await;
    let appender = cluster.keeps_appending_to("orders").await;
    appender.has_acknowledged(2_000).await;

    loses_its_disk(&cluster, cluster.follower_of("orders").await).await;

    appender.acknowledges_more(200).await;
    let ledger = appender.stop().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_its_disk_comes_back_under_a_new_replica_id() {
    let cluster = Cluster::start(3).await;
    let appender = cluster.keeps_appending_to("orders").await;
    appender.has_acknowledged(2_000).await;

    loses_its_disk(&cluster, cluster.leader_of("orders").await).await;

    appender.acknowledges_more(200).await;
    let ledger = appender.stop().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
}

/// In the end no disk is left of those on which records were acknowledged, and
/// the catalog has been led by nodes that lost theirs.
#[tokio::test(flavor = "multi_thread")]
async fn every_disk_can_be_lost_in_turn() {
    let cluster = Cluster::start(3).await;
    let ledger = cluster.appends("orders", 1_000).await;
    for node in cluster.nodes() {
        loses_its_disk(&cluster, node).await;
    }
    cluster.each_replica_reads("orders").await.holds(&ledger);

    cluster.kill_all();
    cluster.start_all().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
}

/// With its old replica still counted, the catalog would have four voters, and
/// two of them would be no majority.
#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_counts_a_node_that_lost_its_disk_once() {
    let cluster = Cluster::start(3).await;
    cluster.create("orders").await;
    let lost = cluster.node(1);
    loses_its_disk(&cluster, lost).await;

    cluster.node(2).kill();
    cluster.quipu(["log", "create", "returns", "--replicas", "2"]).succeeds().await;
    cluster.quipu(["log", "list"]).succeeds().await.prints("orders\nreturns\n");
}

/// Kills a node, deletes everything it has, starts it again and waits until it
/// holds a voting replica of `orders` under another id.
async fn loses_its_disk(cluster: &Cluster, node: &Node) {
    let old = cluster.replica_of("orders", node).await;
    node.kill().erase_data().start().serves().await;
    let whole = cluster.is_whole("orders", 3, &BTreeSet::from([old])).await;
    assert!(
        whole.replicas.iter().any(|replica| replica.node == node.id()),
        "a replica is on the node again: {whole:?}"
    );
}
