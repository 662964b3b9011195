//! One run: a scenario, from its founding to its judgement.
//!
//! ```text
//!   founding ─▶ chaos ─▶ healing ─▶ liveness ─▶ judgement
//!   no faults   faults   none any   appends to   every replica's
//!   logs are    and      more; all  every log    copy is read;
//!   created     clients  is started within its   the oracles judge
//!               at work             time
//! ```
//!
//! One thread, one clock: each step lets every host run for a tick; between
//! two steps the run looks at all nodes, ends and begins faults, and starts
//! what an operator would start.

mod ends;
mod followers;
mod judge;
mod looks;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::checkers::always::Always;
use crate::checkers::groups::Groups;
use crate::cluster::Cluster;
use crate::event::{Phase, Stop, What};
use crate::faults::{Active, Custody};
use crate::history::{Copies, History, Operation};
use crate::points;
use crate::recorder::{Record, Recorder};
use crate::scenario::{FaultPlan, Job, LogPlan, Scenario};
use crate::violation::Violation;
use crate::workloads::recreate::{self, Brief};
use crate::workloads::{self, Shared, Stage};
pub(crate) use ends::Armed;
use judge::{Judge, Question, Verdict};

/// Founding, without any fault, takes no longer than this.
const FOUNDING_LIMIT: Duration = Duration::from_secs(30);
/// "Ten election timeouts", and what connections that were cut in the middle
/// take to be given up.
const LIVENESS_TIMEOUTS: u32 = 10;
/// How long clients finish what they have under way.
const FINISHING_LIMIT: Duration = Duration::from_secs(40);
/// How long it may take until all replicas have everything again.
const WHOLE_LIMIT: Duration = Duration::from_secs(90);
/// How long it may take until every reader group has read all of its logs.
const GROUPS_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take until somebody has waited at each log's end.
const FOLLOWING_LIMIT: Duration = Duration::from_secs(60);
/// How long reading all copies may take: answers of 2 kB on the slowest disk.
const READING_LIMIT: Duration = Duration::from_secs(300);
/// For so many election timeouts leaders are watched when nothing is wrong.
const STAYING_TIMEOUTS: u32 = 4;
/// How long what was asked of nodes may take to be over.
const CALM_LIMIT: Duration = Duration::from_secs(10);
/// All nodes are looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Whether what is committed is durable is looked at so often.
const DURABLE_EVERY: Duration = Duration::from_millis(25);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Everything that was recorded.
    pub record: Record,
    /// The clients' calls.
    pub operations: Vec<Operation>,
    /// The names of the groups' logs, by the groups' numbers.
    pub groups: BTreeMap<u64, String>,
    /// How long it took, in simulated time.
    pub simulated: Duration,
    /// The most tasks that a node had at a time.
    pub most_tasks: usize,
}

/// A run under way.
pub(crate) struct Run<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) cluster: Cluster<'static>,
    pub(crate) recorder: Recorder,
    pub(crate) history: History,
    pub(crate) custody: Custody,
    pub(crate) active: Vec<Active>,
    pub(crate) armed: Rc<RefCell<Vec<Armed>>>,
    /// Copies of disks, for faults that bring them back.
    pub(crate) copies: Vec<quipu_storage::MemoryDisk>,
    /// The host that asks on the run's own behalf.
    pub(crate) judge: String,
    pub(crate) always: Always,
    /// Processes that were ended at a point, to be taken down.
    crashed: Rc<RefCell<Vec<(u64, Stop)>>>,
    /// Nodes that ended by themselves, and when they are started again.
    restarts: BTreeMap<u64, Duration>,
    stage: watch::Sender<Stage>,
    finished: Arc<Mutex<BTreeSet<u64>>>,
    brief: Arc<Mutex<Brief>>,
    groups: Arc<Mutex<Groups>>,
    verdicts: Judge,
    looked_at: Duration,
    durable_at: Duration,
}

/// Runs a scenario.
///
/// # Panics
/// When the scenario cannot be configured, or the code under test panics.
pub fn run(scenario: &Scenario) -> Finished {
    run_into(scenario, &Recorder::default(), &History::default())
}

