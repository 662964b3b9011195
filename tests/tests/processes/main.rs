//! Stories over real `quipu serve` processes and a real disk.
//!
//! One binary, since linking it is what takes time; a module a theme. Run one
//! theme with `cargo test --release -p quipu-tests --test processes failover::`.
#![forbid(unsafe_code)]

mod administration;
mod command_line;
mod configuration;
mod cursors;
mod damage;
mod data_directory;
mod disk_loss;
mod durability;
mod failover;
mod groups;
mod network;
mod power;
mod refusals;
mod rot_under_load;
mod shutdown;
mod space;
mod trimming;
mod up;
mod writers;
