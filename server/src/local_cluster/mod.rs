//! A cluster of real node processes on this machine.
//!
//! Starts, kills, awaits and stops `quipu serve` processes; `quipu up` and
//! `quipu demo` are written over it. Holds no policy: whether a node that
//! ended is started again is its caller's choice.
//!
//! ```text
//!   DIRECTORY/node-1      data of node 1, on 127.0.0.1:BASE_PORT; HTTP, where it
//!                         is wanted, on 127.0.0.1:BASE_HTTP_PORT
//!   DIRECTORY/node-1.log  what it said
//!   DIRECTORY/node-2      data of node 2, on 127.0.0.1:BASE_PORT+1
//!   …
//! ```

mod health;
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{self, Either};
use quipu_protocol::NodeId;
use quipu_protocol::environment::Environment;

use self::process::NodeProcess;
use crate::config::MAX_NODES;

/// What the cluster is made of.
#[derive(Clone, Debug)]
pub struct LocalClusterConfig {
    /// The `quipu` binary; `std::env::current_exe()` inside the binary itself.
    pub program: PathBuf,
    /// How many nodes, numbered from 1.
    pub nodes: u16,
    /// Node i keeps its data in `node-i` and its log in `node-i.log` of this.
    pub data_directory: PathBuf,
    /// Node i listens on 127.0.0.1, this port + i − 1.
    pub base_port: u16,
    /// Node i answers HTTP on 127.0.0.1, this port + i − 1, if there is one.
    pub base_http_port: Option<u16>,
    /// More arguments for every `quipu serve`, such as `--set KEY=VALUE`.
    pub arguments: Vec<String>,
}

/// The node processes of a local cluster. Dropping it kills those that run.
pub struct LocalCluster {
    config: LocalClusterConfig,
    environment: Environment,
    /// Invariant: what is in here has been started and not yet been seen to
    /// have ended.
    running: BTreeMap<NodeId, NodeProcess>,
}

/// Why a local cluster could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LocalClusterError {
    /// The shape makes no sense.
    #[error("{reason}")]
    Config {
        /// Which bound or relation is broken.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There is no such node, or it runs where it should not, or the reverse.
    #[error("node {node} {state}")]
    State {
        /// Which node.
        node: NodeId,
        /// What it is.
        state: &'static str,
    },
    /// The node ended before it served.
    #[error("node {node} ended before it served ({status}); {} ends with:\n{log_tail}", log.display())]
    Ended {
        /// Which node.
        node: NodeId,
        /// How it ended.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        log_tail: String,
    },
    /// The node runs but does not serve yet.
    #[error("node {node} does not serve after {waited:?}; see {}", log.display())]
    NotServing {
        /// Which node.
        node: NodeId,
        /// How long it was waited for.
        waited: Duration,
        /// Its log file.
        log: PathBuf,
    },
}

impl LocalCluster {
    /// Prepares the directory; starts nothing.
    pub fn new(mut config: LocalClusterConfig, environment: Environment) -> Result<Self, LocalClusterError> {
        let (nodes, first) = (config.nodes, config.base_port);
        let refused = |reason| Err(LocalClusterError::Config { reason });
        if nodes == 0 || usize::from(nodes) > MAX_NODES {
            return refused(format!("{nodes} nodes: 1 to {MAX_NODES} are possible"));
        }
        for port in [first].into_iter().chain(config.base_http_port) {
            if port == 0 || port.checked_add(nodes - 1).is_none() {
                return refused(format!("base port {port}: {nodes} ports from it on have to lie in 1..=65535"));
            }
        }
        if let Some(http) = config.base_http_port
            && http.abs_diff(first) < nodes
        {
            return refused(format!(
                "{nodes} nodes: the ports from {first} on would meet those for HTTP, from {http} on"
            ));
        }
        let what = || format!("use the directory {}", config.data_directory.display());
        let directory = std::fs::create_dir_all(&config.data_directory)
            .and_then(|()| config.data_directory.canonicalize())
            .map_err(|source| LocalClusterError::System { what: what(), source })?;
        config.data_directory = directory;
        Ok(Self { config, environment, running: BTreeMap::new() })
    }

    /// The nodes' numbers.
    pub fn nodes(&self) -> Vec<NodeId> {
        (1..=u64::from(self.config.nodes)).map(NodeId::new).collect()
    }

    /// Where a node serves, `127.0.0.1:port`.
    pub fn address(&self, node: NodeId) -> String {
        format!("127.0.0.1:{}", u64::from(self.config.base_port) + node.get() - 1)
    }

