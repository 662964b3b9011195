//! Where a reader group is kept: which registrar, and this node's replica of it.

use quipu_protocol::peer::catalog_reply::Outcome;
use quipu_protocol::{LogId, ReaderGroupName, v1};

use super::inner::{Inner, LogState};
use super::{RaftNode, asking};
use crate::catalog::{self, Catalog};
use crate::registrar::RegistrarReplica;

/// There is no replica here of the registrar that keeps a reader group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistrarLookupError {
    /// There has never been a reader group in the cluster.
    #[error("there is no reader group yet")]
    None,
    /// The registrar has its replicas on other nodes.
    #[error("this node has no replica of the registrar")]
    NoReplicaHere {
        /// Which nodes have.
        replicas: Vec<v1::Peer>,
    },
    /// This node's replica is not running yet, or not any more.
    #[error("this node's replica of the registrar is not running: {reason}")]
    Starting {
        /// What it waits for.
        reason: String,
        /// The nodes that have a replica.
        replicas: Vec<v1::Peer>,
    },
}

impl RaftNode {
    /// This node's replica of the registrar that keeps the reader group of that
    /// name, and keeps it if there is none yet.
    ///
    /// # Errors
    /// Says where else to ask.
    pub async fn registrar_of(&self, group: &ReaderGroupName) -> Result<RegistrarReplica, RegistrarLookupError> {
        let registrars = self.inner().registrars().await?;
        // There are few, and at least one.
        let number = group.stable_hash() % (registrars.len() as u64).max(1);
        self.registrar(&registrars, usize::try_from(number).unwrap_or_default()).await
    }

    /// The same, which creates the cluster's registrars when there are none. Knows
    /// every log that was created before the call.
    ///
    /// # Errors
    /// Says where else to ask.
    pub async fn registrar_for(&self, group: &ReaderGroupName) -> Result<RegistrarReplica, RegistrarLookupError> {
        let inner = self.inner();
        let registrars = inner.view(Catalog::registrars).unwrap_or_default();
        let asked = if registrars.is_empty() {
            let reachable = inner.reachable_nodes().await;
            let created = inner.change_and_see(catalog::create_registrars(reachable)).await;
            created.and_then(|outcome| match outcome {
                Outcome::Done(_) => Ok(()),
                other => Err(asking::unexpected(&other)),
            })
        } else {
            inner.refresh().await
        };
        asked.map_err(|error| starting(error.to_string()))?;
        self.registrar_of(group).await
    }

    /// This node's replica of the registrar with that number, from 0 on, and how
    /// many there are.
    ///
    /// # Errors
    /// Says where else to ask; [`RegistrarLookupError::None`] also when there are
    /// not so many.
    pub async fn registrar_numbered(&self, number: usize) -> Result<(RegistrarReplica, usize), RegistrarLookupError> {
        let registrars = self.inner().registrars().await?;
        Ok((self.registrar(&registrars, number).await?, registrars.len()))
    }

    async fn registrar(&self, registrars: &[LogId], number: usize) -> Result<RegistrarReplica, RegistrarLookupError> {
        let inner = self.inner();
        let id = *registrars.get(number).ok_or(RegistrarLookupError::None)?;
        let known = inner.view(|catalog| {
            let log = catalog.logs().get(&id)?;
            Some((log.replica_on(inner.config().node), catalog.peers_of(log)))
        });
        let (here, replicas) = known.flatten().ok_or_else(|| starting("it is not known here".to_owned()))?;
        if here.is_none() {
            return Err(RegistrarLookupError::NoReplicaHere { replicas });
        }
        match inner.started(id).await {
            Some(LogState::Registrar(replica)) => Ok(replica),
            Some(LogState::Failed { reason, .. }) => Err(RegistrarLookupError::Starting { reason, replicas }),
            Some(LogState::Running(_)) | None => {
                Err(RegistrarLookupError::Starting { reason: "it has not been started yet".to_owned(), replicas })
            }
        }
    }

    /// The nodes that have a replica of the registrar that keeps the reader group
    /// of that name, as far as this node knows.
    pub fn registrar_replicas(&self, registrar: LogId) -> Vec<v1::Peer> {
        let known = self.inner().view(|catalog| catalog.logs().get(&registrar).map(|log| catalog.peers_of(log)));
        known.flatten().unwrap_or_default()
    }
}

impl Inner {
    /// The registrars, in their order; at least one.
    async fn registrars(&self) -> Result<Vec<LogId>, RegistrarLookupError> {
        let look = || self.view(Catalog::registrars).unwrap_or_default();
        let known = look();
        if !known.is_empty() {
            return Ok(known);
        }
        // They may have been created through another node just now.
        self.refresh().await.map_err(|error| starting(error.to_string()))?;
        let known = look();
        if known.is_empty() { Err(RegistrarLookupError::None) } else { Ok(known) }
    }
}

fn starting(reason: String) -> RegistrarLookupError {
    RegistrarLookupError::Starting { reason, replicas: Vec::new() }
}
