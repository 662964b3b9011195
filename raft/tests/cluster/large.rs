//! A large append over a slow link delays no heartbeat.

use std::time::Duration;

use quipu_protocol::v1;

use crate::cluster::{Cluster, batch, settled_voters};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn append_of_64_mib_at_10_mb_per_second_causes_no_election() {
    let mut cluster = Cluster::new(2).with_segments_of(80 << 20);
    cluster.start_all().await;
    cluster.all_ready().await;
    let config = v1::LogConfig { replicas: 2, max_batch_bytes: 64 << 20, ..v1::LogConfig::default() };
    cluster.create(1, "large", config).await;
    cluster.append("large", "warm").await;
    let (leads, leader) = cluster.leader("large").await;
    let before = leader.group().status();
    assert!(settled_voters(&before).is_some_and(|voters| voters.len() == 2));

    let value = vec![7; MIB - 64];
    let batch = batch(&vec![value.as_slice(); 64]);
    assert!(batch.len() > 63 * MIB && batch.len() <= 64 * MIB, "{} bytes", batch.len());
    cluster.wires.limit(10_000_000);
    let started = cluster.environment.clock.monotonic();
    let appended = cluster.within("the append is acknowledged", leader.append(batch)).await.expect("it lands");
    let took = cluster.environment.clock.monotonic() - started;

    assert_eq!(appended.range.count(), 64);
    assert!(took >= Duration::from_secs(6), "the link was not the bottleneck: {took:?}");
    let (still, _) = cluster.leader("large").await;
    assert_eq!((still, leader.group().status().term), (leads, before.term), "nobody else was elected");
}
