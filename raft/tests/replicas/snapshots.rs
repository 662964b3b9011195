//! What a snapshot leaves behind when the power fails while it is taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use openraft::raft::AppendEntriesRequest;
use openraft::{EntryPayload, Membership, Snapshot, SnapshotMeta};
use quipu_protocol::environment::Environment;
use quipu_protocol::{ClusterId, Incarnation, Index, NodeId, Term};
use quipu_raft::types::{Entry, LogId, StoredMembership, Vote};
use quipu_raft::{Group, GroupOptions, Machine, Member};
use quipu_storage::journal::{EntryId, Journal, JournalConfig, Owner};
use quipu_storage::{Kv, Lane, MemoryDisk, MemoryKv};

use crate::cluster::key;
use crate::conformance::Concatenation;
use crate::environment::environment;
use crate::network::Switch;
use crate::stories::story;

/// A node with a replica of a group whose snapshots stand where it has applied
/// to. It hears from a leader that is nowhere else.
struct Follower {
    environment: Environment,
    disk: Arc<MemoryDisk>,
    kv: Arc<MemoryKv>,
    running: Option<(Journal, Group<Concatenation>)>,
}

/// The leader's vote.
fn leader() -> Vote {
    Vote::new_committed(3, 2)
}

fn at(index: u64) -> LogId {
    LogId::new_term_index(3, index)
}

fn members() -> Membership<u64, Member> {
    let nodes: BTreeMap<u64, Member> = (1..=2).map(|n| (n, Member { node: NodeId::new(n) })).collect();
    Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap()
}

fn said(index: u64, word: &'static str) -> Entry {
    Entry { log_id: at(index), payload: EntryPayload::Normal(Bytes::from_static(word.as_bytes()).into()) }
}

impl Follower {
    async fn new() -> Self {
        let (disk, kv) = (Arc::new(MemoryDisk::new(1)), Arc::new(MemoryKv::new()));
        let mut new = Self { environment: environment(1), disk, kv, running: None };
        new.start(new.open()).await;
        new
    }

    fn open(&self) -> Journal {
        let owner = Owner { cluster: ClusterId::new(1), node: NodeId::new(1), incarnation: Incarnation::new(1) };
        let config = JournalConfig { segment_bytes: 1 << 20, tail_cache_bytes: 1 << 20, ..JournalConfig::default() };
        let kv: Arc<dyn Kv> = self.kv.clone();
        Journal::open(self.disk.clone(), kv, Arc::clone(&self.environment.random), config, owner).unwrap().0
    }

    async fn start(&mut self, journal: Journal) {
        let group = Group::start(
            key(1),
            Concatenation::default(),
            journal.clone(),
            self.kv.clone(),
            &self.environment,
            Switch::default().port(1),
            GroupOptions::default(),
        );
        let group = group.await.unwrap();
        self.running = Some((journal, group));
    }

    fn lose_power(&mut self, seed: u64) {
        self.running = None;
        self.disk = Arc::new(self.disk.restore(seed));
        self.kv = Arc::new(self.kv.lose_unflushed(seed));
    }

    fn group(&self) -> &Group<Concatenation> {
        &self.running.as_ref().expect("it runs").1
    }

    fn purged(&self) -> Option<EntryId> {
        self.running.as_ref().expect("it runs").0.replica(key(1))?.purged
    }

    fn image(&self) -> Option<EntryId> {
        self.running.as_ref().expect("it runs").0.replica(key(1))?.image
    }

    fn state(&self) -> Bytes {
        self.group().view(Machine::image)
    }

    /// Takes entries from the leader, all of which are committed.
    async fn hears(&self, previous: Option<LogId>, entries: Vec<Entry>) {
        let last = entries.last().map(|entry| entry.log_id);
        let request = AppendEntriesRequest { vote: leader(), prev_log_id: previous, entries, leader_commit: last };
        let raft = self.group().raft().clone();
        let answer = self.group().scope(async move { raft.append_entries(request).await });
        assert!(answer.await.unwrap().is_success());
        self.applies(last.unwrap().index).await;
    }

    async fn applies(&self, index: u64) {
        let mut applied = self.group().applied();
        let there = applied.wait_for(|applied| applied.is_some_and(|applied| applied.index.get() >= index));
        there.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn snapshot_that_outlived_its_purge_is_where_the_replica_goes_on() {
    story(async {
        let mut follower = Follower::new().await;
        let first = Entry { log_id: LogId::new_term_index(0, 0), payload: EntryPayload::Membership(members()) };
        let first_id = first.log_id;
        follower.hears(None, vec![first, said(1, "a"), said(2, "b")]).await;
        assert_eq!(follower.state(), "ab");

        // The image reaches the disk, the purge does not.
        follower.disk.hold();
        let meta = SnapshotMeta {
            last_log_id: Some(at(9)),
            last_membership: StoredMembership::new(Some(first_id), members()),
        };
        let snapshot = Snapshot { meta, snapshot: Bytes::from_static(b"a to i") };
        let raft = follower.group().raft().clone();
        let install = follower.group().scope(async move { raft.install_full_snapshot(leader(), snapshot).await });
        let mut install = Box::pin(install);
        let applies = async {
            // The image's commit, no more.
            while follower.image().is_none() {
                follower.disk.step(Lane::Commit);
                tokio::task::yield_now().await;
            }
            follower.applies(9).await;
        };
        tokio::select! {
            biased;
            () = applies => {}
            answer = &mut install => drop(answer),
        }
        drop(install);

        for seed in 2..6 {
            follower.lose_power(seed);
            let journal = follower.open();
            let held = journal.replica(key(1)).expect("it has entries");
            assert_eq!((held.purged, held.last.map(|last| last.index)), (None, Some(Index::new(2))));
            // Once more before the purge that the start makes up for.
            follower.disk.hold();
            let starts = tokio::time::timeout(std::time::Duration::from_secs(5), follower.start(journal));
            starts.await.expect_err("the purge is waited for");
        }
        follower.lose_power(6);
        follower.start(follower.open()).await;
        let snapshot_at = EntryId { term: Term::new(3), index: Index::new(9) };
        assert_eq!(follower.purged(), Some(snapshot_at));
        assert_eq!(follower.state(), "a to i");

        follower.hears(Some(at(9)), vec![said(10, ", j")]).await;
        assert_eq!(follower.state(), "a to i, j");
        follower.lose_power(7);
        follower.start(follower.open()).await;
        follower.hears(Some(at(10)), vec![said(11, ", k")]).await;
        assert_eq!(follower.state(), "a to i, j, k");
    })
    .await;
}
