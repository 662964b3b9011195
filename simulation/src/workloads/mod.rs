//! What clients do in a run: jobs that call the cluster through the SDK and
//! write down what they asked and what they were told.
//!
//! A new job is a variant of [`Job`], a file here, and a line in [`run`]. All it
//! has to do is to tell the history of every call before it is made and of every
//! answer once it came; the checkers do the rest.

mod append;
mod barrier;
mod contested;
pub(crate) mod create;
mod cursors;
pub(crate) mod fight;
pub(crate) mod groups;
mod late;
mod lease;
pub(crate) mod pipeline;
pub(crate) mod read;
pub(crate) mod recreate;
mod remember;
mod repeat;
pub(crate) mod trim;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::batch::Record;
use quipu_protocol::environment::{Environment, Random, Task};
use quipu_protocol::{LogName, Timestamp};
use quipu_sdk::{Client, ClientConfig};
use tokio::sync::watch;

use crate::checkers::groups::Groups;
use crate::environment::Host;
use crate::environment::clock::now;
use crate::event::{Answer, What};
use crate::history::{Call, History, Outcome, Terms};
use crate::recorder::Recorder;
use crate::scenario::{ClientPlan, Job, LogPlan};
use pipeline::Steps;
use recreate::Brief;
use trim::Trimmed;

/// Values are this many bytes at least: the number that tells them apart.
const NUMBER_BYTES: usize = 8;

/// What every job of a client works with.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) number: u64,
    pub(crate) environment: Environment,
    pub(crate) addresses: Vec<String>,
    pub(crate) shared: Shared,
}

/// What the clients of a run share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) history: History,
    pub(crate) recorder: Recorder,
    pub(crate) logs: Arc<Vec<LogPlan>>,
    /// What clients are to do now.
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) counters: Arc<Counters>,
    /// Every host runs for so long at a time.
    pub(crate) tick: Duration,
    /// The clients that have finished.
    pub(crate) finished: Arc<Mutex<BTreeSet<u64>>>,
    /// What was trimmed, by log.
    pub(crate) trimmed: Arc<Mutex<BTreeMap<String, Trimmed>>>,
    /// What became of logs that are deleted and created anew.
    pub(crate) brief: Arc<Mutex<Brief>>,
    /// What pipelines have appended.
    pub(crate) steps: Arc<Mutex<Steps>>,
    /// What reader groups were delivered and committed.
    pub(crate) groups: Arc<Mutex<Groups>>,
}

/// What clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Wait: the logs are being created.
    Wait,
    /// Work.
    Work,
    /// Begin nothing new.
    Finish,
}

/// Numbers that are given out once in a run.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    values: std::sync::atomic::AtomicU64,
    producers: std::sync::atomic::AtomicU64,
    logs: std::sync::atomic::AtomicU64,
}

impl Counters {
    fn next(counter: &std::sync::atomic::AtomicU64) -> u64 {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// Values that no other record of the run has.
    pub(crate) fn values(&self, count: u64) -> Vec<u64> {
        (0..count).map(|_| Self::next(&self.values)).collect()
    }

    /// A producer's number.
    pub(crate) fn producer(&self) -> u64 {
        Self::next(&self.producers)
    }

    /// A log's name.
    pub(crate) fn log(&self) -> String {
        format!("extra-{}", Self::next(&self.logs))
    }

    /// The name of a log that is deleted.
    pub(crate) fn brief_log(&self) -> String {
        format!("brief-{}", Self::next(&self.logs))
    }
}

impl Context {
    /// The client of this number, on `host`.
    pub(crate) fn new(number: u64, host: &Host, addresses: &[String], shared: &Shared) -> Self {
        let environment = host.environment();
        let client = Client::new(client_config(addresses), environment.clone()).expect("a good configuration");
        Self { client, number, environment, addresses: addresses.to_vec(), shared: shared.clone() }
    }

    /// A call is made.
    pub(crate) fn invoke(&self, log: &str, call: Call) -> u64 {
        let text = describe_call(&call);
        let operation = self.shared.history.invoke(self.tick_began(), self.number, log, call);
        let (client, log) = (self.number, log.to_owned());
        self.shared.recorder.event(now(), What::Invoked { operation, client, log, call: text });
        operation
    }

