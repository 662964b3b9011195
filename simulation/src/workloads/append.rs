//! Appends batches, several at a time.

use std::time::Duration;

use quipu_protocol::batch::Compression;
use quipu_sdk::{AppendError, Producer, ProducerConfig};

use super::{Context, record};
use crate::history::{Call, Outcome, Terms};
use crate::scenario::Job;

/// Batches stay below what logs take.
const MAX_BATCH_BYTES: usize = 200_000;

pub(super) async fn run(context: Context, job: Job) {
    let Job::Append {
        log,
        batch_records,
        value_bytes,
        in_flight,
        pause_ms,
        delivery_timeout_ms,
        idempotent,
        compression,
    } = job
    else {
        return;
    };
    let log = context.log(log);
    let config = ProducerConfig {
        in_flight,
        delivery_timeout: Duration::from_millis(delivery_timeout_ms),
        idempotent,
        compression: match compression {
            0 => Compression::None,
            1 => Compression::Lz4,
            2 => Compression::Zstd,
            3 => Compression::Gzip,
            _ => Compression::Snappy,
        },
        ..ProducerConfig::default()
    };
    let producer = context.client.producer(&log, config).expect("a good configuration");
    let number = context.shared.counters.producer();
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(in_flight));
    while context.goes_on() {
        context.pause(pause_ms).await;
        let Ok(room) = std::sync::Arc::clone(&room).acquire_owned().await else { return };
        if !context.goes_on() {
            break;
        }
        let most = batch_records.min((MAX_BATCH_BYTES / value_bytes.max(1)) as u64).max(1);
        let values = context.shared.counters.values(1 + context.below(most));
        let bytes = usize::try_from(context.below(value_bytes as u64 + 1)).unwrap_or(0);
        let records = values.iter().map(|value| record(*value, bytes)).collect();
        // Batches without numbers may land in any order.
        let by = if idempotent { number } else { context.shared.counters.producer() };
        let operation = context.invoke(log.as_str(), Call::Append { producer: by, values, terms: Terms::default() });
        match producer.enqueue(records).await {
            Ok(append) => {
                let told = context.clone();
                let waiting = async move {
                    told.complete(operation, outcome(append.await));
                    drop(room);
                };
                context.spawn(waiting).detach();
            }
            Err(error) => context.complete(operation, outcome(Err(error.into()))),
        }
    }
    close(producer).await;
}

/// Waits until all that was taken is answered.
async fn close(producer: Producer) {
    producer.close().await;
}

pub(crate) fn outcome(answer: Result<quipu_sdk::OffsetRange, AppendError>) -> Outcome {
    match answer {
        Ok(range) => Outcome::Appended { start: range.start().get(), end: range.end().get() },
        Err(error) if error.has_no_side_effects() => Outcome::Failed { why: error.to_string() },
        Err(error) => Outcome::Unknown { why: error.to_string() },
    }
}
