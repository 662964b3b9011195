//! Named positions that a log keeps for those who read it.
//!
//! ```text
//!   commit   position, in this log or in another one; the generation is kept
//!   claim    raises the generation, and tells the position in the same step
//!   delete   whatever there is
//! ```
//!
//! Of a commit, in this order: does it repeat one of the cursor's last (then nothing
//! changes), is its generation lower than the cursor's, is the cursor where it expects
//! it, does the position lie beyond the log's end, is there room for one more cursor.
//! What an append carries is held to the same, and committed if the append lands.
//!
//! A position may lie before the log's start: a trim moves no cursor, and whoever
//! reads from there is told where the log starts.
//!
//! # Invariant
//! Everything here is a function of the log's commands: cursors expire by log time and
//! by what the leader put into the command, and the bounds are constants. A replica
//! with other bounds would make what its peers refuse, so changing one is a change of
//! the format.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use prost::Message as _;
use quipu_protocol::stored::commit_cursor::Expected;
use quipu_protocol::stored::cursor_command::Action;
use quipu_protocol::{CursorName, LogId, Offset, Timestamp, stored};

use crate::machine::MachineError;
use crate::types::{CursorAnswer, CursorRefusal};

/// How many cursors a log has at most.
pub const MAX_CURSORS: usize = 1_000;

/// How many bytes of a user's own a cursor has at most.
pub const MAX_CURSOR_METADATA_BYTES: usize = 1_024;

/// How many commits an append carries at most.
pub const MAX_CARRIED_COMMITS: usize = 16;

/// More bytes than the commits of an append take, on the wire or in an entry.
pub const MAX_CARRIED_BYTES: u64 =
    (MAX_CARRIED_COMMITS * (MAX_CURSOR_METADATA_BYTES + CursorName::MAX_BYTES + 128)) as u64;

/// How many commits of a cursor are remembered, to know one that comes again.
pub const REMEMBERED_COMMITS: usize = 8;

/// What a cursor takes in the state beside its name and its metadata, in bytes.
const FIXED_BYTES: u64 = 64;

/// More bytes than commands to a log's cursors ever take.
const MOST_BYTES_WRITTEN: u64 = 1 << 62;

/// The cursors of one log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursors {
    known: BTreeMap<String, Known>,
    /// The same cursors by the log time of their last commit.
    by_time: BTreeSet<(Timestamp, String)>,
    /// What they take in the state.
    bytes: u64,
    /// Bytes of all commands that were ever applied.
    written: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    cursor: Cursor,
    /// Request ids of the last commits, oldest first.
    recent: VecDeque<u64>,
}

/// A cursor, as may be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The next offset to be read; `None` until the first commit.
    pub position: Option<Offset>,
    /// The log whose offset it is, if that is another one than the cursor's.
    pub of: Option<LogId>,
    /// A commit under a lower one is refused.
    pub generation: u64,
    /// The user's own.
    pub metadata: Bytes,
    /// Log time of the last commit or claim.
    pub committed_at: Timestamp,
}

/// How much there is of a log's cursors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CursorTotals {
    /// How many there are.
    pub count: u64,
    /// Bytes that they take in the log's state.
    pub bytes: u64,
    /// Bytes that commands to them took in all entries so far.
    pub entry_bytes: u64,
}

impl Cursors {
    /// Lets go of those whose last commit or claim is more than `expiry_ms` back at
    /// log time `now`, but for those `named`; 0 lets none go.
    pub(crate) fn expire(&mut self, now: Timestamp, expiry_ms: u64, named: &BTreeSet<&str>) {
        let due = self.due(now, expiry_ms).filter(|name| !named.contains(name));
        let due: Vec<String> = due.map(str::to_owned).collect();
        for name in due {
            self.remove(&name);
        }
    }

    /// Whether one would expire.
    pub(crate) fn is_due(&self, now: Timestamp, expiry_ms: u64) -> bool {
        self.due(now, expiry_ms).next().is_some()
    }

    /// Those whose time is over, the oldest first.
    fn due(&self, now: Timestamp, expiry_ms: u64) -> impl Iterator<Item = &str> {
        let age = move |at: Timestamp| u64::try_from(now.get().saturating_sub(at.get())).unwrap_or_default();
        let is_over = move |(at, _): &&(Timestamp, String)| expiry_ms > 0 && age(*at) > expiry_ms;
        self.by_time.iter().take_while(is_over).map(|(_, name)| name.as_str())
    }