    /// Its answer came.
    pub(crate) fn complete(&self, operation: u64, outcome: Outcome) {
        let answer = match &outcome {
            Outcome::Failed { .. } | Outcome::Fenced { .. } | Outcome::Mismatch { .. } | Outcome::Strands { .. } => {
                Answer::Failed
            }
            Outcome::Unknown { .. } | Outcome::Pending => Answer::Unknown,
            _ => Answer::Done,
        };
        let details = describe_outcome(&outcome);
        self.shared.history.complete(self.tick_began() + self.shared.tick, operation, outcome);
        self.shared.recorder.event(now(), What::Completed { operation, answer, details });
    }

    /// When the tick began that the hosts are in. They run one after another,
    /// and each from the tick's beginning to its end, so that within a tick
    /// their clocks do not tell what was first: calls of one tick count as made
    /// at the same time.
    pub(crate) fn tick_began(&self) -> Duration {
        let tick = self.shared.tick.as_micros().max(1);
        let micros = now().as_micros() / tick * tick;
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        let random: &dyn Random = &*self.environment.random;
        random.below(bound.max(1))
    }

    /// Waits for a time drawn up to `longest_ms`.
    pub(crate) async fn pause(&self, longest_ms: u64) {
        let wait = Duration::from_micros(self.below(longest_ms * 1_000));
        self.environment.clock.sleep(wait).await;
    }

    /// Whether to go on working.
    pub(crate) fn goes_on(&self) -> bool {
        *self.shared.stage.borrow() == Stage::Work
    }

    /// The log at this position.
    pub(crate) fn log(&self, position: usize) -> LogName {
        self.shared.logs[position].name.parse().expect("a good name")
    }

    /// Whether the log of this name lets go of records by itself.
    pub(crate) fn forgets(&self, log: &str) -> bool {
        self.shared.logs.iter().any(|plan| plan.name == log && plan.forgets())
    }

