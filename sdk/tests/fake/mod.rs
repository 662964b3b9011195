//! A cluster in a process: nodes on loopback that share one set of logs and do
//! as a script says.
//!
//! Agreement is taken for granted (there is one copy of everything, under one
//! lock); what is real is the wire, the order of things on it, and what a log
//! remembers of its producers ([`dedupe`]) and of who writes it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

mod cluster;
mod cursors;
mod dedupe;
mod records;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use quipu_protocol::batch::{BatchHeader, records};
use quipu_protocol::environment::{Environment, Task};
use quipu_protocol::transport::incoming;
use quipu_protocol::v1::cluster_server::ClusterServer;
use quipu_protocol::v1::cursors_server::CursorsServer;
use quipu_protocol::v1::records_server::RecordsServer;
use quipu_protocol::{ProducerId, v1};
use quipu_sdk::{Client, ClientConfig, LogName, system};
use tokio::sync::watch;
use tonic::transport::Server;

use dedupe::{Dedupe, Resolved};

/// What to do with the next append that arrives.
#[derive(Clone, Debug)]
pub(crate) enum OnAppend {
    /// Take it and answer.
    Land,
    /// Take it, keep the answer until another append has been answered.
    LandAndAnswerLate,
    /// Take it, then break the stream without an answer.
    LandAndBreak,
    /// Break the stream instead.
    Break,
    /// Put it aside, unanswered: see [`FakeCluster::let_stragglers_land`].
    Hold,
    /// Refuse it.
    Refuse(v1::Error),
    /// Make this node (from 0) the leader, and say so.
    MoveLeader(usize),
}

/// What to do with the next read that arrives, once it has sent a batch.
#[derive(Clone, Debug)]
pub(crate) enum OnRead {
    /// Break the stream.
    BreakAfter(usize),
    /// End the stream as if all were read.
    EndAfter(usize),
    /// Send nothing more, for ever.
    StallAfter(usize),
    /// Leave a batch out.
    SkipAfter(usize),
    /// Flip a bit in a batch.
    CorruptAfter(usize),
    /// Refuse it.
    Refuse(v1::Error),
}

pub(crate) struct FakeCluster {
    pub(crate) addresses: Vec<String>,
    world: Arc<World>,
    _nodes: Vec<Task>,
}

/// All that the nodes share.
pub(crate) struct World {
    addresses: Vec<String>,
    state: Mutex<State>,
    /// Counts changes, for whoever waits for one.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
pub(crate) struct State {
    logs: BTreeMap<String, FakeLog>,
    /// Ids given out so far.
    log_ids: u64,
    leader: usize,
    next_producer: i64,
    on_append: VecDeque<OnAppend>,
    on_read: VecDeque<OnRead>,
    on_change: VecDeque<v1::Error>,
    /// How often something was to be changed.
    changes: usize,
    /// Nodes that have not heard of any log.
    behind: Vec<usize>,
    stragglers: Vec<v1::AppendRequest>,
    appends: usize,
    in_flight: usize,
    most_in_flight: usize,
    reads: Vec<(usize, v1::ReadRequest)>,
}

#[derive(Default)]
pub(crate) struct FakeLog {
    id: u64,
    batches: Vec<(u64, Bytes)>,
    start: u64,
    end: u64,
    dedupe: Dedupe,
    config: v1::LogConfig,
    writer: FakeWriter,
    cursors: BTreeMap<String, v1::Cursor>,
    leases: BTreeMap<String, v1::Lease>,
    /// How many leases were granted.
    grants: u64,
    /// How many appends were resolved.
    resolutions: usize,
}

/// Who may write a log.
#[derive(Default)]
struct FakeWriter {
    epoch: u64,
    holder: String,
    /// By request: the epoch, and where the log ended.
    acquired: BTreeMap<Bytes, (u64, u64)>,
}

impl FakeCluster {
    /// Serves so many nodes, with a log of the name [`log`] on all of them;
    /// the first one leads.
    pub(crate) async fn start(nodes: usize) -> Self {
        let environment = system::environment();
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            listeners.push(environment.network.listen("127.0.0.1:0").await.expect("a free port"));
        }
        let address = |listener: &Box<_>| address_of(&**listener);
        let addresses: Vec<String> = listeners.iter().map(address).collect();
        let (changes, _) = watch::channel(0);
        let world = Arc::new(World { addresses: addresses.clone(), state: Mutex::default(), changes });
        world.state().create(log().as_str(), v1::LogConfig::default());
        let serve = |(node, listener): (usize, _)| {
            let node = Node { node, world: Arc::clone(&world), environment: environment.clone() };
            let server = Server::builder()
                .add_service(ClusterServer::new(node.clone()))
                .add_service(CursorsServer::new(node.clone()))
                .add_service(RecordsServer::new(node).max_decoding_message_size(65 << 20))
                .serve_with_incoming(incoming(listener));
            let serve = async move { server.await.expect("serves") };
            environment.tasks.spawn("fake-node", Box::pin(serve))
        };
        let nodes = listeners.into_iter().enumerate().map(serve).collect();
        Self { addresses, world, _nodes: nodes }
    }

