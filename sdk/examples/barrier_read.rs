//! Reads what was just written from whichever replica is asked, and bounds how old
//! an answer may be that nobody has written to.
//!
//! `cargo run --release --example barrier_read -- 127.0.0.1:7001`
#![allow(clippy::print_stdout, reason = "an example")]

use std::time::Duration;

use quipu_sdk::{Barrier, Client, ClientConfig, Consistency, LogConfig, LogName, ProducerConfig, ReaderConfig, system};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Appends a price and returns the newest one that some replica has, after a barrier.
pub(crate) async fn run(client: &Client, price: &str) -> Result<Option<String>> {
    let prices: LogName = "prices".parse()?;
    client.create_log(&prices, LogConfig::default()).await?;
    let producer = client.producer(&prices, ProducerConfig::default())?;
    producer.append(vec![producer.record(price.to_owned())]).await?;

    // Everything that anybody's append was acknowledged for lies before it: ours, and
    // those of others that we may have heard of by other ways than this log.
    let barrier = client.barrier(&prices).await?;
    newest(client, &prices, Some(barrier), None).await
}

/// The newest price that any replica has: after a barrier, or at most so old.
pub(crate) async fn newest(
    client: &Client,
    prices: &LogName,
    after: Option<Barrier>,
    max_age: Option<Duration>,
) -> Result<Option<String>> {
    // Any replica may answer, near ones first; one that is behind the barrier is
    // waited for, and one that is too old is left for another.
    let config = ReaderConfig { consistency: Consistency::Local, after, max_age, ..ReaderConfig::default() };
    let mut reader = client.reader(prices, config)?;
    let mut newest = None;
    while let Some(record) = reader.next().await? {
        newest = record.value.map(|value| String::from_utf8_lossy(&value).into_owned());
    }
    if let Some(freshness) = reader.freshness() {
        println!("the replica knew of the log's end {}, and was up to {:?} old", freshness.leader_end, freshness.age);
    }
    Ok(newest)
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7001".to_owned());
    let client = Client::new(ClientConfig::new([address]), system::environment())?;
    println!("after a barrier: {:?}", run(&client, "17.50").await?);
    let prices = "prices".parse()?;
    let second = Some(Duration::from_secs(1));
    println!("at most a second old: {:?}", newest(&client, &prices, None, second).await?);
    Ok(())
}
