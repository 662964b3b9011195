//! What every replica of a log holds, and whether it is what it has to be.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quipu_protocol::{LogName, NodeId, Offset};
use quipu_sdk::{Consistency, From, ReadRecord, ReaderConfig};

use crate::{Cluster, Ledger, PATIENCE};

/// Each replica's own committed copy of a log.
pub struct Copies {
    end: Offset,
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
            by_node.insert(replica.node, read_copy(cluster, &name, replica.node, range.end()).await);
        }
        Self { end: range.end(), by_node }
    }

    /// How many replicas there are.
    pub fn count(&self) -> usize {
        self.by_node.len()
    }

    /// Asserts that every copy holds each acknowledged record once, in order,
    /// at its offset, byte for byte, and of the others only such as may have
    /// landed, those at most once.
    pub fn holds(&self, ledger: &Ledger) -> &Self {
        assert!(self.by_node.len() > 1, "there is one copy only: {:?}", self.by_node.keys());
        for (node, copy) in &self.by_node {
            check(*node, copy, ledger);
        }
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
        let mut copies = self.by_node.iter();
        let (first, expected) = copies.next().expect("a replica");
        for (node, copy) in copies {
            assert!(copy == expected, "node {node} holds other records than node {first}");
        }
        self
    }
}

async fn read_copy(cluster: &Cluster, log: &LogName, node: NodeId, end: Offset) -> Vec<ReadRecord> {
    if end == Offset::ZERO {
        return Vec::new();
    }
    let config = ReaderConfig {
        from: From::Start,
        max_records: Some(end.get()),
        follow: true,
        node: Some(node),
        ..ReaderConfig::default()
    };
    let mut reader = cluster.client().reader(log, config).expect("a reader");
    let mut records = Vec::new();
    let reading = async {
        while let Some(record) = reader.next().await.unwrap_or_else(|e| panic!("{log} on node {node}: {e:?}")) {
            records.push(record);
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    let count = records.len();
    assert!(read.is_ok(), "node {node} has only {count} of {end} records of {log} after {PATIENCE:?}");
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
