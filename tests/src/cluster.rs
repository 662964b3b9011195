//! A cluster of real processes on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use quipu_protocol::{LogName, NodeId, ReplicaId};
use quipu_sdk::{Client, ClientConfig, LogConfig, LogDescription, ReplicaRole, ReplicaState, system};
use tempfile::TempDir;

use crate::binary::scratch;
use crate::{Appender, Auditor, Command, Copies, Forgetful, Hosts, Ledger, Node, Ports, Stall, eventually};

/// Settings of every node, unless a test says otherwise: segments of the
/// journal are so small that a test's data spans many of them and that a
/// starting node writes little ahead. A segment holds the largest batch.
const SETTINGS: [(&str, u64); 2] = [("journal.segment_bytes", 4 << 20), ("log.largest_max_batch_bytes", 2 << 20)];

/// A cluster under test. Dropping it kills its nodes and removes their data.
pub struct Cluster {
    nodes: Vec<Node>,
    stalls: Vec<Stall>,
    hosts: Option<Hosts>,
    disk: Option<Forgetful>,
    client: Client,
    directory: TempDir,
    ports: Ports,
}

/// What a cluster is to be like.
pub struct ClusterShape {
    nodes: u16,
    settings: BTreeMap<String, u64>,
    stallable: bool,
    on_hosts: bool,
    with_http: bool,
    disk_bytes: Option<u64>,
}

impl ClusterShape {
    /// A setting of every node, as `quipu serve --set` takes it.
    #[must_use]
    pub fn setting(mut self, key: &str, value: u64) -> Self {
        self.settings.insert(key.to_owned(), value);
        self
    }

    /// Lets every node's fdatasync be held back, see [`Cluster::stall`].
    #[must_use]
    pub fn stallable(mut self) -> Self {
        self.stallable = true;
        self
    }

    /// Gives every node a host of its own, see [`Cluster::hosts`].
    #[must_use]
    pub fn on_hosts(mut self) -> Self {
        self.on_hosts = true;
        self
    }

    /// Lets every node answer HTTP, see [`Cluster::http_of`].
    #[must_use]
    pub fn with_http(mut self) -> Self {
        self.with_http = true;
        self
    }

    /// Gives all nodes one disk of so many bytes that forgets what was not
    /// fsynced, see [`Cluster::lose_power`].
    #[must_use]
    pub fn on_forgetful_disk(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }

    /// Makes the directories; starts nothing.
    pub fn prepare(self) -> Cluster {
        let ports = Ports::take();
        let directory = tempfile::Builder::new().prefix("cluster-").tempdir_in(scratch()).expect("a scratch directory");
        let hosts = self.on_hosts.then(|| Hosts::make(self.nodes, ports.number()));
        let disk = self.disk_bytes.map(|bytes| {
            std::fs::create_dir(directory.path().join("disk")).expect("the directory is new");
            Forgetful::mount(&directory.path().join("disk"), bytes)
        });
        let below = if disk.is_some() { directory.path().join("disk") } else { directory.path().to_owned() };
        let address = |i: u16| match &hosts {
            None => format!("127.0.0.1:{}", ports.get(i)),
            Some(hosts) => format!("{}:{}", hosts.address(NodeId::new(u64::from(i) + 1)), ports.get(i)),
        };
        let peers: Vec<String> = (0..self.nodes).map(|i| format!("{}={}", i + 1, address(i))).collect();
        let stalls: Vec<Stall> = match self.stallable {
            true => (0..self.nodes).map(|i| Stall::at(&directory.path().join(format!("stall-{}", i + 1)))).collect(),
            false => Vec::new(),
        };
        let node = |i: u16| {
            let id = NodeId::new(u64::from(i) + 1);
            let data: PathBuf = below.join(format!("node-{id}"));
            let mut arguments: Vec<OsString> = ["serve", "--node-id", &id.to_string(), "--listen", &address(i)]
                .iter()
                .map(OsString::from)
                .chain(["--peers".into(), peers.join(",").into(), "--data-dir".into(), data.clone().into()])
                .collect();
            for (key, value) in &self.settings {
                arguments.extend(["--set".into(), format!("{key}={value}").into()]);
            }
            if self.with_http {
                arguments.extend(["--http".into(), format!("127.0.0.1:{}", ports.http(i)).into()]);
            }
            let variables = stalls.get(usize::from(i)).map(Stall::variables).unwrap_or_default();
            let namespace = hosts.as_ref().map(|hosts| hosts.namespace(id));
            Node::new(id, address(i), data, directory.path(), arguments, variables).within(namespace)
        };
        let nodes = (0..self.nodes).map(node).collect();
        let bootstrap: Vec<String> = (0..self.nodes).map(address).collect();
        let client = Client::new(ClientConfig::new(bootstrap), system::environment()).expect("a client");
        Cluster { nodes, stalls, hosts, disk, client, directory, ports }
    }

