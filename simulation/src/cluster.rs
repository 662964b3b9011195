//! The nodes of a run: started, killed, cut off from power, started again.
//!
//! ```text
//!   start ─▶ Server::start … serves ──▶ fails, is shut down ─▶ (process ends)
//!     ▲                          └────▶ killed, loses power ─▶ (process ends)
//!     └──────── its disk, as that left it ◀────────────────────┘
//! ```
//!
//! A node that is killed finds everything it wrote; one that loses power finds
//! what it synced, and what chance left of the rest. Its key-value store keeps
//! no log of its own, so that either may take back what was not flushed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use quipu_protocol::NodeId;
use quipu_protocol::environment::Random;
use quipu_server::config::{ConfigError, Draft, ServerConfig};
use quipu_server::{NodeEnvironment, Server};
use quipu_storage::{Disk, Kv, MemoryDisk, MemoryKv};
use tokio::sync::Notify;

use crate::checkers::always::Tasks;
use crate::environment::Host;
use crate::environment::clock::now;
use crate::environment::disk::{DiskNature, SimulatedDisk};
use crate::environment::pause::Pausable;
use crate::environment::random::SeededRandom;
use crate::event::{Stop, What};
use crate::links::Links;
use crate::recorder::Recorder;
use crate::relay::Meddler;
use crate::scenario::Scenario;
use crate::segments::{self, Segment};

/// Every node listens on this port of its own host.
const PORT: u16 = 7001;
/// What a connection holds, in segments, before its writer waits.
const TCP_CAPACITY: usize = 65_536;
/// Random numbers of clients come after those of the nodes.
const FIRST_CLIENT: u64 = 1 << 32;
/// The hosts of clients are named so, and numbered.
const CLIENT: &str = "client-";
/// Those of the run itself: choices of targets, what a power loss leaves.
const RUN: u64 = 1 << 33;

/// A node: its host, its disk, and the process on it.
pub(crate) struct Node {
    pub(crate) number: u64,
    pub(crate) host: Host,
    pub(crate) nature: Arc<DiskNature>,
    config: ServerConfig,
    recorder: Recorder,
    state: Mutex<State>,
    shut_down: Notify,
    hand_over: Notify,
}

struct State {
    disk: Arc<MemoryDisk>,
    kv: Arc<MemoryKv>,
    /// How many times a process was started.
    boots: u64,
    process: Process,
    server: Weak<Server>,
    /// Counts the tasks of the process.
    tasks: Option<tokio::runtime::RuntimeMetrics>,
    /// The most tasks that a process had at a time.
    most_tasks: usize,
    /// The journal's newest segment when a process last opened it.
    known_segment: Option<Segment>,
}

/// How a node's process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// There is none.
    Down,
    /// It runs; whether it takes part in its cluster.
    Up { serves: bool },
    /// It said that it cannot go on, or has ended as it was asked to; the run
    /// takes it away with its next step.
    Ended { how: Stop, why: String },
}

impl Node {
    /// How its process is.
    pub(crate) fn process(&self) -> Process {
        self.state().process.clone()
    }

