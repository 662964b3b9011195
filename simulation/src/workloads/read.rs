//! Reads: a few records anywhere, everything from the start, and ends.

use quipu_sdk::{Consistency, From, Offset, ReadError, ReadRecord, Reader, ReaderConfig};

use super::{Context, value_of};
use crate::environment::clock::now;
use crate::history::{Call, Outcome};
use crate::violation::Violation;

/// A tail writes down what it has read in portions of up to so many records.
const PORTION: u64 = 20;
/// How often a tail looks whether to stop, in milliseconds.
const LOOK_MS: u64 = 100;

/// Reads a few records at a time, from anywhere.
pub(super) async fn some(context: Context, log: usize, max_records: u64, local: bool, pause_ms: u64) {
    let log = context.log(log);
    let mut known_end = 0;
    while context.goes_on() {
        context.pause(pause_ms).await;
        let (from, max) = (context.below(known_end + 1), 1 + context.below(max_records));
        let config = ReaderConfig {
            from: From::Offset(Offset::new(from)),
            max_records: Some(max),
            consistency: if local { Consistency::Local } else { Consistency::Linearizable },
            ..ReaderConfig::default()
        };
        let mut reader = context.client.reader(&log, config).expect("a good configuration");
        let start = if local { 0 } else { context.trimmed(log.as_str(), |trimmed| trimmed.start) };
        let operation = context.invoke(log.as_str(), Call::Read { from, max, local });
        let mut records = Vec::new();
        let failed = loop {
            match reader.next().await {
                Ok(Some(record)) => records.push(place(&context, &record)),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        context.check_start(log.as_str(), from, start, failed.as_ref().map_or(Ok(()), Err));
        match failed {
            None => {
                known_end = known_end.max(records.last().map_or(0, |(offset, _)| offset + 1));
                context.complete(operation, Outcome::Read { records });
            }
            Some(error) => context.complete(operation, failed_read(&context, &error)),
        }
    }
}

/// Follows a log from its start.
pub(super) async fn tail(context: Context, log: usize, local: bool) {
    let log = context.log(log);
    let config = ReaderConfig {
        follow: true,
        consistency: if local { Consistency::Local } else { Consistency::Linearizable },
        ..ReaderConfig::default()
    };
    let mut reader = context.client.reader(&log, config).expect("a good configuration");
    let mut next = 0;
    while context.goes_on() {
        let call = Call::Read { from: next, max: PORTION, local: true };
        let operation = context.invoke(log.as_str(), call);
        match portion(&context, &mut reader).await {
            Ok(records) if records.first().is_some_and(|(first, _)| *first > next) && next == 0 => {
                // It was trimmed before the first record came: the next portion is
                // the first that follows what was read.
                next = records.last().map_or(next, |(offset, _)| offset + 1);
                context.complete(operation, Outcome::Failed { why: "the log was trimmed".to_owned() });
            }
            Ok(records) => {
                next = records.last().map_or(next, |(offset, _)| offset + 1);
                context.complete(operation, Outcome::Read { records });
            }
            Err(error) => {
                context.complete(operation, failed_read(&context, &error));
                if !error.is_retryable() {
                    return;
                }
            }
        }
    }
}

/// What comes until there are enough, or it is time to look whether to stop.
async fn portion(context: &Context, reader: &mut Reader) -> Result<Vec<(u64, u64)>, ReadError> {
    let mut records = Vec::new();
    let clock = &context.environment.clock;
    while (records.len() as u64) < PORTION {
        let wait = std::time::Duration::from_millis(LOOK_MS);
        match clock.timeout(wait, reader.next()).await {
            Ok(Ok(Some(record))) => records.push(place(context, &record)),
            Ok(Ok(None)) | Err(_) => break,
            // What was read before counts; the error comes again if it lasts.
            Ok(Err(_)) if !records.is_empty() => break,
            Ok(Err(error)) => return Err(error),
        }
    }
    Ok(records)
}

/// Asks where a log ends.
pub(super) async fn end(context: Context, log: usize, pause_ms: u64) {
    let log = context.log(log);
    while context.goes_on() {
        context.pause(pause_ms).await;
        let operation = context.invoke(log.as_str(), Call::End);
        let outcome = match context.client.offsets(&log, Consistency::Linearizable).await {
            Ok(range) => Outcome::End { end: range.end().get() },
            Err(error) => Outcome::Failed { why: error.to_string() },
        };
        context.complete(operation, outcome);
    }
}

/// A record's offset and value. One that nobody appended breaks a promise.
pub(crate) fn place(context: &Context, record: &ReadRecord) -> (u64, u64) {
    let offset = record.offset.get();
    let value = value_of(record.value.as_ref()).unwrap_or_else(|| {
        let length = record.value.as_ref().map(bytes::Bytes::len);
        let details = format!("offset {offset} holds {length:?} bytes that nobody appended so");
        context.shared.recorder.violated(now(), Violation::new("records-are-what-was-appended", details), None);
        u64::MAX
    });
    (offset, value)
}

/// Errors that a reader must never see are broken promises.
pub(super) fn failed_read(context: &Context, error: &ReadError) -> Outcome {
    if matches!(error, ReadError::Corrupt { .. } | ReadError::NotContiguous { .. }) {
        let violation = Violation::new("readers-see-no-gap-and-no-damage", error);
        context.shared.recorder.violated(now(), violation, None);
    }
    Outcome::Failed { why: error.to_string() }
}
