//! The service `quipu.v1.ReaderGroups`: who shares which logs.

use std::sync::Arc;
use std::time::Duration;

use quipu_protocol::v1::reader_groups_server::ReaderGroups;
use quipu_protocol::{
    Generation, LogId, LogName, LogNameError, LogPattern, MemberId, NodeId, ReaderGroupName, ReplicaId, v1,
};
use quipu_raft::node::RegistrarLookupError;
use quipu_raft::registrar::{
    DEFAULT_SESSION_MS, Held, Joining, MAX_CLIENT_BYTES, MAX_SESSION_MS, MAX_SHARES, MIN_SESSION_MS, ReadersError,
    Refused, RegistrarReplica,
};
use quipu_raft::{REQUEST_ID_BYTES, RaftNode};
use tonic::{Request, Response, Status};

use super::{SharedNode, ending, status};

/// How many groups a listing returns when it does not say.
const DEFAULT_PAGE: u32 = 1_000;
/// The most it returns.
const LARGEST_PAGE: u32 = 10_000;

/// Serves the reader groups whose registrars have a replica here.
pub(crate) struct ReaderGroupsService {
    shared: SharedNode,
}

impl ReaderGroupsService {
    pub(crate) fn new(shared: SharedNode) -> Self {
        Self { shared }
    }

    fn node(&self) -> &RaftNode {
        &self.shared.node
    }

    /// A reader group and the replica here of the registrar that keeps it.
    async fn find(&self, group: &str) -> Result<Found, v1::Error> {
        let name = group_name("group", group)?;
        let found = self.node().registrar_of(&name).await;
        self.found(name, found)
    }

    fn found(
        &self,
        name: ReaderGroupName,
        found: Result<RegistrarReplica, RegistrarLookupError>,
    ) -> Result<Found, v1::Error> {
        let unknown = || v1::Error::unknown_reader_group(name.as_str());
        let replica = found.map_err(|error| of_lookup(error).unwrap_or_else(unknown))?;
        if self.shared.ending.is_cancelled() {
            return Err(ending());
        }
        Ok(Found { shared: Arc::clone(&self.shared), name, replica })
    }
}

/// A reader group, and what keeps it.
struct Found {
    shared: SharedNode,
    name: ReaderGroupName,
    replica: RegistrarReplica,
}

impl Found {
    /// How something that `member` asked, or somebody who looks, failed.
    fn refused(&self, member: u64, error: ReadersError) -> v1::Error {
        let name = self.name.as_str();
        match error {
            ReadersError::Refused(Refused::UnknownGroup) => v1::Error::unknown_reader_group(name),
            ReadersError::Refused(Refused::UnknownMember) => v1::Error::unknown_reader_member(name, member),
            ReadersError::Refused(Refused::OtherPattern { pattern }) => v1::Error::other_pattern(name, &pattern),
            ReadersError::Refused(Refused::TooMany { bound, limit, actual }) => {
                v1::Error::too_large(bound, limit, actual)
            }
            other => of_registrar(&self.shared.node, &self.replica, other),
        }
    }
}

