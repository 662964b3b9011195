//! `quipu log end`: where a log ends, for all or for one replica.

use std::io::Write as _;

use clap::Args;
use quipu_sdk::{Client, LocalOffsets, LogName, NodeId};
use serde::Serialize;

use crate::cli::failure::Failure;
use quipu_server::output;

/// Print where a log ends.
///
/// Everything that was acknowledged before lies below: the log's leader answers,
/// having made sure of a majority of its replicas. `quipu read --at-least` holds any
/// replica to that end. With --replica or --local it is what a replica's own copy
/// holds, how far its leader has told it that the log goes, and how old that may be:
/// whatever was acknowledged longer ago lies below.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu log end orders
  quipu log end orders --replica 2 --json
  quipu read orders --replica 2 --at-least $(quipu log end orders)")]
pub(crate) struct EndArguments {
    /// The log's name.
    name: String,
    /// The end of the copy that this node holds.
    #[arg(long, value_name = "NODE", conflicts_with = "local")]
    replica: Option<u64>,
    /// The end of any replica's copy.
    #[arg(long)]
    local: bool,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: EndArguments, client: &Client) -> Result<(), Failure> {
    let log: LogName = arguments.name.parse()?;
    if arguments.local || arguments.replica.is_some() {
        let local = client.local_offsets(&log, arguments.replica.map(NodeId::new)).await?;
        return print_local(&arguments, local);
    }
    let end = client.barrier(&log).await?.end.get();
    if arguments.json {
        output::print_json(&JsonEnd { name: &arguments.name, end, leader_end: None, age_ms: None })?;
    } else {
        writeln!(std::io::stdout(), "{end}")?;
    }
    Ok(())
}

fn print_local(arguments: &EndArguments, local: LocalOffsets) -> Result<(), Failure> {
    let LocalOffsets { range, freshness } = local;
    let (end, leader_end) = (range.end().get(), freshness.leader_end.get());
    let age_ms = freshness.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    if arguments.json {
        let leader_end = Some(leader_end);
        output::print_json(&JsonEnd { name: &arguments.name, end, leader_end, age_ms })?;
        return Ok(());
    }
    let age = age_ms.map_or("of an age that it cannot tell".to_owned(), |age| format!("up to {age} ms old"));
    writeln!(std::io::stdout(), "{end}, {age}; its leader has told of {leader_end}")?;
    Ok(())
}

#[derive(Serialize)]
struct JsonEnd<'a> {
    name: &'a str,
    end: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_end: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
}
