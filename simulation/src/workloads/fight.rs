//! Primaries that fight over a log: each acquires its writer epoch, appends under
//! it, mostly where it knows the log to end, and finds out what became of what
//! was not answered.
//!
//! ```text
//!   acquire ─▶ append, append at the end … ─▶ fenced ─┐
//!      ▲            └▶ unknown ─▶ resolve             │
//!      └──────────────────────────────────────────────┘
//! ```

use std::time::Duration;

use quipu_sdk::{AppendError, AppendId, LogName, Offset, Producer, ProducerConfig, Resolution, WriterEpoch};

use super::{Context, record};
use crate::environment::clock::now;
use crate::history::{Call, Outcome, Terms};
use crate::violation::Violation;

/// After this time an append's outcome is unknown.
const DELIVERY_TIMEOUT: Duration = Duration::from_millis(800);
/// A primary steps down after up to so many appends.
const MOST_APPENDS: u64 = 20;

pub(super) async fn run(context: Context, log: usize, pause_ms: u64) {
    let log = context.log(log);
    while context.goes_on() {
        if let Some((epoch, end)) = acquire(&context, &log).await {
            Primary::new(&context, &log, epoch, end).write(pause_ms).await;
        }
        context.pause(pause_ms * 4).await;
    }
}

/// Acquires the writer epoch, if that is known to have been done.
pub(crate) async fn acquire(context: &Context, log: &LogName) -> Option<(u64, u64)> {
    let operation = context.invoke(log.as_str(), Call::Acquire);
    let holder = format!("client-{}", context.number);
    let outcome = match context.client.acquire_writer(log, &holder).await {
        Ok(acquired) => Outcome::Acquired { epoch: acquired.epoch.get(), end: acquired.end.get() },
        Err(error) if error.has_no_side_effects() => Outcome::Failed { why: error.to_string() },
        Err(error) => Outcome::Unknown { why: error.to_string() },
    };
    let acquired = match outcome {
        Outcome::Acquired { epoch, end } => Some((epoch, end)),
        _ => None,
    };
    context.complete(operation, outcome);
    acquired
}

/// One that writes under an epoch of its own.
struct Primary<'a> {
    context: &'a Context,
    log: &'a LogName,
    epoch: u64,
    /// Where the log ends as far as it knows.
    end: u64,
    producer: Producer,
    /// One that claims no epoch.
    careless: Producer,
    number: u64,
}

impl<'a> Primary<'a> {
    fn new(context: &'a Context, log: &'a LogName, epoch: u64, end: u64) -> Self {
        let config = ProducerConfig {
            writer_epoch: Some(WriterEpoch::new(epoch)),
            delivery_timeout: DELIVERY_TIMEOUT,
            ..ProducerConfig::default()
        };
        let careless = ProducerConfig { writer_epoch: None, ..config.clone() };
        let producer = |config| context.client.producer(log, config).expect("a good configuration");
        let (producer, careless) = (producer(config), producer(careless));
        Self { context, log, epoch, end, producer, careless, number: context.shared.counters.producer() }
    }

    /// Appends until it is fenced, or has had its turn.
    async fn write(mut self, pause_ms: u64) {
        for _ in 0..1 + self.context.below(MOST_APPENDS) {
            self.context.pause(pause_ms).await;
            if !self.context.goes_on() || !self.append().await {
                return;
            }
        }
    }

    /// Appends once; false when it is not the writer any more, or does not know.
    async fn append(&mut self) -> bool {
        let values = self.context.shared.counters.values(1 + self.context.below(3));
        let records = values.iter().map(|value| record(*value, 0)).collect();
        // Now and then it forgets to claim its epoch, which such a log refuses.
        let claims = self.context.below(12) > 0;
        // Now and then it is wrong about the end, or does not care.
        let expected_end = match self.context.below(8) {
            0 => None,
            1 => Some(self.end + self.context.below(3)),
            _ => Some(self.end),
        };
        let terms = Terms { epoch: claims.then_some(self.epoch), expected_end };
        // Each of the two keeps an order of its own.
        let by = if claims { self.number } else { self.context.shared.counters.producer() };
        let call = Call::Append { producer: by, values: values.clone(), terms };
        let operation = self.context.invoke(self.log.as_str(), call);
        let producer = if claims { &self.producer } else { &self.careless };
        let answer = match expected_end {
            Some(expected) => producer.append_at(Offset::new(expected), records).await,
            None => producer.append(records).await,
        };
        let unresolved = match &answer {
            Err(AppendError::OutcomeUnknown { append, .. }) => *append,
            _ => None,
        };
        let outcome = outcome(answer);
        self.context.complete(operation, outcome.clone());
        match outcome {
            Outcome::Appended { .. } if !claims => {
                let details = format!("log {}: {values:?} landed without a writer epoch", self.log);
                let violation = Violation::new("writer-is-required", details);
                self.context.shared.recorder.violated(now(), violation, None);
                false
            }
            Outcome::Appended { end, .. } | Outcome::Mismatch { end } => {
                self.end = end;
                true
            }
            Outcome::Failed { .. } if !claims => true,
            Outcome::Fenced { .. } => {
                self.context.shared.recorder.mark(now(), "a-primary-was-fenced");
                false
            }
            _ => match unresolved {
                Some(append) => self.resolve(append, values).await,
                None => false,
            },
        }
    }

    /// Finds out what became of an append. Whether it goes on: its producer's
    /// epoch is over, if the append has not landed.
    async fn resolve(&mut self, append: AppendId, values: Vec<u64>) -> bool {
        let operation = self.context.invoke(self.log.as_str(), Call::Resolve { values });
        let (outcome, goes_on) = match self.context.client.resolve(self.log, append).await {
            Ok(Resolution::Landed(range)) => {
                self.context.shared.recorder.mark(now(), "resolved-as-landed");
                self.end = range.end().get();
                (Outcome::Resolved { landed: Some((range.start().get(), self.end)) }, true)
            }
            Ok(Resolution::Never) => {
                self.context.shared.recorder.mark(now(), "resolved-as-never");
                (Outcome::Resolved { landed: None }, false)
            }
            Ok(Resolution::Forgotten) => (Outcome::Failed { why: "it is forgotten".to_owned() }, false),
            Err(error) => (Outcome::Failed { why: error.to_string() }, false),
        };
        self.context.complete(operation, outcome);
        goes_on
    }
}

pub(crate) fn outcome(answer: Result<quipu_sdk::OffsetRange, AppendError>) -> Outcome {
    match answer {
        Err(AppendError::WriterFenced { current, .. }) => Outcome::Fenced { current: current.get() },
        Err(AppendError::OffsetMismatch { end, .. }) => Outcome::Mismatch { end: end.get() },
        other => super::append::outcome(other),
    }
}
