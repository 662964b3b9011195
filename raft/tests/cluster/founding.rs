//! Clusters are founded once, and are there again after a restart.

use std::collections::BTreeSet;
use std::time::Duration;

use quipu_protocol::{NodeId, Offset, v1};
use quipu_raft::node::{CreateLogError, LogLookupError};

use crate::cluster::{Cluster, log_name};

async fn founds(nodes: u64) {
    let cluster = Cluster::founded(nodes).await;
    let mut clusters = BTreeSet::new();
    for id in cluster.ids() {
        let status = cluster
            .eventually("every node is up", async || {
                let status = cluster.node(id).status().await;
                let up = |node: &v1::NodeStatus| node.state() == v1::node_status::State::Up;
                (status.nodes.len() as u64 == nodes && status.nodes.iter().all(up) && status.catalog_leader != 0)
                    .then_some(status)
            })
            .await;
        clusters.insert(status.cluster_id);
    }
    assert_eq!(clusters.len(), 1, "one cluster: {clusters:?}");
    assert!(!clusters.contains(&0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_founds_a_cluster_alone() {
    founds(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_found_one_cluster() {
    founds(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_found_one_cluster() {
    founds(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_founded_before_every_listed_node_has_spoken() {
    let mut cluster = Cluster::new(3);
    cluster.start(1).await;
    cluster.start(2).await;
    let waiting = cluster.environment.clock.timeout(Duration::from_secs(1), cluster.node(1).ready()).await;
    waiting.expect_err("node 3 has not spoken");
    assert_eq!(cluster.node(1).status().await.cluster_id, 0);
    cluster.start(3).await;
    cluster.all_ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_is_appended_to_and_read_on_every_replica() {
    let cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    for number in 0..20 {
        let range = cluster.append("orders", &format!("value {number}")).await;
        assert_eq!(range.start(), Offset::new(number));
    }
    let expected: Vec<String> = (0..20).map(|number| format!("value {number}")).collect();
    let replicas = cluster.replicas("orders").await;
    assert_eq!(replicas.len(), 3);
    for (node, replica) in replicas {
        assert_eq!(cluster.read_all(&replica, Offset::new(20)).await, expected, "on node {node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_created_through_one_node_is_known_to_all_at_once() {
    let cluster = Cluster::founded(3).await;
    for (through, name) in [(1, "a"), (2, "b"), (3, "c")] {
        cluster.create(through, name, v1::LogConfig::default()).await;
        for id in cluster.ids() {
            cluster.node(id).log(&log_name(name)).await.unwrap_or_else(|error| panic!("{name} on {id}: {error}"));
            let listed = cluster.node(id).list_logs("", None, 10).await.expect("a list");
            assert!(listed.logs.iter().any(|log| log.name == name), "{name} on {id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn description_says_what_each_replica_says() {
    let cluster = Cluster::founded(3).await;
    cluster.create(2, "orders", v1::LogConfig::default()).await;
    cluster.append("orders", "a value").await;
    let described = cluster
        .eventually("every replica has caught up", async || {
            let described = cluster.node(3).describe_log(&log_name("orders")).await.expect("a description");
            let done = |it: &v1::ReplicaDescription| it.end == 1 && it.lag == 0;
            described.replicas.iter().all(done).then_some(described)
        })
        .await;
    assert_eq!((described.start, described.end), (0, 1));
    let leaders = described.replicas.iter().filter(|it| it.role() == v1::replica_description::Role::Leader);
    assert_eq!(leaders.map(|it| it.node).collect::<Vec<_>>(), [described.leader]);
    let nodes: BTreeSet<u64> = described.replicas.iter().map(|it| it.node).collect();
    assert_eq!(nodes, [1, 2, 3].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_say_why_and_change_nothing() {
    let cluster = Cluster::founded(1).await;
    let node = cluster.node(1);
    let too_many = v1::LogConfig { replicas: 3, ..v1::LogConfig::default() };
    match node.create_log(&log_name("orders"), too_many).await {
        Err(CreateLogError::Refused(error)) => {
            assert!(matches!(error.kind, Some(v1::error::Kind::TooFewNodes(_))), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    let unknown = node.log(&log_name("orders")).await.err();
    assert_eq!(unknown, Some(LogLookupError::Unknown { name: "orders".to_owned() }));
    assert!(node.list_logs("", None, 10).await.expect("a list").logs.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_ids_differ_whoever_is_asked() {
    let cluster = Cluster::founded(3).await;
    let mut ids = BTreeSet::new();
    for round in 0..3 {
        for id in cluster.ids() {
            let allotted = cluster.node(id).allocate_producer().await.expect("an id");
            assert!(allotted.id.get() > 0);
            assert!(ids.insert(allotted.id), "round {round}: {} again", allotted.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_all_nodes_were_killed() {
    let mut cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    let before = cluster.node(1).status().await.cluster_id;
    for number in 0..10 {
        cluster.append("orders", &format!("before {number}")).await;
    }
    for id in cluster.ids() {
        cluster.kill(id);
    }
    cluster.start_all().await;
    cluster.all_ready().await;
    assert_eq!(cluster.node(2).status().await.cluster_id, before);
    let range = cluster.append("orders", "after").await;
    let mut expected: Vec<String> = (0..10).map(|number| format!("before {number}")).collect();
    expected.push("after".to_owned());
    for (node, replica) in cluster.replicas("orders").await {
        assert_eq!(cluster.read_all(&replica, range.end()).await, expected, "on node {node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_before_a_shutdown() {
    let cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    cluster.append("orders", "first").await;
    let (before, _) = cluster.leader("orders").await;
    cluster.node(before).hand_over().await;
    let (after, leader) = cluster.leader("orders").await;
    assert_ne!(after, before);
    assert_eq!(leader.group().status().leader.map(|(_, node)| node), Some(NodeId::new(after)));
    cluster.node(before).shutdown().await;
    cluster.append("orders", "second").await;
}
