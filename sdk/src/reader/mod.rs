//! Reading one log.
//!
//! ```text
//!   position known? ─no─► ask for it ─┐
//!        │yes                         │
//!        ▼                            ▼
//!   stream open? ─no─► find a node, open one at the position
//!        │yes                         ▲
//!        ▼                            │ any failure
//!   answers ──► Intake ──► records ───┘
//! ```
//!
//! All state is in the reader, none in a future: a call of `next` that is
//! dropped halfway loses nothing. A reader holds at most one answer and what
//! its connection's flow control lets in (4 MiB); it has a connection of its
//! own, so that one which nobody reads from holds up nothing else.

mod intake;

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{Either, select};
use quipu_protocol::batch::{Header, Record};
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_protocol::{LogName, NodeId, Offset, Timestamp, v1};
use tonic::Streaming;

use crate::cluster::verdict::{self, Failure};
use crate::cluster::{Cluster, MAX_MESSAGE_BYTES, Pursuit, PursuitError, Refusal, Target};
use crate::{Consistency, From, ReadError, ReaderConfig, RequestError, client};
use intake::{Intake, Unfit};

/// Reads one log, record by record.
pub struct Reader {
    cluster: Arc<Cluster>,
    log: LogName,
    config: ReaderConfig,
    consistency: Consistency,
    pursuit: Pursuit,
    /// What arrives; there is none until it is known where to begin.
    intake: Option<Intake>,
    stream: Option<Open>,
    /// The first position that was given out, which says whose fault it is
    /// when a node does not have the next one.
    resumed: bool,
    done: bool,
}

struct Open {
    address: String,
    answers: Streaming<v1::ReadResponse>,
    /// The end as the node said with its first answer.
    settled_end: Option<Offset>,
}

/// A record with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// Its place.
    pub offset: Offset,
    /// When its producer says it happened.
    pub timestamp: Timestamp,
    /// What it is about, if anything.
    pub key: Option<Bytes>,
    /// What it says.
    pub value: Option<Bytes>,
    /// Further facts, in order; a key may repeat.
    pub headers: Vec<Header>,
}

impl Reader {
    pub(crate) fn new(cluster: Arc<Cluster>, log: LogName, config: ReaderConfig) -> Self {
        let (target, consistency) = match (config.node, config.consistency) {
            (Some(node), _) => (Target::Node(node), Consistency::Local),
            (None, Consistency::Local) => (Target::Any, Consistency::Local),
            (None, Consistency::Linearizable) => (Target::Leader(log.clone()), Consistency::Linearizable),
        };
        let pursuit = Pursuit::new(Arc::clone(&cluster), target, Some(cluster.config.retry_timeout));
        let intake = match config.from {
            From::Offset(offset) => Some(Intake::new(offset, config.max_records)),
            From::Start | From::End => None,
        };
        let done = config.max_records == Some(0);
        Self { cluster, log, config, consistency, pursuit, intake, stream: None, resumed: false, done }
    }

    /// The next record; `None` once there is none: at the end without
    /// `follow`, or after `max_records`.
    ///
    /// Goes on by itself after any failure that another attempt may mend, and
    /// fails after `retry_timeout` without any progress. Dropping the future
    /// loses nothing. After an error that
    /// [is retryable](ReadError::is_retryable), call it again.
    pub async fn next(&mut self) -> Result<Option<ReadRecord>, ReadError> {
        loop {
            if self.done {
                return Ok(None);
            }
            if let Some(record) = self.arrived()? {
                return Ok(Some(record));
            }
            if self.intake.as_ref().is_some_and(Intake::is_full) {
                self.stream = None;
                self.done = true;
            } else if self.stream.is_some() {
                self.receive().await?;
            } else {
                self.open().await?;
            }
        }
    }

    /// The records as a stream, for combinators.
    pub fn into_stream(self) -> impl Stream<Item = Result<ReadRecord, ReadError>> + Send {
        futures_util::stream::unfold(self, |mut reader| async {
            let next = reader.next().await.transpose()?;
            Some((next, reader))
        })
    }

    /// The next record of what has arrived.
    fn arrived(&mut self) -> Result<Option<ReadRecord>, ReadError> {
        let Some(intake) = &mut self.intake else { return Ok(None) };
        let unfit = match intake.next() {
            Ok(record) => return Ok(record),
            Err(unfit) => unfit,
        };
        let (offset, expected) = (intake.position(), intake.position());
        let address = self.stream.take().map(|open| open.address).unwrap_or_default();
        intake.begin_stream();
        Err(match unfit {
            Unfit::Corrupt(source) => ReadError::Corrupt { address, offset, source },
            Unfit::NotContiguous { found } => ReadError::NotContiguous { address, expected, found },
        })
    }

    /// Opens a stream at the position.
    async fn open(&mut self) -> Result<(), ReadError> {
        if let Some(node) = self.config.node {
            self.know(node).await?;
        }
        if self.config.from == From::End && self.intake.is_none() {
            self.find_end().await?;
        }
        let address = self.pursuit.next_address().await.map_err(|error| self.error(error))?;
        if let Some(intake) = &mut self.intake {
            intake.begin_stream();
        }
        let channel = match self.cluster.dedicated_channel(&address) {
            Ok(channel) => channel,
            Err(failure) => return self.failed(&address, failure),
        };
        let mut client = RecordsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let limit = self.cluster.config.request_timeout;
        match self.cluster.environment.clock.timeout(limit, client.read(self.request())).await {
            Ok(Ok(response)) => {
                self.stream = Some(Open { address, answers: response.into_inner(), settled_end: None });
                Ok(())
            }
            Ok(Err(status)) => self.failed(&address, verdict::of_status(&address, &status)),
            Err(_) => self.failed(&address, verdict::timed_out(&address, limit)),
        }
    }

