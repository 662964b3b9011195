//! Reading one log.

use bytes::Bytes;
use quipu_protocol::batch::Header;
use quipu_protocol::{Offset, Timestamp};

use crate::ReadError;

/// Reads one log, record by record.
pub struct Reader(());

impl Reader {
    /// The next record; `None` once there is none: at the end without
    /// `follow`, or after `max_records`.
    ///
    /// Dropping the future loses nothing. After an error that
    /// [is retryable](ReadError::is_retryable), call it again.
    pub async fn next(&mut self) -> Result<Option<ReadRecord>, ReadError> {
        todo!()
    }
}

/// A record with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// Its place.
    pub offset: Offset,
    /// When its producer says it happened.
    pub timestamp: Timestamp,
    /// What it is about, if anything.
    pub key: Option<Bytes>,
    /// What it says.
    pub value: Option<Bytes>,
    /// Further facts, in order; a key may repeat.
    pub headers: Vec<Header>,
}
