//! A node that lost its disk comes back under new replica ids, by itself; it
//! never founds a second cluster and never speaks in the old one's name.

use std::collections::BTreeSet;
use std::time::Duration;

use quipu_protocol::{NodeId, ReplicaId, v1};
use quipu_raft::node::NodeStartError;

use crate::cluster::{Cluster, log_name, settled_voters};

/// The log's replica on each node, as described.
async fn described_replicas(cluster: &Cluster, through: u64, name: &str) -> Vec<(u64, u64)> {
    let described = cluster.node(through).describe_log(&log_name(name)).await.expect("a description");
    described.replicas.iter().map(|it| (it.node, it.replica)).collect()
}

/// Waits until the log's voters are the replicas that are described, and all
/// nodes are up: catalog and logs have walked to what is wanted.
async fn settled(cluster: &Cluster, through: u64, name: &str) -> BTreeSet<ReplicaId> {
    cluster
        .eventually("the memberships have settled", async || {
            let status = cluster.node(through).status().await;
            let up = |node: &v1::NodeStatus| node.state() == v1::node_status::State::Up;
            if !status.nodes.iter().all(up) {
                return None;
            }
            let wanted = described_replicas(cluster, through, name).await;
            let wanted: BTreeSet<ReplicaId> = wanted.into_iter().map(|(_, replica)| ReplicaId::new(replica)).collect();
            let (_, leader) = cluster.leader(name).await;
            (settled_voters(&leader.group().status())? == wanted).then_some(wanted)
        })
        .await
}

async fn comes_back(cluster: &mut Cluster, lost: u64, other: u64) {
    let before = described_replicas(cluster, other, "orders").await;
    let id = cluster.node(other).status().await.cluster_id;
    let catalog_before = cluster.node(other).catalog_replicas();

    cluster.wipe(lost);
    cluster.append("orders", "without it").await;
    cluster.start(lost).await;
    cluster.ready(lost).await;
    let voters = settled(cluster, other, "orders").await;

    assert_eq!(cluster.node(lost).status().await.cluster_id, id, "it joined the cluster there was");
    let after = described_replicas(cluster, other, "orders").await;
    for ((node, old), (_, new)) in before.iter().zip(&after) {
        assert_eq!(old == new, *node != lost, "node {node}: {old}, then {new}");
        assert_eq!(voters.contains(&ReplicaId::new(*old)), *node != lost, "{old} among {voters:?}");
    }
    // The catalog has walked, too.
    let catalog_after = cluster
        .eventually("the catalog's old replica is gone", async || {
            let replicas = cluster.node(other).catalog_replicas();
            let old = catalog_before.iter().find(|(node, _)| *node == NodeId::new(lost))?.1;
            (!replicas.iter().any(|(_, replica)| *replica == old)).then_some(replicas)
        })
        .await;
    assert_eq!(catalog_after.len(), catalog_before.len());

    let range = cluster.append("orders", "with it").await;
    let replicas = cluster.replicas("orders").await;
    let (_, first) = &replicas[0];
    let expected = cluster.read_all(first, range.end()).await;
    assert_eq!(expected.last().map(String::as_str), Some("with it"));
    assert!(expected.contains(&"without it".to_owned()));
    for (node, replica) in &replicas {
        assert_eq!(cluster.read_all(replica, range.end()).await, expected, "on node {node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_that_lost_its_disk_comes_back_under_new_ids() {
    let mut cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    for number in 0..50 {
        cluster.append("orders", &format!("value {number}")).await;
    }
    let (leader, _) = cluster.leader("orders").await;
    let lost = if leader == 3 { 2 } else { 3 };
    comes_back(&mut cluster, lost, leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_lost_its_disk_comes_back_under_new_ids() {
    let mut cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    for number in 0..50 {
        cluster.append("orders", &format!("value {number}")).await;
    }
    let (leader, _) = cluster.leader("orders").await;
    comes_back(&mut cluster, leader, leader % 3 + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_may_lose_its_disk_in_turn() {
    let mut cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    cluster.append("orders", "first").await;
    for lost in 1..=3 {
        comes_back(&mut cluster, lost, lost % 3 + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_lost_disks_of_three_do_not_make_a_new_cluster() {
    let mut cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    let id = cluster.node(3).status().await.cluster_id;
    cluster.wipe(1);
    cluster.wipe(2);
    cluster.start(1).await;
    cluster.start(2).await;
    for lost in [1, 2] {
        let waiting = cluster.environment.clock.timeout(Duration::from_secs(3), cluster.node(lost).ready()).await;
        waiting.expect_err("a majority is gone: nobody can take it in");
        assert_eq!(cluster.node(lost).status().await.cluster_id, 0);
    }
    assert_eq!(cluster.node(3).status().await.cluster_id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_disk_is_refused_when_it_comes_back() {
    let mut cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    cluster.append("orders", "first").await;
    cluster.kill(3);
    let old = cluster.image(3);
    cluster.wipe(3);
    cluster.start(3).await;
    cluster.ready(3).await;
    settled(&cluster, 1, "orders").await;
    let replaced_by = cluster.node(1).catalog_replicas();

    cluster.kill(3);
    cluster.put_disk(3, old);
    cluster.start(3).await;
    let fatal = cluster.within("the old disk is refused", cluster.node(3).failed()).await;
    assert!(matches!(fatal, quipu_raft::node::Fatal::Refused { .. }), "{fatal:?}");
    assert_eq!(cluster.node(1).catalog_replicas(), replaced_by, "nothing has changed for the others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journal_older_than_at_the_last_start_is_refused() {
    let mut cluster = Cluster::founded(3).await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    for number in 0..20 {
        cluster.append("orders", &format!("value {number}")).await;
    }
    cluster.kill(3);
    let (disk, _) = cluster.image(3);
    let paths = disk.list_files().into_iter().filter(|path| path.ends_with(".segment"));
    let old: Vec<_> = paths.map(|path| (path.clone(), disk.content(&path).expect("it is there"))).collect();
    for number in 20..40 {
        cluster.append("orders", &format!("value {number}")).await;
    }
    cluster.start(3).await;
    cluster.ready(3).await;
    settled(&cluster, 1, "orders").await;
    cluster.append("orders", "with all three").await;
    cluster.kill(3);
    cluster.start(3).await;
    cluster.ready(3).await;
    cluster.kill(3);
    let (disk, _) = cluster.image(3);
    for (path, content) in old {
        disk.corrupt(&path, 0, &content);
    }
    // However often it is tried: nothing is written that would hide it.
    for _ in 0..2 {
        let refused = cluster.try_start(3).await;
        assert!(
            matches!(refused, Err(NodeStartError::JournalOlder { found, remembered }) if found < remembered),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wiped_node_waits_for_the_cluster_it_cannot_reach() {
    let mut cluster = Cluster::founded(3).await;
    let id = cluster.node(1).status().await.cluster_id;
    for node in cluster.ids() {
        cluster.kill(node);
    }
    cluster.wipe(3);
    cluster.start(3).await;
    let waiting = cluster.environment.clock.timeout(Duration::from_secs(1), cluster.node(3).ready()).await;
    waiting.expect_err("nobody is there to ask");
    cluster.start(1).await;
    cluster.start(2).await;
    cluster.all_ready().await;
    assert_eq!(cluster.node(3).status().await.cluster_id, id);
    cluster
        .eventually("the catalog has three replicas again", async || {
            (cluster.node(1).catalog_replicas().len() == 3).then_some(())
        })
        .await;
}
