//! `quipu log delete`: a log and all its records.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use quipu_sdk::{Client, LogId, LogName, LogRef};

use super::json::JsonLog;
use crate::cli::failure::Failure;
use quipu_server::output::{self, counted};

/// Delete a log with all its records, on every node.
///
/// There is no way back. The name is free at once: a new log of that name has
/// another id, and producers and readers of the deleted one never come to it.
/// Nodes that are down let go of their copy when they are back. The space is
/// freed later, when whole segments hold nothing else.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu log delete orders              asks first
  quipu log delete orders --yes")]
pub(crate) struct DeleteArguments {
    /// The log's name.
    name: String,
    /// Do not ask. Needed where there is no terminal to ask at.
    #[arg(long)]
    yes: bool,
    /// Print one line of JSON: what was deleted.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: DeleteArguments, client: &Client) -> Result<(), Failure> {
    let name: LogName = arguments.name.parse()?;
    let meant: LogRef<'_> = if arguments.yes {
        (&name).into()
    } else {
        if !std::io::stdin().is_terminal() {
            let message = format!("log {name} would be deleted for good: say so with --yes");
            return Err(Failure::Usage(message));
        }
        LogRef::new(&name, confirm(&name, client).await?)
    };
    let deleted = client.delete_log(meant).await?;
    if arguments.json {
        output::print_json(&JsonLog::new(&deleted))?;
        return Ok(());
    }
    writeln!(std::io::stdout(), "deleted {name} (id {})", deleted.id)?;
    Ok(())
}

/// Lets a person say that it is this log; returns its id.
async fn confirm(name: &LogName, client: &Client) -> Result<LogId, Failure> {
    let described = client.describe_log(name).await?;
    let records = counted(described.range.count(), "record", "records");
    let mut screen = std::io::stderr().lock();
    write!(screen, "{name} has {records}. Type its name to delete it for good: ")?;
    screen.flush()?;
    drop(screen);
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed).map_err(|error| Failure::system("read the answer", &error))?;
    if typed.trim() != name.as_str() {
        return Err(Failure::Refused("nothing was deleted".to_owned()));
    }
    Ok(described.log.id)
}
