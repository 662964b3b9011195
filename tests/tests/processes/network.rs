//! What happens to packets between real processes, each on a host of its own,
//! and to a process that stands still.

use std::time::Duration;

use quipu_protocol::NodeId;
use quipu_tests::{Appender, Cluster, Hosts, eventually, not_tested};

/// A cluster of three hosts with an appender at work; none where hosts cannot
/// be made.
async fn three_hosts() -> Option<(Cluster, Appender)> {
    if !Hosts::can_be_made() {
        not_tested("no network namespaces can be made here (that takes root and iproute2)");
        return None;
    }
    let cluster = Cluster::of(3).on_hosts().start().await;
    let appender = cluster.keeps_appending_to("orders").await;
    appender.has_acknowledged(500).await;
    Some((cluster, appender))
}

/// All packets pass again: every replica has what was acknowledged, and takes
/// more.
async fn all_is_well(cluster: &Cluster, appender: Appender) {
    cluster.is_whole("orders", 3, &[].into()).await;
    appender.acknowledges_more(500).await;
    let ledger = appender.stop().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
}

/// Waits until another node than `before` leads.
async fn another_leads(cluster: &Cluster, log: &str, before: NodeId) -> NodeId {
    eventually(&format!("another node than {before} leads {log}"), async || {
        let leader = cluster.leader_of(log).await.id();
        if leader == before { Err(format!("{leader} leads")) } else { Ok(leader) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_from_the_others_is_replaced_and_comes_back() {
    let Some((cluster, appender)) = three_hosts().await else { return };
    let leader = cluster.leader_of("orders").await.id();
    let cut = cluster.hosts().cut_off(leader);
    another_leads(&cluster, "orders", leader).await;
    appender.acknowledges_more(500).await;
    drop(cut);
    all_is_well(&cluster, appender).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_cut_off_from_the_others_holds_nothing_up_and_catches_up() {
    let Some((cluster, appender)) = three_hosts().await else { return };
    let follower = cluster.follower_of("orders").await.id();
    let cut = cluster.hosts().cut_off(follower);
    appender.acknowledges_more(1_000).await;
    drop(cut);
    all_is_well(&cluster, appender).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hears_and_is_not_heard_is_replaced() {
    let Some((cluster, appender)) = three_hosts().await else { return };
    let leader = cluster.leader_of("orders").await.id();
    let cut = cluster.hosts().mute(leader);
    another_leads(&cluster, "orders", leader).await;
    appender.acknowledges_more(500).await;
    drop(cut);
    all_is_well(&cluster, appender).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_does_not_hear_its_leader_holds_nothing_up() {
    let Some((cluster, appender)) = three_hosts().await else { return };
    let leader = cluster.leader_of("orders").await.id();
    let follower = cluster.follower_of("orders").await.id();
    let cut = cluster.hosts().lose(leader, follower);
    appender.acknowledges_more(1_000).await;
    drop(cut);
    all_is_well(&cluster, appender).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_to_one_follower_holds_nothing_up() {
    let Some((cluster, appender)) = three_hosts().await else { return };
    let follower = cluster.follower_of("orders").await.id();
    let slow = cluster.hosts().slow_down(follower, 64);
    appender.acknowledges_more(1_000).await;
    drop(slow);
    all_is_well(&cluster, appender).await;
}

/// The default election timeout ends after a second at most.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_past_the_election_timeout_finds_another_one() {
    let cluster = Cluster::start(3).await;
    let appender = cluster.keeps_appending_to("orders").await;
    appender.has_acknowledged(500).await;

    let paused = cluster.leader_of("orders").await.pause();
    another_leads(&cluster, "orders", paused.id()).await;
    appender.acknowledges_more(500).await;
    paused.goes_on();

    let whole = cluster.is_whole("orders", 3, &[].into()).await;
    assert_ne!(whole.leader, Some(paused.id()), "it follows the one that leads now");
    appender.acknowledges_more(500).await;
    let ledger = appender.stop().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_while_a_majority_stands_still() {
    let cluster = Cluster::start(3).await;
    let appender = cluster.keeps_appending_to("orders").await;
    appender.has_acknowledged(500).await;

    let leader = cluster.leader_of("orders").await.id();
    let others: Vec<_> = cluster.nodes().iter().filter(|node| node.id() != leader).collect();
    for node in &others {
        node.pause();
    }
    // What was on its way may still arrive; then nothing may.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = appender.acknowledged();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(appender.acknowledged(), before, "acknowledged by one node of three");

    for node in &others {
        node.goes_on();
    }
    appender.acknowledges_more(500).await;
    let ledger = appender.stop().await;
    cluster.each_replica_reads("orders").await.holds(&ledger);
}
