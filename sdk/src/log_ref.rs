//! Which log a call means.

use std::sync::Arc;

use quipu_protocol::{LogId, LogName};

use crate::Consistency;
use crate::client::offsets;
use crate::cluster::{Cluster, PursuitError, Target};

/// A log by its name: the one that has it when the call is made; or the one of that name
/// and a given id, and no other. A `&LogName` is the former by itself.
///
/// ```
/// # use quipu_sdk::{LogId, LogName, LogRef};
/// # fn refer(name: &LogName, id: LogId) -> [LogRef<'_>; 2] {
/// [name.into(), LogRef::new(name, id)]
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRef<'a> {
    name: &'a LogName,
    id: Option<LogId>,
}

impl<'a> LogRef<'a> {
    /// The log of that name and id: one that is created later under the same name is not
    /// meant.
    pub const fn new(name: &'a LogName, id: LogId) -> Self {
        Self { name, id: Some(id) }
    }

    /// Its name.
    pub const fn name(&self) -> &'a LogName {
        self.name
    }

    /// Its id, if it is part of what is meant.
    pub const fn id(&self) -> Option<LogId> {
        self.id
    }

    /// The id for whatever changes something: an attempt whose answer is lost must not
    /// meet another log, and neither must one that comes late. Asked of the log's leader
    /// unless it is given.
    pub(crate) async fn settled(self, cluster: &Arc<Cluster>) -> Result<LogId, PursuitError> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let leader = Target::Leader(self.name.clone());
        let found = offsets(cluster, leader, self.name, 0, Consistency::Linearizable).await?;
        Ok(LogId::new(found.log_id))
    }
}

impl<'a> From<&'a LogName> for LogRef<'a> {
    fn from(name: &'a LogName) -> Self {
        Self { name, id: None }
    }
}
