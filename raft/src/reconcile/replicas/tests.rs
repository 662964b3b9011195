use quipu_protocol::peer::Introduction;
use quipu_protocol::{ClusterId, Index, Term, Timestamp, v1};
use quipu_storage::journal::EntryId;

use super::*;
use crate::catalog::{create_log, encode, found, founding_nodes, register};

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
    let config = v1::LogConfig { replicas: 3, max_batch_bytes: 1 << 20 };
    let new_disk = Introduction { node: 1, incarnation: 11, boot_count: 1, boot: 7, ..Introduction::default() };
    let commands = [
        found(ClusterId::new(7), founding_nodes(&founders)),
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