    /// Looks at what pipelines have appended, or adds to it.
    pub(crate) fn steps<T>(&self, look: impl FnOnce(&mut Steps) -> T) -> T {
        look(&mut self.shared.steps.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts a task of this client.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        self.environment.tasks.spawn("workload", Box::pin(future))
    }
}

/// Impatient where the defaults are patient: a run is short.
fn client_config(addresses: &[String]) -> ClientConfig {
    ClientConfig {
        request_timeout: Duration::from_millis(1_500),
        retry_timeout: Duration::from_secs(6),
        retry_backoff_max: Duration::from_millis(200),
        keep_alive: Duration::from_millis(500),
        ..ClientConfig::new(addresses.iter().cloned())
    }
}

/// Does a client's jobs until it is told to stop, and finishes what is under
/// way.
pub(crate) async fn run(number: u64, host: Host, addresses: Vec<String>, plan: ClientPlan, shared: Shared) {
    let context = Context::new(number, &host, &addresses, &shared);
    let mut stage = shared.stage.clone();
    if stage.wait_for(|stage| *stage != Stage::Wait).await.is_err() {
        return;
    }
    let jobs: Vec<Task> = plan.jobs.into_iter().map(|job| context.spawn(do_job(context.clone(), job))).collect();
    for job in jobs {
        job.join().await;
    }
    shared.finished.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
}

async fn do_job(context: Context, job: Job) {
    match job {
        Job::Append { .. } => append::run(context, job).await,
        Job::Read { log, max_records, local, pause_ms } => read::some(context, log, max_records, local, pause_ms).await,
        Job::Tail { log, local } => read::tail(context, log, local).await,
        Job::End { log, pause_ms } => read::end(context, log, pause_ms).await,
        Job::Lease { log, pause_ms } => lease::run(context, log, pause_ms).await,
        Job::Barrier { log, pause_ms } => barrier::run(context, log, pause_ms).await,
        Job::Late { log, pause_ms } => late::run(context, log, pause_ms).await,
        Job::Trim { log, keep, pause_ms } => trim::run(context, log, keep, pause_ms).await,
        Job::Cursors { log, pause_ms } => cursors::run(context, log, pause_ms).await,
        Job::Pipeline { from, log, pause_ms } => pipeline::run(context, from, log, pause_ms).await,
        Job::Fight { log, pause_ms } => fight::run(context, log, pause_ms).await,
        Job::Remember { log, pause_ms } => remember::run(context, log, pause_ms).await,
        Job::Group { group, pause_ms } => groups::run(context, group, pause_ms).await,
        Job::Recreate { replicas, pause_ms } => recreate::run(context, replicas, pause_ms).await,
        Job::Repeat { log, pause_ms } => repeat::run(context, log, pause_ms).await,
        Job::Create { logs, replicas, pause_ms } => create::run(context, logs, replicas, pause_ms).await,
    }
}

/// The record with this value, filled up to `bytes` bytes.
pub(crate) fn record(value: u64, bytes: usize) -> Record {
    let mut content = vec![0; bytes.max(NUMBER_BYTES)];
    content[..NUMBER_BYTES].copy_from_slice(&value.to_le_bytes());
    // Neither constant nor random, so that compressing it does something.
    for (position, byte) in content.iter_mut().enumerate().skip(NUMBER_BYTES) {
        *byte = (value ^ (position as u64 / 3)).to_le_bytes()[0];
    }
    Record { timestamp: Timestamp::new(0), key: None, value: Some(Bytes::from(content)), headers: Vec::new() }
}

/// The value of a record that was read, if it is one of ours, whole.
pub(crate) fn value_of(content: Option<&Bytes>) -> Option<u64> {
    let content = content?;
    let value = u64::from_le_bytes(content.get(..NUMBER_BYTES)?.try_into().ok()?);
    (record(value, content.len()).value.as_ref() == Some(content)).then_some(value)
}

fn describe_call(call: &Call) -> String {
    match call {
        Call::Create { replicas } => format!("create ×{replicas}"),
        Call::Delete => "delete".to_owned(),
        Call::Acquire => "acquire".to_owned(),
        Call::Resolve { values } => format!("resolve {values:?}"),
        Call::Append { producer, values, terms } => match (values.first(), values.last()) {
            (Some(first), Some(last)) if *terms == Terms::default() => {
                format!("append {first}..={last} by producer {producer}")
            }
            (Some(first), Some(last)) => format!("append {first}..={last} by producer {producer}, {terms:?}"),
            _ => "append nothing".to_owned(),
        },
        Call::Read { from, max, local } => {
            format!("read {max} from {from}{}", if *local { ", any replica" } else { "" })
        }
        Call::End => "end".to_owned(),
        Call::ReadAfter { from, max, barrier } => format!("read {max} from {from} after a barrier at {barrier}"),
        Call::LocalEnd { node } => format!("end on node {node}"),
        Call::Cursor { cursor, call } => format!("cursor {cursor}: {call}"),
        Call::Lease { holder, call } => format!("lease of {holder}: {call}"),
        Call::Trim { to } => format!("trim to {to}"),
    }
}

fn describe_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pending => "nothing".to_owned(),
        Outcome::Created => "created".to_owned(),
        Outcome::Deleted => "deleted".to_owned(),
        Outcome::Appended { start, end } => format!("at {start}..{end}"),
        Outcome::Fenced { current } => format!("fenced by epoch {current}"),
        Outcome::Mismatch { end } => format!("the log ends at {end}"),
        Outcome::Acquired { epoch, end } => format!("epoch {epoch} from {end} on"),
        Outcome::Resolved { landed } => landed.map_or("never".to_owned(), |(start, end)| format!("at {start}..{end}")),
        Outcome::Read { records } => match (records.first(), records.last()) {
            (Some((first, _)), Some((last, _))) => {
                // The values too, so that a trace tells any two runs apart.
                let sum = records.iter().fold(0_u64, |sum, (_, value)| sum.wrapping_mul(31).wrapping_add(*value));
                format!("{} records, {first}..={last}, digest {sum:x}", records.len())
            }
            _ => "no records".to_owned(),
        },
        Outcome::End { end } => format!("end {end}"),
        Outcome::LocalEnd { end, leader_end, age_ms } => format!("end {end} of {leader_end}, {age_ms:?} ms old"),
        Outcome::Cursor(answer) => answer.to_string(),
        Outcome::Lease(answer) => answer.to_string(),
        Outcome::Trimmed { start } => format!("starts at {start}"),
        Outcome::Strands { leases } => format!("would strand {leases:?}"),
        Outcome::Failed { why } | Outcome::Unknown { why } => why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_from_its_own_record_alone() {
        for bytes in [0, 8, 9, 500] {
            let content = record(77, bytes).value.expect("a value");
            assert_eq!(value_of(Some(&content)), Some(77));
            let mut spoiled = content.to_vec();
            if let Some(last) = spoiled.get_mut(NUMBER_BYTES..).and_then(<[u8]>::last_mut) {
                *last ^= 1;
                assert_eq!(value_of(Some(&spoiled.into())), None);
            }
        }
        assert_eq!(value_of(None), None);
        assert_eq!(value_of(Some(&Bytes::from_static(b"short"))), None);
    }
}
