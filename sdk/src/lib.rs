//! The client of Quipu, a replicated commit log.
//!
//! A [`Client`] knows a cluster, a [`Producer`] appends to one of its logs, a
//! [`Reader`] reads one. Each of them finds leaders, waits elections out and
//! tries again by itself, so that a failing node is no error here.
//!
//! ```no_run
//! use quipu_sdk::{Client, ClientConfig, LogConfig, LogName, ProducerConfig, ReaderConfig, system};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(ClientConfig::new(["127.0.0.1:7001"]), system::environment())?;
//! let log: LogName = "orders".parse()?;
//! client.create_log(&log, LogConfig::default()).await?;
//!
//! let producer = client.producer(&log, ProducerConfig::default())?;
//! let range = producer.append(vec![producer.record("first"), producer.record("second")]).await?;
//! println!("appended at {range}");
//!
//! let mut reader = client.reader(&log, ReaderConfig::default())?;
//! while let Some(record) = reader.next().await? {
//!     println!("{} {:?}", record.offset, record.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What holds:
//!
//! - An offset that an append returns is on stable storage on a majority of
//!   the log's replicas.
//! - An idempotent producer (the default) lands each batch at most once and in
//!   the order of its calls, whatever it has to retry. An outcome that cannot
//!   be known is said to be unknown: [`AppendError::OutcomeUnknown`].
//! - A reader yields contiguous offsets, or an error.
//!
//! Nothing here reads a clock, draws a random number, starts a task or opens a
//! socket but through the [`Environment`]; [`system::environment`] is the
//! operating system's.
#![forbid(unsafe_code)]

mod client;
mod cluster;
mod config;
mod cursors;
mod errors;
mod freshness;
mod groups;
mod leases;
mod listing;
mod log_ref;
mod logs;
mod nodes;
mod producer;
mod reader;
pub mod system;
mod trims;
mod wire;
mod writers;

pub use client::Client;
pub use config::{ClientConfig, ConfigError, Consistency, From, OnTrimmed, ProducerConfig, ReaderConfig};
pub use cursors::{Cursor, CursorCommit, CursorDescription, CursorRefusal};
pub use errors::{
    AlterLogError, AppendError, CreateLogError, CursorError, DeleteLogError, FailedAttempt, GroupError, LogError,
    ReadError, RequestError, SendError, TrimError, WriterError,
};
pub use freshness::{Barrier, Freshness, LocalOffsets};
pub use groups::{
    Committed, GroupConfig, GroupDescription, GroupMember, GroupReader, GroupRecords, GroupShare, GroupSummary,
    PositionError, Positions, ReaderGroup,
};
pub use leases::{Lease, LeaseError};
pub use listing::Logs;
pub use log_ref::LogRef;
pub use logs::{
    AlteredLog, CreatedLog, LogAlteration, LogConfig, LogDescription, LogSummary, OffsetAt, ReplicaDescription,
    ReplicaRole, ReplicaState, Writers,
};
pub use nodes::{ClusterStatus, JournalCounters, LogFilterChange, NodeState, NodeStatus, ServiceCounters};
pub use producer::{Append, Delivery, Producer};
pub use reader::{ReadRecord, Reader};
pub use trims::Trimmed;
pub use writers::{AcquiredWriter, AppendId, Resolution, WriterDescription};

pub use quipu_protocol::batch::{Codecs, Compression, Header, Record};
pub use quipu_protocol::environment::Environment;
pub use quipu_protocol::trace::{TraceContext, TraceContextError};
pub use quipu_protocol::{
    CursorName, CursorNameError, Generation, LogId, LogName, LogNameError, LogPattern, MemberId, NodeId, Offset,
    OffsetRange, ProducerEpoch, ProducerId, ReaderGroupName, ReaderGroupNameError, Sequence, Timestamp, WriterEpoch,
};