    /// Counts what commands take in an entry.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Carries a command out at log time `now`, while the log ends at `end`, or says
    /// why not, changing nothing.
    pub(crate) fn run(
        &mut self,
        name: String,
        action: Action,
        end: Offset,
        now: Timestamp,
    ) -> Result<CursorAnswer, CursorRefusal> {
        match action {
            Action::Commit(commit) => {
                if self.repeats(&name, &commit) {
                    return Ok(CursorAnswer::Committed);
                }
                self.refuses(&name, &commit, end)?;
                self.has_room_for(usize::from(!self.known.contains_key(&name)))?;
                self.set(name, commit, now);
                Ok(CursorAnswer::Committed)
            }
            Action::Claim(stored::ClaimCursor { generation }) => {
                let current = self.known.get(&name).map_or(0, |known| known.cursor.generation);
                if generation < current {
                    return Err(CursorRefusal::Fenced { generation: current });
                }
                self.has_room_for(usize::from(!self.known.contains_key(&name)))?;
                let claimed = self.change(name, now, |known| known.cursor.generation = generation);
                Ok(CursorAnswer::Claimed(claimed))
            }
            Action::Delete(_) => Ok(CursorAnswer::Deleted { existed: self.remove(&name) }),
        }
    }

    /// Why an append is refused for the commits that it carries, if it is, and for
    /// which. The log would end at `end` after it.
    pub(crate) fn refuses_carried(
        &self,
        carried: &[stored::CarriedCommit],
        end: Offset,
    ) -> Option<(String, CursorRefusal)> {
        let mut fresh = 0;
        for stored::CarriedCommit { cursor, commit } in carried {
            fresh += usize::from(!self.known.contains_key(cursor));
            let refused = commit.as_ref().map_or(Ok(()), |commit| self.refuses(cursor, commit, end));
            if let Err(refusal) = refused.and_then(|()| self.has_room_for(fresh)) {
                return Some((cursor.clone(), refusal));
            }
        }
        None
    }

    /// Commits what an append carries that has landed.
    pub(crate) fn commit_carried(&mut self, carried: Vec<stored::CarriedCommit>, now: Timestamp) {
        for one in carried {
            self.count(one.encoded_len());
            if let Some(commit) = one.commit {
                quipu_protocol::point!("cursor-carried");
                self.set(one.cursor, commit, now);
            }
        }
    }

    fn repeats(&self, name: &str, commit: &stored::CommitCursor) -> bool {
        let known = self.known.get(name).filter(|_| commit.request_id != 0);
        let repeats = known.is_some_and(|known| known.recent.contains(&commit.request_id));
        if repeats {
            quipu_protocol::point!("cursor-commit-repeated");
        }
        repeats
    }

    fn refuses(&self, name: &str, commit: &stored::CommitCursor, end: Offset) -> Result<(), CursorRefusal> {
        let current = self.known.get(name).map(|known| &known.cursor);
        let generation = current.map_or(0, |cursor| cursor.generation);
        if commit.generation < generation {
            quipu_protocol::point!("cursor-fenced");
            return Err(CursorRefusal::Fenced { generation });
        }
        let (position, of) = current.map_or((None, None), |cursor| (cursor.position, cursor.of));
        let is_there = match commit.expected {
            None => true,
            Some(Expected::PositionIs(expected)) => position == Some(Offset::new(expected)) && of == log(commit.of),
            Some(Expected::NoPosition(_)) => position.is_none(),
        };
        if !is_there {
            return Err(CursorRefusal::Mismatch { position, of });
        }
        if commit.of == 0 && commit.position > end.get() {
            return Err(CursorRefusal::BeyondEnd { end });
        }
        Ok(())
    }

    fn has_room_for(&self, fresh: usize) -> Result<(), CursorRefusal> {
        let fits = fresh == 0 || self.known.len() + fresh <= MAX_CURSORS;
        fits.then_some(()).ok_or(CursorRefusal::TooMany { limit: MAX_CURSORS as u64 })
    }

    fn set(&mut self, name: String, commit: stored::CommitCursor, now: Timestamp) {
        quipu_protocol::point!("cursor-committed");
        self.change(name, now, |known| {
            let cursor = &mut known.cursor;
            (cursor.position, cursor.of) = (Some(Offset::new(commit.position)), log(commit.of));
            (cursor.generation, cursor.metadata) = (commit.generation, commit.metadata);
            if commit.request_id != 0 {
                if known.recent.len() == REMEMBERED_COMMITS {
                    known.recent.pop_front();
                }
                known.recent.push_back(commit.request_id);
            }
        });
    }

