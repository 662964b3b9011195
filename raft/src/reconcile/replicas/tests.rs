use quipu_protocol::peer::Introduction;
use quipu_protocol::{ClusterId, Index, Term, Timestamp, v1};
use quipu_storage::journal::{Entry, EntryId, JournalConfig, Owner, Vote};
use quipu_storage::{MemoryDisk, MemoryKv};
use tokio::sync::oneshot;

use super::*;
use crate::catalog::{self, create_log, encode, founding_nodes, register};

const ORDERS: LogId = LogId::new(1);

fn disk(number: u64) -> Incarnation {
    Incarnation::new(number)
}

fn node(number: u64) -> NodeId {
    NodeId::new(number)
}

/// What the catalog is after each of its commands: three nodes, node n with
/// disk 10·n; a log on all of them; then node 1 comes with disk 11.
fn catalogs() -> [Catalog; 3] {
    let founders = (1..=3).map(|number| (node(number), (disk(10 * number), format!("n{number}:1")))).collect();
    let orders = "orders".parse().expect("a log's name");
    let config = v1::LogConfig { replicas: 3, max_batch_bytes: 1 << 20, ..v1::LogConfig::default() };
    let new_disk = Introduction { node: 1, incarnation: 11, boot_count: 1, boot: 7, ..Introduction::default() };
    let commands = [
        catalog::found(ClusterId::new(7), founding_nodes(&founders)),
        create_log(&orders, config, [node(1), node(2), node(3)]),
        register(&new_disk),
    ];
    let mut catalog = Catalog::default();
    let mut index = 0;
    commands.map(|command| {
        index += 1;
        let id = EntryId { term: Term::new(1), index: Index::new(index) };
        catalog.apply(id, &encode(Timestamp::new(1), command)).expect("a known command");
        catalog.clone()
    })
}

fn missing(catalog: &Catalog, here: NodeId, disk: Incarnation) -> Vec<(LogId, ReplicaId)> {
    let changes = changes(catalog, here, disk, &BTreeMap::new());
    assert!(changes.surplus.is_empty(), "nothing runs: {changes:?}");
    changes.missing.into_iter().map(|(id, replica, _)| (id, replica)).collect()
}

#[test]
fn wanted_replica_is_started_once() {
    let [_, created, _] = catalogs();
    let replica = created.logs()[&ORDERS].replica_on(node(2)).expect("it has a replica there");
    assert_eq!(missing(&created, node(2), disk(20)), [(ORDERS, replica)]);
    let running = BTreeMap::from([(ORDERS, replica)]);
    assert_eq!(changes(&created, node(2), disk(20), &running), Changes::default());
}

#[test]
fn new_disk_never_runs_a_replica_of_the_lost_one() {
    let [founded, created, replaced] = catalogs();
    let old = created.logs()[&ORDERS].replica_on(node(1)).expect("it has a replica there");
    let new = replaced.logs()[&ORDERS].replica_on(node(1)).expect("it has a replica there");
    assert_ne!(old, new);
    // What the new disk's copy of the catalog is on its way to the present.
    assert!(missing(&founded, node(1), disk(11)).is_empty());
    assert!(missing(&created, node(1), disk(11)).is_empty());
    assert_eq!(missing(&replaced, node(1), disk(11)), [(ORDERS, new)]);
}

#[test]
fn replaced_disk_runs_nothing() {
    let [_, created, replaced] = catalogs();
    let old = created.logs()[&ORDERS].replica_on(node(1)).expect("it has a replica there");
    let running = BTreeMap::from([(ORDERS, old)]);
    assert_eq!(changes(&created, node(1), disk(10), &running), Changes::default());
    assert!(missing(&replaced, node(1), disk(10)).is_empty());
    let after = changes(&replaced, node(1), disk(10), &running);
    assert_eq!((after.surplus, after.missing.len()), (vec![ORDERS], 0));
}

fn key(replica: u64) -> ReplicaKey {
    ReplicaKey { group: ORDERS, replica: ReplicaId::new(replica) }
}

/// The founders are the replicas 1 to 3, each on the node of its number.
fn founders() -> Vec<Place> {
    (1..=3).map(|number| Place { replica: ReplicaId::new(number), node: node(number) }).collect()
}

fn journal() -> Journal {
    let owner = Owner { cluster: ClusterId::new(1), node: node(1), incarnation: disk(10) };
    let config = JournalConfig { segment_bytes: 1 << 20, tail_cache_bytes: 1 << 20, ..JournalConfig::default() };
    let random = quipu_sdk::system::environment().random;
    let opened = Journal::open(Arc::new(MemoryDisk::new(1)), Arc::new(MemoryKv::new()), random, config, owner);
    opened.expect("a new journal").0
}

async fn entries(journal: &Journal, replica: u64) -> Vec<Entry> {
    let (done, read) = oneshot::channel();
    let all = Index::new(0)..Index::new(10);
    journal.read(key(replica), all, 1 << 20, Box::new(move |entries| drop(done.send(entries))));
    read.await.expect("an answer").expect("readable")
}

#[tokio::test]
async fn founders_write_the_same_entry_once_and_the_first_campaigns() {
    let journal = journal();
    let first = EntryId { term: Term::new(0), index: Index::new(0) };
    for (replica, begin) in [(1, Begin::Campaigning), (2, Begin::Listening), (3, Begin::Listening)] {
        // Again, as after a crash.
        for _ in 0..2 {
            assert_eq!(found(&journal, key(replica), &founders()).await.expect("founded"), begin);
            assert_eq!(journal.durable(key(replica)), Some(first));
        }
    }
    let written = entries(&journal, 1).await;
    assert_eq!(written.len(), 1);
    assert_eq!(entries(&journal, 2).await, written);
    assert_eq!(entries(&journal, 3).await, written);
}

#[tokio::test]
async fn first_founder_that_has_voted_waits_like_the_others() {
    let journal = journal();
    found(&journal, key(1), &founders()).await.expect("founded");
    let vote = Vote { term: Term::new(1), voted_for: Some(ReplicaId::new(2)), committed: false };
    let (done, saved) = oneshot::channel();
    journal.save_vote(key(1), vote, Box::new(move |saving| drop(done.send(saving))));
    saved.await.expect("an answer").expect("saved");
    assert_eq!(found(&journal, key(1), &founders()).await.expect("founded"), Begin::Listening);
}

#[tokio::test]
async fn replica_in_a_founders_place_writes_nothing() {
    let journal = journal();
    assert_eq!(found(&journal, key(4), &founders()).await.expect("it may start"), Begin::Listening);
    assert_eq!(journal.replica(key(4)), None);
}

#[tokio::test]
async fn retired_founder_is_not_founded_again() {
    let journal = journal();
    found(&journal, key(1), &founders()).await.expect("founded");
    journal.retire(key(1), Box::new(drop));
    let refused = found(&journal, key(1), &founders()).await.expect_err("it is retired");
    assert!(matches!(refused, StartError::Founding(_)), "{refused:?}");
}
