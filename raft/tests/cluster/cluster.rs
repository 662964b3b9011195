//! A cluster of nodes in this process, over disks and wires in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::batch::{BatchBuilder, Compression, Record};
use quipu_protocol::environment::{Environment, Task};
use quipu_protocol::{LogName, NodeId, Offset, OffsetRange, ReplicaId, Timestamp, transport, v1};
use quipu_raft::group::{GroupStatus, Role};
use quipu_raft::node::NodeStartError;
use quipu_raft::{GroupOptions, LogReplica, NodeConfig, RaftNode};
use quipu_storage::journal::JournalConfig;
use quipu_storage::{Disk, Kv, MemoryDisk, MemoryKv};

use crate::clocks::WallClock;
use crate::network::Wires;
use crate::stubborn::Stubborn;

/// What is waited for comes within this time, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The nodes 1, 2, … of a cluster, running or not.
pub(crate) struct Cluster {
    pub(crate) wires: Wires,
    pub(crate) environment: Environment,
    nodes: BTreeMap<u64, Node>,
    segment_bytes: u64,
    tail_cache_bytes: u64,
    scrub_interval: Duration,
    group: GroupOptions,
}

struct Node {
    wall: Arc<WallClock>,
    disk: Arc<MemoryDisk>,
    kv: Arc<MemoryKv>,
    keeps_states: Arc<AtomicBool>,
    running: Option<Running>,
}

struct Running {
    node: RaftNode,
    _server: Task,
}

pub(crate) fn address(node: u64) -> String {
    format!("node-{node}:7001")
}

impl Node {
    fn new(environment: &Environment) -> Self {
        let (disk, wall) = (new_disk(environment), Arc::new(WallClock::new(environment)));
        Self { wall, disk, kv: Arc::new(MemoryKv::new()), keeps_states: Arc::default(), running: None }
    }
}

impl Cluster {
    /// Nodes with empty disks, none of them running.
    pub(crate) fn new(nodes: u64) -> Self {
        let environment = quipu_sdk::system::environment();
        Self {
            wires: Wires::new(&environment),
            nodes: (1..=nodes).map(|id| (id, Node::new(&environment))).collect(),
            environment,
            segment_bytes: 4 << 20,
            tail_cache_bytes: JournalConfig::default().tail_cache_bytes,
            scrub_interval: Duration::from_secs(3600),
            group: GroupOptions::default(),
        }
    }

