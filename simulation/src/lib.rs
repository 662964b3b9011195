//! Whole clusters in one thread, from a seed.
//!
//! ```text
//!   seed ─▶ network, latencies, order of hosts (turmoil)
//!        └▶ every node's and client's random numbers
//!
//!   node-1 ─ Server::start ─ disk and key-value store in memory
//!   node-2 ─ …                   the same assembly as in a process
//!   client ─ quipu_sdk::Client
//! ```
//!
//! Time stands still but for what is waited for. The same seed gives the same
//! [`Trace`], byte for byte, in every process; what draws on anything but the
//! seed shows as a difference of traces.
//!
//! This is the only crate that names turmoil.
#![forbid(unsafe_code)]

pub mod checkers;
mod clock;
pub mod event;
pub mod history;
mod network;
mod random;
mod simulation;
mod tasks;
mod trace;
pub mod violation;

pub use simulation::{Outcome, Simulation};
pub use trace::Trace;
