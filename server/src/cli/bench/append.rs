//! `quipu bench append`: acknowledged records a second, and what each of them
//! cost the nodes.
//!
//! ```text
//!   counters ─► the run ─► counters
//!                  └ in_flight appends at any time, one producer, one log
//! ```
//!
//! What the nodes did is the difference of the counters that `status` carries,
//! over the nodes that have a replica of the log. Whatever else the cluster
//! does meanwhile counts as well: measure a quiet one.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use owo_colors::OwoColorize as _;
use quipu_sdk::{
    Client, ClusterStatus, Compression, Environment, LogConfig, LogName, NodeId, Producer, ProducerConfig, Record,
};
use serde_json::{Value, json};

use super::latency::Latencies;
use super::{per, per_second, rounded};
use crate::cli::failure::Failure;
use quipu_server::output::{self, counted, grouped};

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
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu bench append                                       1 KiB records, one a call, 64 in flight
  quipu bench append --in-flight 1 --records 5000          latency of a lone writer
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
    client.create_log(&log, LogConfig::default()).await?;
    let described = client.describe_log(&log).await?;
    let nodes: BTreeSet<NodeId> = described.replicas.iter().map(|replica| replica.node).collect();
    let defaults = ProducerConfig::default();
    let config = ProducerConfig {
        in_flight: arguments.in_flight as usize,
        compression: arguments.compression,
        delivery_timeout: timeout.unwrap_or(defaults.delivery_timeout),
        ..defaults
    };
    let producer = client.producer(&log, config)?;

    let before = client.status().await?;
    let run = measure(&arguments, &producer, environment).await?;
    let after = client.status().await?;
    producer.close().await;

    let report = Report {
        arguments: &arguments,
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

/// What the client saw.
struct Run {
    elapsed: Duration,
    calls: Latencies,
}

async fn measure(arguments: &AppendArguments, producer: &Producer, environment: &Environment) -> Result<Run, Failure> {
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
            let append = producer.enqueue(records).await?;
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

/// What the nodes with a replica did during the run, summed up.
struct Spent {
    cpu: Duration,
    fsyncs: u64,
    commits: u64,
    /// By journal commits and by RocksDB.
    written_bytes: u64,
    metadata_bytes: u64,
    prepared_bytes: u64,
}

impl Spent {
    /// None when a node was down or was started again in between.
    fn between(before: &ClusterStatus, after: &ClusterStatus, nodes: &BTreeSet<NodeId>) -> Option<Self> {
        let mut spent =
            Self { cpu: Duration::ZERO, fsyncs: 0, commits: 0, written_bytes: 0, metadata_bytes: 0, prepared_bytes: 0 };
        for &node in nodes {
            let of = |status: &ClusterStatus| {
                let node = status.nodes.iter().find(|status| status.id == node)?;
                Some((node.cpu, node.journal?))
            };
            let ((cpu_before, before), (cpu_after, after)) = (of(before)?, of(after)?);
            spent.cpu += cpu_after.checked_sub(cpu_before)?;
            spent.fsyncs += after.fsyncs.checked_sub(before.fsyncs)?;
            spent.commits += after.commits.checked_sub(before.commits)?;
            spent.written_bytes += after.written_bytes.checked_sub(before.written_bytes)?;
            spent.metadata_bytes += after.metadata_bytes.checked_sub(before.metadata_bytes)?;
            spent.prepared_bytes += after.prepared_bytes.checked_sub(before.prepared_bytes)?;
        }
        Some(spent)
    }
}

struct Report<'a> {
    arguments: &'a AppendArguments,
    run: &'a Run,
    replicas: u64,
    spent: Option<Spent>,
}

impl Report<'_> {
    fn payload_bytes(&self) -> u64 {
        self.arguments.records * u64::from(self.arguments.record_bytes)
    }

    fn records_per_second(&self) -> f64 {
        per_second(self.arguments.records, self.run.elapsed)
    }

    fn megabytes_per_second(&self) -> f64 {
        per_second(self.payload_bytes(), self.run.elapsed) / 1e6
    }

    fn cpu_micros_per_record(&self, spent: &Spent) -> f64 {
        per(u64::try_from(spent.cpu.as_micros()).unwrap_or(u64::MAX), self.arguments.records)
    }

    /// A record's fsyncs on one node: what all nodes did, shared out.
    fn fsyncs_per_record_and_replica(&self, spent: &Spent) -> f64 {
        per(spent.fsyncs, self.arguments.records * self.replicas)
    }

    fn per_payload_byte_and_replica(&self, bytes: u64) -> f64 {
        per(bytes, self.payload_bytes() * self.replicas)
    }

    fn as_json(&self) -> Value {
        let arguments = self.arguments;
        let spent = self.spent.as_ref().map(|spent| {
            json!({
                "cpu_micros_per_record": rounded(self.cpu_micros_per_record(spent)),
                "fsyncs_per_record_and_replica": rounded(self.fsyncs_per_record_and_replica(spent)),
                "commits": spent.commits,
                "fsyncs": spent.fsyncs,
                "written_per_payload_byte_and_replica":
                    rounded(self.per_payload_byte_and_replica(spent.written_bytes + spent.metadata_bytes)),
                "prepared_per_payload_byte_and_replica":
                    rounded(self.per_payload_byte_and_replica(spent.prepared_bytes)),
                "journal_bytes": spent.written_bytes,
                "metadata_bytes": spent.metadata_bytes,
                "prepared_bytes": spent.prepared_bytes,
            })
        });
        json!({
            "log": arguments.log,
            "records": arguments.records,
            "record_bytes": arguments.record_bytes,
            "records_per_call": arguments.records_per_call,
            "in_flight": arguments.in_flight,
            "compression": arguments.compression.as_str(),
            "replicas": self.replicas,
            "seconds": rounded(self.run.elapsed.as_secs_f64()),
            "records_per_second": rounded(self.records_per_second()),
            "megabytes_per_second": rounded(self.megabytes_per_second()),
            "latency_ms": self.run.calls.as_json(),
            "servers": spent,
        })
    }

    fn print(&self) -> Result<(), Failure> {
        let AppendArguments { log, records, record_bytes, records_per_call, in_flight, .. } = self.arguments;
        let mut output = output::for_people();
        writeln!(
            output,
            "{} of {} to {log}: {} a call, {} in flight, {}",
            counted(*records, "record", "records"),
            counted((*record_bytes).into(), "byte", "bytes"),
            grouped((*records_per_call).into()),
            counted((*in_flight).into(), "call", "calls"),
            counted(self.replicas, "replica", "replicas"),
        )?;
        let rate = format!("{:.0}", self.records_per_second());
        writeln!(output, "  acknowledged   {} records/s  {:.1} MB/s", rate.bold(), self.megabytes_per_second())?;
        let latency = |percent| self.run.calls.milliseconds(percent);
        writeln!(
            output,
            "  latency        p50 {:.2} ms  p90 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  ({})",
            latency(50.0),
            latency(90.0),
            latency(99.0),
            latency(99.9),
            counted(self.run.calls.count(), "call", "calls"),
        )?;
        let Some(spent) = &self.spent else {
            writeln!(output, "  servers        unknown: a node was down or started again during the run")?;
            return Ok(());
        };
        writeln!(output, "  server CPU     {:.1} µs a record, all nodes together", self.cpu_micros_per_record(spent))?;
        writeln!(output, "  fsyncs         {:.3} a record and replica", self.fsyncs_per_record_and_replica(spent))?;
        writeln!(
            output,
            "  written        {:.3} bytes a payload byte and replica  (journal {:.3}, RocksDB {:.3})",
            self.per_payload_byte_and_replica(spent.written_bytes + spent.metadata_bytes),
            self.per_payload_byte_and_replica(spent.written_bytes),
            self.per_payload_byte_and_replica(spent.metadata_bytes),
        )?;
        writeln!(
            output,
            "  prepared       {:.3} bytes a payload byte and replica, ahead of use",
            self.per_payload_byte_and_replica(spent.prepared_bytes),
        )?;
        Ok(())
    }
}
