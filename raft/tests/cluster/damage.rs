//! Entries that rot on one node come back from the others; a replica with what
//! cannot come back gives way to a new one.

use std::time::Duration;

use quipu_protocol::{Offset, v1};
use quipu_raft::group::StopReason;
use quipu_storage::{Disk, MemoryDisk};

use crate::cluster::{Cluster, log_name};

const VALUES: u64 = 60;
const PASS: Duration = Duration::from_secs(1);

/// So much of each that the journal has sealed a segment with the first ones.
fn value(number: u64) -> String {
    format!("value {number} ").repeat(4000)
}

async fn filled(cluster: &mut Cluster) -> Vec<String> {
    cluster.start_all().await;
    cluster.all_ready().await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    for number in 0..VALUES {
        cluster.append("orders", &value(number)).await;
    }
    for (_, replica) in cluster.replicas("orders").await {
        cluster.within("all have all", replica.wait_past(Offset::new(VALUES - 1))).await.expect("it runs");
    }
    (0..VALUES).map(value).collect()
}

/// Flips a bit of an early value.
fn rot(disk: &MemoryDisk, number: u64) {
    let (path, at) = place(disk, number);
    disk.flip_bit(&path, at + 20, 3);
}

/// A sector of an early value is not given by the disk any more.
fn lose(disk: &MemoryDisk, number: u64) {
    let (path, at) = place(disk, number);
    disk.break_reads(&path, at + 8192, 1);
}

/// Where a value lies.
fn place(disk: &MemoryDisk, number: u64) -> (String, u64) {
    let wanted = value(number).into_bytes();
    let found = disk.list("journal").expect("a journal").into_iter().find_map(|name| {
        let path = format!("journal/{name}");
        let at = disk.content(&path)?.windows(wanted.len()).position(|window| window == wanted)?;
        Some((path, at as u64))
    });
    found.unwrap_or_else(|| panic!("value {number} is in no segment"))
}

/// Flips a bit in the header of the frame with an early value.
fn rot_header(disk: &MemoryDisk, number: u64) {
    let (path, at) = place(disk, number);
    // Behind the frame's header come the entry's encoding and the batch's own.
    let before = &disk.content(&path).expect("the segment")[..usize::try_from(at).expect("it fits into memory")];
    let header = before.windows(4).rposition(|window| window == b"QFRM").expect("the frame's header");
    disk.flip_bit(&path, header as u64 + 30, 1);
}

/// Waits until another replica runs and votes where `old` did.
async fn replaced(cluster: &Cluster, node: u64, old: u64) {
    cluster
        .eventually("a new replica runs in its place and votes", async || {
            let replica = described(cluster, node).await;
            let running = replica.state() == v1::replica_description::State::Running;
            let votes = replica.role() == v1::replica_description::Role::Follower;
            (running && votes && replica.replica != old).then_some(())
        })
        .await;
}

/// What the node says of its replica of the log.
async fn described(cluster: &Cluster, node: u64) -> v1::ReplicaDescription {
    let through = cluster.ids().into_iter().find(|id| *id != node).expect("another node");
    let described = cluster.node(through).describe_log(&log_name("orders")).await.expect("a description");
    described.replicas.into_iter().find(|it| it.node == node).expect("its replica")
}

/// Waits until the node's replica has fetched something and is whole again.
async fn refetched(cluster: &Cluster, node: u64) -> v1::ReplicaDescription {
    cluster
        .eventually("the replica is whole again", async || {
            let replica = described(cluster, node).await;
            let whole = replica.state() == v1::replica_description::State::Running && replica.damaged_since == 0;
            (whole && replica.refetched_entries > 0).then_some(replica)
        })
        .await
}

