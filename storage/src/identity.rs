//! The IDENTITY file: which cluster, node and disk a data directory belongs
//! to, and how often it was started.
//!
//! ```text
//!   0         8          12        16            24
//!   │ QUIPUID\0 │ version  │ length  │ checksum    │ quipu.stored.v1.Identity, then zeros to a block
//!               └ u32 ─────┴ u32 ────┘ u64, XXH3 of version, length and message
//! ```
//!
//! Integers are little-endian. This head stays the same in every version, so
//! that an older build can tell a newer directory from a damaged one.
//!
//! The file is the first thing in a data directory, and replaced atomically:
//! a directory with data and without an identity has lost it, which is damage
//! and not a fresh start. A node that came back under its old name without
//! its data would vote against its own word (a lost disk comes back as a new
//! incarnation).

use std::hash::Hasher;
use std::io::{self, ErrorKind};

use bytes::Buf;
use prost::Message;
use quipu_protocol::environment::Random;
use quipu_protocol::{ClusterId, NodeId, stored};
use twox_hash::XxHash3_64;

use crate::disk::{ALIGNMENT, Disk, read_whole_file, write_whole_file};

/// The format of data directories that this build writes, and the newest that
/// it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The file's path in the data directory.
pub const IDENTITY_FILE: &str = "IDENTITY";

/// The longest identity, in bytes: some thousand peers.
pub const MAX_IDENTITY_BYTES: usize = 1024 * 1024;

/// What is never there before the identity is.
const DATA_DIRECTORIES: [&str; 2] = ["journal", "metadata"];

const MAGIC: [u8; 8] = *b"QUIPUID\0";
const HEAD_BYTES: usize = 24;

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
        reason: &'static str,
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
    #[error("the data directory belongs to cluster {found}, not to cluster {expected}")]
    OtherCluster {
        /// Whose it is.
        found: ClusterId,
        /// Which cluster was expected.
        expected: ClusterId,
    },
    /// More than [`MAX_IDENTITY_BYTES`].
    #[error("an identity of {bytes} bytes is above the bound of {MAX_IDENTITY_BYTES}")]
    TooLarge {
        /// How long it would be.
        bytes: usize,
    },
    /// The disk failed.
    #[error("cannot {operation} the data directory's identity")]
    Io {
        /// What was being done: look for, read or write.
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
/// `cluster` is the one that the node is expected to be in, if that is known;
/// a directory that has not joined a cluster yet fits any.
///
/// # Errors
/// As [`IdentityError`] has them; the directory is unchanged then.
pub fn open(
    disk: &dyn Disk,
    random: &dyn Random,
    node: NodeId,
    cluster: Option<ClusterId>,
) -> Result<Opened, IdentityError> {
    let (identity, is_new) = match read(disk)? {
        Some(identity) => (started_again(identity, node, cluster)?, false),
        None => {
            check_empty(disk)?;
            (first_started(random, node), true)
        }
    };
    write(disk, &identity)?;
    Ok(Opened { identity, is_new })
}

/// Reads the identity; `None` if there is none.
///
/// # Errors
/// As [`IdentityError`] has them.
pub fn read(disk: &dyn Disk) -> Result<Option<stored::Identity>, IdentityError> {
    let content = match read_whole_file(disk, IDENTITY_FILE) {
        Err(error) if error.kind() == ErrorKind::FileTooLarge => return Err(damaged("it is far too long")),
        read => read.map_err(|source| IdentityError::Io { operation: "read", source })?,
    };
    content.map(|content| decode(&content)).transpose()
}

/// Replaces the identity, atomically; durable on return.
///
/// # Errors
/// [`IdentityError::TooLarge`], and when the disk fails.
pub fn write(disk: &dyn Disk, identity: &stored::Identity) -> Result<(), IdentityError> {
    let content = encode(identity)?;
    write_whole_file(disk, IDENTITY_FILE, &content)
        .map_err(|source| IdentityError::Io { operation: "write", source })?;
    quipu_protocol::point!("identity-written");
    Ok(())
}

/// The file's content.
///
/// # Errors
/// [`IdentityError::TooLarge`].
pub fn encode(identity: &stored::Identity) -> Result<Vec<u8>, IdentityError> {
    assert_eq!(identity.version, FORMAT_VERSION, "an identity names the format that it is written in");
    let message = identity.encode_to_vec();
    let bytes = message.len();
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= MAX_IDENTITY_BYTES);
    let Some(length) = length else { return Err(IdentityError::TooLarge { bytes }) };
    let mut content = Vec::with_capacity(HEAD_BYTES + bytes);
    content.extend(MAGIC);
    content.extend(FORMAT_VERSION.to_le_bytes());
    content.extend(length.to_le_bytes());
    content.extend(checksum(FORMAT_VERSION, length, &message).to_le_bytes());
    content.extend(message);
    content.resize(content.len().next_multiple_of(ALIGNMENT), 0);
    Ok(content)
}

