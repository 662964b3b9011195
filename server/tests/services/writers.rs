//! Writer epochs, expected ends, and what became of an append: each refusal with
//! its fields, and that it changes nothing.

use bytes::Bytes;
use quipu_protocol::batch::{Producer, with_producer};
use quipu_protocol::v1::append_response::Outcome;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::resolve_response::{Forgotten, Landed, NeverLands, Outcome as Resolved};
use quipu_protocol::{ProducerEpoch, ProducerId, Sequence, v1};
use tonic::{Response, Status};

use crate::appends::Stream;
use crate::batches::batch;
use crate::node::{LOG, Node, kind, within};

/// How many appends of a producer a log remembers.
const REMEMBERED: i32 = 64;

/// An append to [`LOG`] under these terms.
fn request(batch: Bytes, writer_epoch: Option<u64>, expected_end: Option<u64>) -> v1::AppendRequest {
    v1::AppendRequest { log: LOG.to_owned(), batch, writer_epoch, expected_end, ..v1::AppendRequest::default() }
}

/// A batch of one record.
fn one() -> Bytes {
    batch(&["a"])
}

fn stamped(batch: Bytes, id: i64, sequence: i32) -> Bytes {
    let (epoch, sequence) = (ProducerEpoch::new(0), Sequence::new(sequence));
    with_producer(batch, Some(Producer { id: ProducerId::new(id), epoch, sequence }))
}

fn asks(log: &str, holder: &str, request_id: &[u8]) -> v1::AcquireWriterRequest {
    let (log, holder, request_id) = (log.to_owned(), holder.to_owned(), Bytes::copy_from_slice(request_id));
    v1::AcquireWriterRequest { log, holder, request_id, log_id: 0 }
}

impl Node {
    async fn exclusive() -> Self {
        let config = v1::LogConfig { writers: v1::Writers::Exclusive.into(), ..v1::LogConfig::default() };
        Self::start().await.having(config).await
    }

    async fn acquires(&self, asked: v1::AcquireWriterRequest) -> Result<(u64, u64), Status> {
        let acquired = within(self.records().acquire_writer(asked)).await?.into_inner();
        Ok((acquired.epoch, acquired.end))
    }

    /// Acquires [`LOG`]'s epoch by the request of this number.
    async fn acquire(&self, holder: &str, number: u8) -> (u64, u64) {
        self.acquires(asks(LOG, holder, &[number; 16])).await.expect("is acquired")
    }

    async fn writer(&self) -> v1::DescribeWriterResponse {
        let request = v1::DescribeWriterRequest { log: LOG.to_owned(), log_id: 0 };
        within(self.records().describe_writer(request)).await.expect("is described").into_inner()
    }

    async fn producer_id(&self) -> i64 {
        let allocated = within(self.cluster().allocate_producer(v1::AllocateProducerRequest::default())).await;
        allocated.expect("a producer id").into_inner().producer_id
    }

    async fn resolves(&self, asked: v1::ResolveRequest) -> Result<Resolved, Status> {
        let resolved = within(self.records().resolve(asked)).await.map(Response::into_inner)?;
        Ok(resolved.outcome.expect("an outcome"))
    }

    async fn resolve(&self, producer_id: i64, sequence: i32) -> Resolved {
        let asked = v1::ResolveRequest { log: LOG.to_owned(), producer_id, sequence, ..v1::ResolveRequest::default() };
        self.resolves(asked).await.expect("is resolved")
    }

    /// What is said of `request` by one call and on a stream, which has to be the
    /// same.
    async fn refuses(&self, request: v1::AppendRequest) -> Kind {
        let by_call = kind(&self.append_as(request.clone()).await.expect_err("is refused"));
        let mut stream = Stream::open(self).await;
        stream.ask(request).await;
        let (_, Outcome::Error(error)) = stream.answer().await else { panic!("it landed on the stream") };
        assert_eq!(error.kind, Some(by_call.clone()), "the stream and the call disagree");
        by_call
    }
}

#[tokio::test]
async fn an_older_epoch_is_fenced_and_told_who_holds_the_log() {
    let node = Node::with_log().await;
    assert_eq!(node.acquire("db-1", 1).await, (1, 0));
    node.append_as(request(batch(&["a", "b", "c"]), Some(1), None)).await.expect("db-1 writes");
    assert_eq!(node.acquire("db-2", 2).await, (2, 3), "the end says what db-1 got in");
    let refused = node.refuses(request(one(), Some(1), None)).await;
    assert_eq!(refused, Kind::Fenced(v1::Fenced { current_epoch: 2, holder: "db-2".to_owned() }));
    // Whoever is fenced is told so first, wherever it took the log to end.
    assert!(matches!(node.refuses(request(one(), Some(1), Some(99))).await, Kind::Fenced(_)));
    assert_eq!(node.end().await, 3, "nothing of the older epoch landed");
    node.append_as(request(one(), Some(2), Some(3))).await.expect("db-2 writes");
}

