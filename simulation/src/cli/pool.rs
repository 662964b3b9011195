//! Child processes that run seeds, so many at a time.
//!
//! ```text
//!   Task ─▶ start ─▶ quipu-simulation one … ─┬─▶ its outcome file ─▶ Done
//!                                            └─▶ none: it died, or was ended
//!                                                for taking too long
//! ```
//!
//! A process each, because a run has its process to itself: what a defect does
//! to one run (memory, a stack, statics) it does to no other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use quipu_simulation::bundle::{self, Bundle};
use quipu_simulation::violation::Violation;
use rustix::process::Signal;

use super::one::{load, panicked};
use super::outcome::Outcome;
use super::place;

/// Children are looked after so often.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A child that waits for something spends no processor time; it is ended after
/// so many times its limit by the clock on the wall.
const WALL_PER_CPU: u32 = 5;
/// So much of what a child that died had printed is kept.
const LAST_WORDS: usize = 2_000;

/// How children are run.
#[derive(Clone, Debug, Args)]
pub(crate) struct PoolArguments {
    /// Run so many at a time [default: as many as there are cores].
    #[arg(long, short, value_name = "J")]
    jobs: Option<usize>,
    /// End a run that takes so much processor time: it hangs.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    cpu_limit: u64,
}

/// What a child is to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task {
    pub(crate) seed: u64,
    /// Instead of the seed's own.
    pub(crate) scenario: Option<PathBuf>,
    /// Whether the trace is wanted.
    pub(crate) trace: bool,
    /// Whether a failure is to be kept.
    pub(crate) keep: bool,
}

impl Task {
    /// A seed, to be kept if it fails.
    pub(crate) fn of_seed(seed: u64) -> Self {
        Self { seed, keep: true, ..Self::default() }
    }
}

/// What became of a task.
#[derive(Debug)]
pub(crate) struct Done {
    /// Counts the tasks in the order in which they were started.
    pub(crate) number: u64,
    pub(crate) task: Task,
    pub(crate) outcome: Outcome,
    /// If it was wanted and the child lived to write it.
    pub(crate) trace: Option<Vec<u8>>,
}

/// Runs tasks.
pub(crate) struct Pool {
    jobs: usize,
    cpu_limit: u64,
    program: PathBuf,
    work: PathBuf,
    failures: PathBuf,
    commit: Option<String>,
    started: u64,
    running: Vec<Running>,
}

struct Running {
    number: u64,
    task: Task,
    child: Child,
    began: Instant,
}

