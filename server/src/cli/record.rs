//! How records are printed.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use quipu_sdk::{LogName, ReadRecord};
use serde::Serialize;

/// How records are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The value and a line feed. A record without a value prints an empty line.
    #[default]
    Raw,
    /// One object a line: offset, timestamp (ms), key, value, headers; keys
    /// and values in base64, null where there is none.
    Json,
}

impl Format {
    pub(crate) fn write(self, output: &mut impl Write, record: &ReadRecord) -> io::Result<()> {
        match self {
            Self::Raw => output.write_all(record.value.as_deref().unwrap_or_default())?,
            Self::Json => serde_json::to_writer(&mut *output, &JsonRecord::from(record))?,
        }
        output.write_all(b"\n")
    }

    /// The same of a record of this log, among records of others.
    pub(crate) fn write_of(self, output: &mut impl Write, log: &LogName, record: &ReadRecord) -> io::Result<()> {
        match self {
            Self::Raw => {
                write!(output, "{log}\t")?;
                self.write(output, record)
            }
            Self::Json => {
                let of_log = JsonRecordOf { log: log.as_str(), record: record.into() };
                serde_json::to_writer(&mut *output, &of_log)?;
                output.write_all(b"\n")
            }
        }
    }
}

#[derive(Serialize)]
struct JsonRecordOf<'a> {
    log: &'a str,
    #[serde(flatten)]
    record: JsonRecord<'a>,
}

#[derive(Serialize)]
struct JsonRecord<'a> {
    offset: u64,
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<JsonHeader<'a>>,
}

#[derive(Serialize)]
struct JsonHeader<'a> {
    key: &'a str,
    value: Option<String>,
}

impl<'a> From<&'a ReadRecord> for JsonRecord<'a> {
    fn from(record: &'a ReadRecord) -> Self {
        let base64 = |bytes: Option<&[u8]>| bytes.map(|bytes| STANDARD.encode(bytes));
        let headers = record.headers.iter();
        Self {
            offset: record.offset.get(),
            timestamp: record.timestamp.get(),
            key: base64(record.key.as_deref()),
            value: base64(record.value.as_deref()),
            headers: headers.map(|h| JsonHeader { key: &h.key, value: base64(h.value.as_deref()) }).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use quipu_sdk::{Header, Offset, ReadRecord, Timestamp};

    use super::Format;

    fn printed(format: Format, record: &ReadRecord) -> String {
        let mut output = Vec::new();
        format.write(&mut output, record).expect("memory takes it");
        String::from_utf8(output).expect("text")
    }

    #[test]
    fn records_are_printed_as_promised() {
        let mut record = ReadRecord {
            offset: Offset::new(7),
            timestamp: Timestamp::new(1_790_000_000_000),
            key: Some("k".into()),
            value: Some("one".into()),
            headers: vec![Header { key: "trace".to_owned(), value: None }],
        };
        assert_eq!(printed(Format::Raw, &record), "one\n");
        assert_eq!(
            printed(Format::Json, &record),
            "{\"offset\":7,\"timestamp\":1790000000000,\"key\":\"aw==\",\"value\":\"b25l\",\
             \"headers\":[{\"key\":\"trace\",\"value\":null}]}\n"
        );
        let mut of_log = Vec::new();
        for format in [Format::Raw, Format::Json] {
            format.write_of(&mut of_log, &"orders".parse().expect("a name"), &record).expect("memory takes it");
        }
        let of_log = String::from_utf8(of_log).expect("text");
        assert!(of_log.starts_with("orders\tone\n{\"log\":\"orders\",\"offset\":7,"), "{of_log}");
        (record.key, record.value) = (None, None);
        assert_eq!(printed(Format::Raw, &record), "\n");
        assert!(printed(Format::Json, &record).contains("\"key\":null,\"value\":null"));
    }
}
