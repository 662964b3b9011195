//! A program that appends all the time and keeps a ledger of what it was told.

use bytes::Bytes;
use quipu_protocol::{LogName, Offset};
use quipu_sdk::{AppendError, Client, Delivery, Producer, ProducerConfig, system};
use tokio::sync::{mpsc, oneshot, watch};

/// Appends on their way at once.
const IN_FLIGHT: usize = 64;

/// An appender that runs in the background.
pub struct Appender {
    log: LogName,
    stop: watch::Sender<bool>,
    acknowledged: watch::Receiver<u64>,
    ledger: oneshot::Receiver<Ledger>,
}

/// What became of the records that were sent, in the order they were sent.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Acknowledged records, with the offsets they were given.
    pub acknowledged: Vec<(Offset, Bytes)>,
    /// Records that may or may not have landed.
    pub unknown: Vec<Bytes>,
}

impl Appender {
    /// Appends to a log, one record an append, until it is stopped.
    pub fn start(client: &Client, log: &LogName) -> Self {
        let producer = client
            .producer(log, ProducerConfig { batch_records: 1, in_flight: IN_FLIGHT, ..ProducerConfig::default() })
            .expect("a producer");
        let (stop, stopped) = watch::channel(false);
        let (progress, acknowledged) = watch::channel(0);
        let (finished, ledger) = oneshot::channel();
        let (deliveries, delivered) = mpsc::channel(IN_FLIGHT);
        let (log, sent_to) = (log.clone(), log.clone());
        let run = async move {
            let ((), ledger) = tokio::join!(send(producer, &sent_to, deliveries, stopped), keep(delivered, progress));
            let _ = finished.send(ledger);
        };
        system::environment().tasks.spawn("appender", Box::pin(run)).detach();
        Self { log, stop, acknowledged, ledger }
    }

    /// Waits until so many records have been acknowledged since it started.
    pub async fn has_acknowledged(&self, records: u64) {
        let mut acknowledged = self.acknowledged.clone();
        // What is waited for comes with a lock: held while the count is looked
        // at again, it and an acknowledgement that comes between would wait for
        // one another.
        let reaching = async { acknowledged.wait_for(|&n| n >= records).await.map(drop) };
        let reached = tokio::time::timeout(crate::PATIENCE, reaching).await;
        let so_far = *self.acknowledged.borrow();
        match reached {
            Ok(Ok(())) => {}
            Ok(Err(_)) => panic!("the appender ended at {so_far} acknowledged records"),
            Err(_) => panic!("only {so_far} of {records} records were acknowledged in {:?}", crate::PATIENCE),
        }
    }

    /// Waits until so many more records have been acknowledged than now.
    pub async fn acknowledges_more(&self, records: u64) {
        let now = *self.acknowledged.borrow();
        self.has_acknowledged(now + records).await;
    }

    /// How many records have been acknowledged.
    pub fn acknowledged(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// What the record of this number, from 0, says.
    pub fn value(&self, number: u64) -> Bytes {
        payload(&self.log, number)
    }

    /// Sends no more, waits for what is on its way, and returns the ledger.
    pub async fn stop(self) -> Ledger {
        let _ = self.stop.send(true);
        self.ledger.await.expect("the appender did not panic")
    }
}

async fn send(
    producer: Producer,
    log: &LogName,
    deliveries: mpsc::Sender<(Bytes, Delivery)>,
    stop: watch::Receiver<bool>,
) {
    for number in 0.. {
        if *stop.borrow() {
            break;
        }
        let value = payload(log, number);
        let record = producer.record(value.clone());
        let delivery = producer.send(record).await.unwrap_or_else(|error| panic!("record {number}: {error:?}"));
        if deliveries.send((value, delivery)).await.is_err() {
            break;
        }
    }
}

async fn keep(mut delivered: mpsc::Receiver<(Bytes, Delivery)>, progress: watch::Sender<u64>) -> Ledger {
    let mut ledger = Ledger::default();
    while let Some((value, delivery)) = delivered.recv().await {
        match delivery.await {
            Ok(offset) => ledger.acknowledged.push((offset, value)),
            Err(AppendError::OutcomeUnknown { .. }) => ledger.unknown.push(value),
            // Sent to nobody: it must not be found.
            Err(error) if error.has_no_side_effects() => {}
            Err(error) => panic!("an append failed in a way that says nothing of its outcome: {error:?}"),
        }
        progress.send_replace(ledger.acknowledged.len() as u64);
    }
    ledger
}

/// A record like no other: its number, then bytes of every kind, up to some
/// hundred of them.
pub(crate) fn payload(log: &LogName, number: u64) -> Bytes {
    let mut value = format!("{log}/{number:08}/").into_bytes();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..state % 601 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.push(state.to_le_bytes()[3]);
    }
    value.into()
}

/// The number of a record that an appender to `log` sent, from its first bytes.
pub(crate) fn number_of(log: &LogName, value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(log.as_str().as_bytes())?.strip_prefix(b"/")?.split(|byte| *byte == b'/').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
