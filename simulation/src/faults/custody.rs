//! Whose copy is in doubt.
//!
//! ```text
//!   nobody's ──spoiling fault──▶ in doubt ──disk replaced──▶ resyncing ──whole──▶ nobody's
//! ```
//!
//! Committed means on a majority, so one lost copy never costs a committed
//! record, and two may. Hence a second copy is touched only when every replica
//! of every group has everything again.

/// Whose copy is in doubt, if anybody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Custody {
    /// Every node's copy is good.
    #[default]
    Good,
    /// This node's may not be.
    InDoubt(u64),
    /// This node has a new disk and is brought up to date.
    Resyncing(u64),
}

impl Custody {
    /// The node whose copy is not to be counted on.
    pub(crate) fn node(self) -> Option<u64> {
        match self {
            Self::Good => None,
            Self::InDoubt(node) | Self::Resyncing(node) => Some(node),
        }
    }
}
