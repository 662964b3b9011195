//! `quipu log-level`: what nodes log, while they run.

use clap::Args;
use quipu_sdk::{Client, LogFilterChange, NodeId, NodeState, RequestError};
use quipu_server::output::{self, Table};
use serde::Serialize;

use super::complain;
use super::failure::Failure;

/// Show or change what nodes log, without starting them again.
///
/// A change lasts until the next one or until the node's process ends: what a
/// node logs when it starts is what `--log` or QUIPU_LOG says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quipu log-level
  quipu log-level debug --node 2
  quipu log-level info,quipu_raft=debug")]
pub(crate) struct LogLevelArguments {
    /// A level (off, error, warn, info, debug, trace) or directives such as
    /// info,quipu_raft=debug. Unless given, nothing is changed.
    filter: Option<String>,
    /// Only this node. Unless given, every node that answers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    node: Option<u64>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Changed {
    node: u64,
    before: String,
    now: String,
}

pub(crate) async fn run(arguments: &LogLevelArguments, client: &Client) -> Result<(), Failure> {
    // Also tells the client where the nodes are.
    let status = client.status().await?;
    let nodes: Vec<NodeId> = status.nodes.iter().map(|node| node.id).collect();
    let down = |asked: NodeId| status.nodes.iter().any(|it| it.id == asked && it.state == NodeState::Down);
    let chosen = arguments.node.map(NodeId::new);
    if let Some(node) = chosen.filter(|node| !nodes.contains(node)) {
        let known: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        return Err(Failure::Refused(format!("there is no node {node}; there are {}", known.join(", "))));
    }
    let asked = nodes.into_iter().filter(|node| chosen.is_none_or(|chosen| chosen == *node));
    // Nobody waits for a node that is known to be down.
    let (unreachable, asked): (Vec<NodeId>, Vec<NodeId>) = asked.partition(|node| down(*node));
    for node in unreachable {
        let told = format!("node {node} is down, and logs as before");
        if chosen.is_some() {
            return Err(Failure::Refused(told));
        }
        complain(&told);
    }
    let filter = arguments.filter.as_deref();
    let answers = asked.iter().map(|node| async { (*node, client.log_filter(*node, filter).await) });
    let answers: Vec<(NodeId, Result<LogFilterChange, RequestError>)> = futures_util::future::join_all(answers).await;
    let mut changed = Vec::new();
    let mut failure = None;
    for (node, answer) in answers {
        match answer {
            Ok(LogFilterChange { before, now }) => changed.push(Changed { node: node.get(), before, now }),
            Err(error) => {
                let told = Failure::from(error).after(format!("node {node}"));
                if let Some(earlier) = failure.replace(told) {
                    complain(Failure::message(&earlier).unwrap_or_default());
                }
            }
        }
    }
    print(&changed, arguments.json)?;
    failure.map_or(Ok(()), Err)
}

fn print(changed: &[Changed], json: bool) -> Result<(), Failure> {
    if json {
        return Ok(output::print_json(&changed)?);
    }
    if changed.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["node", "before", "now"]);
    for Changed { node, before, now } in changed {
        table.row([node, before, now]);
    }
    table.write(&mut output::for_people(), "")?;
    Ok(())
}
