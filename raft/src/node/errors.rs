//! What can go wrong with a node, by operation.

use quipu_protocol::{ClusterId, NodeId, v1};
use quipu_storage::KvError;
use quipu_storage::identity::IdentityError;
use quipu_storage::journal::OpenError;

use super::ConfigError;

/// A node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeStartError {
    /// Its configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its data directory says what it is in a way that cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The data directory is a member of a cluster and has lost its journal.
    #[error(
        "the data directory's journal is gone, and with it what this node has promised; remove the whole data \
         directory to let the node join again"
    )]
    JournalGone,
    /// The data directory's journal ends before what it held when the node last
    /// started: somebody put an old copy in its place, or the disk lost what
    /// it had said was stored.
    #[error(
        "the data directory's journal ends with commit {found}, and held commit {remembered} when this node last \
         started: it is an old copy, and what this node has promised since is gone; remove the whole data directory \
         to let the node join again"
    )]
    JournalOlder {
        /// Its last commit.
        found: u64,
        /// What was its last commit at the last start.
        remembered: u64,
    },
    /// The metadata store cannot be opened.
    #[error("cannot open the node's metadata: {0}")]
    Metadata(#[from] KvError),
    /// Files of the data directory's journal are missing, cut, exchanged or
    /// unreadable: votes may be gone with them, of which no peer has a copy.
    #[error(
        "the data directory's journal is not whole, so that what this node has promised may be gone: {0}; put back the \
         file as it was, or remove the whole data directory to let the node join again"
    )]
    JournalSpoiled(OpenError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(OpenError),
}

impl From<OpenError> for NodeStartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Older { found, remembered } => Self::JournalOlder { found, remembered },
            OpenError::ManifestDamaged { .. }
            | OpenError::ManifestMissing { .. }
            | OpenError::ManifestOlder { .. }
            | OpenError::SegmentMissing { .. }
            | OpenError::SegmentLength { .. }
            | OpenError::Unreadable { .. }
            | OpenError::WrongSegment { .. } => Self::JournalSpoiled(error),
            OpenError::Config(_)
            | OpenError::Disk { .. }
            | OpenError::NewerVersion { .. }
            | OpenError::Foreign { .. }
            | OpenError::Index(_) => Self::Journal(error),
        }
    }
}

/// Why a node cannot go on. The process should end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The journal failed: what is on its disk is not known any more. Never
    /// retried.
    #[error("the journal failed: {reason}")]
    Journal {
        /// What the journal said.
        reason: String,
    },
    /// The journal or the identity could not be opened or written.
    #[error("opening the data directory: {reason}")]
    Storage {
        /// What failed.
        reason: String,
    },
    /// The cluster does not take this node; it will not by itself, either.
    #[error("node {by} refuses this one: {reason}")]
    Refused {
        /// Who said so.
        by: NodeId,
        /// Why.
        reason: String,
    },
    /// The data directory is of one cluster, the peers are of another. Nothing
    /// was changed in either.
    #[error("the data directory is of cluster {own}, but {} of cluster {theirs}", are(.nodes))]
    OtherCluster {
        /// The data directory's.
        own: ClusterId,
        /// The peers'.
        theirs: ClusterId,
        /// The peers that said so.
        nodes: Vec<NodeId>,
    },
    /// This node's replica of the catalog stopped.
    #[error("the catalog's replica stopped: {reason}")]
    Catalog {
        /// Why.
        reason: String,
    },
}

/// A log could not be created.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CreateLogError {
    /// The request is refused; nothing was changed. Says which bound or reason.
    #[error("{}", .0.message)]
    Refused(v1::Error),
    /// The catalog could not be reached in time. Creating again is safe.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// A log could not be changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChangeLogError {
    /// There is no log of that name.
    #[error("there is no log {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The request is refused; nothing was changed. Says which bound or reason.
    #[error("{}", .0.message)]
    Refused(v1::Error),
    /// The catalog could not be reached in time. Changing again is safe.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// The catalog could not be changed or asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// No leader of the catalog answered in time. Whether the change landed is
    /// not known; every change may be repeated.
    #[error("the catalog has no leader that answers: {reason}")]
    Unavailable {
        /// What was tried last.
        reason: String,
    },
}

/// A producer id could not be allotted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateProducerError {
    /// The catalog could not be reached in time.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The catalog has none left.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

/// There is no replica of the log to be used here.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LogLookupError {
    /// There is no log of that name.
    #[error("there is no log {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The log has its replicas on other nodes.
    #[error("this node has no replica of the log")]
    NoReplicaHere {
        /// Which nodes have.
        replicas: Vec<v1::Peer>,
    },
    /// This node's replica has damaged entries.
    #[error("this node's replica is damaged: {reason}")]
    Damaged {
        /// What is damaged.
        reason: String,
        /// The nodes that have a replica.
        replicas: Vec<v1::Peer>,
    },
    /// This node's replica is not running yet, or not any more.
    #[error("this node's replica is not running: {reason}")]
    Starting {
        /// What it waits for.
        reason: String,
        /// The nodes that have a replica.
        replicas: Vec<v1::Peer>,
    },
}

/// `node 2 is` or `nodes 2, 3 are`.
fn are(nodes: &[NodeId]) -> String {
    let named: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    match named.len() {
        1 => format!("node {} is", named[0]),
        _ => format!("nodes {} are", named.join(", ")),
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
