//! Agreement between replicas: the only crate that names openraft.
//!
//! ```text
//!   LogReplica          append queue, reads           catalog
//!        └──── Group ──────────────────────────────────┘
//!               ├ MachineStore   a Machine, applied and kept in Kv
//!               ├ LogStore       one replica's share of the journal
//!               └ openraft       who leads, what is committed
//! ```
//!
//! A [`Machine`] is pure: the same commands give the same state on every
//! replica. Everything with an edge (journal, [`Kv`](quipu_storage::Kv),
//! network, clock) is passed in by whoever starts a [`Group`].
#![forbid(unsafe_code)]

mod bootstrap;
pub mod catalog;
mod clocks;
mod command;
mod entry;
#[doc(hidden)]
pub mod fuzzing;
pub mod group;
pub mod log;
mod log_store;
pub mod machine;
pub mod node;
mod peers;
mod reconcile;
pub mod registrar;
pub mod runtime;
mod traces;
pub mod types;

pub use clocks::{NodeClock, Skew};
pub use group::{Freshness, Group, GroupOptions, GroupStatus, ProposeError, Role, StartError, StopReason};
pub use log::{
    AppendError, Appended, CURSOR_EXPIRY_MS, CommandError, Cursor, CursorAction, CursorError, CursorTotals, CursorView,
    Lease, LeaseError, LeaseRefused, LeaseTotals, LogMachine, LogOptions, LogReplica, LogSettings, MAX_CARRIED_BYTES,
    MAX_CARRIED_COMMITS, MAX_CURSOR_METADATA_BYTES, MAX_CURSORS, MAX_HOLDER_BYTES, MAX_LEASE_HOLDER_BYTES, MAX_LEASES,
    NotTaken, OnLeases, Pinned, REMEMBERED_GRANTS, REMEMBERED_RENEWALS, REQUEST_ID_BYTES, ReadChunk, ReadError,
    Retained, Retention, Sought, Terms, TrimError, WriterStatus, next_producer_id,
};
pub use log_store::LogStore;
pub use machine::{Floor, Machine, MachineError, MachineStore, Row};
pub use node::{NodeConfig, RaftNode};
pub use peers::PeersService;
pub use types::{
    Acquired, BatchOutcome, Command, CommandOutcome, CursorAnswer, CursorRefusal, Member, Raft, Reply, Resolution,
    Trimmed, TypeConfig,
};
