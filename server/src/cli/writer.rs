//! `quipu writer`: who may append to a log.

use std::io::Write as _;

use clap::{Args, Subcommand};
use quipu_sdk::Client;
use serde::Serialize;

use super::failure::Failure;
use quipu_server::output;

/// Acquire a log's writer epoch, or show who holds it.
#[derive(Debug, Subcommand)]
pub(crate) enum WriterCommand {
    Acquire(AcquireArguments),
    Show(ShowArguments),
}

/// Raise a log's writer epoch: whoever wrote under an older one is fenced.
///
/// One step through the log, which also tells where it ends: nothing of an older
/// epoch comes after that. Append under the epoch with quipu append --epoch.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu writer acquire accounts --holder db-2
  quipu writer acquire accounts --holder db-2 --json      {\"epoch\":4,\"end\":1207}")]
pub(crate) struct AcquireArguments {
    /// The log's name.
    name: String,
    /// Who acquires it, told to those who are fenced: 1 to 256 bytes.
    #[arg(long, value_name = "NAME")]
    holder: String,
    /// 32 hexadecimal digits that no other acquisition has. Asked for again under
    /// the same ones, as after a crash, it gives the first answer and fences
    /// nobody. Drawn at random unless given.
    #[arg(long, value_name = "HEX")]
    request_id: Option<String>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Show who holds a log's writer epoch.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The log's name.
    name: String,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

impl WriterCommand {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Acquire(arguments) => acquire(arguments, client).await,
            Self::Show(arguments) => show(&arguments, client).await,
        }
    }
}

async fn acquire(arguments: AcquireArguments, client: &Client) -> Result<(), Failure> {
    let log = arguments.name.parse()?;
    let acquired = match &arguments.request_id {
        None => client.acquire_writer(&log, &arguments.holder).await?,
        Some(hex) => {
            let request_id = bytes_of(hex).ok_or_else(|| {
                Failure::Usage(format!("--request-id takes 32 hexadecimal digits, and {hex:?} is none of that"))
            })?;
            client.acquire_writer_as(&log, &arguments.holder, &request_id).await?
        }
    };
    let (epoch, end) = (acquired.epoch.get(), acquired.end.get());
    if arguments.json {
        output::print_json(&JsonAcquired { epoch, end })?;
        return Ok(());
    }
    writeln!(std::io::stdout(), "{} writes {log} under epoch {epoch}, from offset {end} on", arguments.holder)?;
    Ok(())
}

async fn show(arguments: &ShowArguments, client: &Client) -> Result<(), Failure> {
    let log = arguments.name.parse()?;
    let writer = client.describe_writer(&log).await?;
    if arguments.json {
        output::print_json(&JsonWriter {
            epoch: writer.epoch.get(),
            holder: &writer.holder,
            acquired_at_ms: writer.acquired_at.get(),
            start: writer.range.start().get(),
            end: writer.range.end().get(),
        })?;
        return Ok(());
    }
    let mut output = std::io::stdout();
    match writer.epoch.get() {
        0 => writeln!(output, "nobody has acquired {log}, which has {}", writer.range)?,
        epoch => writeln!(output, "{} writes {log} under epoch {epoch}; it has {}", writer.holder, writer.range)?,
    }
    Ok(())
}

/// What 32 hexadecimal digits say.
fn bytes_of(hex: &str) -> Option<[u8; 16]> {
    let is_hex = hex.len() == 32 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(hex, 16).ok()).flatten().map(u128::to_be_bytes)
}

#[derive(Serialize)]
struct JsonAcquired {
    epoch: u64,
    end: u64,
}

#[derive(Serialize)]
struct JsonWriter<'a> {
    epoch: u64,
    holder: &'a str,
    acquired_at_ms: i64,
    start: u64,
    end: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_is_thirty_two_hexadecimal_digits() {
        assert_eq!(bytes_of("000000000000000000000000000000ff").map(|bytes| bytes[15]), Some(255));
        for text in ["", "ff", "+00000000000000000000000000000ff", "g00000000000000000000000000000ff"] {
            assert_eq!(bytes_of(text), None, "{text:?}");
        }
    }
}
