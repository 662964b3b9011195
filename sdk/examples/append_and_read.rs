//! Creates a log, appends to it and reads it back.
//!
//! `cargo run --release --example append_and_read -- 127.0.0.1:7001`
#![allow(clippy::print_stdout, reason = "an example")]

use quipu_sdk::{Client, ClientConfig, LogConfig, LogName, ProducerConfig, ReaderConfig, system};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub(crate) async fn run(client: &Client) -> Result<Vec<String>> {
    let log: LogName = "greetings".parse()?;
    client.create_log(&log, LogConfig::default()).await?;

    // Each send is acknowledged by its delivery; many may be under way.
    let producer = client.producer(&log, ProducerConfig::default())?;
    let mut deliveries = Vec::new();
    for name in ["Ada", "Grace", "Radia"] {
        deliveries.push(producer.send(producer.record(format!("hello, {name}"))).await?);
    }
    for delivery in deliveries {
        let offset = delivery.await?;
        println!("on disk on a majority, at offset {offset}");
    }

    let mut reader = client.reader(&log, ReaderConfig::default())?;
    let mut greetings = Vec::new();
    while let Some(record) = reader.next().await? {
        let value = record.value.unwrap_or_default();
        greetings.push(format!("{}: {}", record.offset, String::from_utf8_lossy(&value)));
    }
    Ok(greetings)
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7001".to_owned());
    let client = Client::new(ClientConfig::new([address]), system::environment())?;
    for greeting in run(&client).await? {
        println!("{greeting}");
    }
    Ok(())
}
