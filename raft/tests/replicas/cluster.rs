//! Replicas of one log, each with a disk of its own that survives it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::select_all;
use openraft::async_runtime::watch::WatchReceiver;
use quipu_protocol::batch::{BatchBuilder, Compression, Producer, Record, records};
use quipu_protocol::environment::{Environment, Spans};
use quipu_protocol::{ClusterId, Incarnation, LogId, NodeId, Offset, OffsetRange, ReplicaId, Timestamp};
use quipu_raft::group::found;
use quipu_raft::{
    AppendError, Appended, CommandError, GroupOptions, LogOptions, LogReplica, Machine, OnLeases, ProposeError, Role,
    StartError, TrimError,
};
use quipu_storage::journal::{Journal, JournalConfig, Owner, ReplicaKey};
use quipu_storage::{Kv, MemoryDisk, MemoryKv};

use crate::environment::{EPOCH_MS, environment};
use crate::network::Switch;

/// So much may wait for a replica's disk.
pub(crate) const STAGED_BYTES: u64 = 512 << 10;

pub(crate) struct Cluster {
    pub(crate) switch: Switch,
    nodes: BTreeMap<u64, Node>,
    founders: BTreeMap<ReplicaId, NodeId>,
    seed: u64,
    /// Whether the log takes nothing without a writer epoch.
    pub(crate) exclusive: bool,
    /// Where replicas that are added from now on tell what they do.
    pub(crate) spans: Option<Arc<dyn Spans>>,
}

/// A machine: what is on its disk, and the replica if it runs.
pub(crate) struct Node {
    pub(crate) disk: Arc<MemoryDisk>,
    pub(crate) kv: Arc<MemoryKv>,
    pub(crate) environment: Environment,
    running: Option<(Journal, LogReplica)>,
}

pub(crate) fn key(replica: u64) -> ReplicaKey {
    ReplicaKey { group: LogId::new(7), replica: ReplicaId::new(replica) }
}

impl Cluster {
    /// `count` replicas, numbered from 1, that form a group.
    pub(crate) async fn start(count: u64) -> Self {
        let mut cluster = Self::founded_by(count);
        for replica in 1..=count {
            cluster.add(replica).await;
        }
        cluster.log(1).group().campaign().await;
        cluster
    }

    /// A group of `count` founders, numbered from 1, that are yet to be added.
    pub(crate) fn founded_by(count: u64) -> Self {
        let founders = (1..=count).map(|n| (ReplicaId::new(n), NodeId::new(n))).collect();
        Self { switch: Switch::default(), nodes: BTreeMap::new(), founders, seed: 1, exclusive: false, spans: None }
    }

    /// Adds a replica: a founder, or one that is nobody's member yet.
    pub(crate) async fn add(&mut self, replica: u64) {
        self.seed += 1;
        let node = Node {
            disk: Arc::new(MemoryDisk::new(self.seed)),
            kv: Arc::new(MemoryKv::new()),
            environment: Environment { spans: self.spans.clone(), ..environment(self.seed) },
            running: None,
        };
        self.nodes.insert(replica, node);
        self.restart(replica).await.unwrap();
    }

    pub(crate) fn node(&self, replica: u64) -> &Node {
        &self.nodes[&replica]
    }

    pub(crate) fn log(&self, replica: u64) -> &LogReplica {
        &self.nodes[&replica].running.as_ref().expect("the replica runs").1
    }

    pub(crate) fn journal(&self, replica: u64) -> &Journal {
        &self.nodes[&replica].running.as_ref().expect("the replica runs").0
    }

