//! `quipu serve`: one node.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Run one node of a cluster.
///
/// The node serves until it gets SIGINT or SIGTERM; it then hands its
/// leaderships over, lets requests finish and exits with 0. Settings come
/// from the defaults, then the file, then the flags.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// This node's number in the cluster, 1 and up.
    #[arg(long, value_name = "N")]
    node_id: Option<u64>,
    /// Listen here, host:port. Other nodes and clients reach the node at its
    /// own entry of --peers, which may differ (behind NAT, say).
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Every node of the cluster, this one too: 1=host:port,2=host:port,…
    #[arg(long, value_name = "ID=ADDRESS,…")]
    peers: Option<String>,
    /// Where the node keeps everything; created when absent, used by one
    /// process at a time.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// A TOML file with any of these and the settings of
    /// docs/quipu.example.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change one setting, such as journal.segment_bytes=67108864. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// What to log: error, warn, info, debug, trace, or directives such as
    /// info,quipu_raft=debug.
    #[arg(long, value_name = "LEVEL", env = "QUIPU_LOG", default_value = "info")]
    log: String,
    /// End at once when this process, the parent, is gone.
    #[arg(long, value_name = "PID", hide = true)]
    ends_with: Option<i32>,
}

pub(crate) async fn run(_arguments: ServeArguments) -> ExitCode {
    todo!()
}
