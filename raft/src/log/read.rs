//! Reading a log by offset.
//!
//! ```text
//!   offset ─▶ row (entry, base, skipped) ─▶ entry's batches ─▶ place patched in
//! ```
//!
//! Serves the bytes as they were appended, shared with the journal's cache and so
//! with all that read them: the two header fields that say the place are put in
//! between when a batch is written to somebody.

use bytes::Bytes;
use prost::Message;
use quipu_protocol::batch::{BatchHeader, PlacedBatch};
use quipu_protocol::{Offset, OffsetRange, Term, stored};
use quipu_storage::Kv;
use quipu_storage::journal::{Journal, ReplicaKey};

use super::LogMachine;
use super::errors::ReadError;
use super::offsets::{OffsetRow, saved_from};
use crate::entry;
use crate::group::Group;
use crate::log_store;
use crate::machine::MachineError;

/// How many entries one read looks at, at most.
const MAX_ROWS: usize = 256;

/// Some of a log's batches.
#[derive(Clone, Debug)]
pub struct ReadChunk {
    /// The batches in order, each with its place. The first may begin before
    /// the offset that was asked for.
    pub batches: Vec<PlacedBatch>,
    /// The offset after the last of them, where the next read goes on.
    pub next: Offset,
    /// What could be read when these were.
    pub range: OffsetRange,
}

pub(super) async fn read(
    group: &Group<LogMachine>,
    journal: &Journal,
    kv: &dyn Kv,
    from: Offset,
    max_bytes: u64,
) -> Result<ReadChunk, ReadError> {
    let (range, rows) = rows_from(group, kv, from)?;
    let mut chunk = ReadChunk { batches: Vec::new(), next: from, range };
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(chunk) };
    let indexes = first.entry.index.get()..last.entry.index.next().get();
    let entries = match log_store::read(journal, group.key(), indexes, max_bytes).await {
        Ok(entries) => entries,
        Err(error) => {
            // They may have been purged since they were looked up.
            let range = group.view(LogMachine::range);
            let gone = from < range.start();
            return Err(if gone { ReadError::OutOfRange { range } } else { ReadError::storage(error) });
        }
    };
    let mut rows = rows.iter().peekable();
    let mut bytes = 0;
    for entry in entries {
        // Entries between rows gave no record an offset.
        let Some(row) = rows.next_if(|row| row.entry.index == entry.id.index) else { continue };
        if row.entry != entry.id {
            let reason = format!("it has {} where the rows have {}", entry.id, row.entry);
            return Err(ReadError::storage(MachineError::new("the journal", reason)));
        }
        let command = entry::command_of(entry).map_err(ReadError::storage)?.unwrap_or_default();
        for (base, count, batch) in place(row, command).map_err(ReadError::storage)? {
            let end = base.advance(count);
            if end <= from {
                continue;
            }
            if !chunk.batches.is_empty() && bytes + batch.len() as u64 > max_bytes {
                return Ok(chunk);
            }
            bytes += batch.len() as u64;
            chunk.batches.push(PlacedBatch::new(batch, base, leader_epoch(row.entry.term)));
            chunk.next = end;
        }
    }
    if chunk.batches.is_empty() { Err(missing(from)) } else { Ok(chunk) }
}

/// What can be read, and rows from the one on that holds `from`; none at the
/// end.
pub(super) fn rows_from(
    group: &Group<LogMachine>,
    kv: &dyn Kv,
    from: Offset,
) -> Result<(OffsetRange, Vec<OffsetRow>), ReadError> {
    let look = |log: &LogMachine| {
        let recent = log.recent_rows();
        (log.range(), recent.from(from, MAX_ROWS), recent.first())
    };
    let (range, rows, recent) = group.view(look);
    if from == range.end() {
        return Ok((range, Vec::new()));
    }
    if !range.contains(from) {
        return Err(ReadError::OutOfRange { range });
    }
    let rows = match rows {
        Some(rows) => rows,
        // Rows leave memory only after they have reached Kv.
        None => {
            saved_from(kv, group.key(), from, recent.unwrap_or(range.end()), MAX_ROWS).map_err(ReadError::storage)?
        }
    };
    match rows.first() {
        Some(first) if first.base <= from && from < first.end() => Ok((range, rows)),
        _ => Err(missing(from)),
    }
}

/// The batches of `row`'s entry that were given offsets: base, count, bytes.
pub(super) async fn batches_of(
    journal: &Journal,
    key: ReplicaKey,
    row: &OffsetRow,
) -> Result<Vec<(Offset, u64, Bytes)>, ReadError> {
    let index = row.entry.index.get();
    let entries = log_store::read(journal, key, index..index + 1, u64::MAX).await.map_err(ReadError::storage)?;
    let entry = entries.into_iter().find(|entry| entry.id == row.entry).ok_or_else(|| missing(row.base))?;
    let command = entry::command_of(entry).map_err(ReadError::storage)?.unwrap_or_default();
    place(row, command).map_err(ReadError::storage)
}

/// The batches of a row's entry that were given offsets: base, count, bytes.
fn place(row: &OffsetRow, command: Bytes) -> Result<Vec<(Offset, u64, Bytes)>, MachineError> {
    let refuse = |reason: String| MachineError::new("an entry of the log", reason);
    let command = stored::LogCommand::decode(command).map_err(|error| refuse(error.to_string()))?;
    let Some(stored::log_command::Command::Append(append)) = command.command else {
        return Err(refuse("it holds no append".to_owned()));
    };
    let mut base = row.base;
    let mut placed = Vec::with_capacity(append.batches.len());
    for (ordinal, batch) in (0_u32..).zip(append.batches) {
        if row.skipped.binary_search(&ordinal).is_ok() {
            continue;
        }
        let header = BatchHeader::parse(&batch).map_err(|error| refuse(error.to_string()))?;
        placed.push((base, header.count.into(), batch));
        base = base.advance(header.count.into());
    }
    if base != row.end() {
        return Err(refuse(format!("its batches end at {base}, its row at {}", row.end())));
    }
    Ok(placed)
}

fn missing(offset: Offset) -> ReadError {
    ReadError::storage(MachineError::new("the log", format!("there is no row for offset {offset}")))
}

/// A term as a batch's header has room for it.
fn leader_epoch(term: Term) -> u32 {
    u32::try_from(term.get()).unwrap_or(u32::MAX)
}