/// The identity that a file's content holds.
///
/// # Errors
/// [`IdentityError::NewerVersion`] and [`IdentityError::Damaged`].
pub fn decode(content: &[u8]) -> Result<stored::Identity, IdentityError> {
    if content.len() < HEAD_BYTES {
        return Err(damaged("it is too short"));
    }
    let (mut head, rest) = content.split_at(HEAD_BYTES);
    let mut magic = [0; MAGIC.len()];
    head.copy_to_slice(&mut magic);
    let (version, length, sum) = (head.get_u32_le(), head.get_u32_le(), head.get_u64_le());
    if magic != MAGIC {
        return Err(damaged("it does not begin as an identity does"));
    }
    let parts = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (message, padding) = parts.ok_or(damaged("it is cut short"))?;
    if checksum(version, length, message) != sum {
        return Err(damaged("its checksum does not match"));
    }
    // Only now is the version a version and not a flipped bit.
    if version > FORMAT_VERSION {
        return Err(IdentityError::NewerVersion { found: version, supported: FORMAT_VERSION });
    }
    if !content.len().is_multiple_of(ALIGNMENT) || padding.len() >= ALIGNMENT || padding.iter().any(|byte| *byte != 0) {
        return Err(damaged("it does not end as it was written"));
    }
    let identity = stored::Identity::decode(message).map_err(|_| damaged("it cannot be decoded"))?;
    if version != FORMAT_VERSION || identity.version != version {
        return Err(damaged("it names a format that never was"));
    }
    Ok(identity)
}

fn first_started(random: &dyn Random, node: NodeId) -> stored::Identity {
    stored::Identity {
        version: FORMAT_VERSION,
        node: node.get(),
        // 0 is what messages say when they know none.
        incarnation: random.next().max(1),
        boot_count: 1,
        ..stored::Identity::default()
    }
}

fn started_again(
    mut identity: stored::Identity,
    node: NodeId,
    cluster: Option<ClusterId>,
) -> Result<stored::Identity, IdentityError> {
    if identity.node != node.get() {
        return Err(IdentityError::OtherNode { found: NodeId::new(identity.node), expected: node });
    }
    let joined = Some(ClusterId::new(identity.cluster_id)).filter(|cluster| cluster.get() != 0);
    if let (Some(found), Some(expected)) = (joined, cluster)
        && found != expected
    {
        return Err(IdentityError::OtherCluster { found, expected });
    }
    identity.boot_count = identity.boot_count.checked_add(1).ok_or(damaged("its boot count is at its end"))?;
    Ok(identity)
}

fn check_empty(disk: &dyn Disk) -> Result<(), IdentityError> {
    for directory in DATA_DIRECTORIES {
        match disk.list(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(names) if names.is_empty() => {}
            Ok(_) => return Err(damaged("there is data in the directory, but no identity")),
            Err(source) => return Err(IdentityError::Io { operation: "look for", source }),
        }
    }
    Ok(())
}

/// Over what follows the magic: the two fields as they lie there, the message.
fn checksum(version: u32, length: u32, message: &[u8]) -> u64 {
    let mut hasher = XxHash3_64::new();
    hasher.write(&version.to_le_bytes());
    hasher.write(&length.to_le_bytes());
    hasher.write(message);
    hasher.finish()
}

fn damaged(reason: &'static str) -> IdentityError {
    IdentityError::Damaged { reason }
}

#[cfg(test)]
mod tests;
