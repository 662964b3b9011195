//! The journal's bounds, and whose it is.

use std::fmt;

use quipu_protocol::{ClusterId, Incarnation, NodeId};

use crate::disk::ALIGNMENT;

/// One mebibyte.
const MIB: u64 = 1024 * 1024;

/// The smallest segment.
pub const MIN_SEGMENT_BYTES: u64 = MIB;

/// The largest segment.
pub const MAX_SEGMENT_BYTES: u64 = 16 * 1024 * MIB;

/// What one commit takes at most, unless a single larger frame needs more.
pub const MAX_COMMIT_BYTES: u64 = 4 * MIB;

/// What one frame's payload takes at most, unless a single larger entry needs
/// more: the unit in which entries are read and checked.
pub const MAX_FRAME_BYTES: u64 = MIB;

/// No entry is larger, whatever the segment: what is read at once stays
/// below 128 MiB.
pub const MAX_ENTRY_BYTES: u64 = 128 * MIB - PER_SEGMENT_OVERHEAD;

/// The highest low-space mark.
pub const MAX_LOW_SPACE_BYTES: u64 = 1024 * 1024 * MIB;

/// A segment's header sector, and the headers of a commit with one entry.
pub(super) const PER_SEGMENT_OVERHEAD: u64 = 2 * ALIGNMENT as u64;

/// How a journal lays itself out. Nothing but [`segment_bytes`] of segments
/// yet to be prepared changes on disk with it.
///
/// [`segment_bytes`]: Self::segment_bytes
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Length of a segment file in bytes; a multiple of 1 MiB.
    pub segment_bytes: u64,
    /// How many segments are kept pre-written ahead of use, at least 1.
    pub spare_segments: usize,
    /// Recent entries kept in memory, in bytes of payload. Entries that are
    /// not durable yet are kept beyond it.
    pub tail_cache_bytes: u64,
    /// How many segments that were let go of are kept for use again, beyond
    /// [`spare_segments`](Self::spare_segments); others are removed.
    pub recycled_segments: usize,
    /// The oldest segment is rewritten once at least this much of it is dead,
    /// in percent of its length, 1 to 99.
    pub mostly_dead_percent: u64,
    /// The oldest segments are rewritten while more than this much of the
    /// entries that sealed segments hold is dead, in percent, 1 to 99, beyond
    /// one segment.
    pub max_dead_percent: u64,
    /// How many bytes are rewritten with one group commit, but always one
    /// frame.
    pub rewrite_bytes: u64,
    /// How many bytes the file system has to have left; below that no segment
    /// is prepared, and [`Journal::low_space`](super::Journal::low_space)
    /// tells. 0 for no such mark.
    pub low_space_bytes: u64,
}

impl JournalConfig {
    /// What [`Default`] gives, for constants.
    pub const DEFAULT: Self = Self {
        segment_bytes: 256 * MIB,
        spare_segments: 1,
        tail_cache_bytes: 64 * MIB,
        recycled_segments: 1,
        mostly_dead_percent: 75,
        max_dead_percent: 15,
        rewrite_bytes: MIB / 2,
        low_space_bytes: 256 * MIB,
    };
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Which value of a [`JournalConfig`] is out of its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Too small, too large, or uneven.
    #[error(
        "segment_bytes is {found}; it has to be a multiple of 1 MiB from {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"
    )]
    SegmentBytes {
        /// What was given.
        found: u64,
    },
    /// The committer would wait at every roll.
    #[error("spare_segments is {found}; it has to be from 1 to 16")]
    SpareSegments {
        /// What was given.
        found: usize,
    },
    /// Files would pile up for no use.
    #[error("recycled_segments is {found}; it has to be at most 16")]
    RecycledSegments {
        /// What was given.
        found: usize,
    },
    /// Nothing would ever be rewritten, or everything all the time.
    #[error("{name} is {found}; it has to be from 1 to 99")]
    Percent {
        /// Which one.
        name: &'static str,
        /// What was given.
        found: u64,
    },
    /// Rewriting would stand in the way of appends.
    #[error("rewrite_bytes is {found}; it has to be from 4096 to {MAX_COMMIT_BYTES}")]
    RewriteBytes {
        /// What was given.
        found: u64,
    },
    /// No disk would ever have room.
    #[error("low_space_bytes is {found}; it has to be at most {MAX_LOW_SPACE_BYTES}")]
    LowSpaceBytes {
        /// What was given.
        found: u64,
    },
}

impl JournalConfig {
    /// Whether every value is within its bounds.
    ///
    /// # Errors
    /// Names the first one that is not.
    pub const fn check(&self) -> Result<(), ConfigError> {
        if self.segment_bytes < MIN_SEGMENT_BYTES
            || self.segment_bytes > MAX_SEGMENT_BYTES
            || !self.segment_bytes.is_multiple_of(MIB)
        {
            return Err(ConfigError::SegmentBytes { found: self.segment_bytes });
        }
        if self.spare_segments < 1 || self.spare_segments > 16 {
            return Err(ConfigError::SpareSegments { found: self.spare_segments });
        }
        if self.recycled_segments > 16 {
            return Err(ConfigError::RecycledSegments { found: self.recycled_segments });
        }
        if self.mostly_dead_percent < 1 || self.mostly_dead_percent > 99 {
            return Err(ConfigError::Percent { name: "mostly_dead_percent", found: self.mostly_dead_percent });
        }
        if self.max_dead_percent < 1 || self.max_dead_percent > 99 {
            return Err(ConfigError::Percent { name: "max_dead_percent", found: self.max_dead_percent });
        }
        if self.rewrite_bytes < ALIGNMENT as u64 || self.rewrite_bytes > MAX_COMMIT_BYTES {
            return Err(ConfigError::RewriteBytes { found: self.rewrite_bytes });
        }
        if self.low_space_bytes > MAX_LOW_SPACE_BYTES {
            return Err(ConfigError::LowSpaceBytes { found: self.low_space_bytes });
        }
        Ok(())
    }

    /// The largest payload of one entry: a frame lies in one segment.
    pub const fn max_entry_bytes(&self) -> u64 {
        let fits = self.segment_bytes.saturating_sub(PER_SEGMENT_OVERHEAD);
        if fits < MAX_ENTRY_BYTES { fits } else { MAX_ENTRY_BYTES }
    }
}

/// Whose journal it is: written into every segment, checked at every start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// 0 until the node has founded or joined a cluster; 0 matches any.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The data directory's life.
    pub incarnation: Incarnation,
}

impl Owner {
    /// Whether the cluster is known.
    pub(super) fn is_complete(&self) -> bool {
        self.cluster != ClusterId::new(0)
    }

    /// Whether a file that names `other` can be this owner's.
    pub(super) fn accepts(&self, other: &Self) -> bool {
        let unset = ClusterId::new(0);
        let same_cluster = self.cluster == other.cluster || self.cluster == unset || other.cluster == unset;
        same_cluster && self.node == other.node && self.incarnation == other.incarnation
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {}, incarnation {:x}", self.node, self.cluster, self.incarnation.get())
    }
}
