//! `quipu completions`: for a shell that completes command lines.

use std::io::Write as _;

use clap::Args;
use clap_complete::Shell;

use super::Arguments;
use super::failure::Failure;

/// Print the completions of this command for a shell.
///
/// For bash: quipu completions bash > ~/.local/share/bash-completion/completions/quipu
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// Which shell.
    shell: Shell,
}

pub(crate) fn run(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::described(), "quipu", &mut script);
    let mut output = std::io::stdout().lock();
    output.write_all(&script)?;
    output.flush()?;
    Ok(())
}
