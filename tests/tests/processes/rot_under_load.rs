//! Bytes rot on disks while records are appended and read all the time.
//!
//! | found | by |
//! |---|---|
//! | in a sealed segment | a scrub, or a reader |
//! | in the open segment, of a node that starts | the recovery of its journal |
//! | in the open segment, of a node that runs | a reader |
//!
//! What a story does to a disk is followed by [`Story::ends_well`], which asserts
//! that nothing was lost, on no replica, and that no reader was served anything
//! wrong.

use std::fs::{self, File};
use std::path::Path;

use quipu_sdk::{LogConfig, LogName, ReadError, ReplicaState};
use quipu_tests::{Appender, Auditor, Cluster, Node, Segments, eventually, metric, reads_own_copy};

/// Records of which each lies in another entry than the next, since no more than
/// 64 are on their way at once.
const EARLY: [u64; 3] = [100, 300, 500];
/// Bytes of these many records do not fit into the tail cache: what comes before
/// them is read from the disk.
const PAST_THE_CACHE: u64 = 6_000;

/// A cluster whose one log is appended to and read.
struct Story {
    cluster: Cluster,
    log: LogName,
    appender: Appender,
    auditor: Auditor,
}

impl Story {
    /// One in which segments are soon sealed, and read for rot all the time.
    async fn over_sealed_segments(nodes: u16) -> Self {
        let settings = [("journal.segment_bytes", 2 << 20), ("log.largest_max_batch_bytes", 1 << 20)];
        let scrub = [("storage.scrub_bytes_per_second", 1 << 30), ("storage.scrub_interval_ms", 1_000)];
        Self::begin(nodes, &[settings, scrub].concat()).await
    }

    /// One in which everything is in the open segment, which nobody reads but
    /// those who need what is in it.
    async fn over_an_open_segment(nodes: u16) -> Self {
        Self::begin(nodes, &[("journal.segment_bytes", 64 << 20), ("storage.scrub_bytes_per_second", 0)]).await
    }

    async fn begin(nodes: u16, settings: &[(&str, u64)]) -> Self {
        let shape = Cluster::of(nodes).with_http().setting("journal.tail_cache_bytes", 1 << 20);
        let shape = settings.iter().fold(shape, |shape, (key, value)| shape.setting(key, *value));
        let cluster = shape.start().await;
        let replicas = LogConfig { replicas: Some(nodes.into()), ..LogConfig::default() };
        let log = cluster.create_with("orders", replicas).await;
        let appender = cluster.keeps_appending_to("orders").await;
        let auditor = cluster.keeps_reading("orders");
        appender.has_acknowledged(PAST_THE_CACHE).await;
        Self { cluster, log, appender, auditor }
    }

    /// Waits until the early records lie in a segment of a node's journal that
    /// is full.
    async fn has_sealed(&self, node: &Node) {
        eventually(&format!("node {} has sealed what is early", node.id()), async || {
            let [first, last] = self.segments_of_early_and_newest(node)?;
            if first < last { Ok(()) } else { Err(format!("they lie in segment {first}, the newest in {last}")) }
        })
        .await;
    }

    /// Waits until a node has much behind the early records, in the same segment.
    async fn keeps_open(&self, node: &Node) {
        let [first, last] = eventually(&format!("node {} has what is new", node.id()), async || {
            self.segments_of_early_and_newest(node)
        })
        .await;
        assert_eq!(first, last, "node {} writes to the segment that the early records lie in", node.id());
    }

    /// The newest segments in which the last of the early records lies, and the
    /// newest record that is acknowledged now.
    fn segments_of_early_and_newest(&self, node: &Node) -> Result<[u64; 2], String> {
        let segments = Segments::of(node.data_directory());
        let newest = self.appender.acknowledged() - 1;
        let of = |number| {
            let found = segments.of_value(&self.appender.value(number));
            found.ok_or_else(|| format!("node {} does not have record {number} yet", node.id()))
        };
        Ok([of(EARLY[2])?, of(newest)?])
    }

    /// Flips a bit of a record on a node's disk.
    fn flip(&self, node: &Node, number: u64) {
        Segments::of(node.data_directory()).flip(&self.appender.value(number));
    }

