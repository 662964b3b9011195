//! `quipu log`: logs as wholes.

mod delete;
mod describe;
mod end;
mod json;
mod settings;

use std::io::{BufWriter, Write as _};

use clap::{Args, Subcommand};
use quipu_sdk::{Client, Lease, Offset};
use serde::Serialize;

use self::delete::DeleteArguments;
use self::describe::DescribeArguments;
use self::end::EndArguments;
use self::json::JsonLog;
use self::settings::{AlterArguments, CreateArguments};
use super::failure::Failure;
use quipu_server::output::{self, counted};

/// Create, change, list, describe, trim and delete logs.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    Create(CreateArguments),
    Alter(AlterArguments),
    List(ListArguments),
    Describe(DescribeArguments),
    End(EndArguments),
    Trim(TrimArguments),
    Delete(DeleteArguments),
}

/// List the logs, one name a line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu log list
  quipu log list 'orders/*'              quoted, so that the shell leaves it alone")]
pub(crate) struct ListArguments {
    /// Only logs whose whole names match: * stands for any characters, / among
    /// them, ? for one.
    pattern: Option<String>,
    /// Print one line of JSON for each: name, id, and its configuration as far
    /// as it is set.
    #[arg(long)]
    json: bool,
}

/// Move a log's start forward: records before it cannot be read any more.
///
/// A start is never moved back, and not beyond the end; trimming again does no
/// harm. A trim that would take away what leases keep is refused, and names their
/// holders. The space is freed later, when whole segments hold nothing else.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu log trim orders --to 1000000
  quipu log trim orders --to 1000000 --force      whoever holds a lease")]
pub(crate) struct TrimArguments {
    /// The log's name.
    name: String,
    /// The first offset to stay readable.
    #[arg(long, value_name = "OFFSET")]
    to: u64,
    /// Trim although holders of leases are stranded by it: their leases are gone, and
    /// what these kept.
    #[arg(long)]
    force: bool,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

impl LogCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Create(arguments) => settings::create(arguments, client).await,
            Self::Alter(arguments) => settings::alter(arguments, client).await,
            Self::List(arguments) => list(&arguments, client).await,
            Self::Describe(arguments) => describe::run(arguments, client).await,
            Self::End(arguments) => end::run(arguments, client).await,
            Self::Trim(arguments) => trim(arguments, client).await,
            Self::Delete(arguments) => delete::run(arguments, client).await,
        }
    }
}

async fn trim(arguments: TrimArguments, client: &Client) -> Result<(), Failure> {
    let (log, to) = (arguments.name.parse()?, Offset::new(arguments.to));
    let (range, stranded) = if arguments.force {
        let trimmed = client.trim_past_leases(&log, to).await?;
        (trimmed.range, trimmed.stranded)
    } else {
        (client.trim(&log, to).await?, Vec::new())
    };
    for Lease { holder, offset, .. } in &stranded {
        super::complain(&format!("STRANDED: {holder} held a lease from {offset} on, which is gone with its records"));
    }
    if arguments.json {
        let (start, end) = (range.start().get(), range.end().get());
        let stranded = stranded.iter().map(|lease| lease.holder.as_str()).collect();
        output::print_json(&JsonTrimmed { name: &arguments.name, start, end, stranded })?;
        return Ok(());
    }
    let records = counted(range.count(), "record", "records");
    writeln!(std::io::stdout(), "{} has {range} ({records})", arguments.name)?;
    Ok(())
}

async fn list(arguments: &ListArguments, client: &Client) -> Result<(), Failure> {
    let mut output = BufWriter::new(std::io::stdout().lock());
    let pattern = arguments.pattern.as_deref().map(str::parse).transpose()?;
    let mut logs = client.logs(pattern);
    while let Some(log) = logs.next().await? {
        if arguments.json {
            serde_json::to_writer(&mut output, &JsonLog::new(&log)).map_err(std::io::Error::from)?;
            writeln!(output)?;
        } else {
            writeln!(output, "{}", log.name)?;
        }
    }
    output.flush()?;
    Ok(())
}

#[derive(Serialize)]
struct JsonTrimmed<'a> {
    name: &'a str,
    start: u64,
    end: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stranded: Vec<&'a str>,
}
