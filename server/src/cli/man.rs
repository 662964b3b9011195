//! `quipu man`: the manual, from the same text as `--help`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use clap_mangen::Man;

use super::Arguments;
use super::failure::Failure;

/// Print a page of the manual, or write all of them.
///
/// A page is named like `quipu-log-create(1)`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu man log create | man -l -
  quipu man --dir ~/.local/share/man/man1")]
pub(crate) struct ManArguments {
    /// The command that the page is about. Unless given, quipu itself.
    command: Vec<String>,
    /// Write the pages of all commands into this directory, which is created
    /// when absent.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(arguments: &ManArguments) -> Result<(), Failure> {
    let mut command = Arguments::described();
    if let Some(directory) = &arguments.dir {
        let written = std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
        return written
            .map_err(|error| Failure::system(format!("write the manual into {}", directory.display()), &error));
    }
    // Gives every command its whole name.
    command.build();
    let mut page = &command;
    for name in &arguments.command {
        let found = page.find_subcommand(name);
        page = found.ok_or_else(|| Failure::Usage(format!("there is no command {}", arguments.command.join(" "))))?;
    }
    let mut text = Vec::new();
    Man::new(page.clone()).render(&mut text)?;
    let mut output = std::io::stdout().lock();
    output.write_all(&text)?;
    output.flush()?;
    Ok(())
}
