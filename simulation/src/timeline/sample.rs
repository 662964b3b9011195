//! A made-up run with everything in it that a page has to show: five nodes, two
//! logs, leaders that change, every reach of faults, and a record that was
//! acknowledged and lost.

use std::time::Duration;

use super::Heading;
use crate::event::{Answer, Event, Phase, Role, Stop, What};
use crate::history::{Call, Operation, Outcome, Terms};
use crate::violation::Violation;

/// The record that is lost.
const LOST: u64 = 900_001;
const LOGS: [&str; 2] = ["orders", "payments"];

/// When it begins and ends, its kind, the nodes it strikes, its details.
type Fault = (u64, Option<u64>, &'static str, &'static [u64], &'static str);

/// All that a page is made from.
pub(super) struct Sample {
    pub(super) heading: Heading,
    pub(super) events: Vec<Event>,
    pub(super) operations: Vec<Operation>,
    pub(super) violations: Vec<Violation>,
}

impl Sample {
    pub(super) fn html(&self) -> String {
        super::html(&self.heading, &self.events, &self.operations, &self.violations)
    }
}

/// The run with so many clients, each of which waits about `pace` between its
/// calls.
pub(super) fn lost_record(clients: u64, pace: Duration) -> Sample {
    let mut story = Story { chance: 7, ..Story::default() };
    story.nodes();
    story.roles();
    story.faults();
    story.clients(clients, pace);
    story.judgement()
}

fn ms(at: u64) -> Duration {
    Duration::from_millis(at)
}

#[derive(Default)]
struct Story {
    chance: u64,
    events: Vec<Event>,
    operations: Vec<Operation>,
}

impl Story {
    /// A number below `bound` (xorshift).
    fn draw(&mut self, bound: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % bound
    }

    fn tell(&mut self, at: Duration, what: What) {
        self.events.push(Event { at, what });
    }

    fn nodes(&mut self) {
        let phases = [
            (0, Phase::Founding),
            (1_000, Phase::Chaos),
            (9_000, Phase::Healing),
            (9_800, Phase::Liveness),
            (11_400, Phase::Judgement),
        ];
        for (at, phase) in phases {
            self.tell(ms(at), What::Phase { phase });
        }
        for node in 1..=5 {
            self.started(node, 1, 2 + node);
        }
        let stops = [
            (3, 4_210, Stop::PowerLost, 5_020, 2),
            (5, 6_400, Stop::Killed, 6_950, 2),
            (1, 7_600, Stop::Failed, 9_060, 2),
            (3, 7_900, Stop::ShutDown, 8_150, 3),
        ];
        for (node, at, how, again, boot) in stops {
            self.tell(ms(at), What::Stopped { node, how, why: None });
            self.started(node, boot, again);
        }
    }

    fn started(&mut self, node: u64, boot: u64, at: u64) {
        self.tell(ms(at), What::Started { node, boot });
        let took = 90 + self.draw(80);
        self.tell(ms(at + took), What::Serves { node });
    }

    fn roles(&mut self) {
        // Term, its beginning, who leads, and who hears of it.
        let catalog: &[(u64, u64, u64, &[u64])] = &[
            (1, 160, 1, &[2, 3, 4, 5]),
            (2, 2_080, 4, &[3, 5]),
            (2, 3_130, 4, &[1, 2]),
            (2, 5_180, 4, &[3]),
            (2, 7_100, 4, &[5]),
            (2, 8_300, 4, &[3]),
            (2, 9_230, 4, &[1]),
        ];
        let orders: &[(u64, u64, u64, &[u64])] = &[
            (1, 420, 1, &[2, 3]),
            (3, 2_140, 3, &[]),
            (3, 3_150, 3, &[1, 2]),
            (4, 4_480, 2, &[1]),
            (4, 5_200, 2, &[3]),
            (6, 7_950, 2, &[]),
            (7, 8_330, 3, &[2]),
            (7, 9_260, 3, &[1]),
        ];
        let payments: &[(u64, u64, u64, &[u64])] = &[(1, 470, 5, &[2, 4]), (2, 6_610, 4, &[2]), (2, 7_130, 4, &[5])];
        for (group, terms) in [(0, catalog), (1, orders), (2, payments)] {
            for (term, at, leader, followers) in terms {
                self.role(*at, *leader, group, Role::Leader, *term);
                for follower in *followers {
                    let later = at + 4 + self.draw(9);
                    self.role(later, *follower, group, Role::Follower, *term);
                }
            }
        }
        self.role(5_700, 4, 1, Role::Learner, 4);
        self.role(7_970, 4, 1, Role::Learner, 6);
        self.role(8_340, 4, 1, Role::Follower, 7);
    }

    fn role(&mut self, at: u64, node: u64, group: u64, role: Role, term: u64) {
        self.tell(ms(at), What::Role { node, group, replica: group * 10 + node, role, term });
    }

    fn faults(&mut self) {
        let faults: &[Fault] = &[
            (1_800, Some(3_100), "partition", &[1, 2], "{1, 2} cannot reach {3, 4, 5}, nor they them"),
            (3_500, Some(5_300), "slow-disk", &[4], "each fdatasync takes 40 to 90 ms longer"),
            (4_210, None, "power-loss", &[3], "unsynced: 3 of 5 sectors of 1.journal lost, 1 torn"),
            (5_600, None, "bit-flip", &[2], "bit 3 of byte 18,442 of 2.journal, in an entry of orders"),
            (5_500, Some(7_050), "delay", &[1, 2, 3, 4, 5], "15 to 60 ms more on every link"),
            (6_400, None, "kill", &[5], "SIGKILL between vote and answer"),
            (6_800, Some(7_400), "clock-skew", &[2], "the wall clock is 4 s ahead"),
            (7_590, None, "fsync-error", &[1], "EIO from the next fdatasync"),
            (5_650, None, "add-learner", &[4], "orders gets a fourth replica"),
            (7_900, Some(8_400), "one-way-partition", &[2], "2 hears, and is not heard by 3"),
        ];
        for (number, (at, ends, kind, nodes, details)) in (1..).zip(faults) {
            let begins = What::FaultBegins {
                fault: number,
                kind: (*kind).to_owned(),
                nodes: nodes.to_vec(),
                details: (*details).to_owned(),
            };
            self.tell(ms(*at), begins);
            if let Some(ends) = ends {
                self.tell(ms(*ends), What::FaultEnds { fault: number });
            }
        }
        let marks = [
            (2_145, "leader change with appends in flight"),
            (4_212, "power loss between write and fsync"),
            (5_210, "truncation of a divergent tail"),
            (6_020, "corrupt entry repaired from a peer"),
            (8_352, "dedupe hit on a new leader"),
        ];
        for (at, mark) in marks {
            self.tell(ms(at), What::Mark { mark: mark.to_owned() });
        }
    }

    fn clients(&mut self, clients: u64, pace: Duration) {
        for (client, log) in (1..).zip(LOGS) {
            let at = ms(380 + 40 * client);
            self.call(client, log, Call::Create { replicas: 3 }, at, Some(ms(60)), Outcome::Created);
        }
        let micros = u64::try_from(pace.as_micros()).unwrap_or(u64::MAX).max(2);
        let mut value = 0;
        for client in 1..=clients {
            let log = LOGS[usize::from(client % 3 == 0)];
            let mut at = ms(700 + 13 * client);
            while at < ms(11_300) {
                let took = Duration::from_micros(3_000 + self.draw(18_000));
                let (took, outcome) = self.answer(at, log, took, value);
                let call = match (self.draw(10), &outcome) {
                    (0..=6, _) | (_, Outcome::Appended { .. }) => {
                        Call::Append { producer: client, values: vec![value], terms: Terms::default() }
                    }
                    (7, _) => Call::End,
                    _ => Call::Read { from: value.saturating_sub(20), max: 10, local: value % 2 == 0 },
                };
                let outcome = match (&call, outcome) {
                    (Call::End, Outcome::Appended { end, .. }) => Outcome::End { end },
                    (_, outcome) => outcome,
                };
                self.call(client, log, call, at, took, outcome);
                value += 1;
                // Now and then a client does not wait for its answer.
                let waits = if self.draw(6) == 0 { Duration::ZERO } else { took.unwrap_or_default() };
                at += waits + Duration::from_micros(micros / 2 + self.draw(micros));
            }
        }
        let lost = Call::Append { producer: 2, values: vec![LOST], terms: Terms::default() };
        self.call(2, "orders", lost, ms(4_190), Some(ms(14)), Outcome::Appended { start: 1_204, end: 1_205 });
        let read = Call::Read { from: 1_200, max: 10, local: false };
        let records = (1_200..1_210).map(|offset| (offset, offset - 700 + u64::from(offset > 1_203))).collect();
        self.call(1, "orders", read, ms(11_620), Some(ms(19)), Outcome::Read { records });
    }

    /// What becomes of a call to a log at a moment, and how long that takes.
    fn answer(&mut self, at: Duration, log: &str, took: Duration, value: u64) -> (Option<Duration>, Outcome) {
        let leaderless: &[(u64, u64)] = match log {
            "orders" => &[(1_800, 2_140), (4_200, 4_480), (7_590, 7_960), (8_000, 8_330)],
            _ => &[(6_390, 6_610)],
        };
        let (from, to) = (at, at + took);
        if let Some((_, ends)) = leaderless.iter().find(|(begins, ends)| from < ms(*ends) && to > ms(*begins)) {
            let wait = ms(*ends).saturating_sub(at) + took;
            return match self.draw(8) {
                0 => (None, Outcome::Pending),
                1..=3 => (Some(wait + ms(400)), Outcome::Unknown { why: "deadline of 1 s passed".to_owned() }),
                4 => (Some(took), Outcome::Failed { why: "not the leader, which is not known".to_owned() }),
                _ => (Some(wait), Outcome::Appended { start: value, end: value + 1 }),
            };
        }
        (Some(took), Outcome::Appended { start: value, end: value + 1 })
    }

    fn call(&mut self, client: u64, log: &str, call: Call, at: Duration, took: Option<Duration>, outcome: Outcome) {
        let invoked = at;
        let completed = took.map(|took| at + took);
        self.operations.push(Operation { id: 0, client, log: log.to_owned(), call, invoked, completed, outcome });
    }

    fn judgement(mut self) -> Sample {
        self.operations.sort_by_key(|operation| operation.invoked);
        for (id, operation) in (0..).zip(&mut self.operations) {
            operation.id = id;
            let invoked = What::Invoked {
                operation: id,
                client: operation.client,
                log: operation.log.clone(),
                call: format!("{:?}", operation.call),
            };
            self.events.push(Event { at: operation.invoked, what: invoked });
            if let Some(at) = operation.completed {
                let answer = match operation.outcome {
                    Outcome::Failed { .. } => Answer::Failed,
                    Outcome::Unknown { .. } => Answer::Unknown,
                    _ => Answer::Done,
                };
                let details = format!("{:?}", operation.outcome);
                self.events.push(Event { at, what: What::Completed { operation: id, answer, details } });
            }
        }
        let appended =
            |operation: &&Operation| matches!(&operation.call, Call::Append { values, .. } if values == &[LOST]);
        let append = self.operations.iter().find(appended).map_or(0, |operation| operation.id);
        let read = self.operations.len() as u64 - 1;
        let details = format!(
            "orders: the append #{append} of value {LOST} was acknowledged at offset 1204, and the read #{read} of \
             1200..1210 holds another value there. No replica holds {LOST}: not 1, not 2, not 3, not 4."
        );
        let violation = Violation::new("no-lost-record", details).shown_by([append, read]);
        let violated =
            What::Violated { promise: violation.promise.clone(), details: violation.details.clone(), node: Some(3) };
        self.tell(ms(11_640), violated);
        self.tell(ms(12_000), What::Stopped { node: 1, how: Stop::ShutDown, why: None });
        self.events.sort_by_key(|event| event.at);
        Sample { heading: heading(), events: self.events, operations: self.operations, violations: vec![violation] }
    }
}

fn heading() -> Heading {
    let settings = [
        ("nodes", "5"),
        ("logs", "2"),
        ("replicas", "3"),
        ("clients", "4"),
        ("faults", "network, node, disk, operations"),
        ("chaos", "8 s"),
        ("election timeout", "300 ms"),
        ("heartbeat", "50 ms"),
        ("call deadline", "1 s"),
        ("segment", "4 MiB"),
        ("sector", "512 B"),
        ("latency", "1 to 12 ms"),
    ];
    let promise = "What was acknowledged stays: every record of an acknowledged append is read back by everybody.";
    Heading {
        seed: 4_711,
        commit: "d4c2fd5".to_owned(),
        replay: "cargo run --release -p quipu-simulation --bin simulate -- --seed 4711 --nodes 5 --chaos 8s".to_owned(),
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        groups: vec![(1, "orders".to_owned()), (2, "payments".to_owned())],
        promises: vec![("no-lost-record".to_owned(), promise.to_owned())],
    }
}
