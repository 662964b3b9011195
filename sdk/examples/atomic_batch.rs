//! Appends records that belong together: all of them land, next to each
//! other, or none does. And what to do when an append fails.
//!
//! `cargo run --release --example atomic_batch -- 127.0.0.1:7001`
#![allow(clippy::print_stdout, reason = "an example")]

use quipu_sdk::{
    AppendError, Client, ClientConfig, LogConfig, LogName, OffsetRange, Producer, ProducerConfig, Record, system,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub(crate) async fn run(client: &Client) -> Result<OffsetRange> {
    let log: LogName = "ledger".parse()?;
    client.create_log(&log, LogConfig::default()).await?;
    let producer = client.producer(&log, ProducerConfig::default())?;

    match transfer(&producer, "alice", "bob", 5).await {
        Ok(range) => Ok(range),
        // Nothing was appended: the same transfer can be made again.
        Err(error) if error.has_no_side_effects() && error.is_retryable() => {
            Ok(transfer(&producer, "alice", "bob", 5).await?)
        }
        // Nobody knows whether it landed: only reading the log will tell.
        Err(error) => Err(error.into()),
    }
}

async fn transfer(
    producer: &Producer,
    from: &'static str,
    to: &'static str,
    amount: i64,
) -> std::result::Result<OffsetRange, AppendError> {
    let entry = |account: &'static str, amount: i64| Record {
        key: Some(account.into()),
        ..producer.record(amount.to_string())
    };
    producer.append(vec![entry(from, -amount), entry(to, amount)]).await
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7001".to_owned());
    let client = Client::new(ClientConfig::new([address]), system::environment())?;
    println!("transferred at {}", run(&client).await?);
    Ok(())
}
