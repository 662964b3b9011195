//! The IDENTITY file: which cluster, node and disk a data directory belongs
//! to.

use std::io;

use quipu_protocol::environment::Random;
use quipu_protocol::{ClusterId, NodeId, stored};

use crate::disk::Disk;

/// The newest format of a data directory that this build reads and the one
/// that it writes.
pub const FORMAT_VERSION: u32 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A newer build wrote it.
    #[error("the data directory has format version {found}; this build reads up to {supported}")]
    NewerVersion {
        /// The version of the data directory.
        found: u32,
        /// The newest that this build knows.
        supported: u32,
    },
    /// The file is not what was written, or is gone.
    #[error("the data directory's identity is damaged: {reason}")]
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
    /// It belongs to another node.
    #[error("the data directory belongs to node {found}, not to node {expected}")]
    OtherNode {
        /// Whose it is.
        found: NodeId,
        /// Who wanted to use it.
        expected: NodeId,
    },
    /// It belongs to another cluster.
    #[error("the data directory belongs to cluster {found:016x}, not to cluster {expected:016x}", found = found.get(), expected = expected.get())]
    OtherCluster {
        /// Whose it is.
        found: ClusterId,
        /// Which cluster was expected.
        expected: ClusterId,
    },
    /// The disk failed.
    #[error("cannot {operation} the data directory's identity")]
    Io {
        /// What was being done: read or write.
        operation: &'static str,
        /// What the disk said.
        source: io::Error,
    },
}

/// A data directory that was opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Its identity, with this start counted in; durable.
    pub identity: stored::Identity,
    /// Whether the directory was empty and has just been given its identity.
    pub is_new: bool,
}

/// Opens the data directory of `node`: an empty one gets an identity with a
/// new incarnation, another one has its boot count raised; either is durable
/// on return. Call it before anything else is put into the directory.
///
/// # Errors
/// As [`IdentityError`] has them; a directory that holds data and no identity
/// is damaged. A directory that has not joined a cluster yet fits any.
pub fn open(
    _disk: &dyn Disk,
    _random: &dyn Random,
    _node: NodeId,
    _cluster: Option<ClusterId>,
) -> Result<Opened, IdentityError> {
    todo!()
}

/// Reads the identity; `None` if there is none.
///
/// # Errors
/// As [`IdentityError`] has them.
pub fn read(_disk: &dyn Disk) -> Result<Option<stored::Identity>, IdentityError> {
    todo!()
}

/// Replaces the identity, atomically; durable on return.
///
/// # Errors
/// When the disk fails.
pub fn write(_disk: &dyn Disk, _identity: &stored::Identity) -> Result<(), IdentityError> {
    todo!()
}