    /// Starts all nodes and waits until they serve.
    pub async fn start(self) -> Cluster {
        let cluster = self.prepare();
        cluster.start_all().await;
        cluster
    }
}

impl Cluster {
    /// A cluster of so many nodes, yet to be started.
    pub fn of(nodes: u16) -> ClusterShape {
        let settings = SETTINGS.iter().map(|&(key, value)| (key.to_owned(), value)).collect();
        ClusterShape { nodes, settings, stallable: false, on_hosts: false, with_http: false, disk_bytes: None }
    }

    /// So many nodes that serve.
    pub async fn start(nodes: u16) -> Self {
        Self::of(nodes).start().await
    }

    /// A client of it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Kills every node and takes the power from their disk. Answers how many
    /// changes of files and directories were lost with it.
    ///
    /// # Panics
    /// When it was not made [`ClusterShape::on_forgetful_disk`].
    pub fn lose_power(&self) -> usize {
        self.kill_all();
        self.disk.as_ref().expect("the cluster was not made `on_forgetful_disk`").lose_power()
    }

    /// The hosts of its nodes.
    ///
    /// # Panics
    /// When it was not made [`ClusterShape::on_hosts`].
    pub fn hosts(&self) -> &Hosts {
        self.hosts.as_ref().expect("the cluster was not made `on_hosts`")
    }

    /// Where its nodes keep their data.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its ports; the nodes have the first ones.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Where a node answers HTTP, if the cluster was made
    /// [`ClusterShape::with_http`].
    pub fn http_of(&self, node: &Node) -> String {
        let number = u16::try_from(node.id().get()).expect("a small number");
        format!("127.0.0.1:{}", self.ports.http(number - 1))
    }

    /// Its nodes, by number.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node, by its number from 1.
    pub fn node(&self, number: u64) -> &Node {
        self.nodes.iter().find(|node| node.id().get() == number).unwrap_or_else(|| panic!("there is no node {number}"))
    }

    /// Starts every node that does not run, and waits until all serve.
    pub async fn start_all(&self) {
        for node in self.nodes.iter().filter(|node| !node.runs()) {
            node.start();
        }
        join_all(self.nodes.iter().map(Node::serves)).await;
    }

    /// SIGKILL to every node, one right after the other.
    pub fn kill_all(&self) {
        for node in &self.nodes {
            node.kill();
        }
    }

    /// Creates a log with the default configuration.
    pub async fn create(&self, log: &str) -> LogName {
        self.create_with(log, LogConfig::default()).await
    }

    /// Creates a log.
    pub async fn create_with(&self, log: &str, config: LogConfig) -> LogName {
        let name: LogName = log.parse().expect("a log's name");
        let created = self.client.create_log(&name, config).await.unwrap_or_else(|e| panic!("create {log}: {e:?}"));
        assert!(created.created, "{log} existed before");
        name
    }

