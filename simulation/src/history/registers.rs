//! What clients ask of cursors and leases, and what they are told.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a client asks of a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CursorCall {
    /// To move it, or make it.
    Commit {
        /// Where to.
        position: u64,
        /// Not if the cursor's is higher; the cursor's from then on.
        generation: u64,
        /// Only if it is there: `Some(None)` for no position, or no cursor.
        expected: Option<Option<u64>>,
    },
    /// To take it over, or make it without a position.
    Claim {
        /// Not if the cursor's is higher; the cursor's from then on.
        generation: u64,
    },
    /// Where it is.
    Get,
    /// To delete it.
    Delete,
    /// It may expire from here on: nobody asks for that, and nobody is told.
    Expire,
}

/// What a client is told of a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CursorAnswer {
    /// It was moved.
    Committed,
    /// It was claimed, or looked at, and is there.
    Is {
        /// Its position, if it has one.
        position: Option<u64>,
        /// Its generation.
        generation: u64,
    },
    /// There is none.
    Missing,
    /// It was deleted.
    Deleted {
        /// Whether there was one.
        existed: bool,
    },
    /// Refused: its generation is higher.
    Fenced {
        /// That generation.
        generation: u64,
    },
    /// Refused: it is elsewhere.
    Mismatch {
        /// Where.
        position: Option<u64>,
    },
}

/// What a client asks of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseCall {
    /// To hold it by another grant, in place of any before, or have it moved.
    Hold {
        /// The first offset that it is to keep.
        offset: u64,
        /// The number of the grant that is to be moved; 0 for another one.
        grant: u64,
        /// Whether it may end by itself while the run lasts.
        ends: bool,
    },
    /// To let go of it.
    Release {
        /// The number of the grant.
        grant: u64,
    },
    /// Whether it is held.
    Get,
    /// To trim the log, past this lease or not, unless that strands somebody.
    Trim {
        /// The first offset to stay.
        to: u64,
    },
}

/// What a client is told of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseAnswer {
    /// It is held.
    Held {
        /// The number of its grant.
        grant: u64,
        /// The first offset that it keeps.
        offset: u64,
    },
    /// It is not held, or not by that grant.
    NotHeld {
        /// The number of the grant by which it is.
        now: Option<u64>,
    },
    /// It was let go of.
    Released {
        /// Whether it was held.
        existed: bool,
    },
    /// The log was trimmed, and strands nobody.
    Trimmed {
        /// Where it starts.
        start: u64,
    },
    /// The log was not trimmed, for the sake of this lease among others.
    Strands {
        /// The first offset that it keeps.
        offset: u64,
    },
}

impl fmt::Display for CursorCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit { position, generation, expected } => {
                write!(f, "commit {position} under generation {generation}")?;
                match expected {
                    None => Ok(()),
                    Some(None) => write!(f, " if it has no position"),
                    Some(Some(expected)) => write!(f, " if it is at {expected}"),
                }
            }
            Self::Claim { generation } => write!(f, "claim under generation {generation}"),
            Self::Get => write!(f, "where is it?"),
            Self::Delete => write!(f, "delete"),
            Self::Expire => write!(f, "may expire"),
        }
    }
}

impl fmt::Display for CursorAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => write!(f, "committed"),
            Self::Is { position: Some(position), generation } => write!(f, "at {position}, generation {generation}"),
            Self::Is { position: None, generation } => write!(f, "nowhere, generation {generation}"),
            Self::Missing => write!(f, "there is none"),
            Self::Deleted { existed: true } => write!(f, "deleted"),
            Self::Deleted { existed: false } => write!(f, "there was none"),
            Self::Fenced { generation } => write!(f, "refused: its generation is {generation}"),
            Self::Mismatch { position: Some(position) } => write!(f, "refused: it is at {position}"),
            Self::Mismatch { position: None } => write!(f, "refused: it has no position"),
        }
    }
}

impl fmt::Display for LeaseCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold { offset, grant, ends } => {
                match grant {
                    0 => write!(f, "hold from {offset}")?,
                    grant => write!(f, "renew grant {grant} from {offset}")?,
                }
                f.write_str(if *ends { ", for a short time" } else { "" })
            }
            Self::Release { grant } => write!(f, "release grant {grant}"),
            Self::Get => write!(f, "is it held?"),
            Self::Trim { to } => write!(f, "trim to {to}"),
        }
    }
}

impl fmt::Display for LeaseAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { grant, offset } => write!(f, "held by grant {grant} from {offset}"),
            Self::NotHeld { now: None } => write!(f, "not held"),
            Self::NotHeld { now: Some(now) } => write!(f, "held by grant {now}"),
            Self::Released { existed: true } => write!(f, "released"),
            Self::Released { existed: false } => write!(f, "was not held"),
            Self::Trimmed { start } => write!(f, "trimmed to {start}"),
            Self::Strands { offset } => write!(f, "refused: held from {offset}"),
        }
    }
}
