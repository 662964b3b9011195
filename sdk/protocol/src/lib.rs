//! The contract between everything that speaks of a log.
//!
//! Holds the words (identifiers, offsets), the wire (`.proto` files and the
//! record batch) and the [`environment`] through which time, chance, tasks
//! and the network are reached. Does no I/O of its own: whoever assembles a
//! program passes the real environment or the simulated one in.
#![forbid(unsafe_code)]

#[cfg(not(tokio_unstable))]
compile_error!(
    "build with `--cfg tokio_unstable` (see .cargo/config.toml; a RUSTFLAGS variable overrides that file): \
     without it a simulated run cannot be repeated"
);

pub mod batch;
mod carried_commits;
mod cursor_name;
pub mod environment;
pub mod errors;
mod identifiers;
mod log_name;
mod log_pattern;
mod offset;
mod read_response;
mod reader_group_name;
pub mod trace;
pub mod transport;

pub use cursor_name::{CursorName, CursorNameError};
pub use identifiers::{
    BootCount, ClusterId, Generation, Incarnation, Index, LogId, MemberId, NodeId, ProducerEpoch, ProducerId,
    ReplicaId, Sequence, Term, Timestamp, WriterEpoch,
};
pub use log_name::{LogName, LogNameError};
pub use log_pattern::LogPattern;
pub use offset::{Offset, OffsetRange};
pub use reader_group_name::{ReaderGroupName, ReaderGroupNameError};

/// The code generated from `proto/quipu`, laid out as its packages are.
mod generated {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]

    pub mod v1 {
        tonic::include_proto!("quipu.v1");

        pub use crate::read_response::ReadResponse;
    }
    pub mod peer {
        pub mod v1 {
            tonic::include_proto!("quipu.peer.v1");
        }
    }
    pub mod stored {
        pub mod v1 {
            tonic::include_proto!("quipu.stored.v1");
        }
    }
}

/// Messages and services between nodes: package `quipu.peer.v1`.
pub use generated::peer::v1 as peer;
/// What entries and metadata look like at rest: package `quipu.stored.v1`.
pub use generated::stored::v1 as stored;
/// Messages and services of the public API: package `quipu.v1`.
pub use generated::v1;

/// The public API's description, an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/quipu.v1.descriptors"));
