//! A cluster and its clients under one seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quipu_protocol::NodeId;
use quipu_protocol::environment::Environment;
use quipu_sdk::{Client, ClientConfig};
use quipu_server::config::{ConfigError, Draft, ServerConfig};
use quipu_server::{NodeEnvironment, Server};
use quipu_storage::{Disk, Kv, MemoryDisk, MemoryKv};

use crate::Trace;
use crate::clock::SimulatedClock;
use crate::network::SimulatedNetwork;
use crate::random::SeededRandom;
use crate::tasks::HostTasks;

/// How a simulation or a part of it ends.
pub type Outcome = turmoil::Result;

/// Every node listens on this port of its own host.
const PORT: u16 = 7001;
/// A step of the simulation: every host runs for so long at a time.
const TICK: Duration = Duration::from_millis(1);
/// A simulation that takes longer than this has failed.
const LIMIT: Duration = Duration::from_secs(120);
/// What a connection holds, in segments, before its writer waits.
const TCP_CAPACITY: usize = 65_536;
/// Random numbers of clients come after those of the nodes.
const FIRST_CLIENT: u64 = 1 << 32;

/// A cluster and its clients under one seed.
pub struct Simulation<'a> {
    sim: turmoil::Sim<'a>,
    seed: u64,
    trace: Trace,
    peers: BTreeMap<NodeId, String>,
    clients: u64,
}

impl Simulation<'_> {
    /// A cluster of `nodes` nodes, under `seed`.
    ///
    /// # Errors
    /// When the nodes' configuration is refused.
    pub fn new(seed: u64, nodes: u64) -> Result<Self, ConfigError> {
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH)
            .enable_random_order()
            .tcp_capacity(TCP_CAPACITY)
            .tick_duration(TICK)
            .simulation_duration(LIMIT)
            .build();
        let peers = (1..=nodes).map(|node| (NodeId::new(node), format!("{}:{PORT}", host(node)))).collect();
        let mut simulation = Self { sim, seed, trace: Trace::default(), peers, clients: 0 };
        for node in 1..=nodes {
            simulation.start_node(node)?;
        }
        Ok(simulation)
    }

    fn start_node(&mut self, node: u64) -> Result<(), ConfigError> {
        let config = config(node, &self.peers)?;
        let (trace, random) = (self.trace.clone(), Arc::new(SeededRandom::new(self.seed, node)));
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(self.seed ^ node));
        let kv: Arc<dyn Kv> = Arc::new(MemoryKv::new());
        self.sim.host(host(node), move || {
            let kv = Arc::clone(&kv);
            let outside = NodeEnvironment {
                environment: environment(&random),
                disk: Arc::clone(&disk),
                kv: Arc::new(move || Ok(Arc::clone(&kv))),
                // The simulation's process is not the node's.
                cpu_micros: Arc::new(|| 0),
            };
            let (config, trace) = (config.clone(), trace.clone());
            async move {
                let server = Server::start(config, outside).await?;
                server.ready().await?;
                trace.record(format_args!("node {node} serves"));
                Err(server.failed().await.into())
            }
        });
        Ok(())
    }

    /// Adds a client; the simulation ends when all clients have.
    pub fn client<F, Fut>(&mut self, work: F)
    where
        F: FnOnce(Client, Trace) -> Fut + 'static,
        Fut: Future<Output = Outcome> + 'static,
    {
        let number = self.clients;
        self.clients += 1;
        let random = Arc::new(SeededRandom::new(self.seed, FIRST_CLIENT + number));
        let config = ClientConfig::new(self.peers.values().cloned());
        let trace = self.trace.clone();
        self.sim.client(format!("client-{number}"), async move {
            let client = Client::new(config, environment(&random))?;
            work(client, trace).await
        });
    }

    /// Runs until every client has ended, and tells what happened.
    ///
    /// # Errors
    /// When a client or a node fails, or it takes longer than two simulated
    /// minutes.
    pub fn run(mut self) -> turmoil::Result<Trace> {
        self.sim.run()?;
        Ok(self.trace)
    }
}

fn host(node: u64) -> String {
    format!("node-{node}")
}

fn environment(random: &Arc<SeededRandom>) -> Environment {
    let random = Arc::clone(random);
    Environment {
        clock: Arc::new(SimulatedClock),
        random,
        tasks: Arc::new(HostTasks),
        network: Arc::new(SimulatedNetwork),
    }
}

/// Small segments: a disk in memory has to hold them.
fn config(node: u64, peers: &BTreeMap<NodeId, String>) -> Result<ServerConfig, ConfigError> {
    Draft::new()
        .node(node)
        .peers(peers.clone())
        .set("journal.segment_bytes", 4 << 20)?
        .set("log.largest_max_batch_bytes", 2 << 20)?
        .validate()
}
