//! Who writes a log, and what became of what was written.

use bytes::Bytes;
use quipu_protocol::batch::BatchHeader;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_protocol::{
    LogId, LogName, Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence, Timestamp, WriterEpoch, v1,
};

use crate::client::{log_error, understand};
use crate::cluster::{PursuitError, Refusal, Target};
use crate::wire::{Malformed, Meaning};
use crate::{Client, LogError, LogRef, WriterError};

/// A log's writer epoch, acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquiredWriter {
    /// The epoch, for [`ProducerConfig::writer_epoch`](crate::ProducerConfig::writer_epoch).
    pub epoch: WriterEpoch,
    /// Where the log ended at that moment: whatever older writers got in lies
    /// below.
    pub end: Offset,
    /// The log's id: the epoch means nothing to a later log of its name. For
    /// [`LogRef::new`].
    pub log: LogId,
}

/// Who writes a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterDescription {
    /// The epoch; 0 when nobody ever acquired it.
    pub epoch: WriterEpoch,
    /// Who holds it; empty when nobody does.
    pub holder: String,
    /// When it was acquired, in the log's time, which is its leaders'.
    pub acquired_at: Timestamp,
    /// What the log holds.
    pub range: OffsetRange,
}

/// One append of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendId {
    /// The log that it was sent to: a later one of its name knows nothing of it. `None`
    /// where there was no log of the name when the producer took its id.
    pub log: Option<LogId>,
    /// The producer.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the first record.
    pub sequence: Sequence,
}

/// What became of an append, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Its records have these offsets.
    Landed(OffsetRange),
    /// It did not land, and now never will.
    Never,
    /// Not known any more: the producer has expired, or has appended too much
    /// since.
    Forgotten,
}

impl Client {
    /// Acquires a log's writer epoch for `holder`, which is told to those whom it
    /// fences (1 to 256 bytes): nothing under an older epoch lands any more, and
    /// the answer says where the log ended at that moment. Appends claim it by
    /// [`ProducerConfig::writer_epoch`](crate::ProducerConfig::writer_epoch).
    ///
    /// Tried again until it is known to have been done: an attempt whose answer
    /// was lost fences nobody twice, and nobody of a log that is created under the
    /// same name meanwhile.
    pub async fn acquire_writer(
        &self,
        log: impl Into<LogRef<'_>>,
        holder: &str,
    ) -> Result<AcquiredWriter, WriterError> {
        let random = &*self.cluster().environment.random;
        let request_id: Bytes = [random.next(), random.next()].iter().flat_map(|half| half.to_be_bytes()).collect();
        self.acquire_writer_as(log, holder, &request_id).await
    }

    /// The same under a request id of the caller's, 16 bytes that nobody else has:
    /// it may be asked for again after a crash of the caller, and gets the first
    /// answer as long as it is one of the log's last 64 acquisitions.
    pub async fn acquire_writer_as(
        &self,
        log: impl Into<LogRef<'_>>,
        holder: &str,
        request_id: &[u8],
    ) -> Result<AcquiredWriter, WriterError> {
        let log: LogRef<'_> = log.into();
        let name = log.name();
        let id = log.settled(self.cluster()).await.map_err(|error| log_error(name, error))?;
        let request_id = Bytes::copy_from_slice(request_id);
        let request = || v1::AcquireWriterRequest {
            log: name.to_string(),
            holder: holder.to_owned(),
            request_id: request_id.clone(),
            log_id: id.get(),
        };
        let call = |channel| async { RecordsClient::new(channel).acquire_writer(request()).await };
        let answer = self.cluster().call(Target::Leader(name.clone()), call).await;
        let v1::AcquireWriterResponse { epoch, end, .. } = answer.map_err(|error| writer_error(name, error))?.value;
        Ok(AcquiredWriter { epoch: WriterEpoch::new(epoch), end: Offset::new(end), log: id })
    }

    /// Who writes a log, and what it holds: at least what was acknowledged before.
    pub async fn describe_writer(&self, log: impl Into<LogRef<'_>>) -> Result<WriterDescription, WriterError> {
        let log: LogRef<'_> = log.into();
        let log_id = log.id().map_or(0, LogId::get);
        let request = || v1::DescribeWriterRequest { log: log.name().to_string(), log_id };
        let call = |channel| async { RecordsClient::new(channel).describe_writer(request()).await };
        let answer = self.cluster().call(Target::Leader(log.name().clone()), call).await;
        let answer = answer.map_err(|error| log_error(log.name(), error))?;
        understand(answer).map_err(WriterError::from)
    }

    /// Settles what became of an append of unknown outcome: if it has not landed,
    /// it never will, since its producer's epoch ends with this. May be repeated. Asks
    /// the log that the append was sent to, whatever has its name now.
    pub async fn resolve(&self, log: &LogName, append: AppendId) -> Result<Resolution, WriterError> {
        let meant = append.log.map_or_else(|| log.into(), |id| LogRef::new(log, id));
        let log_id = meant.settled(self.cluster()).await.map_err(|error| log_error(log, error))?.get();
        let request = || v1::ResolveRequest {
            log: log.to_string(),
            producer_id: append.producer.get(),
            producer_epoch: append.epoch.get().into(),
            sequence: append.sequence.get(),
            log_id,
        };
        let call = |channel| async { RecordsClient::new(channel).resolve(request()).await };
        let answer = self.cluster().call(Target::Leader(log.clone()), call).await;
        understand(answer.map_err(|error| writer_error(log, error))?).map_err(WriterError::from)
    }
}

impl From<LogError> for WriterError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::UnknownLog { log } => Self::UnknownLog { log, maybe_done: false },
            LogError::Request(error) => Self::Request(error),
        }
    }
}

fn writer_error(log: &LogName, error: PursuitError) -> WriterError {
    match error {
        PursuitError::Refused {
            refusal: Refusal { error: v1::Error { kind: Some(Kind::UnknownLog(_)), .. }, .. },
            maybe_done,
        } => WriterError::UnknownLog { log: log.clone(), maybe_done },
        other => other.into_request_error().into(),
    }
}

impl AppendId {
    /// The append to `log` whose batch this is, if it has a producer.
    pub(crate) fn of(log: Option<LogId>, batch: &[u8]) -> Option<Self> {
        let producer = BatchHeader::parse(batch).ok()?.producer?;
        Some(Self { log, producer: producer.id, epoch: producer.epoch, sequence: producer.sequence })
    }
}

impl Meaning<v1::DescribeWriterResponse> for WriterDescription {
    fn of(answer: v1::DescribeWriterResponse) -> Result<Self, Malformed> {
        Ok(Self {
            epoch: WriterEpoch::new(answer.epoch),
            holder: answer.holder,
            acquired_at: Timestamp::new(answer.acquired_at),
            range: range(answer.start, answer.end)?,
        })
    }
}

impl Meaning<v1::ResolveResponse> for Resolution {
    fn of(answer: v1::ResolveResponse) -> Result<Self, Malformed> {
        use v1::resolve_response::{Landed, Outcome};
        Ok(match answer.outcome.ok_or(Malformed::NoOutcome)? {
            Outcome::Landed(Landed { start, end }) => Self::Landed(range(start, end)?),
            Outcome::Never(_) => Self::Never,
            Outcome::Forgotten(_) => Self::Forgotten,
        })
    }
}

fn range(start: u64, end: u64) -> Result<OffsetRange, Malformed> {
    if start > end {
        return Err(Malformed::Range { start, end });
    }
    Ok(OffsetRange::new(Offset::new(start), Offset::new(end)))
}
