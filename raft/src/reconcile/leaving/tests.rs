use quipu_protocol::peer::Introduction;
use quipu_protocol::{ClusterId, Index, LogId, ReplicaId, Term, Timestamp, v1};
use quipu_storage::journal::EntryId;

use super::*;
use crate::catalog::{self, create_log, delete_log, encode, founding_nodes, register, replace_replica};
use crate::machine::Machine;

const ORDERS: LogId = LogId::new(1);
const HERE: NodeId = NodeId::new(1);
const DISK: Incarnation = Incarnation::new(10);

/// A catalog that is told commands: of one node with one log, at first.
struct Story {
    catalog: Catalog,
    index: u64,
}

impl Story {
    fn new() -> Self {
        let founders = [(HERE, (DISK, "n1:1".to_owned()))].into_iter().collect();
        let config = v1::LogConfig { replicas: 1, max_batch_bytes: 1 << 20, ..v1::LogConfig::default() };
        let mut story = Self { catalog: Catalog::default(), index: 0 };
        story.tell(catalog::found(ClusterId::new(7), founding_nodes(&founders)));
        story.tell(create_log(&"orders".parse().expect("a log's name"), config, [HERE]));
        story
    }

    fn tell(&mut self, command: quipu_protocol::stored::catalog_command::Command) {
        self.index += 1;
        let id = EntryId { term: Term::new(1), index: Index::new(self.index) };
        self.catalog.apply(id, &encode(Timestamp::new(1), command)).expect("a known command");
    }

    fn wanted(&self) -> ReplicaKey {
        ReplicaKey { group: ORDERS, replica: self.catalog.logs()[&ORDERS].replica_on(HERE).expect("it is wanted") }
    }

    fn has_left(&self, key: ReplicaKey) -> bool {
        has_left(&self.catalog, HERE, DISK, key)
    }
}

#[test]
fn a_replica_leaves_when_a_newer_one_has_its_place() {
    let mut story = Story::new();
    let old = story.wanted();
    assert!(!story.has_left(old));
    story.tell(replace_replica(ORDERS, old.replica));
    let new = story.wanted();
    assert!(story.has_left(old) && !story.has_left(new));
}

#[test]
fn a_copy_of_the_catalog_that_is_behind_lets_nothing_leave() {
    let story = Story::new();
    let wanted = story.wanted();
    let newer = ReplicaKey { replica: ReplicaId::new(wanted.replica.get() + 1), ..wanted };
    let newer_log = ReplicaKey { group: LogId::new(ORDERS.get() + 1), ..wanted };
    let catalogs = ReplicaKey { group: LogId::CATALOG, replica: ReplicaId::new(1) };
    for key in [newer, newer_log, catalogs] {
        assert!(!story.has_left(key), "{key}");
    }
}

#[test]
fn what_is_on_another_disk_than_the_nodes_is_left_alone_unless_its_log_is_deleted() {
    let mut story = Story::new();
    let old = story.wanted();
    let disk = Introduction { node: 1, incarnation: 11, boot_count: 1, boot: 7, ..Introduction::default() };
    story.tell(register(&disk));
    assert!(story.wanted().replica > old.replica);
    assert!(!story.has_left(old), "this disk's node is told that it was replaced");
    story.tell(delete_log(ORDERS, &"orders".parse().expect("a log's name")));
    assert!(story.has_left(old));
}