    /// Makes sure that the chosen node's address is known.
    async fn know(&self, node: NodeId) -> Result<(), ReadError> {
        if self.cluster.address_of(node).is_none() {
            client::status(&self.cluster).await.map_err(|error| self.error(error))?;
            if self.cluster.address_of(node).is_none() {
                return Err(ReadError::UnknownNode { node });
            }
        }
        Ok(())
    }

    /// Asks where the end is, once: it must not move when a stream is lost
    /// before its first answer.
    async fn find_end(&mut self) -> Result<(), ReadError> {
        let target = self.pursuit.target().clone();
        let range = client::offsets(&self.cluster, target, &self.log, self.consistency);
        let range = range.await.map_err(|error| self.error(error))?;
        self.intake = Some(Intake::new(range.end(), self.config.max_records));
        Ok(())
    }

    fn request(&self) -> v1::ReadRequest {
        use v1::read_request::From as Wire;
        let remaining = self.intake.as_ref().map_or(self.config.max_records, Intake::remaining);
        v1::ReadRequest {
            log: self.log.to_string(),
            from: Some(match &self.intake {
                Some(intake) => Wire::Offset(intake.position().get()),
                None => Wire::Start(v1::read_request::Start {}),
            }),
            max_records: remaining.unwrap_or(0),
            max_bytes: self.config.max_bytes,
            follow: self.config.follow,
            consistency: self.consistency.on_wire().into(),
        }
    }

    /// Takes the stream's next answer in.
    async fn receive(&mut self) -> Result<(), ReadError> {
        let Some(open) = &mut self.stream else { return Ok(()) };
        let limit = self.cluster.config.request_timeout;
        let patience = async {
            if self.config.follow {
                // Silence is no failure here; a dead connection is found by
                // its probes.
                std::future::pending::<()>().await;
            } else {
                self.cluster.environment.clock.sleep(limit).await;
            }
        };
        let answer = match select(pin!(open.answers.message()), pin!(patience)).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(((), _)) => None,
        };
        match answer {
            Some(Ok(Some(answer))) => {
                self.take_in(answer);
                Ok(())
            }
            Some(Ok(None)) if self.reached_end() => {
                self.stream = None;
                self.done = true;
                Ok(())
            }
            // A node that shuts down may end its streams as if all were read.
            Some(Ok(None)) => self.lost(verdict::ended),
            Some(Err(status)) => self.lost(|address| verdict::of_status(address, &status)),
            None => self.lost(|address| verdict::timed_out(address, limit)),
        }
    }

    fn take_in(&mut self, answer: v1::ReadResponse) {
        let Some(open) = &mut self.stream else { return };
        self.pursuit.succeeded(&open.address);
        open.settled_end.get_or_insert(Offset::new(answer.end));
        let (start, max_records) = (Offset::new(answer.start), self.config.max_records);
        let intake = self.intake.get_or_insert_with(|| Intake::new(start, max_records));
        self.resumed |= !answer.batches.is_empty();
        intake.add(answer.batches);
    }

    /// Whether a stream that has ended may have: all that the node has said to
    /// be there was read.
    fn reached_end(&self) -> bool {
        let settled_end = self.stream.as_ref().and_then(|open| open.settled_end);
        let position = self.intake.as_ref().map(Intake::position);
        !self.config.follow && settled_end.is_none_or(|end| position.is_some_and(|position| position >= end))
    }

    /// The stream is gone; the next one goes on at the position.
    fn lost(&mut self, failure: impl FnOnce(&str) -> Failure) -> Result<(), ReadError> {
        match self.stream.take() {
            Some(open) => self.failed(&open.address, failure(&open.address)),
            None => Ok(()),
        }
    }

    fn failed(&mut self, address: &str, mut failure: Failure) -> Result<(), ReadError> {
        tracing::debug!(log = %self.log, address, error = %failure.attempt, "read stream lost");
        // A replica that is behind what another one (or itself, before it was
        // restarted) has given out already is to catch up, not to blame.
        if let verdict::Verdict::Final(refusal) = &failure.verdict
            && let Some(Kind::OutOfRange(range)) = &refusal.error.kind
            && self.resumed
            && self.intake.as_ref().is_some_and(|intake| intake.position().get() > range.end)
        {
            failure.verdict = verdict::Verdict::Another;
        }
        self.pursuit.failed(address, failure).map_err(|error| self.error(error))
    }

    fn error(&self, error: PursuitError) -> ReadError {
        let Refusal { address, error } = match error {
            PursuitError::Refused(refusal) => refusal,
            PursuitError::GivenUp(error) => return error.into(),
        };
        match error.kind {
            Some(Kind::UnknownLog(_)) => ReadError::UnknownLog { log: self.log.clone() },
            Some(Kind::OutOfRange(range)) => {
                let offset = self.intake.as_ref().map_or(Offset::ZERO, Intake::position);
                let (start, end) = (Offset::new(range.start), Offset::new(range.end));
                if offset < start {
                    ReadError::BelowStart { offset, start }
                } else {
                    ReadError::AboveEnd { offset, end }
                }
            }
            Some(Kind::Damaged(damaged)) => {
                ReadError::Damaged { node: NodeId::new(damaged.node), message: error.message }
            }
            Some(Kind::NoSuchReplica(missing)) => ReadError::NoSuchReplica {
                node: NodeId::new(missing.node),
                replicas: missing.replicas.iter().map(|peer| NodeId::new(peer.node)).collect(),
            },
            _ => RequestError::Refused { address, message: error.message }.into(),
        }
    }
}

impl ReadRecord {
    fn new(offset: Offset, record: Record) -> Self {
        let Record { timestamp, key, value, headers } = record;
        Self { offset, timestamp, key, value, headers }
    }
}
