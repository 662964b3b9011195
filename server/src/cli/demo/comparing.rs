//! One node's own copy against the input.

use indicatif::ProgressBar;
use quipu_sdk::{Client, Consistency, LogName, NodeId, Offset, ReadRecord, ReaderConfig};

use super::input::Input;
use crate::cli::failure::Failure;

/// The most of a line that a complaint shows, bytes.
const SHOWN_BYTES: usize = 60;

/// Where a copy departs from the input.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Departure {
    #[error("it ends at {end}, and {lines} lines were acknowledged: some are missing")]
    Missing { end: u64, lines: u64 },
    #[error("it goes on after the last line, with {found:?} at offset {offset}: something is doubled")]
    Doubled { offset: u64, found: String },
    #[error("line {line} is at offset {offset}")]
    Misplaced { line: u64, offset: u64 },
    #[error("offset {offset} holds {found:?} where {expected:?} was appended")]
    Different { offset: u64, expected: String, found: String },
}

/// Reads what `node` itself holds and compares it with `input`, record by
/// record.
pub(super) async fn compare(
    client: &Client,
    log: &LogName,
    node: NodeId,
    input: &Input,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let config = ReaderConfig { node: Some(node), consistency: Consistency::Local, ..ReaderConfig::default() };
    let mut reader = client.reader(log, config)?;
    let mut lines = input.read().await?;
    let mut number = 0;
    loop {
        let line = lines.next().await.map_err(|error| Failure::Refused(error.to_string()))?;
        let departure = match (line, reader.next().await?) {
            (None, None) => return Ok(()),
            (Some(line), Some(record)) => departure(number, &line, &record),
            (Some(_), None) => Some(Departure::Missing { end: number, lines: input.lines }),
            (None, Some(record)) => {
                Some(Departure::Doubled { offset: record.offset.get(), found: shown(record.value.as_deref()) })
            }
        };
        if let Some(departure) = departure {
            return Err(Failure::Refused(format!("node {node}'s copy is not the input: {departure}")));
        }
        number += 1;
        bar.set_position(number);
    }
}

fn departure(number: u64, line: &[u8], record: &ReadRecord) -> Option<Departure> {
    let offset = record.offset.get();
    if record.offset != Offset::new(number) {
        return Some(Departure::Misplaced { line: number, offset });
    }
    if record.value.as_deref() != Some(line) || record.key.is_some() || !record.headers.is_empty() {
        let (expected, found) = (shown(Some(line)), shown(record.value.as_deref()));
        return Some(Departure::Different { offset, expected, found });
    }
    None
}

fn shown(value: Option<&[u8]>) -> String {
    match value {
        None => "no value".to_owned(),
        Some(value) => String::from_utf8_lossy(&value[..value.len().min(SHOWN_BYTES)]).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use quipu_sdk::{Offset, ReadRecord, Timestamp};

    use super::{Departure, departure};

    #[test]
    fn only_the_very_bytes_at_the_very_offset_will_do() {
        let record = |offset, value: &'static str| ReadRecord {
            offset: Offset::new(offset),
            timestamp: Timestamp::new(0),
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
        };
        assert_eq!(departure(7, b"one", &record(7, "one")), None);
        assert_eq!(departure(7, b"one", &record(8, "one")), Some(Departure::Misplaced { line: 7, offset: 8 }));
        let different = Departure::Different { offset: 7, expected: "one".to_owned(), found: "on".to_owned() };
        assert_eq!(departure(7, b"one", &record(7, "on")), Some(different));
        let mut without = record(7, "");
        assert_eq!(departure(7, b"", &without), None);
        without.value = None;
        assert!(departure(7, b"", &without).is_some(), "no value is not an empty one");
    }
}
