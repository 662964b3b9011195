//! What becomes of a log that is deleted, on nodes that are there and on
//! nodes that are not.

use std::time::Duration;

use quipu_protocol::{LogId, Offset, v1};
use quipu_raft::node::LogLookupError;
use quipu_raft::{AppendError, CommandError, RaftNode};
use quipu_storage::Space;

use crate::cluster::{Cluster, batch, log_name};

/// Waits until nothing is left of the log `id` on the nodes that run.
async fn nothing_is_left(cluster: &Cluster, nodes: &[u64], id: LogId) {
    for node in nodes {
        cluster
            .eventually("a node has forgotten its replica", async || {
                let node_ = cluster.node(*node);
                let in_journal = node_.journal().replicas().iter().any(|key| key.group == id);
                let runs = node_.replicas().iter().any(|(group, ..)| *group == id);
                (!in_journal && !runs && rows(cluster, *node, id) == 0).then_some(())
            })
            .await;
    }
}

/// How many rows of the log's replicas a node's metadata holds.
fn rows(cluster: &Cluster, node: u64, id: LogId) -> usize {
    use quipu_storage::Kv;
    let (_, kv) = cluster.image(node);
    let (start, end) = (id.get().to_be_bytes(), (id.get() + 1).to_be_bytes());
    let of = |space| kv.scan(space, &start, &end, 1_000).expect("readable").len();
    of(Space::State) + of(Space::Offsets)
}

async fn delete(cluster: &Cluster, through: u64, name: &str) -> LogId {
    let name = log_name(name);
    let deleted = cluster.within("a log is deleted", cluster.node(through).delete_log(&name, None)).await;
    let (id, deleted) = deleted.expect("the log is deleted");
    assert!(deleted, "it was there");
    id
}

async fn is_unknown(node: &RaftNode, name: &str, id: Option<LogId>) -> bool {
    matches!(node.log_as(&log_name(name), id).await, Err(LogLookupError::Unknown { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_log_is_gone_from_every_node_and_its_name_is_free() {
    let cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    cluster.create(1, "invoices", v1::LogConfig::default()).await;
    cluster.append("orders", "old").await;
    cluster.append("invoices", "other").await;
    let (_, leader) = cluster.leader("orders").await;
    let id = delete(&cluster, 2, "orders").await;
    nothing_is_left(&cluster, &[1, 2, 3], id).await;
    // Whoever still holds a handle is told at once.
    let late = cluster.within("an answer", leader.append(batch(&[b"late"]))).await;
    assert!(matches!(late, Err(AppendError::Command(CommandError::Stopped(_)))), "{late:?}");
    for node in [1, 2, 3] {
        assert!(is_unknown(cluster.node(node), "orders", None).await);
        assert!(is_unknown(cluster.node(node), "orders", Some(id)).await);
    }
    let (again, deleted) = cluster.node(3).delete_log(&log_name("orders"), Some(id)).await.expect("gone already");
    assert_eq!((again, deleted), (id, false));

    let new = cluster.create(3, "orders", v1::LogConfig::default()).await;
    assert!(new.id > id.get(), "an id is not given twice");
    assert_eq!(cluster.append("orders", "new").await.start(), Offset::ZERO);
    for node in [1, 2, 3] {
        assert!(is_unknown(cluster.node(node), "orders", Some(id)).await, "the old one stays gone");
    }
    let (_, invoices) = cluster.leader("invoices").await;
    assert_eq!(cluster.read_all(&invoices, Offset::new(1)).await, ["other"], "another log is left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_was_down_when_a_log_was_deleted_lets_go_of_it_when_it_is_back() {
    let mut cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    cluster.create(1, "invoices", v1::LogConfig::default()).await;
    for number in 0..20 {
        cluster.append("orders", &format!("value {number}")).await;
    }
    let (_, replica) = cluster.replicas("orders").await.pop().expect("a replica on node 3");
    cluster.within("node 3 has it all", replica.wait_past(Offset::new(19))).await.expect("it goes on");
    drop(replica);
    cluster.kill(3);
    let id = delete(&cluster, 1, "orders").await;
    let new = cluster.create(1, "orders", v1::LogConfig { replicas: 3, ..v1::LogConfig::default() }).await;
    nothing_is_left(&cluster, &[1, 2], id).await;
    cluster.start(3).await;
    cluster.ready(3).await;
    nothing_is_left(&cluster, &[3], id).await;
    assert!(is_unknown(cluster.node(3), "orders", Some(id)).await);
    let end = cluster.append("orders", "new").await.end();
    let found = cluster.within("node 3", cluster.node(3).log_as(&log_name("orders"), Some(LogId::new(new.id)))).await;
    assert_eq!(cluster.read_all(&found.expect("it has a replica"), end).await, ["new"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_log_does_not_come_back_on_a_node_that_is_killed_and_cut_off() {
    let mut cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    cluster.append("orders", "old").await;
    let id = delete(&cluster, 1, "orders").await;
    nothing_is_left(&cluster, &[1, 2, 3], id).await;
    // What the disk of a killed node kept is all that it knows at first.
    for node in [1, 2, 3] {
        cluster.kill(node);
    }
    cluster.start(3).await;
    let alone = cluster.environment.clock.timeout(Duration::from_secs(2), cluster.node(3).ready()).await;
    drop(alone);
    assert!(cluster.node(3).journal().replicas().iter().all(|key| key.group != id), "it is founded again");
    cluster.start(1).await;
    cluster.start(2).await;
    cluster.all_ready().await;
    nothing_is_left(&cluster, &[1, 2, 3], id).await;
}
