//! A copy of the tracked source, always at the same place, so that from one bug
//! to the next only what changed is compiled.
//!
//! Its target directory begins as the main one's dependencies: compiled
//! dependencies as links to the same files, which nobody writes into, and what
//! cargo notes of them as copies, into which it writes. Nothing of our own
//! crates is taken over, so that nothing built here is ever taken for the real
//! thing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::patch::Patch;
use crate::cli::place;

/// What of the scratch copy is not the project's.
const VENDOR: &str = "vendor";
/// The packages that are compiled again and again.
const OURS: [&str; 5] = ["quipu-protocol", "quipu-storage", "quipu-raft", "quipu-server", "quipu-simulation"];
/// So much of what a compiler says is worth repeating.
const LAST_LINES: usize = 20;

/// The copy and where it is built.
pub(crate) struct Scratch {
    source: PathBuf,
    target: PathBuf,
    /// Held as long as the copy is used: what is built is what was applied.
    _lock: File,
}

impl Scratch {
    /// One to build in. Waits for whoever else does.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (source, target) = place::scratch()?;
        Self::at(source, target)
    }

    /// One in which patches are only tried, beside the one that is built.
    pub(crate) fn to_check() -> anyhow::Result<Self> {
        let (source, target) = place::scratch()?;
        Self::at(source.with_extension("check"), target)
    }

    fn at(source: PathBuf, target: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&source).with_context(|| format!("cannot make {}", source.display()))?;
        let lock = File::create(format!("{}.lock", source.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", source.display()))?;
        Ok(Self { source, target, _lock: lock })
    }

    /// Makes the copy what the repository is, with the source of a dependency
    /// in `vendor` if a patch is for it. Files that are as they should be keep
    /// their times, by which cargo tells what to compile.
    pub(crate) fn restore(&self, vendor: Option<&str>) -> anyhow::Result<()> {
        let repository = place::repository();
        let tracked = tracked(repository)?;
        for file in &tracked {
            let Ok(mut content) = fs::read(repository.join(file)) else { continue };
            if let (Some(package), true) = (vendor, file.as_path() == Path::new("Cargo.toml")) {
                content = with_vendored(&String::from_utf8(content)?, package)?.into_bytes();
            }
            // The versions that are locked stay; that one of them is patched is
            // for cargo to write down.
            write_if_new(&self.source.join(file), &content)?;
        }
        for file in files_below(&self.source)? {
            let relative = file.strip_prefix(&self.source)?;
            if !relative.starts_with(VENDOR) && !tracked.contains(relative) {
                fs::remove_file(&file)?;
            }
        }
        if let Some(package) = vendor {
            let (from, to) = (source_of(package)?, self.source.join(VENDOR).join(package));
            for file in files_below(&from)? {
                write_if_new(&to.join(file.strip_prefix(&from)?), &fs::read(&file)?)?;
            }
        }
        Ok(())
    }

    /// Whether a patch applies to what was restored.
    pub(crate) fn applies(&self, patch: &Patch) -> anyhow::Result<()> {
        self.git_apply(patch, &["--check"])
    }

    pub(crate) fn apply(&self, patch: &Patch) -> anyhow::Result<()> {
        self.git_apply(patch, &[])
    }

    fn git_apply(&self, patch: &Patch, options: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("git");
        command.arg("apply").args(options).arg(&patch.file).current_dir(&self.source);
        // The copy may lie inside a repository, and is no part of it.
        command.env("GIT_CEILING_DIRECTORIES", self.source.parent().expect("it lies in the target directory"));
        run(command.env_remove("GIT_DIR"))
    }

    /// Builds the simulator with what was applied; the binary.
    pub(crate) fn build(&self) -> anyhow::Result<PathBuf> {
        let mut command = cargo();
        command.args(["build", "--release", "--offline", "--quiet", "-p", "quipu-simulation"]);
        // What is run for a minute need not be compiled for three.
        for package in OURS {
            command.arg("--config").arg(format!("profile.release.package.{package}.opt-level=1"));
        }
        // They would replace those of .cargo/config.toml.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        run(command.env("CARGO_TARGET_DIR", &self.target).current_dir(&self.source))?;
        Ok(self.target.join("release/quipu-simulation"))
    }

    /// Takes over the main target directory's dependencies, once.
    pub(crate) fn seed_target(&self) -> anyhow::Result<()> {
        let (from, to) = (place::target()?.join("release"), self.target.join("release"));
        if to.exists() {
            return Ok(());
        }
        // In place at once, so that half of it is not taken for all of it.
        let partial = self.target.join("release.partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        for (options, name) in [("-al", "deps"), ("-a", "build"), ("-a", ".fingerprint")] {
            run(Command::new("cp").arg(options).arg(from.join(name)).arg(&partial))?;
            for entry in fs::read_dir(partial.join(name))? {
                let path = entry?.path();
                let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().contains("quipu"));
                match is_ours {
                    true if path.is_dir() => fs::remove_dir_all(&path)?,
                    true => fs::remove_file(&path)?,
                    false => {}
                }
            }
        }
        fs::rename(partial, to)?;
        Ok(())
    }
}

/// The workspace's manifest, with a dependency taken from `vendor`.
fn with_vendored(manifest: &str, package: &str) -> anyhow::Result<String> {
    // No member of the workspace: its own tests' dependencies are not there.
    let excluded = manifest.replacen("[workspace]\n", "[workspace]\nexclude = [\"vendor\"]\n", 1);
    if excluded == manifest {
        bail!("the workspace's manifest has no line [workspace]");
    }
    Ok(format!("{excluded}\n[patch.crates-io]\n{package} = {{ path = \"vendor/{package}\" }}\n"))
}

/// The repository's tracked files, as they are now, by their relative paths.
fn tracked(repository: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let output = Command::new("git").arg("-C").arg(repository).args(["ls-files", "-z"]).output()?;
    if !output.status.success() {
        bail!("git cannot list the tracked files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout).context("a file's name is no UTF-8")?;
    Ok(text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

/// Where cargo keeps the source of a dependency.
fn source_of(package: &str) -> anyhow::Result<PathBuf> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--offline", "--locked"]).current_dir(place::repository());
    let output = command.stderr(Stdio::null()).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("cargo told no metadata")?;
    let packages = metadata["packages"].as_array().context("cargo told of no packages")?;
    let found = packages.iter().find(|it| it["name"] == package);
    let manifest = found.and_then(|it| it["manifest_path"].as_str());
    let manifest = manifest.with_context(|| format!("nothing here depends on {package}"))?;
    Ok(Path::new(manifest).parent().context("a manifest lies in a directory")?.to_owned())
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn write_if_new(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    if fs::read(file).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::create_dir_all(file.parent().context("a file lies in a directory")?)?;
    fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))
}

fn files_below(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
            let path = entry?.path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

/// Runs a command whose output matters only when it fails.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    bail!("{}", lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::with_vendored;

    #[test]
    fn a_vendored_crate_replaces_the_registrys_and_is_no_member() {
        let manifest = with_vendored("[workspace]\nresolver = \"3\"\n", "openraft").expect("it has its line");
        let expect = "[workspace]\nexclude = [\"vendor\"]\nresolver = \"3\"\n\n[patch.crates-io]\nopenraft = { path = \"vendor/openraft\" }\n";
        assert_eq!(manifest, expect);
        assert!(with_vendored("[package]\n", "openraft").is_err());
    }
}