    /// The replicas that run.
    pub(crate) fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.running.is_some()).map(|(replica, _)| *replica).collect()
    }

    /// Cuts a node's power: what its disk had not synced may be gone, and so
    /// may what Kv had not flushed.
    pub(crate) fn crash(&mut self, replica: u64) {
        self.seed += 1;
        self.switch.disconnect(replica);
        let node = self.nodes.get_mut(&replica).expect("there is such a node");
        node.disk = Arc::new(node.disk.restore(self.seed));
        node.kv = Arc::new(node.kv.lose_unflushed(self.seed));
        node.running = None;
    }

    /// Starts a node from what its disk holds.
    pub(crate) async fn restart(&mut self, replica: u64) -> Result<(), StartError> {
        self.restart_as(replica, replica).await
    }

    /// Starts a node's disk as the replica with another id.
    pub(crate) async fn restart_as(&mut self, replica: u64, id: u64) -> Result<(), StartError> {
        let node = self.nodes.get_mut(&replica).expect("there is such a node");
        let owner =
            Owner { cluster: ClusterId::new(1), node: NodeId::new(replica), incarnation: Incarnation::new(replica) };
        let config = JournalConfig { segment_bytes: 1 << 20, tail_cache_bytes: 1 << 20, ..JournalConfig::default() };
        let random = Arc::clone(&node.environment.random);
        let kv: Arc<dyn Kv> = node.kv.clone();
        let (journal, _) = Journal::open(node.disk.clone(), Arc::clone(&kv), random, config, owner).unwrap();
        if self.founders.contains_key(&ReplicaId::new(id)) {
            found(&journal, key(id), &self.founders).await?;
        }
        let log = LogReplica::start(
            key(id),
            journal.clone(),
            kv,
            &node.environment,
            self.switch.port(replica),
            GroupOptions { floor_step_bytes: 1, ..GroupOptions::default() },
            LogOptions { staged_bytes: STAGED_BYTES, exclusive: self.exclusive, ..LogOptions::default() },
        )
        .await?;
        self.switch.connect(replica, log.group().raft().clone());
        node.running = Some((journal, log));
        Ok(())
    }

    /// Stops a node in an orderly way.
    pub(crate) async fn shut_down(&mut self, replica: u64) {
        self.log(replica).shutdown().await;
        self.switch.disconnect(replica);
        self.nodes.get_mut(&replica).expect("there is such a node").running = None;
    }

    /// Waits for a leader that a majority follows, and returns its replica.
    pub(crate) async fn leader(&self) -> u64 {
        let running = self.running();
        let mut changes: Vec<_> = running.iter().map(|n| self.log(*n).group().raft().metrics()).collect();
        loop {
            for replica in &running {
                let log = self.log(*replica);
                if log.group().status().role == Role::Leader
                    && let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(1), log.linearizable_range()).await
                {
                    return *replica;
                }
            }
            // Whatever changed since they were last looked at, or does next.
            let (changed, _, _) = select_all(changes.iter_mut().map(|metrics| metrics.changed().boxed_local())).await;
            changed.expect("the replicas run");
        }
    }

    /// Appends at whoever leads, trying again wherever that is safe.
    pub(crate) async fn append(&self, batch: Bytes) -> Appended {
        loop {
            let leader = self.leader().await;
            match self.log(leader).append(batch.clone()).await {
                Ok(appended) => return appended,
                // It was followed by a majority a moment ago: the next one is
                // waited for.
                Err(AppendError::Command(CommandError::NotLeader { .. })) => {}
                Err(error) => panic!("the append failed: {error}"),
            }
        }
    }

    /// Trims at whoever leads.
    pub(crate) async fn trim(&self, to: u64) -> OffsetRange {
        loop {
            let leader = self.leader().await;
            match self.log(leader).trim(Offset::new(to), OnLeases::Refuse).await.map(|trimmed| trimmed.range) {
                Ok(range) => return range,
                Err(TrimError::Propose(ProposeError::NotLeader { .. })) => {}
                Err(error) => panic!("the trim failed: {error}"),
            }
        }
    }

    /// Waits until a replica holds no entry that it does not need, and returns
    /// the last index that it lacks.
    pub(crate) async fn purged(&self, replica: u64, at_least: u64) -> u64 {
        let mut metrics = self.log(replica).group().raft().metrics();
        loop {
            let purged = self.journal(replica).replica(self.log(replica).group().key()).and_then(|state| state.purged);
            if let Some(purged) = purged.filter(|purged| purged.index.get() >= at_least) {
                return purged.index.get();
            }
            metrics.changed().await.expect("the replica runs");
        }
    }

    /// Every value of a replica's own copy up to `end`, once it has it,
    /// with contiguous offsets.
    pub(crate) async fn values(&self, replica: u64, end: u64) -> Vec<String> {
        let log = self.log(replica);
        if end > 0 {
            log.wait_past(Offset::new(end - 1)).await.unwrap();
        }
        let mut next = log.range().start();
        let mut values = Vec::new();
        while next < Offset::new(end) {
            let chunk = log.read(next, 4096).await.unwrap();
            for batch in &chunk.batches {
                for record in records(&batch.clone().into_bytes(), 1 << 20).unwrap() {
                    let (offset, record) = record.unwrap();
                    if offset < next {
                        // The start lies inside a batch.
                        assert!(values.is_empty(), "only the first batch begins before");
                        continue;
                    }
                    assert_eq!(offset, next, "offsets are contiguous");
                    values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                    next = offset.next();
                }
            }
            assert_eq!(next, chunk.next, "the chunk ends where it says");
        }
        values
    }

    /// A replica's state, encoded; equal on replicas that applied the same.
    pub(crate) fn image(&self, replica: u64) -> Bytes {
        self.log(replica).group().view(Machine::image)
    }
}

/// A batch of records with these values.
pub(crate) fn batch(values: &[&str], producer: Option<Producer>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(&Record::new(Timestamp::new(EPOCH_MS), Bytes::copy_from_slice(value.as_bytes()))).unwrap();
    }
    builder.finish(producer).unwrap()
}
