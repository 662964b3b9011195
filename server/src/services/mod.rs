//! The gRPC services of a node: they check what comes in, hand it to the node,
//! and say what came of it in the terms of `quipu.v1`.
//!
//! Nothing in here decides about consensus or storage. Whatever is refused is
//! refused with a typed [`v1::Error`](quipu_protocol::v1::Error) that names the
//! bound or the reason, and has changed nothing.

mod append;
mod cluster;
mod cursors;
mod follow;
mod fresh;
mod leases;
mod operator;
mod read;
mod reader_groups;
mod records;
mod refusals;
mod tallies;
mod windows;
mod writers;

use std::sync::Arc;

use quipu_protocol::environment::Environment;
use quipu_protocol::{LogId, LogName, NodeId, v1};
use quipu_raft::RaftNode;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::config::Settings;
use crate::listener::Permits;

pub(crate) use cluster::ClusterService;
pub(crate) use cursors::CursorsService;
pub(crate) use operator::OperatorService;
pub(crate) use reader_groups::ReaderGroupsService;
pub(crate) use records::RecordsService;
pub(crate) use tallies::{REASONS, Tallies};
pub(crate) use windows::Windows;

/// The largest message that a node takes: the largest batch and what goes
/// around it.
pub(crate) const MAX_MESSAGE_BYTES: usize = MAX_BATCH_BYTES + MESSAGE_OVERHEAD_BYTES;
/// No log can be configured for larger batches.
const MAX_BATCH_BYTES: usize = 64 << 20;
/// A log's name and the framing of a message's fields, generously.
const MESSAGE_OVERHEAD_BYTES: usize = 64 << 10;

/// What the services have in common.
pub(crate) struct Shared {
    pub(crate) node: RaftNode,
    pub(crate) node_id: NodeId,
    pub(crate) settings: Settings,
    pub(crate) environment: Environment,
    /// Cancelled when the node is asked to end: streams that would go on for
    /// ever end then.
    pub(crate) ending: CancellationToken,
    /// Every request of a client that is being answered holds a token of it.
    pub(crate) busy: TaskTracker,
    /// What the Append streams have in flight.
    pub(crate) windows: Arc<Windows>,
    /// What the services have done.
    pub(crate) tallies: Arc<Tallies>,
    /// The open connections of clients and peers, and those for HTTP.
    pub(crate) connections: Permits,
    pub(crate) http_connections: Permits,
}

/// What is answered once the node is asked to end.
fn ending() -> v1::Error {
    v1::Error::unavailable("the node is shutting down")
}

fn log_name(name: &str) -> Result<LogName, v1::Error> {
    Ok(name.parse::<LogName>()?)
}

/// The log that a request's field `log_id` means; 0 means any.
fn log_id(id: u64) -> Option<LogId> {
    Some(id).filter(|id| *id != 0).map(LogId::new)
}

/// A refusal as an RPC's status.
fn status(error: impl Into<v1::Error>) -> Status {
    Status::from(error.into())
}

pub(crate) type SharedNode = Arc<Shared>;