#[tokio::test]
async fn an_epoch_that_nobody_acquired_is_refused_and_told_the_newest() {
    let node = Node::with_log().await;
    let ahead = |current_epoch| Kind::EpochAhead(v1::EpochAhead { current_epoch });
    assert_eq!(node.refuses(request(one(), Some(1), None)).await, ahead(0));
    node.acquire("db-1", 1).await;
    assert_eq!(node.refuses(request(one(), Some(2), None)).await, ahead(1));
    assert_eq!(node.refuses(request(one(), Some(u64::MAX), None)).await, ahead(1));
    assert!(matches!(node.refuses(request(one(), Some(0), None)).await, Kind::Fenced(_)), "0 is no epoch");
    assert_eq!(node.end().await, 0);
}

#[tokio::test]
async fn an_exclusive_log_takes_nothing_without_an_epoch() {
    let node = Node::exclusive().await;
    let required = Kind::WriterRequired(v1::WriterRequired {});
    assert_eq!(node.refuses(request(one(), None, None)).await, required);
    node.acquire("db-1", 1).await;
    assert_eq!(node.refuses(request(one(), None, Some(0))).await, required);
    assert_eq!(node.end().await, 0);
    node.append_as(request(one(), Some(1), None)).await.expect("the writer appends");
    // A shared log takes both.
    let shared = Node::with_log().await;
    shared.acquire("db-1", 1).await;
    shared.append_as(request(one(), None, None)).await.expect("no epoch is claimed");
    shared.append_as(request(one(), Some(1), None)).await.expect("the epoch is right");
}

#[tokio::test]
async fn an_append_at_another_end_is_refused_and_told_where_the_log_ends() {
    let node = Node::with_log().await;
    node.append(LOG, batch(&["a", "b"])).await.expect("is appended");
    for expected in [0, 1, 3, u64::MAX] {
        let refused = node.refuses(request(one(), None, Some(expected))).await;
        assert_eq!(refused, Kind::OffsetMismatch(v1::OffsetMismatch { end: 2 }), "expected {expected}");
    }
    let appended = node.append_as(request(one(), None, Some(2))).await.expect("it ends there");
    assert_eq!((appended.start, appended.end), (2, 3));
}

#[tokio::test]
async fn a_conditional_append_in_the_middle_of_a_stream_sees_what_went_before() {
    let node = Node::with_log().await;
    let mut stream = Stream::open(&node).await;
    // Where the middle ones expect the log to end, and where they land.
    let terms = [None, Some(2), Some(2), Some(4), None, Some(9), Some(8)];
    for (number, expected_end) in (0..).zip(terms) {
        stream.ask(v1::AppendRequest { request: number, ..request(batch(&["a", "b"]), None, expected_end) }).await;
    }
    let mut landed = Vec::new();
    for number in 0..7 {
        let (answered, outcome) = stream.answer().await;
        assert_eq!(answered, number, "answers come in the order of the requests");
        landed.push(match outcome {
            Outcome::Appended(appended) => Ok(appended.start),
            Outcome::Error(v1::Error { kind: Some(Kind::OffsetMismatch(mismatch)), .. }) => Err(mismatch.end),
            Outcome::Error(error) => panic!("{error:?}"),
        });
    }
    assert_eq!(landed, [Ok(0), Ok(2), Err(4), Ok(4), Ok(6), Err(8), Ok(8)]);
    assert_eq!(node.end().await, 10);
}

#[tokio::test]
async fn acquiring_again_by_the_same_request_gives_the_same_answer_and_fences_nobody() {
    let node = Node::with_log().await;
    assert_eq!(node.acquire("db-1", 1).await, (1, 0));
    node.append_as(request(one(), Some(1), None)).await.expect("is appended");
    assert_eq!(node.acquire("db-1", 1).await, (1, 0), "the first answer");
    node.append_as(request(one(), Some(1), None)).await.expect("it fenced nobody");
    assert_eq!(node.acquire("db-2", 2).await, (2, 2));
    assert_eq!(node.acquire("db-1", 1).await, (1, 0), "the first answer, however late");
    let writer = node.writer().await;
    assert_eq!((writer.epoch, writer.holder.as_str()), (2, "db-2"));
    assert_eq!((writer.start, writer.end), (0, 2));
    assert!(writer.acquired_at > 0, "{writer:?}");
}

