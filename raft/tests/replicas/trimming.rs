//! What becomes of a log once it is trimmed.

use std::collections::BTreeMap;

use bytes::Bytes;
use quipu_protocol::batch::Producer;
use quipu_protocol::{NodeId, Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence};
use quipu_raft::{AppendError, Member, ReadError, Terms, next_producer_id};
use quipu_storage::{Batch, Kv, Space};

use crate::cluster::{Cluster, batch};
use crate::environment::EPOCH_MS;
use crate::stories::story;

fn range(start: u64, end: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(start), Offset::new(end))
}

fn producer(sequence: i32) -> Option<Producer> {
    let id = next_producer_id(ProducerId::new(0), quipu_protocol::Timestamp::new(EPOCH_MS));
    Some(Producer { id, epoch: ProducerEpoch::new(0), sequence: Sequence::new(sequence) })
}

fn names(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Appends records `range`, a batch each, by one producer.
async fn fill(cluster: &Cluster, range: std::ops::Range<u64>) {
    for n in range {
        let appended = cluster.append(batch(&[&n.to_string()], producer(i32::try_from(n).unwrap()))).await;
        assert_eq!(appended.range.start(), Offset::new(n));
    }
}

#[tokio::test(start_paused = true)]
async fn trimmed_records_are_refused_by_name_and_the_rest_keeps_its_offsets() {
    story(async {
        let cluster = Cluster::start(3).await;
        fill(&cluster, 0..10).await;
        assert_eq!(cluster.trim(4).await, range(4, 10));
        assert_eq!(cluster.trim(2).await, range(4, 10), "a start is never moved back");
        fill(&cluster, 10..12).await;
        for replica in cluster.running() {
            assert_eq!(cluster.values(replica, 12).await, names(4..12));
            let below = cluster.log(replica).read(Offset::new(3), 99).await.unwrap_err();
            assert!(matches!(below, ReadError::OutOfRange { range: there } if there == range(4, 12)), "{below:?}");
        }
        assert_eq!(cluster.trim(99).await, range(12, 12));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn every_replica_lets_go_of_entries_up_to_the_one_that_holds_the_start() {
    story(async {
        let mut cluster = Cluster::start(3).await;
        fill(&cluster, 0..4).await;
        let three = cluster.append(batch(&["4", "5", "6"], None)).await;
        assert_eq!(three.range, range(4, 7));
        let before = cluster.log(1).group().status().applied.unwrap().index.get();
        // The start lies inside that batch.
        cluster.trim(5).await;
        for replica in [1, 2, 3] {
            let purged = cluster.purged(replica, before - 1).await;
            assert!(purged < cluster.log(replica).group().status().applied.unwrap().index.get());
            assert_eq!(cluster.values(replica, 7).await, names(5..7));
        }
        // Whatever Kv held: the image in the journal knows the producer.
        for replica in [1, 2, 3] {
            cluster.crash(replica);
            let mut everything = Batch::new();
            for space in Space::ALL {
                everything.delete_range(space, Bytes::new(), vec![0xff; 32]);
            }
            cluster.node(replica).kv.write(everything).unwrap();
        }
        for replica in [1, 2, 3] {
            cluster.restart(replica).await.unwrap();
        }
        let again = cluster.append(batch(&["3"], producer(3))).await;
        assert!(again.duplicate, "a repeat is known after its entry is gone: {again:?}");
        let next = cluster.append(batch(&["7"], producer(4))).await;
        assert_eq!(next.range, range(7, 8));
        for replica in [1, 2, 3] {
            assert_eq!(cluster.values(replica, 8).await, names(5..8));
            assert_eq!(cluster.log(replica).range(), range(5, 8));
        }
        assert_eq!(cluster.image(1), cluster.image(2));
        assert_eq!(cluster.image(1), cluster.image(3));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_lacks_what_was_purged_gets_the_image_and_every_retained_record() {
    story(async {
        let mut cluster = Cluster::start(3).await;
        fill(&cluster, 0..5).await;
        let leader = cluster.leader().await;
        let away = [1, 2, 3].into_iter().find(|replica| *replica != leader).unwrap();
        cluster.crash(away);
        fill(&cluster, 5..40).await;
        cluster.trim(20).await;
        fill(&cluster, 40..45).await;
        for replica in cluster.running() {
            cluster.purged(replica, 20).await;
        }
        cluster.restart(away).await.unwrap();
        assert_eq!(cluster.values(away, 45).await, names(20..45));
        assert_eq!(cluster.log(away).range(), range(20, 45));
        let leader = cluster.leader().await;
        assert_eq!(cluster.image(away), cluster.image(leader));
        // And once more from what its disk holds.
        cluster.crash(away);
        cluster.restart(away).await.unwrap();
        assert_eq!(cluster.values(away, 45).await, names(20..45));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_learner_gets_the_image_and_every_retained_record() {
    story(async {
        let mut cluster = Cluster::start(3).await;
        fill(&cluster, 0..30).await;
        cluster.trim(12).await;
        fill(&cluster, 30..32).await;
        for replica in cluster.running() {
            cluster.purged(replica, 12).await;
        }
        cluster.add(4).await;
        let leader = cluster.leader().await;
        let group = cluster.log(leader).group();
        let member = Member { node: NodeId::new(4) };
        group.scope(group.raft().add_learner(4, member, false)).await.unwrap();
        assert_eq!(cluster.values(4, 32).await, names(12..32));
        let promote = openraft::ChangeMembers::AddVoters(BTreeMap::from([(4, member)]));
        group.scope(group.raft().change_membership(promote, true)).await.unwrap();
        let repeated = cluster.append(batch(&["31"], producer(31))).await;
        assert!(repeated.duplicate);
        cluster.append(batch(&["32"], producer(32))).await;
        assert_eq!(cluster.values(4, 33).await, names(12..33));
        assert_eq!(cluster.image(4), cluster.image(leader));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_crashes_while_its_floor_rises_loses_nothing() {
    story(async {
        let mut cluster = Cluster::start(1).await;
        fill(&cluster, 0..3).await;
        for round in 1..40_u64 {
            fill(&cluster, round * 3..round * 3 + 3).await;
            cluster.trim(round * 3 - 1).await;
            // Somewhere between the image, the snapshot and the purge.
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            cluster.crash(1);
            cluster.restart(1).await.unwrap();
            cluster.leader().await;
            assert_eq!(cluster.values(1, round * 3 + 3).await, names(round * 3 - 1..round * 3 + 3), "round {round}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_an_exclusive_log_refused_is_refused_again_where_its_floor_is_raised() {
    story(async {
        let mut cluster = Cluster::founded_by(3);
        cluster.exclusive = true;
        for replica in 1..=3 {
            cluster.add(replica).await;
        }
        cluster.log(1).group().campaign().await;
        let leader = cluster.leader().await;
        let log = cluster.log(leader);
        let acquired = log.acquire_writer("db".to_owned(), Bytes::from_static(&[7; 16])).await.unwrap();
        let under = || Terms { writer_epoch: Some(acquired.epoch), ..Terms::default() };
        log.append_for(batch(&["0", "1"], None), under(), None).await.unwrap();
        assert_eq!(log.append(batch(&["refused"], producer(0))).await, Err(AppendError::WriterRequired));
        let appended = log.append_for(batch(&["2"], producer(0)), under(), None).await.unwrap();
        assert_eq!((appended.range, appended.duplicate), (range(2, 3), false));
        log.append_for(batch(&["3"], None), under(), None).await.unwrap();
        let before = log.group().status().applied.unwrap().index.get();
        // All of it has to be replayed for the floor.
        assert_eq!(cluster.trim(4).await, range(4, 4));
        for replica in [1, 2, 3] {
            cluster.purged(replica, before).await;
            assert_eq!(cluster.log(replica).range(), range(4, 4));
        }
        // A replica that has the image alone agrees with the others.
        let follower = [1, 2, 3].into_iter().find(|replica| *replica != leader).unwrap();
        cluster.crash(follower);
        let mut everything = Batch::new();
        for space in Space::ALL {
            everything.delete_range(space, Bytes::new(), vec![0xff; 32]);
        }
        cluster.node(follower).kv.write(everything).unwrap();
        cluster.restart(follower).await.unwrap();
        let log = cluster.log(leader);
        let appended = log.append_for(batch(&["4"], None), under(), None).await.unwrap();
        assert_eq!(appended.range, range(4, 5));
        assert_eq!(cluster.values(follower, 5).await, ["4"]);
        assert_eq!(cluster.image(follower), cluster.image(leader));
    })
    .await;
}
