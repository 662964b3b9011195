//! Errors on the wire: how a [`v1::Error`] is made, and how it travels in a
//! gRPC status.
//!
//! ```text
//!   status.code      for proxies and generic clients, see `code`
//!   status.message   for people
//!   status.details   google.rpc.Status { details: [Any { quipu.v1.Error }] }
//! ```
//!
//! Clients decide by the error's kind alone. The code is chosen so that a
//! generic client that knows nothing of kinds does no harm: only what may be
//! sent again unchanged, to the same node, is UNAVAILABLE or
//! RESOURCE_EXHAUSTED.

use prost::Message;
use tonic::{Code, Status};

use crate::batch::BatchError;
use crate::v1::error::Kind;
use crate::{
    CursorNameError, LogNameError, NodeId, Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence, WriterEpoch, v1,
};

const TYPE_URL: &str = "type.googleapis.com/quipu.v1.Error";

/// A message is cut after so many bytes: it travels in a header, and headers
/// are bounded (16 KiB by default in most gRPC implementations).
const MAX_MESSAGE_BYTES: usize = 1024;

/// The most bytes of leases that an error names: they travel in a header as well.
const MAX_LEASES_BYTES: usize = 4096;

/// The gRPC code of a kind.
const fn code(kind: Option<&Kind>) -> Code {
    use v1::cursor_refused::Reason;
    match kind {
        Some(Kind::UnknownLog(_) | Kind::UnknownReaderGroup(_)) => Code::NotFound,
        Some(Kind::LogExists(_)) => Code::AlreadyExists,
        Some(Kind::InvalidArgument(_) | Kind::BadBatch(_) | Kind::TooLarge(_) | Kind::NotTaken(_)) => {
            Code::InvalidArgument
        }
        Some(Kind::OutOfRange(_)) => Code::OutOfRange,
        Some(Kind::CursorRefused(v1::CursorRefused { reason, .. })) => match reason {
            Some(Reason::BeyondEnd(_)) => Code::OutOfRange,
            Some(Reason::TooMany(_)) => Code::ResourceExhausted,
            Some(Reason::Fenced(_) | Reason::Mismatch(_)) | None => Code::Aborted,
        },
        // The same node would refuse the same request again, until something
        // else has been done first.
        Some(
            Kind::NotLeader(_)
            | Kind::NoSuchReplica(_)
            | Kind::TooFewNodes(_)
            | Kind::UnknownProducer(_)
            | Kind::EpochAhead(_)
            | Kind::WriterRequired(_)
            | Kind::OtherPattern(_)
            | Kind::NoMatchingLogs(_)
            | Kind::TooStale(_)
            | Kind::NotYetApplied(_)
            | Kind::StrandsLeases(_)
            | Kind::LeaseNotHeld(_),
        ) => Code::FailedPrecondition,
        // A sequencer said no, as google.rpc.Code has it.
        Some(
            Kind::ProducerFenced(_)
            | Kind::OutOfSequence(_)
            | Kind::Fenced(_)
            | Kind::OffsetMismatch(_)
            | Kind::UnknownReaderMember(_),
        ) => Code::Aborted,
        Some(Kind::Overloaded(_) | Kind::NoSpace(_)) => Code::ResourceExhausted,
        Some(Kind::Unavailable(_)) => Code::Unavailable,
        Some(Kind::Damaged(_)) => Code::DataLoss,
        Some(Kind::OutcomeUnknown(_)) | None => Code::Unknown,
    }
}

impl From<v1::Error> for Status {
    fn from(error: v1::Error) -> Self {
        let code = code(error.kind.as_ref());
        let message = error.message.clone();
        let detail = prost_types::Any { type_url: TYPE_URL.to_owned(), value: error.encode_to_vec() };
        let status = tonic_types::Status { code: code.into(), message: message.clone(), details: vec![detail] };
        Self::with_details(code, message, status.encode_to_vec().into())
    }
}

