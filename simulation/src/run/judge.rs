//! Asks the cluster on the run's own behalf: creates its logs, appends to each
//! once all has healed, and reads every replica's copy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use quipu_protocol::environment::BoxFuture;
use quipu_sdk::{
    Consistency, LogConfig, LogName, LogSummary, NodeId, ProducerConfig, ReaderConfig, WriterEpoch, Writers,
};
use tokio::sync::mpsc;

use super::followers;
use crate::cluster::Cluster;
use crate::environment::Host;
use crate::environment::clock::now;
use crate::history::{Call, Copies, Outcome, Terms, UNSEEN};
use crate::scenario::LogPlan;
use crate::violation::Violation;
use crate::workloads::{Context, Shared, create, fight, groups, pipeline, read, record};

/// The judge's number among the clients.
const NUMBER: u64 = 0;
/// In whose place the copy of a log stands that was deleted.
const NOBODY: u64 = 0;
/// What failed is tried again after this time.
const AGAIN: Duration = Duration::from_millis(50);
/// A copy that lacks something is read again so many times.
const PATIENCE: u32 = 20;

/// What the run wants to know.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// Create these logs.
    Create(Vec<LogPlan>),
    /// Append to each of these logs until it takes it.
    Append(Vec<String>),
    /// Have somebody wait at the end of each of these logs for what is appended next.
    Follow(Vec<String>),
    /// Have every reader group read all of its logs.
    ReadTheRest,
    /// What each replica of every log holds.
    Copies,
}

/// What it found.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// It was done.
    Done,
    /// What each replica holds.
    Copies(Copies),
}

/// The run's end of the judge.
pub(super) struct Judge {
    questions: mpsc::UnboundedSender<Question>,
    verdict: Arc<Mutex<Option<Verdict>>>,
}

impl Judge {
    pub(super) fn ask(&self, question: Question) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // The judge's host lives as long as the run.
        let _ = self.questions.send(question);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn take(&self) -> Option<Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A judge, and the work of its host.
pub(super) fn new(cluster: &Cluster<'_>, shared: &Shared) -> (Judge, impl Fn(Host) -> BoxFuture<'static, ()> + use<>) {
    let (questions, receiver) = mpsc::unbounded_channel();
    let verdict = Arc::new(Mutex::new(None));
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let (answer, addresses, shared) = (Arc::clone(&verdict), cluster.addresses(), shared.clone());
    let work = move |host: Host| -> BoxFuture<'static, ()> {
        let (receiver, answer) = (Arc::clone(&receiver), Arc::clone(&answer));
        let context = Context::new(NUMBER, &host, &addresses, &shared);
        Box::pin(async move {
            let mut receiver = receiver.lock().await;
            while let Some(question) = receiver.recv().await {
                let found = find_out(&context, question).await;
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            }
        })
    };
    (Judge { questions, verdict }, work)
}

async fn find_out(context: &Context, question: Question) -> Verdict {
    match question {
        Question::Create(logs) => {
            for log in logs {
                let name: LogName = log.name.parse().expect("a good name");
                let config = LogConfig {
                    replicas: Some(log.replicas),
                    retention_bytes: log.retention_bytes,
                    retention_ms: log.retention_ms,
                    // Clocks of nodes that are alone may jump by as much.
                    cursor_expiry_ms: Some(0),
                    writers: if log.exclusive { Writers::Exclusive } else { Writers::Shared },
                    ..LogConfig::default()
                };
                while create::create(context, &name, &log.name, config).await.is_none() {
                    context.environment.clock.sleep(AGAIN).await;
                }
            }
            Verdict::Done
        }
        Question::Append(logs) => {
            join_all(logs.iter().map(|log| append_until_taken(context, log))).await;
            Verdict::Done
        }
        Question::Follow(logs) => {
            join_all(logs.iter().map(|log| followers::are_told(context, log))).await;
            Verdict::Done
        }
        Question::ReadTheRest => {
            let last = groups::read_the_rest(context).await;
            let logs = groups::shared_logs(context);
            join_all(logs.iter().map(|log| append_until_taken(context, log.as_str()))).await;
            for last in last {
                last.read_on(context).await.leave().await;
            }
            Verdict::Done
        }
        Question::Copies => Verdict::Copies(all_copies(context).await),
    }
}

pub(super) async fn append_until_taken(context: &Context, log: &str) {
    let name: LogName = log.parse().expect("a good name");
    let config = ProducerConfig { delivery_timeout: Duration::from_secs(5), ..ProducerConfig::default() };
    let exclusive = context.shared.logs.iter().any(|plan| plan.name == log && plan.exclusive);
    loop {
        let epoch = if exclusive {
            let Some((epoch, _)) = fight::acquire(context, &name).await else {
                context.environment.clock.sleep(AGAIN).await;
                continue;
            };
            Some(epoch)
        } else {
            None
        };
        let config = ProducerConfig { writer_epoch: epoch.map(WriterEpoch::new), ..config.clone() };
        let producer = context.client.producer(&name, config).expect("a good configuration");
        let values = context.shared.counters.values(1);
        let records = values.iter().map(|value| record(*value, 0)).collect();
        let call = Call::Append {
            producer: context.shared.counters.producer(),
            values,
            terms: Terms { epoch, expected_end: None },
        };
        let operation = context.invoke(log, call);
        let answer = fight::outcome(producer.append(records).await);
        // One that was fenced was answered by the log: others fight over it still.
        let taken = matches!(answer, Outcome::Appended { .. } | Outcome::Fenced { .. });
        context.complete(operation, answer);
        if taken {
            return;
        }
        context.environment.clock.sleep(AGAIN).await;
    }
}

