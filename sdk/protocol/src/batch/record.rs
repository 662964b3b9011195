//! A record as a program sees it.

use bytes::Bytes;

use crate::Timestamp;

/// The unit a user writes and the unit an offset counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the producer says it happened.
    pub timestamp: Timestamp,
    /// What it is about, if anything. An empty key is not the same as none.
    pub key: Option<Bytes>,
    /// What it says. None by convention says that the key is gone.
    pub value: Option<Bytes>,
    /// Further facts, in order; a key may repeat.
    pub headers: Vec<Header>,
}

impl Record {
    /// A record with nothing but a value.
    pub const fn new(timestamp: Timestamp, value: Bytes) -> Self {
        Self { timestamp, key: None, value: Some(value), headers: Vec::new() }
    }
}

/// One header of a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub key: String,
    /// Its value, if any.
    pub value: Option<Bytes>,
}
