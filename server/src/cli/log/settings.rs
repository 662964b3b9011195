//! `quipu log create` and `quipu log alter`: what a log is set to.

use std::io::Write as _;
use std::num::NonZeroU64;
use std::str::FromStr;

use clap::Args;
use quipu_sdk::{Client, Codecs, LogAlteration, LogConfig, Writers};

use super::json::JsonLog;
use crate::cli::failure::Failure;
use quipu_server::output::{self, counted};

/// Create a log.
///
/// Created again with the same configuration it succeeds again; with another
/// one it is refused. A name has 1 to 255 characters of A-Z a-z 0-9 . _ / -
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu log create orders
  quipu log create billing/eu-1 --replicas 5 --max-batch-bytes 16777216")]
pub(crate) struct CreateArguments {
    /// The log's name.
    name: String,
    /// How many nodes keep a copy. Unless given, the smaller of 3 and the
    /// number of nodes.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    replicas: Option<u32>,
    /// Who may append: anybody, or only who has acquired the writer epoch (quipu
    /// writer acquire). Stays as it is created.
    #[arg(long, value_name = "shared|exclusive", value_enum, default_value_t = WritersArgument::Shared)]
    writers: WritersArgument,
    #[command(flatten)]
    settings: SettingArguments,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum WritersArgument {
    Shared,
    Exclusive,
}

/// Change a log's configuration.
///
/// What is not given stays as it is; none takes a bound away. What the log
/// holds already stays until its retention lets it go; every replica follows
/// within moments. A change to what is so already succeeds and says so.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu log alter orders --retention-bytes 10737418240 --retention-ms none
  quipu log alter orders --compression none,lz4 --max-timestamp-after-ms 60000")]
pub(crate) struct AlterArguments {
    /// The log's name.
    name: String,
    #[command(flatten)]
    settings: SettingArguments,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// What a log takes and keeps.
#[derive(Debug, Args)]
struct SettingArguments {
    /// The largest batch that an append may carry, 1024 to 67108864 bytes. At
    /// first what the cluster is configured to (1 MiB).
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    max_batch_bytes: Option<u32>,
    /// How many bytes of batches are kept, compressed as they are: what is
    /// older is trimmed. At first everything is kept.
    #[arg(long, value_name = "BYTES|none")]
    retention_bytes: Option<Bound>,
    /// How long records are kept, in milliseconds. At first for ever.
    #[arg(long, value_name = "MS|none")]
    retention_ms: Option<Bound>,
    /// The codecs that batches may have, of none, gzip, snappy, lz4 and zstd,
    /// with commas between them. At first any. Our clients send a batch that
    /// does not get smaller uncompressed, so that none belongs beside a codec.
    #[arg(long, value_name = "any|CODECS")]
    compression: Option<Codecs>,
    /// How far a record's timestamp may lie before the leader's clock, in
    /// milliseconds. At first as far as it likes.
    #[arg(long, value_name = "MS|none")]
    max_timestamp_before_ms: Option<Bound>,
    /// How far a record's timestamp may lie after the leader's clock, in
    /// milliseconds. At first as far as it likes.
    #[arg(long, value_name = "MS|none")]
    max_timestamp_after_ms: Option<Bound>,
    /// How long after its last commit a cursor is kept, in milliseconds; 0 for ever.
    /// At first 604800000, 7 days.
    #[arg(long, value_name = "MS")]
    cursor_expiry_ms: Option<u64>,
    /// How many bytes of batches, up to the log's end, a lease may keep from
    /// retention beyond --retention-bytes: over that it is let go of. At first as
    /// many as it likes.
    #[arg(long, value_name = "BYTES|none")]
    max_lease_bytes: Option<Bound>,
    /// The longest that a lease is granted or renewed for, in milliseconds. At first
    /// as long as it likes.
    #[arg(long, value_name = "MS|none")]
    max_lease_ms: Option<Bound>,
}

/// A bound, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound(Option<u64>);

impl FromStr for Bound {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            number => match number.parse::<NonZeroU64>() {
                Ok(number) => Ok(Self(Some(number.get()))),
                Err(_) => Err("a number from 1 on, or none, is expected"),
            },
        }
    }
}

impl SettingArguments {
    fn config(self, replicas: Option<u32>, writers: WritersArgument) -> LogConfig {
        let bound = |bound: Option<Bound>| bound.and_then(|bound| bound.0);
        LogConfig {
            replicas,
            max_batch_bytes: self.max_batch_bytes,
            retention_bytes: bound(self.retention_bytes),
            retention_ms: bound(self.retention_ms),
            codecs: self.compression.unwrap_or_default(),
            max_timestamp_before_ms: bound(self.max_timestamp_before_ms),
            max_timestamp_after_ms: bound(self.max_timestamp_after_ms),
            cursor_expiry_ms: self.cursor_expiry_ms,
            max_lease_bytes: bound(self.max_lease_bytes),
            max_lease_ms: bound(self.max_lease_ms),
            writers: match writers {
                WritersArgument::Shared => Writers::Shared,
                WritersArgument::Exclusive => Writers::Exclusive,
            },
        }
    }

    fn alteration(self) -> LogAlteration {
        let bound = |bound: Option<Bound>| bound.map(|bound| bound.0);
        LogAlteration {
            max_batch_bytes: self.max_batch_bytes,
            retention_bytes: bound(self.retention_bytes),
            retention_ms: bound(self.retention_ms),
            codecs: self.compression,
            max_timestamp_before_ms: bound(self.max_timestamp_before_ms),
            max_timestamp_after_ms: bound(self.max_timestamp_after_ms),
            cursor_expiry_ms: self.cursor_expiry_ms,
            max_lease_bytes: bound(self.max_lease_bytes),
            max_lease_ms: bound(self.max_lease_ms),
        }
    }
}

pub(super) async fn create(arguments: CreateArguments, client: &Client) -> Result<(), Failure> {
    let config = arguments.settings.config(arguments.replicas, arguments.writers);
    let created = client.create_log(&arguments.name.parse()?, config).await?;
    if arguments.json {
        output::print_json(&JsonLog::created(&created.log, created.created))?;
        return Ok(());
    }
    let what = if created.created { "created" } else { "exists already:" };
    let replicas = counted(created.log.config.replicas.unwrap_or_default().into(), "replica", "replicas");
    writeln!(std::io::stdout(), "{what} {} with {replicas}", created.log.name)?;
    Ok(())
}

pub(super) async fn alter(arguments: AlterArguments, client: &Client) -> Result<(), Failure> {
    let change = arguments.settings.alteration();
    if change == LogAlteration::default() {
        return Err(Failure::Usage("name what is to change; quipu log alter --help lists it".to_owned()));
    }
    let altered = client.alter_log(&arguments.name.parse()?, change).await?;
    if arguments.json {
        output::print_json(&JsonLog::changed(&altered.log, altered.changed))?;
        return Ok(());
    }
    let what = if altered.changed { "changed" } else { "no change to" };
    writeln!(std::io::stdout(), "{what} {}: {}", altered.log.name, altered.log.config)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_number_from_one_on_or_none() {
        assert_eq!("none".parse(), Ok(Bound(None)));
        assert_eq!("1".parse(), Ok(Bound(Some(1))));
        for text in ["", "0", "-1", "1.5", "None", "18446744073709551616"] {
            assert!(text.parse::<Bound>().is_err(), "{text:?}");
        }
    }
}
