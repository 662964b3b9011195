//! `quipu read`: records, to the end as it is now.

use std::io::{BufWriter, Write as _};
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use quipu_sdk::{
    Barrier, Client, Consistency, Environment, From as Start, LogId, NodeId, Offset, OnTrimmed, ReadRecord,
    ReaderConfig, Timestamp,
};
use quipu_server::output::counted;

use super::complain;
use super::failure::Failure;
use super::record::Format;

/// Print records of a log.
///
/// Reads to the log's end as of now, which includes everything that was
/// acknowledged before, and stops there. An offset below the log's start or
/// above its end is refused, and the error names both.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu read orders
  quipu read orders --from 1000 --max-records 10 --format json
  quipu read orders --since -5m
  quipu read orders --since 2026-11-25T12:00:00Z --max-bytes 1000000
  quipu read orders --replica 2          node 2's own copy
  quipu read orders --replica 2 --at-least $(quipu log end orders)
  quipu read orders --local --max-age 1s")]
pub(crate) struct ReadArguments {
    /// The log's name.
    name: String,
    /// Begin at this offset, at the start or at the end.
    #[arg(long, value_name = "OFFSET|start|end", default_value = "start", conflicts_with = "since")]
    from: Place,
    /// Begin at the first record that is not before this time, by its own
    /// timestamp: a time such as 2026-11-25T12:00:00Z (UTC), or a span before
    /// now, such as -5m or -1h30m. Records after the first one may be older:
    /// producers give timestamps in any order.
    #[arg(long, value_name = "TIME|-SPAN", allow_hyphen_values = true)]
    since: Option<Since>,
    /// Stop after so many records.
    #[arg(long, value_name = "N", alias = "max")]
    max_records: Option<NonZeroU64>,
    /// Stop before the record that would bring what was read over so many bytes
    /// of keys, values and headers; one record always is printed.
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<NonZeroU64>,
    /// When records were trimmed before they were read: fail, or go on at the
    /// start or at the end and say how many were left out.
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    on_trimmed: Trimmed,
    /// How to print a record.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
    /// Read the copy that this node holds: what it has committed, which may be
    /// behind the leader's.
    #[arg(long, value_name = "NODE", conflicts_with = "local")]
    replica: Option<u64>,
    /// Read any replica's copy: what it has committed, which may be behind the
    /// leader's.
    #[arg(long)]
    local: bool,
    /// Read once the replica has applied everything before this offset, waiting for
    /// it as long as --wait says.
    #[arg(long, value_name = "OFFSET")]
    at_least: Option<u64>,
    /// How long to wait for --at-least, up to 60s.
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Take no copy that may be older: whatever was acknowledged longer ago is
    /// there.
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    max_age: Option<Duration>,
}

/// A place in a log, as a command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) Start);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self(Start::Start)),
            "end" => Ok(Self(Start::End)),
            number => match number.parse() {
                Ok(offset) => Ok(Self(Start::Offset(Offset::new(offset)))),
                Err(_) => Err("an offset (0 or more), start or end is expected".to_owned()),
            },
        }
    }
}

/// A time, as a command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// This one.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

impl Since {
    fn timestamp(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(timestamp) => timestamp,
            Self::Ago(span) => {
                let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                Timestamp::new(now.get().saturating_sub(span))
            }
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(span) = text.strip_prefix('-') {
            let span = humantime::parse_duration(span);
            return span.map(Self::Ago).map_err(|why| format!("a span such as -5m is expected: {why}"));
        }
        let time = humantime::parse_rfc3339_weak(text);
        let time = time.map_err(|why| format!("a time such as 2026-11-25T12:00:00Z is expected: {why}"))?;
        // Times before 1970 are none that this format has.
        let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| "it is before 1970".to_owned())?;
        let milliseconds = i64::try_from(since.as_millis()).map_err(|_| "it is too far ahead".to_owned())?;
        Ok(Self::At(Timestamp::new(milliseconds)))
    }
}

/// What to do when records were trimmed before they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Trimmed {
    Fail,
    Start,
    End,
}

impl From<Trimmed> for OnTrimmed {
    fn from(trimmed: Trimmed) -> Self {
        match trimmed {
            Trimmed::Fail => Self::Fail,
            Trimmed::Start => Self::Start,
            Trimmed::End => Self::End,
        }
    }
}

pub(crate) async fn run(arguments: ReadArguments, client: &Client, environment: &Environment) -> Result<(), Failure> {
    let node = arguments.replica.map(NodeId::new);
    // Of whichever log has the name.
    let after = arguments.at_least.map(|end| Barrier { log: LogId::new(0), end: Offset::new(end) });
    let config = ReaderConfig {
        from: match arguments.since {
            Some(since) => Start::Time(since.timestamp(environment.clock.wall())),
            None => arguments.from.0,
        },
        max_records: arguments.max_records.map(NonZeroU64::get),
        on_trimmed: arguments.on_trimmed.into(),
        consistency: if node.is_some() || arguments.local { Consistency::Local } else { Consistency::Linearizable },
        node,
        after,
        after_wait: arguments.wait,
        max_age: arguments.max_age,
        ..ReaderConfig::default()
    };
    let mut reader = client.reader(&arguments.name.parse()?, config)?;
    let mut output = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let max_bytes = arguments.max_bytes.map_or(u64::MAX, NonZeroU64::get);
    let (mut bytes, mut records) = (0, 0_u64);
    loop {
        match reader.next().await {
            Ok(Some(record)) => {
                bytes += size(&record);
                if records > 0 && bytes > max_bytes {
                    break;
                }
                records += 1;
                arguments.format.write(&mut output, &record)?;
            }
            Ok(None) => break,
            Err(error) => {
                // What was read before is printed.
                output.flush()?;
                return Err(error.into());
            }
        }
    }
    output.flush()?;
    if reader.skipped() > 0 {
        complain(&format!("{} that had been trimmed were left out", counted(reader.skipped(), "record", "records")));
    }
    Ok(())
}

/// Bytes of a record's key, value and headers.
fn size(record: &ReadRecord) -> u64 {
    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = record.headers.iter().map(|header| header.key.len() + length(&header.value)).sum();
    (length(&record.key) + length(&record.value) + headers) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_offset_or_an_end_of_the_log() {
        assert_eq!("start".parse(), Ok(Place(Start::Start)));
        assert_eq!("end".parse(), Ok(Place(Start::End)));
        assert_eq!("12".parse(), Ok(Place(Start::Offset(Offset::new(12)))));
        for text in ["", "-1", "1.5", "END", "18446744073709551616"] {
            assert!(text.parse::<Place>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_time_is_one_of_utc_or_a_span_before_now() {
        let now = Timestamp::new(1_764_072_000_000);
        let since = |text: &str| text.parse::<Since>().map(|since| since.timestamp(now).get());
        assert_eq!(since("2025-11-25T12:00:00Z"), Ok(1_764_072_000_000));
        assert_eq!(since("2025-11-25 12:00:00.250"), Ok(1_764_072_000_250));
        assert_eq!(since("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(since("-5m"), Ok(1_764_072_000_000 - 300_000));
        assert_eq!(since("-1h30m"), Ok(1_764_072_000_000 - 5_400_000));
        assert_eq!(since("-500000000y"), Ok(1_764_072_000_000 - i64::MAX), "further back than there are times");
        for text in ["", "-", "5m", "yesterday", "-5", "2025-13-01T00:00:00Z", "12:00", "--5m"] {
            assert!(since(text).is_err(), "{text:?}");
        }
    }
}
