//! Appending to one log.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use quipu_protocol::batch::Record;
use quipu_protocol::{Offset, OffsetRange};

use crate::{AppendError, SendError};

/// Appends to one log. Shared by reference or by clone; batches land in the
/// order in which they were taken.
#[derive(Clone)]
pub struct Producer(());

impl Producer {
    /// A record with this value and the current time, for `send` or `append`.
    pub fn record(&self, value: impl Into<Bytes>) -> Record {
        let _ = value.into();
        todo!()
    }

    /// Takes a record, to be sent in a batch with others. Waits only for room;
    /// the [`Delivery`] tells when it is acknowledged and where it is.
    pub async fn send(&self, record: Record) -> Result<Delivery, SendError> {
        let _ = record;
        todo!()
    }

    /// Appends `records` as one batch: all of them, next to each other, or
    /// none.
    pub async fn append(&self, records: Vec<Record>) -> Result<OffsetRange, AppendError> {
        self.enqueue(records).await?.await
    }

    /// As [`append`](Self::append), but waits only for room; the [`Append`]
    /// tells when the batch is acknowledged. This is how one task keeps many
    /// appends in flight.
    pub async fn enqueue(&self, records: Vec<Record>) -> Result<Append, SendError> {
        let _ = records;
        todo!()
    }

    /// Waits until everything taken before has been answered, one way or the
    /// other.
    pub async fn flush(&self) {
        todo!()
    }

    /// Takes nothing more and waits until everything taken has been answered.
    pub async fn close(self) {
        todo!()
    }
}

/// The outcome of a `send`, to be awaited. Dropping it changes nothing.
pub struct Delivery(());

impl Future for Delivery {
    type Output = Result<Offset, AppendError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}

/// The outcome of an `enqueue`, to be awaited. Dropping it changes nothing.
pub struct Append(());

impl Future for Append {
    type Output = Result<OffsetRange, AppendError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}
