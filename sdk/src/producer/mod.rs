//! Appending to one log.
//!
//! ```text
//!   send ──► Gathering ─┐
//!                       ├─► Outbox ──► Outgoing ══ Append stream ══► leader
//!   append ─────────────┘      ▲                                       │
//!                              └── Driver ◄════════════════════════════┘
//! ```

mod batch;
mod driver;
mod gathering;
mod outbox;
mod outgoing;
mod shared;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use quipu_protocol::batch::{BatchBuilder, Record};
use quipu_protocol::{Offset, OffsetRange, v1};
use tokio::sync::oneshot;

use crate::cluster::Cluster;
use crate::{AppendError, CursorCommit, LogRef, ProducerConfig, SendError};
use driver::Driver;
use outbox::Outbox;
use shared::Shared;

/// Appends to one log. Cheap to clone; batches land in the order in which they
/// were taken.
///
/// When the last clone is dropped, what was taken is still sent, for as long
/// as the runtime is there. [`close`](Self::close) waits for it.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

struct Handle {
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    config: ProducerConfig,
    /// An encoder that is not in use, with its buffers.
    encoder: Mutex<Option<BatchBuilder>>,
}

impl Producer {
    pub(crate) fn start(cluster: Arc<Cluster>, log: LogRef<'_>, config: ProducerConfig) -> Self {
        let name = log.name().clone();
        let mut outbox = Outbox::new(name.clone(), config.clone());
        if let Some(id) = log.id() {
            outbox.is_of(id);
        }
        let shared = Arc::new(Shared::new(outbox, config.buffer_bytes));
        let driver = Driver::new(Arc::clone(&cluster), Arc::clone(&shared), name, &config);
        cluster.environment.tasks.spawn("sdk-producer", Box::pin(driver.run())).detach();
        Self { handle: Arc::new(Handle { cluster, shared, config, encoder: Mutex::new(None) }) }
    }

    /// A record with this value and the current time, for `send` or `append`.
    pub fn record(&self, value: impl Into<Bytes>) -> Record {
        Record::new(self.handle.cluster.environment.clock.wall(), value.into())
    }

    /// Takes a record, to be sent in a batch with others. Waits only for room;
    /// the [`Delivery`] tells when it is acknowledged and where it is.
    pub async fn send(&self, record: Record) -> Result<Delivery, SendError> {
        let room = self.room_for(0, &record)?;
        self.wait_for_room(room).await?;
        let (waiter, outcome) = oneshot::channel();
        let now = self.handle.cluster.now();
        let taken = self.handle.shared.take(|outbox| outbox.take_record(&record, room, waiter, now));
        self.give_back_unless_taken(room, taken).map(|()| Delivery { outcome })
    }

    /// Appends `records` as one batch: all of them, next to each other, or
    /// none.
    pub async fn append(&self, records: Vec<Record>) -> Result<OffsetRange, AppendError> {
        self.enqueue(records).await?.await
    }

    /// As [`append`](Self::append), if the log ends at `expected` when the batch's
    /// turn comes, so that nothing came in between; else
    /// [`AppendError::OffsetMismatch`], which says where it ends.
    pub async fn append_at(&self, expected: Offset, records: Vec<Record>) -> Result<OffsetRange, AppendError> {
        self.enqueue_at(expected, records).await?.await
    }

    /// As [`append`](Self::append), and commits cursors of the log in the same step:
    /// all of it lands, or nothing. At most 16, each of another cursor; made by
    /// [`Cursor::at`](crate::Cursor::at).
    ///
    /// A retry commits nothing twice. What a cursor does not take is
    /// [`AppendError::CursorRefused`].
    pub async fn append_with(
        &self,
        records: Vec<Record>,
        cursors: impl IntoIterator<Item = CursorCommit>,
    ) -> Result<OffsetRange, AppendError> {
        self.enqueue_with(records, cursors).await?.await
    }

    /// As [`append_with`](Self::append_with), but waits only for room.
    pub async fn enqueue_with(
        &self,
        records: Vec<Record>,
        cursors: impl IntoIterator<Item = CursorCommit>,
    ) -> Result<Append, SendError> {
        let cursors = cursors.into_iter().map(|commit| commit.on_wire()).collect();
        self.take(None, v1::CarriedCommits::encoded(cursors), records).await
    }

    /// As [`append`](Self::append), but waits only for room; the [`Append`]
    /// tells when the batch is acknowledged. This is how one task keeps many
    /// appends in flight.
    pub async fn enqueue(&self, records: Vec<Record>) -> Result<Append, SendError> {
        self.take(None, Bytes::new(), records).await
    }

