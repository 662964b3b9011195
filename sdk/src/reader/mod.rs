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
//! All state is in the reader, even a stream that is just being opened: a call
//! of `next` that is dropped halfway loses nothing, not even its progress. A reader
//! holds at most one answer and what its stream's flow control lets in (4 MiB); one
//! which nobody reads from holds up nothing else.

mod intake;
mod opener;

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{Either, select};
use quipu_protocol::batch::{Header, PlacedBatch, Record};
use quipu_protocol::environment::BoxFuture;
use quipu_protocol::{LogId, LogName, Offset, Timestamp, v1};

use crate::cluster::Cluster;
use crate::cluster::verdict::{self, Failure};
use crate::wire::Plain;
use crate::{Freshness, From, OnTrimmed, ReadError, ReaderConfig};
use intake::{Intake, Unfit};
use opener::{Open, Opener};

pub(crate) use opener::read_error;

/// Reads one log, record by record.
pub struct Reader {
    cluster: Arc<Cluster>,
    follow: bool,
    max_records: Option<u64>,
    /// What arrives; there is none until it is known where to begin.
    intake: Option<Intake>,
    /// At home but while it is opening a stream.
    opener: Option<Opener>,
    opening: Option<Opening>,
    stream: Option<Open>,
    /// The end as it was with the first answer: reading without `follow` goes
    /// at least that far, whatever streams it takes.
    until: Option<Offset>,
    on_trimmed: OnTrimmed,
    /// Where the reader was when it was told to go on elsewhere, until it does.
    left_at: Option<Offset>,
    skipped: u64,
    freshness: Option<Freshness>,
    done: bool,
}

type Opening = BoxFuture<'static, (Opener, Result<Open, ReadError>)>;

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
        let intake = match config.from {
            From::Offset(offset) => Some(Intake::new(offset, config.max_records)),
            From::Start | From::End | From::Time(_) => None,
        };
        Self {
            follow: config.follow,
            max_records: config.max_records,
            on_trimmed: config.on_trimmed,
            left_at: None,
            skipped: 0,
            freshness: None,
            done: config.max_records == Some(0),
            intake,
            opener: Some(Opener::new(Arc::clone(&cluster), log, config)),
            opening: None,
            stream: None,
            until: None,
            cluster,
        }
    }

    /// A reader of the log that has this name and this id.
    pub(crate) fn of(cluster: Arc<Cluster>, log: LogName, id: LogId, config: ReaderConfig) -> Self {
        let mut reader = Self::new(cluster, log, config);
        if let Some(opener) = &mut reader.opener {
            opener.is_of(id.get());
        }
        reader
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
            let went = if self.intake.as_ref().is_some_and(Intake::is_full) {
                self.stream = None;
                self.done = true;
                Ok(())
            } else if self.stream.is_some() {
                self.receive().await
            } else {
                self.open().await
            };
            match went {
                Err(ReadError::BelowStart { offset, start }) if self.on_trimmed != OnTrimmed::Fail => {
                    self.go_on_after(offset, start);
                }
                went => went?,
            }
        }
    }

    /// The id of the log that it reads, which is the one that had the name when
    /// it was first answered; none before.
    pub fn log_id(&self) -> Option<LogId> {
        self.opener.as_ref().and_then(Opener::log_id)
    }

    /// How many records were left out because they had been trimmed before they
    /// were read; 0 unless the reader is to go on then.
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// How old the last answer that came may be; `None` before the first one, and
    /// for linearizable reads.
    pub const fn freshness(&self) -> Option<Freshness> {
        self.freshness
    }

    /// The record at `offset` is gone; the log starts at `start`.
    fn go_on_after(&mut self, offset: Offset, start: Offset) {
        let remaining = self.intake.as_ref().map_or(self.max_records, Intake::remaining);
        self.max_records = remaining;
        self.stream = None;
        self.left_at.get_or_insert(offset);
        if let Some(opener) = &mut self.opener {
            opener.starts_at(start);
        }
        if self.on_trimmed == OnTrimmed::End {
            self.intake = None;
            if let Some(opener) = &mut self.opener {
                opener.begin_at_end();
            }
        } else {
            self.begin_at(start);
        }
    }

    /// The place of the next record is known.
    fn begin_at(&mut self, position: Offset) {
        if let Some(left_at) = self.left_at.take() {
            self.skipped += position.get().saturating_sub(left_at.get());
        }
        self.intake = Some(Intake::new(position, self.max_records));
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

    /// Opens a stream at the position, or goes on with that.
    async fn open(&mut self) -> Result<(), ReadError> {
        if let Some(opener) = self.opener.take() {
            let position = self.intake.as_ref().map(Intake::position);
            let remaining = self.intake.as_ref().map_or(self.max_records, Intake::remaining);
            self.opening = Some(Box::pin(opener.open(position, remaining)));
        }
        let Some(opening) = &mut self.opening else {
            unreachable!("an opener that is not at home is opening a stream");
        };
        let (opener, opened) = opening.await;
        (self.opener, self.opening) = (Some(opener), None);
        let open = opened?;
        if let (None, Some(position)) = (&self.intake, open.position) {
            self.begin_at(position);
        }
        if let Some(intake) = &mut self.intake {
            intake.begin_stream();
        }
        self.stream = Some(open);
        Ok(())
    }

    /// Takes the stream's next answer in.
    async fn receive(&mut self) -> Result<(), ReadError> {
        let Some(open) = &mut self.stream else { return Ok(()) };
        let limit = self.cluster.config.request_timeout;
        let patience = async {
            if self.follow {
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
            None => {
                let Some(Open { address, connection, .. }) = &self.stream else { return Ok(()) };
                self.cluster.discard_reading_channel(address, connection);
                self.lost(|address| verdict::timed_out(address, limit))
            }
        }
    }

    fn take_in(&mut self, answer: v1::ReadResponse) {
        let Some(open) = &self.stream else { return };
        if let Some(opener) = &mut self.opener {
            opener.succeeded(&open.address, !answer.batches.is_empty());
            opener.is_of(answer.log_id);
        }
        self.freshness = answer.freshness.map(Plain::of);
        self.until.get_or_insert(Offset::new(answer.end));
        let (start, max_records) = (Offset::new(answer.start), self.max_records);
        let intake = self.intake.get_or_insert_with(|| Intake::new(start, max_records));
        intake.add(answer.batches.into_iter().map(PlacedBatch::into_bytes));
    }

    /// Whether a stream that has ended may have.
    fn reached_end(&self) -> bool {
        let position = self.intake.as_ref().map(Intake::position);
        !self.follow && self.until.is_some_and(|until| position.is_some_and(|position| position >= until))
    }

    /// The stream is gone; the next one goes on at the position.
    fn lost(&mut self, failure: impl FnOnce(&str) -> Failure) -> Result<(), ReadError> {
        let position = self.intake.as_ref().map(Intake::position);
        match (self.stream.take(), &mut self.opener) {
            (Some(open), Some(opener)) => opener.failed(&open.address, failure(&open.address), position),
            _ => Ok(()),
        }
    }
}

impl ReadRecord {
    fn new(offset: Offset, record: Record) -> Self {
        let Record { timestamp, key, value, headers } = record;
        Self { offset, timestamp, key, value, headers }
    }
}
