//! What clients send: any bytes as the message of any call of `quipu.v1`, put
//! to a node that serves.
//!
//! Input: a byte (bit 7: batches are sealed; bits 0–4: which call), then the
//! message; a stream's messages have their length in two bytes each. The node
//! has to answer every call, with a typed error if with one, and to go on.

use std::cell::RefCell;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::batch::{BatchBuilder, Compression, Record};
use quipu_protocol::{Timestamp, v1};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use crate::image::Input;
use crate::node::{LOG, Node, Raw};
use crate::{batch, choice};

const SEALED: u8 = 0x80;

const UNARY: [&str; 7] = [
    "/quipu.v1.Records/AppendOne",
    "/quipu.v1.Records/Offsets",
    "/quipu.v1.Cluster/CreateLog",
    "/quipu.v1.Cluster/ListLogs",
    "/quipu.v1.Cluster/DescribeLog",
    "/quipu.v1.Cluster/Status",
    "/quipu.v1.Cluster/AllocateProducer",
];
const APPEND_ONE: usize = 0;
const APPEND: &str = "/quipu.v1.Records/Append";
const READ: &str = "/quipu.v1.Records/Read";
/// What came later: the calls above keep their numbers.
const MORE: [&str; 21] = [
    "/quipu.v1.Records/OffsetAt",
    "/quipu.v1.Cluster/AlterLog",
    "/quipu.v1.Cluster/DeleteLog",
    "/quipu.v1.Records/Trim",
    "/quipu.v1.Records/AcquireWriter",
    "/quipu.v1.Records/DescribeWriter",
    "/quipu.v1.Records/Resolve",
    "/quipu.v1.Operator/ChangeLogFilter",
    "/quipu.v1.Cursors/CommitCursor",
    "/quipu.v1.Cursors/ClaimCursor",
    "/quipu.v1.Cursors/GetCursor",
    "/quipu.v1.Cursors/ListCursors",
    "/quipu.v1.Cursors/DeleteCursor",
    "/quipu.v1.ReaderGroups/Join",
    HEARTBEAT,
    "/quipu.v1.ReaderGroups/Leave",
    "/quipu.v1.ReaderGroups/Describe",
    "/quipu.v1.ReaderGroups/List",
    "/quipu.v1.Records/HoldLease",
    "/quipu.v1.Records/ReleaseLease",
    "/quipu.v1.Records/ListLeases",
];
const HEARTBEAT: &str = "/quipu.v1.ReaderGroups/Heartbeat";
const FIRST_OF_MORE: usize = UNARY.len() + 2;

/// A read gives so many messages at most before its client leaves.
const READ_MESSAGES: usize = 4;
/// What does not come while others run so many times is not waited for.
const PATIENCE: usize = 200;
/// A node serves so many inputs, and its disk takes so many bytes, before
/// there is a new one: logs may be deleted, and records only ever get more.
const INPUTS: u32 = 5_000;
const DISK_BYTES: u64 = 96 << 20;

thread_local! {
    static NODE: RefCell<Option<(Node, u32)>> = const { RefCell::new(None) };
}

/// Makes the call.
pub fn run(input: &[u8]) {
    NODE.with_borrow_mut(|serving| {
        let worn = |(node, inputs): &mut (Node, u32)| *inputs >= INPUTS || node.disk_bytes() > DISK_BYTES;
        if serving.as_mut().is_some_and(worn) {
            *serving = None;
        }
        let (node, inputs) = serving.get_or_insert_with(|| (Node::start(), 0));
        *inputs += 1;
        call(node, input);
    });
}

fn call(node: &Node, input: &[u8]) {
    let (how, message) = choice(input);
    let (sealed, which) = (how & SEALED != 0, usize::from(how & 0x1f) % (FIRST_OF_MORE + MORE.len()));
    let message = Bytes::copy_from_slice(message);
    node.talk(async |channel| {
        let mut client = Grpc::new(channel);
        client.ready().await.expect("the node takes calls");
        let unary = UNARY.get(which).or_else(|| MORE.get(which.checked_sub(FIRST_OF_MORE)?));
        if let Some(path) = unary {
            let message = if which == APPEND_ONE && sealed { seal(&message) } else { message };
            let called = client.unary::<Bytes, Bytes, _>(Request::new(message), PathAndQuery::from_static(path), Raw);
            match *path {
                HEARTBEAT => left_waiting(called).await.map_or((), |answer| typed(answer.map(drop))),
                _ => typed(called.await.map(drop)),
            }
        } else if which == UNARY.len() {
            let messages = messages(&message, sealed);
            let path = PathAndQuery::from_static(APPEND);
            match client.streaming::<_, Bytes, Bytes, _>(Request::new(tokio_stream::iter(messages)), path, Raw).await {
                Ok(answers) => {
                    let mut answers = answers.into_inner();
                    while let Some(_answer) = answers.message().await.unwrap_or_else(|status| {
                        typed(Err(status));
                        None
                    }) {}
                }
                Err(status) => typed(Err(status)),
            }
        } else {
            let path = PathAndQuery::from_static(READ);
            // It may wait as long as it says for what has to be there.
            let opened = tokio::select! {
                biased;
                opened = client.server_streaming::<Bytes, Bytes, _>(Request::new(message), path, Raw) => opened,
                () = yields(PATIENCE) => return,
            };
            match opened {
                Ok(chunks) => read(chunks.into_inner()).await,
                Err(status) => typed(Err(status)),
            }
        }
    });
}

