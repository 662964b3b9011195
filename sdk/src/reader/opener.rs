//! Finding a node to read from, and opening a stream there.

use std::sync::Arc;
use std::time::Duration;

use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_protocol::{LogId, LogName, NodeId, Offset, Timestamp, v1};
use tonic::Streaming;

use crate::cluster::verdict::{self, Failure, Verdict};
use crate::cluster::{Cluster, MAX_MESSAGE_BYTES, Pursuit, PursuitError, ReadingChannel, Refusal, Target};
use crate::{Consistency, From, ReadError, ReaderConfig, RequestError, client};

/// All that it takes to open a stream, again and again.
pub(super) struct Opener {
    cluster: Arc<Cluster>,
    log: LogName,
    /// The log's id once an answer has named it: none of its name that comes
    /// after it is read. 0 before.
    log_id: u64,
    config: ReaderConfig,
    consistency: Consistency,
    pursuit: Pursuit,
    /// Where the end, or a time, was found to be when reading from there began:
    /// it must not move when a stream is lost before its first answer.
    place: Option<Offset>,
    /// The furthest start that a replica has named; 0 before.
    least: Offset,
    /// Whether records were yielded, or a replica has named the place, which says
    /// whose fault it is when a node does not have the next one.
    resumed: bool,
}

/// An open stream.
pub(super) struct Open {
    pub(super) address: String,
    pub(super) answers: Streaming<v1::ReadResponse>,
    /// Where it comes from.
    pub(super) connection: ReadingChannel,
    /// Where it begins, unless that is at the start.
    pub(super) position: Option<Offset>,
}

impl Opener {
    pub(super) fn new(cluster: Arc<Cluster>, log: LogName, config: ReaderConfig) -> Self {
        let (target, consistency) = match (config.node, config.consistency) {
            (Some(node), _) => (Target::Node(node), Consistency::Local),
            (None, Consistency::Local) => (Target::Any, Consistency::Local),
            (None, Consistency::Linearizable) => (Target::Leader(log.clone()), Consistency::Linearizable),
        };
        let pursuit = Pursuit::new(Arc::clone(&cluster), target, Some(cluster.config.retry_timeout));
        let log_id = config.after.map_or(0, |barrier| barrier.log.get());
        Self { cluster, log, log_id, config, consistency, pursuit, place: None, least: Offset::ZERO, resumed: false }
    }

    /// Opens a stream at `position` (at the configured place while there is
    /// none), at most `remaining` records long. Gives itself back.
    pub(super) async fn open(
        mut self,
        position: Option<Offset>,
        remaining: Option<u64>,
    ) -> (Self, Result<Open, ReadError>) {
        let opened = self.find_and_open(position, remaining).await;
        (self, opened)
    }

    async fn find_and_open(&mut self, position: Option<Offset>, remaining: Option<u64>) -> Result<Open, ReadError> {
        if let Some(node) = self.config.node {
            self.know(node).await?;
        }
        let position = match (position, self.config.from) {
            (None, From::End) => Some(self.find_end().await?),
            (None, From::Time(at)) => Some(self.find_time(at).await?),
            (position, _) => position,
        };
        loop {
            let address = self.pursuit.next_address().await.map_err(|error| self.error(error, position))?;
            match self.read(&address, position, remaining).await {
                Ok((connection, answers)) => return Ok(Open { address, answers, connection, position }),
                Err(failure) => self.failed(&address, failure, position)?,
            }
        }
    }

