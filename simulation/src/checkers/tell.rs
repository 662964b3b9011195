//! Calls and values in words, for whoever reads a violation.

use std::fmt;

use crate::history::{Call, Operation, Outcome};

/// A longer list is cut here: a person looks at its beginning, and the history
/// has the rest.
const MAX_LISTED: usize = 8;

/// Numbers as `[1, 2, 3]`, long lists cut.
pub(crate) struct List<'a>(pub(crate) &'a [u64]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        for (index, number) in self.0.iter().take(MAX_LISTED).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{number}")?;
        }
        match self.0.len().saturating_sub(MAX_LISTED) {
            0 => write!(f, "]"),
            more => write!(f, ", … {more} more]"),
        }
    }
}

/// An operation as `#7 by client 2 (12ms to 15ms): append [4, 5] at 8..10`.
pub(crate) struct Told<'a>(pub(crate) &'a Operation);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { id, client, call, invoked, completed, outcome, .. } = self.0;
        write!(f, "#{id} by client {client} ({invoked:?} to ")?;
        match completed {
            Some(at) => write!(f, "{at:?}): ")?,
            None => write!(f, "the end): ")?,
        }
        match call {
            Call::Create { replicas } => write!(f, "create with {replicas} replicas")?,
            Call::Delete => write!(f, "delete")?,
            Call::Append { values, terms, .. } => {
                write!(f, "append {}", List(values))?;
                if let Some(epoch) = terms.epoch {
                    write!(f, " under epoch {epoch}")?;
                }
                if let Some(end) = terms.expected_end {
                    write!(f, " if the log ends at {end}")?;
                }
            }
            Call::Acquire => write!(f, "acquire")?,
            Call::Resolve { values } => write!(f, "resolve {}", List(values))?,
            Call::Read { from, max, local } => {
                let how = if *local { "local read" } else { "read" };
                write!(f, "{how} from {from}, at most {max}")?;
            }
            Call::End => write!(f, "end")?,
            Call::ReadAfter { from, max, barrier } => {
                write!(f, "local read from {from} after a barrier at {barrier}, at most {max}")?;
            }
            Call::LocalEnd { node } => write!(f, "end on node {node}")?,
            Call::Cursor { cursor, call } => write!(f, "cursor {cursor}: {call}")?,
            Call::Lease { holder, call } => write!(f, "lease of {holder}: {call}")?,
            Call::Trim { to } => write!(f, "trim to {to}")?,
        }
        match outcome {
            Outcome::Pending => write!(f, ", never answered"),
            Outcome::Created => write!(f, ", created"),
            Outcome::Deleted => write!(f, ", deleted"),
            Outcome::Appended { start, end } => write!(f, " at {start}..{end}"),
            Outcome::Fenced { current } => write!(f, ", fenced by epoch {current}"),
            Outcome::Mismatch { end } => write!(f, ", refused: the log ends at {end}"),
            Outcome::Acquired { epoch, end } => write!(f, " epoch {epoch} at {end}"),
            Outcome::Resolved { landed: Some((start, end)) } => write!(f, ": landed at {start}..{end}"),
            Outcome::Resolved { landed: None } => write!(f, ": never lands"),
            Outcome::Read { records } => match (records.first(), records.last()) {
                (Some((first, _)), Some((last, _))) => {
                    let values: Vec<u64> = records.iter().map(|&(_, value)| value).collect();
                    write!(f, ", saw {} at {first} to {last}", List(&values))
                }
                _ => write!(f, ", saw nothing"),
            },
            Outcome::End { end } => write!(f, " is {end}"),
            Outcome::LocalEnd { end, leader_end, age_ms } => {
                write!(f, " is {end} of {leader_end}, {age_ms:?} ms old")
            }
            Outcome::Cursor(answer) => write!(f, ", {answer}"),
            Outcome::Lease(answer) => write!(f, ", {answer}"),
            Outcome::Trimmed { start } => write!(f, ", starts at {start}"),
            Outcome::Strands { leases } => write!(f, ", refused for {} leases", leases.len()),
            Outcome::Failed { why } => write!(f, ", failed: {why}"),
            Outcome::Unknown { why } => write!(f, ", unknown: {why}"),
        }
    }
}
