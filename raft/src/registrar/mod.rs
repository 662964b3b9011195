//! Reader groups: members that share the logs of a pattern.
//!
//! ```text
//!   join ─────────▶ members ─┐
//!   leave, silence ─▶  │     ├─▶ plan: who is to have which log
//!   logs match ───▶ shares ──┘     │ nobody has it   ──▶ given, at a new generation
//!                      ▲           │ another has it  ──▶ asked for
//!                      └───────────┘    returned, or not in time ──▶ nobody has it
//! ```
//!
//! A few groups of the cluster's own, the **registrars**, keep all reader groups;
//! a name's hash says which one. Their state is metadata alone: where a member has
//! come to in a log is that log's to know. A registrar's leader hears members'
//! heartbeats and remembers them in memory alone; only who is not heard of any
//! more becomes an entry.
//!
//! What makes a member that has lost a log harmless is the generation: it rises
//! with every change, whoever is given a log has it from a higher one, and a log
//! takes no position under a lower one than the highest it was told of.

mod apply;
mod assignment;
mod commands;
mod matching;
mod minder;
mod replica;
mod state;
mod vigil;

pub use assignment::plan;
pub use commands::{Joining, Matched, encode};
pub(crate) use replica::RegistrarFootprint;
pub use replica::{Assignment, GroupDescription, GroupSummary, MemberDescription, ReadersError, RegistrarReplica};
pub use state::{Answer, Held, Member, ReaderGroup, Refused, Registrar, Share};

use crate::machine::Floor;

/// How many registrars a cluster gets with its first reader group.
pub const REGISTRARS: usize = 4;

/// The most reader groups that a registrar keeps.
pub const MAX_GROUPS: usize = 10_000;
/// The most members that a reader group has.
pub const MAX_MEMBERS: usize = 1_000;
/// The most members that all groups of a registrar have.
pub const MAX_MEMBERS_IN_ALL: usize = 20_000;
/// The most logs that a reader group shares.
pub const MAX_SHARES: usize = 10_000;
/// The most logs that all groups of a registrar share.
pub const MAX_SHARES_IN_ALL: usize = 100_000;
/// The longest name of a member, in bytes.
pub const MAX_CLIENT_BYTES: usize = 256;

/// A session lies between these, in ms.
pub const MIN_SESSION_MS: u64 = 1_000;
/// See [`MIN_SESSION_MS`].
pub const MAX_SESSION_MS: u64 = 300_000;
/// A session that is not chosen.
pub const DEFAULT_SESSION_MS: u64 = 6_000;

/// A group without members is forgotten after this time, in ms: with it goes its
/// pattern, and nothing else.
pub const EMPTY_GROUP_EXPIRY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A registrar keeps no records, so its log may be dropped behind its state.
pub(crate) const FLOOR: Floor = Floor::Applied;

#[cfg(test)]
mod tests;
