//! Judges of a run, by what its nodes look like at every moment, what its
//! clients saw, and what its replicas hold in the end.
//!
//! ```text
//!   nodes ────▶ always         what holds on every node, and between them
//!   history ─┬─▶ oracle        one promise after the other, each by its name
//!   copies  ─┴─▶ linearizable  one order of the calls that explains every answer
//! ```
//!
//! The latter two are pure: they know nothing of the cluster, read no clock and
//! draw nothing, so that a history that was kept can be judged again. What they
//! overlap in is wanted: the oracle says what broke, the search finds what
//! nobody listed.

use crate::history::{Call, Copies, Operation, Outcome};
use crate::violation::Violation;

pub(crate) mod always;
pub(crate) mod groups;
pub mod linearizable;
pub mod oracle;
mod order;
mod settled;
mod tell;

#[cfg(test)]
mod tests;

/// Judges what clients were told by what every replica holds.
pub fn judge(operations: &[Operation], copies: &Copies) -> Vec<Violation> {
    let mut violations = oracle::check(operations, copies);
    violations.extend(linearizable::check(operations, copies));
    violations
}

/// What no run can have recorded is a defect of the recording, not of the
/// cluster, and is not judged.
///
/// # Panics
/// When an answer does not fit its call, or came before it.
fn assert_well_formed(operations: &[Operation]) {
    for operation in operations {
        let Operation { id, call, invoked, completed, outcome, .. } = operation;
        let fits = match outcome {
            Outcome::Pending | Outcome::Failed { .. } | Outcome::Unknown { .. } => true,
            Outcome::Created => matches!(call, Call::Create { .. }),
            Outcome::Deleted => matches!(call, Call::Delete),
            Outcome::Appended { .. } => matches!(call, Call::Append { .. }),
            Outcome::Fenced { .. } => matches!(call, Call::Append { terms, .. } if terms.epoch.is_some()),
            Outcome::Mismatch { .. } => matches!(call, Call::Append { terms, .. } if terms.expected_end.is_some()),
            Outcome::Acquired { .. } => *call == Call::Acquire,
            Outcome::Resolved { .. } => matches!(call, Call::Resolve { .. }),
            Outcome::Read { .. } => matches!(call, Call::Read { .. } | Call::ReadAfter { .. }),
            Outcome::End { .. } => matches!(call, Call::End),
            Outcome::LocalEnd { .. } => matches!(call, Call::LocalEnd { .. }),
            Outcome::Cursor(_) => matches!(call, Call::Cursor { .. }),
            Outcome::Lease(_) => matches!(call, Call::Lease { .. }),
            Outcome::Trimmed { .. } | Outcome::Strands { .. } => matches!(call, Call::Trim { .. }),
        };
        assert!(fits, "operation {id}: {call:?} was answered with {outcome:?}");
        let answered = *outcome != Outcome::Pending;
        assert_eq!(completed.is_some(), answered, "operation {id}: {outcome:?} has completed at {completed:?}");
        assert!(completed.is_none_or(|at| at >= *invoked), "operation {id} was answered before it was made");
    }
}