#[tokio::test]
async fn a_bad_acquisition_is_refused_by_its_field_and_changes_nothing() {
    let node = Node::with_log().await;
    node.acquire("db-1", 1).await;
    let (long, longest) = ("x".repeat(257), "x".repeat(256));
    let cases = [
        ("holder", asks(LOG, "", &[9; 16])),
        ("holder", asks(LOG, &long, &[9; 16])),
        ("request_id", asks(LOG, "db-2", &[])),
        ("request_id", asks(LOG, "db-2", &[9; 15])),
        ("request_id", asks(LOG, "db-2", &[9; 17])),
    ];
    for (field, asked) in cases {
        let status = node.acquires(asked).await.expect_err(field);
        assert!(matches!(kind(&status), Kind::InvalidArgument(refused) if refused.field == field), "{status:?}");
    }
    let writer = node.writer().await;
    assert_eq!((writer.epoch, writer.holder.as_str(), writer.end), (1, "db-1", 0));
    assert_eq!(node.acquires(asks(LOG, &longest, &[9; 16])).await.expect("256 bytes are allowed"), (2, 0));
}

#[tokio::test]
async fn an_unknown_log_has_no_writer_and_no_appends() {
    let node = Node::with_log().await;
    let (log, other) = ("nowhere".to_owned(), node.writer().await.log_id + 1);
    let resolve = v1::ResolveRequest { log: log.clone(), producer_id: 1 << 50, ..v1::ResolveRequest::default() };
    let describe = |log, log_id| v1::DescribeWriterRequest { log, log_id };
    let statuses = [
        node.acquires(asks("nowhere", "db-1", &[1; 16])).await.map(drop),
        within(node.records().describe_writer(describe(log.clone(), 0))).await.map(drop),
        node.resolves(resolve.clone()).await.map(drop),
        // Of that name, but not that one.
        node.acquires(v1::AcquireWriterRequest { log_id: other, ..asks(LOG, "db-1", &[1; 16]) }).await.map(drop),
        within(node.records().describe_writer(describe(LOG.to_owned(), other))).await.map(drop),
        node.resolves(v1::ResolveRequest { log: LOG.to_owned(), log_id: other, ..resolve }).await.map(drop),
    ];
    for status in statuses {
        let status = status.expect_err("there is no such log");
        assert!(matches!(kind(&status), Kind::UnknownLog(_)), "{status:?}");
    }
    assert_eq!(node.writer().await.epoch, 0);
}

#[tokio::test]
async fn an_append_that_no_batch_can_be_is_not_resolved_and_nothing_is_changed() {
    let node = Node::with_log().await;
    let id = node.producer_id().await;
    node.append(LOG, stamped(one(), id, 0)).await.expect("is appended");
    let good = v1::ResolveRequest { log: LOG.to_owned(), producer_id: id, ..v1::ResolveRequest::default() };
    let cases = [
        ("sequence", v1::ResolveRequest { sequence: -1, ..good.clone() }),
        ("sequence", v1::ResolveRequest { sequence: i32::MIN, ..good.clone() }),
        ("producer_epoch", v1::ResolveRequest { producer_epoch: -1, ..good.clone() }),
        ("producer_epoch", v1::ResolveRequest { producer_epoch: 32_768, ..good.clone() }),
        ("producer_id", v1::ResolveRequest { producer_id: 0, ..good.clone() }),
        ("producer_id", v1::ResolveRequest { producer_id: -1, ..good.clone() }),
    ];
    for (field, asked) in cases {
        let status = node.resolves(asked).await.expect_err(field);
        assert!(matches!(kind(&status), Kind::InvalidArgument(refused) if refused.field == field), "{status:?}");
    }
    assert_eq!(node.end().await, 1);
    node.append(LOG, stamped(one(), id, 1)).await.expect("the producer's epoch goes on");
}

#[tokio::test]
async fn a_retry_of_a_landed_append_under_an_older_epoch_gets_its_first_offsets() {
    let node = Node::exclusive().await;
    let id = node.producer_id().await;
    node.acquire("db-1", 1).await;
    let first = request(stamped(batch(&["a", "b"]), id, 0), Some(1), Some(0));
    node.append_as(first.clone()).await.expect("is appended");
    node.acquire("db-2", 2).await;
    node.append_as(request(one(), Some(2), Some(2))).await.expect("db-2 writes");

    let again = node.append_as(first.clone()).await.expect("had landed");
    assert_eq!((again.start, again.end, again.duplicate), (0, 2, true));
    let mut stream = Stream::open(&node).await;
    stream.ask(first).await;
    let (_, Outcome::Appended(again)) = stream.answer().await else { panic!("it is refused on the stream") };
    assert_eq!((again.start, again.end, again.duplicate), (0, 2, true));
    // What had not landed before is fenced like anything else.
    let late = request(stamped(one(), id, 2), Some(1), None);
    assert!(matches!(node.refuses(late).await, Kind::Fenced(v1::Fenced { current_epoch: 2, .. })));
    assert_eq!(node.end().await, 3);
}

