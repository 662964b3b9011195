//! `quipu demo`: the whole story, on real processes and real input.
//!
//! ```text
//!   input    what is told: lines, kept as a file beside the nodes' data
//!   story    the steps: start, append, kill, return, lose a disk, compare
//!   appending, watching, comparing   what the steps are made of
//!   stage    how it is told: headings, marks, progress bars
//! ```
//!
//! It uses nothing that a user does not have: the binary itself for nodes, the
//! SDK for everything else. It is a check as much as a show: anything
//! acknowledged that is missing, doubled or different makes it fail.

mod appending;
mod comparing;
mod input;
mod stage;
mod story;
mod watching;

use std::path::PathBuf;

use clap::Args;
use quipu_sdk::Environment;

use self::input::Input;
use self::stage::Stage;
use self::story::Story;
use super::failure::Failure;
use super::signals::Signals;

/// See it work: three nodes, one log, two disasters.
///
/// Starts three nodes as processes of their own, appends every line of the
/// input, kills the log's leader with SIGKILL in the middle of it, starts it
/// again, deletes another node's data directory, watches that node resync, and
/// at last compares each node's own copy with the input, byte for byte. Exits
/// with 1 if anything that was acknowledged is missing, doubled or different.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu demo
  quipu demo --input /var/log/dpkg.log --data-dir ./demo-data")]
pub(crate) struct DemoArguments {
    /// Append this file's lines. Unless given, this repository's own source
    /// files, or those inside of this program when run from elsewhere.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Keep the nodes' data and logs here; absent or empty before. Unless
    /// given, a temporary directory that is removed when all went well.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// The first node's port. Unless given, the first three in a row that are
    /// free from 7101 on.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_533))]
    base_port: Option<u16>,
}

pub(crate) async fn run(arguments: DemoArguments, environment: Environment) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(|error| Failure::system("listen for Ctrl-C", &error))?;
    let mut directory = Directory::new(arguments.data_dir)?;
    let path = directory.path.clone();
    let input = Input::gather(arguments.input.as_deref(), &path).await?;
    let mut stage = Stage::new();
    stage.title("Quipu: three nodes, one log, two disasters");
    stage.say(format_args!("input  {input}"));
    let kept = if directory.temporary { ", removed at the end" } else { "" };
    stage.say(format_args!("data   {}{kept}", path.display()));
    let told = async { Story::begin(input, path.clone(), arguments.base_port, environment, stage).await?.tell().await };
    let outcome = tokio::select! {
        biased;
        _ = signals.next() => return Err(Failure::Refused("ended before the story was told".to_owned())),
        outcome = told => outcome,
    };
    // The nodes' logs tell what went wrong.
    directory.temporary &= outcome.is_ok();
    outcome.map_err(|failure| failure.after(format_args!("the story failed (see {}/*.log)", path.display())))
}

/// Where the nodes' data lives; removed at the end if it is ours.
struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    fn new(given: Option<PathBuf>) -> Result<Self, Failure> {
        let temporary = given.is_none();
        let path = given.unwrap_or_else(|| std::env::temp_dir().join(format!("quipu-demo-{}", std::process::id())));
        let failed = |error: std::io::Error| Failure::system(format_args!("use {}", path.display()), &error);
        std::fs::create_dir_all(&path).map_err(failed)?;
        if std::fs::read_dir(&path).map_err(failed)?.next().is_some() {
            let message = format!("{} is not empty: the story begins with nothing", path.display());
            return Err(Failure::Refused(message));
        }
        Ok(Self { path, temporary })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed from a temporary directory stays there.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
