//! `quipu up`: a local cluster of real nodes, one process each.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use clap::Args;
use quipu_protocol::NodeId;
use quipu_protocol::environment::Environment;
use quipu_server::local_cluster::{LocalCluster, LocalClusterConfig, LocalClusterError};

use super::signals::Signals;
use super::{REFUSED, complain};

/// A node that does not serve after this long is mentioned, and waited for on.
const SLOW_START: Duration = Duration::from_secs(15);
/// Asked to end, a node that takes longer than this is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// The nodes answer HTTP so many ports after the ones they serve on.
const HTTP_PORTS_AFTER: u16 = 100;
/// With --restart: between a node's end and its next start.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// Run a cluster of real nodes on this machine.
///
/// Node i listens on 127.0.0.1, port BASE_PORT+i-1, answers HTTP (/metrics,
/// /healthz, /readyz) on port BASE_PORT+100+i-1, and keeps its data in
/// DIRECTORY/node-i and its log in DIRECTORY/node-i.log. A line is printed for
/// each node once it serves. Ctrl-C or SIGTERM ends them all; run again on the
/// same directory, the cluster goes on where it was.
#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    /// How many nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    nodes: u16,
    /// Where the nodes keep their data; created when absent.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// The first node's port.
    #[arg(long, value_name = "PORT", default_value_t = 7001)]
    base_port: u16,
    /// Start a node again when it has ended by itself or was killed.
    #[arg(long)]
    restart: bool,
    /// A TOML file with settings for every node (see docs/quipu.example.toml).
    #[arg(long, value_name = "FILE", env = "QUIPU_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Change one setting of every node. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// What the nodes log.
    #[arg(long, value_name = "LEVEL", env = "QUIPU_LOG", hide_env_values = true, default_value = "info")]
    log: String,
}

impl UpArguments {
    fn cluster(&self, environment: Environment) -> Result<LocalCluster, LocalClusterError> {
        let program = std::env::current_exe()
            .map_err(|source| LocalClusterError::System { what: "find the quipu binary".to_owned(), source })?;
        let http = self.base_port.checked_add(HTTP_PORTS_AFTER);
        let http = http.ok_or_else(|| LocalClusterError::Config {
            reason: format!(
                "HTTP is answered {HTTP_PORTS_AFTER} ports after --base-port {}: none is left",
                self.base_port
            ),
        })?;
        let mut arguments = vec![format!("--log={}", self.log)];
        arguments.extend(self.config.iter().map(|file| format!("--config={}", file.display())));
        arguments.extend(self.settings.iter().map(|setting| format!("--set={setting}")));
        let config = LocalClusterConfig {
            program,
            nodes: self.nodes,
            data_directory: self.data_dir.clone(),
            base_port: self.base_port,
            base_http_port: Some(http),
            arguments,
        };
        LocalCluster::new(config, environment)
    }
}

pub(crate) async fn run(arguments: UpArguments) -> ExitCode {
    let environment = quipu_sdk::system::environment();
    let started = arguments.cluster(environment.clone()).map_err(|error| error.to_string());
    let (mut cluster, mut signals) = match (started, Signals::listen()) {
        (Ok(cluster), Ok(signals)) => (cluster, signals),
        (Err(error), _) => return refuse(&error),
        (_, Err(error)) => return refuse(&error.to_string()),
    };
    // Asked to end, the nodes are ended in any state of their start.
    let outcome = tokio::select! {
        biased;
        _ = signals.next() => Ok(()),
        outcome = supervise(&mut cluster, &environment, arguments.restart) => outcome,
    };
    let stopped = cluster.stop(STOP_WITHIN).await;
    match outcome.and(stopped.map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

/// Starts every node, then watches over them. Returns only when there is
/// nothing left to watch over.
async fn supervise(cluster: &mut LocalCluster, environment: &Environment, restart: bool) -> Result<(), String> {
    let in_use = |error| format!("{error}; does another cluster run there? Name another port with --base-port");
    cluster.addresses_are_free().await.map_err(in_use)?;
    for node in cluster.nodes() {
        cluster.start(node).map_err(|error| error.to_string())?;
    }
    for node in cluster.nodes() {
        announce_once_it_serves(cluster, node).await.map_err(|error| error.to_string())?;
    }
    loop {
        let (node, status) = cluster.ended().await.map_err(|error| error.to_string())?;
        let log = cluster.log_file(node);
        let told = format!("node {node} ended ({status}); its log is {}", log.display());
        if restart {
            complain(&format!("{told}; starting it again"));
            start_again(cluster, environment, node).await?;
        } else {
            complain(&told);
            if !cluster.is_running() {
                return Err("no node is left".to_owned());
            }
        }
    }
}

async fn start_again(cluster: &mut LocalCluster, environment: &Environment, node: NodeId) -> Result<(), String> {
    loop {
        environment.clock.sleep(RESTART_AFTER).await;
        cluster.start(node).map_err(|error| error.to_string())?;
        match announce_once_it_serves(cluster, node).await {
            Err(LocalClusterError::Ended { status, .. }) => complain_of_start(node, status),
            other => return other.map_err(|error| error.to_string()),
        }
    }
}

fn complain_of_start(node: NodeId, status: ExitStatus) {
    complain(&format!("node {node} ended before it served ({status}); starting it again"));
}

async fn announce_once_it_serves(cluster: &mut LocalCluster, node: NodeId) -> Result<(), LocalClusterError> {
    loop {
        match cluster.wait_until_serving(node, SLOW_START).await {
            // Still starting: a majority may be missing, or much to replay.
            Err(error @ LocalClusterError::NotServing { .. }) => complain(&error.to_string()),
            Err(error) => return Err(error),
            Ok(()) => break,
        }
    }
    let (pid, address) = (cluster.pid(node).unwrap_or_default(), cluster.address(node));
    let mut output = std::io::stdout().lock();
    // A reader that has gone away is no reason to end the cluster.
    let _ = writeln!(output, "node {node} pid {pid} address {address}").and_then(|()| output.flush());
    Ok(())
}

fn refuse(error: &str) -> ExitCode {
    complain(error);
    ExitCode::from(REFUSED)
}
