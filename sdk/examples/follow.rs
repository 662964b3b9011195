//! Waits for records as they are appended, wherever the leader moves.
//!
//! `cargo run --release --example follow -- 127.0.0.1:7001`
#![allow(clippy::print_stdout, reason = "an example")]

use quipu_sdk::{Client, ClientConfig, From, LogConfig, LogName, Offset, ReaderConfig, system};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Hands every record from `next` on to `process`, until that says to stop.
/// Returns where to go on the next time.
pub(crate) async fn run(client: &Client, next: Offset, mut process: impl FnMut(&[u8]) -> bool) -> Result<Offset> {
    let log: LogName = "jobs".parse()?;
    client.create_log(&log, LogConfig::default()).await?;

    let config = ReaderConfig { from: From::Offset(next), follow: true, ..ReaderConfig::default() };
    let mut reader = client.reader(&log, config)?;
    let mut next = next;
    while let Some(record) = reader.next().await? {
        // A program that keeps this with its own state never skips a record
        // and never takes one twice.
        next = record.offset.next();
        if !process(record.value.as_deref().unwrap_or_default()) {
            break;
        }
    }
    Ok(next)
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7001".to_owned());
    let client = Client::new(ClientConfig::new([address]), system::environment())?;
    run(&client, Offset::ZERO, |job| {
        println!("{}", String::from_utf8_lossy(job));
        true
    })
    .await?;
    Ok(())
}
