use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use quipu_protocol::peer::catalog_reply::Outcome;
use quipu_protocol::peer::{CatalogReply, Introduction, Joined, LogCreated, ProducersAllotted, refusal};
use quipu_protocol::stored::catalog_command::Command;
use quipu_protocol::{ClusterId, Incarnation, Index, LogId, NodeId, Term, Timestamp, stored, v1};
use quipu_storage::journal::EntryId;

use super::*;
use crate::machine::Machine;
use crate::types::Reply;

mod logs;

const NOW: i64 = 1_700_000_000_000;

/// A catalog that is told commands, and its image after each of them.
struct Story {
    catalog: Catalog,
    index: u64,
    now: i64,
}

impl Story {
    /// A cluster founded by so many nodes; node n has disk 10·n.
    fn founded(nodes: u64) -> Self {
        let founders = (1..=nodes).map(|node| (NodeId::new(node), (Incarnation::new(10 * node), format!("n{node}:1"))));
        let founders = founding_nodes(&founders.collect());
        let mut story = Self { catalog: Catalog::default(), index: 0, now: NOW };
        assert_eq!(story.tell(found(ClusterId::new(7), founders)), Outcome::Done(true));
        story
    }

    fn tell(&mut self, command: Command) -> Outcome {
        self.index += 1;
        let id = EntryId { term: Term::new(1), index: Index::new(self.index) };
        let reply = self.catalog.apply(id, &encode(Timestamp::new(self.now), command)).expect("a known command");
        let Reply::Catalog(reply) = reply else { panic!("the catalog answers as the catalog") };
        // Whatever was told, the image brings it back.
        let mut copy = Catalog::default();
        copy.install(&self.catalog.image()).expect("its own image");
        assert_eq!(copy, self.catalog);
        let reply = CatalogReply::decode(reply).expect("a reply");
        assert_eq!(reply.version, self.catalog.version());
        reply.outcome.expect("an outcome")
    }

    fn register(&mut self, node: u64, disk: u64, starts: u64, boot: u64, address: &str) -> Outcome {
        self.tell(register(&Introduction {
            node,
            incarnation: disk,
            boot_count: starts,
            boot,
            address: address.to_owned(),
            ..Introduction::default()
        }))
    }

    fn create(&mut self, name: &str, replicas: u32, reachable: &[u64]) -> Outcome {
        let config = v1::LogConfig { replicas, max_batch_bytes: 1 << 20, ..v1::LogConfig::default() };
        let name = name.parse().expect("a log name");
        self.tell(create_log(&name, config, reachable.iter().copied().map(NodeId::new)))
    }

    fn created(&mut self, name: &str, replicas: u32) -> CatalogLog {
        match self.create(name, replicas, &[]) {
            Outcome::LogCreated(LogCreated { created: true, .. }) => {}
            other => panic!("{other:?}"),
        }
        self.log(name)
    }

    fn id(&self, name: &str) -> LogId {
        self.catalog.log_named(&name.parse().expect("a log name")).expect("the log").0
    }

    fn log(&self, name: &str) -> CatalogLog {
        self.catalog.log_named(&name.parse().expect("a log name")).expect("the log").1.clone()
    }
}

fn nodes_of(places: &[Place]) -> Vec<u64> {
    places.iter().map(|place| place.node.get()).collect()
}

fn joined(outcome: Outcome) -> Joined {
    match outcome {
        Outcome::Joined(joined) => joined,
        other => panic!("{other:?}"),
    }
}

fn refused(outcome: Outcome) -> refusal::Reason {
    match outcome {
        Outcome::Refusal(refusal) => refusal.reason(),
        other => panic!("{other:?}"),
    }
}

fn error(outcome: Outcome) -> v1::error::Kind {
    match outcome {
        Outcome::Error(error) => error.kind.expect("a kind"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_first_founding_counts() {
    let mut story = Story::founded(3);
    let before = story.catalog.clone();
    story.tell(found(ClusterId::new(8), Vec::new()));
    assert_eq!(story.catalog, before);
}

#[test]
fn up_to_five_founders_vote_and_three_of_four() {
    for (nodes, voters) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (7, 5)] {
        let story = Story::founded(nodes);
        let voting = story.catalog.nodes().values().filter(|node| node.catalog_voter).count();
        assert_eq!(voting, voters, "of {nodes} nodes");
    }
}

#[test]
fn more_nodes_bring_more_voters() {
    let mut story = Story::founded(1);
    for (node, voters) in [(2, 2), (3, 3), (4, 3), (5, 5), (6, 5)] {
        joined(story.register(node, 10 * node, 1, 1, "a:1"));
        let voting = story.catalog.nodes().values().filter(|node| node.catalog_voter).count();
        assert_eq!(voting, voters, "of {node} nodes");
    }
}

#[test]
fn more_nodes_bring_registrars_more_replicas_up_to_those_of_a_new_cluster() {
    let mut story = Story::founded(1);
    story.tell(create_registrars([]));
    let log = story.created("a", 0);
    let founders: Vec<Vec<Place>> = registrars(&story).map(|log| log.founders.clone()).collect();
    for (node, expected) in [(2, vec![1, 2]), (3, vec![1, 2, 3]), (4, vec![1, 2, 3]), (5, vec![1, 2, 3])] {
        let version = story.catalog.version();
        joined(story.register(node, 10 * node, 1, 1, "a:1"));
        assert!(story.catalog.version() > version, "other nodes have to know");
        for log in registrars(&story) {
            assert_eq!(nodes_of(&log.wanted), expected, "of {node} nodes");
            assert_eq!(log.config.replicas as usize, expected.len());
        }
    }
    assert_eq!(registrars(&story).map(|log| log.founders.clone()).collect::<Vec<_>>(), founders);
    let mut ids: Vec<_> = registrars(&story).chain([&log]).flat_map(|log| &log.wanted).map(|it| it.replica).collect();
    let places = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), places, "each replica has an id of its own");
    assert_eq!(story.log("a"), log, "a log keeps the replicas that it was created with");
}

