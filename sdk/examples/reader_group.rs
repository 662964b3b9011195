//! A worker that shares logs with others like it: run it twice, and each gets half
//! of them; stop one, and the other takes over where it had come to.
//!
//! `cargo run --release --example reader_group -- 127.0.0.1:7001 worker-1`
#![allow(clippy::print_stdout, reason = "an example")]

use quipu_sdk::{Client, ClientConfig, GroupConfig, GroupReader, GroupRecords, LogPattern, ReaderGroupName, system};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Joins the group `billing`, which shares the logs of all orders.
pub(crate) async fn join(client: &Client, worker: &str) -> Result<GroupReader> {
    let group: ReaderGroupName = "billing".parse()?;
    let orders: LogPattern = "orders/*".parse()?;
    let config = GroupConfig { client: worker.to_owned(), ..GroupConfig::default() };
    Ok(client.reader_group(&group, &orders).config(config).join().await?)
}

/// Bills what comes next, and only then says that it is done with. Who fails in
/// between leaves it to another worker: each record is billed at least once.
pub(crate) async fn work(reader: &mut GroupReader, mut bill: impl FnMut(&str, &GroupRecords)) -> Result<()> {
    let records = reader.next().await?;
    bill(records.log.as_str(), &records);
    let committed = reader.commit().await?;
    for log in committed.lost {
        // Another worker has the log by now, and bills these records again.
        println!("{log} went to another worker");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:7001".to_owned());
    let worker = arguments.next().unwrap_or("worker-1".to_owned());
    let client = Client::new(ClientConfig::new([address]), system::environment())?;
    let mut reader = join(&client, &worker).await?;
    loop {
        work(&mut reader, |log, records| println!("{worker} bills {} of {log}", records.records.len())).await?;
    }
}
