//! Everything that a seed decides before a run begins.
//!
//! A scenario is plain data: it can be printed, kept, and made smaller by
//! leaving things out, which is how a failure is shrunk. What happens *during*
//! a run (latencies, choices of targets) is drawn from the seed as well, and
//! from the scenario's own draws, so that a smaller scenario is a run of its
//! own that is just as repeatable.

mod specials;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::faults::Kind;

/// What a run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// The seed that it was drawn from, and that the run draws from.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: u64,
    /// The logs that are created at the beginning.
    pub logs: Vec<LogPlan>,
    /// The nodes' settings that differ from their defaults.
    pub settings: BTreeMap<String, u64>,
    /// How the hosts and the world between them are timed.
    pub timing: Timing,
    /// What clients do, one host each.
    pub clients: Vec<ClientPlan>,
    /// What goes wrong, in the order in which it begins.
    pub faults: Vec<FaultPlan>,
}

/// A log that is created at the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// Its name.
    pub name: String,
    /// How many replicas it has.
    pub replicas: u32,
    /// It keeps so many bytes of batches; all without.
    #[serde(default)]
    pub retention_bytes: Option<u64>,
    /// It keeps records for so many milliseconds; for ever without.
    #[serde(default)]
    pub retention_ms: Option<u64>,
    /// It takes nothing without a writer epoch.
    #[serde(default)]
    pub exclusive: bool,
}

impl LogPlan {
    /// A log that nobody but a client trims.
    pub(crate) const fn keeping_all(name: String, replicas: u32) -> Self {
        Self { name, replicas, retention_bytes: None, retention_ms: None, exclusive: false }
    }

    /// Whether it lets go of records by itself.
    pub(crate) const fn forgets(&self) -> bool {
        self.retention_bytes.is_some() || self.retention_ms.is_some()
    }
}

/// How a run is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Every host runs for so long at a time, in milliseconds.
    pub tick_ms: u64,
    /// The longest that a message takes on a good link, in milliseconds.
    pub latency_ms: u64,
    /// The shortest and the longest that an operation of a disk takes, in
    /// microseconds.
    pub disk_us: (u64, u64),
    /// How long faults strike, in milliseconds.
    pub chaos_ms: u64,
}

/// What one client does, all at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPlan {
    /// Its jobs.
    pub jobs: Vec<Job>,
}

/// Something that a client does again and again while faults strike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// Appends batches.
    Append {
        /// To this log, by its position.
        log: usize,
        /// Batches have up to so many records.
        batch_records: u64,
        /// Values have up to so many bytes.
        value_bytes: usize,
        /// So many appends are under way at a time.
        in_flight: usize,
        /// Pauses between two appends are drawn up to this.
        pause_ms: u64,
        /// After this time an append's outcome is unknown.
        delivery_timeout_ms: u64,
        /// Whether a retry lands once.
        idempotent: bool,
        /// 0 none, 1 lz4, 2 zstd, 3 gzip, 4 snappy.
        compression: u8,
    },
    /// Reads a few records at a time, anywhere.
    Read {
        /// From this log, by its position.
        log: usize,
        /// Up to so many records at a time.
        max_records: u64,
        /// From any replica.
        local: bool,
        /// Pauses between two reads are drawn up to this.
        pause_ms: u64,
    },
    /// Follows a log from its start.
    Tail {
        /// This one, by its position.
        log: usize,
        /// From any replica.
        local: bool,
    },
    /// Asks where a log ends.
    End {
        /// This one, by its position.
        log: usize,
        /// Pauses between two questions are drawn up to this.
        pause_ms: u64,
    },
    /// Holds a lease and reads what it keeps.
    Lease {
        /// Of this log, by its position.
        log: usize,
        /// Pauses between two steps are drawn up to this.
        pause_ms: u64,
    },
    /// Asks for barriers, reads any replica after them, and asks how old replicas
    /// are.
    Barrier {
        /// Of this log, by its position.
        log: usize,
        /// Pauses between two steps are drawn up to this.
        pause_ms: u64,
    },
    /// Sends appends as they are on the wire: each several times, through
    /// several nodes, with the same producer and sequence.
    Repeat {
        /// To this log, by its position.
        log: usize,
        /// Pauses between two appends are drawn up to this.
        pause_ms: u64,
    },
    /// Lets appends arrive again, or for the first time, when they must not land any
    /// more.
    Late {
        /// To this log, by its position.
        log: usize,
        /// Pauses between two appends are drawn up to this.
        pause_ms: u64,
    },
    /// Trims a log, having read what it trims.
    Trim {
        /// This one, by its position.
        log: usize,
        /// Leaves up to so many of the records that it knows.
        keep: u64,
        /// Pauses between two trims are drawn up to this.
        pause_ms: u64,
    },
    /// Reads everything, to remember it when the log has let go of it.
    Remember {
        /// From this log, by its position.
        log: usize,
        /// Pauses between two looks are drawn up to this.
        pause_ms: u64,
    },
    /// Fights with others for a log's writer epoch, and appends under it.
    Fight {
        /// For this log, by its position.
        log: usize,
        /// Pauses between two appends are drawn up to this.
        pause_ms: u64,
    },
    /// Moves a cursor of its own.
    Cursors {
        /// Of this log, by its position.
        log: usize,
        /// Pauses between two steps are drawn up to this.
        pause_ms: u64,
    },
    /// Carries records of a log over to another one, each once, in competition with
    /// others.
    Pipeline {
        /// From this log, by its position.
        from: usize,
        /// To this one.
        log: usize,
        /// Pauses between two appends are drawn up to this.
        pause_ms: u64,
    },
    /// Reads as a member of a reader group, and leaves, vanishes or sleeps.
    Group {
        /// Of this group, by its number.
        group: usize,
        /// Pauses between two reads are drawn up to this.
        pause_ms: u64,
    },
    /// Creates a log, uses it a little, deletes it, and begins again under the
    /// same name.
    Recreate {
        /// With so many replicas.
        replicas: u32,
        /// Pauses between two steps are drawn up to this.
        pause_ms: u64,
    },
    /// Creates logs.
    Create {
        /// So many.
        logs: u64,
        /// With so many replicas.
        replicas: u32,
        /// Pauses between two are drawn up to this.
        pause_ms: u64,
    },
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPlan {
    /// Its number in the run.
    pub number: u64,
    /// When it begins, in milliseconds after the chaos began.
    pub at_ms: u64,
    /// How long it lasts, where it does.
    pub lasts_ms: u64,
    /// What it is.
    pub kind: Kind,
    /// What its choices (of a node, of a byte) follow from.
    pub draw: u64,
}