fn registrars(story: &Story) -> impl Iterator<Item = &CatalogLog> {
    story.catalog.registrars().into_iter().map(|id| &story.catalog.logs()[&id])
}

#[test]
fn new_disk_gets_new_replica_ids_everywhere() {
    let mut story = Story::founded(3);
    let before = story.created("a", 3);
    let joined = joined(story.register(2, 21, 1, 9, "n2:1"));
    let after = story.log("a");

    assert!(joined.catalog_replica >= FIRST_ALLOTTED_REPLICA, "{}", joined.catalog_replica);
    assert_eq!(after.founders, before.founders, "who wrote the first membership does not change");
    for (old, new) in before.wanted.iter().zip(&after.wanted) {
        assert_eq!(old.node, new.node);
        assert_eq!(old.replica == new.replica, old.node != NodeId::new(2), "{old:?} {new:?}");
    }
}

#[test]
fn replica_ids_are_given_out_once() {
    let mut story = Story::founded(3);
    let mut seen = BTreeSet::new();
    let mut places = 0;
    for disk in 0..4 {
        for name in ["a", "b"] {
            if disk == 0 {
                story.created(name, 3);
            }
            for place in story.log(name).wanted.iter().filter(|it| disk == 0 || it.node == NodeId::new(1)) {
                seen.insert(place.replica);
                places += 1;
            }
        }
        seen.insert(joined(story.register(1, 100 + disk, 1, 1, "n1:1")).catalog_replica.into_replica());
        places += 1;
    }
    assert_eq!(seen.len(), places);
}

trait IntoReplica {
    fn into_replica(self) -> quipu_protocol::ReplicaId;
}

impl IntoReplica for u64 {
    fn into_replica(self) -> quipu_protocol::ReplicaId {
        quipu_protocol::ReplicaId::new(self)
    }
}

#[test]
fn repeated_registration_changes_nothing() {
    let mut story = Story::founded(3);
    let first = joined(story.register(2, 21, 1, 9, "n2:1"));
    let before = story.catalog.clone();
    assert_eq!(joined(story.register(2, 21, 1, 9, "n2:1")), first);
    assert_eq!(story.catalog, before);
}

#[test]
fn replaced_disk_never_comes_back() {
    let mut story = Story::founded(3);
    joined(story.register(2, 21, 1, 9, "n2:1"));
    let before = story.catalog.clone();
    assert_eq!(refused(story.register(2, 20, 5, 1, "n2:1")), refusal::Reason::OlderDisk);
    assert_eq!(story.catalog, before);
}

#[test]
fn old_copy_of_a_disk_is_refused() {
    let mut story = Story::founded(3);
    joined(story.register(2, 20, 6, 4, "n2:1"));
    assert_eq!(refused(story.register(2, 20, 5, 3, "n2:1")), refusal::Reason::OlderDisk);
    assert_eq!(refused(story.register(2, 20, 6, 5, "n2:1")), refusal::Reason::OlderDisk);
    joined(story.register(2, 20, 7, 8, "n2:1"));
}

#[test]
fn moved_node_is_found_at_its_new_address() {
    let mut story = Story::founded(3);
    joined(story.register(2, 20, 2, 1, "n2:1"));
    let version = story.catalog.version();
    joined(story.register(2, 20, 3, 2, "elsewhere:1"));
    assert_eq!(story.catalog.nodes()[&NodeId::new(2)].address, "elsewhere:1");
    assert!(story.catalog.version() > version, "other nodes have to know");
}

