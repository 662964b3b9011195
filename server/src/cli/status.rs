//! `quipu status`: the nodes.

use std::io::Write as _;

use clap::Args;
use quipu_sdk::{Client, ClusterStatus, NodeId, NodeState, NodeStatus};
use serde::Serialize;

use super::failure::Failure;
use quipu_server::output::{self, Table, counted};

/// Show the nodes and the number of logs.
///
/// A node is up, down (does not answer its peers) or resyncing (has lost its
/// data and is being brought up to date). `damaged` counts the logs' replicas on
/// it with entries that rotted, `refetched` the entries that it has fetched from
/// others in place of such since it started. `clock` is how far its clock is
/// ahead of the median of its peers'; `held`: it trims no log by age, since that
/// is too far or nothing is known of their clocks.
#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: &StatusArguments, client: &Client) -> Result<(), Failure> {
    let status = client.status().await?;
    if arguments.json {
        output::print_json(&JsonStatus::from(&status))?;
        return Ok(());
    }
    let mut table = Table::new(["node", "address", "state", "version", " damaged", " refetched", "clock"]);
    for node in &status.nodes {
        table.row([
            &node.id,
            &node.address,
            &state_name(node.state),
            &node.version,
            &node.damaged_replicas,
            &node.refetched_entries,
            &clock(node),
        ]);
    }
    let mut output = output::for_people();
    table.write(&mut output, "")?;
    let leader = match status.catalog_leader {
        Some(node) => format!("node {node} leads the catalog"),
        None => "the catalog has no leader".to_owned(),
    };
    writeln!(output, "{}, {leader}", counted(status.logs, "log", "logs"))?;
    Ok(())
}

fn clock(node: &NodeStatus) -> String {
    let ahead = node.clock_ahead_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:+} ms"));
    if node.age_retention_held { format!("{ahead} (held)") } else { ahead }
}

#[derive(Serialize)]
struct JsonStatus<'a> {
    nodes: Vec<JsonNode<'a>>,
    logs: u64,
    catalog_leader: Option<u64>,
    /// As text: a number in JSON cannot be relied on to hold 64 bits.
    cluster: String,
}

#[derive(Serialize)]
struct JsonNode<'a> {
    id: u64,
    address: &'a str,
    state: &'static str,
    version: &'a str,
    damaged: u64,
    refetched: u64,
    clock_ahead_ms: Option<i64>,
    age_retention_held: bool,
}

impl<'a> From<&'a ClusterStatus> for JsonStatus<'a> {
    fn from(status: &'a ClusterStatus) -> Self {
        let nodes = status.nodes.iter().map(|node| JsonNode {
            id: node.id.get(),
            address: &node.address,
            state: state_name(node.state),
            version: &node.version,
            damaged: node.damaged_replicas,
            refetched: node.refetched_entries,
            clock_ahead_ms: node.clock_ahead_ms,
            age_retention_held: node.age_retention_held,
        });
        Self {
            nodes: nodes.collect(),
            logs: status.logs,
            catalog_leader: status.catalog_leader.map(NodeId::get),
            cluster: status.cluster.to_string(),
        }
    }
}

const fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Down => "down",
        NodeState::Resyncing => "resyncing",
        NodeState::Unknown => "unknown",
    }
}
