//! A node: the assembly of journal, Raft groups and gRPC services, how it is
//! configured, and what it tells its operator.
//!
//! ```text
//!   quipu serve ──┐                       ┌── Records   append, read, offsets
//!   simulator   ──┼─▶ Server::start ──────┼── Cluster   logs, nodes, producers
//!   tests       ──┘    one listener       ├── Peers     between nodes (quipu-raft)
//!                      one RaftNode       ├── Operator  what concerns this node alone
//!                                         ├── grpc.health.v1, grpc.reflection.v1
//!                                         └── HTTP: /metrics, /healthz, /readyz
//! ```
//!
//! There is exactly one assembly of a node, [`Server::start`]; what differs
//! between a process, a test and a simulation is the [`NodeEnvironment`] that
//! is passed in. This crate decides nothing about consensus and stores
//! nothing by itself.
#![forbid(unsafe_code)]

pub mod config;
mod exporter;
mod footprint;
mod health;
mod http;
mod listener;
pub mod local_cluster;
#[doc(hidden)]
pub mod output;
mod reflection;
mod server;
mod services;
pub mod system;
pub mod telemetry;

pub use server::{Failure, KvFactory, NodeEnvironment, Server, StartError};
