//! Several writers share a log: each decides by what it has read, and appends only
//! if nothing came in between. No locks, and no epoch.
//!
//! `cargo run --release --example compare_and_append -- 127.0.0.1:7001`
#![allow(clippy::print_stdout, reason = "an example")]

use quipu_sdk::{
    AppendError, Client, ClientConfig, LogConfig, LogName, Offset, Producer, ProducerConfig, ReaderConfig, Resolution,
    system,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Withdraws `amount` if the account's balance allows it, which is the sum of the
/// log's records. Whether it did.
pub(crate) async fn withdraw(client: &Client, log: &LogName, amount: i64) -> Result<bool> {
    let producer = client.producer(log, ProducerConfig::default())?;
    loop {
        let (balance, end) = balance(client, log).await?;
        if balance < amount {
            return Ok(false);
        }
        // The balance is that of `end`: should the log end elsewhere by now, it
        // has to be looked at again.
        if append_at(client, log, &producer, end, -amount).await? {
            return Ok(true);
        }
    }
}

/// Appends if the log still ends at `end`. Whether it did.
async fn append_at(client: &Client, log: &LogName, producer: &Producer, end: Offset, amount: i64) -> Result<bool> {
    match producer.append_at(end, vec![producer.record(amount.to_string())]).await {
        Ok(_) => Ok(true),
        // Somebody else was faster; nothing was appended.
        Err(AppendError::OffsetMismatch { .. }) => Ok(false),
        // No answer in time. The log settles it: it has landed, or never will.
        Err(AppendError::OutcomeUnknown { append: Some(append), .. }) => match client.resolve(log, append).await? {
            Resolution::Landed(_) => Ok(true),
            Resolution::Never => Ok(false),
            Resolution::Forgotten => Err("too late to tell whether it was withdrawn".into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The balance, and where the log ends that it is of.
async fn balance(client: &Client, log: &LogName) -> Result<(i64, Offset)> {
    let mut reader = client.reader(log, ReaderConfig::default())?;
    let (mut balance, mut end) = (0, Offset::ZERO);
    while let Some(record) = reader.next().await? {
        balance += std::str::from_utf8(record.value.as_deref().unwrap_or_default())?.parse::<i64>()?;
        end = record.offset.next();
    }
    Ok((balance, end))
}

/// An account with 100 and two who withdraw 70 at once: one of them does.
pub(crate) async fn run(client: &Client) -> Result<[bool; 2]> {
    let log: LogName = "account".parse()?;
    client.create_log(&log, LogConfig::default()).await?;
    let producer = client.producer(&log, ProducerConfig::default())?;
    producer.append(vec![producer.record("100")]).await?;
    let (one, other) = tokio::join!(withdraw(client, &log, 70), withdraw(client, &log, 70));
    Ok([one?, other?])
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7001".to_owned());
    let client = Client::new(ClientConfig::new([address]), system::environment())?;
    println!("withdrawn: {:?}", run(&client).await?);
    Ok(())
}
