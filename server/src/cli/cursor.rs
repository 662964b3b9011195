//! `quipu cursor`: named positions in a log.

use std::io::Write as _;

use clap::{Args, Subcommand};
use quipu_sdk::{Client, CursorCommit, CursorDescription, CursorName, LogId, LogName, Offset};
use serde::Serialize;

use super::failure::Failure;
use quipu_server::output::{self, Table, counted};

/// Commit, show, list or delete cursors: named positions that a log keeps for those
/// who read it.
#[derive(Debug, Subcommand)]
pub(crate) enum CursorCommand {
    Commit(CommitArguments),
    Get(GetArguments),
    List(ListArguments),
    Delete(DeleteArguments),
}

/// Move a cursor to a position, and make it if there is none.
///
/// The position is the next offset to be read: from 0 to the log's end, forward or
/// backward. Commits of a log within a second go together, so that this may take
/// that long.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu cursor commit orders billing 1207
  quipu cursor commit orders billing 1300 --expect 1207
  quipu cursor commit orders billing 0 --expect none")]
pub(crate) struct CommitArguments {
    /// The log's name.
    log: String,
    /// The cursor's name: 1 to 255 bytes without control characters.
    cursor: String,
    /// The next offset to be read.
    position: u64,
    /// Only if the cursor is there; none if it is to have no position yet. Refused
    /// with where it is otherwise.
    #[arg(long, value_name = "OFFSET|none")]
    expect: Option<Expected>,
    /// Commit under this generation: refused if the cursor has a higher one, and
    /// kept otherwise.
    #[arg(long, value_name = "G", default_value_t = 0)]
    generation: u64,
    /// The position is one of the log with this id (quipu log describe), and not of
    /// the one that holds the cursor.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    of: Option<u64>,
    /// Keep this text with the position, up to 1024 bytes.
    #[arg(long, value_name = "TEXT", default_value = "")]
    metadata: String,
}

/// Show a cursor, and how many records come after it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu cursor get orders billing
  quipu read orders --from \"$(quipu cursor get orders billing --json | jq .position)\"")]
pub(crate) struct GetArguments {
    /// The log's name.
    log: String,
    /// The cursor's name.
    cursor: String,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// List a log's cursors by name, each with how many records come after it.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// The log's name.
    log: String,
    /// Only those whose names begin so.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Print one line of JSON for each cursor.
    #[arg(long)]
    json: bool,
}

/// Delete a cursor. One that is not there is no error.
#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// The log's name.
    log: String,
    /// The cursor's name.
    cursor: String,
}

/// Where a cursor is expected to be; `None` for no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected(Option<u64>);

impl std::str::FromStr for Expected {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            offset => match offset.parse() {
                Ok(offset) => Ok(Self(Some(offset))),
                Err(_) => Err("an offset, or none, is expected"),
            },
        }
    }
}

impl CursorCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Commit(arguments) => commit(arguments, client).await,
            Self::Get(arguments) => get(&arguments, client).await,
            Self::List(arguments) => list(&arguments, client).await,
            Self::Delete(arguments) => delete(&arguments, client).await,
        }
    }
}

async fn commit(arguments: CommitArguments, client: &Client) -> Result<(), Failure> {
    let (log, name) = names(&arguments.log, &arguments.cursor)?;
    let cursor = client.cursor(&log, &name);
    let commit = cursor.at(Offset::new(arguments.position)).under(arguments.generation);
    let commit = commit.with_metadata(arguments.metadata);
    let commit = arguments.of.into_iter().fold(commit, |commit, id| commit.of(LogId::new(id)));
    let expected = arguments.expect.map(|Expected(position)| position.map(Offset::new));
    let commit = expected.into_iter().fold(commit, CursorCommit::expecting);
    cursor.commit_as(commit).await?;
    writeln!(std::io::stdout(), "{name} of {log} is at {}", arguments.position)?;
    Ok(())
}

async fn get(arguments: &GetArguments, client: &Client) -> Result<(), Failure> {
    let (log, name) = names(&arguments.log, &arguments.cursor)?;
    let found = client.cursor(&log, &name).get().await?;
    let cursor = found.ok_or_else(|| Failure::Refused(format!("{log} has no cursor {name}")))?;
    if arguments.json {
        output::print_json(&JsonCursor::from(&cursor))?;
        return Ok(());
    }
    let place = match (cursor.position, cursor.of) {
        (None, _) => "has no position yet".to_owned(),
        (Some(position), Some(of)) => format!("is at {position} of log {of}"),
        (Some(position), None) => format!("is at {position}"),
    };
    let lag = cursor.lag().map(|lag| format!(", {} behind", counted(lag, "record", "records"))).unwrap_or_default();
    let generation = match cursor.generation {
        0 => String::new(),
        generation => format!(", generation {generation}"),
    };
    writeln!(std::io::stdout(), "{name} of {log} {place}{lag}{generation}")?;
    Ok(())
}

async fn list(arguments: &ListArguments, client: &Client) -> Result<(), Failure> {
    let log: LogName = arguments.log.parse()?;
    let cursors = client.cursors(&log, &arguments.prefix).await?;
    if arguments.json {
        for cursor in &cursors {
            output::print_json(&JsonCursor::from(cursor))?;
        }
        return Ok(());
    }
    let mut table = Table::new(["cursor", " position", " lag", " generation", " of log"]);
    for cursor in &cursors {
        let or_dash = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        table.row([
            &cursor.name,
            &or_dash(cursor.position.map(Offset::get)),
            &or_dash(cursor.lag()),
            &cursor.generation,
            &or_dash(cursor.of.map(LogId::get)),
        ]);
    }
    table.write(&mut output::for_people(), "")?;
    Ok(())
}

async fn delete(arguments: &DeleteArguments, client: &Client) -> Result<(), Failure> {
    let (log, name) = names(&arguments.log, &arguments.cursor)?;
    let deleted = client.cursor(&log, &name).delete().await?;
    let what = if deleted { "deleted" } else { "there is no cursor" };
    writeln!(std::io::stdout(), "{what} {name} of {log}")?;
    Ok(())
}

fn names(log: &str, cursor: &str) -> Result<(LogName, CursorName), Failure> {
    let name = cursor.parse().map_err(|error: quipu_sdk::CursorNameError| Failure::Refused(error.to_string()))?;
    Ok((log.parse()?, name))
}

#[derive(Serialize)]
struct JsonCursor<'a> {
    cursor: &'a str,
    /// Null until the first commit.
    position: Option<u64>,
    /// Null where the position is of another log.
    lag: Option<u64>,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    metadata: String,
    committed_at_ms: i64,
    start: u64,
    end: u64,
}

impl<'a> From<&'a CursorDescription> for JsonCursor<'a> {
    fn from(cursor: &'a CursorDescription) -> Self {
        Self {
            cursor: cursor.name.as_str(),
            position: cursor.position.map(Offset::get),
            lag: cursor.lag(),
            generation: cursor.generation,
            of: cursor.of.map(LogId::get),
            metadata: String::from_utf8_lossy(&cursor.metadata).into_owned(),
            committed_at_ms: cursor.committed_at.get(),
            start: cursor.range.start().get(),
            end: cursor.range.end().get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_is_an_offset_or_none() {
        assert_eq!("none".parse(), Ok(Expected(None)));
        assert_eq!("0".parse(), Ok(Expected(Some(0))));
        for text in ["", "-1", "None", "1.5", "18446744073709551616"] {
            assert!(text.parse::<Expected>().is_err(), "{text:?}");
        }
    }
}
