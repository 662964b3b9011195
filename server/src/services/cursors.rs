//! The service `quipu.v1.Cursors`: named positions in a log.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::v1::cursors_server::Cursors;
use quipu_protocol::{CursorName, LogId, Offset, stored, v1};
use quipu_raft::{
    Cursor, CursorAction, CursorAnswer, MAX_CARRIED_BYTES, MAX_CARRIED_COMMITS, MAX_CURSOR_METADATA_BYTES, MAX_CURSORS,
};
use tonic::{Request, Response, Status};

use super::append::Log;
use super::{SharedNode, status};

/// Serves the cursors of the logs that this node leads.
pub(crate) struct CursorsService {
    shared: SharedNode,
}

impl CursorsService {
    pub(crate) fn new(shared: SharedNode) -> Self {
        Self { shared }
    }

    async fn commit(&self, request: v1::CommitCursorRequest) -> Result<v1::CommitCursorResponse, v1::Error> {
        let v1::CommitCursorRequest { log, commit, request_id, log_id } = request;
        let commit = commit.ok_or_else(|| v1::Error::invalid_argument("commit", "it is missing"))?;
        let (name, commit) = (commit.cursor.parse::<CursorName>()?, checked(commit)?);
        let log = Log::find(&self.shared, &log, log_id).await?;
        let commit = stored::CommitCursor { request_id, ..of_other_log(commit, log.id()) };
        log.run_cursor(&name, CursorAction::Commit(commit)).await?;
        Ok(v1::CommitCursorResponse { log_id: log.id().get() })
    }

    async fn claim(&self, request: v1::ClaimCursorRequest) -> Result<v1::ClaimCursorResponse, v1::Error> {
        let v1::ClaimCursorRequest { log, cursor, generation, log_id } = request;
        let name = cursor.parse::<CursorName>()?;
        let log = Log::find(&self.shared, &log, log_id).await?;
        let claim = CursorAction::Claim(stored::ClaimCursor { generation });
        let cursor = match log.run_cursor(&name, claim).await? {
            CursorAnswer::Claimed(claimed) => Some(on_wire(name.as_str(), &claimed)),
            CursorAnswer::Committed | CursorAnswer::Deleted { .. } => None,
        };
        Ok(v1::ClaimCursorResponse { cursor, log_id: log.id().get() })
    }

    async fn get(&self, request: v1::GetCursorRequest) -> Result<v1::GetCursorResponse, v1::Error> {
        let v1::GetCursorRequest { log, cursor, log_id } = request;
        let name = cursor.parse::<CursorName>()?;
        let log = Log::find(&self.shared, &log, log_id).await?;
        let looked = log.replica()?.cursors(|cursors| cursors.get(name.as_str()).cloned()).await;
        let (cursor, range) = looked.map_err(|error| log.unanswered(error))?;
        Ok(v1::GetCursorResponse {
            cursor: cursor.map(|cursor| on_wire(name.as_str(), &cursor)),
            start: range.start().get(),
            end: range.end().get(),
            log_id: log.id().get(),
        })
    }

    async fn list(&self, request: v1::ListCursorsRequest) -> Result<v1::ListCursorsResponse, v1::Error> {
        let v1::ListCursorsRequest { log, after, limit, prefix, log_id } = request;
        let most = match usize::try_from(limit) {
            Ok(0) | Err(_) => MAX_CURSORS,
            Ok(limit) => limit.min(MAX_CURSORS),
        };
        let log = Log::find(&self.shared, &log, log_id).await?;
        let looked = log.replica()?.cursors(|cursors| {
            let mut found = cursors.named(&prefix, &after);
            let page: Vec<_> = found.by_ref().take(most).map(|(name, cursor)| on_wire(name, cursor)).collect();
            (page, found.next().is_some())
        });
        let ((cursors, more), range) = looked.await.map_err(|error| log.unanswered(error))?;
        let (start, end) = (range.start().get(), range.end().get());
        Ok(v1::ListCursorsResponse { cursors, more, start, end, log_id: log.id().get() })
    }

