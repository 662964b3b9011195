//! The steps of the story, in order. Each does one thing to the cluster, waits
//! for what has to come of it, and says what came.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quipu_sdk::{Client, ClientConfig, Environment, LogConfig, LogName, NodeId, ProducerConfig};
use quipu_server::local_cluster::{LocalCluster, LocalClusterConfig, LocalClusterError};

use super::appending::Appending;
use super::comparing::compare;
use super::input::Input;
use super::stage::{Stage, megabytes, seconds};
use super::watching::{Resync, Watcher};
use crate::cli::failure::{Failure, with_causes};
use quipu_server::output::{counted, grouped};

const NODES: u16 = 3;
const LOG: &str = "demo";
/// The largest batch; the nodes' journals are cut to it.
pub(super) const MAX_BATCH_BYTES: u32 = 4 << 20;
/// Small, so that three nodes on one disk have little to prepare.
const SEGMENT_BYTES: u32 = 32 << 20;
/// How much of the input has been sent when the leader is killed.
const KILL_AT_PERCENT: u64 = 40;
/// A node serves within this, or something is wrong.
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The cluster, the input, and where it is told.
pub(super) struct Story {
    environment: Environment,
    input: Input,
    cluster: LocalCluster,
    client: Client,
    log: LogName,
    stage: Stage,
}

/// What the conclusion tells of the kill.
struct Killed {
    node: NodeId,
    in_flight: u64,
    leaderless: Duration,
}

impl Story {
    /// Prepares everything and starts nothing.
    pub(super) async fn begin(
        input: Input,
        directory: PathBuf,
        base_port: Option<u16>,
        environment: Environment,
        stage: Stage,
    ) -> Result<Self, Failure> {
        let base_port = match base_port {
            Some(port) => port,
            None => free_ports(&environment).await?,
        };
        let program = std::env::current_exe().map_err(|error| Failure::system("find the quipu binary", &error))?;
        let config = LocalClusterConfig {
            program,
            nodes: NODES,
            data_directory: directory,
            base_port,
            base_http_port: None,
            arguments: vec![
                format!("--set=log.largest_max_batch_bytes={MAX_BATCH_BYTES}"),
                format!("--set=journal.segment_bytes={SEGMENT_BYTES}"),
            ],
        };
        let cluster = LocalCluster::new(config, environment.clone()).map_err(of_cluster)?;
        let client = Client::new(ClientConfig::new(cluster.addresses()), environment.clone())?;
        Ok(Self { environment, input, cluster, client, log: LOG.parse()?, stage })
    }

