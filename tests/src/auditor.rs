//! A program that reads a log all the time and compares what it gets with what
//! an [`Appender`](crate::Appender) sends.

use quipu_protocol::LogName;
use quipu_sdk::{Client, NodeId, ReadError, ReadRecord, ReaderConfig, system};
use tokio::sync::{oneshot, watch};

use crate::PATIENCE;
use crate::appender::{number_of, payload};

/// A reader that runs in the background: linearizable, from the log's start to
/// its end, again and again.
pub struct Auditor {
    stop: watch::Sender<bool>,
    passes: watch::Receiver<u64>,
    found: oneshot::Receiver<Result<(), String>>,
}

impl Auditor {
    /// Reads a log until it is stopped, or something is wrong.
    pub fn start(client: &Client, log: &LogName) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (progress, passes) = watch::channel(0);
        let (finished, found) = oneshot::channel();
        let (client, log) = (client.clone(), log.clone());
        let run = async move {
            let _ = finished.send(audit(&client, &log, &stopped, &progress).await);
        };
        system::environment().tasks.spawn("auditor", Box::pin(run)).detach();
        Self { stop, passes, found }
    }

    /// Waits until it has read everything that was there when this was called.
    ///
    /// # Panics
    /// When something that it read was wrong.
    pub async fn reads_all_again(&mut self) {
        // The pass that is under way may have begun before.
        let enough = *self.passes.borrow() + 2;
        let reaching = async { self.passes.wait_for(|&passes| passes >= enough).await.map(drop) };
        let reached = tokio::time::timeout(PATIENCE, reaching).await;
        let reached = reached.unwrap_or_else(|_| panic!("the log was not read twice within {PATIENCE:?}"));
        if reached.is_err() {
            let found = self.found.try_recv();
            panic!("the auditor ended: {found:?}");
        }
    }

    /// Reads no more.
    ///
    /// # Panics
    /// When something that it read was wrong.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let found = self.found.await.expect("the auditor did not panic");
        found.unwrap_or_else(|wrong| panic!("a reader was served what it must not be: {wrong}"));
    }
}

/// Reads a node's own copy from start to end once.
///
/// # Errors
/// When it cannot be read.
///
/// # Panics
/// When something that was read was not what had been appended.
pub async fn reads_own_copy(client: &Client, log: &LogName, node: NodeId) -> Result<(), ReadError> {
    let config = ReaderConfig { node: Some(node), ..ReaderConfig::default() };
    let mut reader = client.reader(log, config).expect("a reader");
    let mut check = Check::default();
    while let Some(record) = reader.next().await? {
        check.record(log, &record).unwrap_or_else(|wrong| panic!("node {node}: {wrong}"));
    }
    Ok(())
}

async fn audit(
    client: &Client,
    log: &LogName,
    stopped: &watch::Receiver<bool>,
    progress: &watch::Sender<u64>,
) -> Result<(), String> {
    while !*stopped.borrow() {
        let mut reader = client.reader(log, ReaderConfig::default()).expect("a reader");
        let mut check = Check::default();
        loop {
            match reader.next().await {
                Ok(Some(record)) => check.record(log, &record)?,
                Ok(None) => break,
                // Nobody could serve it for a while, which is no wrong record.
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(format!("{error:?}")),
            }
        }
        progress.send_modify(|passes| *passes += 1);
    }
    Ok(())
}

/// What one pass has seen.
#[derive(Default)]
struct Check {
    records: u64,
    last: Option<u64>,
}

impl Check {
    /// Offsets are contiguous, and values are those of one appender, whole, in
    /// the order in which it sent them, each once.
    fn record(&mut self, log: &LogName, record: &ReadRecord) -> Result<(), String> {
        let ReadRecord { offset, value, .. } = record;
        if offset.get() != self.records {
            return Err(format!("offset {offset} came where {} was next", self.records));
        }
        let value = value.as_ref().ok_or_else(|| format!("the record at {offset} has no value"))?;
        let number = number_of(log, value).ok_or_else(|| format!("the record at {offset} was never appended"))?;
        if payload(log, number) != *value {
            return Err(format!("the record at {offset} is not record {number} as it was appended"));
        }
        if self.last.is_some_and(|last| number <= last) {
            return Err(format!("record {number} at {offset} came after record {:?}", self.last));
        }
        (self.records, self.last) = (self.records + 1, Some(number));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quipu_protocol::{Offset, Timestamp};

    use super::*;

    fn log() -> LogName {
        "orders".parse().expect("a log's name")
    }

    fn check(records: &[(u64, Bytes)]) -> Result<(), String> {
        let mut check = Check::default();
        for (offset, value) in records {
            let (offset, value) = (Offset::new(*offset), Some(value.clone()));
            let record = ReadRecord { offset, timestamp: Timestamp::new(0), key: None, value, headers: Vec::new() };
            check.record(&log(), &record)?;
        }
        Ok(())
    }

    #[test]
    fn what_was_appended_passes_and_nothing_else_does() {
        let value = |number| payload(&log(), number);
        check(&[(0, value(0)), (1, value(1)), (2, value(5))]).expect("a record that was never sent may be missing");
        let mut flipped = value(1).to_vec();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        for (wrong, complaint) in [
            (vec![(1, value(0))], "came where 0 was next"),
            (vec![(0, value(0)), (1, value(0))], "came after"),
            (vec![(0, value(1)), (1, value(0))], "came after"),
            (vec![(0, value(0)), (1, flipped.into())], "is not record 1"),
            (vec![(0, Bytes::from_static(b"orders"))], "never appended"),
            (vec![(0, payload(&"returns".parse().expect("a name"), 0))], "never appended"),
        ] {
            let found = check(&wrong).expect_err("it is wrong");
            assert!(found.contains(complaint), "{found}");
        }
    }
}
