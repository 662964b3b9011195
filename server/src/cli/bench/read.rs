//! `quipu bench read`: records read a second.

use std::io::Write as _;
use std::num::NonZeroU64;

use clap::Args;
use owo_colors::OwoColorize as _;
use quipu_sdk::{Client, Consistency, Environment, LogName, NodeId, ReaderConfig};
use serde_json::json;

use super::{per_second, rounded};
use crate::cli::failure::Failure;
use crate::cli::read::Place;
use quipu_server::output::{self, counted};

/// Read records and measure.
///
/// Reads from a place in the log to its end, one reader, and prints records
/// and megabytes (10^6 bytes of keys and values) a second.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu bench read
  quipu bench read --log orders --replica 2 --json")]
pub(crate) struct ReadArguments {
    /// The log.
    #[arg(long, value_name = "NAME", default_value = "bench")]
    log: String,
    /// Begin at this offset, at the start or at the end.
    #[arg(long, value_name = "OFFSET|start|end", default_value = "start")]
    from: Place,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    max: Option<NonZeroU64>,
    /// Read the copy that this node holds.
    #[arg(long, value_name = "NODE")]
    replica: Option<u64>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: &ReadArguments, client: &Client, environment: &Environment) -> Result<(), Failure> {
    let log: LogName = arguments.log.parse()?;
    let node = arguments.replica.map(NodeId::new);
    let config = ReaderConfig {
        from: arguments.from.0,
        max_records: arguments.max.map(NonZeroU64::get),
        consistency: if node.is_some() { Consistency::Local } else { Consistency::Linearizable },
        node,
        ..ReaderConfig::default()
    };
    let mut reader = client.reader(&log, config)?;
    let started = environment.clock.monotonic();
    let (mut records, mut bytes) = (0_u64, 0_u64);
    while let Some(record) = reader.next().await? {
        records += 1;
        bytes += [&record.key, &record.value].into_iter().flatten().map(|part| part.len() as u64).sum::<u64>();
    }
    let elapsed = environment.clock.monotonic().saturating_sub(started);

    let (rate, megabytes) = (per_second(records, elapsed), per_second(bytes, elapsed) / 1e6);
    if arguments.json {
        output::print_json(&json!({
            "log": log.as_str(),
            "replica": arguments.replica,
            "records": records,
            "bytes": bytes,
            "seconds": rounded(elapsed.as_secs_f64()),
            "records_per_second": rounded(rate),
            "megabytes_per_second": rounded(megabytes),
        }))?;
        return Ok(());
    }
    let mut output = output::for_people();
    writeln!(output, "{} of {log} in {:.2} s", counted(records, "record", "records"), elapsed.as_secs_f64())?;
    writeln!(output, "  read   {} records/s  {megabytes:.1} MB/s", format!("{rate:.0}").bold())?;
    Ok(())
}
