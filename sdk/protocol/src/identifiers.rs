//! Names for things that are numbers underneath, so that they cannot be
//! mistaken for one another.
//!
//! Each converts from and to its number only by `new` and `get`, at the wire
//! and at the disk; nothing converts silently.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        newtype! { $(#[$doc])* $name($inner) }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the number read from a wire, a disk or a command line.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The number, for a wire, a disk or a person.
            pub const fn get(self) -> $inner {
                self.0
            }
        }
    };
}

number! {
    /// A machine of the cluster, as its operator numbers it (1 and up).
    NodeId(u64)
}
number! {
    /// A log, and the Raft group that replicates it; never reused.
    LogId(u64)
}
number! {
    /// One member of a group on one node; allotted by the catalog, never
    /// reused, bound to (group, node, disk incarnation).
    ReplicaId(u64)
}
number! {
    /// A position in a group's Raft log. Not an [`Offset`](crate::Offset):
    /// blanks, memberships and commands take an index and no offset.
    Index(u64)
}
number! {
    /// A Raft term.
    Term(u64)
}
number! {
    /// The fencing token of a log: an append with an older one is refused.
    WriterEpoch(u64)
}
number! {
    /// A member of a reader group; never given to another.
    MemberId(u64)
}
number! {
    /// Raised whenever a reader group's members, or who has which log, change. A
    /// position in a log is committed under the one at which the log was given.
    Generation(u64)
}
number! {
    /// A producer's name, allotted by the catalog; positive and never reused.
    ProducerId(i64)
}
number! {
    /// The generation of a producer id; a lower one is fenced.
    ProducerEpoch(i16)
}
number! {
    /// The position of a record in a producer's stream; wraps from 2³¹−1 to 0.
    Sequence(i32)
}
number! {
    /// Drawn at random when a data directory is made; a node that lost its
    /// disk has another one.
    Incarnation(u64)
}
number! {
    /// How often a data directory has been started; only ever grows.
    BootCount(u64)
}
newtype! {
    /// Drawn when a cluster is founded; tells clusters apart.
    ClusterId(u64)
}
number! {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64)
}

/// In hexadecimal: it is compared, never counted.
impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl LogId {
    /// The catalog's own group.
    pub const CATALOG: Self = Self(0);
}

impl Index {
    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Sequence {
    /// The sequence `count` records further on, wrapping from 2³¹−1 to 0.
    #[must_use]
    pub const fn advance(self, count: u32) -> Self {
        debug_assert!(self.0 >= 0, "a sequence is not negative");
        Self(((self.0 as i64 + count as i64) & 0x7fff_ffff) as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::Sequence;

    #[test]
    fn sequence_wraps_to_zero_after_its_largest_value() {
        assert_eq!(Sequence::new(i32::MAX).advance(1), Sequence::new(0));
        assert_eq!(Sequence::new(i32::MAX - 1).advance(3), Sequence::new(1));
        assert_eq!(Sequence::new(7).advance(0), Sequence::new(7));
    }
}
