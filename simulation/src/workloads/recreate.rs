//! Logs that do not last: created, used a little, deleted, and created anew
//! under the same name.
//!
//! ```text
//!   brief-3#0   create ─▶ append … ─▶ read all ─▶ delete ┐
//!                                    late appends, changes ┄┄▶ refused
//!   brief-3#1                              create ◀──────┘ ─▶ append …
//! ```
//!
//! Each log that had the name is one of its own to the history: what was meant
//! for one and is found in another was invented there. One client alone has the
//! name, so that it knows which log is meant by it. What a log held is read
//! before it is deleted, and judged as its only copy. Whatever comes late for one of
//! them, by its id, would show in the next: records would be missing, or its writer
//! epoch would be raised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use quipu_protocol::LogId;
use quipu_protocol::batch::Record;
use quipu_sdk::{
    DeleteLogError, LogAlteration, LogConfig, LogName, LogRef, Offset, Producer, ProducerConfig, ReaderConfig,
};

use super::append::outcome;
use super::create::create;
use super::read::place;
use super::{Context, record};
use crate::environment::clock::now;
use crate::history::{Call, Outcome, Terms};
use crate::violation::Violation;

/// What did not succeed is tried again after up to this time, in milliseconds.
const AGAIN_MS: u64 = 200;
/// A log takes up to so many appends before it is deleted.
const MOST_APPENDS: u64 = 6;

/// What is known of logs that are deleted.
#[derive(Debug, Default)]
pub(crate) struct Brief {
    /// The log that was last created under a name.
    current: BTreeMap<String, Current>,
    /// What those held that were about to be deleted, by what the history calls
    /// them.
    departed: BTreeMap<String, Vec<(u64, u64)>>,
    /// The ids of the deleted ones.
    gone: BTreeSet<LogId>,
}

/// A log that has its name, as far as anybody knows.
#[derive(Debug)]
struct Current {
    known_as: String,
    /// Its id, once it was told.
    id: Option<LogId>,
}

impl Brief {
    /// What the history calls the log of this name and id.
    pub(crate) fn known_as(&self, name: &str, id: LogId) -> String {
        match self.current.get(name) {
            None => name.to_owned(),
            Some(current) if current.id.is_none_or(|known| known == id) => current.known_as.clone(),
            // A create that was repeated on its way made it, after the one that
            // was waited for was deleted.
            Some(_) => format!("{name}#{id}-of-nobody"),
        }
    }

    /// What was held by the logs that were deleted, or were about to be.
    pub(crate) const fn departed(&self) -> &BTreeMap<String, Vec<(u64, u64)>> {
        &self.departed
    }

    /// Which logs were said to be gone.
    pub(crate) const fn gone(&self) -> &BTreeSet<LogId> {
        &self.gone
    }
}

/// Whether the history calls a log so that does not last.
pub(crate) fn is_brief(known_as: &str) -> bool {
    known_as.contains('#')
}

impl Context {
    fn brief<T>(&self, look: impl FnOnce(&mut Brief) -> T) -> T {
        look(&mut self.shared.brief.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) async fn run(context: Context, replicas: u32, pause_ms: u64) {
    let name: LogName = context.shared.counters.brief_log().parse().expect("a good name");
    for generation in 0.. {
        let log = Log { context: &context, name: &name, known_as: format!("{name}#{generation}") };
        if log.live(replicas, pause_ms).await.is_none() {
            return;
        }
        context.shared.recorder.mark(now(), "log-deleted");
    }
}

/// One of the logs that have a name, one after the other.
struct Log<'a> {
    context: &'a Context,
    name: &'a LogName,
    known_as: String,
}

impl Log<'_> {
    /// From its creation to its deletion; nothing if it outlives the work.
    async fn live(&self, replicas: u32, pause_ms: u64) -> Option<()> {
        let config = LogConfig { replicas: Some(replicas), ..LogConfig::default() };
        let is_now = |id| Current { known_as: self.known_as.clone(), id };
        self.goes_on(pause_ms).await?;
        self.context.brief(|brief| brief.current.insert(self.name.to_string(), is_now(None)));
        let id = loop {
            if let Some(id) = create(self.context, self.name, &self.known_as, config).await {
                break id;
            }
            self.goes_on(pause_ms).await?;
        };
        self.context.brief(|brief| brief.current.insert(self.name.to_string(), is_now(Some(id))));
        let producer = self.context.client.producer(self.name, ProducerConfig::default()).expect("a good one");
        let number = self.context.shared.counters.producer();
        // A producer means the log that it first heard of.
        let mut means_it = false;
        for _ in 0..self.context.below(MOST_APPENDS) {
            self.goes_on(pause_ms).await?;
            means_it |= append(self.context, &self.known_as, &producer, number).await;
        }
        let held = loop {
            self.goes_on(pause_ms).await?;
            if let Some(held) = self.read(id).await {
                break held;
            }
        };
        self.is_nobodys(id).await;
        self.context.brief(|brief| brief.departed.insert(self.known_as.clone(), held));
        self.delete(id).await;
        self.context.brief(|brief| brief.gone.insert(id));
        // Whoever still means this one, while the next one may be there already.
        let (context, known_as) = (self.context.clone(), self.known_as.clone());
        if means_it {
            let late = async move { late_append(&context, &known_as, &producer, number).await };
            self.context.spawn(late).detach();
        }
        let (context, name) = (self.context.clone(), self.name.clone());
        let late = async move { late_change(&context, &name, id, pause_ms).await };
        self.context.spawn(late).detach();
        Some(())
    }