    async fn delete(&self, request: v1::DeleteCursorRequest) -> Result<v1::DeleteCursorResponse, v1::Error> {
        let v1::DeleteCursorRequest { log, cursor, log_id } = request;
        let name = cursor.parse::<CursorName>()?;
        let log = Log::find(&self.shared, &log, log_id).await?;
        let answer = log.run_cursor(&name, CursorAction::Delete(stored::DeleteCursor {})).await?;
        let deleted = answer == CursorAnswer::Deleted { existed: true };
        Ok(v1::DeleteCursorResponse { deleted, log_id: log.id().get() })
    }
}

#[tonic::async_trait]
impl Cursors for CursorsService {
    async fn commit_cursor(
        &self,
        request: Request<v1::CommitCursorRequest>,
    ) -> Result<Response<v1::CommitCursorResponse>, Status> {
        let _busy = self.shared.busy.token();
        self.commit(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn claim_cursor(
        &self,
        request: Request<v1::ClaimCursorRequest>,
    ) -> Result<Response<v1::ClaimCursorResponse>, Status> {
        let _busy = self.shared.busy.token();
        self.claim(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get_cursor(
        &self,
        request: Request<v1::GetCursorRequest>,
    ) -> Result<Response<v1::GetCursorResponse>, Status> {
        self.get(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn list_cursors(
        &self,
        request: Request<v1::ListCursorsRequest>,
    ) -> Result<Response<v1::ListCursorsResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn delete_cursor(
        &self,
        request: Request<v1::DeleteCursorRequest>,
    ) -> Result<Response<v1::DeleteCursorResponse>, Status> {
        let _busy = self.shared.busy.token();
        self.delete(request.into_inner()).await.map(Response::new).map_err(status)
    }
}

/// The commits that an append carries, if they can be carried.
pub(super) fn carried(encoded: &Bytes) -> Result<Vec<stored::CarriedCommit>, v1::Error> {
    if encoded.is_empty() {
        return Ok(Vec::new());
    }
    // Decoded, they may take many times as much.
    let actual = encoded.len() as u64;
    if actual > MAX_CARRIED_BYTES {
        return Err(v1::Error::too_large("max_carried_bytes", MAX_CARRIED_BYTES, actual));
    }
    let v1::CarriedCommits { commits } =
        v1::CarriedCommits::decode(encoded.clone()).map_err(|error| v1::Error::invalid_argument("cursors", error))?;
    if commits.len() > MAX_CARRIED_COMMITS {
        return Err(v1::Error::too_large("max_carried_commits", MAX_CARRIED_COMMITS as u64, commits.len() as u64));
    }
    let mut names = BTreeSet::new();
    let one = |commit: &v1::CursorCommit| {
        if !names.insert(commit.cursor.parse::<CursorName>()?) {
            return Err(v1::Error::invalid_argument("cursors", format!("{:?} is there twice", commit.cursor)));
        }
        let (cursor, commit) = (commit.cursor.clone(), checked(commit.clone())?);
        Ok(stored::CarriedCommit { cursor, commit: Some(commit) })
    };
    commits.iter().map(one).collect()
}

/// A position that is of the cursor's own log is held against its end.
pub(super) fn of_other_log(commit: stored::CommitCursor, own: LogId) -> stored::CommitCursor {
    if commit.of == own.get() { stored::CommitCursor { of: 0, ..commit } } else { commit }
}

/// What is asked for, as a command has it.
fn checked(commit: v1::CursorCommit) -> Result<stored::CommitCursor, v1::Error> {
    use stored::commit_cursor::Expected;
    use v1::cursor_commit::Expected as Asked;
    let (limit, actual) = (MAX_CURSOR_METADATA_BYTES as u64, commit.metadata.len() as u64);
    if actual > limit {
        return Err(v1::Error::too_large("max_cursor_metadata_bytes", limit, actual));
    }
    Ok(stored::CommitCursor {
        position: commit.position,
        of: commit.of,
        generation: commit.generation,
        metadata: commit.metadata,
        expected: commit.expected.map(|expected| match expected {
            Asked::PositionIs(position) => Expected::PositionIs(position),
            Asked::NoPosition(_) => Expected::NoPosition(stored::Blank {}),
        }),
        request_id: 0,
    })
}

fn on_wire(name: &str, cursor: &Cursor) -> v1::Cursor {
    v1::Cursor {
        name: name.to_owned(),
        position: cursor.position.map(Offset::get),
        of: cursor.of.map_or(0, LogId::get),
        generation: cursor.generation,
        metadata: cursor.metadata.clone(),
        committed_at: cursor.committed_at.get(),
    }
}
