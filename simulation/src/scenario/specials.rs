//! What some scenarios have besides what all are made of. Each is drawn by
//! itself, so that all else is as it would be without.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::{FaultPlan, Job, LogPlan, Scenario};
use crate::faults::Kind;
use crate::workloads::groups::{GROUPS, SHARED};
use crate::workloads::pipeline::OUTPUT;

/// Disks rot in one run of so many.
const ONE_IN_ROTTING: u32 = 4;
/// Logs let go of records by themselves in one run of so many.
const ONE_IN_FORGETTING: u32 = 4;
/// Logs are deleted and created anew in one run of so many.
const ONE_IN_BRIEF: u32 = 4;

/// Primaries fight over a log in one run of so many.
const ONE_IN_FOUGHT_OVER: u32 = 4;
/// Appends arrive late in one run of so many of the others.
const ONE_IN_LATE: u32 = 4;
/// Clients move cursors, and pipelines compete, in one run of so many.
const ONE_IN_CURSORS: u32 = 4;

/// Groups of readers share logs in one run of so many.
const ONE_IN_GROUPED: u32 = 4;

/// Leaders are cut off with entries that others lack in one run of so many.
const ONE_IN_BRANCHING: u32 = 8;

/// Clients hold leases in one run of so many in which something is trimmed.
const ONE_IN_LEASED: u32 = 2;
/// Clients ask for barriers in one run of so many.
const ONE_IN_BARRED: u32 = 3;
/// And leaders are cut off one after the other in one of so many of these.
const ONE_IN_CUT_OFF: u32 = 4;

/// Tells the draws of rot from all others.
const OF_ROT: u64 = 1 << 62;
/// Those of trims.
const OF_TRIMS: u64 = 0x7213;
/// Those of retention.
const OF_RETENTION: u64 = 1 << 61;
/// Those of logs that are deleted.
const OF_BRIEF_LOGS: u64 = 1 << 60;

/// Those of primaries.
const OF_PRIMARIES: u64 = 1 << 59;
/// Those of appends that arrive late.
const OF_LATE_APPENDS: u64 = 0x1a7e;
/// Those of branches.
const OF_BRANCHES: u64 = 1 << 55;

/// Those of reader groups.
const OF_READER_GROUPS: u64 = 1 << 57;

/// Those of cursors.
const OF_CURSORS: u64 = 1 << 58;

/// Those of leases.
const OF_LEASES: u64 = 0x1ea5;
/// Those of barriers.
const OF_BARRIERS: u64 = 0x6241;

/// So many replicas can do without one.
const SPARE: u32 = 3;

