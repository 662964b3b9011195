//! Reads everything there is and keeps it in mind: what a log has let go of is
//! judged by that.

use quipu_sdk::{From, Offset, ReadError, ReaderConfig};

use super::Context;
use super::read::place;
use crate::environment::clock::now;

/// So many records are read at a time.
const PORTION: u64 = 500;

/// Looks again and again.
pub(super) async fn run(context: Context, log: usize, pause_ms: u64) {
    let log = context.log(log);
    while context.goes_on() {
        remember(&context, log.as_str()).await;
        context.pause(pause_ms).await;
    }
}

/// Reads what is not remembered yet, as far as it is there still.
pub(super) async fn remember(context: &Context, log: &str) {
    let from = context.trimmed(log, |trimmed| trimmed.next);
    let config =
        ReaderConfig { from: From::Offset(Offset::new(from)), max_records: Some(PORTION), ..ReaderConfig::default() };
    let name = log.parse().expect("a good name");
    let mut reader = context.client.reader(&name, config).expect("a good configuration");
    loop {
        match reader.next().await {
            // What was read before an error counts.
            Ok(Some(record)) => {
                let (offset, value) = place(context, &record);
                context.trimmed(log, |trimmed| {
                    trimmed.values.entry(offset).or_insert(value);
                    trimmed.next = trimmed.next.max(offset + 1);
                });
            }
            Err(ReadError::BelowStart { start, .. }) if context.forgets(log) => {
                context.shared.recorder.mark(now(), "forgotten-before-it-was-read");
                return context.trimmed(log, |trimmed| trimmed.next = trimmed.next.max(start.get()));
            }
            Ok(None) | Err(_) => return,
        }
    }
}