#[test]
fn log_is_created_once() {
    let mut story = Story::founded(3);
    let log = story.created("a", 3);
    for replicas in [3, 0] {
        match story.create("a", replicas, &[]) {
            Outcome::LogCreated(LogCreated { created: false, log: Some(summary) }) => {
                assert_eq!(summary.config, Some(log.config));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(error(story.create("a", 2, &[])), v1::error::Kind::LogExists(_)));
    assert_eq!(story.log("a"), log);
}

#[test]
fn log_without_a_choice_gets_three_replicas_or_as_many_as_there_are_nodes() {
    for (nodes, replicas) in [(1, 1), (2, 2), (3, 3), (5, 3)] {
        assert_eq!(Story::founded(nodes).created("a", 0).config.replicas, replicas, "on {nodes} nodes");
    }
}

#[test]
fn log_with_more_replicas_than_nodes_is_refused() {
    let mut story = Story::founded(2);
    let version = story.catalog.version();
    let expected = v1::error::Kind::TooFewNodes(v1::TooFewNodes { replicas: 3, nodes: 2 });
    assert_eq!(error(story.create("a", 3, &[])), expected);
    assert_eq!(story.catalog.version(), version);
    assert!(story.catalog.logs().is_empty());
}

#[test]
fn logs_spread_over_nodes_and_so_do_their_leaders() {
    let mut story = Story::founded(5);
    let mut replicas: BTreeMap<u64, u32> = BTreeMap::new();
    let mut leads: BTreeMap<u64, u32> = BTreeMap::new();
    for number in 0..50 {
        let log = story.created(&format!("log-{number}"), 3);
        let nodes = nodes_of(&log.founders);
        assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), 3, "one replica a node: {nodes:?}");
        *leads.entry(nodes[0]).or_default() += 1;
        for node in nodes {
            *replicas.entry(node).or_default() += 1;
        }
    }
    assert!(replicas.values().all(|count| *count == 30), "{replicas:?}");
    assert!(leads.values().all(|count| *count == 10), "{leads:?}");
}

#[test]
fn nodes_that_answer_are_preferred() {
    let mut story = Story::founded(5);
    story.create("a", 3, &[2, 4, 5]);
    assert_eq!(nodes_of(&story.log("a").founders).into_iter().collect::<BTreeSet<_>>(), [2, 4, 5].into());
    story.create("b", 3, &[5]);
    assert_eq!(nodes_of(&story.log("b").founders)[0], 5, "one that answers leads");
}

#[test]
fn producer_ids_rise_even_when_the_clock_does_not() {
    let mut story = Story::founded(1);
    let mut last = 0;
    for (now, count) in [(NOW, 1), (NOW, 3), (NOW - 5_000, 2), (NOW + 1, 1)] {
        story.now = now;
        match story.tell(allocate_producers(count)) {
            Outcome::Producers(ProducersAllotted { first, count: allotted, allotted_at }) => {
                assert!(first > last, "{first} after {last}");
                assert_eq!((allotted, allotted_at), (count, now.max(NOW)));
                assert_eq!(crate::log::allotted_at(quipu_protocol::ProducerId::new(first)).get(), now.max(NOW));
                last = first + i64::from(allotted) - 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn producer_blocks_are_bounded() {
    let mut story = Story::founded(1);
    for count in [0, MAX_PRODUCER_BLOCK + 1] {
        assert!(matches!(error(story.tell(allocate_producers(count))), v1::error::Kind::TooLarge(_)), "{count}");
    }
}

#[test]
fn logs_are_listed_in_pages() {
    let mut story = Story::founded(1);
    for name in ["c", "a", "b"] {
        story.created(name, 1);
    }
    let names = |after: &str, limit| {
        let (page, more) = story.catalog.logs_after(after, None, limit);
        (page.into_iter().map(|log| log.name).collect::<Vec<_>>(), more)
    };
    assert_eq!(names("", 2), (vec!["a".to_owned(), "b".to_owned()], true));
    assert_eq!(names("b", 2), (vec!["c".to_owned()], false));
    assert_eq!(names("c", 2), (Vec::new(), false));
}

#[test]
fn command_of_a_newer_version_stops_the_replica() {
    let mut catalog = Catalog::default();
    let id = EntryId { term: Term::new(1), index: Index::new(1) };
    for bytes in [stored::CatalogCommand { stamp: 1, command: None }.encode_to_vec(), vec![0xff; 8]] {
        catalog.apply(id, &Bytes::from(bytes)).expect_err("it cannot be applied");
    }
}

#[test]
fn an_image_whose_numbers_are_at_their_end_is_refused() {
    let image = |change: fn(&mut stored::Catalog)| {
        let mut image = stored::Catalog::decode(Story::founded(3).catalog.image()).expect("an image");
        change(&mut image);
        Catalog::default().install(&image.encode_to_vec().into())
    };
    image(|_| {}).expect("its own image");
    image(|image| image.next_log = u64::MAX).expect_err("no log could follow");
    image(|image| image.next_replica = u64::MAX).expect_err("no replica could follow");
    image(|image| image.version = u64::MAX).expect_err("no change could follow");
}

#[test]
fn more_voters_than_are_wanted_are_left_alone() {
    let mut founders: Vec<stored::Node> = Vec::new();
    for id in 1..=7 {
        founders.push(stored::Node { id, incarnation: 10 * id, catalog_voter: true, ..Default::default() });
    }
    let mut story = Story { catalog: Catalog::default(), index: 0, now: NOW };
    story.tell(found(ClusterId::new(7), founders));
    assert!(matches!(story.register(8, 80, 1, 1, "n8:1"), Outcome::Joined(_)));
    assert_eq!(story.catalog.nodes().values().filter(|node| node.catalog_voter).count(), 7);
}