    pub(super) async fn tell(mut self) -> Result<(), Failure> {
        self.start().await?;
        let killed = self.append_and_kill().await?;
        self.bring_back(killed.node).await?;
        self.lose_a_disk(killed.node).await?;
        self.compare_every_copy().await?;
        self.cluster.stop(STOP_WITHIN).await.map_err(of_cluster)?;

        let (lines, bytes) = (grouped(self.input.lines), megabytes(self.input.bytes));
        let in_flight = counted(killed.in_flight, "append", "appends");
        let checked = [
            format!("{lines} lines were appended, and each was acknowledged: fsynced by two nodes of three"),
            format!("the leader was killed with {in_flight} in flight"),
            format!("the log was without a leader for {}", seconds(killed.leaderless)),
            "a node that lost its disk was brought up to date, under a new replica id".to_owned(),
            format!("each node's own copy holds the {lines} lines ({bytes}) once, in order, byte for byte"),
        ];
        self.stage.conclude("What was checked", &checked);
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Failure> {
        self.stage.step("Three nodes start, each a process with a data directory of its own");
        let started = self.now();
        for node in self.cluster.nodes() {
            let pid = self.cluster.start(node).map_err(of_cluster)?;
            self.stage.say(format_args!("node {node}  pid {pid}  {}", self.cluster.address(node)));
        }
        for node in self.cluster.nodes() {
            self.cluster.wait_until_serving(node, START_WITHIN).await.map_err(of_cluster)?;
        }
        self.stage.well(format_args!("they serve and agree on a catalog, after {}", self.since(started)));

        let config =
            LogConfig { replicas: Some(NODES.into()), max_batch_bytes: Some(MAX_BATCH_BYTES), ..LogConfig::default() };
        self.client.create_log(&self.log, config).await?;
        let (leader, term) = self.watcher().leader_other_than(None).await?;
        let text = format!("log {LOG:?} is created, with a replica on each; node {leader} leads it in term {term}");
        self.stage.well(text);
        Ok(())
    }

    async fn append_and_kill(&mut self) -> Result<Killed, Failure> {
        self.stage.step("Every line is appended, and in the middle of it the leader is killed");
        let started = self.now();
        let (leader, _) = self.watcher().leader_other_than(None).await?;
        let pid = self.cluster.pid(leader).unwrap_or_default();
        let producer = self.client.producer(&self.log, ProducerConfig::default())?;
        let bar = Stage::bar(self.input.lines, "lines acknowledged");
        let mut appending = Appending::new(&self.input, &producer, &self.environment, bar.clone()).await?;
        let window = counted(appending.max_in_flight() as u64, "append", "appends");
        self.stage.say(format_args!("one producer keeps {window} in flight"));

        appending.send_until(self.input.lines * KILL_AT_PERCENT / 100).await?;
        appending.take_longest_silence();
        let (acknowledged, in_flight) = (appending.acknowledged(), appending.in_flight() as u64);
        let killed_at = self.environment.clock.monotonic();
        self.cluster.kill(leader).await.map_err(of_cluster)?;
        let lines = counted(acknowledged, "line", "lines");
        let appends = counted(in_flight, "append", "appends");
        let text = format!("SIGKILL to node {leader} (pid {pid}), {lines} acknowledged, {appends} in flight");
        bar.suspend(|| self.stage.harm(text));

        let watcher = Watcher { client: &self.client, log: &self.log, environment: &self.environment };
        let clock = &self.environment.clock;
        let elected = async {
            let elected = watcher.leader_other_than(Some(leader)).await?;
            Ok::<_, Failure>((elected, clock.monotonic().saturating_sub(killed_at)))
        };
        let appended = async {
            appending.finish().await?;
            Ok(appending.take_longest_silence())
        };
        let ((elected, told), silence) = tokio::try_join!(elected, appended)?;
        bar.finish_and_clear();
        producer.close().await;

        // There was a leader once somebody said so, and once there was an
        // acknowledgement again.
        let leaderless = if in_flight > 0 { told.min(silence) } else { told };
        let ((new_leader, term), without) = (elected, seconds(leaderless));
        self.stage.well(format_args!("node {new_leader} leads in term {term}; there was no leader for {without}"));
        let (lines, took) = (self.input.lines, self.since(started));
        self.stage.well(format_args!("all {} lines are acknowledged, at 0..{lines}, after {took}", grouped(lines)));
        Ok(Killed { node: leader, in_flight, leaderless })
    }

    async fn bring_back(&mut self, node: NodeId) -> Result<(), Failure> {
        self.stage.step(format_args!("Node {node} comes back, with the data that it had"));
        let started = self.now();
        let pid = self.cluster.start(node).map_err(of_cluster)?;
        self.cluster.wait_until_serving(node, START_WITHIN).await.map_err(of_cluster)?;
        let took = self.since(started);
        self.stage.say(format_args!("pid {pid}; it serves after {took}"));
        self.watcher().caught_up(node).await?;
        let took = self.since(started);
        self.stage.well(format_args!("it has caught up after {took}"));
        Ok(())
    }

    /// Takes the disk of a node that was not killed yet and does not lead.
    async fn lose_a_disk(&mut self, killed: NodeId) -> Result<(), Failure> {
        let (leader, _) = self.watcher().leader_other_than(None).await?;
        let nodes = self.cluster.nodes();
        let victim = nodes.into_iter().find(|&node| node != leader && node != killed).unwrap_or(killed);
        self.stage.step(format_args!("Node {victim} loses its disk"));
        let lost = self.watcher().replica_on(victim).await?;
        let directory = self.cluster.data_directory(victim);
        let pid = self.cluster.pid(victim).unwrap_or_default();
        self.cluster.kill(victim).await.map_err(of_cluster)?;
        let bytes = megabytes(size_of(&directory));
        std::fs::remove_dir_all(&directory)
            .map_err(|error| Failure::system(format_args!("delete {}", directory.display()), &error))?;
        self.stage
            .harm(format_args!("SIGKILL to node {victim} (pid {pid}), and its data directory ({bytes}) is deleted"));

        let started = self.now();
        let pid = self.cluster.start(victim).map_err(of_cluster)?;
        self.stage.say(format_args!("started again with nothing, as pid {pid}"));
        let bar = Stage::bar(self.input.lines, "records resynced");
        let (environment, stage) = (&self.environment, &mut self.stage);
        let watcher = Watcher { client: &self.client, log: &self.log, environment };
        let since = || seconds(environment.clock.monotonic().saturating_sub(started));
        let tell = |progress, replica| {
            let text = match progress {
                Resync::Learns => {
                    format!("its peers know it; it joins as replica {replica} (it was {lost}), and learns")
                }
                Resync::CaughtUp => format!("replica {replica} has every record after {}", since()),
                Resync::Votes => format!("replica {replica} has every record and votes after {}", since()),
            };
            bar.suspend(|| stage.say(text));
        };
        let resynced = watcher.resynced(victim, lost, &bar, tell);
        let serves = async { self.cluster.wait_until_serving(victim, START_WITHIN).await.map_err(of_cluster) };
        tokio::try_join!(resynced, serves)?;
        bar.finish_and_clear();
        let (records, took) = (counted(self.input.lines, "record", "records"), self.since(started));
        self.stage.well(format_args!("{records} resynced, and replica {lost} removed, after {took}"));
        Ok(())
    }

    async fn compare_every_copy(&mut self) -> Result<(), Failure> {
        self.stage.step("Each node's own copy is compared with the input, byte for byte");
        for node in self.cluster.nodes() {
            self.watcher().caught_up(node).await?;
            let bar = Stage::bar(self.input.lines, "records compared");
            compare(&self.client, &self.log, node, &self.input, &bar).await?;
            bar.finish_and_clear();
            let (records, bytes) = (counted(self.input.lines, "record", "records"), grouped(self.input.bytes));
            self.stage.well(format_args!("node {node}: {records}, {bytes} bytes, equal"));
        }
        Ok(())
    }

    fn watcher(&self) -> Watcher<'_> {
        Watcher { client: &self.client, log: &self.log, environment: &self.environment }
    }

    fn now(&self) -> Duration {
        self.environment.clock.monotonic()
    }

    fn since(&self, start: Duration) -> String {
        seconds(self.now().saturating_sub(start))
    }
}

fn of_cluster(error: LocalClusterError) -> Failure {
    Failure::Refused(with_causes(&error))
}

/// The first of three free ports in a row.
async fn free_ports(environment: &Environment) -> Result<u16, Failure> {
    for first in (7101..8000).step_by(10) {
        let mut listeners = Vec::new();
        for port in first..first + NODES {
            listeners.extend(environment.network.listen(&format!("127.0.0.1:{port}")).await.ok());
        }
        if listeners.len() == usize::from(NODES) {
            return Ok(first);
        }
    }
    Err(Failure::Refused("no three free ports in a row from 7101 to 8000: name some with --base-port".to_owned()))
}

/// The bytes of all files under `directory`, as far as they can be seen.
fn size_of(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
