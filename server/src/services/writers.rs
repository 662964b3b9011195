//! Who writes a log, and what became of what was written.

use quipu_protocol::batch::Producer;
use quipu_protocol::{ProducerEpoch, ProducerId, Sequence, v1};
use quipu_raft::{MAX_HOLDER_BYTES, REQUEST_ID_BYTES, Resolution};

use super::SharedNode;
use super::append::Log;

/// Raises a log's writer epoch.
pub(super) async fn acquire(
    shared: &SharedNode,
    request: v1::AcquireWriterRequest,
) -> Result<v1::AcquireWriterResponse, v1::Error> {
    let v1::AcquireWriterRequest { log, holder, request_id, log_id } = request;
    if holder.is_empty() || holder.len() > MAX_HOLDER_BYTES {
        let reason = format!("it has {} bytes and may have from 1 to {MAX_HOLDER_BYTES}", holder.len());
        return Err(v1::Error::invalid_argument("holder", reason));
    }
    if request_id.len() != REQUEST_ID_BYTES {
        let reason = format!("it has {} bytes and has to have {REQUEST_ID_BYTES}", request_id.len());
        return Err(v1::Error::invalid_argument("request_id", reason));
    }
    let log = Log::find(shared, &log, log_id).await?;
    let acquired = log.replica()?.acquire_writer(holder, request_id).await.map_err(|error| log.refused(error))?;
    Ok(v1::AcquireWriterResponse { epoch: acquired.epoch.get(), end: acquired.end.get(), log_id: log.id().get() })
}

/// Who writes a log now.
pub(super) async fn describe(
    shared: &SharedNode,
    request: v1::DescribeWriterRequest,
) -> Result<v1::DescribeWriterResponse, v1::Error> {
    let log = Log::find(shared, &request.log, request.log_id).await?;
    let (writer, range) = log.replica()?.writer().await.map_err(|error| log.unanswered(error))?;
    Ok(v1::DescribeWriterResponse {
        epoch: writer.epoch.get(),
        holder: writer.holder,
        acquired_at: writer.acquired_at.get(),
        start: range.start().get(),
        end: range.end().get(),
        log_id: log.id().get(),
    })
}

/// Settles what became of an append.
pub(super) async fn resolve(
    shared: &SharedNode,
    request: v1::ResolveRequest,
) -> Result<v1::ResolveResponse, v1::Error> {
    use v1::resolve_response::{Forgotten, Landed, NeverLands, Outcome};
    let append = producer(&request)?;
    let log = Log::find(shared, &request.log, request.log_id).await?;
    let resolved = log.replica()?.resolve(append).await.map_err(|error| log.refused(error))?;
    let outcome = match resolved {
        Resolution::Landed(range) => Outcome::Landed(Landed { start: range.start().get(), end: range.end().get() }),
        Resolution::Never => Outcome::Never(NeverLands {}),
        Resolution::Forgotten => Outcome::Forgotten(Forgotten {}),
    };
    Ok(v1::ResolveResponse { outcome: Some(outcome), log_id: log.id().get() })
}

/// The append that is asked for, if any batch can have it.
fn producer(request: &v1::ResolveRequest) -> Result<Producer, v1::Error> {
    let &v1::ResolveRequest { producer_id, producer_epoch, sequence, .. } = request;
    let invalid = |field, value: i64, bounds| v1::Error::invalid_argument(field, format!("{value} is not {bounds}"));
    if producer_id <= 0 {
        return Err(invalid("producer_id", producer_id, "positive"));
    }
    let epoch = i16::try_from(producer_epoch).ok().filter(|epoch| *epoch >= 0);
    let epoch = epoch.ok_or_else(|| invalid("producer_epoch", producer_epoch.into(), "from 0 to 32767"))?;
    if sequence < 0 {
        return Err(invalid("sequence", sequence.into(), "from 0 to 2147483647"));
    }
    let (id, sequence) = (ProducerId::new(producer_id), Sequence::new(sequence));
    Ok(Producer { id, epoch: ProducerEpoch::new(epoch), sequence })
}
