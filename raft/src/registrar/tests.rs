//! Reader groups as stories: who has which log after what was told.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quipu_protocol::{Index, Timestamp};
use quipu_storage::journal::EntryId;

use super::commands::{drop_members, join, match_logs, return_shares, take_shares};
use super::*;
use crate::machine::Machine;
use crate::types::Reply;
use quipu_protocol::stored::registrar_command::Command;
use quipu_protocol::{Generation, LogId, LogPattern, MemberId, ReaderGroupName, Term};

/// A registrar that is told one thing after the other.
struct Story {
    registrar: Registrar,
    index: u64,
    now: i64,
    version: u64,
    requests: u8,
    logs: BTreeSet<u64>,
}

impl Story {
    fn of_logs(logs: impl IntoIterator<Item = u64>) -> Self {
        let logs = logs.into_iter().collect();
        Self { registrar: Registrar::default(), index: 0, now: 1_000, version: 1, requests: 0, logs }
    }

    fn tell(&mut self, command: Command) -> Answer {
        self.index += 1;
        let id = EntryId { term: Term::new(1), index: Index::new(self.index) };
        match self.registrar.apply(id, &encode(Timestamp::new(self.now), command)).expect("it is understood") {
            Reply::Registrar(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn matched(&self) -> Matched {
        Matched { version: self.version, logs: self.logs.iter().copied().map(LogId::new).collect(), left_out: 0 }
    }

    fn joining(&mut self, group: &str) -> Joining {
        self.requests += 1;
        Joining {
            group: name(group),
            pattern: pattern(),
            client: format!("client-{}", self.requests),
            session_ms: 6_000,
            request_id: vec![self.requests; 16].into(),
            may_wait: false,
        }
    }

    fn joins(&mut self, group: &str) -> MemberId {
        let joining = self.joining(group);
        match self.tell(join(joining, &self.matched())) {
            Answer::Joined { member, .. } => member,
            other => panic!("{other:?}"),
        }
    }

    fn refuses(&mut self, command: Command) -> Refused {
        let before = self.registrar.clone();
        let Answer::Refused(refused) = self.tell(command) else { panic!("it was not refused") };
        assert_eq!(self.registrar, Registrar { time: self.registrar.time, ..before }, "a refusal changes nothing");
        refused
    }

    fn group(&self, group: &str) -> &ReaderGroup {
        &self.registrar.groups()[&name(group)]
    }

    /// What a member has, with the generation, and whether it is asked for it.
    fn has(&self, group: &str, member: MemberId) -> Vec<(u64, u64, bool)> {
        let shares = self.group(group).shares_of(member);
        shares.map(|(log, held)| (log.get(), held.generation.get(), held.returning)).collect()
    }

    fn asked_for(&self, group: &str, member: MemberId) -> Vec<(LogId, Generation)> {
        let asked = self.group(group).shares_of(member).filter(|(_, held)| held.returning);
        asked.map(|(log, held)| (log, held.generation)).collect()
    }
}

fn pattern() -> LogPattern {
    "orders/*".parse().expect("a pattern")
}

fn name(group: &str) -> ReaderGroupName {
    group.parse().expect("a group's name")
}

#[test]
fn the_first_member_has_everything_and_the_second_gets_its_half_once_it_is_let_go_of() {
    let mut story = Story::of_logs(1..=4);
    let first = story.joins("billing");
    assert_eq!(story.has("billing", first), [(1, 1, false), (2, 1, false), (3, 1, false), (4, 1, false)]);

    let second = story.joins("billing");
    assert_eq!(story.has("billing", first), [(1, 1, false), (2, 1, false), (3, 1, true), (4, 1, true)]);
    assert!(story.has("billing", second).is_empty(), "two never have the same log");

    let returned = story.asked_for("billing", first);
    assert_eq!(story.tell(return_shares(&name("billing"), first, &returned)), Answer::Done(2));
    assert_eq!(story.has("billing", first), [(1, 1, false), (2, 1, false)]);
    assert_eq!(story.has("billing", second), [(3, 3, false), (4, 3, false)]);
}

#[test]
fn what_a_dead_member_had_is_given_at_a_higher_generation() {
    let mut story = Story::of_logs(1..=3);
    let (first, second) = (story.joins("billing"), story.joins("billing"));
    let returned = story.asked_for("billing", first);
    story.tell(return_shares(&name("billing"), first, &returned));
    let before = story.has("billing", first);
    assert_eq!(story.tell(drop_members(&name("billing"), &[first])), Answer::Done(1));
    let after: BTreeMap<u64, u64> = story.has("billing", second).iter().map(|(log, at, _)| (*log, *at)).collect();
    assert_eq!(after.len(), 3);
    for (log, generation, _) in before {
        assert!(after[&log] > generation, "log {log}: what the dead one commits has to be refused");
    }
    assert_eq!(story.tell(drop_members(&name("billing"), &[first])), Answer::Done(0), "again, nothing happens");
}

#[test]
fn who_does_not_let_go_in_time_loses_what_it_was_asked_for() {
    let mut story = Story::of_logs(1..=2);
    let (first, second) = (story.joins("billing"), story.joins("billing"));
    let asked = story.asked_for("billing", first);
    assert_eq!(asked.len(), 1);
    assert_eq!(story.tell(take_shares(&name("billing"), &asked)), Answer::Done(1));
    assert_eq!(story.has("billing", second).len(), 1);
    // The member's own word comes late: the log is another's by now.
    assert_eq!(story.tell(return_shares(&name("billing"), first, &asked)), Answer::Done(0));
    assert_eq!(story.has("billing", second).len(), 1);
}

#[test]
fn what_is_not_asked_for_any_more_is_not_taken() {
    let mut story = Story::of_logs(1..=2);
    let (first, second) = (story.joins("billing"), story.joins("billing"));
    let asked = story.asked_for("billing", first);
    story.tell(drop_members(&name("billing"), &[second]));
    assert_eq!(story.has("billing", first), [(1, 1, false), (2, 1, false)], "it may keep it");
    assert_eq!(story.tell(take_shares(&name("billing"), &asked)), Answer::Done(0));
    // It has let go all the same: it is given anew, at a higher generation.
    assert_eq!(story.tell(return_shares(&name("billing"), first, &asked)), Answer::Done(1));
    assert_eq!(story.has("billing", first), [(1, 1, false), (2, 4, false)]);
}

#[test]
fn a_repeated_join_gets_its_first_answer() {
    let mut story = Story::of_logs(1..=2);
    let joining = story.joining("billing");
    let first = story.tell(join(joining.clone(), &story.matched()));
    story.joins("billing");
    let before = story.registrar.clone();
    assert_eq!(story.tell(join(joining, &story.matched())), first);
    assert_eq!(story.registrar, before);
}

#[test]
fn other_patterns_are_refused_as_long_as_there_are_members() {
    let mut story = Story::of_logs(1..=2);
    let member = story.joins("billing");
    let other = Joining { pattern: "*".parse().expect("a pattern"), ..story.joining("billing") };
    let refused = story.refuses(join(other.clone(), &story.matched()));
    assert_eq!(refused, Refused::OtherPattern { pattern: "orders/*".to_owned() });
    story.tell(drop_members(&name("billing"), &[member]));
    assert!(matches!(story.tell(join(other, &story.matched())), Answer::Joined { .. }));
    assert_eq!(story.group("billing").pattern.as_str(), "*");
}

#[test]
fn a_group_without_logs_is_refused_unless_its_members_wait() {
    let mut story = Story::of_logs([]);
    let joining = story.joining("billing");
    assert_eq!(story.refuses(join(joining.clone(), &story.matched())), Refused::NoLogs);
    assert!(story.registrar.groups().is_empty());
    let waiting = Joining { may_wait: true, ..joining };
    let Answer::Joined { member, .. } = story.tell(join(waiting, &story.matched())) else { panic!("it waits") };
    story.logs.insert(7);
    story.version += 1;
    assert_eq!(story.tell(match_logs(&name("billing"), &pattern(), &story.matched())), Answer::Done(1));
    assert_eq!(story.has("billing", member), [(7, 2, false)]);
}

#[test]
fn an_older_copy_of_the_catalog_changes_nothing() {
    let mut story = Story::of_logs(1..=2);
    story.version = 5;
    let member = story.joins("billing");
    let older = Matched { version: 4, logs: vec![LogId::new(1)], left_out: 0 };
    assert_eq!(story.tell(match_logs(&name("billing"), &pattern(), &older)), Answer::Done(0));
    assert_eq!(story.has("billing", member).len(), 2);
    let newer = Matched { version: 6, ..older };
    assert_eq!(story.tell(match_logs(&name("billing"), &pattern(), &newer)), Answer::Done(1));
    assert_eq!(story.has("billing", member), [(1, 1, false)]);
}

#[test]
fn generations_go_on_after_a_group_was_forgotten() {
    let mut story = Story::of_logs(1..=2);
    let member = story.joins("billing");
    story.tell(drop_members(&name("billing"), &[member]));
    let last = story.registrar.generation();
    story.now += EMPTY_GROUP_EXPIRY_MS + 1;
    story.joins("audit");
    assert!(!story.registrar.groups().contains_key(&name("billing")), "nobody was in it for long");
    let again = story.joins("billing");
    assert!(story.has("billing", again).iter().all(|(_, generation, _)| *generation > last.get()));
    assert_ne!(again, member);
}

#[test]
fn too_many_are_refused_by_the_name_of_the_bound() {
    let mut story = Story::of_logs(1..=2);
    for _ in 0..3 {
        story.joins("billing");
    }
    let mut image = quipu_protocol::stored::Registrar::default();
    let stored: quipu_protocol::stored::Registrar =
        prost::Message::decode(story.registrar.image()).expect("its own image");
    image.clone_from(&stored);
    let last = image.groups[0].members.last().expect("a member").clone();
    image.next_member = 100 + MAX_MEMBERS as u64;
    for id in 100..100 + MAX_MEMBERS as u64 - 3 {
        image.groups[0].members.push(quipu_protocol::stored::ReaderMember { id, ..last.clone() });
    }
    story.registrar.install(&prost::Message::encode_to_vec(&image).into()).expect("it is within bounds");
    let joining = story.joining("billing");
    let refused = story.refuses(join(joining, &story.matched()));
    let limit = MAX_MEMBERS as u64;
    assert_eq!(refused, Refused::TooMany { bound: "reader_group_members", limit, actual: limit + 1 });

    let many = Matched { version: 1, logs: vec![LogId::new(1)], left_out: MAX_SHARES as u64 };
    let joining = story.joining("audit");
    let refused = story.refuses(join(joining, &many));
    let limit = MAX_SHARES as u64;
    assert_eq!(refused, Refused::TooMany { bound: "reader_group_logs", limit, actual: limit + 1 });
}

#[test]
fn groups_that_nobody_was_in_for_long_leave_room_for_new_ones() {
    let mut story = Story::of_logs(1..=2);
    let member = story.joins("billing");
    story.tell(drop_members(&name("billing"), &[member]));
    let mut image: quipu_protocol::stored::Registrar =
        prost::Message::decode(story.registrar.image()).expect("its own image");
    let empty = image.groups[0].clone();
    let of = |number| quipu_protocol::stored::ReaderGroup { name: format!("group-{number:05}"), ..empty.clone() };
    image.groups = (0..MAX_GROUPS).map(of).collect();
    story.registrar.install(&prost::Message::encode_to_vec(&image).into()).expect("it is within bounds");

    story.now += EMPTY_GROUP_EXPIRY_MS;
    let joining = story.joining("billing");
    let refused = story.refuses(join(joining, &story.matched()));
    let limit = MAX_GROUPS as u64;
    assert_eq!(refused, Refused::TooMany { bound: "reader_groups", limit, actual: limit + 1 });
    story.now += 1;
    story.joins("billing");
    assert_eq!(story.registrar.groups().len(), 1);
}

#[test]
fn command_of_a_newer_version_stops_the_replica() {
    let id = EntryId { term: Term::new(1), index: Index::new(1) };
    let unknown = quipu_protocol::stored::RegistrarCommand { stamp: 1, command: None };
    for bytes in [prost::Message::encode_to_vec(&unknown), vec![0xff; 8]] {
        Registrar::default().apply(id, &bytes.into()).expect_err("it cannot be applied");
    }
}

#[test]
fn an_image_that_no_registrar_comes_to_is_refused() {
    let mut story = Story::of_logs(1..=2);
    story.joins("billing");
    let mut image: quipu_protocol::stored::Registrar =
        prost::Message::decode(story.registrar.image()).expect("its own image");
    let refuses = |image: &quipu_protocol::stored::Registrar| {
        let image = prost::Message::encode_to_vec(image).into();
        Registrar::default().install(&image).expect_err("no registrar comes to that");
    };
    let counted = quipu_protocol::stored::Registrar { next_member: 1, ..image.clone() };
    refuses(&counted);
    let earlier = quipu_protocol::stored::Registrar { generation: 0, ..image.clone() };
    refuses(&earlier);
    refuses(&quipu_protocol::stored::Registrar { generation: u64::MAX, ..image.clone() });
    image.groups[0].members.clear();
    refuses(&image);
}

/// What may happen to a group.
#[derive(Clone, Debug)]
enum Step {
    Join,
    Drop(prop::sample::Index),
    Return(prop::sample::Index),
    Take(prop::sample::Index),
    Match(BTreeSet<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Join),
        2 => any::<prop::sample::Index>().prop_map(Step::Drop),
        4 => any::<prop::sample::Index>().prop_map(Step::Return),
        2 => any::<prop::sample::Index>().prop_map(Step::Take),
        1 => prop::collection::btree_set(1_u64..12, 1..10).prop_map(Step::Match),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_log_is_given_at_rising_generations_and_all_are_balanced_in_the_end(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut story = Story::of_logs(1..=7);
        story.joins("billing");
        // The highest generation at which each log was ever given, and to whom.
        let mut given: BTreeMap<LogId, (u64, MemberId)> = BTreeMap::new();
        let group = name("billing");
        for step in steps {
            let members: Vec<MemberId> = story.group("billing").members.keys().copied().collect();
            let one_of = |index: &prop::sample::Index| members.get(index.index(members.len().max(1))).copied();
            match step {
                Step::Join => drop(story.joins("billing")),
                Step::Drop(index) => if let Some(member) = one_of(&index) {
                    story.tell(drop_members(&group, &[member]));
                },
                Step::Return(index) => if let Some(member) = one_of(&index) {
                    let asked = story.asked_for("billing", member);
                    story.tell(return_shares(&group, member, &asked));
                },
                Step::Take(index) => if let Some(member) = one_of(&index) {
                    let asked = story.asked_for("billing", member);
                    story.tell(take_shares(&group, &asked));
                },
                Step::Match(logs) => {
                    (story.logs, story.version) = (logs, story.version + 1);
                    story.tell(match_logs(&group, &pattern(), &story.matched()));
                }
            }
            for (log, share) in &story.group("billing").shares {
                let held = share.held.expect("while there are members, no log is nobody's");
                let now = (held.generation.get(), held.member);
                let before = given.insert(*log, now);
                prop_assert!(before.is_none_or(|before| before == now || before.0 < now.0), "{:?} {:?}", before, now);
            }
            let image = story.registrar.image();
            let mut copy = Registrar::default();
            copy.install(&image).expect("its own image");
            prop_assert_eq!(&copy, &story.registrar);
        }
        // Everybody lets go: then all is as planned.
        story.joins("billing");
        loop {
            let members: Vec<MemberId> = story.group("billing").members.keys().copied().collect();
            let asked: Vec<_> = members.iter().map(|member| (*member, story.asked_for("billing", *member))).collect();
            if asked.iter().all(|(_, asked)| asked.is_empty()) {
                break;
            }
            for (member, asked) in asked {
                story.tell(return_shares(&group, member, &asked));
            }
        }
        let counts = story.group("billing").members.keys().map(|member| story.has("billing", *member).len());
        let counts: Vec<usize> = counts.collect();
        prop_assert!(counts.iter().max().expect("members") - counts.iter().min().expect("members") <= 1);
    }
}

mod vigils {
    use std::time::Duration;

    use super::super::vigil::Vigil;
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_is_silent_for_a_session_is_due_and_who_is_heard_of_is_not() {
        let mut story = Story::of_logs(1..=2);
        let (first, second) = (story.joins("billing"), story.joins("billing"));
        let (mut vigil, term) = (Vigil::default(), Term::new(1));
        assert_eq!(vigil.look(&story.registrar, term, seconds(10)).next, Some(seconds(16)));
        vigil.hear(first, term, seconds(14));
        let due = vigil.look(&story.registrar, term, seconds(16));
        assert_eq!(due.silent, BTreeMap::from([(name("billing"), vec![second])]));
        assert_eq!(due.next, Some(seconds(20)));
    }

    #[test]
    fn a_new_leader_gives_everyone_a_whole_session() {
        let mut story = Story::of_logs(1..=2);
        story.joins("billing");
        let mut vigil = Vigil::default();
        vigil.look(&story.registrar, Term::new(1), seconds(10));
        let due = vigil.look(&story.registrar, Term::new(3), seconds(16));
        assert!(due.silent.is_empty());
        assert_eq!(due.next, Some(seconds(22)));
    }

    #[test]
    fn a_leader_that_was_paused_gives_everyone_a_whole_session() {
        let mut story = Story::of_logs(1..=2);
        story.joins("billing");
        story.joins("billing");
        let (mut vigil, term) = (Vigil::default(), Term::new(1));
        assert_eq!(vigil.look(&story.registrar, term, seconds(10)).next, Some(seconds(16)));
        let mut punctual = Vigil::default();
        punctual.look(&story.registrar, term, seconds(10));
        let late = Duration::from_millis(16_250);
        let due = punctual.look(&story.registrar, term, late);
        assert_eq!((due.silent.len(), due.kept.len()), (1, 1), "it was only late");
        let due = vigil.look(&story.registrar, term, late + Duration::from_millis(1));
        assert!(due.silent.is_empty() && due.kept.is_empty());
        assert_eq!(due.next, Some(late + Duration::from_millis(6_001)));
        assert_eq!(vigil.look(&story.registrar, term, late + seconds(6) + Duration::from_millis(1)).silent.len(), 1);
    }

    #[test]
    fn what_is_not_let_go_of_is_due_after_a_session_though_its_member_lives() {
        let mut story = Story::of_logs(1..=2);
        let (first, second) = (story.joins("billing"), story.joins("billing"));
        let (mut vigil, term) = (Vigil::default(), Term::new(1));
        vigil.look(&story.registrar, term, seconds(10));
        for member in [first, second] {
            vigil.hear(member, term, seconds(15));
        }
        let due = vigil.look(&story.registrar, term, seconds(16));
        assert!(due.silent.is_empty());
        assert_eq!(due.kept, BTreeMap::from([(name("billing"), story.asked_for("billing", first))]));
    }
}
