//! Logs and nodes.

use quipu_protocol::v1;
use quipu_protocol::v1::cluster_server::Cluster;
use tonic::{Request, Response, Status};

use super::{FakeLog, Node};

#[tonic::async_trait]
impl Cluster for Node {
    async fn create_log(
        &self,
        request: Request<v1::CreateLogRequest>,
    ) -> Result<Response<v1::CreateLogResponse>, Status> {
        let v1::CreateLogRequest { name, config } = request.into_inner();
        let config = config.unwrap_or_default();
        self.world.answer_of_change()?;
        let nodes = u32::try_from(self.world.addresses.len()).expect("few");
        if config.replicas > nodes {
            return Err(v1::Error::too_few_nodes(config.replicas, nodes).into());
        }
        let mut state = self.world.state();
        let created = !state.logs.contains_key(&name);
        if created {
            state.create(&name, config);
        }
        let log = &state.logs[&name];
        if log.config != config {
            return Err(v1::Error::log_exists(&name, log.config).into());
        }
        let log = v1::LogSummary { name, id: log.id, config: Some(config) };
        Ok(Response::new(v1::CreateLogResponse { log: Some(log), created }))
    }

    async fn alter_log(&self, request: Request<v1::AlterLogRequest>) -> Result<Response<v1::AlterLogResponse>, Status> {
        let v1::AlterLogRequest { name, change, id } = request.into_inner();
        let change = change.unwrap_or_default();
        self.world.answer_of_change()?;
        if change.max_batch_bytes.is_some_and(|bytes| bytes < 1024) {
            return Err(v1::Error::invalid_argument("max_batch_bytes", "the least is 1024").into());
        }
        let mut state = self.world.state();
        let log = state.find(&name, id)?;
        let config = v1::LogConfig {
            retention_bytes: change.retention_bytes.unwrap_or(log.config.retention_bytes),
            retention_ms: change.retention_ms.unwrap_or(log.config.retention_ms),
            ..log.config
        };
        let changed = std::mem::replace(&mut log.config, config) != config;
        let log = Some(v1::LogSummary { name, id: log.id, config: Some(config) });
        Ok(Response::new(v1::AlterLogResponse { log, changed }))
    }

    async fn delete_log(
        &self,
        request: Request<v1::DeleteLogRequest>,
    ) -> Result<Response<v1::DeleteLogResponse>, Status> {
        let v1::DeleteLogRequest { name, id } = request.into_inner();
        self.world.answer_of_change()?;
        let mut state = self.world.state();
        let found = state.find(&name, id).is_ok();
        if found {
            state.logs.remove(&name);
        }
        let known = found || (1..=state.log_ids).contains(&id);
        if known {
            Ok(Response::new(v1::DeleteLogResponse { id, deleted: found }))
        } else {
            Err(v1::Error::unknown_log(&name).into())
        }
    }

    async fn list_logs(&self, request: Request<v1::ListLogsRequest>) -> Result<Response<v1::ListLogsResponse>, Status> {
        // Small pages, whatever was asked for.
        const PAGE: usize = 2;
        let v1::ListLogsRequest { after, pattern, .. } = request.into_inner();
        let pattern: Option<quipu_sdk::LogPattern> = (!pattern.is_empty()).then(|| pattern.parse().expect("a pattern"));
        let matches =
            |name: &String| pattern.as_ref().is_none_or(|pattern| pattern.matches(&name.parse().expect("a name")));
        let state = self.world.state();
        let later: Vec<_> = state.logs.iter().filter(|(name, _)| **name > after && matches(name)).collect();
        let summary = |(name, log): &(&String, &FakeLog)| v1::LogSummary {
            name: (*name).clone(),
            id: log.id,
            config: Some(log.config),
        };
        let logs = later.iter().take(PAGE).map(summary).collect();
        Ok(Response::new(v1::ListLogsResponse { logs, more: later.len() > PAGE }))
    }

    async fn describe_log(
        &self,
        request: Request<v1::DescribeLogRequest>,
    ) -> Result<Response<v1::DescribeLogResponse>, Status> {
        let name = request.into_inner().name;
        let state = self.world.state();
        let Some(log) = state.logs.get(&name) else { return Err(v1::Error::unknown_log(&name).into()) };
        Ok(Response::new(v1::DescribeLogResponse {
            log: Some(v1::LogSummary { name, id: log.id, config: Some(log.config) }),
            start: log.start,
            end: log.end,
            leader: state.leader as u64 + 1,
            term: 3,
            bytes: log.batches.iter().map(|(_, batch)| batch.len() as u64).sum(),
            entries: log.batches.len() as u64,
            replicas: Vec::new(),
            ..v1::DescribeLogResponse::default()
        }))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let node = |peer: v1::Peer| v1::NodeStatus { id: peer.node, address: peer.address, ..Default::default() };
        let nodes = self.world.peers().into_iter().map(node).collect();
        let logs = self.world.state().logs.len() as u64;
        Ok(Response::new(v1::StatusResponse { cluster_id: 1, nodes, logs, catalog_leader: 1 }))
    }

    async fn allocate_producer(
        &self,
        request: Request<v1::AllocateProducerRequest>,
    ) -> Result<Response<v1::AllocateProducerResponse>, Status> {
        let mut state = self.world.state();
        state.next_producer += 1;
        let log_id = state.logs.get(&request.into_inner().log).map_or(0, |log| log.id);
        Ok(Response::new(v1::AllocateProducerResponse { producer_id: state.next_producer, allotted_at: 0, log_id }))
    }
}