/// Runs a scenario and writes into these as it goes, so that something is left
/// of a run that ends in a panic.
///
/// # Panics
/// When the scenario cannot be configured, or the code under test panics.
pub fn run_into(scenario: &Scenario, recorder: &Recorder, history: &History) -> Finished {
    let mut run = Run::new(scenario, recorder.clone(), history.clone());
    run.all();
    points::stop_listening();
    run.finish()
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, recorder: Recorder, history: History) -> Self {
        let mut cluster = Cluster::new(scenario, &recorder).expect("a scenario's configuration is valid");
        let (stage, told) = watch::channel(Stage::Wait);
        let shared = Shared {
            history: history.clone(),
            recorder: recorder.clone(),
            logs: Arc::new(scenario.logs.clone()),
            stage: told,
            counters: Arc::default(),
            tick: Duration::from_millis(scenario.timing.tick_ms),
            finished: Arc::default(),
            trimmed: Arc::default(),
            brief: Arc::default(),
            steps: Arc::default(),
            groups: Arc::default(),
        };
        for (number, plan) in (1..).zip(&scenario.clients) {
            let (plan, shared, addresses) = (plan.clone(), shared.clone(), cluster.addresses());
            cluster
                .add_client(move |host| workloads::run(number, host, addresses.clone(), plan.clone(), shared.clone()));
        }
        let (verdicts, work) = judge::new(&cluster, &shared);
        let judge = cluster.add_client(work);
        for plan in &scenario.faults {
            recorder.count(plan.kind, |struck| struck.scheduled += 1);
        }
        let run = Self {
            scenario,
            cluster,
            recorder,
            history,
            custody: Custody::Good,
            active: Vec::new(),
            armed: Rc::default(),
            copies: Vec::new(),
            judge,
            always: Always::default(),
            crashed: Rc::default(),
            restarts: BTreeMap::new(),
            stage,
            finished: Arc::clone(&shared.finished),
            brief: Arc::clone(&shared.brief),
            groups: Arc::clone(&shared.groups),
            verdicts,
            looked_at: Duration::ZERO,
            durable_at: Duration::ZERO,
        };
        run.listen();
        run
    }

    fn all(&mut self) {
        self.phase(Phase::Founding);
        if !self.founded() {
            return;
        }
        self.phase(Phase::Chaos);
        self.stage.send_replace(Stage::Work);
        self.chaos();
        self.phase(Phase::Healing);
        self.heal();
        self.phase(Phase::Liveness);
        self.is_live();
        self.stage.send_replace(Stage::Finish);
        let clients = self.scenario.clients.len();
        let finished = self.until(FINISHING_LIMIT, |run| {
            let finished = run.finished.lock().unwrap_or_else(PoisonError::into_inner).len();
            finished == clients && run.history.pending() == 0
        });
        if !finished {
            let pending = self.history.pending();
            self.violated("calls-end", format!("{pending} calls were not answered within {FINISHING_LIMIT:?}"));
        }
        if !self.until(WHOLE_LIMIT, Self::is_whole) {
            let missing = self.what_is_missing();
            self.violated("all-replicas-come-back", format!("not within {WHOLE_LIMIT:?}: {missing}"));
            return;
        }
        self.phase(Phase::Judgement);
        self.judge_all();
    }

    fn founded(&mut self) -> bool {
        if !self.until(FOUNDING_LIMIT, |run| run.cluster.nodes.values().all(|node| node.serves())) {
            self.violated("a-cluster-is-founded", format!("not within {FOUNDING_LIMIT:?}, without any fault"));
            return false;
        }
        match self.ask(Question::Create(self.scenario.logs.clone()), FOUNDING_LIMIT) {
            Some(Verdict::Done) => true,
            other => {
                self.violated("logs-are-created", format!("not within {FOUNDING_LIMIT:?}: {other:?}"));
                false
            }
        }
    }

    fn chaos(&mut self) {
        let began = self.now();
        let end = began + Duration::from_millis(self.scenario.timing.chaos_ms);
        let mut planned: Vec<FaultPlan> = self.scenario.faults.clone();
        planned.reverse();
        while self.now() < end && !self.recorder.has_violations() {
            self.step();
            self.end_faults(false);
            let due = |plan: &FaultPlan, now: Duration| began + Duration::from_millis(plan.at_ms) <= now;
            while let Some(plan) = planned.pop_if(|plan| due(plan, self.cluster.elapsed())) {
                self.strike(&plan);
            }
        }
    }

    /// All faults are over, and everything is started.
    fn heal(&mut self) {
        // Some faults end by beginning another one.
        while !self.active.is_empty() {
            self.end_faults(true);
        }
        self.armed.borrow_mut().clear();
        if let Custody::InDoubt(node) = self.custody {
            self.replace_disk(node);
        }
        self.usual_latency();
        self.restarts.clear();
        for node in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
            self.cluster.nodes[&node].disk().disarm();
            // An operator starts a node again whose replicas have given up.
            let gave_up = self.cluster.nodes[&node].server().is_some_and(|it| !it.node().failed_replicas().is_empty());
            if gave_up {
                self.restart(node);
            }
            self.start_if_down(node);
        }
    }

    /// Every log takes an append within its time.
    fn is_live(&mut self) {
        let limit = self.scenario.election_timeout() * LIVENESS_TIMEOUTS + self.slack();
        // Those that are deleted meanwhile take none.
        let mut logs = self.history.created();
        logs.retain(|log| !recreate::is_brief(log));
        match self.ask(Question::Append(logs.clone()), limit) {
            Some(Verdict::Done) => {}
            other => self.violated(
                "live-after-healing",
                format!("not every log of {logs:?} took an append within {limit:?}: {other:?}"),
            ),
        }
    }

    /// What starting takes, and connections that were cut in the middle until
    /// they are given up.
    fn slack(&self) -> Duration {
        Duration::from_secs(8)
    }

    fn judge_all(&mut self) {
        let limit = READING_LIMIT;
        self.followers_are_told();
        let mut jobs = self.scenario.clients.iter().flat_map(|client| &client.jobs);
        if jobs.any(|job| matches!(job, Job::Group { .. })) {
            match self.ask(Question::ReadTheRest, GROUPS_LIMIT) {
                Some(Verdict::Done) => {}
                other => self.violated("groups-read-everything", format!("not within {GROUPS_LIMIT:?}: {other:?}")),
            }
        }
        let Some(Verdict::Copies(copies)) = self.ask(Question::Copies, limit) else {
            return self.violated("every-copy-can-be-read", format!("not within {limit:?}"));
        };
        self.settled();
        self.judge_copies(&copies);
        self.leaders_stay();
        self.calms_down();
    }

    /// Where nothing is wrong, whoever waits at a log's end soon has what is appended.
    fn followers_are_told(&mut self) {
        let keeps = |plan: &&LogPlan| !plan.forgets() && !plan.exclusive;
        let logs: Vec<String> = self.scenario.logs.iter().filter(keeps).map(|plan| plan.name.clone()).collect();
        if self.ask(Question::Follow(logs), FOLLOWING_LIMIT).is_none() {
            self.violated("followers-are-told", format!("nobody could wait within {FOLLOWING_LIMIT:?}"));
        }
    }

    fn judge_copies(&mut self, copies: &Copies) {
        let operations = self.history.snapshot();
        let delivered = self.groups.lock().unwrap_or_else(PoisonError::into_inner).judge(copies);
        for violation in crate::checkers::judge(&operations, copies).into_iter().chain(delivered) {
            self.recorder.violated(self.now(), violation, None);
        }
    }

    /// Where nothing is wrong, nobody campaigns against a leader.
    fn leaders_stay(&mut self) {
        let before = self.always.leaders();
        let watched = self.scenario.election_timeout() * STAYING_TIMEOUTS;
        self.until(watched, |_| false);
        let after = self.always.leaders();
        for (group, led) in before {
            let now = after.get(&group);
            if now != Some(&led) {
                let details = format!("group {group}: {led:?} (term, replica) led, and {watched:?} later {now:?}");
                self.violated("a-leader-stays", details);
            }
        }
    }

    /// Nobody asks anything any more. What is left of connections that died
    /// in faults would take long to be noticed, so all are opened anew.
    fn calms_down(&mut self) {
        for node in self.cluster.nodes.values() {
            node.host.resets.reset_all();
        }
        self.until(CALM_LIMIT, |run| run.leftover_tasks().is_none());
        if let Some(violation) = self.leftover_tasks() {
            self.recorder.violated(self.now(), violation, None);
        }
    }

    /// Lets every host run for a tick, and looks at what became of them.
    fn step(&mut self) {
        if let Err(error) = self.cluster.sim.step() {
            // A host's software never returns an error.
            unreachable!("the simulation failed: {error}");
        }
        self.take_crashed_down();
        self.strike_late();
        self.sweep_ended();
        self.start_again();
        let now = self.now();
        if now.saturating_sub(self.looked_at) >= LOOK_EVERY {
            self.looked_at = now;
            self.look();
        }
        if now.saturating_sub(self.durable_at) >= DURABLE_EVERY {
            self.durable_at = now;
            for violation in self.always.committed_is_durable(self.custody.node()) {
                self.recorder.violated(now, violation, None);
            }
        }
    }

    /// Steps until `done`; false when that takes longer than `limit`.
    fn until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let deadline = self.now() + limit;
        loop {
            if done(self) {
                return true;
            }
            if self.now() >= deadline {
                return false;
            }
            self.step();
        }
    }

    /// Asks through the judge's own client.
    fn ask(&mut self, question: Question, limit: Duration) -> Option<Verdict> {
        self.verdicts.ask(question);
        self.until(limit, |run| run.verdicts.is_answered());
        self.verdicts.take()
    }

    /// Whether a fault of this kind is under way.
    pub(crate) fn is_active(&self, kind: crate::faults::Kind) -> bool {
        self.active.iter().any(|fault| fault.kind == kind)
    }

    /// The simulated time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.cluster.elapsed()
    }

    fn phase(&self, phase: Phase) {
        self.recorder.event(self.now(), What::Phase { phase });
    }

    fn violated(&self, promise: &str, details: String) {
        self.recorder.violated(self.now(), Violation::new(promise, details), None);
    }

    fn finish(self) -> Finished {
        let most_tasks = self.cluster.nodes.values().map(|node| node.most_tasks()).max().unwrap_or_default();
        let simulated = self.now();
        let servers = self.cluster.nodes.values().filter_map(|node| node.server());
        let groups = servers.flat_map(|server| server.node().log_names()).collect();
        let (recorder, history) = (self.recorder.clone(), self.history.clone());
        // What ends now has happened after the run.
        let record = recorder.record();
        let operations = history.snapshot();
        drop(self);
        Finished { record, operations, groups, simulated, most_tasks }
    }
}
