//! `quipu tail`: records as they come.

use std::io::{BufWriter, Write as _};
use std::time::Duration;

use clap::Args;
use futures_util::FutureExt as _;
use quipu_sdk::{Client, Environment, ReaderConfig};

use super::complain;
use super::failure::{Failure, with_causes};
use super::read::Place;
use super::record::Format;

/// Between attempts, once the client has given up for the first time.
const PAUSE: Duration = Duration::from_secs(1);

/// Print records as they are appended.
///
/// Begins at the log's end and goes on until it is stopped, over elections and
/// failing nodes; no record is skipped and none is printed twice. While the
/// cluster cannot be reached it says so on standard error and goes on trying.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu tail orders
  quipu tail orders --from start --format json")]
pub(crate) struct TailArguments {
    /// The log's name.
    name: String,
    /// Begin at this offset, at the start or at the end.
    #[arg(long, value_name = "OFFSET|start|end", default_value = "end")]
    from: Place,
    /// How to print a record.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
}

pub(crate) async fn run(arguments: TailArguments, client: &Client, environment: &Environment) -> Result<(), Failure> {
    let config = ReaderConfig { from: arguments.from.0, follow: true, ..ReaderConfig::default() };
    let mut reader = client.reader(&arguments.name.parse()?, config)?;
    let mut output = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    loop {
        // Printed at once when nothing follows at once.
        let next = match reader.next().now_or_never() {
            Some(next) => next,
            None => {
                output.flush()?;
                reader.next().await
            }
        };
        match next {
            Ok(Some(record)) => arguments.format.write(&mut output, &record)?,
            Ok(None) => return Err(Failure::Refused("the log has ended, which a log does not".to_owned())),
            Err(error) if error.is_retryable() => {
                output.flush()?;
                complain(&format!("{}; still trying", with_causes(&error)));
                environment.clock.sleep(PAUSE).await;
            }
            Err(error) => {
                output.flush()?;
                return Err(error.into());
            }
        }
    }
}