impl From<BatchError> for v1::Error {
    fn from(error: BatchError) -> Self {
        let kind = match error {
            BatchError::TooLarge { bound, limit, actual } => {
                Kind::TooLarge(v1::TooLarge { bound: bound.to_owned(), limit, actual })
            }
            ref malformed => {
                let reason = malformed.reason().unwrap_or_default();
                Kind::BadBatch(v1::BadBatch { reason: reason.into() })
            }
        };
        Self::new(error, kind)
    }
}

impl From<CursorNameError> for v1::Error {
    fn from(error: CursorNameError) -> Self {
        Self::invalid_argument("cursor", error)
    }
}

impl From<LogNameError> for v1::Error {
    fn from(error: LogNameError) -> Self {
        Self::invalid_argument("log", error)
    }
}

impl v1::Error {
    /// The error that `status` carries, if it carries one. Details that make
    /// no sense count as none.
    pub fn from_status(status: &Status) -> Option<Self> {
        let status = tonic_types::Status::decode(status.details()).ok()?;
        let detail = status.details.into_iter().find(|detail| detail.type_url == TYPE_URL)?;
        Self::decode(detail.value.as_slice()).ok()
    }

    /// Another node has to be asked: `leader`, or one of `replicas`.
    pub fn not_leader(leader: Option<v1::Peer>, replicas: Vec<v1::Peer>) -> Self {
        let message = match &leader {
            Some(leader) => format!("node {} at {} leads the log", leader.node, leader.address),
            None => "this node does not lead the log and knows of no leader".to_owned(),
        };
        let v1::Peer { node, address } = leader.unwrap_or_default();
        Self::new(message, Kind::NotLeader(v1::NotLeader { node, address, replicas }))
    }

    /// There is no log of that name.
    pub fn unknown_log(name: &str) -> Self {
        Self::new(format!("there is no log {name:?}"), Kind::UnknownLog(v1::UnknownLog { name: name.to_owned() }))
    }

    /// A log of that name exists with another configuration.
    pub fn log_exists(name: &str, config: v1::LogConfig) -> Self {
        let message = format!(
            "log {name:?} exists with another configuration: replicas {}, max_batch_bytes {}",
            config.replicas, config.max_batch_bytes
        );
        Self::new(message, Kind::LogExists(Box::new(v1::LogExists { name: name.to_owned(), config: Some(config) })))
    }

    /// A field is not acceptable.
    pub fn invalid_argument(field: &str, reason: impl ToString) -> Self {
        let reason = bounded(reason.to_string());
        let message = format!("{field}: {reason}");
        Self::new(message, Kind::InvalidArgument(v1::InvalidArgument { field: field.to_owned(), reason }))
    }

    /// Over the bound `bound`.
    pub fn too_large(bound: &str, limit: u64, actual: u64) -> Self {
        let message = format!("{actual} is over {bound}, which is {limit}");
        Self::new(message, Kind::TooLarge(v1::TooLarge { bound: bound.to_owned(), limit, actual }))
    }

    /// A log's `setting` does not let a batch in; `why` says what it is.
    pub fn not_taken(setting: &str, why: impl ToString) -> Self {
        Self::new(why, Kind::NotTaken(v1::NotTaken { setting: setting.to_owned() }))
    }

    /// The queue bounded by `bound` is full.
    pub fn overloaded(bound: &str, limit: u64) -> Self {
        let message = format!("{bound} ({limit}) is used up: try again later");
        Self::new(message, Kind::Overloaded(v1::Overloaded { bound: bound.to_owned(), limit }))
    }

    /// The disk of `node`, which leads, has `free` bytes left where `bound` have
    /// to be.
    pub fn no_space(node: NodeId, free: u64, bound: u64) -> Self {
        let message = format!(
            "the disk of node {node} is nearly full: {free} bytes are free, and {bound} have to be (storage.low_space_bytes and a file of the journal)"
        );
        Self::new(message, Kind::NoSpace(v1::NoSpace { node: node.get(), free, bound }))
    }

    /// `offset` lies outside of `range`.
    pub fn out_of_range(offset: Offset, range: OffsetRange) -> Self {
        let (start, end) = (range.start().get(), range.end().get());
        let message = if offset < range.start() {
            format!("offset {offset} is below the log's start, which is {start}")
        } else {
            format!("offset {offset} is above the log's end, which is {end}")
        };
        Self::new(message, Kind::OutOfRange(v1::OutOfRange { start, end }))
    }

