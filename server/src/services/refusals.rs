//! What the node says went wrong, in the terms of `quipu.v1`.
//!
//! One function for each operation, so that each error shows the caller's next
//! move: another node, later, or never like this.

use quipu_protocol::batch::Producer;
use quipu_protocol::{CursorName, LogId, LogName, NodeId, Offset, ReplicaId, v1};
use quipu_raft::group::BarrierError;
use quipu_raft::node::{AllocateProducerError, CatalogError, ChangeLogError, CreateLogError, LogLookupError};
use quipu_raft::{AppendError, CommandError, CursorError, CursorRefusal, RaftNode, ReadError, StopReason};

use super::Shared;

/// A log could not be found for something that only its leader can do.
pub(super) fn of_lookup_for_leader(name: &LogName, error: LogLookupError) -> v1::Error {
    match error {
        LogLookupError::Unknown { .. } => v1::Error::unknown_log(name.as_str()),
        // There is no other node to be asked.
        LogLookupError::Damaged { reason, replicas } | LogLookupError::Starting { reason, replicas }
            if replicas.is_empty() =>
        {
            v1::Error::unavailable(reason)
        }
        LogLookupError::NoReplicaHere { replicas }
        | LogLookupError::Damaged { replicas, .. }
        | LogLookupError::Starting { replicas, .. } => v1::Error::not_leader(None, replicas),
    }
}

/// A log could not be found for something that this node's replica is to do.
pub(super) fn of_lookup_for_replica(shared: &Shared, name: &LogName, error: LogLookupError) -> v1::Error {
    match error {
        LogLookupError::Unknown { .. } => v1::Error::unknown_log(name.as_str()),
        LogLookupError::NoReplicaHere { replicas } => v1::Error::no_such_replica(shared.node_id, replicas),
        LogLookupError::Damaged { reason, .. } => v1::Error::damaged(shared.node_id, reason),
        LogLookupError::Starting { reason, .. } => v1::Error::unavailable(reason),
    }
}

/// A proposed append came to nothing, or perhaps not.
pub(super) fn of_append(node: &RaftNode, log: &LogName, producer: Option<Producer>, error: AppendError) -> v1::Error {
    match (error, producer) {
        (AppendError::Command(error), _) => of_command(node, log, error),
        (AppendError::TooLarge { bound, limit, actual }, _) => v1::Error::too_large(bound, limit, actual),
        (AppendError::Fenced { current, holder }, _) => v1::Error::fenced(current, &holder),
        (AppendError::EpochAhead { current }, _) => v1::Error::epoch_ahead(current),
        (AppendError::WriterRequired, _) => v1::Error::writer_required(),
        (AppendError::OffsetMismatch { end }, _) => v1::Error::offset_mismatch(end),
        (AppendError::CursorRefused { cursor, refusal }, _) => of_cursor_refusal(&cursor, refusal),
        (AppendError::ProducerFenced { current }, Some(producer)) => v1::Error::producer_fenced(producer.id, current),
        (AppendError::OutOfSequence { expected }, Some(producer)) => {
            v1::Error::out_of_sequence(producer.id, expected, producer.sequence)
        }
        (AppendError::UnknownProducer, Some(producer)) => v1::Error::unknown_producer(producer.id),
        (error @ AppendError::Malformed, _) => v1::Error::invalid_argument("batch", error),
        // A refusal of a producer that the batch does not name.
        (error, None) => v1::Error::invalid_argument("batch", error),
    }
}

/// A command to a cursor came to nothing, or perhaps not.
pub(super) fn of_cursor(node: &RaftNode, log: &LogName, cursor: &CursorName, error: CursorError) -> v1::Error {
    match error {
        CursorError::Refused(refusal) => of_cursor_refusal(cursor.as_str(), refusal),
        CursorError::Command(error) => of_command(node, log, error),
    }
}

/// A cursor does not take what is asked of it.
fn of_cursor_refusal(cursor: &str, refusal: CursorRefusal) -> v1::Error {
    use v1::cursor_refused::Reason;
    let reason = match refusal {
        CursorRefusal::Fenced { generation } => Reason::Fenced(v1::CursorFenced { generation }),
        CursorRefusal::Mismatch { position, of } => {
            let (position, of) = (position.map(Offset::get), of.map_or(0, LogId::get));
            Reason::Mismatch(v1::CursorMismatch { position, of })
        }
        CursorRefusal::BeyondEnd { end } => Reason::BeyondEnd(v1::CursorBeyondEnd { end: end.get() }),
        CursorRefusal::TooMany { limit } => Reason::TooMany(v1::TooManyCursors { limit }),
    };
    v1::Error::cursor_refused(cursor, reason)
}

/// A command to a log came to nothing, or perhaps not.
pub(super) fn of_command(node: &RaftNode, log: &LogName, error: CommandError) -> v1::Error {
    match error {
        CommandError::NotLeader { leader } => of_other_leader(node, log, leader),
        CommandError::Stopped(reason) => of_stopped(node, log, &reason),
        CommandError::Overloaded { bound, limit } => v1::Error::overloaded(bound, limit),
        CommandError::NoSpace { free, bound } => v1::Error::no_space(node.id(), free, bound),
        error @ CommandError::Unavailable => v1::Error::unavailable(error),
        error @ CommandError::OutcomeUnknown => v1::Error::outcome_unknown(error),
    }
}

/// The end of a log could not be settled.
pub(super) fn of_range(node: &RaftNode, log: &LogName, error: BarrierError) -> v1::Error {
    match error {
        BarrierError::NotLeader { leader } => of_other_leader(node, log, leader),
        BarrierError::Stopped(reason) => of_stopped(node, log, &reason),
        error @ BarrierError::Unavailable => v1::Error::unavailable(error),
    }
}

/// Records could not be read from this node's replica at `offset`.
pub(super) fn of_read(node: NodeId, offset: Offset, error: ReadError) -> v1::Error {
    match error {
        ReadError::OutOfRange { range } => v1::Error::out_of_range(offset, range),
        error @ ReadError::Storage(_) => v1::Error::damaged(node, error),
    }
}

/// The replica that was read from has stopped.
pub(super) fn of_stopped(node: &RaftNode, log: &LogName, reason: &StopReason) -> v1::Error {
    tracing::debug!(%log, %reason, "a replica that was in use has stopped");
    v1::Error::not_leader(None, node.replicas_of(log))
}

/// A log could not be created.
pub(super) fn of_create_log(error: CreateLogError) -> v1::Error {
    match error {
        CreateLogError::Refused(error) => error,
        CreateLogError::Catalog(error) => of_catalog(error),
    }
}

/// A log could not be changed.
pub(super) fn of_change_log(name: &LogName, error: ChangeLogError) -> v1::Error {
    match error {
        ChangeLogError::Unknown { .. } => v1::Error::unknown_log(name.as_str()),
        ChangeLogError::Refused(error) => error,
        ChangeLogError::Catalog(error) => of_catalog(error),
    }
}

/// The catalog could not be asked or changed. Everything that is asked of it
/// may be asked again.
pub(super) fn of_catalog(error: CatalogError) -> v1::Error {
    v1::Error::unavailable(error)
}

/// No producer id could be had.
pub(super) fn of_allocate_producer(error: AllocateProducerError) -> v1::Error {
    v1::Error::unavailable(error)
}

fn of_other_leader(node: &RaftNode, log: &LogName, leader: Option<(ReplicaId, NodeId)>) -> v1::Error {
    let leader = leader.and_then(|(_, leader)| node.peer(leader));
    v1::Error::not_leader(leader, node.replicas_of(log))
}
