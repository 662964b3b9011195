//! How new what is read is: barriers, and what local answers say of their age.

use std::time::Duration;

use quipu_protocol::{LogId, Offset, OffsetRange, v1};

use crate::wire::Plain;

/// A moment in a log: everything that was acknowledged before it was asked for lies
/// before its end. A reader that is told of it
/// ([`ReaderConfig::after`](crate::ReaderConfig::after)) sees all of that, whichever
/// replica it reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The log's id: another log of its name, a later one, is none of this
    /// barrier's. 0 stands for whichever log has the name.
    pub log: LogId,
    /// Where the log ended, or later.
    pub end: Offset,
}

/// How old a replica's answer may be, as far as the replica can tell by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The furthest end that the log's leader had told the replica, or the
    /// replica's own if that is further.
    pub leader_end: Offset,
    /// Whatever was acknowledged longer than this before the answer lies before the
    /// answer's end. The time that the answer took to arrive is not in it. `None`:
    /// the replica cannot tell, having heard from no leader that a majority follows
    /// since it started.
    pub age: Option<Duration>,
}

/// What one replica's own copy of a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalOffsets {
    /// What it has applied: committed, perhaps not the newest.
    pub range: OffsetRange,
    /// How old that may be.
    pub freshness: Freshness,
}

impl Plain<v1::Freshness> for Freshness {
    fn of(freshness: v1::Freshness) -> Self {
        let v1::Freshness { leader_end, age_ms } = freshness;
        Self { leader_end: Offset::new(leader_end), age: age_ms.map(Duration::from_millis) }
    }
}
