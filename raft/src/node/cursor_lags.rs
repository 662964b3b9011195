//! How far cursors are behind, for those who watch a node.

use std::collections::BTreeMap;

use quipu_protocol::{LogId, Offset, OffsetRange};

use super::{RaftNode, RunningLog};
use crate::group::Role;

/// How many records there are that a cursor's reader has not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorLag {
    /// The log that holds the cursor.
    pub log: String,
    /// Its name.
    pub cursor: String,
    /// How many, of those that can still be read.
    pub records: u64,
}

impl RaftNode {
    /// The lag of each cursor of those of `logs` that are led here, `most` of them at
    /// most, and how many more there are. One whose position is of a log without a
    /// replica here is among neither.
    pub fn cursor_lags(&self, logs: &[RunningLog], most: usize) -> (Vec<CursorLag>, usize) {
        let ranges: BTreeMap<LogId, OffsetRange> = logs.iter().map(|log| (log.log, log.range)).collect();
        let (mut lags, mut left_out) = (Vec::new(), 0);
        for log in logs.iter().filter(|log| log.status.role == Role::Leader) {
            let Some(replica) = self.running_log(log.log) else { continue };
            replica.local_cursors(|cursors| {
                for (name, cursor) in cursors.named("", "") {
                    let range = cursor.of.map_or(Some(&log.range), |of| ranges.get(&of));
                    let Some(range) = range else { continue };
                    if lags.len() >= most {
                        left_out += 1;
                        continue;
                    }
                    let records = behind(cursor.position, *range);
                    lags.push(CursorLag { log: log.name.clone(), cursor: name.to_owned(), records });
                }
            });
        }
        (lags, left_out)
    }
}

/// How many records of `range` come from `position` on.
fn behind(position: Option<Offset>, range: OffsetRange) -> u64 {
    let from = position.unwrap_or_default().clamp(range.start(), range.end());
    range.end().since(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_trimmed_and_what_is_not_there_yet_does_not_count() {
        let range = OffsetRange::new(Offset::new(5), Offset::new(9));
        let lags = [None, Some(3), Some(6), Some(9), Some(12)].map(|at| behind(at.map(Offset::new), range));
        assert_eq!(lags, [4, 4, 3, 0, 0]);
    }
}