    /// Entries that a node's replica has fetched since the node started.
    async fn refetched(&self, node: &Node) -> Result<u64, String> {
        let description = self.cluster.client().describe_log(&self.log).await.map_err(|error| format!("{error:?}"))?;
        let here = description.replicas.into_iter().find(|it| it.node == node.id()).ok_or("it has no replica")?;
        let whole = here.state == ReplicaState::Running && here.damaged_since.is_none();
        if whole { Ok(here.refetched_entries) } else { Err(format!("{here:?}")) }
    }

    /// Reads a node's own copy until it is found that it is damaged; never is it
    /// served.
    async fn is_met_by_a_reader(&self, node: &Node) {
        eventually(&format!("a reader meets what rotted on node {}", node.id()), async || {
            match reads_own_copy(self.cluster.client(), &self.log, node.id()).await {
                Err(ReadError::Damaged { .. }) => Ok(()),
                // Somebody else has met it, and it is mended already.
                Ok(()) if self.refetched(node).await? > 0 => Ok(()),
                read => Err(format!("{read:?}")),
            }
        })
        .await;
    }

    /// Waits until a node's replica, the same one as before, has fetched more
    /// than `before` entries and runs, and asserts that the node tells so.
    /// Answers how many it has fetched.
    async fn is_mended(&self, node: &Node, before: u64) -> u64 {
        let fetched = eventually(&format!("node {} has fetched what rotted", node.id()), async || {
            let refetched = self.refetched(node).await?;
            if refetched > before { Ok(refetched) } else { Err(format!("{refetched} entries were fetched")) }
        })
        .await;
        let http = self.cluster.http_of(node);
        assert!(metric(&http, "quipu_journal_refetched_entries_total").await > before);
        assert_eq!(metric(&http, "quipu_replicas_damaged").await, 0);
        let status = self.cluster.quipu(["status", "--json"]).succeeds().await.json();
        let nodes = status["nodes"].as_array().expect("a list of nodes");
        let here = nodes.iter().find(|it| it["id"] == node.id().get()).expect("the node");
        assert!(here["refetched"].as_u64().is_some_and(|refetched| refetched > before), "{here}");
        assert_eq!(here["damaged"], 0, "{here}");
        fetched
    }

    /// Asserts that a node counts so many findings of damage since it started.
    async fn has_found_damage(&self, node: &Node, times: u64) {
        assert_eq!(metric(&self.cluster.http_of(node), "quipu_journal_damage_found_total").await, times);
    }