    /// A client with short deadlines that knows the first node only.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.client_config(), system::environment()).expect("a good configuration")
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        ClientConfig {
            request_timeout: Duration::from_millis(300),
            retry_timeout: Duration::from_secs(5),
            retry_backoff: Duration::from_millis(2),
            retry_backoff_max: Duration::from_millis(20),
            ..ClientConfig::new([&self.addresses[0]])
        }
    }

    /// What happens to the next appends, in this order; after that they land.
    pub(crate) fn on_append(&self, script: impl IntoIterator<Item = OnAppend>) {
        self.world.state().on_append.extend(script);
    }

    /// Appends land again from here on.
    pub(crate) fn on_append_clear(&self) {
        self.world.state().on_append.clear();
    }

    /// What happens to the next reads, in this order; after that they work.
    pub(crate) fn on_read(&self, script: impl IntoIterator<Item = OnRead>) {
        self.world.state().on_read.extend(script);
    }

    /// What the next attempts to create, alter, delete or trim are answered with,
    /// in this order; after that they work.
    pub(crate) fn on_change(&self, script: impl IntoIterator<Item = v1::Error>) {
        self.world.state().on_change.extend(script);
    }

    pub(crate) fn on_change_clear(&self) {
        self.world.state().on_change.clear();
    }

    /// How often something was to be changed.
    pub(crate) fn changes(&self) -> usize {
        self.world.state().changes
    }

    /// How many cursors and leases the log has, and what else was done to it but to
    /// append.
    pub(crate) fn marks(&self) -> usize {
        let mut state = self.world.state();
        let log = state.log();
        let changes = [log.start > 0, log.writer.epoch > 0, log.config != v1::LogConfig::default()];
        log.cursors.len() + log.leases.len() + log.resolutions + changes.into_iter().filter(|made| *made).count()
    }

    /// These nodes have not heard of any log yet.
    pub(crate) fn let_nodes_be_behind(&self, nodes: &[usize]) {
        self.world.state().behind = nodes.to_vec();
    }

    pub(crate) fn lead(&self, node: usize) {
        self.world.state().leader = node;
    }

    pub(crate) fn drop_log(&self) {
        self.world.state().logs.clear();
    }

    /// Deletes the log and creates another one of its name.
    pub(crate) fn replace_log(&self) {
        let mut state = self.world.state();
        state.logs.clear();
        state.create(log().as_str(), v1::LogConfig::default());
        drop(state);
        self.world.changed();
    }

    pub(crate) fn trim(&self, start: u64) {
        self.world.state().log().start = start;
    }

    pub(crate) fn forget_producers(&self) {
        let mut state = self.world.state();
        let oldest = ProducerId::new(state.next_producer + 1);
        state.log().dedupe.forget(oldest);
    }

    /// Appends a batch of so many records behind everybody's back.
    pub(crate) fn fill(&self, values: &[&str]) {
        self.fill_at(1, values);
    }

    /// As [`fill`](Self::fill), with this timestamp.
    pub(crate) fn fill_at(&self, timestamp: i64, values: &[&str]) {
        let mut builder = quipu_protocol::batch::BatchBuilder::new(quipu_sdk::Compression::Lz4);
        for value in values {
            let value = Bytes::copy_from_slice(value.as_bytes());
            builder.push(&quipu_sdk::Record::new(quipu_sdk::Timestamp::new(timestamp), value)).expect("fits");
        }
        let batch = builder.finish(None).expect("not empty");
        let request = v1::AppendRequest { log: log().to_string(), batch, ..v1::AppendRequest::default() };
        self.world.land(&request).expect("lands");
    }

    /// Somebody else acquires the log's writer epoch.
    pub(crate) fn acquire_writer(&self, holder: &str) -> u64 {
        let mut state = self.world.state();
        let request_id = Bytes::copy_from_slice(holder.as_bytes());
        state.log().acquire(request_id, holder).0
    }

    /// Every append that was put aside reaches the log now. How many landed.
    pub(crate) fn let_stragglers_land(&self) -> usize {
        let stragglers = std::mem::take(&mut self.world.state().stragglers);
        let any_log = |request| v1::AppendRequest { log_id: 0, ..request };
        stragglers.into_iter().filter(|request| self.world.land(&any_log(request.clone())).is_ok()).count()
    }

    /// All values in the log, in order.
    pub(crate) fn values(&self) -> Vec<String> {
        let state = self.world.state();
        let batches = state.logs.get(log().as_str()).map(|log| log.batches.as_slice()).unwrap_or_default();
        let records = batches.iter().flat_map(|(_, batch)| records(batch, 1 << 30).expect("sound"));
        records.map(|record| text(record.expect("sound").1.value)).collect()
    }

    /// How many batches the log holds.
    pub(crate) fn batches(&self) -> usize {
        self.world.state().log().batches.len()
    }

    /// How many requests to append have arrived.
    pub(crate) fn appends(&self) -> usize {
        self.world.state().appends
    }

    /// The most that were unanswered at once.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.world.state().most_in_flight
    }

    /// Which node was asked to read what.
    pub(crate) fn reads(&self) -> Vec<(usize, v1::ReadRequest)> {
        self.world.state().reads.clone()
    }

    /// Completes once `condition` holds.
    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.world.changes.subscribe();
        let wait = async {
            while !condition(self) {
                changes.changed().await.expect("the world goes on");
            }
        };
        system::environment().clock.timeout(Duration::from_secs(10), wait).await.expect("the condition comes to hold");
    }
}