#[tokio::test]
async fn what_landed_is_resolved_to_its_offsets_and_its_producer_goes_on() {
    let node = Node::with_log().await;
    let id = node.producer_id().await;
    node.append(LOG, one()).await.expect("somebody else's");
    node.append(LOG, stamped(batch(&["a", "b", "c"]), id, 0)).await.expect("is appended");
    for _ in 0..2 {
        assert_eq!(node.resolve(id, 0).await, Resolved::Landed(Landed { start: 1, end: 4 }));
    }
    node.append(LOG, stamped(one(), id, 3)).await.expect("nothing has ended");
}

#[tokio::test]
async fn what_was_resolved_never_to_land_is_refused_when_it_comes() {
    let node = Node::with_log().await;
    let id = node.producer_id().await;
    node.append(LOG, stamped(one(), id, 0)).await.expect("is appended");
    for _ in 0..2 {
        assert_eq!(node.resolve(id, 1).await, Resolved::Never(NeverLands {}));
    }
    let fenced = Kind::ProducerFenced(v1::ProducerFenced { producer_id: id, current_epoch: 1 });
    assert_eq!(node.refuses(request(stamped(one(), id, 1), None, None)).await, fenced);
    // So it is with a producer of which nothing ever came.
    let silent = node.producer_id().await;
    assert_eq!(node.resolve(silent, 0).await, Resolved::Never(NeverLands {}));
    let fenced = Kind::ProducerFenced(v1::ProducerFenced { producer_id: silent, current_epoch: 1 });
    assert_eq!(node.refuses(request(stamped(one(), silent, 0), None, None)).await, fenced);
    assert_eq!(node.resolve(id, 0).await, Resolved::Landed(Landed { start: 0, end: 1 }), "it had landed");
    assert_eq!(node.end().await, 1);
}

#[tokio::test]
async fn what_is_not_remembered_is_forgotten_and_stays_as_it_is() {
    let node = Node::with_log().await;
    let id = node.producer_id().await;
    for sequence in 0..=REMEMBERED {
        node.append(LOG, stamped(one(), id, sequence)).await.expect("is appended");
    }
    assert_eq!(node.resolve(id, 0).await, Resolved::Forgotten(Forgotten {}), "it has appended too much since");
    assert_eq!(node.resolve(id, 1).await, Resolved::Landed(Landed { start: 1, end: 2 }));
    assert_eq!(node.resolve(1, 0).await, Resolved::Forgotten(Forgotten {}), "its id is older than any expiry");
    node.append(LOG, stamped(one(), id, REMEMBERED + 1)).await.expect("its epoch goes on");
}

#[tokio::test]
async fn who_may_write_stays_as_the_log_was_created() {
    let node = Node::exclusive().await;
    let change = v1::LogAlteration { retention_ms: Some(60_000), ..v1::LogAlteration::default() };
    let request_to_alter = v1::AlterLogRequest { name: LOG.to_owned(), change: Some(change), id: 0 };
    let altered = within(node.cluster().alter_log(request_to_alter)).await.expect("is altered").into_inner();
    let config = altered.log.and_then(|log| log.config).expect("a configuration");
    assert_eq!((altered.changed, config.writers()), (true, v1::Writers::Exclusive));
    let shared = v1::LogConfig { writers: v1::Writers::Shared.into(), ..config };
    let status = node.create(LOG, shared).await.expect_err("it is there, and exclusive");
    assert!(
        matches!(kind(&status), Kind::LogExists(exists) if exists.config == Some(config)),
        "it says how the log is: {status:?}"
    );
    assert_eq!(node.refuses(request(one(), None, None)).await, Kind::WriterRequired(v1::WriterRequired {}));

    let unheard_of = v1::LogConfig { writers: 2, ..v1::LogConfig::default() };
    let status = node.create("other", unheard_of).await.expect_err("no such writers");
    assert!(matches!(kind(&status), Kind::InvalidArgument(refused) if refused.field == "writers"), "{status:?}");
}