    /// Changes a cursor, or makes it; returns what it is then.
    fn change(&mut self, name: String, now: Timestamp, change: impl FnOnce(&mut Known)) -> Cursor {
        let mut known = self.known.remove(&name).unwrap_or_default();
        if self.by_time.remove(&(known.cursor.committed_at, name.clone())) {
            self.bytes -= bytes_of(&name, &known.cursor);
        }
        change(&mut known);
        known.cursor.committed_at = now;
        let cursor = known.cursor.clone();
        self.insert(name, known);
        cursor
    }

    fn insert(&mut self, name: String, known: Known) {
        self.bytes += bytes_of(&name, &known.cursor);
        self.by_time.insert((known.cursor.committed_at, name.clone()));
        self.known.insert(name, known);
        assert_eq!(self.known.len(), self.by_time.len(), "every cursor is in the order of times once");
    }

    fn remove(&mut self, name: &str) -> bool {
        let Some(known) = self.known.remove(name) else { return false };
        self.bytes -= bytes_of(name, &known.cursor);
        self.by_time.remove(&(known.cursor.committed_at, name.to_owned()));
        true
    }

    /// The cursor of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Cursor> {
        self.known.get(name).map(|known| &known.cursor)
    }

    /// The cursors whose names begin with `prefix`, after `after`, in their order.
    pub(crate) fn named<'a>(
        &'a self,
        prefix: &str,
        after: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Cursor)> + use<'a> {
        let from = prefix.max(after);
        let range = self.known.range::<str, _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded));
        let after = after.to_owned();
        let fresh = range.filter(move |(name, _)| after.is_empty() || **name > after);
        let prefix = prefix.to_owned();
        fresh.take_while(move |(name, _)| name.starts_with(&prefix)).map(|(name, known)| (name.as_str(), &known.cursor))
    }

    pub(crate) fn totals(&self) -> CursorTotals {
        CursorTotals { count: self.known.len() as u64, bytes: self.bytes, entry_bytes: self.written }
    }

    /// The cursors as an image holds them, by name.
    pub(crate) fn image(&self) -> Vec<stored::Cursor> {
        let cursor = |(name, Known { cursor, recent }): (&String, &Known)| stored::Cursor {
            name: name.clone(),
            position: cursor.position.map(Offset::get),
            of: cursor.of.map_or(0, LogId::get),
            generation: cursor.generation,
            metadata: cursor.metadata.clone(),
            committed_at: cursor.committed_at.get(),
            recent: recent.iter().copied().collect(),
        };
        self.known.iter().map(cursor).collect()
    }

    /// The cursors of an image, whose commands took `written` bytes.
    pub(crate) fn from_image(image: Vec<stored::Cursor>, written: u64) -> Result<Self, MachineError> {
        let refuse = |reason: String| MachineError::new("the cursors of a log's image", reason);
        if image.len() > MAX_CURSORS {
            return Err(refuse(format!("{} cursors", image.len())));
        }
        if written > MOST_BYTES_WRITTEN {
            return Err(refuse(format!("{written} bytes of commands are more than there can be")));
        }
        let mut cursors = Self { written, ..Self::default() };
        for cursor in image {
            if cursors.known.last_key_value().is_some_and(|(last, _)| *last >= cursor.name) {
                return Err(refuse(format!("{:?} is not in its place", cursor.name)));
            }
            if cursor.recent.len() > REMEMBERED_COMMITS {
                return Err(refuse(format!("{:?} has {} commits", cursor.name, cursor.recent.len())));
            }
            let known = Known {
                cursor: Cursor {
                    position: cursor.position.map(Offset::new),
                    of: log(cursor.of),
                    generation: cursor.generation,
                    metadata: cursor.metadata,
                    committed_at: Timestamp::new(cursor.committed_at),
                },
                recent: cursor.recent.into(),
            };
            cursors.insert(cursor.name, known);
        }
        Ok(cursors)
    }
}

/// The log of that number; 0 is the cursor's own.
fn log(id: u64) -> Option<LogId> {
    (id != 0).then_some(LogId::new(id))
}

fn bytes_of(name: &str, cursor: &Cursor) -> u64 {
    FIXED_BYTES + name.len() as u64 + cursor.metadata.len() as u64
}

#[cfg(test)]
mod tests;
