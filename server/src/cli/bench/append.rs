//! `quipu bench append`: acknowledged records a second, and what each of them
//! cost the nodes.
//!
//! ```text
//!   counters ─► the run ─► counters
//!                  └ in_flight appends at any time, one producer, one log
//! ```
//!
//! What came of it is [`report`]'s to tell.

mod report;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use quipu_sdk::{
    Client, Compression, Consistency, CreateLogError, Environment, LogConfig, LogName, NodeId, Offset, Producer,
    ProducerConfig, Record, WriterEpoch,
};

use super::latency::Latencies;
use crate::cli::failure::Failure;
use quipu_server::output;
use report::{Report, Spent};

/// Who acquires the writer epoch, for those whom it fences.
const HOLDER: &str = "quipu bench append";

/// Values are cut from this many random bytes, so that they do not compress.
const RANDOM_BYTES: usize = 1 << 20;

/// Append records and measure.
///
/// Keeps a fixed number of append calls in flight on one log until all records
/// are acknowledged, then prints acknowledged records and megabytes (10^6
/// bytes of values) a second, the latency of a call from before it is made
/// until it is acknowledged, and what the nodes did for it: CPU time a record,
/// fsyncs a record and replica, bytes written for each byte of value and
/// replica (journal and RocksDB). Preparing journal segments is reported apart:
/// it happens ahead of use.
///
/// Appends are idempotent unless told otherwise. What it costs that a log is
/// written under an epoch, or only where it is expected to end, shows beside a
/// run without.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu bench append                                       1 KiB records, one a call, 64 in flight
  quipu bench append --in-flight 1 --records 5000          latency of a lone writer
  quipu bench append --fenced --conditional                as a primary writes that fears another one
  quipu bench append --records-per-call 100 --compression zstd --json")]
