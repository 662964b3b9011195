//! `quipu read`: records, to the end as it is now.

use std::io::{BufWriter, Write as _};
use std::num::NonZeroU64;
use std::str::FromStr;

use clap::Args;
use quipu_sdk::{Client, Consistency, From, NodeId, Offset, ReaderConfig};

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
  quipu read orders --from 1000 --max 10 --format json
  quipu read orders --replica 2          node 2's own copy")]
pub(crate) struct ReadArguments {
    /// The log's name.
    name: String,
    /// Begin at this offset, at the start or at the end.
    #[arg(long, value_name = "OFFSET|start|end", default_value = "start")]
    from: Place,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    max: Option<NonZeroU64>,
    /// How to print a record.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
    /// Read the copy that this node holds: what it has committed, which may be
    /// behind the leader's.
    #[arg(long, value_name = "NODE")]
    replica: Option<u64>,
}

/// A place in a log, as a command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) From);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self(From::Start)),
            "end" => Ok(Self(From::End)),
            number => match number.parse() {
                Ok(offset) => Ok(Self(From::Offset(Offset::new(offset)))),
                Err(_) => Err("an offset (0 or more), start or end is expected".to_owned()),
            },
        }
    }
}

pub(crate) async fn run(arguments: ReadArguments, client: &Client) -> Result<(), Failure> {
    let node = arguments.replica.map(NodeId::new);
    let config = ReaderConfig {
        from: arguments.from.0,
        max_records: arguments.max.map(NonZeroU64::get),
        consistency: if node.is_some() { Consistency::Local } else { Consistency::Linearizable },
        node,
        ..ReaderConfig::default()
    };
    let mut reader = client.reader(&arguments.name.parse()?, config)?;
    let mut output = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    loop {
        match reader.next().await {
            Ok(Some(record)) => arguments.format.write(&mut output, &record)?,
            Ok(None) => break,
            Err(error) => {
                // What was read before is printed.
                output.flush()?;
                return Err(error.into());
            }
        }
    }
    output.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_offset_or_an_end_of_the_log() {
        assert_eq!("start".parse(), Ok(Place(From::Start)));
        assert_eq!("end".parse(), Ok(Place(From::End)));
        assert_eq!("12".parse(), Ok(Place(From::Offset(Offset::new(12)))));
        for text in ["", "-1", "1.5", "END", "18446744073709551616"] {
            assert!(text.parse::<Place>().is_err(), "{text:?}");
        }
    }
}
