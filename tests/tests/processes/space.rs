//! A disk that is nearly full.

use quipu_tests::{Cluster, Forgetful, eventually, not_tested};

const DISK_BYTES: u64 = 64 << 20;
const LOW_SPACE_BYTES: u64 = 20 << 20;
const LARGEST_BATCH_BYTES: u64 = 1 << 20;

/// A megabyte of lines.
fn portion(number: u64) -> String {
    (0..1_000).map(|line| format!("{number:04}/{line:04} {}\n", "x".repeat(1_000))).collect()
}

async fn on_a_small_disk() -> Cluster {
    let shape = Cluster::of(1)
        .on_forgetful_disk(DISK_BYTES)
        .setting("storage.low_space_bytes", LOW_SPACE_BYTES)
        .setting("log.max_batch_bytes", LARGEST_BATCH_BYTES)
        .setting("log.largest_max_batch_bytes", LARGEST_BATCH_BYTES)
        .setting("journal.segment_bytes", 2 << 20)
        .setting("log.floor_step_bytes", 1);
    shape.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_disk_refuses_appends_and_serves_reads_and_trims() {
    if !Forgetful::can_be_mounted() {
        not_tested("no file system can be mounted here (that takes root and /dev/fuse)");
        return;
    }
    let cluster = on_a_small_disk().await;
    cluster.quipu(["log", "create", "orders", "--replicas", "1"]).succeeds().await;
    let mut portions = 0;
    let refused = loop {
        let append = cluster.quipu(["append", "orders", "--timeout", "3"]).input(portion(portions)).run().await;
        if append.code() != Some(0) {
            break append;
        }
        portions += 1;
        assert!(portions < DISK_BYTES >> 20, "more was taken than the disk has room for");
    };
    refused.complains_of("storage.low_space_bytes");
    assert!(portions > 10, "only {portions} MB were taken");
    let read = cluster.quipu(["read", "orders", "--from", "0", "--max-records", "1000"]).succeeds().await;
    assert!(read.bytes() == portion(0).as_bytes(), "what was acknowledged is read");
    let end = cluster.describe("orders").await.range.end();
    cluster.quipu(["log", "trim", "orders", "--to", &end.to_string()]).succeeds().await;
}

/// Appends a portion to `log` if there is room for it.
async fn takes(cluster: &Cluster, log: &str, number: u64) -> bool {
    let append = cluster.quipu(["append", log, "--timeout", "3"]).input(portion(number)).run().await;
    if append.code() == Some(0) {
        return true;
    }
    append.complains_of("storage.low_space_bytes");
    false
}

/// Appends to `orders` and, `evenly`, one of three portions to `invoices`, until
/// there is no room; returns how many the latter took.
async fn fills(cluster: &Cluster, evenly: bool) -> u64 {
    let mut taken = [0, 0];
    loop {
        let log = usize::from(evenly && taken[0] > 2 * taken[1]);
        if !takes(cluster, ["orders", "invoices"][log], taken[log]).await {
            return taken[1];
        }
        taken[log] += 1;
        assert!(taken[0] + taken[1] < DISK_BYTES >> 20, "more was taken than the disk has room for");
    }
}

async fn trims_orders(cluster: &Cluster) {
    let end = cluster.describe("orders").await.range.end();
    cluster.quipu(["log", "trim", "orders", "--to", &end.to_string()]).succeeds().await;
}

/// Waits until an append to each of the logs is taken again.
async fn takes_again(cluster: &Cluster) {
    for log in ["orders", "invoices"] {
        eventually("appends are taken again", async || {
            let append = cluster.quipu(["append", log, "--timeout", "3"]).input("taken\n").run().await;
            if append.code() == Some(0) { Ok(()) } else { Err(append.to_string()) }
        })
        .await;
    }
}

/// A cluster of one node whose disk two logs have filled, one of three portions
/// being the second one's; and how many that has.
async fn filled() -> (Cluster, u64) {
    let cluster = on_a_small_disk().await;
    for log in ["orders", "invoices"] {
        cluster.quipu(["log", "create", log, "--replicas", "1"]).succeeds().await;
    }
    let kept = fills(&cluster, true).await;
    assert!(kept > 3, "only {kept} MB of the other log were taken");
    (cluster, kept)
}

/// What was not trimmed is still there.
async fn keeps(cluster: &Cluster, kept: u64) {
    let read = cluster.quipu(["read", "invoices", "--from", "0", "--max-records", &(kept * 1000).to_string()]);
    let all: String = (0..kept).map(portion).collect();
    assert!(read.succeeds().await.bytes() == all.as_bytes(), "what was not trimmed is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trimmed_on_a_nearly_full_disk_gives_room_to_appends_by_itself_and_after_a_kill() {
    if !Forgetful::can_be_mounted() {
        not_tested("no file system can be mounted here (that takes root and /dev/fuse)");
        return;
    }
    let (cluster, kept) = filled().await;
    for _ in 0..5 {
        trims_orders(&cluster).await;
        takes_again(&cluster).await;
        fills(&cluster, false).await;
    }
    // It is killed as soon as the trim is acknowledged.
    trims_orders(&cluster).await;
    cluster.kill_all();
    cluster.start_all().await;
    takes_again(&cluster).await;
    keeps(&cluster, kept).await;
}
