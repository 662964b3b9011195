//! Appending and reading, as the script says.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use quipu_protocol::v1;
use quipu_protocol::v1::append_response::Outcome;
use quipu_protocol::v1::records_server::Records;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Node, OnAppend, OnRead, Resolved};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Records for Node {
    type AppendStream = Answers<v1::AppendResponse>;
    type ReadStream = Answers<v1::ReadResponse>;

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (answers, stream) = mpsc::unbounded_channel();
        let node = self.clone();
        let serve = async move { node.serve_appends(request.into_inner(), answers).await };
        self.environment.tasks.spawn("fake-append", Box::pin(serve)).detach();
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }

    async fn append_one(&self, _: Request<v1::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        Err(Status::unimplemented("not used by the SDK"))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        self.world.state().reads.push((self.node, request.clone()));
        self.world.changed();
        if request.consistency() != v1::Consistency::Local {
            self.world.check_leader(self.node, &request.log, request.log_id)?;
        }
        let script = self.world.state().on_read.pop_front();
        if let Some(OnRead::Refuse(error)) = script {
            return Err(error.into());
        }
        let (start, end, log_id) = {
            let mut state = self.world.state();
            let log = state.find(&request.log, request.log_id)?;
            (log.start, log.end, log.id)
        };
        let from = match request.from {
            Some(v1::read_request::From::Offset(offset)) => offset,
            Some(v1::read_request::From::End(_)) => end,
            Some(v1::read_request::From::Start(_)) | None => start,
        };
        if !(start..=end).contains(&from) {
            let range = quipu_sdk::OffsetRange::new(quipu_sdk::Offset::new(start), quipu_sdk::Offset::new(end));
            return Err(v1::Error::out_of_range(quipu_sdk::Offset::new(from), range).into());
        }
        let (answers, stream) = mpsc::unbounded_channel();
        let node = self.clone();
        let serve = async move { node.serve_read(request, log_id, from, script, answers).await };
        self.environment.tasks.spawn("fake-read", Box::pin(serve)).detach();
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }

    async fn offsets(&self, request: Request<v1::OffsetsRequest>) -> Result<Response<v1::OffsetsResponse>, Status> {
        let request = request.into_inner();
        if request.consistency() != v1::Consistency::Local {
            self.world.check_leader(self.node, &request.log, request.log_id)?;
        }
        let mut state = self.world.state();
        let log = state.find(&request.log, request.log_id)?;
        Ok(Response::new(v1::OffsetsResponse { start: log.start, end: log.end, log_id: log.id, freshness: None }))
    }

    async fn offset_at(&self, request: Request<v1::OffsetAtRequest>) -> Result<Response<v1::OffsetAtResponse>, Status> {
        let request = request.into_inner();
        if request.consistency() != v1::Consistency::Local {
            self.world.check_leader(self.node, &request.log, request.log_id)?;
        }
        let mut state = self.world.state();
        let log = state.find(&request.log, request.log_id)?;
        let records = log.batches.iter().flat_map(|(_, batch)| {
            quipu_protocol::batch::records(batch, 1 << 30).expect("sound").map(|record| record.expect("sound"))
        });
        let found = records
            .map(|(offset, record)| (offset.get(), record.timestamp.get()))
            .find(|(offset, timestamp)| *offset >= log.start && *timestamp >= request.timestamp);
        Ok(Response::new(v1::OffsetAtResponse {
            offset: found.map_or(log.end, |(offset, _)| offset),
            timestamp: found.map(|(_, timestamp)| timestamp),
            start: log.start,
            end: log.end,
            log_id: log.id,
        }))
    }

    async fn acquire_writer(
        &self,
        request: Request<v1::AcquireWriterRequest>,
    ) -> Result<Response<v1::AcquireWriterResponse>, Status> {
        let v1::AcquireWriterRequest { log, holder, request_id, log_id } = request.into_inner();
        self.world.answer_of_change()?;
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let (epoch, end) = log.acquire(request_id, &holder);
        Ok(Response::new(v1::AcquireWriterResponse { epoch, end, log_id: log.id }))
    }

    async fn describe_writer(
        &self,
        request: Request<v1::DescribeWriterRequest>,
    ) -> Result<Response<v1::DescribeWriterResponse>, Status> {
        let v1::DescribeWriterRequest { log, log_id } = request.into_inner();
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let (epoch, holder) = (log.writer.epoch, log.writer.holder.clone());
        let (start, end, log_id) = (log.start, log.end, log.id);
        Ok(Response::new(v1::DescribeWriterResponse { epoch, holder, acquired_at: 0, start, end, log_id }))
    }

    async fn resolve(&self, request: Request<v1::ResolveRequest>) -> Result<Response<v1::ResolveResponse>, Status> {
        use quipu_sdk::{ProducerEpoch, ProducerId, Sequence};
        use v1::resolve_response::{Forgotten, Landed, NeverLands, Outcome};
        let v1::ResolveRequest { log, producer_id, producer_epoch, sequence, log_id } = request.into_inner();
        self.world.answer_of_change()?;
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let epoch = ProducerEpoch::new(i16::try_from(producer_epoch).expect("the SDK has no other"));
        log.resolutions += 1;
        let outcome = match log.dedupe.resolve(ProducerId::new(producer_id), epoch, Sequence::new(sequence)) {
            Resolved::Landed { start, end } => Outcome::Landed(Landed { start, end }),
            Resolved::Never => Outcome::Never(NeverLands {}),
            Resolved::Forgotten => Outcome::Forgotten(Forgotten {}),
        };
        Ok(Response::new(v1::ResolveResponse { outcome: Some(outcome), log_id: log.id }))
    }

    async fn hold_lease(
        &self,
        request: Request<v1::HoldLeaseRequest>,
    ) -> Result<Response<v1::HoldLeaseResponse>, Status> {
        let v1::HoldLeaseRequest { log, holder, offset, ms, grant, log_id, request_id, .. } = request.into_inner();
        self.world.answer_of_change()?;
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        assert_ne!(request_id, 0, "a late copy would not be known");
        let held = log.leases.get(&holder);
        if grant != 0 && held.is_none_or(|held| held.grant != grant) {
            return Err(v1::Error::lease_not_held(&holder, held.map(|held| held.grant)).into());
        }
        let offset = offset.or(held.map(|held| held.offset)).unwrap_or(log.start);
        log.grants += u64::from(grant == 0);
        let grant = if grant == 0 { log.grants } else { grant };
        let until = i64::try_from(ms).unwrap_or(i64::MAX);
        let lease = v1::Lease { holder: holder.clone(), offset, until, grant, log_id: log.id };
        log.leases.insert(holder, lease.clone());
        Ok(Response::new(v1::HoldLeaseResponse { lease: Some(lease), log_id: log.id }))
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Result<Response<v1::ReleaseLeaseResponse>, Status> {
        let v1::ReleaseLeaseRequest { log, holder, log_id, grant } = request.into_inner();
        self.world.answer_of_change()?;
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let held = log.leases.get(&holder).map(|held| held.grant);
        if held.is_some_and(|held| held != grant) {
            return Err(v1::Error::lease_not_held(&holder, held).into());
        }
        let released = log.leases.remove(&holder).is_some();
        Ok(Response::new(v1::ReleaseLeaseResponse { released, log_id: log.id }))
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        let v1::ListLeasesRequest { log, log_id } = request.into_inner();
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let leases = log.leases.values().cloned().collect();
        let (start, end, grants) = (log.start, log.end, log.grants);
        Ok(Response::new(v1::ListLeasesResponse { leases, grants, start, end, log_id: log.id }))
    }

    async fn trim(&self, request: Request<v1::TrimRequest>) -> Result<Response<v1::TrimResponse>, Status> {
        let v1::TrimRequest { log, to, force, log_id } = request.into_inner();
        self.world.answer_of_change()?;
        self.world.check_leader(self.node, &log, log_id)?;
        let mut state = self.world.state();
        let log = state.find(&log, log_id)?;
        let to = to.min(log.end);
        let stranded: Vec<v1::Lease> = log.leases.values().filter(|lease| lease.offset < to).cloned().collect();
        if !force && !stranded.is_empty() {
            return Err(v1::Error::strands_leases(stranded).into());
        }
        log.leases.retain(|_, lease| lease.offset >= to);
        log.start = log.start.max(to);
        Ok(Response::new(v1::TrimResponse { start: log.start, end: log.end, stranded, log_id: log.id }))
    }
}

