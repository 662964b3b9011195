//! The service `quipu.v1.Cluster`: logs, nodes, producer ids.

use quipu_protocol::v1::cluster_server::Cluster;
use quipu_protocol::{LogId, LogName, LogNameError, LogPattern, v1};
use tonic::{Request, Response, Status};

use super::{SharedNode, log_id, log_name, refusals, status};

/// Logs on a page when the client does not say, and at most.
const DEFAULT_PAGE: u32 = 1_000;
const LARGEST_PAGE: u32 = 10_000;
/// A log's smallest `max_batch_bytes`.
const LEAST_MAX_BATCH_BYTES: u32 = 1 << 10;

/// Serves what concerns the cluster as a whole; changes go to the catalog.
pub(crate) struct ClusterService {
    shared: SharedNode,
}

impl ClusterService {
    pub(crate) fn new(shared: SharedNode) -> Self {
        Self { shared }
    }

    /// Whether a log may have this `max_batch_bytes` on this node; `field` is
    /// the request's.
    fn check_max_batch_bytes(&self, field: &str, asked: u32) -> Result<(), v1::Error> {
        let largest = self.shared.settings.largest_max_batch_bytes;
        if asked < LEAST_MAX_BATCH_BYTES {
            let reason = format!("{asked} is less than the least, {LEAST_MAX_BATCH_BYTES}");
            return Err(v1::Error::invalid_argument(field, reason));
        }
        if u64::from(asked) > largest {
            return Err(v1::Error::too_large("largest_max_batch_bytes", largest, u64::from(asked)));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn create_log(
        &self,
        request: Request<v1::CreateLogRequest>,
    ) -> Result<Response<v1::CreateLogResponse>, Status> {
        let v1::CreateLogRequest { name, config } = request.into_inner();
        let name = named(&name)?;
        let config = config.unwrap_or_default();
        if config.max_batch_bytes != 0 {
            self.check_max_batch_bytes("config.max_batch_bytes", config.max_batch_bytes).map_err(status)?;
        }
        let created = self.shared.node.create_log(&name, config).await;
        let created = created.map_err(|error| status(refusals::of_create_log(error)))?;
        Ok(Response::new(v1::CreateLogResponse { log: Some(created.log), created: created.created }))
    }

    async fn alter_log(&self, request: Request<v1::AlterLogRequest>) -> Result<Response<v1::AlterLogResponse>, Status> {
        let v1::AlterLogRequest { name, change, id } = request.into_inner();
        let name = named(&name)?;
        let change = change.unwrap_or_default();
        if let Some(asked) = change.max_batch_bytes {
            self.check_max_batch_bytes("change.max_batch_bytes", asked).map_err(status)?;
        }
        let altered = self.shared.node.alter_log(&name, log_id(id), change).await;
        let altered = altered.map_err(|error| status(refusals::of_change_log(&name, error)))?;
        Ok(Response::new(v1::AlterLogResponse { log: Some(altered.log), changed: altered.changed }))
    }

    async fn delete_log(
        &self,
        request: Request<v1::DeleteLogRequest>,
    ) -> Result<Response<v1::DeleteLogResponse>, Status> {
        let v1::DeleteLogRequest { name, id } = request.into_inner();
        let name = named(&name)?;
        let deleted = self.shared.node.delete_log(&name, log_id(id)).await;
        let (id, deleted) = deleted.map_err(|error| status(refusals::of_change_log(&name, error)))?;
        Ok(Response::new(v1::DeleteLogResponse { id: id.get(), deleted }))
    }

    async fn list_logs(&self, request: Request<v1::ListLogsRequest>) -> Result<Response<v1::ListLogsResponse>, Status> {
        let v1::ListLogsRequest { after, limit, pattern } = request.into_inner();
        let limit = match limit {
            0 => DEFAULT_PAGE,
            limit if limit > LARGEST_PAGE => {
                return Err(status(v1::Error::too_large("limit", LARGEST_PAGE.into(), limit.into())));
            }
            limit => limit,
        };
        if !after.is_empty() {
            log_name(&after).map_err(|_| status(v1::Error::invalid_argument("after", "it is no log name")))?;
        }
        let pattern: Option<LogPattern> = match &*pattern {
            "" => None,
            pattern => Some(pattern.parse().map_err(|why: LogNameError| {
                let why = why.to_string().replacen("a log name", "a pattern, * and ? apart,", 1);
                status(v1::Error::invalid_argument("pattern", why))
            })?),
        };
        let page = self.shared.node.list_logs(&after, pattern.as_ref(), limit as usize).await;
        Ok(Response::new(page.map_err(|error| status(refusals::of_catalog(error)))?))
    }

    async fn describe_log(
        &self,
        request: Request<v1::DescribeLogRequest>,
    ) -> Result<Response<v1::DescribeLogResponse>, Status> {
        let name = named(&request.into_inner().name)?;
        let described = self.shared.node.describe_log(&name).await;
        let described = described.map_err(|error| status(refusals::of_lookup_for_leader(&name, error)))?;
        Ok(Response::new(described))
    }

    async fn status(&self, _request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(self.shared.node.status().await))
    }

    async fn allocate_producer(
        &self,
        request: Request<v1::AllocateProducerRequest>,
    ) -> Result<Response<v1::AllocateProducerResponse>, Status> {
        let log = request.into_inner().log;
        let log = if log.is_empty() { None } else { Some(log_name(&log).map_err(status)?) };
        let allocated = self.shared.node.allocate_producer().await;
        let allocated = allocated.map_err(|error| status(refusals::of_allocate_producer(error)))?;
        let (producer_id, allotted_at) = (allocated.id.get(), allocated.allotted_at.get());
        // The copy here has what the allotment came after.
        let log_id = log.and_then(|log| self.shared.node.log_id(&log)).map_or(0, LogId::get);
        Ok(Response::new(v1::AllocateProducerResponse { producer_id, allotted_at, log_id }))
    }
}

/// The log name in a request's field `name`.
fn named(name: &str) -> Result<LogName, Status> {
    name.parse().map_err(|error: LogNameError| status(v1::Error::invalid_argument("name", error)))
}
