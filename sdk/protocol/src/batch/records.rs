//! The records inside a batch, one after the other.
//!
//! A record, numbers being [zigzag](super::varint):
//!
//! ```text
//!   length │ attributes 0 │ timestamp Δ │ offset Δ │ key │ value │ headers
//!           (one byte)                              └────┬────┘   └ count, then per header key and value
//!                                                   length (−1: none), bytes
//! ```

use std::ops::Range;

use bytes::Bytes;

use super::varint::Cursor;
use super::{BatchError, BatchHeader, Compression, HEADER_BYTES, Header, Record, RecordFault, compression};
use crate::{Offset, Timestamp};

/// The records of `batch` with their offsets. Compressed ones are decompressed
/// first, to at most `max_decompressed_bytes`. The CRC is not checked: see
/// [`validate`](super::validate).
pub fn records(batch: &Bytes, max_decompressed_bytes: usize) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let body = match header.compression {
        Compression::None => batch.slice(HEADER_BYTES..),
        codec => Bytes::from(compression::plain(codec, &batch[HEADER_BYTES..], max_decompressed_bytes)?),
    };
    Ok(Records { header, body, at: 0, next: 0 })
}

/// The iterator that [`records`] gives. Ends after the first error. Keys and
/// values are slices of the batch, or of its decompressed form.
#[derive(Debug)]
pub struct Records {
    header: BatchHeader,
    body: Bytes,
    at: usize,
    /// The position in the batch of the record at `at`; the count after an error.
    next: u32,
}

impl Records {
    /// The batch's header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn read(&mut self) -> Result<(Offset, Record), BatchError> {
        let position = self.next;
        let raw = RawRecord::read(&self.header, &self.body, &mut self.at, position)?;
        self.next += 1;
        if self.next == self.header.count {
            nothing_follows(&self.body, self.at, self.header.count)?;
        }
        let piece = |piece: &[u8]| self.body.slice_ref(piece);
        let record = Record {
            timestamp: raw.timestamp(&self.header),
            key: raw.key.map(piece),
            value: raw.value.map(piece),
            headers: raw.headers(&self.body, piece),
        };
        Ok((self.header.base_offset.advance(u64::from(position)), record))
    }
}

impl Iterator for Records {
    type Item = Result<(Offset, Record), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.header.count {
            return None;
        }
        let item = self.read();
        if item.is_err() {
            self.next = self.header.count;
        }
        Some(item)
    }
}

/// Walks through the decompressed records `body` and makes sure that they are
/// what `header` says. Returns the oldest timestamp.
pub(super) fn check(header: &BatchHeader, body: &[u8]) -> Result<Timestamp, BatchError> {
    let mut at = 0;
    let (mut oldest, mut newest) = (Timestamp::new(i64::MAX), Timestamp::new(i64::MIN));
    for position in 0..header.count {
        let raw = RawRecord::read(header, body, &mut at, position)?;
        let timestamp = raw.timestamp(header);
        (oldest, newest) = (oldest.min(timestamp), newest.max(timestamp));
    }
    nothing_follows(body, at, header.count)?;
    if newest != header.max_timestamp {
        return Err(BatchError::MaxTimestamp { claimed: header.max_timestamp.get(), actual: newest.get() });
    }
    Ok(oldest)
}

fn nothing_follows(body: &[u8], at: usize, count: u32) -> Result<(), BatchError> {
    match body.len() - at {
        0 => Ok(()),
        bytes => Err(BatchError::TrailingBytes { bytes, count }),
    }
}

/// A record in place: checked whole, nothing copied.
struct RawRecord<'a> {
    timestamp_delta: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    header_count: usize,
    /// Where in the body the headers are.
    headers: Range<usize>,
}

impl<'a> RawRecord<'a> {
    /// The record at `at`, which is moved behind it; `position` is what its
    /// offset delta has to be.
    fn read(header: &BatchHeader, body: &'a [u8], at: &mut usize, position: u32) -> Result<Self, BatchError> {
        if *at == body.len() {
            return Err(BatchError::MissingRecords { count: header.count, found: position });
        }
        Self::framed(body, at, position).map_err(|fault| BatchError::Record { record: position, fault })
    }

    fn framed(body: &'a [u8], at: &mut usize, position: u32) -> Result<Self, RecordFault> {
        let mut outer = Cursor::new(body, *at);
        let length = outer.length()?;
        let start = outer.at();
        outer.take(length)?;
        let end = outer.at();

        let mut cursor = Cursor::new(&body[..end], start);
        // What is cut off by its own length, and not by the end of the body,
        // has a wrong length.
        let raw = Self::fields(&mut cursor, position).map_err(|fault| match fault {
            RecordFault::CutOff => RecordFault::Length,
            fault => fault,
        })?;
        if cursor.left() != 0 {
            return Err(RecordFault::Length);
        }
        *at = end;
        Ok(raw)
    }

    fn fields(cursor: &mut Cursor<'a>, position: u32) -> Result<Self, RecordFault> {
        if cursor.byte()? != 0 {
            return Err(RecordFault::Attributes);
        }
        let timestamp_delta = cursor.long()?;
        let found = cursor.int()?;
        if u32::try_from(found) != Ok(position) {
            return Err(RecordFault::OffsetDelta { found });
        }
        let key = cursor.piece()?;
        let value = cursor.piece()?;
        let header_count = cursor.length()?;
        let headers_start = cursor.at();
        for _ in 0..header_count {
            header(cursor)?;
        }
        Ok(Self { timestamp_delta, key, value, header_count, headers: headers_start..cursor.at() })
    }

    /// Wraps where it overflows, as the encoder does: every pair of times has
    /// a difference.
    fn timestamp(&self, header: &BatchHeader) -> Timestamp {
        Timestamp::new(header.base_timestamp.get().wrapping_add(self.timestamp_delta))
    }

    fn headers(&self, body: &[u8], piece: impl Fn(&[u8]) -> Bytes) -> Vec<Header> {
        let mut cursor = Cursor::new(&body[..self.headers.end], self.headers.start);
        let read = |_| {
            let (key, value) = header(&mut cursor).expect("the headers were walked through");
            Header { key: key.to_owned(), value: value.map(&piece) }
        };
        // A header takes two bytes or more: the count was held against them.
        (0..self.header_count).map(read).collect()
    }
}

fn header<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a str, Option<&'a [u8]>), RecordFault> {
    let length = cursor.length()?;
    let key = std::str::from_utf8(cursor.take(length)?).map_err(|_| RecordFault::HeaderKey)?;
    Ok((key, cursor.piece()?))
}
