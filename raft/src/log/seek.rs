//! The first record at or after a time.
//!
//! ```text
//!   block (newest ≥ time) ─▶ row (newest ≥ time) ─▶ entry ─▶ record
//! ```
//!
//! Exact to the record, and reads one entry for it. A block's newest record may
//! be trimmed already, and a batch may claim a newer time than its records have
//! where they were not checked: then the search goes on behind it.

use quipu_protocol::batch::{self, BatchHeader};
use quipu_protocol::{Offset, OffsetRange, Timestamp};
use quipu_storage::Kv;
use quipu_storage::journal::Journal;

use super::LogMachine;
use super::errors::ReadError;
use super::offsets::OffsetRow;
use super::read;
use crate::group::Group;

/// What a search by time found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sought {
    /// The first record at or after the time, and its own; `None` when there is
    /// none yet.
    pub record: Option<(Offset, Timestamp)>,
    /// What could be read when this was found.
    pub range: OffsetRange,
}

/// The first record at or after `at` of those that can be read here. A batch's
/// records are decompressed to at most `max_decompressed_bytes`; the first one
/// stands for a batch that cannot be.
pub(super) async fn seek(
    group: &Group<LogMachine>,
    journal: &Journal,
    kv: &dyn Kv,
    at: Timestamp,
    max_decompressed_bytes: usize,
) -> Result<Sought, ReadError> {
    let mut from = Offset::ZERO;
    loop {
        let (range, block) = group.view(|log| {
            from = from.max(log.range().start());
            (log.range(), log.block_with(from, at))
        });
        let Some(block) = block else { return Ok(Sought { record: None, range }) };
        from = block.start;
        while from < block.end {
            let rows = match read::rows_from(group, kv, from) {
                Ok((_, rows)) => rows,
                // Trimmed meanwhile: from the new start on.
                Err(ReadError::OutOfRange { .. }) => break,
                Err(error) => return Err(error),
            };
            let last = rows.last().map_or(block.end, OffsetRow::end);
            for row in rows.iter().filter(|row| row.newest >= at && row.base < block.end) {
                match read::batches_of(journal, group.key(), row).await {
                    Ok(batches) => {
                        let found = batches.iter().find_map(|(base, count, batch)| {
                            first_in(batch, *base, *count, from, at, max_decompressed_bytes)
                        });
                        if found.is_some() {
                            return Ok(Sought { record: found, range });
                        }
                    }
                    Err(_) if row.end() <= group.view(LogMachine::range).start() => {}
                    Err(error) => return Err(error),
                }
            }
            from = last;
        }
    }
}

/// The first record of a batch that is not before `from` nor before `at`.
fn first_in(
    batch: &bytes::Bytes,
    base: Offset,
    count: u64,
    from: Offset,
    at: Timestamp,
    max_decompressed_bytes: usize,
) -> Option<(Offset, Timestamp)> {
    let header = BatchHeader::parse(batch).ok()?;
    if header.max_timestamp < at || base.advance(count) <= from {
        return None;
    }
    let unreadable = Some((base.max(from), header.max_timestamp));
    let Ok(records) = batch::records(batch, max_decompressed_bytes) else { return unreadable };
    for (place, record) in (0..).zip(records) {
        let Ok((_, record)) = record else { return unreadable };
        let offset = base.advance(place);
        if offset >= from && record.timestamp >= at {
            return Some((offset, record.timestamp));
        }
    }
    None
}