impl Node {
    async fn serve_appends(
        &self,
        mut requests: Streaming<v1::AppendRequest>,
        answers: mpsc::UnboundedSender<Result<v1::AppendResponse, Status>>,
    ) {
        let mut late: Vec<v1::AppendResponse> = Vec::new();
        let mut open = 0;
        while let Some(Ok(asked)) = requests.next().await {
            let script = {
                let mut state = self.world.state();
                state.appends += 1;
                state.in_flight += 1;
                state.most_in_flight = state.most_in_flight.max(state.in_flight);
                state.on_append.pop_front().unwrap_or(OnAppend::Land)
            };
            open += 1;
            self.world.changed();
            let answer = |outcome| v1::AppendResponse { request: asked.request, outcome: Some(outcome) };
            let outcome = |landed: Result<v1::Appended, v1::Error>| match landed {
                Ok(appended) => answer(Outcome::Appended(appended)),
                Err(error) => answer(Outcome::Error(error)),
            };
            let land = || {
                let leads = self.world.check_leader(self.node, &asked.log, asked.log_id);
                leads.and_then(|()| self.world.land(&asked))
            };
            let answer = match script {
                OnAppend::Land => outcome(land()),
                OnAppend::LandAndAnswerLate => {
                    late.push(outcome(land()));
                    continue;
                }
                OnAppend::LandAndBreak => {
                    land().expect("the script wants it to land");
                    let _ = answers.send(Err(Status::unavailable("broken by the script")));
                    break;
                }
                OnAppend::Break => {
                    let _ = answers.send(Err(Status::unavailable("broken by the script")));
                    break;
                }
                OnAppend::Hold => {
                    self.world.state().stragglers.push(asked);
                    self.world.changed();
                    continue;
                }
                OnAppend::Refuse(error) => outcome(Err(error)),
                OnAppend::MoveLeader(node) => {
                    self.world.state().leader = node;
                    outcome(land())
                }
            };
            open -= 1 + late.len();
            self.world.state().in_flight -= 1 + late.len();
            for answer in std::iter::once(answer).chain(late.drain(..)) {
                let _ = answers.send(Ok(answer));
            }
        }
        self.world.state().in_flight -= open;
        self.world.changed();
    }