async fn own_copy(cluster: &Cluster, node: u64) -> Vec<String> {
    let replica = cluster.node(node).log(&log_name("orders")).await.expect("it runs");
    cluster.read_all(&replica, Offset::new(VALUES)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rots_on_a_follower_is_found_by_a_scrub_and_fetched_from_a_peer() {
    let mut cluster = Cluster::new(3).with_segments_of(1 << 20).scrubbed_every(PASS);
    let all = filled(&mut cluster).await;
    let (leader, _) = cluster.leader("orders").await;
    let follower = leader % 3 + 1;
    let before = described(&cluster, follower).await;
    rot(&cluster.image(follower).0, 3);
    let after = refetched(&cluster, follower).await;
    assert_eq!(after.replica, before.replica, "it is the same replica");
    assert_eq!(own_copy(&cluster, follower).await, all);
    let status = cluster.node(leader).status().await;
    let node = status.nodes.iter().find(|it| it.id == follower).expect("the node");
    assert_eq!((node.damaged_replicas, node.refetched_entries > 0), (0, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_rots_hands_over_and_fetches_what_it_lost() {
    a_leader_hands_over_and_fetches_what_it_lost(rot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_gives_errors_hands_over_and_fetches_what_it_cannot_read() {
    a_leader_hands_over_and_fetches_what_it_lost(lose).await;
}

async fn a_leader_hands_over_and_fetches_what_it_lost(spoil: fn(&MemoryDisk, u64)) {
    let mut cluster = Cluster::new(3).with_segments_of(1 << 20).scrubbed_every(PASS);
    let all = filled(&mut cluster).await;
    let (leader, replica) = cluster.leader("orders").await;
    let term = replica.group().status().term;
    drop(replica);
    spoil(&cluster.image(leader).0, 5);
    refetched(&cluster, leader).await;
    let (next, replica) = cluster.leader("orders").await;
    assert!(replica.group().status().term > term, "node {next} was elected since");
    assert_eq!(own_copy(&cluster, leader).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_meets_rot_in_what_it_sends_hands_over_before_it_stops() {
    a_leader_that_cannot_send_hands_over_before_it_stops(rot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_gives_errors_for_what_it_sends_hands_over_before_it_stops() {
    a_leader_that_cannot_send_hands_over_before_it_stops(lose).await;
}

async fn a_leader_that_cannot_send_hands_over_before_it_stops(spoil: fn(&MemoryDisk, u64)) {
    let mut cluster =
        Cluster::new(3).with_segments_of(1 << 20).that_caches_nothing().whose_leaders_stay().found().await;
    cluster.create(1, "orders", v1::LogConfig::default()).await;
    for number in 0..VALUES {
        cluster.append("orders", &value(number)).await;
    }
    let (leader, replica) = cluster.leader("orders").await;
    // A node that lost its disk is sent everything.
    let late = leader % 3 + 1;
    cluster.wipe(late);
    spoil(&cluster.image(leader).0, 5);
    let stopped = replica.group().stopped();
    drop(replica);
    cluster.start(late).await;
    let reason = cluster.within("it stops", stopped).await;
    assert!(matches!(reason, StopReason::Shutdown), "{reason}");
    let (next, _) = cluster.leader("orders").await;
    assert_ne!(next, leader, "another one leads by now");
    refetched(&cluster, leader).await;
    let all: Vec<String> = (0..VALUES).map(value).collect();
    for node in [leader, late] {
        assert_eq!(own_copy(&cluster, node).await, all, "node {node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rotted_while_a_node_was_down_is_fetched_when_somebody_reads_it() {
    let mut cluster = Cluster::new(3).with_segments_of(1 << 20);
    let all = filled(&mut cluster).await;
    let (leader, _) = cluster.leader("orders").await;
    let follower = leader % 3 + 1;
    cluster.kill(follower);
    rot(&cluster.image(follower).0, 4);
    cluster.start(follower).await;
    cluster.ready(follower).await;
    // The very read that finds it may fail; none is ever wrong.
    let read = cluster
        .eventually("everything can be read there", async || {
            let replica = cluster.node(follower).log(&log_name("orders")).await.ok()?;
            let mut next = Offset::ZERO;
            let mut values = Vec::new();
            replica.wait_past(Offset::new(VALUES - 1)).await.ok()?;
            while next < Offset::new(VALUES) {
                let chunk = replica.read(next, 1 << 20).await.ok()?;
                values.extend(chunk.batches.into_iter().flat_map(|batch| crate::cluster::values(&batch.into_bytes())));
                next = chunk.next;
            }
            Some(values)
        })
        .await;
    assert_eq!(read, all);
    assert!(refetched(&cluster, follower).await.refetched_entries > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_a_rotten_header_is_replaced_under_a_new_id() {
    let mut cluster = Cluster::new(3).with_segments_of(1 << 20).scrubbed_every(PASS);
    let all = filled(&mut cluster).await;
    let (leader, _) = cluster.leader("orders").await;
    let follower = leader % 3 + 1;
    let before = described(&cluster, follower).await;
    rot_header(&cluster.image(follower).0, 6);
    replaced(&cluster, follower, before.replica).await;
    assert_eq!(own_copy(&cluster, follower).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_replica_is_forgotten_though_its_node_crashes_before_it_is() {
    let mut cluster = Cluster::new(3).with_segments_of(1 << 20).scrubbed_every(PASS);
    let all = filled(&mut cluster).await;
    let (leader, _) = cluster.leader("orders").await;
    let follower = leader % 3 + 1;
    let old = described(&cluster, follower).await.replica;
    let is_left =
        |cluster: &Cluster| cluster.node(follower).journal().replicas().iter().any(|key| key.replica.get() == old);
    cluster.keep_states(follower, true);
    rot_header(&cluster.image(follower).0, 6);
    replaced(&cluster, follower, old).await;
    assert!(is_left(&cluster), "it got no further than to its rows");
    cluster.kill(follower);
    cluster.keep_states(follower, false);
    cluster.start(follower).await;
    cluster.ready(follower).await;
    cluster.eventually("the old replica is forgotten", async || (!is_left(&cluster)).then_some(())).await;
    assert_eq!(cluster.node(follower).journal().damaged(), [], "what rotted keeps nothing any more");
    assert_eq!(own_copy(&cluster, follower).await, all);
}