/// The least that a log's messages may hold, and with it what the smallest
/// segments of the journal hold.
const LARGEST_BATCH_BYTES: u64 = 1 << 20;

/// One run in so many has faults of single messages between nodes.
const ONE_IN_RELAYED: u32 = 3;
/// Tells their draws from the scenario's others.
const OF_MESSAGES: u64 = 1 << 63;
impl Scenario {
    /// The scenario of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let nodes = *[1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5, 6, 7].choose(&mut chance).expect("not empty");
        let logs: Vec<LogPlan> = (0..chance.random_range(1..=3))
            .map(|number| LogPlan::keeping_all(format!("log-{number}"), replicas(&mut chance, nodes)))
            .collect();
        let timing = Timing {
            tick_ms: *[1, 2, 2, 5, 5].choose(&mut chance).expect("not empty"),
            latency_ms: *[1, 2, 5, 10, 25].choose(&mut chance).expect("not empty"),
            disk_us: *[(20, 200), (50, 1_000), (500, 5_000), (1_000, 15_000)].choose(&mut chance).expect("not empty"),
            chaos_ms: chance.random_range(3_000..=12_000),
        };
        let mut settings = settings(&mut chance, &timing);
        let clients = (0..chance.random_range(1..=3)).map(|_| client(&mut chance, logs.len(), nodes)).collect();
        let mut faults = faults(&mut chance, timing.chaos_ms, nodes, &settings);
        faults.extend(faults_of_messages(seed, timing.chaos_ms, nodes, faults.len(), &settings));
        faults.sort_by_key(|fault| fault.at_ms);
        // Drawn last, so that a seed gives what it gave before this was drawn.
        if chance.random_range(0..4) == 0 {
            settings.insert("journal.staged_bytes".to_owned(), (64 << 10) * chance.random_range(1..=8));
        }
        Self { seed, nodes, logs, settings, timing, clients, faults }
            .with_rot()
            .with_copies_to_spare()
            .with_trims()
            .with_disks_that_fill()
            .with_retention()
            .with_brief_logs()
            .with_primaries()
            .with_late_appends()
            .with_cursors()
            .with_reader_groups()
            .with_branches()
            .with_barriers()
            .with_leases()
    }

    /// Whether what nodes send each other passes through relays.
    pub(crate) fn has_relays(&self) -> bool {
        self.faults.iter().any(|fault| fault.kind.needs_relays())
    }

    /// The longest time without a leader after which a follower campaigns.
    pub fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.get("raft.election_timeout_max_ms").copied().unwrap_or(1_000))
    }

    /// The settings, a line each, for a person.
    pub fn summary(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            ("nodes".to_owned(), self.nodes.to_string()),
            (
                "logs".to_owned(),
                self.logs.iter().map(|log| format!("{} ×{}", log.name, log.replicas)).collect::<Vec<_>>().join(", "),
            ),
            ("clients".to_owned(), format!("{} with {} jobs", self.clients.len(), self.jobs())),
            ("chaos".to_owned(), format!("{} ms, {} faults", self.timing.chaos_ms, self.faults.len())),
            ("tick".to_owned(), format!("{} ms", self.timing.tick_ms)),
            ("latency".to_owned(), format!("up to {} ms", self.timing.latency_ms)),
            ("disk".to_owned(), format!("{} to {} µs an operation", self.timing.disk_us.0, self.timing.disk_us.1)),
        ];
        lines.extend(self.settings.iter().map(|(key, value)| (key.clone(), value.to_string())));
        lines
    }

    fn jobs(&self) -> usize {
        self.clients.iter().map(|client| client.jobs.len()).sum()
    }
}