    /// Nobody acquires it, unless somebody meant another log by that.
    async fn is_nobodys(&self, id: LogId) {
        let Ok(writer) = self.context.client.describe_writer(LogRef::new(self.name, id)).await else { return };
        if writer.epoch.get() > 0 {
            let details = format!("{} is held by {:?}, who meant another log", self.known_as, writer.holder);
            let violation = Violation::new("late-calls-keep-to-their-log", details);
            self.context.shared.recorder.violated(now(), violation, None);
        }
    }

    async fn goes_on(&self, pause_ms: u64) -> Option<()> {
        self.context.pause(pause_ms).await;
        self.context.goes_on().then_some(())
    }

    /// All that it holds, if it says so. A node that has not heard of it may still
    /// serve the one that had the name before.
    async fn read(&self, id: LogId) -> Option<Vec<(u64, u64)>> {
        let mut reader = self.context.client.reader(self.name, ReaderConfig::default()).expect("a good one");
        let operation = self.context.invoke(&self.known_as, Call::Read { from: 0, max: u64::MAX, local: false });
        let mut records = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(record)) => records.push(place(self.context, &record)),
                Ok(None) if reader.log_id() != Some(id) => {
                    let why = "the log that had the name before answered".to_owned();
                    self.context.complete(operation, Outcome::Failed { why });
                    return None;
                }
                Ok(None) => {
                    self.context.complete(operation, Outcome::Read { records: records.clone() });
                    return Some(records);
                }
                Err(error) => {
                    self.context.complete(operation, Outcome::Failed { why: error.to_string() });
                    return None;
                }
            }
        }
    }

    /// Deletes it for sure, however often it has to be asked for: nobody else
    /// creates a log of this name.
    async fn delete(&self, id: LogId) {
        let operation = self.context.invoke(&self.known_as, Call::Delete);
        loop {
            match self.context.client.delete_log(LogRef::new(self.name, id)).await {
                // A create that was repeated on its way may have made another one.
                Ok(_) | Err(DeleteLogError::UnknownLog { .. }) => break,
                Err(DeleteLogError::Request(_)) => self.context.pause(AGAIN_MS).await,
            }
        }
        self.context.complete(operation, Outcome::Deleted);
    }
}

/// Appends, and says whether that was acknowledged.
async fn append(context: &Context, known_as: &str, producer: &Producer, number: u64) -> bool {
    let (operation, records) = invoke(context, known_as, number);
    let answer = outcome(producer.append(records).await);
    let landed = matches!(answer, Outcome::Appended { .. });
    context.complete(operation, answer);
    landed
}

/// Appends to a log that was deleted. Its replicas may not have heard of that
/// yet, and then what they acknowledge goes with it; in the next log of that
/// name it is nowhere.
async fn late_append(context: &Context, known_as: &str, producer: &Producer, number: u64) {
    let (operation, records) = invoke(context, known_as, number);
    let answer = match outcome(producer.append(records).await) {
        Outcome::Appended { .. } => {
            context.shared.recorder.mark(now(), "deleted-log-took-an-append");
            Outcome::Unknown { why: "a log that was deleted took it".to_owned() }
        }
        other => other,
    };
    context.complete(operation, answer);
}

/// Changes a log that was deleted, most often when the next one of its name is there.
/// Its replicas may not have heard of its end yet; the next one has nothing of it.
async fn late_change(context: &Context, name: &LogName, id: LogId, pause_ms: u64) {
    context.pause(pause_ms * 8).await;
    let (client, meant) = (&context.client, LogRef::new(name, id));
    let refused = match context.below(4) {
        0 => client.trim_past_leases(meant, Offset::new(u64::MAX)).await.is_err(),
        1 => client.acquire_writer(meant, "somebody who is late").await.is_err(),
        2 => {
            let change = LogAlteration { retention_bytes: Some(Some(1)), ..LogAlteration::default() };
            client.alter_log(meant, change).await.is_err()
        }
        _ => client.delete_log(meant).await.is_err(),
    };
    if refused {
        context.shared.recorder.mark(now(), "late-change-refused");
    }
}

fn invoke(context: &Context, known_as: &str, producer: u64) -> (u64, Vec<Record>) {
    let values = context.shared.counters.values(1 + context.below(3));
    let records = values.iter().map(|value| record(*value, 0)).collect();
    (context.invoke(known_as, Call::Append { producer, values, terms: Terms::default() }), records)
}