    /// Everything acknowledged is there once, in order, on every replica and for
    /// every reader, now and after the kill of every node.
    async fn ends_well(self) {
        let Self { cluster, appender, mut auditor, .. } = self;
        appender.acknowledges_more(500).await;
        auditor.reads_all_again().await;
        let ledger = appender.stop().await;
        auditor.stop().await;
        let replicas = cluster.nodes().len();
        cluster.is_whole("orders", replicas, &[].into()).await;
        cluster.each_replica_reads("orders").await.holds(&ledger);
        cluster.kill_all();
        cluster.start_all().await;
        cluster.is_whole("orders", replicas, &[].into()).await;
        cluster.each_replica_reads("orders").await.holds(&ledger);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rots_in_a_sealed_segment_of_a_stopped_follower_is_fetched() {
    let story = Story::over_sealed_segments(3).await;
    let follower = story.cluster.follower_of("orders").await;
    story.has_sealed(follower).await;
    follower.kill();
    story.flip(follower, EARLY[0]);
    follower.start().serves().await;
    story.is_mended(follower, 0).await;
    story.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rots_in_a_sealed_segment_of_the_leader_is_fetched_while_another_one_leads() {
    let story = Story::over_sealed_segments(3).await;
    let leader = story.cluster.leader_of("orders").await;
    story.has_sealed(leader).await;
    story.flip(leader, EARLY[0]);
    story.is_mended(leader, 0).await;
    story.has_found_damage(leader, 1).await;
    story.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rots_in_the_open_segment_of_a_stopped_follower_is_fetched() {
    let story = Story::over_an_open_segment(3).await;
    let follower = story.cluster.follower_of("orders").await;
    story.keeps_open(follower).await;
    follower.kill();
    story.flip(follower, EARLY[0]);
    follower.start().serves().await;
    story.is_mended(follower, 0).await;
    story.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rots_in_the_open_segment_of_the_leader_is_met_by_a_reader_and_fetched() {
    let story = Story::over_an_open_segment(3).await;
    let leader = story.cluster.leader_of("orders").await;
    story.keeps_open(leader).await;
    story.flip(leader, EARLY[0]);
    story.is_met_by_a_reader(leader).await;
    story.is_mended(leader, 0).await;
    story.has_found_damage(leader, 1).await;
    story.ends_well().await;
}

/// The leader is killed instead, so that it finds what rotted as it starts.
#[tokio::test(flavor = "multi_thread")]
async fn what_rots_in_the_open_segment_of_a_killed_leader_is_fetched_before_it_takes_part() {
    let story = Story::over_an_open_segment(3).await;
    let leader = story.cluster.leader_of("orders").await;
    story.keeps_open(leader).await;
    leader.kill();
    story.flip(leader, EARLY[0]);
    leader.start().serves().await;
    story.is_mended(leader, 0).await;
    story.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_rot_on_two_nodes_of_five_are_fetched_from_the_others_even_the_same_one() {
    rots_on_the_leader_and_a_follower(5).await;
}

/// The log has no majority until one of the two is whole again.
#[tokio::test(flavor = "multi_thread")]
async fn entries_that_rot_on_two_nodes_of_three_are_fetched_from_each_other_and_the_third() {
    rots_on_the_leader_and_a_follower(3).await;
}

/// Different entries of the two at the same time, then the same one.
async fn rots_on_the_leader_and_a_follower(nodes: u16) {
    let story = Story::over_sealed_segments(nodes).await;
    let two = [story.cluster.leader_of("orders").await, story.cluster.follower_of("orders").await];
    for node in two {
        story.has_sealed(node).await;
    }
    let [one, other, same] = EARLY;
    story.flip(two[0], one);
    story.flip(two[1], other);
    let mut before = [0; 2];
    for (node, before) in two.into_iter().zip(&mut before) {
        *before = story.is_mended(node, 0).await;
    }
    for node in two {
        story.flip(node, same);
    }
    for (node, before) in two.into_iter().zip(before) {
        story.is_mended(node, before).await;
        story.has_found_damage(node, 2).await;
    }
    story.ends_well().await;
}

/// What a header told, nobody else knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_frame_header_rots_gives_way_to_a_new_replica() {
    let story = Story::over_sealed_segments(3).await;
    let leader = story.cluster.leader_of("orders").await;
    story.has_sealed(leader).await;
    let old = story.cluster.replica_of("orders", leader).await;
    Segments::of(leader.data_directory()).flip_header_of(&story.appender.value(EARLY[0]));
    story.cluster.is_whole("orders", 3, &[old].into()).await;
    story.has_found_damage(leader, 1).await;
    story.ends_well().await;
}

/// Votes may be gone with it, of which no other node has a copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_segment_was_cut_refuses_to_start_and_joins_again_without_its_data() {
    is_refused_and_joins_again(|segment| {
        let file = File::options().write(true).open(segment).expect("writable");
        file.set_len(file.metadata().expect("its length").len() / 2).expect("cut");
        file.sync_all().expect("synced");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_segment_is_missing_refuses_to_start_and_joins_again_without_its_data() {
    is_refused_and_joins_again(|segment| fs::remove_file(segment).expect("removed")).await;
}

async fn is_refused_and_joins_again(spoil: impl FnOnce(&Path)) {
    let story = Story::over_sealed_segments(3).await;
    let follower = story.cluster.follower_of("orders").await;
    story.has_sealed(follower).await;
    let old = story.cluster.replica_of("orders", follower).await;
    follower.kill();
    let segments = Segments::of(follower.data_directory());
    spoil(segments.oldest());

    assert_eq!(follower.start().exits().await.code(), Some(1));
    let name = segments.oldest().file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
    let said = follower.log_tail();
    assert!(said.contains(name), "it names the file: {said}");
    assert!(said.contains("remove the whole data directory"), "it says what to do: {said}");
    story.appender.acknowledges_more(500).await;

    follower.erase_data().start().serves().await;
    story.cluster.is_whole("orders", 3, &[old].into()).await;
    story.ends_well().await;
}