/// The log that every fake cluster has.
pub(crate) fn log() -> LogName {
    "orders".parse().expect("a name")
}

pub(crate) fn text(value: Option<Bytes>) -> String {
    String::from_utf8(value.expect("a value").to_vec()).expect("text")
}

fn address_of(listener: &dyn quipu_protocol::environment::Listener) -> String {
    listener.local_address().expect("an address").to_string()
}

/// One node, as both of its services.
#[derive(Clone)]
struct Node {
    node: usize,
    world: Arc<World>,
    environment: Environment,
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while holding it")
    }

    /// What the script has in place of an answer to an attempted change.
    fn answer_of_change(&self) -> Result<(), v1::Error> {
        let mut state = self.state();
        state.changes += 1;
        let answer = state.on_change.pop_front().map_or(Ok(()), Err);
        drop(state);
        self.changed();
        answer
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Appends the request's batch, or finds it.
    fn land(&self, request: &v1::AppendRequest) -> Result<v1::Appended, v1::Error> {
        let header = BatchHeader::parse(&request.batch)?;
        let mut state = self.state();
        let log = state.find(&request.log, request.log_id)?;
        let log_id = log.id;
        if log.dedupe.recall(&header)?.is_none() {
            log.check_terms(request)?;
        }
        let (base, duplicate) = log.dedupe.apply(&header, log.end)?;
        if !duplicate {
            let placed = quipu_protocol::batch::with_position(&request.batch, quipu_sdk::Offset::new(base), 1);
            log.batches.push((base, placed));
            log.end += u64::from(header.count);
        }
        drop(state);
        self.changed();
        let durability = v1::Durability::QuorumFsync.into();
        Ok(v1::Appended { start: base, end: base + u64::from(header.count), durability, duplicate, log_id })
    }

    fn peers(&self) -> Vec<v1::Peer> {
        (1..).zip(&self.addresses).map(|(node, address)| v1::Peer { node, address: address.clone() }).collect()
    }

    /// Whether `node` leads, or what it says instead.
    fn check_leader(&self, node: usize, log: &str, log_id: u64) -> Result<(), v1::Error> {
        let mut state = self.state();
        if state.behind.contains(&node) || state.find(log, log_id).is_err() {
            return Err(v1::Error::unknown_log(log));
        }
        if state.leader == node {
            return Ok(());
        }
        let leader = self.peers().swap_remove(state.leader);
        Err(v1::Error::not_leader(Some(leader), self.peers()))
    }
}

impl FakeLog {
    /// The epoch and the end as of when `request_id` came first.
    fn acquire(&mut self, request_id: Bytes, holder: &str) -> (u64, u64) {
        let FakeWriter { epoch, holder: current, acquired } = &mut self.writer;
        *acquired.entry(request_id).or_insert_with(|| {
            *epoch += 1;
            holder.clone_into(current);
            (*epoch, self.end)
        })
    }

    fn check_terms(&self, request: &v1::AppendRequest) -> Result<(), v1::Error> {
        let current = quipu_sdk::WriterEpoch::new(self.writer.epoch);
        match request.writer_epoch {
            None if self.config.writers() == v1::Writers::Exclusive => return Err(v1::Error::writer_required()),
            Some(epoch) if epoch < self.writer.epoch => return Err(v1::Error::fenced(current, &self.writer.holder)),
            Some(epoch) if epoch > self.writer.epoch => return Err(v1::Error::epoch_ahead(current)),
            _ => {}
        }
        match request.expected_end {
            Some(expected) if expected != self.end => Err(v1::Error::offset_mismatch(quipu_sdk::Offset::new(self.end))),
            _ => Ok(()),
        }
    }
}

impl State {
    fn create(&mut self, name: &str, config: v1::LogConfig) {
        self.log_ids += 1;
        self.logs.insert(name.to_owned(), FakeLog { id: self.log_ids, config, ..FakeLog::default() });
    }

    /// The log of that name, and of that id unless it is 0.
    fn find(&mut self, name: &str, id: u64) -> Result<&mut FakeLog, v1::Error> {
        let found = self.logs.get_mut(name).filter(|log| id == 0 || id == log.id);
        found.ok_or_else(|| v1::Error::unknown_log(name))
    }

    fn log(&mut self) -> &mut FakeLog {
        self.logs.get_mut(log().as_str()).expect("the log is there")
    }
}