/// Takes what comes without waiting: one that follows may wait for ever.
async fn read(mut chunks: tonic::Streaming<Bytes>) {
    for _ in 0..READ_MESSAGES {
        let chunk = tokio::select! {
            biased;
            chunk = chunks.message() => chunk,
            () = yields(PATIENCE) => return,
        };
        match chunk {
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(status) => return typed(Err(status)),
        }
    }
}

/// An answer that may be asked to wait is not waited for.
async fn left_waiting<T>(answer: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = answer => Some(answer),
        () = yields(1_000) => None,
    }
}

async fn yields(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// A refusal says why; a message that is none is tonic's to refuse.
fn typed(outcome: Result<(), Status>) {
    let Err(status) = outcome else { return };
    let undecodable = status.code() == Code::Internal && status.message().contains("decode");
    assert!(
        undecodable || v1::Error::from_status(&status).is_some_and(|error| error.kind.is_some()),
        "{status:?} carries no typed error"
    );
}

fn messages(input: &[u8], sealed: bool) -> Vec<Bytes> {
    let mut rest = Input(input);
    let mut messages = Vec::new();
    while !rest.0.is_empty() && messages.len() < 16 {
        let length = rest.short();
        let message = Bytes::copy_from_slice(rest.bytes(length));
        messages.push(if sealed { seal(&message) } else { message });
    }
    messages
}

/// Makes the batch of an append whole, if it is one.
fn seal(message: &Bytes) -> Bytes {
    let Ok(mut append) = v1::AppendRequest::decode(message.clone()) else { return message.clone() };
    let mut sealed = append.batch.to_vec();
    let codec = sealed.get(22).map_or(0, |attributes| attributes & 0b111);
    batch::seal(&mut sealed, codec);
    append.batch = sealed.into();
    append.encode_to_vec().into()
}

/// One call of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    use v1::read_request::From;
    let append = |compression| {
        let mut builder = BatchBuilder::new(compression);
        for _ in 0..5 {
            builder.push(&Record::new(Timestamp::new(7), Bytes::from(vec![b'x'; 40]))).expect("room");
        }
        let batch = builder.finish(None).expect("records");
        v1::AppendRequest { request: 9, log: LOG.to_owned(), batch, ..v1::AppendRequest::default() }.encode_to_vec()
    };
    let log = LOG.to_owned();
    let linearizable = v1::Consistency::Linearizable.into();
    let read = |from, follow| {
        let request = v1::ReadRequest {
            log: LOG.to_owned(),
            from: Some(from),
            max_records: 3,
            max_bytes: 1000,
            follow,
            consistency: linearizable,
            log_id: 0,
            at_least: 1,
            wait_ms: 5,
            max_age_ms: None,
        };
        request.encode_to_vec()
    };
    let config = Some(v1::LogConfig { replicas: 1, max_batch_bytes: 4096, ..v1::LogConfig::default() });
    let alteration = v1::LogAlteration {
        retention_bytes: Some(1 << 20),
        codecs: Some(0),
        max_timestamp_after_ms: Some(1 << 40),
        ..v1::LogAlteration::default()
    };
    let acquisition = v1::AcquireWriterRequest {
        log: LOG.to_owned(),
        holder: "primary".to_owned(),
        request_id: vec![7; 16].into(),
        log_id: 0,
    };
    let commit =
        v1::CursorCommit { cursor: "billing".to_owned(), position: 2, generation: 1, ..v1::CursorCommit::default() };
    let cursor = || "billing".to_owned();
    let join = v1::JoinReaderGroupRequest {
        group: "billing".to_owned(),
        pattern: "o*".to_owned(),
        client: "one".to_owned(),
        request_id: vec![7; 16].into(),
        ..v1::JoinReaderGroupRequest::default()
    };
    let appends: Vec<u8> = [Compression::None, Compression::Gzip]
        .map(append)
        .iter()
        .flat_map(|append| {
            let length = u16::try_from(append.len()).expect("a small batch");
            [&length.to_le_bytes()[..], append].concat()
        })
        .collect();
    let mut seeds: Vec<(u8, Vec<u8>)> =
        Compression::ALL.into_iter().map(|compression| (SEALED, append(compression))).collect();
    seeds.extend([
        (
            1,
            v1::OffsetsRequest { log: log.clone(), consistency: linearizable, ..v1::OffsetsRequest::default() }
                .encode_to_vec(),
        ),
        (2, v1::CreateLogRequest { name: "another".to_owned(), config }.encode_to_vec()),
        (3, v1::ListLogsRequest { after: "a".to_owned(), limit: 2, ..v1::ListLogsRequest::default() }.encode_to_vec()),
        (4, v1::DescribeLogRequest { name: log }.encode_to_vec()),
        (5, Vec::new()),
        (6, Vec::new()),
        (SEALED | 7, appends),
        (8, read(From::Start(v1::read_request::Start {}), false)),
        (8, read(From::Offset(2), false)),
        (8, read(From::End(v1::read_request::End {}), true)),
        (
            9,
            v1::OffsetAtRequest { log: LOG.to_owned(), timestamp: 1, ..v1::OffsetAtRequest::default() }.encode_to_vec(),
        ),
        (10, v1::AlterLogRequest { name: LOG.to_owned(), change: Some(alteration), id: 1 }.encode_to_vec()),
        (11, v1::DeleteLogRequest { name: "another".to_owned(), id: 0 }.encode_to_vec()),
        (12, v1::TrimRequest { log: LOG.to_owned(), to: 3, ..v1::TrimRequest::default() }.encode_to_vec()),
        (13, acquisition.encode_to_vec()),
        (14, v1::DescribeWriterRequest { log: LOG.to_owned(), log_id: 0 }.encode_to_vec()),
        (
            15,
            v1::ResolveRequest { log: LOG.to_owned(), producer_id: 1, ..v1::ResolveRequest::default() }.encode_to_vec(),
        ),
        (
            17,
            v1::CommitCursorRequest { log: LOG.to_owned(), commit: Some(commit), request_id: 9, log_id: 0 }
                .encode_to_vec(),
        ),
        (
            18,
            v1::ClaimCursorRequest { log: LOG.to_owned(), cursor: cursor(), generation: 2, log_id: 0 }.encode_to_vec(),
        ),
        (19, v1::GetCursorRequest { log: LOG.to_owned(), cursor: cursor(), log_id: 0 }.encode_to_vec()),
        (
            20,
            v1::ListCursorsRequest { log: LOG.to_owned(), limit: 3, ..v1::ListCursorsRequest::default() }
                .encode_to_vec(),
        ),
        (21, v1::DeleteCursorRequest { log: LOG.to_owned(), cursor: cursor(), log_id: 0 }.encode_to_vec()),
        (22, join.encode_to_vec()),
        (
            23,
            v1::ReaderHeartbeatRequest { group: cursor(), member: 1, ..v1::ReaderHeartbeatRequest::default() }
                .encode_to_vec(),
        ),
        (24, v1::LeaveReaderGroupRequest { group: cursor(), member: 1 }.encode_to_vec()),
        (25, v1::DescribeReaderGroupRequest { group: cursor() }.encode_to_vec()),
        (26, v1::ListReaderGroupsRequest { limit: 3, ..v1::ListReaderGroupsRequest::default() }.encode_to_vec()),
        (
            27,
            v1::HoldLeaseRequest {
                log: LOG.to_owned(),
                holder: cursor(),
                ms: 60_000,
                request_id: 7,
                ..v1::HoldLeaseRequest::default()
            }
            .encode_to_vec(),
        ),
        (28, v1::ReleaseLeaseRequest { log: LOG.to_owned(), holder: cursor(), log_id: 0, grant: 1 }.encode_to_vec()),
        (29, v1::ListLeasesRequest { log: LOG.to_owned(), log_id: 0 }.encode_to_vec()),
        (16, v1::ChangeLogFilterRequest { filter: "info,quipu_raft=debug".to_owned() }.encode_to_vec()),
    ]);
    seeds.into_iter().map(|(how, message)| [&[how], &message[..]].concat()).collect()
}