#[tonic::async_trait]
impl ReaderGroups for ReaderGroupsService {
    async fn join(
        &self,
        request: Request<v1::JoinReaderGroupRequest>,
    ) -> Result<Response<v1::JoinReaderGroupResponse>, Status> {
        let _busy = self.shared.busy.token();
        let joining = joining(request.into_inner()).map_err(status)?;
        let (name, pattern) = (joining.group.clone(), joining.pattern.clone());
        let found = self.node().registrar_for(&name).await;
        let found = self.found(name, found).map_err(status)?;
        let joined = found.replica.join(joining).await.map_err(|error| match error {
            ReadersError::Refused(Refused::NoLogs) => status(v1::Error::no_matching_logs(pattern.as_str())),
            error => status(found.refused(0, error)),
        });
        let (member, generation, session_ms) = joined?;
        let (member, generation) = (member.get(), generation.get());
        Ok(Response::new(v1::JoinReaderGroupResponse { member, generation, session_ms }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::ReaderHeartbeatRequest>,
    ) -> Result<Response<v1::ReaderHeartbeatResponse>, Status> {
        let v1::ReaderHeartbeatRequest { group, member, generation, returned, wait_ms } = request.into_inner();
        if returned.len() > MAX_SHARES {
            let (limit, actual) = (MAX_SHARES as u64, returned.len() as u64);
            return Err(status(v1::Error::too_large("reader_group_logs", limit, actual)));
        }
        let found = self.find(&group).await.map_err(status)?;
        let returned: Vec<(LogId, Generation)> =
            returned.iter().map(|log| (LogId::new(log.log_id), Generation::new(log.generation))).collect();
        let (known, wait) = (Generation::new(generation), Duration::from_millis(wait_ms));
        let beat = found.replica.heartbeat(&found.name, MemberId::new(member), known, &returned, wait);
        let answer = tokio::select! {
            biased;
            answer = beat => answer.map_err(|error| status(found.refused(member, error)))?,
            // Another node leads soon, and is asked then.
            () = self.shared.ending.cancelled() => return Err(status(ending())),
        };
        let generation = answer.generation.get();
        Ok(Response::new(v1::ReaderHeartbeatResponse { generation, shares: shares(answer.shares) }))
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveReaderGroupRequest>,
    ) -> Result<Response<v1::LeaveReaderGroupResponse>, Status> {
        let _busy = self.shared.busy.token();
        let v1::LeaveReaderGroupRequest { group, member } = request.into_inner();
        let found = self.find(&group).await.map_err(status)?;
        let left = found.replica.leave(&found.name, MemberId::new(member)).await;
        let left = left.map_err(|error| status(found.refused(member, error)))?;
        Ok(Response::new(v1::LeaveReaderGroupResponse { left }))
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeReaderGroupRequest>,
    ) -> Result<Response<v1::DescribeReaderGroupResponse>, Status> {
        let found = self.find(&request.into_inner().group).await.map_err(status)?;
        let group = found.replica.describe(&found.name).await;
        let group = group.map_err(|error| status(found.refused(0, error)))?;
        let members = group.members.into_iter().map(|it| v1::ReaderMemberDescription {
            member: it.id.get(),
            client: it.member.client,
            session_ms: it.member.session_ms,
            joined: it.member.joined.get(),
            heard_ms: u64::try_from(it.silent_for.as_millis()).unwrap_or(u64::MAX),
            shares: shares(it.shares),
        });
        Ok(Response::new(v1::DescribeReaderGroupResponse {
            group: found.name.to_string(),
            pattern: group.pattern,
            generation: group.generation.get(),
            members: members.collect(),
            logs: group.logs as u64,
            left_out: group.left_out,
        }))
    }

    async fn list(
        &self,
        request: Request<v1::ListReaderGroupsRequest>,
    ) -> Result<Response<v1::ListReaderGroupsResponse>, Status> {
        let v1::ListReaderGroupsRequest { registrar, after, limit } = request.into_inner();
        let limit = match limit {
            0 => DEFAULT_PAGE,
            limit if limit > LARGEST_PAGE => {
                return Err(status(v1::Error::too_large("limit", LARGEST_PAGE.into(), limit.into())));
            }
            limit => limit,
        };
        let after = match &*after {
            "" => None,
            after => Some(group_name("after", after).map_err(status)?),
        };
        let (replica, registrars) = match self.node().registrar_numbered(registrar as usize).await {
            Ok(found) => found,
            Err(error) => match of_lookup(error) {
                Some(error) => return Err(status(error)),
                None => return Ok(Response::new(v1::ListReaderGroupsResponse::default())),
            },
        };
        let listed = replica.list(after.as_ref(), limit as usize).await;
        let (groups, more) = listed.map_err(|error| status(of_registrar(self.node(), &replica, error)))?;
        let groups = groups.into_iter().map(|(name, group)| v1::ReaderGroupSummary {
            group: name.to_string(),
            pattern: group.pattern,
            generation: group.generation.get(),
            members: group.members as u64,
            logs: group.logs as u64,
        });
        let registrars = u32::try_from(registrars).unwrap_or(u32::MAX);
        Ok(Response::new(v1::ListReaderGroupsResponse { groups: groups.collect(), more, registrars }))
    }
}

/// A request to join, if it can be one.
fn joining(request: v1::JoinReaderGroupRequest) -> Result<Joining, v1::Error> {
    let v1::JoinReaderGroupRequest { group, pattern, client, session_ms, request_id, wait_for_logs } = request;
    if client.is_empty() || client.len() > MAX_CLIENT_BYTES {
        let reason = format!("it has {} bytes and may have from 1 to {MAX_CLIENT_BYTES}", client.len());
        return Err(v1::Error::invalid_argument("client", reason));
    }
    if request_id.len() != REQUEST_ID_BYTES {
        let reason = format!("it has {} bytes and has to have {REQUEST_ID_BYTES}", request_id.len());
        return Err(v1::Error::invalid_argument("request_id", reason));
    }
    let session_ms = if session_ms == 0 { DEFAULT_SESSION_MS } else { session_ms };
    if !(MIN_SESSION_MS..=MAX_SESSION_MS).contains(&session_ms) {
        let reason = format!("{session_ms} is not from {MIN_SESSION_MS} to {MAX_SESSION_MS}");
        return Err(v1::Error::invalid_argument("session_ms", reason));
    }
    let pattern: LogPattern = pattern.parse().map_err(|why: LogNameError| {
        let why = why.to_string().replacen("a log name", "a pattern, * and ? apart,", 1);
        v1::Error::invalid_argument("pattern", why)
    })?;
    let group = group_name("group", &group)?;
    Ok(Joining { group, pattern, client, session_ms, request_id, may_wait: wait_for_logs })
}

fn group_name(field: &str, name: &str) -> Result<ReaderGroupName, v1::Error> {
    name.parse().map_err(|error| v1::Error::invalid_argument(field, error))
}

fn shares(shares: Vec<(LogName, LogId, Held)>) -> Vec<v1::ReaderShare> {
    let share = |(log, id, held): (LogName, LogId, Held)| v1::ReaderShare {
        log: log.to_string(),
        log_id: id.get(),
        generation: held.generation.get(),
        returning: held.returning,
    };
    shares.into_iter().map(share).collect()
}

/// A registrar could not be found here; none if there is no reader group at all.
fn of_lookup(error: RegistrarLookupError) -> Option<v1::Error> {
    match error {
        RegistrarLookupError::None => None,
        RegistrarLookupError::NoReplicaHere { replicas } => Some(v1::Error::not_leader(None, replicas)),
        RegistrarLookupError::Starting { reason, replicas } if replicas.is_empty() => {
            Some(v1::Error::unavailable(reason))
        }
        RegistrarLookupError::Starting { replicas, .. } => Some(v1::Error::not_leader(None, replicas)),
    }
}

/// A registrar did not do what was asked, for what is no fault of the request.
fn of_registrar(node: &RaftNode, replica: &RegistrarReplica, error: ReadersError) -> v1::Error {
    let elsewhere = |leader: Option<(ReplicaId, NodeId)>| {
        let leader = leader.and_then(|(_, leader)| node.peer(leader));
        v1::Error::not_leader(leader, node.registrar_replicas(replica.group().key().group))
    };
    match error {
        ReadersError::NotLeader { leader } => elsewhere(leader),
        ReadersError::Stopped(_) => elsewhere(None),
        error @ ReadersError::OutcomeUnknown => v1::Error::outcome_unknown(error),
        error @ (ReadersError::Unavailable { .. } | ReadersError::Refused(_)) => v1::Error::unavailable(error),
    }
}