    /// More replicas than nodes.
    pub fn too_few_nodes(replicas: u32, nodes: u32) -> Self {
        let message = format!("{replicas} replicas need as many nodes, the cluster has {nodes}");
        Self::new(message, Kind::TooFewNodes(v1::TooFewNodes { replicas, nodes }))
    }

    /// The log does not know the producer.
    pub fn unknown_producer(id: ProducerId) -> Self {
        let message = format!(
            "the log does not know producer {id} (any more): it has to start at sequence 0, soon after its id was allotted"
        );
        Self::new(message, Kind::UnknownProducer(v1::UnknownProducer { producer_id: id.get() }))
    }

    /// The producer id is in use under a newer epoch.
    pub fn producer_fenced(id: ProducerId, current: ProducerEpoch) -> Self {
        let message = format!("producer {id} is fenced: its epoch is {current} now");
        let kind = v1::ProducerFenced { producer_id: id.get(), current_epoch: current.get().into() };
        Self::new(message, Kind::ProducerFenced(kind))
    }

    /// The batch does not follow the producer's last one.
    pub fn out_of_sequence(id: ProducerId, expected: Sequence, actual: Sequence) -> Self {
        let message = format!("producer {id} sent sequence {actual} where {expected} is next");
        let kind = v1::OutOfSequence { producer_id: id.get(), expected: expected.get(), actual: actual.get() };
        Self::new(message, Kind::OutOfSequence(kind))
    }

    /// Another holder has acquired the log's writer epoch.
    pub fn fenced(current: WriterEpoch, holder: &str) -> Self {
        let message = format!("the writer is fenced: {holder:?} holds epoch {current}");
        Self::new(message, Kind::Fenced(v1::Fenced { current_epoch: current.get(), holder: holder.to_owned() }))
    }

    /// A writer epoch that has never been acquired.
    pub fn epoch_ahead(current: WriterEpoch) -> Self {
        let message = format!("that writer epoch was never acquired: the log's is {current}");
        Self::new(message, Kind::EpochAhead(v1::EpochAhead { current_epoch: current.get() }))
    }

    /// The log takes appends under a writer epoch alone.
    pub fn writer_required() -> Self {
        let message = "the log's writers are exclusive: an append has to claim the writer epoch";
        Self::new(message, Kind::WriterRequired(v1::WriterRequired {}))
    }

    /// The log does not end where an append expected it to.
    pub fn offset_mismatch(end: Offset) -> Self {
        let message = format!("the log ends at {end}, and not where the append expected it to");
        Self::new(message, Kind::OffsetMismatch(v1::OffsetMismatch { end: end.get() }))
    }

    /// There is no reader group of that name.
    pub fn unknown_reader_group(name: &str) -> Self {
        let kind = Kind::UnknownReaderGroup(v1::UnknownReaderGroup { name: name.to_owned() });
        Self::new(format!("there is no reader group {name:?}: joining creates it"), kind)
    }

    /// The reader group has no such member (any more).
    pub fn unknown_reader_member(group: &str, member: u64) -> Self {
        let message = format!("reader group {group:?} has no member {member} (any more): join anew");
        Self::new(message, Kind::UnknownReaderMember(v1::UnknownReaderMember { group: group.to_owned(), member }))
    }

    /// The reader group shares the logs of another pattern.
    pub fn other_pattern(group: &str, pattern: &str) -> Self {
        let message = format!(
            "reader group {group:?} shares the logs of {pattern:?}: join with that pattern, or with another one once \
             the group has no members"
        );
        Self::new(message, Kind::OtherPattern(v1::OtherPattern { pattern: pattern.to_owned() }))
    }

    /// No log matches the reader group's pattern.
    pub fn no_matching_logs(pattern: &str) -> Self {
        let message = format!("no log matches {pattern:?}: create one, or join and wait for logs");
        Self::new(message, Kind::NoMatchingLogs(v1::NoMatchingLogs { pattern: pattern.to_owned() }))
    }