fn replicas(chance: &mut StdRng, nodes: u64) -> u32 {
    let most = u32::try_from(nodes.min(5)).expect("at most five");
    match chance.random_range(0..4) {
        0 => chance.random_range(1..=most),
        _ => most.min(3),
    }
}

fn settings(chance: &mut StdRng, timing: &Timing) -> BTreeMap<String, u64> {
    // A heartbeat has to arrive in time on the slowest good link and disk.
    let slowest_ms = timing.latency_ms * 2 + timing.tick_ms * 2 + timing.disk_us.1 / 1_000;
    let heartbeat = chance.random_range(40..=120_u64).max(slowest_ms);
    let election_min = heartbeat * chance.random_range(3..=5);
    let election_max = election_min + heartbeat * chance.random_range(2..=5);
    let mut set = BTreeMap::from([
        ("raft.heartbeat_ms".to_owned(), heartbeat),
        ("raft.election_timeout_min_ms".to_owned(), election_min),
        ("raft.election_timeout_max_ms".to_owned(), election_max),
        ("log.max_batch_bytes".to_owned(), LARGEST_BATCH_BYTES),
        ("log.largest_max_batch_bytes".to_owned(), LARGEST_BATCH_BYTES),
        ("log.append_queue_bytes".to_owned(), LARGEST_BATCH_BYTES * chance.random_range(1..=8)),
        ("journal.segment_bytes".to_owned(), *[2 << 20, 2 << 20, 4 << 20].choose(chance).expect("not empty")),
        ("journal.tail_cache_bytes".to_owned(), 1 << 20),
        ("raft.checkpoint_bytes".to_owned(), 1 << *[10, 12, 16, 20, 26].choose(chance).expect("not empty")),
        ("raft.replication_bytes".to_owned(), 1 << *[10, 14, 20, 20].choose(chance).expect("not empty")),
        ("server.shutdown_grace_ms".to_owned(), chance.random_range(100..=2_000)),
    ]);
    if chance.random_range(0..4) == 0 {
        set.insert("server.read_response_bytes".to_owned(), 1 << chance.random_range(10..=16));
    }
    if chance.random_range(0..4) == 0 {
        set.insert("server.append_stream_appends".to_owned(), chance.random_range(1..=16));
    }
    set
}

fn client(chance: &mut StdRng, logs: usize, nodes: u64) -> ClientPlan {
    // Whoever else does what, somebody appends.
    let mut jobs = vec![append(chance, logs)];
    for _ in 0..chance.random_range(2..=4) {
        jobs.push(job(chance, logs, nodes));
    }
    ClientPlan { jobs }
}

fn append(chance: &mut StdRng, logs: usize) -> Job {
    Job::Append {
        log: chance.random_range(0..logs),
        batch_records: *[1, 1, 3, 10, 50].choose(chance).expect("not empty"),
        value_bytes: *[16, 16, 200, 2_000, 20_000].choose(chance).expect("not empty"),
        in_flight: *[1, 1, 4, 16].choose(chance).expect("not empty"),
        pause_ms: *[5, 20, 50, 200].choose(chance).expect("not empty"),
        delivery_timeout_ms: *[300, 1_000, 3_000, 10_000].choose(chance).expect("not empty"),
        idempotent: chance.random_range(0..5) > 0,
        compression: *[0, 0, 0, 1, 2, 3, 4].choose(chance).expect("not empty"),
    }
}

fn job(chance: &mut StdRng, logs: usize, nodes: u64) -> Job {
    let log = chance.random_range(0..logs);
    let pause_ms = *[20, 50, 200, 500].choose(chance).expect("not empty");
    match chance.random_range(0..9) {
        0 | 1 => append(chance, logs),
        2 | 3 => Job::Read { log, max_records: chance.random_range(1..=40), local: chance.random(), pause_ms },
        4 | 5 => Job::Tail { log, local: chance.random() },
        6 => Job::End { log, pause_ms },
        7 => Job::Repeat { log, pause_ms },
        _ => Job::Create { logs: chance.random_range(1..=3), replicas: replicas(chance, nodes), pause_ms: 1_000 },
    }
}

