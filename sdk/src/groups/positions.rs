//! Where the members of a reader group have come to in each log.

use std::error::Error;
use std::sync::Arc;

use quipu_protocol::environment::BoxFuture;
use quipu_protocol::v1::cursors_client::CursorsClient;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::{Generation, LogId, LogName, Offset, ReaderGroupName, v1};

use crate::cluster::{Cluster, PursuitError, Refusal, Target};
use crate::{CursorName, RequestError};

/// Keeps a reader group's positions, one for each log, whoever its reader is.
///
/// # Contract
/// - Once `claim` was answered, no `commit` under a lower generation takes effect,
///   wherever its member is: this is what fences a member that has lost a log
///   without knowing. The position that it returns is the last one that was
///   committed.
/// - Both may be repeated.
pub trait Positions: Send + Sync + 'static {
    /// Takes a log's position over under `generation`, and returns it; none if
    /// nothing was ever committed.
    fn claim(
        &self,
        log: &LogName,
        id: LogId,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Option<Offset>, PositionError>>;

    /// Everything before `position` is done with.
    fn commit(
        &self,
        log: &LogName,
        id: LogId,
        generation: Generation,
        position: Offset,
    ) -> BoxFuture<'static, Result<(), PositionError>>;
}

/// Positions in cursors of the logs themselves, named `group:` and the group's name:
/// what every group has that is told nothing else.
pub(crate) struct CursorPositions {
    cluster: Arc<Cluster>,
    cursor: CursorName,
}

impl CursorPositions {
    pub(crate) fn new(cluster: Arc<Cluster>, group: &ReaderGroupName) -> Self {
        let cursor = format!("group:{group}").parse();
        Self { cluster, cursor: cursor.expect("a group's name is short and has no control characters") }
    }
}

impl Positions for CursorPositions {
    fn claim(
        &self,
        log: &LogName,
        id: LogId,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Option<Offset>, PositionError>> {
        let (cluster, log) = (Arc::clone(&self.cluster), log.clone());
        let request = v1::ClaimCursorRequest {
            log: log.to_string(),
            cursor: self.cursor.to_string(),
            generation: generation.get(),
            log_id: id.get(),
        };
        Box::pin(async move {
            let call = |channel| async { CursorsClient::new(channel).claim_cursor(request.clone()).await };
            let claimed = cluster.call(Target::Leader(log), call).await.map_err(PositionError::of)?.value.cursor;
            Ok(claimed.and_then(|cursor| cursor.position).map(Offset::new))
        })
    }

    fn commit(
        &self,
        log: &LogName,
        id: LogId,
        generation: Generation,
        position: Offset,
    ) -> BoxFuture<'static, Result<(), PositionError>> {
        let (cluster, log) = (Arc::clone(&self.cluster), log.clone());
        let commit = v1::CursorCommit {
            cursor: self.cursor.to_string(),
            position: position.get(),
            generation: generation.get(),
            ..v1::CursorCommit::default()
        };
        let request = v1::CommitCursorRequest {
            log: log.to_string(),
            commit: Some(commit),
            request_id: cluster.environment.random.next().max(1),
            log_id: id.get(),
        };
        Box::pin(async move {
            let call = |channel| async { CursorsClient::new(channel).commit_cursor(request.clone()).await };
            cluster.call(Target::Leader(log), call).await.map(drop).map_err(PositionError::of)
        })
    }
}

/// A position was not claimed or committed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PositionError {
    /// It was claimed under a higher generation: the log is another member's.
    #[error("it was claimed under a higher generation")]
    Fenced,
    /// There is no such log any more.
    #[error("there is no such log any more")]
    LogGone,
    /// It may go better the next time.
    #[error("it cannot be done now")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// It will not go better the next time.
    #[error("it cannot be done")]
    Failed(#[source] Arc<dyn Error + Send + Sync>),
}

impl PositionError {
    /// How a request to a log's cursor failed.
    fn of(error: PursuitError) -> Self {
        use v1::cursor_refused::Reason;
        if let PursuitError::Refused { refusal: Refusal { error: refused, .. }, .. } = &error {
            match &refused.kind {
                Some(Kind::CursorRefused(v1::CursorRefused { reason: Some(Reason::Fenced(_)), .. })) => {
                    return Self::Fenced;
                }
                Some(Kind::UnknownLog(_)) => return Self::LogGone,
                _ => {}
            }
        }
        let error: RequestError = error.into_request_error();
        if error.is_retryable() { Self::Unavailable(Arc::new(error)) } else { Self::Failed(Arc::new(error)) }
    }
}
