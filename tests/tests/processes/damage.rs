//! Bytes that rot on a disk come back from the other nodes.

use bytes::Bytes;
use quipu_sdk::{ProducerConfig, Record, ReplicaState, Timestamp};
use quipu_tests::{Cluster, Segments, eventually};

/// Together they fill more than one segment of the journal.
const VALUES: usize = 60;
const VALUE_BYTES: usize = 100_000;

fn value(number: usize) -> Bytes {
    Bytes::from(
        format!("value {number} of the log. ").into_bytes().into_iter().cycle().take(VALUE_BYTES).collect::<Vec<_>>(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rots_on_a_stopped_follower_is_fetched_from_its_peers_when_it_is_back() {
    let cluster = Cluster::of(3).setting("storage.scrub_interval_ms", 1_000).start().await;
    let name = cluster.create("orders").await;
    let producer = cluster.client().producer(&name, ProducerConfig::default()).expect("a producer");
    for number in 0..VALUES {
        producer.append(vec![Record::new(Timestamp::new(1), value(number))]).await.expect("acknowledged");
    }
    cluster.is_whole("orders", 3, &Default::default()).await;
    let follower = cluster.follower_of("orders").await;
    let replica = cluster.replica_of("orders", follower).await;
    follower.kill();
    Segments::of(follower.data_directory()).flip(&value(2));
    follower.start().serves().await;

    eventually("the replica has fetched what rotted", async || {
        let described = cluster.describe("orders").await;
        let here = described.replicas.into_iter().find(|it| it.node == follower.id()).expect("its replica");
        let whole = here.state == ReplicaState::Running && here.damaged_since.is_none() && here.refetched_entries > 0;
        if whole { Ok(()) } else { Err(format!("{here:?}")) }
    })
    .await;
    assert_eq!(cluster.replica_of("orders", follower).await, replica, "it is the same replica");
    let all: Vec<Bytes> = (0..VALUES).map(value).collect();
    cluster.each_replica_reads("orders").await.equals(&all);
    let status = cluster.quipu(["status", "--json"]).succeeds().await.json();
    let nodes = status["nodes"].as_array().expect("a list of nodes");
    let here = nodes.iter().find(|node| node["id"] == follower.id().get()).expect("the follower");
    assert!(here["refetched"].as_u64().is_some_and(|refetched| refetched > 0), "{here}");

    // It stays so, whatever was written where.
    follower.kill();
    follower.start().serves().await;
    cluster.is_whole("orders", 3, &Default::default()).await;
    cluster.each_replica_reads("orders").await.equals(&all);
}