    /// Whether a process runs.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state().process, Process::Up { .. })
    }

    /// Whether it takes part in its cluster.
    pub(crate) fn serves(&self) -> bool {
        self.state().process == Process::Up { serves: true }
    }

    /// How many times a process was started.
    pub(crate) fn boots(&self) -> u64 {
        self.state().boots
    }

    /// The node, while its process runs.
    pub(crate) fn server(&self) -> Option<Arc<Server>> {
        self.state().server.upgrade()
    }

    /// What its disk holds.
    pub(crate) fn disk(&self) -> Arc<MemoryDisk> {
        Arc::clone(&self.state().disk)
    }

    /// The most tasks that a process of it had at a time.
    pub(crate) fn most_tasks(&self) -> usize {
        self.state().most_tasks
    }

    /// The journal's newest segment as it was when a process last opened it.
    pub(crate) fn known_segment(&self) -> Option<Segment> {
        self.state().known_segment.clone()
    }

    /// The tasks of its process, which has so many peers and logs that let go of
    /// records.
    pub(crate) fn tasks(&self, peers: u64, forgetting: u64) -> Tasks {
        let mut state = self.state();
        let alive = state.tasks.as_ref().map_or(0, tokio::runtime::RuntimeMetrics::num_alive_tasks);
        state.most_tasks = state.most_tasks.max(alive);
        // Those of a relay run beside the node's, and are not its own.
        let alive = if self.host.meddler.is_some() { 0 } else { alive };
        Tasks { alive: alive as u64, peers, forgetting }
    }

    /// Gives it another disk; its process is down.
    pub(crate) fn set_disk(&self, disk: MemoryDisk) {
        let mut state = self.state();
        assert_eq!(state.process, Process::Down, "a disk is changed while nothing runs");
        state.disk = Arc::new(disk);
        state.known_segment = None;
    }

    /// Takes its metadata away, all of it; its process is down.
    pub(crate) fn lose_metadata(&self) {
        let mut state = self.state();
        assert_eq!(state.process, Process::Down, "metadata is lost while nothing runs");
        state.kv = Arc::new(MemoryKv::new());
    }

    /// Asks its process to end in order.
    pub(crate) fn ask_to_end(&self) {
        self.shut_down.notify_one();
    }

    /// Asks its process to hand its leaderships over.
    pub(crate) fn ask_to_hand_over(&self) {
        self.hand_over.notify_one();
    }

    /// Ends what its process can still do: nothing of that reaches the disk
    /// any more. What is left is as `how` leaves it, by `draw`.
    pub(crate) fn fence(&self, at: Duration, how: Stop, draw: u64) {
        let mut state = self.state();
        let disk = match how {
            // Where a process gave up on its disk, the machine is started again.
            Stop::PowerLost | Stop::Failed => state.disk.restore(draw),
            Stop::Killed | Stop::ShutDown => state.disk.kill(draw),
        };
        let why = match &state.process {
            Process::Ended { why, .. } => Some(why.clone()),
            Process::Down | Process::Up { .. } => None,
        };
        state.disk = Arc::new(disk);
        state.kv = Arc::new(state.kv.lose_unflushed(draw));
        state.process = Process::Down;
        state.server = Weak::new();
        state.tasks = None;
        drop(state);
        self.nature.process_ended();
        self.host.pause.process_ended();
        self.recorder.event(at, What::Stopped { node: self.number, how, why });
    }

    fn simulated_disk(&self, disk: Arc<MemoryDisk>) -> SimulatedDisk {
        SimulatedDisk::new(disk, Arc::clone(&self.nature), Arc::clone(&self.host.pause))
    }

    /// The life of one process.
    async fn run(self: Arc<Self>) {
        let (disk, kv) = {
            let mut state = self.state();
            state.boots += 1;
            state.process = Process::Up { serves: false };
            state.tasks = Some(tokio::runtime::Handle::current().metrics());
            (Arc::clone(&state.disk), Arc::clone(&state.kv))
        };
        self.recorder.event(now(), What::Started { node: self.number, boot: self.boots() });
        let known_segment = segments::written(&disk).pop();
        let outside = NodeEnvironment {
            environment: self.host.environment(),
            disk: Arc::new(self.simulated_disk(disk)) as Arc<dyn Disk>,
            kv: Arc::new(move || Ok(Arc::clone(&kv) as Arc<dyn Kv>)),
            // The run's process is not the node's.
            cpu_micros: Arc::new(|| 0),
            log_filter: None,
        };
        let server = match Server::start(self.config.clone(), outside).await {
            Ok(server) => Arc::new(server),
            Err(error) => return self.ended(Stop::Failed, error.to_string()),
        };
        {
            let mut state = self.state();
            state.server = Arc::downgrade(&server);
            state.known_segment = known_segment;
        }
        let ready = async {
            if server.ready().await.is_ok() && self.becomes_ready() {
                self.recorder.event(now(), What::Serves { node: self.number });
            }
            loop {
                self.hand_over.notified().await;
                server.node().hand_over().await;
            }
        };
        tokio::select! {
            biased;
            failure = server.failed() => self.ended(Stop::Failed, failure.reason),
            () = self.shut_down.notified() => {
                server.shutdown().await;
                self.ended(Stop::ShutDown, "asked to".to_owned());
            }
            () = ready => {}
        }
    }

    /// False when the process was fenced meanwhile.
    fn becomes_ready(&self) -> bool {
        let mut state = self.state();
        let up = matches!(state.process, Process::Up { .. });
        if up {
            state.process = Process::Up { serves: true };
        }
        up
    }

    fn ended(&self, how: Stop, why: String) {
        let mut state = self.state();
        // Once fenced it was killed, whatever its last instructions find.
        if matches!(state.process, Process::Up { .. }) {
            state.process = Process::Ended { how, why };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All nodes, the network between them, and the hosts of clients.
pub(crate) struct Cluster<'a> {
    pub(crate) sim: turmoil::Sim<'a>,
    pub(crate) nodes: BTreeMap<u64, Arc<Node>>,
    pub(crate) links: Links,
    pub(crate) random: Arc<SeededRandom>,
    seed: u64,
    clients: u64,
}

impl Cluster<'_> {
    /// The nodes of `scenario`, which start with the first step.
    pub(crate) fn new(scenario: &Scenario, recorder: &Recorder) -> Result<Self, ConfigError> {
        let tick = Duration::from_millis(scenario.timing.tick_ms);
        let mut sim = turmoil::Builder::new()
            .rng_seed(scenario.seed)
            .epoch(SystemTime::UNIX_EPOCH)
            .enable_random_order()
            .tcp_capacity(TCP_CAPACITY)
            .tick_duration(tick)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::from_millis(scenario.timing.latency_ms))
            // The run's phases have limits of their own.
            .simulation_duration(Duration::MAX)
            .build();
        let mut nodes = BTreeMap::new();
        for number in 1..=scenario.nodes {
            let meddler = scenario.has_relays().then(|| Meddler::new(scenario.seed, number, recorder.clone()));
            let host = Host { meddler, ..Host::new(scenario.seed, number) };
            let node = Arc::new(Node {
                number,
                nature: DiskNature::new(Arc::clone(&host.random), scenario.timing.disk_us),
                host,
                config: node_config(scenario, number)?,
                recorder: recorder.clone(),
                state: Mutex::new(State {
                    disk: Arc::new(MemoryDisk::new(scenario.seed ^ number)),
                    kv: Arc::new(MemoryKv::new()),
                    boots: 0,
                    process: Process::Up { serves: false },
                    server: Weak::new(),
                    tasks: None,
                    most_tasks: 0,
                    known_segment: None,
                }),
                shut_down: Notify::new(),
                hand_over: Notify::new(),
            });
            let software = Arc::clone(&node);
            sim.host(host_name(number), move || {
                let node = Arc::clone(&software);
                let life = Pausable::new(Arc::clone(&node.host.pause), Box::pin(node.run()));
                async move {
                    life.await;
                    // The process has ended; the run takes the host down.
                    std::future::pending().await
                }
            });
            nodes.insert(number, node);
        }
        let links = Links::new(nodes.keys().map(|number| host_name(*number)));
        let random = Arc::new(SeededRandom::new(scenario.seed, RUN));
        Ok(Self { sim, nodes, links, random, seed: scenario.seed, clients: 0 })
    }

    /// Adds a host for a client, which does `work`, from its beginning again
    /// after a crash; the host's name.
    pub(crate) fn add_client<F, Fut>(&mut self, work: F) -> String
    where
        F: Fn(Host) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let number = self.clients;
        self.clients += 1;
        let name = format!("{CLIENT}{number}");
        let host = Host::new(self.seed, FIRST_CLIENT + number);
        self.sim.host(name.clone(), move || {
            let work = work(host.clone());
            async move {
                work.await;
                std::future::pending().await
            }
        });
        self.links.add(&name);
        name
    }

    /// Kills a client and starts it again.
    pub(crate) fn bounce_client(&mut self, name: &str) {
        self.sim.crash(name);
        self.sim.bounce(name);
    }

    /// A number that follows from the run's seed.
    pub(crate) fn draw(&self) -> u64 {
        self.random.next()
    }

    /// The simulated time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Ends a node's process at once.
    pub(crate) fn stop(&mut self, number: u64, how: Stop) {
        let draw = self.draw();
        self.nodes[&number].fence(self.elapsed(), how, draw);
        self.take_down(number, how);
    }

    /// Takes down the host of a node that was fenced.
    pub(crate) fn take_down(&mut self, number: u64, how: Stop) {
        let name = host_name(number);
        if how == Stop::PowerLost {
            // Nobody hears a word from a machine that has lost its power.
            self.links.unplug(&self.sim, &name);
        }
        self.sim.crash(name.as_str());
        // A process that is gone is not paused any more.
        self.links.let_go(&self.sim, &name);
        // What cut it off when it was fenced in the middle of its work.
        self.links.restore(&self.sim, &name);
    }

    /// Starts a process on a node that has none.
    pub(crate) fn start(&mut self, number: u64) {
        let name = host_name(number);
        self.links.plug(&self.sim, &name);
        self.sim.bounce(name.as_str());
    }

    /// Lets a node's process do nothing more until [`Self::resume`]: none of
    /// its tasks runs, and nothing that others sent reaches it. (What HTTP's
    /// own tasks do meanwhile does not leave it either.)
    pub(crate) fn pause(&mut self, number: u64) {
        self.nodes[&number].host.pause.begin();
        self.links.stop(&self.sim, &host_name(number));
    }

    /// Takes [`Self::pause`] back.
    pub(crate) fn resume(&mut self, number: u64) {
        self.links.let_go(&self.sim, &host_name(number));
        self.nodes[&number].host.pause.end();
    }

    /// Everything that names its nodes.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.keys().map(|number| address(*number)).collect()
    }
}

/// Whether a host of this name is a client's.
pub(crate) fn is_client(host: &str) -> bool {
    host.starts_with(CLIENT)
}

/// The number by which a history knows the client on this host.
pub(crate) fn client_number(host: &str) -> Option<u64> {
    Some(host.strip_prefix(CLIENT)?.parse::<u64>().ok()? + 1)
}

/// The name of a node's host.
pub(crate) fn host_name(node: u64) -> String {
    format!("node-{node}")
}

/// The node whose host has this name, if it is a node's.
pub(crate) fn node_of(host: &str) -> Option<u64> {
    host.strip_prefix("node-")?.parse().ok()
}

fn address(node: u64) -> String {
    format!("{}:{PORT}", host_name(node))
}

/// The configuration of a node of `scenario`.
pub(crate) fn node_config(scenario: &Scenario, node: u64) -> Result<ServerConfig, ConfigError> {
    let peers = (1..=scenario.nodes).map(|number| (NodeId::new(number), address(number))).collect();
    let draft = Draft::new().node(node).peers(peers);
    scenario.settings.iter().try_fold(draft, |draft, (key, value)| draft.set(key, *value))?.validate()
}
