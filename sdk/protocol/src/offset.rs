//! A log's readable range, in half-open offsets.
//!
//! ```text
//!   trimmed │ readable             │ next append
//!   0 … 41  │ 42 … 97              │ 98
//!           └ start                └ end
//! ```
//!
//! Knows nothing of Raft: only what is committed has an offset.

use std::fmt;

/// A record's position in its log; contiguous from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// Wraps the number read from a wire, a disk or a command line.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number, for a wire, a disk or a person.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset of the record after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The offset `count` records further on.
    #[must_use]
    pub const fn advance(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// How many records lie in `earlier..self`.
    pub const fn since(self, earlier: Self) -> u64 {
        debug_assert!(earlier.0 <= self.0, "an offset counts from an earlier one");
        self.0 - earlier.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The records `start..end`; empty when both are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OffsetRange {
    start: Offset,
    end: Offset,
}

impl OffsetRange {
    /// The range `start..end`.
    ///
    /// # Panics
    /// When `end` is before `start`: a caller's error, never input's.
    pub const fn new(start: Offset, end: Offset) -> Self {
        assert!(start.0 <= end.0, "a range ends where it starts or later");
        Self { start, end }
    }

    /// The first offset inside.
    pub const fn start(self) -> Offset {
        self.start
    }

    /// The first offset after it.
    pub const fn end(self) -> Offset {
        self.end
    }

    /// How many records it spans.
    pub const fn count(self) -> u64 {
        self.end.since(self.start)
    }

    /// Whether it spans no record.
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Whether the record at `offset` lies inside.
    pub const fn contains(self, offset: Offset) -> bool {
        self.start.0 <= offset.0 && offset.0 < self.end.0
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}