    /// The cursor does not take what was asked of it.
    pub fn cursor_refused(cursor: &str, reason: v1::cursor_refused::Reason) -> Self {
        use v1::cursor_refused::Reason;
        let why = match &reason {
            Reason::Fenced(fenced) => format!("it was claimed under generation {}, which is higher", fenced.generation),
            Reason::Mismatch(v1::CursorMismatch { position: Some(position), of: 0 }) => {
                format!("it is at {position}, and not where it was expected to be")
            }
            Reason::Mismatch(v1::CursorMismatch { position: Some(position), of }) => {
                format!("it is at {position} of log {of}, and not where it was expected to be")
            }
            Reason::Mismatch(v1::CursorMismatch { position: None, .. }) => {
                "it has no position, and was expected to have one".to_owned()
            }
            Reason::BeyondEnd(beyond) => format!("the position lies beyond the log's end, which is {}", beyond.end),
            Reason::TooMany(many) => format!("the log has no room for another one: max_cursors is {}", many.limit),
        };
        let kind = v1::CursorRefused { cursor: cursor.to_owned(), reason: Some(reason) };
        Self::new(format!("cursor {cursor:?}: {why}"), Kind::CursorRefused(kind))
    }

    /// The append may or may not have landed; `why` says what happened to it.
    pub fn outcome_unknown(why: impl ToString) -> Self {
        Self::new(why, Kind::OutcomeUnknown(v1::OutcomeUnknown {}))
    }

    /// No answer is possible now; `why` says what is missing.
    pub fn unavailable(why: impl ToString) -> Self {
        Self::new(why, Kind::Unavailable(v1::Unavailable {}))
    }

    /// The copy on `node` is damaged.
    pub fn damaged(node: NodeId, why: impl ToString) -> Self {
        Self::new(why, Kind::Damaged(v1::Damaged { node: node.get() }))
    }

    /// `node` has no replica of the log.
    pub fn no_such_replica(node: NodeId, replicas: Vec<v1::Peer>) -> Self {
        let message = format!("node {node} has no replica of the log");
        Self::new(message, Kind::NoSuchReplica(v1::NoSuchReplica { node: node.get(), replicas }))
    }

    /// The answer of a replica may be older than its reader takes.
    pub fn too_stale(kind: v1::TooStale) -> Self {
        let v1::TooStale { node, max_age_ms, age_ms, end, leader_end } = kind;
        let age = age_ms.map_or("of an age that it cannot tell".to_owned(), |age| format!("up to {age} ms old"));
        let message = format!(
            "what node {node} has is {age}, and the reader takes {max_age_ms} ms: it ends at {end}, and its leader has told of {leader_end}"
        );
        Self::new(message, Kind::TooStale(kind))
    }

    /// `node` has applied up to `end` only, where `at_least` is asked for.
    pub fn not_yet_applied(node: NodeId, at_least: Offset, end: Offset) -> Self {
        let message = format!("node {node} has applied up to {end} and not yet up to {at_least}");
        let kind = v1::NotYetApplied { node: node.get(), at_least: at_least.get(), end: end.get() };
        Self::new(message, Kind::NotYetApplied(kind))
    }

    /// A trim would take away what `leases` keep; those that do not fit into a header
    /// are counted.
    pub fn strands_leases(mut leases: Vec<v1::Lease>) -> Self {
        let all = leases.len();
        let mut bytes = 0;
        let fitting = leases.iter().take_while(|lease| {
            bytes += prost::encoding::message::encoded_len(1, *lease);
            bytes <= MAX_LEASES_BYTES
        });
        let fitting = fitting.count();
        leases.truncate(fitting);
        let named: Vec<String> =
            leases.iter().map(|lease| format!("{:?} (from {} on)", lease.holder, lease.offset)).collect();
        let message = format!("the trim would strand who holds a lease ({all} in all): {}", named.join(", "));
        let more = (all - leases.len()) as u64;
        Self::new(message, Kind::StrandsLeases(v1::StrandsLeases { leases, more }))
    }

