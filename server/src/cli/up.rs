//! `quipu up`: a local cluster of real nodes, one process each.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Run a cluster of real nodes on this machine.
///
/// Node i listens on 127.0.0.1, port BASE_PORT+i-1, and keeps its data in
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
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change one setting of every node. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// What the nodes log.
    #[arg(long, value_name = "LEVEL", env = "QUIPU_LOG", default_value = "info")]
    log: String,
}

pub(crate) async fn run(_arguments: UpArguments) -> ExitCode {
    todo!()
}
