//! What can go wrong, an enum per operation.

use std::fmt;
use std::io;
use std::sync::Arc;

use quipu_protocol::Index;

use super::entry::ReplicaKey;
use crate::kv::KvError;

/// Why something was not written. Nothing is retried inside.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// A write or sync failed before: nobody knows what is durable, so nothing
    /// is acknowledged any more. The process has to end.
    #[error("the journal has stopped: {reason}")]
    Stopped {
        /// What failed first.
        reason: Arc<str>,
    },
    /// [`Journal::close`](super::Journal::close) was called before.
    #[error("the journal is closed")]
    Closed,
    /// No segment of this size can hold the entry; nothing was appended.
    #[error("entry {index} has {bytes} bytes, more than the {bound} that fit into a segment (segment_bytes)")]
    EntryTooLarge {
        /// Which entry.
        index: Index,
        /// How large it is.
        bytes: u64,
        /// How large it may be: [`JournalConfig::max_entry_bytes`](super::JournalConfig::max_entry_bytes).
        bound: u64,
    },
    /// No segment of this size can hold the state image; nothing was written.
    #[error("a state image has {bytes} bytes, more than the {bound} that fit into a segment (segment_bytes)")]
    ImageTooLarge {
        /// How large it is.
        bytes: u64,
        /// How large it may be: [`JournalConfig::max_entry_bytes`](super::JournalConfig::max_entry_bytes).
        bound: u64,
    },
    /// Entries of a replica are contiguous; nothing was appended.
    #[error("an append at index {found} would leave a gap or overlap: the next index is {expected}")]
    NotContiguous {
        /// The only index that can be appended.
        expected: Index,
        /// The index that was to be appended.
        found: Index,
    },
    /// What is purged cannot be truncated; nothing was changed.
    #[error("cannot truncate from index {from}: everything through {purged} is purged")]
    BelowPurged {
        /// The first index that was to go.
        from: Index,
        /// The last purged index.
        purged: Index,
    },
    /// The replica has damage below its durable mark and takes nothing more.
    #[error("{key} is damaged: {damage}")]
    Damaged {
        /// Which replica.
        key: ReplicaKey,
        /// Where.
        damage: Damage,
    },
    /// The replica was retired.
    #[error("{key} is retired")]
    Retired {
        /// Which replica.
        key: ReplicaKey,
    },
    /// The disk has no room for another segment; nothing was appended. What
    /// still fits into the open one is accepted.
    #[error("no space: {needed} bytes do not fit into the {room} left, and no segment can be prepared: {reason}")]
    NoSpace {
        /// What the operation takes in the journal, with what waits before it.
        needed: u64,
        /// What is left in prepared segments.
        room: u64,
        /// Why no other segment could be prepared.
        reason: Arc<str>,
    },
    /// The index of sealed segments could not be read.
    #[error("cannot read the journal's index")]
    Index(#[from] KvError),
}

/// Why entries were not read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such replica here.
    #[error("the journal has no {key}")]
    UnknownReplica {
        /// Which one.
        key: ReplicaKey,
    },
    /// The range begins with what is gone for good.
    #[error("everything through index {purged} is purged")]
    Purged {
        /// The last purged index.
        purged: Index,
    },
    /// The bytes on disk are not those that were written.
    #[error("{key} is damaged: {damage}")]
    Damaged {
        /// Which replica.
        key: ReplicaKey,
        /// Where.
        damage: Damage,
    },
    /// The index of sealed segments lacks an entry that should be there.
    #[error("the journal's index has no entry {index} of {key}")]
    Missing {
        /// Which replica.
        key: ReplicaKey,
        /// Which entry.
        index: Index,
    },
    /// The disk could not read.
    #[error("cannot read the journal")]
    Disk(#[source] Arc<io::Error>),
    /// The index of sealed segments could not be read.
    #[error("cannot read the journal's index")]
    Index(#[from] KvError),
}

/// Bytes that were synced and are no longer what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment file's number.
    pub segment: u64,
    /// The first damaged part's position in that file.
    pub byte: u64,
    /// The first entry in it, where that is still known.
    pub index: Option<Index>,
    /// Which bytes.
    pub part: DamagedPart,
}