    /// Creates the log if need be and appends to it from now on.
    pub async fn keeps_appending_to(&self, log: &str) -> Appender {
        let name: LogName = log.parse().expect("a log's name");
        self.client.create_log(&name, LogConfig::default()).await.unwrap_or_else(|e| panic!("create {log}: {e:?}"));
        Appender::start(&self.client, &name)
    }

    /// Reads a log from now on.
    pub fn keeps_reading(&self, log: &str) -> Auditor {
        Auditor::start(&self.client, &log.parse().expect("a log's name"))
    }

    /// Appends so many records and waits until all are acknowledged.
    pub async fn appends(&self, log: &str, records: u64) -> Ledger {
        let appender = self.keeps_appending_to(log).await;
        appender.has_acknowledged(records).await;
        appender.stop().await
    }

    /// What the cluster says of a log.
    pub async fn describe(&self, log: &str) -> LogDescription {
        let name: LogName = log.parse().expect("a log's name");
        self.client.describe_log(&name).await.unwrap_or_else(|error| panic!("describe {log}: {error:?}"))
    }

    /// The node that leads a log, once there is one that runs.
    pub async fn leader_of(&self, log: &str) -> &Node {
        let name: LogName = log.parse().expect("a log's name");
        let leader = eventually(&format!("{log} has a leader"), async || {
            let description = self.client.describe_log(&name).await.map_err(|error| format!("{error:?}"))?;
            description.leader.filter(|id| self.node(id.get()).runs()).ok_or_else(|| format!("{description:?}"))
        })
        .await;
        self.node(leader.get())
    }

    /// A node that has a replica of a log and does not lead it.
    pub async fn follower_of(&self, log: &str) -> &Node {
        let leader = self.leader_of(log).await.id();
        let description = self.describe(log).await;
        let follower = description.replicas.iter().find(|replica| replica.node != leader).expect("a second replica");
        self.node(follower.node.get())
    }

    /// The id of a node's replica of a log.
    pub async fn replica_of(&self, log: &str, node: &Node) -> ReplicaId {
        let description = self.describe(log).await;
        description.replicas.iter().find(|replica| replica.node == node.id()).expect("a replica on the node").replica
    }

    /// Waits until every replica of a log runs, votes and lacks nothing, there
    /// are `count` of them, and none has an id out of `gone`.
    pub async fn is_whole(&self, log: &str, count: usize, gone: &BTreeSet<ReplicaId>) -> LogDescription {
        let name: LogName = log.parse().expect("a log's name");
        eventually(&format!("{log} is whole again"), async || {
            let description = self.client.describe_log(&name).await.map_err(|error| format!("{error:?}"))?;
            let replicas = &description.replicas;
            let votes = |role| matches!(role, Some(ReplicaRole::Leader | ReplicaRole::Follower));
            let whole = replicas.len() == count
                && description.leader.is_some()
                && replicas.iter().all(|r| votes(r.role) && r.state == ReplicaState::Running && r.lag == 0)
                && replicas.iter().all(|r| !gone.contains(&r.replica));
            if whole { Ok(description) } else { Err(format!("{description:?}")) }
        })
        .await
    }

    /// What each replica's own committed copy holds, up to the log's end as of now.
    pub async fn each_replica_reads(&self, log: &str) -> Copies {
        Copies::read(self, log).await
    }

    /// Holds every fdatasync of a node back until the answer is dropped.
    pub fn stall(&self, node: &Node) -> crate::shim::Held<'_> {
        let number = usize::try_from(node.id().get()).expect("a small number");
        self.stalls.get(number - 1).expect("the cluster was not made `stallable`").hold()
    }

    /// `quipu` with these arguments, told where the cluster is.
    pub fn quipu<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let bootstrap: Vec<&str> = self.nodes.iter().map(Node::address).collect();
        Command::new(arguments).variable("QUIPU_BOOTSTRAP", &bootstrap.join(","))
    }
}
