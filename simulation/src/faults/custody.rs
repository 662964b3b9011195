//! Whose copy is in doubt.
//!
//! ```text
//!   nobody's ──spoiling fault──▶ in doubt ──disk replaced──▶ resyncing ──caught up──▶ nobody's
//! ```
//!
//! Committed means on a majority, so one lost copy never costs a committed
//! record, and two may. Hence a second copy is touched only once everything
//! that was committed when the first one's disk was replaced is on every
//! replica again. What is committed after that is on a majority of good ones.

use std::collections::BTreeMap;

use quipu_protocol::LogId;

/// Whose copy is in doubt, if anybody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Custody {
    /// Every node's copy is good.
    #[default]
    Good,
    /// This node's may not be.
    InDoubt(u64),
    /// This node has a new disk and is brought up to date.
    Resyncing {
        /// The node.
        node: u64,
        /// Its first start with the new disk.
        boot: u64,
        /// What was committed then, of each group.
        targets: BTreeMap<LogId, u64>,
    },
}

impl Custody {
    /// The node whose copy is not to be counted on.
    pub(crate) fn node(&self) -> Option<u64> {
        match self {
            Self::Good => None,
            Self::InDoubt(node) | Self::Resyncing { node, .. } => Some(*node),
        }
    }
}
