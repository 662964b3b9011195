//! All nodes lose power at once: what they had not fsynced is gone.

use quipu_tests::{Cluster, Forgetful, not_tested};

/// Room for three nodes with segments of 4 MiB.
const DISK_BYTES: u64 = 1 << 30;

async fn on_a_forgetful_disk(nodes: u16) -> Option<Cluster> {
    if !Forgetful::can_be_mounted() {
        not_tested("no file system can be mounted here (that takes root and /dev/fuse)");
        return None;
    }
    Some(Cluster::of(nodes).on_forgetful_disk(DISK_BYTES).start().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_records_survive_the_loss_of_power_everywhere() {
    let Some(cluster) = on_a_forgetful_disk(3).await else { return };
    let appender = cluster.keeps_appending_to("orders").await;
    let mut lost = 0;
    for _ in 0..5 {
        appender.acknowledges_more(1_000).await;
        lost += cluster.lose_power();
        cluster.start_all().await;
    }
    appender.acknowledges_more(500).await;
    let ledger = appender.stop().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
    assert!(lost > 0, "nothing was ever unsynced: the disk forgot nothing, so that this showed nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_and_its_trim_survive_the_loss_of_power_right_after_they_were_acknowledged() {
    let Some(cluster) = on_a_forgetful_disk(3).await else { return };
    cluster.quipu(["log", "create", "orders"]).succeeds().await;
    cluster.quipu(["append", "orders"]).input("0\n1\n2\n3\n4\n").succeeds().await;
    cluster.quipu(["log", "trim", "orders", "--to", "3"]).succeeds().await.prints("orders has 3..5 (2 records)\n");
    cluster.quipu(["log", "create", "returns"]).succeeds().await;
    cluster.lose_power();

    cluster.start_all().await;
    cluster.quipu(["append", "returns"]).input("r\n").succeeds().await.prints("appended 1 records at 0..1\n");
    cluster.quipu(["append", "orders"]).input("5\n").succeeds().await.prints("appended 1 records at 5..6\n");
    cluster.quipu(["read", "orders", "--from", "start"]).succeeds().await.prints("3\n4\n5\n");
}
