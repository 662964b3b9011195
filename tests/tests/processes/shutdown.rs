//! SIGTERM: a node hands over, finishes and exits with 0.

use quipu_tests::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_leader_hands_over_and_exits_with_0() {
    let cluster = Cluster::start(3).await;
    let appender = cluster.keeps_appending_to("orders").await;
    appender.has_acknowledged(500).await;

    let leader = cluster.leader_of("orders").await;
    let status = leader.terminates().await;
    assert_eq!(status.code(), Some(0), "how node {} ended", leader.id());
    appender.acknowledges_more(500).await;

    leader.start().serves().await;
    let ledger = appender.stop().await;
    assert!(ledger.unknown.is_empty(), "an orderly end leaves no append open: {:?}", ledger.unknown);
    cluster.each_replica_reads("orders").await.holds(&ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_node_serves_and_comes_back() {
    let cluster = Cluster::start(1).await;
    cluster.quipu(["log", "create", "notes"]).succeeds().await;
    cluster.quipu(["append", "notes"]).input("one\ntwo\n").succeeds().await;

    assert_eq!(cluster.node(1).terminates().await.code(), Some(0));
    cluster.node(1).start().serves().await;
    cluster.quipu(["append", "notes"]).input("three\n").succeeds().await.prints("appended 1 records at 2..3\n");

    cluster.node(1).kill().start().serves().await;
    cluster.quipu(["read", "notes", "--from", "start"]).succeeds().await.prints("one\ntwo\nthree\n");
}