    /// Entries up to nearly this size fit into the journals.
    pub(crate) fn with_segments_of(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// What was appended is read from the disks again.
    pub(crate) fn that_caches_nothing(mut self) -> Self {
        self.tail_cache_bytes = 0;
        self
    }

    /// What is sealed is read that often.
    pub(crate) fn scrubbed_every(mut self, interval: Duration) -> Self {
        self.scrub_interval = interval;
        self
    }

    /// Leaders stay, however busy the machine is: for stories of one of them.
    pub(crate) fn whose_leaders_stay(mut self) -> Self {
        let (election_min, election_max) = (Duration::from_secs(10), Duration::from_secs(12));
        self.group = GroupOptions { election_min, election_max, ..self.group };
        self
    }

    /// Starts all nodes, until they are ready.
    pub(crate) async fn found(mut self) -> Self {
        self.start_all().await;
        self.all_ready().await;
        self
    }

    /// A cluster whose nodes are all ready.
    pub(crate) async fn founded(nodes: u64) -> Self {
        Self::new(nodes).found().await
    }

    /// A node with an empty disk joins, which the others were not told of.
    pub(crate) async fn join(&mut self) -> u64 {
        let id = self.nodes.keys().last().map_or(1, |last| last + 1);
        self.nodes.insert(id, Node::new(&self.environment));
        self.start(id).await;
        self.ready(id).await;
        id
    }

    pub(crate) async fn start_all(&mut self) {
        for id in self.ids() {
            self.start(id).await;
        }
    }

    pub(crate) async fn all_ready(&self) {
        for id in self.ids() {
            self.ready(id).await;
        }
    }

    pub(crate) async fn ready(&self, id: u64) {
        self.within("a node is ready", self.node(id).ready()).await.expect("the node can go on");
    }

    pub(crate) async fn start(&mut self, id: u64) {
        self.try_start(id).await.expect("the node starts");
    }

    pub(crate) async fn try_start(&mut self, id: u64) -> Result<(), NodeStartError> {
        let environment = self.wires.environment(&address(id));
        let environment = Environment { clock: Arc::clone(&self.nodes[&id].wall) as _, ..environment };
        self.wires.mend(&address(id));
        let mut config = NodeConfig::new(NodeId::new(id), address(id));
        config.peers = self.nodes.keys().map(|id| (NodeId::new(*id), address(*id))).collect();
        let (segment_bytes, tail_cache_bytes) = (self.segment_bytes, self.tail_cache_bytes);
        config.journal = JournalConfig { segment_bytes, tail_cache_bytes, ..JournalConfig::default() };
        config.scrub_interval = self.scrub_interval;
        config.group = self.group.clone();
        let entry = &self.nodes[&id];
        let disk: Arc<dyn Disk> = Arc::clone(&entry.disk) as _;
        let kv = Stubborn { kv: Arc::clone(&entry.kv), keeps_states: Arc::clone(&entry.keeps_states) };
        let kv: Arc<dyn Kv> = Arc::new(kv);
        let node = RaftNode::start(config, environment.clone(), disk, || Ok(kv)).await?;
        let listener = environment.network.listen(&address(id)).await.expect("it listens");
        let service = node.peers_service();
        let server = environment.tasks.spawn(
            "server",
            Box::pin(async move {
                let server = tonic::transport::Server::builder().add_service(service);
                let _ = server.serve_with_incoming(transport::incoming(listener)).await;
            }),
        );
        self.nodes.get_mut(&id).expect("a node").running = Some(Running { node, _server: server });
        Ok(())
    }

    /// Kills the node: what it had written stays, what it was doing does not.
    pub(crate) fn kill(&mut self, id: u64) {
        self.wires.cut(&address(id));
        let seed = self.environment.random.next();
        let node = self.nodes.get_mut(&id).expect("a node");
        node.disk = Arc::new(node.disk.kill(seed));
        node.kv = Arc::new(node.kv.lose_unflushed(seed));
        node.running = None;
    }

    /// Kills the node, if it runs, and takes its disk away.
    pub(crate) fn wipe(&mut self, id: u64) {
        if self.nodes[&id].running.is_some() {
            self.kill(id);
        }
        let disk = new_disk(&self.environment);
        let node = self.nodes.get_mut(&id).expect("a node");
        (node.disk, node.kv) = (disk, Arc::new(MemoryKv::new()));
    }

    /// Whether the node's metadata keeps what replicas that leave have there,
    /// so that they do not get any further.
    pub(crate) fn keep_states(&self, id: u64, keeps: bool) {
        self.nodes[&id].keeps_states.store(keeps, Ordering::SeqCst);
    }

    /// The node's disk as it is, to be put back later.
    pub(crate) fn image(&self, id: u64) -> (Arc<MemoryDisk>, Arc<MemoryKv>) {
        (Arc::clone(&self.nodes[&id].disk), Arc::clone(&self.nodes[&id].kv))
    }

    /// Puts another disk into a node that is not running.
    pub(crate) fn put_disk(&mut self, id: u64, (disk, kv): (Arc<MemoryDisk>, Arc<MemoryKv>)) {
        let node = self.nodes.get_mut(&id).expect("a node");
        assert!(node.running.is_none(), "node {id} is running");
        (node.disk, node.kv) = (disk, kv);
    }

    pub(crate) fn node(&self, id: u64) -> &RaftNode {
        &self.nodes[&id].running.as_ref().expect("the node runs").node
    }

    /// Puts the node's wall clock so far ahead of the time, or behind it.
    pub(crate) fn set_clock_off_by(&self, id: u64, milliseconds: i64) {
        self.nodes[&id].wall.set_off_by(milliseconds);
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = (u64, &RaftNode)> {
        self.nodes.iter().filter_map(|(id, node)| Some((*id, &node.running.as_ref()?.node)))
    }

    /// Creates a log through the node.
    pub(crate) async fn create(&self, through: u64, name: &str, config: v1::LogConfig) -> v1::LogSummary {
        let name = log_name(name);
        let created = self.node(through).create_log(&name, config);
        self.within("a log is created", created).await.expect("the log is created").log
    }

    /// The log's replicas on the nodes that run and have one.
    pub(crate) async fn replicas(&self, name: &str) -> Vec<(u64, LogReplica)> {
        let mut replicas = Vec::new();
        for (id, node) in self.running() {
            if let Ok(replica) = node.log(&log_name(name)).await {
                replicas.push((id, replica));
            }
        }
        replicas
    }

    /// The replica that leads the log.
    pub(crate) async fn leader(&self, name: &str) -> (u64, LogReplica) {
        self.eventually("the log has a leader", async || {
            let replicas = self.replicas(name).await;
            replicas.into_iter().find(|(_, replica)| replica.group().status().role == Role::Leader)
        })
        .await
    }

    /// Appends through whoever leads, until it is acknowledged. Values are
    /// expected to be told apart by the caller: a repeated try may land twice.
    pub(crate) async fn append(&self, name: &str, value: &str) -> OffsetRange {
        let batch = batch(&[value.as_bytes()]);
        self.eventually("an append is acknowledged", async || {
            let (_, leader) = self.leader(name).await;
            let appended = self.environment.clock.timeout(Duration::from_secs(5), leader.append(batch.clone())).await;
            appended.ok()?.ok().map(|appended| appended.range)
        })
        .await
    }

    /// Everything that this replica can read up to `end`, once it has it.
    pub(crate) async fn read_all(&self, replica: &LogReplica, end: Offset) -> Vec<String> {
        if end > Offset::ZERO {
            let last = Offset::new(end.get() - 1);
            self.within("a replica has everything", replica.wait_past(last)).await.expect("it goes on");
        }
        let mut values = Vec::new();
        let mut next = Offset::ZERO;
        while next < end {
            let chunk = replica.read(next, 1 << 20).await.expect("readable");
            values.extend(chunk.batches.into_iter().flat_map(|batch| self::values(&batch.into_bytes())));
            next = chunk.next;
        }
        values
    }

    /// Waits until `look` finds something.
    pub(crate) async fn eventually<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let clock = &self.environment.clock;
        let deadline = clock.monotonic() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(clock.monotonic() < deadline, "{what}: not within {PATIENCE:?}");
            clock.sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn within<F: Future>(&self, what: &str, future: F) -> F::Output {
        match self.environment.clock.timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{what}: not within {PATIENCE:?}"),
        }
    }
}

/// Who votes, when no change is under way.
pub(crate) fn settled_voters(status: &GroupStatus) -> Option<BTreeSet<ReplicaId>> {
    let settled = status.membership_committed && !status.membership.is_joint();
    settled.then(|| status.membership.voters.last().cloned()).flatten()
}

pub(crate) fn log_name(name: &str) -> LogName {
    name.parse().expect("a log name")
}

/// A batch's values.
pub(crate) fn values(batch: &Bytes) -> Vec<String> {
    let records = quipu_protocol::batch::records(batch, 128 << 20).expect("a batch");
    let value = |record: Record| String::from_utf8(record.value.unwrap_or_default().to_vec()).expect("text");
    records.map(|record| value(record.expect("a record").1)).collect()
}

pub(crate) fn batch(values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        let record = Record {
            timestamp: Timestamp::new(1),
            key: None,
            value: Some(Bytes::copy_from_slice(value)),
            headers: Vec::new(),
        };
        builder.push(&record).expect("it fits");
    }
    builder.finish(None).expect("a batch")
}

fn new_disk(environment: &Environment) -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::new(environment.random.next()))
}
