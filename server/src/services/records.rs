//! The service `quipu.v1.Records`: appends, reads, offsets, trims, leases, writers.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use quipu_protocol::v1::records_server::Records;
use quipu_protocol::v1::{self, Consistency};
use quipu_protocol::{LogId, Timestamp};
use tonic::{Request, Response, Status, Streaming};

use super::append::{self, Pipeline};
use super::{SharedNode, follow, fresh, leases, log_id, log_name, read, status, writers};

/// Serves appends and reads of the logs that this node has replicas of.
pub(crate) struct RecordsService {
    shared: SharedNode,
}

impl RecordsService {
    pub(crate) fn new(shared: SharedNode) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl Records for RecordsService {
    type AppendStream = Pipeline;
    type ReadStream = BoxStream<'static, Result<v1::ReadResponse, Status>>;

    async fn append(&self, request: Request<Streaming<v1::AppendRequest>>) -> Result<Response<Pipeline>, Status> {
        Ok(Response::new(Pipeline::new(Arc::clone(&self.shared), request)))
    }

    async fn append_one(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        let _busy = self.shared.busy.token();
        let asked_for = follow::asked_for(request.metadata());
        let message = request.into_inner();
        let terms = append::terms(&message);
        let v1::AppendRequest { request, log, batch, log_id, .. } = message;
        let bytes = batch.len();
        let log = append::Log::find(&self.shared, &log, log_id).await;
        let appended = async { log.as_ref().map_err(Clone::clone)?.append(batch, terms?, asked_for)?.await }.await;
        self.shared.tallies.append(bytes, &appended);
        let id = log.as_ref().map_or_else(|_| LogId::default(), append::Log::id);
        Ok(Response::new(append::response(request, id, Ok(appended.map_err(status)?))))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let started = read::start(&self.shared, request.into_inner()).await;
        self.shared.tallies.read(&started);
        let stream = started.map_err(status)?;
        Ok(Response::new(stream))
    }

    async fn offsets(&self, request: Request<v1::OffsetsRequest>) -> Result<Response<v1::OffsetsResponse>, Status> {
        let request = request.into_inner();
        let consistency = consistency(request.consistency).map_err(status)?;
        let name = log_name(&request.log).map_err(status)?;
        let settled = read::settled_range(&self.shared, &name, log_id(request.log_id), consistency).await;
        let (replica, settled) = settled.map_err(status)?;
        let log_id = replica.group().key().group.get();
        let local = consistency == Consistency::Local;
        let fresh = local.then(|| replica.freshness());
        // As new as its freshness says.
        let range = if local { replica.range() } else { settled };
        let freshness = fresh.map(|known| fresh::told(&self.shared, known));
        let (start, end) = (range.start().get(), range.end().get());
        Ok(Response::new(v1::OffsetsResponse { start, end, log_id, freshness }))
    }

    async fn offset_at(&self, request: Request<v1::OffsetAtRequest>) -> Result<Response<v1::OffsetAtResponse>, Status> {
        let request = request.into_inner();
        let consistency = consistency(request.consistency).map_err(status)?;
        let name = log_name(&request.log).map_err(status)?;
        let id = log_id(request.log_id);
        let found = read::offset_at(&self.shared, &name, id, Timestamp::new(request.timestamp), consistency).await;
        Ok(Response::new(found.map_err(status)?))
    }

    async fn trim(&self, request: Request<v1::TrimRequest>) -> Result<Response<v1::TrimResponse>, Status> {
        let _busy = self.shared.busy.token();
        Ok(Response::new(leases::trim(&self.shared, request.into_inner()).await.map_err(status)?))
    }

    async fn hold_lease(
        &self,
        request: Request<v1::HoldLeaseRequest>,
    ) -> Result<Response<v1::HoldLeaseResponse>, Status> {
        let _busy = self.shared.busy.token();
        Ok(Response::new(leases::hold(&self.shared, request.into_inner()).await.map_err(status)?))
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Result<Response<v1::ReleaseLeaseResponse>, Status> {
        let _busy = self.shared.busy.token();
        Ok(Response::new(leases::release(&self.shared, request.into_inner()).await.map_err(status)?))
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        Ok(Response::new(leases::list(&self.shared, request.into_inner()).await.map_err(status)?))
    }

    async fn acquire_writer(
        &self,
        request: Request<v1::AcquireWriterRequest>,
    ) -> Result<Response<v1::AcquireWriterResponse>, Status> {
        let _busy = self.shared.busy.token();
        Ok(Response::new(writers::acquire(&self.shared, request.into_inner()).await.map_err(status)?))
    }

    async fn describe_writer(
        &self,
        request: Request<v1::DescribeWriterRequest>,
    ) -> Result<Response<v1::DescribeWriterResponse>, Status> {
        Ok(Response::new(writers::describe(&self.shared, request.into_inner()).await.map_err(status)?))
    }

    async fn resolve(&self, request: Request<v1::ResolveRequest>) -> Result<Response<v1::ResolveResponse>, Status> {
        let _busy = self.shared.busy.token();
        Ok(Response::new(writers::resolve(&self.shared, request.into_inner()).await.map_err(status)?))
    }
}

/// How fresh the answer has to be; unsaid, it is as fresh as can be.
pub(super) fn consistency(number: i32) -> Result<Consistency, v1::Error> {
    match Consistency::try_from(number) {
        Ok(Consistency::Unspecified | Consistency::Linearizable) => Ok(Consistency::Linearizable),
        Ok(Consistency::Local) => Ok(Consistency::Local),
        Err(_) => Err(v1::Error::invalid_argument("consistency", format!("{number} is no known consistency"))),
    }
}
