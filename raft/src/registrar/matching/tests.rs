use std::cell::RefCell;

use quipu_protocol::{Incarnation, Index, NodeId, Term, Timestamp, v1};
use quipu_storage::journal::EntryId;

use super::super::commands::{Joining, drop_members, join, match_logs};
use super::super::{Answer, encode};
use super::*;
use crate::catalog;
use crate::machine::Machine;
use crate::types::Reply;

/// A cluster's states, and a leader that keeps its groups' logs right.
struct Story {
    catalog: RefCell<Catalog>,
    registrar: RefCell<Registrar>,
    index: u64,
    matching: Matching,
}

impl States for Story {
    fn catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        look(&self.catalog.borrow())
    }

    fn registrar<T>(&self, look: impl FnOnce(&Registrar) -> T) -> T {
        look(&self.registrar.borrow())
    }
}

impl Story {
    fn new() -> Self {
        let founder = (NodeId::new(1), (Incarnation::new(10), "n1:1".to_owned()));
        let founders = catalog::founding_nodes(&[founder].into());
        let (catalog, registrar) = (RefCell::default(), RefCell::default());
        let mut story = Self { catalog, registrar, index: 0, matching: Matching::default() };
        story.tell_catalog(catalog::found(quipu_protocol::ClusterId::new(7), founders));
        story
    }

    fn next(&mut self) -> EntryId {
        self.index += 1;
        EntryId { term: Term::new(1), index: Index::new(self.index) }
    }

    fn tell_catalog(&mut self, command: quipu_protocol::stored::catalog_command::Command) {
        let id = self.next();
        self.catalog.borrow_mut().apply(id, &catalog::encode(Timestamp::new(1), command)).expect("it is understood");
    }

    fn tell(&mut self, command: quipu_protocol::stored::registrar_command::Command) -> Answer {
        let id = self.next();
        match self.registrar.borrow_mut().apply(id, &encode(Timestamp::new(1), command)).expect("it is understood") {
            Reply::Registrar(answer) => answer,
            reply => panic!("{reply:?}"),
        }
    }

    fn create(&mut self, log: &str) {
        let config = v1::LogConfig { replicas: 1, max_batch_bytes: 1 << 20, ..v1::LogConfig::default() };
        self.tell_catalog(catalog::create_log(&log.parse().expect("a name"), config, []));
    }

    fn id(&self, log: &str) -> LogId {
        let name = log.parse().expect("a name");
        self.catalog.borrow().log_named(&name).expect("it is there").0
    }

    fn delete(&mut self, log: &str) {
        let id = self.id(log);
        self.tell_catalog(catalog::delete_log(id, &log.parse().expect("a name")));
    }

    /// Somebody joins, who waits for logs if need be.
    fn joins(&mut self, group: &str, pattern: &str) -> quipu_protocol::MemberId {
        let pattern: LogPattern = pattern.parse().expect("a pattern");
        let matched = self.catalog(|catalog| {
            let (logs, left_out) = catalog.logs_matching(&pattern, MAX_SHARES);
            Matched { version: catalog.version(), logs, left_out }
        });
        let joining = Joining {
            group: name(group),
            pattern,
            client: "client".to_owned(),
            session_ms: 6_000,
            request_id: self.index.to_be_bytes().repeat(2).into(),
            may_wait: true,
        };
        match self.tell(join(joining, &matched)) {
            Answer::Joined { member, .. } => member,
            answer => panic!("{answer:?}"),
        }
    }

    /// Makes the groups' logs right: which groups got others, and how many names were
    /// held against patterns.
    fn rounds(&mut self) -> (Vec<String>, usize) {
        let Some(looked) = self.matching.look(self) else { return (Vec::new(), 0) };
        let matches = looked.matches;
        let changed = looked.changed.iter().map(|(group, ..)| group.as_str().to_owned()).collect();
        for (group, pattern, matched) in &looked.changed {
            self.tell(match_logs(group, pattern, matched));
        }
        self.matching.settle(looked);
        (changed, matches)
    }

    /// The group's logs are what its pattern matches.
    fn is_right(&self, group: &str) -> bool {
        let registrar = self.registrar.borrow();
        let group = &registrar.groups()[&name(group)];
        let (logs, _) = self.catalog.borrow().logs_matching(&group.pattern, MAX_SHARES);
        group.shares.keys().eq(logs.iter())
    }
}

