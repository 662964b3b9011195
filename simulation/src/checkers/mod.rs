//! What was promised, and whether it was kept.
//!
//! [`oracle`] and [`linearizable`] judge what clients were told, `always` what
//! every node looked like at every moment, and `settled` what is left once all
//! has healed.

pub(crate) mod always;

use crate::history::{Copies, Operation};
use crate::violation::Violation;

/// Judges what clients were told by what every replica holds.
pub(crate) fn judge(_operations: &[Operation], _copies: &Copies) -> Vec<Violation> {
    Vec::new()
}
