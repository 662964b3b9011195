//! `quipu bench`: what a cluster and a disk can do, measured.

mod append;
mod disk;
mod latency;
mod read;

use std::time::Duration;

use clap::Subcommand;
use quipu_sdk::Environment;

use super::connection::ConnectionArguments;
use super::failure::Failure;

/// Measure appends, reads and disks.
///
/// A cluster's figures mean something beside those of the disk under it: run
/// `quipu bench disk` on it too.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Append(append::AppendArguments),
    Read(read::ReadArguments),
    Disk(disk::DiskArguments),
}

impl BenchCommand {
    pub(crate) async fn run(self, connection: &ConnectionArguments, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Append(arguments) => {
                append::run(arguments, connection.timeout(), &connection.client(environment)?, environment).await
            }
            Self::Read(arguments) => read::run(&arguments, &connection.client(environment)?, environment).await,
            Self::Disk(arguments) => disk::run(&arguments, environment),
        }
    }
}

/// How many a second.
#[expect(clippy::cast_precision_loss, reason = "a rate of 2⁵³ needs no last digit")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// `count` for each of `of`.
#[expect(clippy::cast_precision_loss, reason = "a ratio of 2⁵³ needs no last digit")]
fn per(count: u64, of: u64) -> f64 {
    count as f64 / of.max(1) as f64
}

/// Three digits after the point.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