fn faults(chance: &mut StdRng, chaos_ms: u64, nodes: u64, settings: &BTreeMap<String, u64>) -> Vec<FaultPlan> {
    let share = *[15, 30, 60].choose(chance).expect("not empty");
    let possible = Kind::ALL.iter().copied().filter(|kind| nodes >= kind.least_nodes());
    let possible = possible.filter(|kind| !kind.needs_relays() && !kind.needs_scrubs());
    let on: Vec<Kind> = possible.filter(|_| chance.random_range(0..100) < share).collect();
    plan(chance, &on, chaos_ms, settings)
}

/// When faults of these kinds begin, and how long they last.
fn plan(chance: &mut StdRng, on: &[Kind], chaos_ms: u64, settings: &BTreeMap<String, u64>) -> Vec<FaultPlan> {
    // The longest pause between the beginnings of two faults.
    let pause_ms = *[300, 800, 2_000].choose(chance).expect("not empty");
    let mut planned = Vec::new();
    let mut at_ms = 0;
    while let Some(kind) = on.choose(chance) {
        at_ms += chance.random_range(10..=pause_ms);
        if at_ms >= chaos_ms {
            break;
        }
        planned.push(FaultPlan {
            number: planned.len() as u64,
            at_ms,
            lasts_ms: lasts_ms(chance, *kind, settings),
            kind: *kind,
            draw: chance.random(),
        });
    }
    planned
}

/// What happens to single messages, in one run of [`ONE_IN_RELAYED`]: relays
/// take their time. Drawn apart from all else, which is the same without it.
fn faults_of_messages(
    seed: u64,
    chaos_ms: u64,
    nodes: u64,
    others: usize,
    settings: &BTreeMap<String, u64>,
) -> Vec<FaultPlan> {
    let mut chance = StdRng::seed_from_u64(seed ^ OF_MESSAGES);
    if chance.random_range(0..ONE_IN_RELAYED) > 0 {
        return Vec::new();
    }
    let possible: Vec<Kind> =
        Kind::ALL.iter().copied().filter(|kind| kind.needs_relays() && nodes >= kind.least_nodes()).collect();
    let on: Vec<Kind> = possible.into_iter().filter(|_| chance.random_range(0..3) > 0).collect();
    let mut planned = plan(&mut chance, &on, chaos_ms, settings);
    for (number, fault) in (others as u64..).zip(&mut planned) {
        fault.number = number;
    }
    planned
}

fn lasts_ms(chance: &mut StdRng, kind: Kind, settings: &BTreeMap<String, u64>) -> u64 {
    if kind != Kind::Pause {
        return *[50, 300, 1_000, 3_000].choose(chance).expect("not empty");
    }
    // From one that nobody notices to one after which all is different.
    let (heartbeat, election) = (settings["raft.heartbeat_ms"], settings["raft.election_timeout_max_ms"]);
    *[heartbeat / 2, 2 * heartbeat, election, 2 * election, 5 * election].choose(chance).expect("not empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_scenario_and_another_seed_another() {
        assert_eq!(Scenario::draw(1), Scenario::draw(1));
        assert_ne!(Scenario::draw(1), Scenario { seed: 1, ..Scenario::draw(2) });
    }

    #[test]
    fn every_scenario_is_one_that_nodes_can_be_configured_with() {
        for seed in 0..2_000 {
            let scenario = Scenario::draw(seed);
            crate::cluster::node_config(&scenario, 1).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let text = serde_json::to_string(&scenario).expect("plain data");
            assert_eq!(serde_json::from_str::<Scenario>(&text).expect("plain data"), scenario);
        }
    }

    #[test]
    fn some_runs_have_faults_of_messages_and_most_have_no_relays() {
        let scenarios: Vec<Scenario> = (0..600).map(Scenario::draw).collect();
        let relayed = scenarios.iter().filter(|scenario| scenario.has_relays()).count();
        assert!((100..300).contains(&relayed), "{relayed} of 600");
        assert!(scenarios.iter().all(|scenario| scenario.nodes > 1 || !scenario.has_relays()));
        for scenario in scenarios {
            let numbers: std::collections::BTreeSet<u64> = scenario.faults.iter().map(|fault| fault.number).collect();
            assert_eq!(numbers.len(), scenario.faults.len(), "no number twice: {:?}", scenario.faults);
            assert!(scenario.faults.is_sorted_by_key(|fault| fault.at_ms));
        }
    }
}