impl Pool {
    pub(crate) fn new(arguments: &PoolArguments) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        static POOLS: AtomicU64 = AtomicU64::new(0);
        let (process, pool) = (std::process::id(), POOLS.fetch_add(1, Ordering::Relaxed));
        let work = place::simulation()?.join(format!("work-{process}-{pool}"));
        fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        // The very binary that runs, even when a newer one was built meanwhile.
        let itself = PathBuf::from("/proc/self/exe");
        let program = if itself.exists() { itself } else { std::env::current_exe()? };
        Ok(Self {
            jobs: arguments.jobs.unwrap_or(cores).max(1),
            cpu_limit: arguments.cpu_limit.max(1),
            program,
            work,
            failures: place::failures()?,
            commit: place::commit(),
            started: 0,
            running: Vec::new(),
        })
    }

    /// The commit that is run.
    pub(crate) fn commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }

    /// How many run at a time.
    pub(crate) const fn jobs(&self) -> usize {
        self.jobs
    }

    /// A directory for what goes to children; it goes when the pool does.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    /// Children run this binary instead of their parent's own.
    pub(crate) fn of_program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Failures are kept here.
    pub(crate) fn keeps_in(mut self, failures: PathBuf) -> Self {
        self.failures = failures;
        self
    }

    pub(crate) fn is_full(&self) -> bool {
        self.running.len() >= self.jobs
    }

    /// Starts a task; its number.
    pub(crate) fn start(&mut self, task: Task) -> anyhow::Result<u64> {
        let number = self.started;
        self.started += 1;
        let mut command = Command::new(&self.program);
        command.arg("one").arg(task.seed.to_string());
        command.arg("--outcome").arg(self.file(number, "outcome"));
        command.arg("--panic").arg(self.file(number, "panic"));
        command.arg("--cpu-seconds").arg(self.cpu_limit.to_string());
        if let Some(scenario) = &task.scenario {
            command.arg("--scenario").arg(scenario);
        }
        if task.trace {
            command.arg("--trace").arg(self.file(number, "trace"));
        }
        if task.keep {
            command.arg("--failures").arg(&self.failures);
        }
        if let Some(commit) = &self.commit {
            command.arg("--commit").arg(commit);
        }
        let words = File::create(self.file(number, "words"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        self.running.push(Running { number, task, child, began: now() });
        Ok(number)
    }

    /// Waits for a child to end. None when none runs.
    pub(crate) fn wait(&mut self, mut meanwhile: impl FnMut()) -> anyhow::Result<Option<Done>> {
        while !self.running.is_empty() {
            for position in 0..self.running.len() {
                let Some(ended) = self.running[position].look(self.cpu_limit)? else { continue };
                let running = self.running.remove(position);
                return self.done(running, ended).map(Some);
            }
            meanwhile();
            pause(LOOK_EVERY);
        }
        Ok(None)
    }

    /// Runs all of these, as many at a time as may be; in their order.
    pub(crate) fn all(&mut self, tasks: impl IntoIterator<Item = Task>) -> anyhow::Result<Vec<Done>> {
        let mut done = BTreeMap::new();
        let mut tasks = tasks.into_iter().peekable();
        loop {
            while !self.is_full() && tasks.peek().is_some() {
                self.start(tasks.next().unwrap_or_default())?;
            }
            match self.wait(|| {})? {
                Some(one) => _ = done.insert(one.number, one),
                None => return Ok(done.into_values().collect()),
            }
        }
    }

    /// Ends all children; nobody wants to know any more.
    pub(crate) fn end_all(&mut self) {
        for running in &mut self.running {
            // One that has ended by itself cannot be ended.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        self.running.clear();
    }

    fn done(&self, running: Running, ended: Ended) -> anyhow::Result<Done> {
        let Running { number, task, .. } = running;
        let told = fs::read_to_string(self.file(number, "outcome"));
        let outcome = match told {
            Ok(text) => serde_json::from_str(&text).context("a child's outcome is not what was expected")?,
            Err(_) => self.lost(number, &task, ended)?,
        };
        let trace = fs::read(self.file(number, "trace")).ok();
        for kind in ["outcome", "panic", "trace", "words"] {
            // Not all of them were written.
            let _ = fs::remove_file(self.file(number, kind));
        }
        Ok(Done { number, task, outcome, trace })
    }

    /// The outcome of a child that told none, kept like any other failure.
    fn lost(&self, number: u64, task: &Task, ended: Ended) -> anyhow::Result<Outcome> {
        let words = fs::read(self.file(number, "words")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words[words.len().saturating_sub(LAST_WORDS)..]).trim().to_owned();
        let panic = fs::read_to_string(self.file(number, "panic")).ok();
        let limit = self.cpu_limit;
        let (violation, cpu_s) = match (ended, panic) {
            (Ended::Hanging, _) => (Violation::new("no-hang", format!("waited for more than {limit} s")), 0),
            (Ended::By(status), _) if status.signal() == Some(Signal::XCPU.as_raw()) => {
                (Violation::new("no-hang", format!("took more than {limit} s of processor time")), limit)
            }
            (Ended::By(_), Some(panic)) => (panicked(&panic), 0),
            (Ended::By(status), None) => (Violation::new("no-crash", format!("{status}; it said: {words}")), 0),
        };
        // A child of another binary, or one that was wrongly asked.
        let Ok(scenario) = load(Some(task.seed), task.scenario.as_deref()) else { anyhow::bail!("{violation}") };
        let mut outcome = Outcome::lost(task.seed, violation, cpu_s * 1_000);
        if task.keep {
            let directory = self.failures.join(bundle::name(task.seed, &outcome.violations));
            let kept = Bundle {
                scenario: &scenario,
                commit: self.commit(),
                events: &[],
                operations: &[],
                groups: &BTreeMap::new(),
                violations: &outcome.violations,
            };
            kept.write(&directory)?;
            fs::write(directory.join("words.txt"), words)?;
            outcome.bundle = Some(directory);
        }
        Ok(outcome)
    }

    fn file(&self, number: u64, kind: &str) -> PathBuf {
        self.work.join(format!("{number}.{kind}"))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.end_all();
        // What stays is in the target directory and in nobody's way.
        let _ = fs::remove_dir_all(&self.work);
    }
}

/// How a child ended.
enum Ended {
    By(ExitStatus),
    /// It did not, and was ended.
    Hanging,
}

impl Running {
    fn look(&mut self, cpu_limit: u64) -> anyhow::Result<Option<Ended>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(Ended::By(status)));
        }
        if now() - self.began < Duration::from_secs(cpu_limit) * WALL_PER_CPU {
            return Ok(None);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(Some(Ended::Hanging))
    }
}

/// The time on the wall, as far as the command line cares for it.
#[expect(clippy::disallowed_methods, reason = "children are real processes, outside of every simulation")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "children are real processes, and nothing else runs in their parent")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