    /// Every node's address: a client's bootstrap list.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes().into_iter().map(|node| self.address(node)).collect()
    }

    /// Where a node answers HTTP, `127.0.0.1:port`, if it does.
    pub fn http_address(&self, node: NodeId) -> Option<String> {
        self.config.base_http_port.map(|first| format!("127.0.0.1:{}", u64::from(first) + node.get() - 1))
    }

    /// A node's data directory.
    pub fn data_directory(&self, node: NodeId) -> PathBuf {
        self.config.data_directory.join(format!("node-{node}"))
    }

    /// The file that a node's log goes to.
    pub fn log_file(&self, node: NodeId) -> PathBuf {
        self.config.data_directory.join(format!("node-{node}.log"))
    }

    /// A node's process id, while it runs.
    pub fn pid(&self, node: NodeId) -> Option<u32> {
        self.running.get(&node).and_then(NodeProcess::pid)
    }

    /// Makes sure that no other process serves where the nodes are to: it would
    /// answer in their place.
    pub async fn addresses_are_free(&self) -> Result<(), LocalClusterError> {
        let http = self.nodes().into_iter().filter_map(|node| self.http_address(node));
        for address in self.addresses().into_iter().chain(http) {
            let listened = self.environment.network.listen(&address).await;
            listened.map_err(|source| system(format!("listen on {address}"), source))?;
        }
        Ok(())
    }

    /// Whether any node's process runs.
    pub fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Starts a node's process and returns its process id at once.
    pub fn start(&mut self, node: NodeId) -> Result<u32, LocalClusterError> {
        if !self.nodes().contains(&node) {
            return Err(LocalClusterError::State { node, state: "is none of this cluster" });
        }
        if self.running.contains_key(&node) {
            return Err(LocalClusterError::State { node, state: "runs already" });
        }
        let (arguments, log) = (self.serve_arguments(node), self.log_file(node));
        let process = NodeProcess::start(&self.config.program, &arguments, &log)
            .map_err(|source| system(format!("start node {node} as {}", self.config.program.display()), source))?;
        // Only a process that was waited for has no id any more.
        let pid = process.pid().unwrap_or_default();
        self.running.insert(node, process);
        Ok(pid)
    }

    fn serve_arguments(&self, node: NodeId) -> Vec<String> {
        let peers: Vec<String> = self.nodes().iter().map(|&peer| format!("{peer}={}", self.address(peer))).collect();
        let mut arguments = vec![
            "serve".to_owned(),
            format!("--node-id={node}"),
            format!("--listen={}", self.address(node)),
            format!("--peers={}", peers.join(",")),
            format!("--data-dir={}", text(&self.data_directory(node))),
        ];
        arguments.extend(self.http_address(node).map(|address| format!("--http={address}")));
        // The nodes share this machine's cores.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        arguments.push(format!("--threads={}", (cores / usize::from(self.config.nodes)).clamp(1, 1024)));
        arguments.extend(self.config.arguments.iter().cloned());
        arguments
    }

    /// Waits until a node's health is SERVING, at most for `limit`. A node
    /// that ends meanwhile is an error that shows the end of its log.
    pub async fn wait_until_serving(&mut self, node: NodeId, limit: Duration) -> Result<(), LocalClusterError> {
        let (address, log) = (self.address(node), self.log_file(node));
        let environment = self.environment.clone();
        let Some(process) = self.running.get_mut(&node) else {
            return Err(LocalClusterError::State { node, state: "does not run" });
        };
        let status = {
            let ended = pin!(process.ended());
            let serving = pin!(environment.clock.timeout(limit, health::serving(&environment, &address)));
            match future::select(ended, serving).await {
                Either::Left((status, _)) => status,
                Either::Right((Ok(Ok(())), _)) => return Ok(()),
                Either::Right((Ok(Err(error)), _)) => {
                    return Err(LocalClusterError::Config { reason: error.to_string() });
                }
                Either::Right((Err(_), _)) => return Err(LocalClusterError::NotServing { node, waited: limit, log }),
            }
        };
        self.running.remove(&node);
        let status = status.map_err(|source| system(format!("wait for node {node}"), source))?;
        let log_tail = process::tail(&log);
        Err(LocalClusterError::Ended { node, status, log, log_tail })
    }

    /// Ends a node with SIGKILL, as a crash of its process does, and waits
    /// until it is gone.
    pub async fn kill(&mut self, node: NodeId) -> Result<(), LocalClusterError> {
        let Some(mut process) = self.running.remove(&node) else {
            return Err(LocalClusterError::State { node, state: "does not run" });
        };
        process.kill().await.map_err(|source| system(format!("kill node {node}"), source))
    }

    /// Waits until some node's process has ended by itself; for ever when none
    /// runs. Safe to give up and to call again.
    pub async fn ended(&mut self) -> Result<(NodeId, ExitStatus), LocalClusterError> {
        if self.running.is_empty() {
            return future::pending().await;
        }
        let each = self.running.iter_mut().map(|(&node, process)| async move { (node, process.ended().await) }.boxed());
        let ((node, status), ..) = future::select_all(each).await;
        self.running.remove(&node);
        let status = status.map_err(|source| system(format!("wait for node {node}"), source))?;
        Ok((node, status))
    }

    /// Asks every node to end (SIGTERM), waits for `grace`, kills those left.
    pub async fn stop(&mut self, grace: Duration) -> Result<(), LocalClusterError> {
        let mut failed = None;
        for (node, process) in &self.running {
            if let Err(source) = process.terminate() {
                failed = Some(system(format!("end node {node}"), source));
            }
        }
        let clock = self.environment.clock.clone();
        let all = async {
            while self.is_running() {
                self.ended().await?;
            }
            Ok(())
        };
        match clock.timeout(grace, all).await {
            Ok(ended) => ended?,
            Err(_) => {
                for node in self.nodes() {
                    if self.running.contains_key(&node) {
                        self.kill(node).await?;
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn system(what: String, source: std::io::Error) -> LocalClusterError {
    LocalClusterError::System { what, source }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