impl Scenario {
    /// In some scenarios disks rot or are misread, and nodes read what they have
    /// again and again.
    pub(super) fn with_rot(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_ROT);
        if self.nodes < Kind::Rot.least_nodes() || chance.random_range(0..ONE_IN_ROTTING) > 0 {
            return self;
        }
        self.settings.insert("storage.scrub_bytes_per_second".to_owned(), 1 << chance.random_range(22..=27));
        self.settings.insert("storage.scrub_interval_ms".to_owned(), 1_000);
        let mut at_ms = 0;
        loop {
            at_ms += chance.random_range(1_000..=3_000);
            if at_ms >= self.timing.chaos_ms {
                break;
            }
            let lasts_ms = *[4_000, 6_000].choose(&mut chance).expect("not empty");
            let number = self.faults.len() as u64;
            let kind = *[Kind::Rot, Kind::Rot, Kind::Misread].choose(&mut chance).expect("not empty");
            self.faults.push(FaultPlan { number, at_ms, lasts_ms, kind, draw: chance.random() });
        }
        self.faults.sort_by_key(|fault| fault.at_ms);
        // Only what is sealed is looked at.
        self.with_much_to_append()
    }

    /// In some scenarios clients trim.
    pub(super) fn with_trims(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_TRIMS);
        if chance.random_range(0..5) < 2 {
            let logs = self.logs.len();
            for client in &mut self.clients {
                client.jobs.push(Job::Trim {
                    log: chance.random_range(0..logs),
                    keep: *[0, 5, 40].choose(&mut chance).expect("not empty"),
                    pause_ms: *[100, 300, 1_000].choose(&mut chance).expect("not empty"),
                });
            }
            let step = *[1, 4_096, 65_536].choose(&mut chance).expect("not empty");
            self.settings.insert("log.floor_step_bytes".to_owned(), step);
        }
        self
    }

    /// In some scenarios logs let go of records by themselves.
    pub(super) fn with_retention(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_RETENTION);
        if chance.random_range(0..ONE_IN_FORGETTING) > 0 {
            return self;
        }
        for (log, plan) in self.logs.iter_mut().enumerate() {
            let (by_bytes, by_age) = *[(true, false), (true, false), (false, true), (true, true), (false, false)]
                .choose(&mut chance)
                .expect("not empty");
            plan.retention_bytes =
                by_bytes.then(|| *[10_000, 100_000, 1_000_000].choose(&mut chance).expect("not empty"));
            plan.retention_ms = by_age.then(|| *[500, 2_000, 5_000].choose(&mut chance).expect("not empty"));
            let pause_ms = *[20, 100, 500].choose(&mut chance).expect("not empty");
            if let Some(client) = self.clients.first_mut().filter(|_| plan.forgets()) {
                client.jobs.push(Job::Remember { log, pause_ms });
            }
        }
        let step = *[1, 4_096, 65_536].choose(&mut chance).expect("not empty");
        self.settings.entry("log.floor_step_bytes".to_owned()).or_insert(step);
        if chance.random() { self.with_much_to_append() } else { self }
    }

    /// In some scenarios logs are deleted and created anew.
    pub(super) fn with_brief_logs(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_BRIEF_LOGS);
        if chance.random_range(0..ONE_IN_BRIEF) > 0 {
            return self;
        }
        let replicas = super::replicas(&mut chance, self.nodes);
        for client in &mut self.clients {
            let pause_ms = *[50, 200, 500].choose(&mut chance).expect("not empty");
            client.jobs.push(Job::Recreate { replicas, pause_ms });
        }
        self.with_copies_to_spare()
    }

    /// In some scenarios clients fight over a log of their own.
    pub(super) fn with_primaries(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_PRIMARIES);
        if chance.random_range(0..ONE_IN_FOUGHT_OVER) > 0 {
            return self;
        }
        let log = self.logs.len();
        let plan = LogPlan::keeping_all("fought-over".to_owned(), super::replicas(&mut chance, self.nodes));
        let retention_bytes = *[None, Some(2_000), Some(20_000)].choose(&mut chance).expect("not empty");
        self.logs.push(LogPlan { exclusive: true, retention_bytes, ..plan });
        if let Some(client) = self.clients.first_mut().filter(|_| retention_bytes.is_some()) {
            client.jobs.push(Job::Remember { log, pause_ms: 50 });
        }
        self.settings.entry("log.floor_step_bytes".to_owned()).or_insert(1);
        for client in &mut self.clients {
            let pause_ms = *[20, 50, 200].choose(&mut chance).expect("not empty");
            client.jobs.push(Job::Fight { log, pause_ms });
        }
        self.with_copies_to_spare()
    }

    /// In some scenarios appends arrive again, or for the first time, when they must not
    /// land any more; wherever primaries fight, one does it there.
    pub(super) fn with_late_appends(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_LATE_APPENDS);
        let fought_over = self.logs.iter().position(|log| log.exclusive);
        let pause_ms = *[100, 300, 600].choose(&mut chance).expect("not empty");
        let others = chance.random_range(0..ONE_IN_LATE) == 0;
        let log = chance.random_range(0..self.logs.len());
        let late = |log| Job::Late { log, pause_ms };
        if let Some(client) = self.clients.last_mut() {
            client.jobs.extend(fought_over.map(late));
            client.jobs.extend(others.then(|| late(log)).filter(|_| fought_over != Some(log)));
        }
        self
    }

    /// In some scenarios clients move cursors, and carry records over to a log of
    /// their own.
    pub(super) fn with_cursors(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_CURSORS);
        if chance.random_range(0..ONE_IN_CURSORS) > 0 {
            return self;
        }
        let shared: Vec<usize> = (0..self.logs.len()).filter(|log| !self.logs[*log].exclusive).collect();
        let from = *shared.choose(&mut chance).expect("not all logs are fought over");
        let log = self.logs.len();
        let replicas = super::replicas(&mut chance, self.nodes);
        self.logs.push(LogPlan::keeping_all(OUTPUT.to_owned(), replicas));
        let interval = *[0, 20, 200, 1_000].choose(&mut chance).expect("not empty");
        self.settings.insert("log.cursor_commit_interval_ms".to_owned(), interval);
        for client in &mut self.clients {
            let of = *shared.choose(&mut chance).expect("not all logs are fought over");
            let mut pause_ms = || *[20, 50, 200].choose(&mut chance).expect("not empty");
            client.jobs.push(Job::Cursors { log: of, pause_ms: pause_ms() });
            client.jobs.push(Job::Pipeline { from, log, pause_ms: pause_ms() });
        }
        self.with_copies_to_spare()
    }

    /// In some scenarios two groups of readers share logs of their own.
    pub(super) fn with_reader_groups(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_READER_GROUPS);
        if chance.random_range(0..ONE_IN_GROUPED) > 0 {
            return self;
        }
        let first = self.logs.len();
        for number in 0..chance.random_range(1..=4) {
            let replicas = super::replicas(&mut chance, self.nodes);
            self.logs.push(LogPlan::keeping_all(format!("{SHARED}{number}"), replicas));
        }
        let logs = self.logs.len();
        for client in &mut self.clients {
            client.jobs.push(Job::Append {
                log: chance.random_range(first..logs),
                batch_records: *[1, 3, 10].choose(&mut chance).expect("not empty"),
                value_bytes: 16,
                in_flight: 1,
                pause_ms: *[50, 200].choose(&mut chance).expect("not empty"),
                delivery_timeout_ms: 3_000,
                idempotent: true,
                compression: 0,
            });
            for group in 0..GROUPS.len() {
                let pause_ms = *[5, 50, 200].choose(&mut chance).expect("not empty");
                client.jobs.push(Job::Group { group, pause_ms });
            }
        }
        self.with_copies_to_spare()
    }

    /// In some scenarios leaders are cut off again and again, for no longer than it
    /// takes others to elect one, to commit a little and to trim it: a leader that
    /// comes back is sent a state image where it has entries of its own.
    pub(super) fn with_branches(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_BRANCHES);
        if self.nodes < u64::from(SPARE) || chance.random_range(0..ONE_IN_BRANCHING) > 0 {
            return self;
        }
        let log = self.logs.len();
        self.logs.push(LogPlan::keeping_all("branching".to_owned(), SPARE));
        self.settings.insert("log.floor_step_bytes".to_owned(), 1);
        for client in &mut self.clients {
            client.jobs.push(Job::Append {
                log,
                batch_records: 1,
                value_bytes: 16,
                in_flight: 16,
                pause_ms: *[200, 500, 1_000].choose(&mut chance).expect("not empty"),
                delivery_timeout_ms: 300,
                idempotent: false,
                compression: 0,
            });
            client.jobs.push(Job::Trim { log, keep: 0, pause_ms: 20 });
        }
        self.with_leaders_cut_off(&mut chance, 0)
    }

    /// Leaders are cut off one after the other, each for long enough that others elect
    /// another one, and for `longer_ms` more.
    fn with_leaders_cut_off(mut self, chance: &mut StdRng, longer_ms: u64) -> Self {
        let election_ms = self.settings["raft.election_timeout_max_ms"];
        let mut at_ms = 0;
        loop {
            at_ms += election_ms + chance.random_range(200..=1_000);
            if at_ms >= self.timing.chaos_ms {
                break;
            }
            let lasts_ms = election_ms + longer_ms + chance.random_range(0..=1_000);
            let number = self.faults.len() as u64;
            self.faults.push(FaultPlan { number, at_ms, lasts_ms, kind: Kind::IsolatedLeader, draw: chance.random() });
            at_ms += lasts_ms;
        }
        self.faults.sort_by_key(|fault| fault.at_ms);
        self
    }

    /// In some scenarios clients ask for barriers, and replicas how old they are.
    pub(super) fn with_barriers(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_BARRIERS);
        if chance.random_range(0..ONE_IN_BARRED) > 0 {
            return self;
        }
        let logs = self.logs.len();
        // A leader that was cut off is asked what it has while others follow another one,
        // which takes what is not sent to the old one alone.
        let cut_off = self.nodes >= u64::from(SPARE) && chance.random_range(0..ONE_IN_CUT_OFF) == 0;
        for client in &mut self.clients {
            let pause_ms = *[5, 20, 100, 300].choose(&mut chance).expect("not empty");
            let log = chance.random_range(0..logs);
            client.jobs.push(Job::Barrier { log, pause_ms });
            if cut_off && !self.logs[log].exclusive {
                self.logs[log].replicas = self.logs[log].replicas.max(SPARE);
                client.jobs.push(Job::Repeat { log, pause_ms: 100 });
            }
        }
        if cut_off { self.with_leaders_cut_off(&mut chance, 1_500) } else { self }
    }

    /// In some scenarios in which logs are trimmed clients hold leases. Not where
    /// trims have to make room.
    pub(super) fn with_leases(mut self) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed ^ OF_LEASES);
        let trims = self.clients.iter().flat_map(|client| &client.jobs).any(|job| matches!(job, Job::Trim { .. }));
        let forgets = self.logs.iter().any(LogPlan::forgets);
        let fills = self.faults.iter().any(|fault| fault.kind == Kind::DiskFull);
        if !(trims || forgets) || fills || chance.random_range(0..ONE_IN_LEASED) > 0 {
            return self;
        }
        let logs = self.logs.len();
        for client in &mut self.clients {
            let pause_ms = *[20, 100, 300].choose(&mut chance).expect("not empty");
            client.jobs.push(Job::Lease { log: chance.random_range(0..logs), pause_ms });
        }
        self
    }

    /// Where disks have no room for more files, somebody appends so much that a
    /// new file is soon wanted, and trims, so that there is room again.
    pub(super) fn with_disks_that_fill(mut self) -> Self {
        if self.faults.iter().any(|fault| fault.kind == Kind::DiskFull) {
            self.settings.insert("journal.segment_bytes".to_owned(), 2 << 20);
            self.settings.insert("log.floor_step_bytes".to_owned(), 1);
            if let Some(client) = self.clients.first_mut() {
                client.jobs.push(Job::Trim { log: 0, keep: 5, pause_ms: 500 });
            }
            return self.with_much_to_append();
        }
        self
    }

    /// Somebody appends so much that segments of the journal are filled.
    fn with_much_to_append(mut self) -> Self {
        let heavy = Job::Append {
            log: 0,
            batch_records: 20,
            value_bytes: 20_000,
            in_flight: 4,
            pause_ms: 20,
            delivery_timeout_ms: 3_000,
            idempotent: true,
            compression: 0,
        };
        if let Some(client) = self.clients.first_mut().filter(|client| !client.jobs.contains(&heavy)) {
            client.jobs.push(heavy);
        }
        self
    }

    /// Where a copy may be lost, every log has so many that a majority is left.
    pub(super) fn with_copies_to_spare(mut self) -> Self {
        if self.faults.iter().any(|fault| fault.kind.spoils()) {
            self.logs.iter_mut().for_each(|log| log.replicas = log.replicas.max(SPARE));
            for job in self.clients.iter_mut().flat_map(|client| &mut client.jobs) {
                if let Job::Create { replicas, .. } | Job::Recreate { replicas, .. } = job {
                    *replicas = (*replicas).max(SPARE);
                }
            }
        }
        self
    }
}
