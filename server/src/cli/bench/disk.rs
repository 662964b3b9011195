//! `quipu bench disk`: what the disk under a node can do, through the very
//! code that a node writes with.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use quipu_sdk::Environment;
use quipu_storage::SystemDisk;
use quipu_storage::disk::{Access, AlignedBuffer, Disk, FileId};
use serde_json::{Value, json};

use super::latency::Latencies;
use super::{per_second, rounded};
use crate::cli::failure::Failure;
use quipu_server::output::{self, Table};

/// The sizes of a write, from a lone record to a busy node's commit.
const WRITE_BYTES: [(usize, &str); 3] = [(4 << 10, "4 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB")];
/// The file that is written to, over and over.
const FILE_BYTES: u64 = 64 << 20;
const FILE: &str = "bench";

/// Measure a disk: write and fdatasync.
///
/// Writes 4 KiB, 64 KiB and 1 MiB at a time to a file that has been written
/// before, past the page cache (O_DIRECT), each write followed by fdatasync:
/// what a node does to commit. An append cannot be acknowledged faster than
/// that. The file takes 64 MiB and is removed at the end.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu bench disk --data-dir /var/lib/quipu
  quipu bench disk --seconds 10 --json")]
pub(crate) struct DiskArguments {
    /// A directory on the disk.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    data_dir: PathBuf,
    /// How long to write at each size.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// The measurements of one size.
struct Row {
    bytes: usize,
    name: &'static str,
    elapsed: Duration,
    latencies: Latencies,
}

pub(crate) fn run(arguments: &DiskArguments, environment: &Environment) -> Result<(), Failure> {
    let directory = Scratch::new(&arguments.data_dir)?;
    let failed = |error: io::Error| Failure::system(format_args!("write in {}", directory.0.display()), &error);
    let disk = SystemDisk::open(&directory.0)
        .map_err(|error| Failure::system(format_args!("use {}", directory.0.display()), &error))?;
    let file = prepare(&disk).map_err(failed)?;
    let direct = disk.access(file).map_err(failed)? == Access::Direct;
    let mut rows = Vec::new();
    for (bytes, name) in WRITE_BYTES {
        let limit = Duration::from_secs(arguments.seconds);
        let mut row = Row { bytes, name, elapsed: Duration::ZERO, latencies: Latencies::new()? };
        measure(&disk, file, limit, environment, &mut row).map_err(failed)?;
        rows.push(row);
    }
    disk.close(file);

    if arguments.json {
        output::print_json(&json!({
            "directory": arguments.data_dir,
            "direct": direct,
            "writes": rows.iter().map(Row::as_json).collect::<Vec<_>>(),
        }))?;
        return Ok(());
    }
    print(&arguments.data_dir, direct, &rows)?;
    Ok(())
}

/// A file that has been written from end to end, as a journal's segments are.
fn prepare(disk: &SystemDisk) -> io::Result<FileId> {
    let file = disk.create(FILE, Access::Direct)?;
    let piece = AlignedBuffer::zeroed(1 << 20);
    for offset in (0..FILE_BYTES).step_by(1 << 20) {
        disk.write_at(file, offset, &piece)?;
    }
    disk.sync(file)?;
    disk.sync_directory("")?;
    Ok(file)
}

fn measure(
    disk: &SystemDisk,
    file: FileId,
    limit: Duration,
    environment: &Environment,
    row: &mut Row,
) -> io::Result<()> {
    let words = (0..row.bytes / 8).flat_map(|_| environment.random.next().to_le_bytes());
    let piece = AlignedBuffer::padded(&words.collect::<Vec<_>>());
    let clock = &environment.clock;
    let started = clock.monotonic();
    let mut offset = 0;
    while row.elapsed < limit {
        let before = clock.monotonic();
        disk.write_at(file, offset, &piece)?;
        disk.sync(file)?;
        let after = clock.monotonic();
        row.latencies.record(after.saturating_sub(before));
        row.elapsed = after.saturating_sub(started);
        offset = (offset + row.bytes as u64) % FILE_BYTES;
    }
    Ok(())
}

impl Row {
    fn writes_per_second(&self) -> f64 {
        per_second(self.latencies.count(), self.elapsed)
    }

    fn megabytes_per_second(&self) -> f64 {
        per_second(self.latencies.count() * self.bytes as u64, self.elapsed) / 1e6
    }

    fn as_json(&self) -> Value {
        json!({
            "bytes": self.bytes,
            "writes": self.latencies.count(),
            "writes_per_second": rounded(self.writes_per_second()),
            "megabytes_per_second": rounded(self.megabytes_per_second()),
            "latency_ms": self.latencies.as_json(),
        })
    }
}

fn print(directory: &Path, direct: bool, rows: &[Row]) -> io::Result<()> {
    let mut output = output::for_people();
    let how = if direct { "O_DIRECT" } else { "through the page cache: the file system refuses O_DIRECT" };
    writeln!(output, "write + fdatasync in {}, {how}", directory.display())?;
    let mut table = Table::new([" size", " writes/s", " MB/s", " p50 ms", " p90 ms", " p99 ms", " p99.9 ms"]);
    for row in rows {
        let latency = |percent| format!("{:.3}", row.latencies.milliseconds(percent));
        table.row([
            &row.name,
            &format!("{:.0}", row.writes_per_second()),
            &format!("{:.1}", row.megabytes_per_second()),
            &latency(50.0),
            &latency(90.0),
            &latency(99.0),
            &latency(99.9),
        ]);
    }
    table.write(&mut output, "  ")
}

/// A directory of our own, so that a node's directory next to it stays as it
/// is; removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Self, Failure> {
        let directory = parent.join(format!("quipu-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory)
            .map_err(|error| Failure::system(format_args!("make {}", directory.display()), &error))?;
        Ok(Self(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind, it is no more than 64 MiB with a telling name.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
