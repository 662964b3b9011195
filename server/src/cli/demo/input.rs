//! The lines that the story appends, kept in a file beside the nodes' data, so
//! that they can be read twice whatever they came from and however many there
//! are.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use tokio::io::BufReader;

use super::stage::megabytes;
use crate::cli::failure::Failure;
use crate::cli::lines::Lines;
use quipu_server::output::counted;

/// The longest line, well within a batch of [`super::story::MAX_BATCH_BYTES`].
const MAX_LINE_BYTES: usize = 3 << 20;

/// Lines in a file of ours.
pub(super) struct Input {
    path: PathBuf,
    /// Where they came from, for people.
    origin: String,
    pub(super) lines: u64,
    /// Without line feeds.
    pub(super) bytes: u64,
}

impl Input {
    /// Copies what `file` holds, or this repository's sources, to `directory`.
    pub(super) async fn gather(file: Option<&Path>, directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("input");
        let failed = |error: io::Error| Failure::system(format_args!("write {}", path.display()), &error);
        let mut copy = BufWriter::new(File::create_new(&path).map_err(failed)?);
        let origin = match (file, repository()) {
            (Some(file), _) => {
                let copied = File::open(file).and_then(|mut file| io::copy(&mut file, &mut copy));
                copied.map_err(|error| Failure::system(format_args!("copy {}", file.display()), &error))?;
                file.display().to_string()
            }
            (None, Some(repository)) => {
                let files = copy_sources(&repository, &mut copy)?;
                format!("this repository's {files} source files")
            }
            (None, None) => {
                for source in EMBEDDED {
                    copy.write_all(source.as_bytes()).map_err(failed)?;
                }
                "this very command's sources".to_owned()
            }
        };
        copy.into_inner().map_err(|error| failed(error.into_error()))?;

        let mut input = Self { path, origin, lines: 0, bytes: 0 };
        let mut lines = input.read().await?;
        while let Some(line) = lines.next().await.map_err(|error| Failure::Refused(error.to_string()))? {
            input.lines += 1;
            input.bytes += line.len() as u64;
        }
        if input.lines == 0 {
            return Err(Failure::Refused(format!("{} has no line: there is nothing to tell", input.origin)));
        }
        Ok(input)
    }

    /// The lines from the first one on.
    pub(super) async fn read(&self) -> Result<Lines<BufReader<tokio::fs::File>>, Failure> {
        let opened = tokio::fs::File::open(&self.path).await;
        let file = opened.map_err(|error| Failure::system(format_args!("read {}", self.path.display()), &error))?;
        Ok(Lines::new(BufReader::with_capacity(1 << 18, file), MAX_LINE_BYTES))
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = counted(self.lines, "line", "lines");
        write!(f, "{lines} of {} ({})", self.origin, megabytes(self.bytes))
    }
}

/// This repository's root, if the working directory lies in it.
fn repository() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let is_root = |directory: &&Path| directory.join("sdk/protocol/proto/quipu").is_dir();
    here.ancestors().find(is_root).map(Path::to_owned)
}

fn copy_sources(repository: &Path, copy: &mut impl io::Write) -> Result<usize, Failure> {
    let failed = |path: &Path, error: &io::Error| Failure::system(format_args!("copy {}", path.display()), error);
    let mut sources = Vec::new();
    find_sources(repository, &mut sources).map_err(|error| failed(repository, &error))?;
    sources.sort();
    for source in &sources {
        let text = std::fs::read(source).map_err(|error| failed(source, &error))?;
        let line_feed: &[u8] = if text.is_empty() || text.ends_with(b"\n") { b"" } else { b"\n" };
        let written = copy.write_all(&text).and_then(|()| copy.write_all(line_feed));
        written.map_err(|error| failed(source, &error))?;
    }
    Ok(sources.len())
}

fn find_sources(directory: &Path, sources: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        // Links are not followed: they could lead in a circle.
        let kind = entry.file_type()?;
        if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            find_sources(&path, sources)?;
        } else if kind.is_file() && path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found == *known))
        {
            sources.push(path);
        }
    }
    Ok(())
}

const EXTENSIONS: [&str; 4] = ["md", "proto", "rs", "toml"];

/// For a binary that is run far from its sources.
const EMBEDDED: [&str; 12] = [
    include_str!("../append.rs"),
    include_str!("../failure.rs"),
    include_str!("../lines.rs"),
    include_str!("../log/mod.rs"),
    include_str!("../read.rs"),
    include_str!("../tail.rs"),
    include_str!("appending.rs"),
    include_str!("comparing.rs"),
    include_str!("input.rs"),
    include_str!("stage.rs"),
    include_str!("story.rs"),
    include_str!("watching.rs"),
];