pub(crate) struct AppendArguments {
    /// The log; created when there is none.
    #[arg(long, value_name = "NAME", default_value = "bench")]
    log: String,
    /// How many records to append.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// The size of a record's value, up to 1 MiB.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    record_bytes: u32,
    /// How many records go into one append call, which is one batch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    records_per_call: u32,
    /// How many append calls are in flight at any time, up to 64.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=64))]
    in_flight: u32,
    /// Acquire the log's writer epoch first, which fences whoever writes under an
    /// older one, and append under it.
    #[arg(long)]
    fenced: bool,
    /// Append each batch only if the log ends where the one before leaves it.
    /// Nobody else may append meanwhile.
    #[arg(long)]
    conditional: bool,
    /// Append without producer id and sequence: what is not answered may then
    /// have landed, and is not tried again.
    #[arg(long)]
    no_idempotence: bool,
    /// Compress batches with none, gzip, snappy, lz4 or zstd. The values are
    /// random bytes, which do not compress.
    #[arg(long, value_name = "CODEC", default_value_t = Compression::None)]
    compression: Compression,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Measures; an append that stays without an answer for `timeout` ends it.
pub(crate) async fn run(
    arguments: AppendArguments,
    timeout: Option<Duration>,
    client: &Client,
    environment: &Environment,
) -> Result<(), Failure> {
    let log: LogName = arguments.log.parse()?;
    match client.create_log(&log, LogConfig::default()).await {
        // However it is set up: that is what is measured.
        Ok(_) | Err(CreateLogError::Exists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let described = client.describe_log(&log).await?;
    let nodes: BTreeSet<NodeId> = described.replicas.iter().map(|replica| replica.node).collect();
    let mode = Mode::prepare(&arguments, &log, client).await?;
    let defaults = ProducerConfig::default();
    let config = ProducerConfig {
        in_flight: arguments.in_flight as usize,
        idempotent: !arguments.no_idempotence,
        writer_epoch: mode.epoch,
        compression: arguments.compression,
        delivery_timeout: timeout.unwrap_or(defaults.delivery_timeout),
        ..defaults
    };
    let producer = client.producer(&log, config)?;

    let before = client.status().await?;
    let run = measure(&arguments, mode.end, &producer, environment).await?;
    let after = client.status().await?;
    producer.close().await;

    let report = Report {
        arguments: &arguments,
        epoch: mode.epoch,
        run: &run,
        replicas: nodes.len() as u64,
        spent: Spent::between(&before, &after, &nodes),
    };
    if arguments.json {
        output::print_json(&report.as_json())?;
    } else {
        report.print()?;
    }
    Ok(())
}

/// Under which terms it appends.
struct Mode {
    /// The writer epoch, acquired.
    epoch: Option<WriterEpoch>,
    /// Where the first append expects the log to end.
    end: Option<Offset>,
}

impl Mode {
    async fn prepare(arguments: &AppendArguments, log: &LogName, client: &Client) -> Result<Self, Failure> {
        let acquired = if arguments.fenced { Some(client.acquire_writer(log, HOLDER).await?) } else { None };
        // Who does not claim the epoch may still have appended since.
        let end = if arguments.conditional {
            Some(client.offsets(log, Consistency::Linearizable).await?.end())
        } else {
            None
        };
        Ok(Self { epoch: acquired.map(|acquired| acquired.epoch), end })
    }
}

/// What the client saw.
struct Run {
    elapsed: Duration,
    calls: Latencies,
}

/// Each append expects the log to end where the one before leaves it, from `end`
/// on, if there is one.
async fn measure(
    arguments: &AppendArguments,
    mut end: Option<Offset>,
    producer: &Producer,
    environment: &Environment,
) -> Result<Run, Failure> {
    let clock = &environment.clock;
    let mut values = Values::new(arguments.record_bytes as usize, environment);
    let mut calls = Latencies::new()?;
    let bar = progress_bar(arguments.records);
    let mut left = arguments.records;
    let mut in_flight = FuturesUnordered::new();
    let started = clock.monotonic();
    loop {
        while left > 0 && in_flight.len() < arguments.in_flight as usize {
            let count = u64::from(arguments.records_per_call).min(left);
            left -= count;
            let records: Vec<Record> = (0..count).map(|_| producer.record(values.next())).collect();
            let called = clock.monotonic();
            let append = match &mut end {
                None => producer.enqueue(records).await?,
                Some(end) => {
                    let expected = *end;
                    *end = expected.advance(count);
                    producer.enqueue_at(expected, records).await?
                }
            };
            in_flight.push(async move { (append.await, called, count) });
        }
        let Some((appended, called, count)) = in_flight.next().await else { break };
        appended?;
        calls.record(clock.monotonic().saturating_sub(called));
        bar.inc(count);
    }
    let elapsed = clock.monotonic().saturating_sub(started);
    bar.finish_and_clear();
    Ok(Run { elapsed, calls })
}

/// Values of one size, cut from random bytes.
struct Values {
    random: Bytes,
    size: usize,
    at: usize,
}

impl Values {
    fn new(size: usize, environment: &Environment) -> Self {
        let words = (RANDOM_BYTES + size) / 8 + 1;
        let random = (0..words).flat_map(|_| environment.random.next().to_le_bytes()).collect::<Vec<_>>();
        Self { random: random.into(), size, at: 0 }
    }

    fn next(&mut self) -> Bytes {
        let value = self.random.slice(self.at..self.at + self.size);
        self.at = (self.at + self.size.max(1)) % RANDOM_BYTES;
        value
    }
}

/// Drawn on standard error, and only if that is a terminal.
fn progress_bar(records: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records, {rate}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    // Its own `per_sec` has four digits after the point.
    let style = style.with_key("rate", |state: &ProgressState, output: &mut dyn std::fmt::Write| {
        let _ = write!(output, "{:.0}/s", state.per_sec());
    });
    ProgressBar::new(records).with_style(style)
}
