//! A disk that is nearly full: the log led there takes no appends, and does
//! again once there is room.

use quipu_protocol::{Offset, v1};
use quipu_raft::{AppendError, CommandError, OnLeases};

use crate::cluster::{Cluster, batch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_on_a_full_disk_refuses_appends_reads_and_trims_on_and_comes_back_by_itself() {
    let cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    for number in 0..10 {
        cluster.append("orders", &format!("value {number}")).await;
    }
    let (leader, log) = cluster.leader("orders").await;
    let disk = cluster.image(leader).0;
    disk.limit_bytes(Some(disk.size() + 1000));
    let refused =
        cluster.eventually("appends are refused", async || log.append(batch(&[b"refused"])).await.err()).await;
    assert!(
        matches!(refused, AppendError::Command(CommandError::NoSpace { free: 1000, bound }) if bound > 256 << 20),
        "{refused}"
    );
    assert!(refused.has_no_side_effects());
    let end = log.range().end();
    assert_eq!(cluster.read_all(&log, end).await[0], "value 0", "reads go on");
    let range =
        cluster.within("trims go on", log.trim(Offset::new(4), OnLeases::Refuse)).await.expect("it is trimmed").range;
    assert_eq!(range.start(), Offset::new(4));
    disk.limit_bytes(None);
    let range = cluster.append("orders", "taken").await;
    assert!(range.start() >= end, "nothing that was refused landed later");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_stopped_for_want_of_room_is_started_again_when_there_is_some() {
    let cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    let (leader, _) = cluster.leader("orders").await;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    let disk = cluster.image(follower).0;
    disk.limit_bytes(Some(disk.size()));
    // More than the segments that it has prepared hold.
    let value = "x".repeat(200_000);
    let mut end = Offset::ZERO;
    while cluster.node(follower).failed_replicas().is_empty() {
        assert!(end < Offset::new(200), "the follower takes more than it has room for");
        end = cluster.append("orders", &value).await.end();
    }
    let failed = cluster.node(follower).failed_replicas();
    assert!(failed[0].reason.contains("no space") && !failed[0].damaged, "{failed:?}");

    disk.limit_bytes(None);
    cluster
        .eventually("its replica has everything again", async || {
            let replicas = cluster.replicas("orders").await;
            let (_, replica) = replicas.into_iter().find(|(node, _)| *node == follower)?;
            (replica.range().end() == end).then_some(())
        })
        .await;
    assert_eq!(cluster.node(follower).failed_replicas(), []);
}