    /// A lease that is to be renewed or released is not held; `holder` has the grant of
    /// that number, if any.
    pub fn lease_not_held(holder: &str, grant: Option<u64>) -> Self {
        let message = match grant {
            None => format!("{holder:?} holds no lease of the log: it has ended, or a forced trim has stranded it"),
            Some(grant) => format!("{holder:?} has been granted another lease since: number {grant}"),
        };
        Self::new(message, Kind::LeaseNotHeld(v1::LeaseNotHeld { holder: holder.to_owned(), grant }))
    }

    fn new(message: impl ToString, kind: Kind) -> Self {
        Self { message: bounded(message.to_string()), kind: Some(kind) }
    }
}

fn bounded(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        let cut = (0..=MAX_MESSAGE_BYTES).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(cut);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic::{Code, Status};

    use super::*;

    fn peer(node: u64) -> v1::Peer {
        v1::Peer { node, address: format!("127.0.0.1:700{node}") }
    }

    fn one_of_each_kind() -> Vec<(v1::Error, Code)> {
        use v1::cursor_refused::Reason;
        let range = OffsetRange::new(Offset::new(5), Offset::new(9));
        vec![
            (v1::Error::not_leader(Some(peer(2)), vec![peer(1), peer(2)]), Code::FailedPrecondition),
            (v1::Error::unknown_log("orders"), Code::NotFound),
            (
                v1::Error::log_exists(
                    "orders",
                    v1::LogConfig { replicas: 3, max_batch_bytes: 1024, retention_bytes: 1, ..Default::default() },
                ),
                Code::AlreadyExists,
            ),
            (v1::Error::invalid_argument("replicas", "0 is none"), Code::InvalidArgument),
            (BatchError::Empty.into(), Code::InvalidArgument),
            (v1::Error::too_large("max_batch_bytes", 10, 11), Code::InvalidArgument),
            (v1::Error::not_taken("codecs", "the log takes lz4"), Code::InvalidArgument),
            (v1::Error::overloaded("append_queue_bytes", 10), Code::ResourceExhausted),
            (v1::Error::out_of_range(Offset::ZERO, range), Code::OutOfRange),
            (v1::Error::too_few_nodes(5, 3), Code::FailedPrecondition),
            (v1::Error::unknown_producer(ProducerId::new(7)), Code::FailedPrecondition),
            (v1::Error::producer_fenced(ProducerId::new(7), ProducerEpoch::new(2)), Code::Aborted),
            (v1::Error::out_of_sequence(ProducerId::new(7), Sequence::new(3), Sequence::new(5)), Code::Aborted),
            (v1::Error::fenced(WriterEpoch::new(3), "db-2"), Code::Aborted),
            (v1::Error::epoch_ahead(WriterEpoch::new(3)), Code::FailedPrecondition),
            (v1::Error::writer_required(), Code::FailedPrecondition),
            (v1::Error::offset_mismatch(Offset::new(9)), Code::Aborted),
            (v1::Error::cursor_refused("c", Reason::Fenced(v1::CursorFenced { generation: 4 })), Code::Aborted),
            (v1::Error::cursor_refused("c", Reason::Mismatch(v1::CursorMismatch::default())), Code::Aborted),
            (v1::Error::cursor_refused("c", Reason::BeyondEnd(v1::CursorBeyondEnd { end: 4 })), Code::OutOfRange),
            (v1::Error::cursor_refused("c", Reason::TooMany(v1::TooManyCursors { limit: 4 })), Code::ResourceExhausted),
            (v1::Error::outcome_unknown("the leader was lost"), Code::Unknown),
            (v1::Error::unknown_reader_group("billing"), Code::NotFound),
            (v1::Error::unknown_reader_member("billing", 3), Code::Aborted),
            (v1::Error::other_pattern("billing", "orders/*"), Code::FailedPrecondition),
            (v1::Error::no_matching_logs("orders/*"), Code::FailedPrecondition),
            (v1::Error::unavailable("no leader"), Code::Unavailable),
            (v1::Error::damaged(NodeId::new(1), "entry 7 fails its checksum"), Code::DataLoss),
            (v1::Error::no_such_replica(NodeId::new(4), vec![peer(1)]), Code::FailedPrecondition),
            (
                v1::Error::too_stale(v1::TooStale { node: 4, age_ms: Some(9), ..Default::default() }),
                Code::FailedPrecondition,
            ),
            (v1::Error::not_yet_applied(NodeId::new(4), Offset::new(9), Offset::new(5)), Code::FailedPrecondition),
            (v1::Error::strands_leases(vec![v1::Lease::default()]), Code::FailedPrecondition),
            (v1::Error::lease_not_held("replica-7", None), Code::FailedPrecondition),
        ]
    }

    #[test]
    fn every_kind_travels_in_a_status_and_comes_back() {
        for (error, code) in one_of_each_kind() {
            let status = Status::from(error.clone());
            assert_eq!(status.code(), code, "{error:?}");
            assert_eq!(status.message(), error.message);
            assert!(!error.message.is_empty());
            assert_eq!(v1::Error::from_status(&status), Some(error));
        }
    }

    #[test]
    fn an_error_below_the_start_names_the_start() {
        let range = OffsetRange::new(Offset::new(5), Offset::new(9));
        let below = v1::Error::out_of_range(Offset::new(2), range);
        assert_eq!(below.message, "offset 2 is below the log's start, which is 5");
        let above = v1::Error::out_of_range(Offset::new(12), range);
        assert_eq!(above.message, "offset 12 is above the log's end, which is 9");
    }

    #[test]
    fn a_batch_error_keeps_its_reason() {
        let error = v1::Error::from(BatchError::Codec { codec: 2 });
        assert!(error.message.contains("snappy"), "{}", error.message);
        let reason = v1::bad_batch::Reason::Codec.into();
        assert_eq!(error.kind, Some(Kind::BadBatch(v1::BadBatch { reason })));

        let error = v1::Error::from(BatchError::TooLarge { bound: "max_batch_bytes", limit: 10, actual: 11 });
        assert!(matches!(error.kind, Some(Kind::TooLarge(v1::TooLarge { limit: 10, actual: 11, .. }))));
    }

    #[test]
    fn leases_that_do_not_fit_into_a_header_are_counted() {
        let lease =
            |n: u64| v1::Lease { holder: format!("{n:0256}"), offset: n, until: i64::MAX, ..v1::Lease::default() };
        let error = v1::Error::strands_leases((0..100).map(lease).collect());
        let Some(Kind::StrandsLeases(strands)) = &error.kind else { panic!("{error:?}") };
        assert!((10..20).contains(&strands.leases.len()), "{}", strands.leases.len());
        assert_eq!(strands.leases.len() as u64 + strands.more, 100);
        assert!(Status::from(error).details().len() < MAX_LEASES_BYTES + 2 * MAX_MESSAGE_BYTES);
        let few = v1::Error::strands_leases((0..5).map(lease).collect());
        assert!(
            matches!(few.kind, Some(Kind::StrandsLeases(strands)) if strands.leases.len() == 5 && strands.more == 0)
        );
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let status = Status::from(v1::Error::unavailable("é".repeat(100_000)));
        assert!(status.message().len() <= MAX_MESSAGE_BYTES + '…'.len_utf8());
        assert!(status.details().len() < 4 * MAX_MESSAGE_BYTES);
    }

    #[test]
    fn a_status_without_details_carries_no_error() {
        assert_eq!(v1::Error::from_status(&Status::unavailable("gone")), None);
    }

    proptest! {
        #[test]
        fn hostile_details_are_no_error_and_no_panic(details: Vec<u8>) {
            let status = Status::with_details(Code::Unknown, "", details.into());
            let _ = v1::Error::from_status(&status);
        }

        #[test]
        fn damaged_details_are_no_panic(which in 0_usize..33, at: prop::sample::Index, bits: u8) {
            let (error, _) = one_of_each_kind().swap_remove(which);
            let mut details = Status::from(error).details().to_vec();
            let at = at.index(details.len());
            details[at] ^= bits;
            let _ = v1::Error::from_status(&Status::with_details(Code::Unknown, "", details.into()));
        }
    }
}
