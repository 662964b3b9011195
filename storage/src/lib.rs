//! Bytes at rest: the journal, the metadata beside it, and the two seams
//! through which all of them reach a machine.
//!
//! ```text
//!   journal ──► Disk  (submit and complete)   SystemDisk │ MemoryDisk
//!      │
//!      └──────► Kv    (a cache of the journal) RocksKv   │ MemoryKv
//! ```
//!
//! Synchronous throughout. Knows neither an async runtime nor Raft: groups,
//! replicas, terms and indexes are numbers here, and what they are for is
//! decided above.
#![forbid(unsafe_code)]

pub mod disk;
pub mod identity;
pub mod journal;
pub mod kv;

pub use disk::{Access, AlignedBuffer, Completion, Disk, FileId, Lane, MemoryDisk, Operation, Outcome, SystemDisk};
pub use kv::{Batch, Kv, KvError, MemoryKv, RocksKv, Space};
