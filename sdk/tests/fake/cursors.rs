//! Cursors, without what a log refuses of them.

use quipu_protocol::v1;
use quipu_protocol::v1::cursors_server::Cursors;
use tonic::{Request, Response, Status};

use super::Node;

#[tonic::async_trait]
impl Cursors for Node {
    async fn commit_cursor(
        &self,
        request: Request<v1::CommitCursorRequest>,
    ) -> Result<Response<v1::CommitCursorResponse>, Status> {
        let v1::CommitCursorRequest { log, commit, log_id, .. } = request.into_inner();
        self.world.answer_of_change()?;
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let v1::CursorCommit { cursor: name, position, generation, .. } = commit.expect("the SDK has one");
        let position = Some(position);
        let cursor = v1::Cursor { name: name.clone(), position, generation, ..v1::Cursor::default() };
        log.cursors.insert(name, cursor);
        Ok(Response::new(v1::CommitCursorResponse { log_id: log.id }))
    }

    async fn claim_cursor(
        &self,
        request: Request<v1::ClaimCursorRequest>,
    ) -> Result<Response<v1::ClaimCursorResponse>, Status> {
        let v1::ClaimCursorRequest { log, cursor: name, generation, log_id } = request.into_inner();
        self.world.answer_of_change()?;
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let cursor = log.cursors.entry(name.clone()).or_default();
        *cursor = v1::Cursor { name, generation, ..cursor.clone() };
        Ok(Response::new(v1::ClaimCursorResponse { cursor: Some(cursor.clone()), log_id: log.id }))
    }

    async fn get_cursor(
        &self,
        request: Request<v1::GetCursorRequest>,
    ) -> Result<Response<v1::GetCursorResponse>, Status> {
        let v1::GetCursorRequest { log, cursor, log_id } = request.into_inner();
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let cursor = log.cursors.get(&cursor).cloned();
        Ok(Response::new(v1::GetCursorResponse { cursor, start: log.start, end: log.end, log_id: log.id }))
    }

    async fn list_cursors(
        &self,
        request: Request<v1::ListCursorsRequest>,
    ) -> Result<Response<v1::ListCursorsResponse>, Status> {
        let v1::ListCursorsRequest { log, log_id, .. } = request.into_inner();
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let (cursors, start, end) = (log.cursors.values().cloned().collect(), log.start, log.end);
        Ok(Response::new(v1::ListCursorsResponse { cursors, more: false, start, end, log_id: log.id }))
    }

    async fn delete_cursor(
        &self,
        request: Request<v1::DeleteCursorRequest>,
    ) -> Result<Response<v1::DeleteCursorResponse>, Status> {
        let v1::DeleteCursorRequest { log, cursor, log_id } = request.into_inner();
        self.world.answer_of_change()?;
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let deleted = log.cursors.remove(&cursor).is_some();
        Ok(Response::new(v1::DeleteCursorResponse { deleted, log_id: log.id }))
    }
}