/// What each replica of every log holds, of those too of which no client knows
/// whether they were created; and what was held by those that were deleted.
async fn all_copies(context: &Context) -> Copies {
    let brief = || context.shared.brief.lock().unwrap_or_else(PoisonError::into_inner);
    let held = |records: &Vec<(u64, u64)>| BTreeMap::from([(NOBODY, records.clone())]);
    let mut copies: Copies = brief().departed().iter().map(|(log, records)| (log.clone(), held(records))).collect();
    for log in all_logs(context).await {
        if brief().gone().contains(&log.id) {
            let details = format!("log {} is there again, as {}, after it was deleted", log.name, log.id);
            context.shared.recorder.violated(now(), Violation::new("deleted-log-stays-gone", details), None);
        }
        let known_as = brief().known_as(log.name.as_str(), log.id);
        let held = read_copies(context, &log.name).await;
        if log.name.as_str() == pipeline::OUTPUT {
            pipeline::judge(context, &held).await;
        }
        copies.insert(known_as, held);
    }
    copies
}

async fn all_logs(context: &Context) -> Vec<LogSummary> {
    loop {
        if let Ok(logs) = context.client.list_logs().await {
            return logs;
        }
        context.environment.clock.sleep(AGAIN).await;
    }
}

/// What each replica holds. All of them have everything by now, so that one
/// which goes on lacking something is judged as it is.
async fn read_copies(context: &Context, log: &LogName) -> BTreeMap<u64, Vec<(u64, u64)>> {
    let mut tries = 0;
    loop {
        tries += 1;
        if let Some(copies) = try_to_read(context, log, tries >= PATIENCE).await {
            return copies;
        }
        context.environment.clock.sleep(AGAIN).await;
    }
}

async fn try_to_read(context: &Context, log: &LogName, anyhow: bool) -> Option<BTreeMap<u64, Vec<(u64, u64)>>> {
    let range = context.client.offsets(log, Consistency::Linearizable).await.ok()?;
    let (start, end) = (range.start().get(), range.end().get());
    let described = context.client.describe_log(log).await.ok()?;
    let mut held = BTreeMap::new();
    for replica in described.replicas {
        let copy = read_copy(context, log, replica.node).await?;
        let begins = copy.first().map_or(start, |(first, _)| *first);
        // Records may grow too old while copies are read.
        let is_start = begins == start || context.forgets(log.as_str()) && begins > start;
        if !is_start && !anyhow {
            return None;
        }
        held.insert(replica.node.get(), (begins, copy));
    }
    let known = known(context, log.as_str(), held.values().flat_map(|(_, copy)| copy));
    let whole = held.into_iter().map(|(node, (begins, copy))| (node, with_trimmed(&known, begins, copy)));
    let copies: BTreeMap<u64, Vec<(u64, u64)>> = whole.collect();
    (anyhow || copies.values().all(|copy| copy.len() as u64 == end)).then_some(copies)
}

/// What is known of a log besides what one copy holds, by offset: what was
/// remembered and, of one that lets go of records by itself, what other copies
/// hold, what was read, and what was acknowledged. Where these differ, the first
/// counts and the others are judged by it.
fn known<'a>(context: &Context, log: &str, held: impl Iterator<Item = &'a (u64, u64)>) -> BTreeMap<u64, u64> {
    let mut known = context.trimmed(log, |trimmed| trimmed.values.clone());
    if !context.forgets(log) {
        return known;
    }
    let mut learn = |offset: u64, value: u64| _ = known.entry(offset).or_insert(value);
    held.for_each(|(offset, value)| learn(*offset, *value));
    let operations = context.shared.history.snapshot();
    for operation in operations.iter().filter(|operation| operation.log == log) {
        if let Outcome::Read { records } = &operation.outcome {
            records.iter().for_each(|(offset, value)| learn(*offset, *value));
        }
    }
    for operation in operations.iter().filter(|operation| operation.log == log) {
        let landed = match (&operation.call, &operation.outcome) {
            (Call::Append { values, .. }, Outcome::Appended { start, .. })
            | (Call::Resolve { values }, Outcome::Resolved { landed: Some((start, _)) }) => Some((values, start)),
            _ => None,
        };
        if let Some((values, start)) = landed {
            (*start..).zip(values).for_each(|(offset, value)| learn(offset, *value));
        }
    }
    known
}

/// A copy, with what was trimmed from it as it is known.
fn with_trimmed(known: &BTreeMap<u64, u64>, start: u64, held: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let of = |offset: u64| (offset, known.get(&offset).copied().unwrap_or(UNSEEN));
    let mut copy: Vec<(u64, u64)> = (0..start).map(of).collect();
    copy.extend(held);
    copy
}

async fn read_copy(context: &Context, log: &LogName, node: NodeId) -> Option<Vec<(u64, u64)>> {
    let config = ReaderConfig { node: Some(node), ..ReaderConfig::default() };
    let mut reader = context.client.reader(log, config).expect("a good configuration");
    let mut copy = Vec::new();
    loop {
        match reader.next().await {
            Ok(Some(found)) => copy.push(read::place(context, &found)),
            Ok(None) => return Some(copy),
            Err(_) => return None,
        }
    }
}
