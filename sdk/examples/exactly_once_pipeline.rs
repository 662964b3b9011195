//! A pipeline that reads one log, transforms its records and appends them to another,
//! each exactly once: wherever it crashes, and however many run at a time by mistake.
//!
//! Its position in the input is a cursor of the *output*, moved by the very append
//! that has the results: both land, or neither does.
//!
//! `cargo run --release --example exactly_once_pipeline -- 127.0.0.1:7001`
#![allow(clippy::print_stdout, reason = "an example")]

use quipu_sdk::{
    AppendError, Client, ClientConfig, CursorRefusal, From, LogConfig, LogName, Offset, ProducerConfig, ReaderConfig,
    system,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Carries records of `input` over to `output`, in capitals, up to the input's end.
/// Run it again, after a crash or when there is more: it goes on where it was.
pub(crate) async fn run(client: &Client, input: &LogName, output: &LogName) -> Result<()> {
    let id = client.describe_log(input).await?.log.id;
    let cursor = client.cursor(output, &"capitals".parse()?);
    let producer = client.producer(output, ProducerConfig::default())?;

    // Where the last append that landed left it, by this process or by another one.
    let mut position = cursor.get().await?.and_then(|cursor| cursor.position);
    let from = From::Offset(position.unwrap_or(Offset::ZERO));
    let mut reader = client.reader(input, ReaderConfig { from, ..ReaderConfig::default() })?;
    while let Some(record) = reader.next().await? {
        let result = String::from_utf8(record.value.unwrap_or_default().to_vec())?.to_uppercase();
        let next = Some(record.offset.next());
        // The position is expected where this pipeline left it: another one that runs
        // at the same time cannot have come in between.
        let moved = cursor.at(record.offset.next()).of(id).expecting(position);
        match producer.append_with(vec![producer.record(result)], [moved]).await {
            Ok(_) => position = next,
            // Another one has done it. Nothing was appended.
            Err(AppendError::CursorRefused { refusal: CursorRefusal::Mismatch { .. }, .. }) => {
                return Err("another pipeline is at work".into());
            }
            // Whatever became of it, the cursor tells: start again.
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7001".to_owned());
    let client = Client::new(ClientConfig::new([address]), system::environment())?;
    let (input, output): (LogName, LogName) = ("words".parse()?, "capitals".parse()?);
    for log in [&input, &output] {
        client.create_log(log, LogConfig::default()).await?;
    }
    let producer = client.producer(&input, ProducerConfig::default())?;
    producer.append(vec![producer.record("one"), producer.record("two")]).await?;
    run(&client, &input, &output).await?;

    let mut reader = client.reader(&output, ReaderConfig::default())?;
    while let Some(record) = reader.next().await? {
        println!("{}: {}", record.offset, String::from_utf8_lossy(&record.value.unwrap_or_default()));
    }
    Ok(())
}