    /// One attempt at one node.
    async fn read(
        &self,
        address: &str,
        position: Option<Offset>,
        remaining: Option<u64>,
    ) -> Result<(ReadingChannel, Streaming<v1::ReadResponse>), Failure> {
        use v1::read_request::From as Wire;
        let connection = self.cluster.reading_channel(address)?;
        let request = v1::ReadRequest {
            log: self.log.to_string(),
            from: Some(position.map_or(Wire::Start(v1::read_request::Start {}), |offset| Wire::Offset(offset.get()))),
            max_records: remaining.unwrap_or(0),
            max_bytes: self.config.max_bytes,
            follow: self.config.follow,
            consistency: self.consistency.on_wire().into(),
            log_id: self.log_id,
            at_least: self.config.after.map_or(0, |barrier| barrier.end.get()),
            wait_ms: if self.config.after.is_some() { milliseconds(self.config.after_wait) } else { 0 },
            max_age_ms: self.config.max_age.map(|age| milliseconds(age).into()),
        };
        let mut client = RecordsClient::new(connection.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let waits = Duration::from_millis(request.wait_ms.into());
        let limit = self.cluster.config.request_timeout.saturating_add(waits);
        match self.cluster.environment.clock.timeout(limit, client.read(request)).await {
            Ok(Ok(response)) => Ok((connection, response.into_inner())),
            Ok(Err(status)) => Err(verdict::of_status(address, &status)),
            Err(_) => {
                self.cluster.discard_reading_channel(address, &connection);
                Err(verdict::timed_out(address, limit))
            }
        }
    }

    /// Makes sure that the chosen node's address is known.
    async fn know(&self, node: NodeId) -> Result<(), ReadError> {
        if self.cluster.address_of(node).is_none() {
            client::status(&self.cluster).await.map_err(|error| self.error(error, None))?;
            if self.cluster.address_of(node).is_none() {
                return Err(ReadError::UnknownNode { node });
            }
        }
        Ok(())
    }

    async fn find_end(&mut self) -> Result<Offset, ReadError> {
        if let Some(end) = self.place {
            return Ok(end);
        }
        let target = self.pursuit.target().clone();
        let offsets = client::offsets(&self.cluster, target, &self.log, self.log_id, self.consistency).await;
        let offsets = offsets.map_err(|error| self.error(error, None))?;
        self.is_of(offsets.log_id);
        // What a replica that was ahead has said of the start holds for all, and so
        // does the end that a barrier has named.
        let least = self.config.after.map_or(self.least, |barrier| self.least.max(barrier.end));
        let end = offsets.range.end().max(least);
        self.named_by_the_cluster(end);
        Ok(end)
    }

    async fn find_time(&mut self, at: Timestamp) -> Result<Offset, ReadError> {
        if let Some(place) = self.place {
            return Ok(place);
        }
        let target = self.pursuit.target().clone();
        let found = client::offset_at(&self.cluster, target, &self.log, self.log_id, at, self.consistency).await;
        let (log_id, found) = found.map_err(|error| self.error(error, None))?;
        self.is_of(log_id);
        self.named_by_the_cluster(found.offset);
        Ok(found.offset)
    }

    /// Reading begins at a place that some replica named: another one that has
    /// not got there yet is to catch up.
    fn named_by_the_cluster(&mut self, place: Offset) {
        self.place = Some(place);
        self.resumed = true;
    }

    /// The log starts at `start`, as some replica has said.
    pub(super) fn starts_at(&mut self, start: Offset) {
        self.least = self.least.max(start);
        self.resumed = true;
    }

    /// From here on, where there is no position, reading begins at the end as
    /// of the next stream.
    pub(super) fn begin_at_end(&mut self) {
        (self.config.from, self.place) = (From::End, None);
    }

    /// Which log it is, once that is known.
    pub(super) fn log_id(&self) -> Option<LogId> {
        (self.log_id != 0).then_some(LogId::new(self.log_id))
    }

    /// An answer names the log's id.
    pub(super) fn is_of(&mut self, log_id: u64) {
        if self.log_id == 0 {
            self.log_id = log_id;
        }
    }

    /// A stream to `address` works; `yields` says whether it brought records.
    pub(super) fn succeeded(&mut self, address: &str, yields: bool) {
        self.pursuit.succeeded(address);
        self.resumed |= yields;
    }

    /// A stream to `address` failed, or an attempt at one. An error says that
    /// another attempt is of no use.
    pub(super) fn failed(
        &mut self,
        address: &str,
        mut failure: Failure,
        position: Option<Offset>,
    ) -> Result<(), ReadError> {
        tracing::debug!(log = %self.log, address, error = %failure.attempt, "read stream lost");
        // A replica that is behind what another one (or itself, before it was
        // restarted) has given out already is to catch up, not to blame.
        if let Verdict::Final(refusal) = &failure.verdict
            && let Some(Kind::OutOfRange(range)) = &refusal.error.kind
            && self.resumed
            && position.is_some_and(|position| position.get() > range.end)
        {
            failure.verdict = Verdict::Another;
        }
        self.pursuit.failed(address, failure).map_err(|error| self.error(error, position))
    }

    fn error(&self, error: PursuitError, position: Option<Offset>) -> ReadError {
        read_error(&self.log, error, position)
    }
}

/// Why `log` is not read at `position`.
pub(crate) fn read_error(log: &LogName, error: PursuitError, position: Option<Offset>) -> ReadError {
    let Refusal { address, error } = match error {
        PursuitError::Refused { refusal, .. } => refusal,
        PursuitError::GivenUp(error) => return error.into(),
    };
    match error.kind {
        Some(Kind::UnknownLog(_)) => ReadError::UnknownLog { log: log.clone() },
        Some(Kind::OutOfRange(range)) => {
            let offset = position.unwrap_or_default();
            let (start, end) = (Offset::new(range.start), Offset::new(range.end));
            if offset < start { ReadError::BelowStart { offset, start } } else { ReadError::AboveEnd { offset, end } }
        }
        Some(Kind::Damaged(damaged)) => ReadError::Damaged { node: NodeId::new(damaged.node), message: error.message },
        Some(Kind::NoSuchReplica(missing)) => ReadError::NoSuchReplica {
            node: NodeId::new(missing.node),
            replicas: missing.replicas.iter().map(|peer| NodeId::new(peer.node)).collect(),
        },
        Some(Kind::TooStale(stale)) => ReadError::TooStale {
            node: NodeId::new(stale.node),
            max_age: Duration::from_millis(stale.max_age_ms),
            age: stale.age_ms.map(Duration::from_millis),
            end: Offset::new(stale.end),
            leader_end: Offset::new(stale.leader_end),
        },
        Some(Kind::NotYetApplied(missing)) => ReadError::NotYetApplied {
            node: NodeId::new(missing.node),
            at_least: Offset::new(missing.at_least),
            end: Offset::new(missing.end),
        },
        _ => RequestError::Refused { address, message: error.message, maybe_done: false }.into(),
    }
}

/// Whole milliseconds, as far as they can be said.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
