//! What a log promises.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use quipu_protocol::batch::{BatchHeader, Producer};
use quipu_protocol::{Index, Offset, OffsetRange, ProducerEpoch, ProducerId, ReplicaId, Sequence};
use quipu_raft::group::BarrierError;
use quipu_raft::{AppendError, CommandError, Member, ReadError, Role, StartError, StopReason, next_producer_id};
use quipu_storage::{Batch, Kv, Space};

use crate::cluster::{Cluster, STAGED_BYTES, batch, key};
use crate::environment::EPOCH_MS;

/// Runs a story; one that gets nowhere ends as soon as the paused clock has
/// passed every timeout in it.
pub(crate) async fn story<F: Future>(story: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(600), story).await.expect("the story came to its end")
}

fn producer(sequence: i32) -> Option<Producer> {
    let id = next_producer_id(ProducerId::new(0), quipu_protocol::Timestamp::new(EPOCH_MS));
    Some(Producer { id, epoch: ProducerEpoch::new(0), sequence: Sequence::new(sequence) })
}

fn range(start: u64, end: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(start), Offset::new(end))
}

#[tokio::test(start_paused = true)]
async fn appended_records_are_read_from_every_replica() {
    story(async {
        let cluster = Cluster::start(3).await;
        let first = cluster.append(batch(&["a", "b"], None)).await;
        let second = cluster.append(batch(&["c"], None)).await;
        assert_eq!((first.range, second.range), (range(0, 2), range(2, 3)));
        for replica in cluster.running() {
            assert_eq!(cluster.values(replica, 3).await, ["a", "b", "c"]);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn read_starts_inside_a_batch_and_patches_its_place() {
    story(async {
        let cluster = Cluster::start(1).await;
        cluster.append(batch(&["a"], None)).await;
        cluster.append(batch(&["b", "c", "d"], None)).await;
        let log = cluster.log(1);
        let chunk = log.read(Offset::new(2), 1).await.unwrap();
        assert_eq!((chunk.batches.len(), chunk.next, chunk.range), (1, Offset::new(4), range(0, 4)));
        let header = BatchHeader::parse(&chunk.batches[0].clone().into_bytes()).unwrap();
        assert_eq!(header.base_offset, Offset::new(1));
        assert_eq!(u64::from(header.leader_epoch), log.group().status().term.get());
        assert!(log.read(Offset::new(4), 1).await.unwrap().batches.is_empty());
        let outside = log.read(Offset::new(5), 1).await.unwrap_err();
        assert!(matches!(outside, ReadError::OutOfRange { range: there } if there == range(0, 4)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn appends_that_wait_share_entries_and_keep_their_order() {
    story(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let log = cluster.log(leader);
        let before = log.group().status().applied.unwrap().index;
        let appends: Vec<_> = (0..1000).map(|n| log.append(batch(&[&n.to_string()], None))).collect();
        for (n, appended) in (0..).zip(join_all(appends).await) {
            assert_eq!(appended.unwrap().range, range(n, n + 1));
        }
        let entries = log.group().status().applied.unwrap().index.get() - before.get();
        assert!(entries < 50, "1000 appends took {entries} entries");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn acked_append_survives_leader_crash_and_its_retry_lands_once() {
    story(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let once = batch(&["once"], producer(0));
        let first = cluster.append(once.clone()).await;
        assert!(!first.duplicate);
        cluster.crash(leader);
        let retried = cluster.append(once).await;
        assert_eq!((retried.range, retried.duplicate), (first.range, true));
        let next = cluster.append(batch(&["next"], producer(1))).await;
        assert_eq!(next.range, range(1, 2));
        cluster.restart(leader).await.unwrap();
        for replica in cluster.running() {
            assert_eq!(cluster.values(replica, 2).await, ["once", "next"]);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn power_loss_of_all_keeps_what_was_acked_and_gives_the_same_state() {
    story(async {
        let mut cluster = Cluster::start(3).await;
        for n in 0..40 {
            cluster.append(batch(&[&n.to_string()], producer(n))).await;
            if n % 9 == 4 {
                for replica in cluster.running() {
                    cluster.log(replica).group().checkpoint().unwrap();
                }
            }
        }
        for replica in cluster.running() {
            cluster.values(replica, 40).await;
        }
        let image = cluster.image(1);
        for replica in [1, 2, 3] {
            cluster.crash(replica);
        }
        for replica in [1, 2, 3] {
            cluster.restart(replica).await.unwrap();
        }
        let expected: Vec<_> = (0..40).map(|n| n.to_string()).collect();
        for replica in [1, 2, 3] {
            assert_eq!(cluster.values(replica, 40).await, expected);
            assert_eq!(cluster.image(replica), image, "replica {replica} came back different");
        }
        let retried = cluster.append(batch(&["39"], producer(39))).await;
        assert_eq!((retried.range, retried.duplicate), (range(39, 40), true));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn orderly_restart_applies_nothing_again() {
    story(async {
        let mut cluster = Cluster::start(1).await;
        cluster.append(batch(&["a", "b"], None)).await;
        let applied = cluster.log(1).group().status().applied;
        cluster.shut_down(1).await;
        cluster.restart(1).await.unwrap();
        // Before any leader: what Kv held and the journal knew committed.
        assert!(*cluster.log(1).group().applied().borrow() >= applied);
        assert_eq!(cluster.values(1, 2).await, ["a", "b"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn metadata_never_passes_the_disk() {
    story(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let slow = if leader == 1 { 2 } else { 1 };
        cluster.append(batch(&["before"], None)).await;
        cluster.values(slow, 1).await;
        cluster.log(slow).group().checkpoint().unwrap();
        let saved = cluster.node(slow).kv.scan(Space::State, &[], &[0xff; 17], 9).unwrap();

        cluster.node(slow).disk.hold();
        cluster.append(batch(&["after"], None)).await;
        // Committed by the others, applied here, not on the disk here.
        assert_eq!(cluster.values(slow, 2).await, ["before", "after"]);
        let status = cluster.log(slow).group().status();
        assert!(status.durable < status.applied, "{status:?}");
        cluster.log(slow).group().checkpoint().unwrap();
        assert_eq!(cluster.node(slow).kv.scan(Space::State, &[], &[0xff; 17], 9).unwrap(), saved);

        cluster.crash(slow);
        cluster.restart(slow).await.unwrap();
        assert_eq!(cluster.values(slow, 2).await, ["before", "after"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn leader_whose_disk_is_stuck_does_not_fill_its_memory() {
    story(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        cluster.append(batch(&["before"], None)).await;
        cluster.node(leader).disk.hold();
        // A majority elsewhere answers, and the leader's own copy waits.
        let value = "x".repeat(32 << 10);
        let (mut landed, mut refused) = (0, None);
        while landed < 100 && refused.is_none() {
            match cluster.log(leader).append(batch(&[&value], None)).await {
                Ok(_) => landed += 1,
                Err(error) => refused = Some(error),
            }
        }
        assert_eq!(refused, Some(CommandError::Overloaded { bound: "staged_bytes", limit: STAGED_BYTES }.into()));
        let staged = cluster.journal(leader).staged_bytes();
        assert!((STAGED_BYTES..STAGED_BYTES + (64 << 10)).contains(&staged), "{staged} bytes wait, {landed} landed");
        cluster.node(leader).disk.release();
        cluster.append(batch(&["after"], None)).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn cut_off_leader_never_says_that_a_landing_append_did_not_land() {
    story(async {
        let cluster = Cluster::start(3).await;
        let old = cluster.leader().await;
        cluster.append(batch(&["before"], None)).await;
        cluster.switch.cut(old);
        // Proposed while it still believes that it leads.
        let proposed = tokio::time::timeout(Duration::from_secs(30), cluster.log(old).append(batch(&["lost"], None)));
        let (proposed, new) = tokio::join!(proposed, async {
            loop {
                let leader = cluster.leader().await;
                if leader != old {
                    return leader;
                }
            }
        });
        proposed.expect_err("no majority, no answer");
        // By now its lease is over: it refuses before it proposes.
        let refused = cluster.log(old).append(batch(&["refused"], None)).await.unwrap_err();
        assert!(
            matches!(refused, AppendError::Command(CommandError::NotLeader { .. } | CommandError::Unavailable)),
            "{refused:?}"
        );

        let unknown = cluster.log(old).append(batch(&["x"], None));
        cluster.log(new).append(batch(&["after"], None)).await.unwrap();
        cluster.switch.mend(old);
        let outcome = unknown.await.unwrap_err();
        assert!(outcome.has_no_side_effects(), "{outcome:?}");
        assert_eq!(cluster.values(old, 2).await, ["before", "after"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn displaced_append_has_an_unknown_outcome() {
    story(async {
        let cluster = Cluster::start(3).await;
        let old = cluster.leader().await;
        cluster.append(batch(&["before"], None)).await;
        cluster.switch.cut(old);
        let proposed = cluster.log(old).append(batch(&["displaced"], None));
        let heal = async {
            while cluster.leader().await == old {}
            cluster.append(batch(&["after"], None)).await;
            cluster.switch.mend(old);
        };
        let (outcome, ()) = tokio::join!(proposed, heal);
        assert_eq!(outcome.unwrap_err(), CommandError::OutcomeUnknown.into());
        for replica in cluster.running() {
            assert_eq!(cluster.values(replica, 2).await, ["before", "after"]);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn follower_refers_to_the_leader() {
    story(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let follower = if leader == 1 { 2 } else { 1 };
        cluster.append(batch(&["a"], None)).await;
        cluster.values(follower, 1).await;
        let named = |leader_named: Option<(ReplicaId, quipu_protocol::NodeId)>| {
            leader_named.map(|(replica, node)| (replica.get(), node.get())) == Some((leader, leader))
        };
        let append = cluster.log(follower).append(batch(&["b"], None)).await.unwrap_err();
        assert!(
            matches!(append, AppendError::Command(CommandError::NotLeader { leader }) if named(leader)),
            "{append:?}"
        );
        let read = cluster.log(follower).linearizable_range().await.unwrap_err();
        assert!(matches!(read, BarrierError::NotLeader { leader } if named(leader)), "{read:?}");
        assert_eq!(cluster.log(leader).linearizable_range().await.unwrap(), range(0, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn waiting_reader_wakes_when_its_record_is_there() {
    story(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let follower = if leader == 1 { 2 } else { 1 };
        let wait = cluster.log(follower).wait_past(Offset::new(1));
        let appends = async {
            cluster.append(batch(&["a"], None)).await;
            cluster.append(batch(&["b"], None)).await;
        };
        let (woken, ()) = tokio::join!(wait, appends);
        woken.unwrap();
        assert_eq!(cluster.log(follower).range(), range(0, 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn learner_gets_everything_from_the_first_entry_on_and_becomes_a_voter() {
    story(async {
        let mut cluster = Cluster::start(3).await;
        for n in 0..20 {
            cluster.append(batch(&[&n.to_string()], None)).await;
        }
        cluster.add(4).await;
        let leader = cluster.leader().await;
        let group = cluster.log(leader).group();
        let member = Member { node: quipu_protocol::NodeId::new(4) };
        group.scope(group.raft().add_learner(4, member, false)).await.unwrap();
        assert_eq!(cluster.values(4, 20).await.len(), 20);
        assert_eq!(cluster.log(4).group().status().role, Role::Learner);
        let voters = BTreeMap::from([(4, member)]);
        let promote = openraft::ChangeMembers::AddVoters(voters);
        group.scope(group.raft().change_membership(promote, true)).await.unwrap();
        let status = group.status();
        assert!(status.membership.is_voter(ReplicaId::new(4)) && !status.membership.is_joint(), "{status:?}");
        assert!(status.membership_committed);
        assert_eq!(status.matched.len(), 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn failed_sync_stops_the_replica_and_says_so() {
    story(async {
        let cluster = Cluster::start(1).await;
        cluster.append(batch(&["a"], None)).await;
        cluster.node(1).disk.fail_next_sync();
        let lost = cluster.log(1).append(batch(&["b"], None)).await.unwrap_err();
        assert_eq!(lost, CommandError::OutcomeUnknown.into());
        let reason = cluster.log(1).group().stopped().await;
        assert!(matches!(reason, StopReason::Storage(_)), "{reason:?}");
        let refused = cluster.log(1).append(batch(&["c"], None)).await.unwrap_err();
        assert!(matches!(refused, AppendError::Command(CommandError::Stopped(StopReason::Storage(_)))), "{refused:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn metadata_of_another_journal_is_refused() {
    story(async {
        let mut cluster = Cluster::start(3).await;
        cluster.append(batch(&["a"], None)).await;
        cluster.values(1, 1).await;
        cluster.log(1).group().checkpoint().unwrap();
        let mut rows = Batch::new();
        for (name, value) in cluster.node(1).kv.scan(Space::State, &[], &[0xff; 17], 9).unwrap() {
            // The same state under the name of a replica with an empty log.
            let mut name = name.to_vec();
            name[15] = 9;
            rows.put(Space::State, name, value);
        }
        assert_eq!(rows.len(), 1);
        cluster.add(8).await;
        cluster.shut_down(8).await;
        cluster.node(8).kv.write(rows).unwrap();
        let refused = cluster.restart_as(8, 9).await.unwrap_err();
        assert!(matches!(refused, StartError::MetadataAhead { last: None, .. }), "{refused:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn damaged_replica_does_not_start() {
    story(async {
        let mut cluster = Cluster::start(1).await;
        cluster.append(batch(&["a value to be found on the disk"], None)).await;
        cluster.append(batch(&["another"], None)).await;
        cluster.journal(1).mark_idle();
        let needle = b"a value to be found on the disk";
        let segment = "journal/00000001.segment";
        let content = cluster.node(1).disk.content(segment).expect("there is a first segment");
        let at = content.windows(needle.len()).position(|bytes| bytes == needle).expect("the value is on the disk");
        cluster.crash(1);
        cluster.node(1).disk.flip_bit(segment, at as u64, 3);
        let refused = cluster.restart(1).await.unwrap_err();
        assert!(matches!(refused, StartError::Damaged(damage) if damage.index == Some(Index::new(2))), "{refused:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lost_metadata_costs_applying_again_and_nothing_else() {
    story(async {
        let mut cluster = Cluster::start(1).await;
        for n in 0..10 {
            cluster.append(batch(&[&n.to_string()], producer(n))).await;
        }
        let image = cluster.image(1);
        cluster.shut_down(1).await;
        let mut everything = Batch::new();
        for space in Space::ALL {
            everything.delete_range(space, Bytes::new(), vec![0xff; 32]);
        }
        cluster.node(1).kv.write(everything).unwrap();
        cluster.restart(1).await.unwrap();
        assert_eq!(cluster.values(1, 10).await.len(), 10);
        assert_eq!(cluster.image(1), image);
        assert_eq!(key(1), cluster.log(1).group().key());
    })
    .await;
}
