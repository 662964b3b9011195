//! Where things are: the repository that was built, and what runs leave behind,
//! beside the binary in the build's target directory.
//!
//! ```text
//!   <target>/release/quipu-simulation
//!   <target>/simulation/failures/SEED-PROMISE/   a bundle for each failure
//!                       sweeps.jsonl             a line for each sweep
//!                       work-PROCESS-POOL/       what children hand over
//!                       scratch/                 the source with a bug in it
//!                       scratch-target/          and what is built from it
//!                       scratch.check/           a copy in which patches are only tried
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// The build's target directory.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let binary = std::env::current_exe().context("cannot tell where this binary is")?;
    let profile = binary.parent().filter(|it| !it.ends_with("deps")).or_else(|| binary.parent()?.parent());
    let target = profile.and_then(Path::parent).context("this binary lies in no target directory")?;
    Ok(target.to_owned())
}

/// What runs leave behind.
pub(crate) fn simulation() -> anyhow::Result<PathBuf> {
    Ok(target()?.join("simulation"))
}

/// Where failures are kept.
pub(crate) fn failures() -> anyhow::Result<PathBuf> {
    Ok(simulation()?.join("failures"))
}

/// A line for each sweep.
pub(crate) fn sweeps() -> anyhow::Result<PathBuf> {
    Ok(simulation()?.join("sweeps.jsonl"))
}

/// Where seeded bugs are built: the source's copy, and its target directory.
pub(crate) fn scratch() -> anyhow::Result<(PathBuf, PathBuf)> {
    let simulation = simulation()?;
    Ok((simulation.join("scratch"), simulation.join("scratch-target")))
}

/// The repository's root.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository")
}

/// The commit that is checked out, with `+` after it where tracked files differ
/// from it. None outside of a repository.
pub(crate) fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    Some(if changed { format!("{commit}+") } else { commit })
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    let output = command.arg("-C").arg(repository()).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
