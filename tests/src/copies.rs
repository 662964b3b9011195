//! What every replica of a log holds and what a reader of it gets, and whether
//! that is what it has to be.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quipu_protocol::{LogName, NodeId, Offset};
use quipu_sdk::{Consistency, From, ReadRecord, ReaderConfig};

use crate::{Cluster, Ledger, PATIENCE};

/// Each replica's own committed copy of a log.
pub struct Copies {
    end: Offset,
    /// What a linearizable read gives.
    linearizable: Vec<ReadRecord>,
    by_node: BTreeMap<NodeId, Vec<ReadRecord>>,
}

impl Copies {
    /// Reads each replica from the start to the log's end as of now, waiting
    /// for those that have not got there yet.
    pub(crate) async fn read(cluster: &Cluster, log: &str) -> Self {
        let name: LogName = log.parse().expect("a log's name");
        let range = cluster.client().offsets(&name, Consistency::Linearizable).await;
        let range = range.unwrap_or_else(|error| panic!("the offsets of {log}: {error:?}"));
        let mut by_node = BTreeMap::new();
        for replica in cluster.describe(log).await.replicas {
            by_node.insert(replica.node, read(cluster, &name, Some(replica.node), range.end()).await);
        }
        let linearizable = read(cluster, &name, None, range.end()).await;
        Self { end: range.end(), linearizable, by_node }
    }

    /// How many replicas there are.
    pub fn count(&self) -> usize {
        self.by_node.len()
    }

    /// Asserts that every copy, and a linearizable read, holds each acknowledged
    /// record once, in order, at its offset, byte for byte, and of the others
    /// only such as may have landed, those at most once.
    pub fn holds(&self, ledger: &Ledger) -> &Self {
        assert!(self.by_node.len() > 1, "there is one copy only: {:?}", self.by_node.keys());
        for (node, copy) in &self.by_node {
            check(*node, copy, ledger);
        }
        // Each copy was checked, and this is equal to them.
        self.all_equal()
    }

    /// Asserts that every copy holds just these values.
    pub fn equals<V: AsRef<[u8]>>(&self, values: impl IntoIterator<Item = V>) -> &Self {
        let expected: Vec<Bytes> = values.into_iter().map(|value| Bytes::copy_from_slice(value.as_ref())).collect();
        for (node, copy) in &self.by_node {
            let found: Vec<Bytes> = copy.iter().map(|record| record.value.clone().unwrap_or_default()).collect();
            assert!(found == expected, "node {node} holds {found:?}, expected {expected:?}");
        }
        self.all_equal()
    }

    /// Where the log ended.
    pub fn end(&self) -> Offset {
        self.end
    }

    fn all_equal(&self) -> &Self {
        for (node, copy) in &self.by_node {
            assert!(*copy == self.linearizable, "node {node} holds other records than a linearizable read gives");
        }
        self
    }
}

