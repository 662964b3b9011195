//! Whole clusters in one thread, from a seed: every fault that can be thought
//! of, and checks of everything that clients were promised.
//!
//! ```text
//!   seed ─▶ Scenario ─▶ run ─▶ Record ─▶ kept? ─▶ yes: the next seed
//!                        │                    └─▶ no: a bundle with a timeline,
//!      Server::start ────┤                            shrunk to what it takes
//!      quipu_sdk::Client ┤
//!      storage, unchanged┘
//! ```
//!
//! The nodes are assembled as in a process, by the same `Server::start`; only
//! what comes from outside (time, chance, tasks, network, disk) is the
//! simulator's. The same scenario gives the same run, byte for byte.
//!
//! This is the only crate that names turmoil, and nothing imports it.
#![forbid(unsafe_code)]

#[cfg(not(tokio_unstable))]
compile_error!(
    "simulated runs repeat only with `--cfg tokio_unstable`; RUSTFLAGS in the environment replace those of .cargo/config.toml"
);

pub mod bundle;
pub mod checkers;
mod cluster;
mod environment;
pub mod event;
pub mod faults;
pub mod history;
mod links;
pub mod marks;
pub mod points;
pub mod promises;
pub mod recorder;
mod relay;
pub mod run;
pub mod scenario;
mod segments;
pub mod shrink;
#[cfg(test)]
mod sources;
pub mod timeline;
pub mod violation;
mod workloads;
