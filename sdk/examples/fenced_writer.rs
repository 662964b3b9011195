//! A primary whose log is its write-ahead log, as a database would use it: it takes
//! the log over, replays what its predecessors left, and writes until another one
//! takes the log over from it. There is never more than one that writes.
//!
//! `cargo run --release --example fenced_writer -- 127.0.0.1:7001 db-1`
#![allow(clippy::print_stdout, reason = "an example")]

use std::collections::BTreeMap;

use quipu_sdk::{
    AppendError, Client, ClientConfig, LogConfig, LogName, LogRef, Offset, Producer, ProducerConfig, ReaderConfig,
    Resolution, Writers, system,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The database: how often each word was counted.
pub(crate) type State = BTreeMap<String, u64>;

/// The one that writes, until it is fenced.
pub(crate) struct Primary {
    client: Client,
    log: LogName,
    producer: Producer,
    pub(crate) state: State,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is durable, and the state has it.
    Yes,
    /// It is not in the log, and never will be: it may be tried again.
    No,
    /// Another primary has taken over: this one has to stop, and what it has in
    /// memory is out of date.
    Fenced {
        /// Who it is.
        by: String,
    },
}

impl Primary {
    /// Takes the log over from whoever wrote it before.
    pub(crate) async fn take_over(client: &Client, name: &str) -> Result<Self> {
        let log: LogName = "wal".parse()?;
        // Nobody gets anything in who does not hold the writer epoch.
        let config = LogConfig { writers: Writers::Exclusive, ..LogConfig::default() };
        client.create_log(&log, config).await?;

        // From here on every older primary is fenced, wherever it is and whatever
        // it still has under way: all that it ever got in lies below `end`.
        let writer = client.acquire_writer(&log, name).await?;
        let state = replay(client, &log, writer.end).await?;
        let config = ProducerConfig { writer_epoch: Some(writer.epoch), ..ProducerConfig::default() };
        // By its id: should somebody delete the log and create it anew, an epoch of the
        // new one is none of this primary's.
        let producer = client.producer(LogRef::new(&log, writer.log), config)?;
        Ok(Self { client: client.clone(), log, producer, state })
    }

    /// Write ahead: the record is on the disks of a majority before the state
    /// has it.
    pub(crate) async fn count(&mut self, word: &str) -> Result<Written> {
        match self.producer.append(vec![self.producer.record(word.to_owned())]).await {
            Ok(_) => {}
            Err(AppendError::WriterFenced { holder, .. }) => return Ok(Written::Fenced { by: holder }),
            // Nobody answered in time. The log settles it, for good.
            Err(AppendError::OutcomeUnknown { append: Some(append), .. }) => {
                match self.client.resolve(&self.log, append).await? {
                    Resolution::Landed(_) => {}
                    Resolution::Never => return Ok(Written::No),
                    // Start anew: acquire, and replay.
                    Resolution::Forgotten => return Err("the log must be replayed".into()),
                }
            }
            // Nothing was appended, and the error says why.
            Err(error) => return Err(error.into()),
        }
        *self.state.entry(word.to_owned()).or_default() += 1;
        Ok(Written::Yes)
    }
}

/// The state as the records below `end` make it.
async fn replay(client: &Client, log: &LogName, end: Offset) -> Result<State> {
    let mut reader = client.reader(log, ReaderConfig::default())?;
    let mut state = State::new();
    while let Some(record) = reader.next().await? {
        // Beyond lies what a newer primary writes already.
        if record.offset >= end {
            break;
        }
        let word = String::from_utf8(record.value.unwrap_or_default().to_vec())?;
        *state.entry(word).or_default() += 1;
    }
    Ok(state)
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:7001".to_owned());
    let name = arguments.next().unwrap_or("db-1".to_owned());
    let client = Client::new(ClientConfig::new([address]), system::environment())?;
    let mut primary = Primary::take_over(&client, &name).await?;
    println!("{name} takes over with {:?}", primary.state);
    for word in ["to", "be", "or", "not", "to", "be"] {
        if let Written::Fenced { by } = primary.count(word).await? {
            println!("{by} has taken over");
            return Ok(());
        }
    }
    println!("{name} has {:?}", primary.state);
    Ok(())
}