/// Reads `end` records: a node's own copy, or linearizable.
async fn read(cluster: &Cluster, log: &LogName, node: Option<NodeId>, end: Offset) -> Vec<ReadRecord> {
    if end == Offset::ZERO {
        return Vec::new();
    }
    let config =
        ReaderConfig { from: From::Start, max_records: Some(end.get()), follow: true, node, ..ReaderConfig::default() };
    let whose = node.map_or_else(|| "the leader".to_owned(), |node| format!("node {node}"));
    let mut reader = cluster.client().reader(log, config).expect("a reader");
    let mut records = Vec::new();
    let reading = async {
        while let Some(record) = reader.next().await.unwrap_or_else(|e| panic!("{log} on {whose}: {e:?}")) {
            records.push(record);
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    let count = records.len();
    assert!(read.is_ok(), "{whose} has only {count} of {end} records of {log} after {PATIENCE:?}");
    records
}

fn check(node: NodeId, copy: &[ReadRecord], ledger: &Ledger) {
    let mut at = BTreeMap::new();
    for (position, record) in copy.iter().enumerate() {
        assert_eq!(record.offset.get(), position as u64, "node {node}: offsets are contiguous from 0");
        let value = record.value.clone().unwrap_or_default();
        let earlier = at.insert(value, record.offset);
        assert_eq!(earlier, None, "node {node}: the record at {} is there twice", record.offset);
    }
    for (offset, value) in &ledger.acknowledged {
        let found = at.remove(value);
        let name = name(value);
        assert_eq!(found, Some(*offset), "node {node}: where {name}, acknowledged at {offset}, is");
    }
    let in_order = ledger.acknowledged.iter().map(|(offset, _)| offset).is_sorted();
    assert!(in_order, "records of one producer have the order in which they were sent");
    let unknown: BTreeSet<&Bytes> = ledger.unknown.iter().collect();
    for (value, offset) in &at {
        assert!(unknown.contains(value), "node {node}: {} at {offset} was not left open by anyone", name(value));
    }
}

/// The readable beginning of a payload.
fn name(value: &Bytes) -> String {
    String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned()
}

#[cfg(test)]
mod tests {
    use quipu_protocol::Timestamp;

    use super::*;

    fn copy(values: &[&'static str]) -> Vec<ReadRecord> {
        let at = |position: usize| Offset::new(position as u64);
        let record = |(position, &value): (usize, &&'static str)| ReadRecord {
            offset: at(position),
            timestamp: Timestamp::new(0),
            key: None,
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: Vec::new(),
        };
        values.iter().enumerate().map(record).collect()
    }

    fn ledger(acknowledged: &[(u64, &'static str)], unknown: &[&'static str]) -> Ledger {
        let bytes = |value: &'static str| Bytes::from_static(value.as_bytes());
        Ledger {
            acknowledged: acknowledged.iter().map(|&(offset, value)| (Offset::new(offset), bytes(value))).collect(),
            unknown: unknown.iter().map(|&value| bytes(value)).collect(),
        }
    }

    #[test]
    fn a_sound_copy_passes_with_or_without_what_was_left_open() {
        check(NodeId::new(1), &copy(&["a", "b", "c"]), &ledger(&[(0, "a"), (2, "c")], &["b"]));
        check(NodeId::new(1), &copy(&["a", "c"]), &ledger(&[(0, "a"), (1, "c")], &["b"]));
    }

    #[test]
    #[should_panic(expected = "acknowledged at 1")]
    fn a_lost_record_is_found() {
        check(NodeId::new(1), &copy(&["a"]), &ledger(&[(0, "a"), (1, "b")], &[]));
    }

    #[test]
    #[should_panic(expected = "is there twice")]
    fn a_doubled_record_is_found() {
        check(NodeId::new(1), &copy(&["a", "b", "b"]), &ledger(&[(0, "a")], &["b"]));
    }

    #[test]
    #[should_panic(expected = "acknowledged at 0")]
    fn a_moved_record_is_found() {
        check(NodeId::new(1), &copy(&["b", "a"]), &ledger(&[(0, "a"), (1, "b")], &[]));
    }

    #[test]
    #[should_panic(expected = "was not left open by anyone")]
    fn a_record_from_nowhere_is_found() {
        check(NodeId::new(1), &copy(&["a", "z"]), &ledger(&[(0, "a")], &[]));
    }

    #[test]
    #[should_panic(expected = "offsets are contiguous")]
    fn a_gap_is_found() {
        check(NodeId::new(1), &copy(&["a", "b", "c"])[1..], &ledger(&[(1, "b"), (2, "c")], &[]));
    }

    #[test]
    #[should_panic(expected = "holds other records")]
    fn a_copy_that_differs_is_found() {
        let by_node = BTreeMap::from([(NodeId::new(1), copy(&["a", "b"])), (NodeId::new(2), copy(&["a", "c"]))]);
        Copies { end: Offset::new(2), linearizable: copy(&["a", "b"]), by_node }.all_equal();
    }
}