    async fn serve_read(
        &self,
        request: v1::ReadRequest,
        log_id: u64,
        from: u64,
        script: Option<OnRead>,
        answers: mpsc::UnboundedSender<Result<v1::ReadResponse, Status>>,
    ) {
        let mut changes = self.world.changes.subscribe();
        let (mut next, mut sent) = (from, 0);
        loop {
            let (batch, start, end, log_id) = {
                let mut state = self.world.state();
                // A log that is dropped under its readers ends them.
                let Ok(log) = state.find(&request.log, log_id) else { return };
                let batch = log.batches.iter().rev().find(|(base, _)| *base <= next && next < log.end).cloned();
                (batch, log.start, log.end, log.id)
            };
            let answer = |batches: Vec<bytes::Bytes>, next| {
                let batches = batches.into_iter().map(Into::into).collect();
                v1::ReadResponse { batches, start, end, next, log_id, freshness: None }
            };
            match script {
                Some(OnRead::BreakAfter(after)) if after == sent => {
                    let _ = answers.send(Err(Status::unavailable("broken by the script")));
                    return;
                }
                Some(OnRead::EndAfter(after)) if after == sent => return,
                Some(OnRead::StallAfter(after)) if after == sent => return answers.closed().await,
                _ => {}
            }
            let bound = request.max_records;
            match batch {
                Some((base, batch)) if bound == 0 || next - from < bound => {
                    next = base + u64::from(quipu_protocol::batch::BatchHeader::parse(&batch).expect("sound").count);
                    sent += 1;
                    let batches = match script {
                        Some(OnRead::SkipAfter(after)) if after + 1 == sent => Vec::new(),
                        Some(OnRead::CorruptAfter(after)) if after + 1 == sent => {
                            let mut bytes = batch.to_vec();
                            *bytes.last_mut().expect("not empty") ^= 1;
                            vec![bytes.into()]
                        }
                        _ => vec![batch],
                    };
                    let _ = answers.send(Ok(answer(batches, next)));
                }
                None if request.follow => {
                    if answers.is_closed() || changes.changed().await.is_err() {
                        return;
                    }
                }
                _ => {
                    if sent == 0 {
                        let _ = answers.send(Ok(answer(Vec::new(), next)));
                    }
                    return;
                }
            }
        }
    }
}