fn name(group: &str) -> ReaderGroupName {
    group.parse().expect("a group's name")
}

#[test]
fn groups_follow_what_is_created_and_deleted_and_nobody_else_is_looked_at_again() {
    let mut story = Story::new();
    for log in ["orders/a", "orders/b", "users/a"] {
        story.create(log);
    }
    story.joins("orders", "orders/*");
    story.joins("users", "users/*");
    story.joins("none", "none/*");
    assert_eq!(story.rounds(), (vec![], 0), "what was matched as they joined is right");
    assert_eq!(story.rounds(), (vec![], 0));

    story.create("orders/c");
    assert_eq!(story.rounds(), (vec!["orders".to_owned()], 3), "the new log against each pattern");
    story.delete("users/a");
    story.delete("orders/b");
    assert_eq!(story.rounds(), (vec!["orders".to_owned(), "users".to_owned()], 0));
    // One of the same name is another log.
    story.create("users/a");
    story.delete("orders/a");
    assert_eq!(story.rounds(), (vec!["orders".to_owned(), "users".to_owned()], 3));
    // Created and deleted between two looks.
    story.create("none/x");
    story.delete("none/x");
    assert_eq!(story.rounds(), (vec![], 0));
    assert!(["orders", "users", "none"].iter().all(|group| story.is_right(group)));
}

#[test]
fn a_group_that_begins_anew_with_another_pattern_has_that_ones_logs() {
    let mut story = Story::new();
    story.create("orders/a");
    story.create("users/a");
    let member = story.joins("group", "orders/*");
    story.rounds();
    story.create("users/b");
    // What was seen is told when the group is another one.
    let stale = story.matching.look(&story).expect("something is new");
    story.tell(drop_members(&name("group"), &[member]));
    story.joins("group", "users/*");
    story.tell(match_logs(
        &name("group"),
        &"orders/*".parse().expect("a pattern"),
        &Matched { version: u64::MAX, ..Matched::default() },
    ));
    story.matching.settle(stale);
    story.rounds();
    assert!(story.is_right("group"));
}

#[test]
fn a_new_leader_looks_at_every_group_and_a_look_that_came_to_nothing_is_done_again() {
    let mut story = Story::new();
    story.joins("orders", "orders/*");
    story.rounds();
    story.create("orders/a");
    for _ in 0..2 {
        // Nothing could be proposed.
        let looked = story.matching.look(&story).expect("something is new");
        assert_eq!((looked.changed.len(), looked.matches), (1, 1));
    }
    story.matching = Matching::default();
    assert_eq!(story.rounds(), (vec!["orders".to_owned()], 1));
    assert!(story.is_right("orders"));
}

/// The figures of a registrar with many groups and of a cluster with many logs: before,
/// every change cost what a new leader's first look does.
#[test]
fn a_change_costs_no_more_matches_than_there_are_groups() {
    const GROUPS: usize = 1_000;
    const LOGS: usize = 10_000;
    let mut story = Story::new();
    for log in 0..LOGS {
        story.create(&format!("logs/{log:05}"));
    }
    for group in 0..GROUPS {
        // Ten logs each, and no prefix that says which.
        story.joins(&format!("group-{group}"), &format!("*s/{group:04}?"));
    }
    let as_before = Matching::default().look(&story).expect("a first look").matches;
    story.matching = Matching::default();
    assert_eq!((as_before, story.rounds().1), (0, 0), "what joined just now is right");
    story.create("other");
    story.matching = Matching::default();
    assert_eq!(story.rounds(), (vec![], GROUPS * (LOGS + 1)), "what each change took");
    story.create("others");
    assert_eq!(story.rounds(), (vec![], GROUPS));
    story.delete("others");
    assert_eq!(story.rounds(), (vec![], 0));
    story.joins("one-more", "*s/0000?");
    assert_eq!(story.rounds(), (vec![], 0));
    story.delete("logs/00000");
    assert_eq!(story.rounds(), (vec!["group-0".to_owned(), "one-more".to_owned()], 0));
    assert!(story.is_right("group-0") && story.is_right("one-more"));
}
