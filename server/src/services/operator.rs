//! The service `quipu.v1.Operator`: what concerns this node alone.

use quipu_protocol::v1;
use quipu_protocol::v1::operator_server::Operator;
use tonic::{Request, Response, Status};

use super::status;
use crate::telemetry::LogFilter;

/// Serves those who operate the node.
pub(crate) struct OperatorService {
    log_filter: Option<LogFilter>,
}

impl OperatorService {
    /// Without a `log_filter`, somebody else decides what is logged.
    pub(crate) fn new(log_filter: Option<LogFilter>) -> Self {
        Self { log_filter }
    }
}

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn change_log_filter(
        &self,
        request: Request<v1::ChangeLogFilterRequest>,
    ) -> Result<Response<v1::ChangeLogFilterResponse>, Status> {
        let v1::ChangeLogFilterRequest { filter } = request.into_inner();
        let Some(log_filter) = &self.log_filter else {
            return Err(status(v1::Error::invalid_argument("filter", "what this process logs cannot be changed")));
        };
        if filter.is_empty() {
            let now = log_filter.current();
            return Ok(Response::new(v1::ChangeLogFilterResponse { before: now.clone(), now }));
        }
        let changed = log_filter.change(&filter);
        let before = changed.map_err(|error| status(v1::Error::invalid_argument("filter", error)))?;
        Ok(Response::new(v1::ChangeLogFilterResponse { before, now: filter }))
    }
}