/// Which bytes are damaged, and hence what is still known about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamagedPart {
    /// An entry's payload: term and index are known.
    Payload,
    /// A frame's header: whose it is, is known from its commit's directory.
    FrameHeader,
    /// A whole frame: the entries after it do not follow those before.
    Missing,
    /// Nothing tells whose bytes they were: every replica of the journal is
    /// taken for damaged.
    Unattributed,
}

impl DamagedPart {
    /// Whether what is left tells what was there, so that it can come back from
    /// elsewhere.
    pub const fn is_mendable(self) -> bool {
        matches!(self, Self::Payload)
    }

    /// As it is stored.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Payload => 1,
            Self::FrameHeader => 2,
            Self::Missing => 3,
            Self::Unattributed => 4,
        }
    }

    pub(super) const fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Payload,
            2 => Self::FrameHeader,
            3 => Self::Missing,
            4 => Self::Unattributed,
            _ => return None,
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            DamagedPart::Payload => "a payload",
            DamagedPart::FrameHeader => "a frame header",
            DamagedPart::Missing => "a frame missing before the one",
            DamagedPart::Unattributed => "something that could be any replica's",
        };
        write!(f, "{part} at byte {} of segment {:08}", self.byte, self.segment)?;
        match self.index {
            Some(index) => write!(f, ", index {index}"),
            None => Ok(()),
        }
    }
}

/// Why a journal was not opened. Nothing on the disk was changed for it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration contradicts itself.
    #[error("the journal's configuration is wrong: {0}")]
    Config(#[from] super::config::ConfigError),
    /// The disk could not do what was asked.
    #[error("cannot {operation} {path}")]
    Disk {
        /// What was asked.
        operation: &'static str,
        /// Of which file.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// It ends before what it held once: somebody put an old copy in its place,
    /// or the disk lost what it had said was stored.
    #[error("the journal ends with commit {found}, and held commit {remembered}")]
    Older {
        /// Its last commit.
        found: u64,
        /// What was its last commit.
        remembered: u64,
    },
    /// Its last commit cannot be read, and nothing behind it says whether anybody
    /// was told that it is on stable storage.
    #[error("byte {byte} of {path} cannot be read, and what stood there may have been acknowledged")]
    Unreadable {
        /// Which file.
        path: String,
        /// Where its sector begins.
        byte: u64,
    },
    /// A newer version of this program wrote it.
    #[error("{path} has format version {found}; this program reads up to {known}")]
    NewerVersion {
        /// Which file.
        path: String,
        /// What it says.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// It belongs to another cluster, node or disk incarnation.
    #[error("{path} belongs to {found}, not to {wanted}")]
    Foreign {
        /// Which file.
        path: String,
        /// Whose it is.
        found: super::config::Owner,
        /// Whose it should be.
        wanted: super::config::Owner,
    },
    /// The manifest is not what was written.
    #[error("{path} is damaged: {reason}")]
    ManifestDamaged {
        /// The manifest.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There are segments and no manifest that lists them.
    #[error("{path} is missing, but there are segments beside it")]
    ManifestMissing {
        /// The manifest.
        path: String,
    },
    /// A segment holds commits and the manifest does not list it.
    #[error("{path} holds data and the manifest does not list it: the manifest is not the newest one")]
    ManifestOlder {
        /// The segment.
        path: String,
    },
    /// The manifest lists a segment that is not there.
    #[error("{path} is missing; the manifest lists it")]
    SegmentMissing {
        /// The segment.
        path: String,
    },
    /// A segment is not as long as the manifest says.
    #[error("{path} has {found} bytes instead of {wanted}")]
    SegmentLength {
        /// The segment.
        path: String,
        /// What it has.
        found: u64,
        /// What it was prepared with.
        wanted: u64,
    },
    /// A file lies where a segment should: its own header is valid and names
    /// another segment or use.
    #[error("{path} is another segment's file: {reason}")]
    WrongSegment {
        /// The file.
        path: String,
        /// What does not match the manifest.
        reason: &'static str,
    },
    /// The index could not be read or written.
    #[error("cannot use the journal's index")]
    Index(#[from] KvError),
}

impl OpenError {
    /// A disk's error with what was being done.
    pub(super) fn disk(operation: &'static str, path: &str, source: io::Error) -> Self {
        Self::Disk { operation, path: path.into(), source }
    }
}