    /// As [`append_at`](Self::append_at), but waits only for room.
    pub async fn enqueue_at(&self, expected: Offset, records: Vec<Record>) -> Result<Append, SendError> {
        self.take(Some(expected), Bytes::new(), records).await
    }

    async fn take(
        &self,
        expected_end: Option<Offset>,
        cursors: Bytes,
        records: Vec<Record>,
    ) -> Result<Append, SendError> {
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Err(SendError::Empty);
        }
        let room = records.iter().try_fold(cursors.len(), |room, record| self.room_for(room, record))?;
        self.wait_for_room(room).await?;
        let (waiter, outcome) = oneshot::channel();
        let taken = self.encode(&records).and_then(|batch| {
            let now = self.handle.cluster.now();
            self.handle.shared.take(|outbox| {
                outbox.take_batch((batch, count), (expected_end, cursors), room, waiter, now);
                Ok(())
            })
        });
        self.give_back_unless_taken(room, taken).map(|()| Append { outcome })
    }

    /// Waits until everything taken before has been answered, one way or the
    /// other. Nothing lingers meanwhile.
    pub async fn flush(&self) {
        if let Some(answered) = self.handle.shared.change(Outbox::flush) {
            // An error says that the driver is gone, and with it all waiting.
            let _ = answered.await;
        }
    }

    /// Takes nothing more, from any clone, and waits until everything taken
    /// has been answered, one way or the other.
    pub async fn close(self) {
        self.handle.shared.close(SendError::Closed);
        self.flush().await;
    }

    /// How much of `buffer_bytes` a batch takes, in bytes and before compression, that
    /// took `room` without `record`. Refused if no batch may take so much: whoever gathers
    /// the records of one need not gather more than that.
    pub fn room_for(&self, room: usize, record: &Record) -> Result<usize, SendError> {
        let bytes = room.saturating_add(room_of(record));
        let bounds =
            [("buffer_bytes", self.handle.config.buffer_bytes), ("the largest batch", ProducerConfig::MAX_BATCH_BYTES)];
        match bounds.into_iter().find(|(_, limit)| bytes > *limit) {
            Some((bound, limit)) => Err(SendError::TooLarge { bound, limit, actual: bytes }),
            None => Ok(bytes),
        }
    }

    /// Holds `bytes` of `buffer_bytes`, which may be so much, until the batch is answered.
    async fn wait_for_room(&self, bytes: usize) -> Result<(), SendError> {
        // The largest batch is far below.
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        match self.handle.shared.room.acquire_many(permits).await {
            Ok(room) => room.forget(),
            Err(_closed) => return Err(self.handle.shared.closed()),
        }
        Ok(())
    }

    fn give_back_unless_taken(&self, room: usize, taken: Result<(), SendError>) -> Result<(), SendError> {
        taken.inspect_err(|_| self.handle.shared.room.add_permits(room))
    }

    fn encode(&self, records: &[Record]) -> Result<Bytes, SendError> {
        let spare = self.handle.encoder.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut encoder = spare.unwrap_or_else(|| BatchBuilder::new(self.handle.config.compression));
        let batch = records
            .iter()
            .try_for_each(|record| encoder.push(record))
            .and_then(|()| encoder.finish(None))
            .map_err(|reason| SendError::Unfit { reason })?;
        *self.handle.encoder.lock().unwrap_or_else(PoisonError::into_inner) = Some(encoder);
        Ok(batch)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close(SendError::Closed);
    }
}

/// An upper bound of what a record takes in a batch, and a little for what it
/// takes beside it.
fn room_of(record: &Record) -> usize {
    const FIXED: usize = 128;
    const PER_HEADER: usize = 16;
    let value = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|header| PER_HEADER + header.key.len() + value(&header.value));
    FIXED + value(&record.key) + value(&record.value) + headers.sum::<usize>()
}

/// The outcome of a `send`, to be awaited. Dropping it changes nothing.
#[must_use = "the record is acknowledged only when this says so"]
pub struct Delivery {
    outcome: oneshot::Receiver<Result<Offset, AppendError>>,
}

/// The outcome of an `enqueue`, to be awaited. Dropping it changes nothing.
#[must_use = "the batch is acknowledged only when this says so"]
pub struct Append {
    outcome: oneshot::Receiver<Result<OffsetRange, AppendError>>,
}

impl Future for Delivery {
    type Output = Result<Offset, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(context).map(|outcome| outcome.unwrap_or(Err(SendError::Closed.into())))
    }
}

impl Future for Append {
    type Output = Result<OffsetRange, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(context).map(|outcome| outcome.unwrap_or(Err(SendError::Closed.into())))
    }
}
