//! Bad input: each is refused with a typed error that names the bound or the
//! reason, and changes nothing.

use bytes::Bytes;
use quipu_protocol::v1;
use quipu_protocol::v1::bad_batch::Reason;
use quipu_protocol::v1::error::Kind;
use tonic::Status;

use crate::batches::{batch, batch_of, forged};
use crate::node::{LOG, Node, kind, within};

/// Where a batch's header has what is forged here.
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const COUNT: usize = 57;

#[tokio::test]
async fn an_unknown_log_is_named() {
    let node = Node::start().await;
    let offsets = |consistency| node.offsets_of("nowhere", consistency);
    let describe = within(node.cluster().describe_log(v1::DescribeLogRequest { name: "nowhere".to_owned() })).await;
    let answers: [Status; 4] = [
        node.append("nowhere", batch(&["a"])).await.expect_err("no log to append to"),
        offsets(v1::Consistency::Linearizable).await.expect_err("no log to ask"),
        offsets(v1::Consistency::Local).await.expect_err("no log to ask"),
        describe.expect_err("no log to describe"),
    ];
    for status in answers {
        assert_eq!(kind(&status), Kind::UnknownLog(v1::UnknownLog { name: "nowhere".to_owned() }));
        assert!(status.message().contains("nowhere"), "{status:?}");
    }
}

#[tokio::test]
async fn names_that_are_none_are_refused_for_their_reason() {
    let node = Node::start().await;
    let long = "x".repeat(256);
    for (name, reason) in [("or ders", "' ' at byte 2"), (&long, "at most 255"), ("", "empty"), ("größe", "'ö'")] {
        let status = node.create(name, v1::LogConfig::default()).await.expect_err("no name");
        let Kind::InvalidArgument(refused) = kind(&status) else { panic!("{status:?}") };
        assert_eq!(refused.field, "name");
        assert!(refused.reason.contains(reason), "{refused:?} for {name:?}");
    }
    let logs = within(node.cluster().list_logs(v1::ListLogsRequest::default())).await.expect("a list").into_inner();
    assert_eq!(logs.logs, []);
}

#[tokio::test]
async fn a_log_is_created_once_and_never_with_another_configuration() {
    let node = Node::start().await;
    let config = v1::LogConfig { replicas: 1, max_batch_bytes: 4096, ..v1::LogConfig::default() };
    let first = node.create(LOG, config).await.expect("is created");
    assert!(first.created);
    let again = node.create(LOG, config).await.expect("is there");
    assert_eq!((again.created, again.log), (false, first.log.clone()));

    let other = v1::LogConfig { max_batch_bytes: 8192, ..config };
    let status = node.create(LOG, other).await.expect_err("has another configuration");
    let exists = v1::LogExists { name: LOG.to_owned(), config: Some(config) };
    assert_eq!(kind(&status), Kind::LogExists(Box::new(exists)));
}

#[tokio::test]
async fn a_log_gets_no_more_replicas_than_there_are_nodes() {
    let node = Node::start().await;
    let config = v1::LogConfig { replicas: 3, ..v1::LogConfig::default() };
    let status = node.create(LOG, config).await.expect_err("one node is too few");
    assert_eq!(kind(&status), Kind::TooFewNodes(v1::TooFewNodes { replicas: 3, nodes: 1 }));
    let status = node.offsets_of(LOG, v1::Consistency::Local).await.expect_err("was not created");
    assert!(matches!(kind(&status), Kind::UnknownLog(_)));
}

#[tokio::test]
async fn a_log_is_configured_within_its_bounds() {
    let node = Node::start().await;
    let create =
        |max_batch_bytes| node.create(LOG, v1::LogConfig { replicas: 1, max_batch_bytes, ..v1::LogConfig::default() });
    let status = create(1023).await.expect_err("is below the least");
    let Kind::InvalidArgument(refused) = kind(&status) else { panic!("{status:?}") };
    assert_eq!(refused.field, "config.max_batch_bytes");
    let status = create((2 << 20) + 1).await.expect_err("is above this node's bound");
    let bound = "largest_max_batch_bytes".to_owned();
    assert_eq!(kind(&status), Kind::TooLarge(v1::TooLarge { bound, limit: 2 << 20, actual: (2 << 20) + 1 }));
}

#[tokio::test]
async fn a_page_of_logs_is_bounded() {
    let node = Node::start().await;
    let list = |after: &str, limit| {
        let request = v1::ListLogsRequest { after: after.to_owned(), limit, ..v1::ListLogsRequest::default() };
        async { within(node.cluster().list_logs(request)).await.expect_err("is refused") }
    };
    let too_many = v1::TooLarge { bound: "limit".to_owned(), limit: 10_000, actual: 10_001 };
    assert_eq!(kind(&list("", 10_001).await), Kind::TooLarge(too_many));
    assert!(matches!(kind(&list("no name", 1).await), Kind::InvalidArgument(refused) if refused.field == "after"));
}

#[tokio::test]
async fn a_batch_is_bounded_by_its_own_logs_bound() {
    let node = Node::with_log().await;
    node.create("small", v1::LogConfig { replicas: 1, max_batch_bytes: 4096, ..v1::LogConfig::default() })
        .await
        .expect("is created");
    let large = batch_of(8192);
    let actual = large.len() as u64;
    let status = node.append("small", large.clone()).await.expect_err("is too large");
    let bound = "max_batch_bytes".to_owned();
    assert_eq!(kind(&status), Kind::TooLarge(v1::TooLarge { bound, limit: 4096, actual }));
    node.append(LOG, large).await.expect("the other log takes a mebibyte");
    let status = node.append(LOG, batch_of((1 << 20) + 100)).await.expect_err("is too large");
    assert!(matches!(kind(&status), Kind::TooLarge(v1::TooLarge { limit: 1_048_576, .. })), "{status:?}");
    assert_eq!(node.end().await, 1);
}

#[tokio::test]
async fn a_malformed_batch_is_refused_for_its_reason() {
    let node = Node::with_log().await;
    let good = batch(&["a", "b"]);
    let mut bad_crc = good.to_vec();
    *bad_crc.last_mut().expect("bytes") ^= 1;
    let three = 2_i32.to_be_bytes();
    let lies = forged(&forged(&good, LAST_OFFSET_DELTA, &three), COUNT, &3_i32.to_be_bytes());
    let empty = forged(&forged(&good, LAST_OFFSET_DELTA, &(-1_i32).to_be_bytes()), COUNT, &0_i32.to_be_bytes());
    let cases: [(&str, Bytes, Reason); 9] = [
        ("no bytes", Bytes::new(), Reason::Truncated),
        ("no record", empty, Reason::Empty),
        ("wrong CRC", bad_crc.into(), Reason::Crc),
        ("cut off", good.slice(..40), Reason::Truncated),
        ("bytes missing", good.slice(..good.len() - 1), Reason::Length),
        ("count that lies", lies, Reason::Count),
        ("count beside the last offset", forged(&good, COUNT, &3_i32.to_be_bytes()), Reason::Count),
        ("unknown codec", forged(&good, ATTRIBUTES, &5_i16.to_be_bytes()), Reason::Codec),
        ("control batch", forged(&good, ATTRIBUTES, &(1_i16 << 5).to_be_bytes()), Reason::Control),
    ];
    for (what, bytes, reason) in cases {
        let status = node.append(LOG, bytes).await.expect_err(what);
        assert_eq!(kind(&status), Kind::BadBatch(v1::BadBatch { reason: reason.into() }), "{what}: {status:?}");
    }
    assert_eq!(node.end().await, 0, "nothing was changed");
}

#[tokio::test]
async fn offsets_outside_of_the_log_are_refused_with_its_range() {
    let node = Node::with_log().await;
    node.append(LOG, batch(&["a", "b"])).await.expect("is appended");
    let request = v1::ReadRequest {
        log: LOG.to_owned(),
        from: Some(v1::read_request::From::Offset(3)),
        follow: true,
        ..v1::ReadRequest::default()
    };
    let status = within(node.records().read(request)).await.expect_err("is above the end");
    assert_eq!(kind(&status), Kind::OutOfRange(v1::OutOfRange { start: 0, end: 2 }));
}

#[tokio::test]
async fn a_read_says_where_it_begins_and_how_fresh_it_is() {
    let node = Node::with_log().await;
    let nowhere = v1::ReadRequest { log: LOG.to_owned(), ..v1::ReadRequest::default() };
    let status = within(node.records().read(nowhere.clone())).await.expect_err("it begins nowhere");
    assert!(matches!(kind(&status), Kind::InvalidArgument(refused) if refused.field == "from"));
    let from = Some(v1::read_request::From::Offset(0));
    let unheard_of = v1::ReadRequest { from, consistency: 9, ..nowhere };
    let status = within(node.records().read(unheard_of)).await.expect_err("no such consistency");
    assert!(matches!(kind(&status), Kind::InvalidArgument(refused) if refused.field == "consistency"));
}

#[tokio::test]
async fn a_producer_that_skips_or_is_unknown_is_refused_with_what_it_needs() {
    use quipu_protocol::batch::{Producer, with_producer};
    use quipu_protocol::{ProducerEpoch, ProducerId, Sequence};

    let node = Node::with_log().await;
    let allocated = within(node.cluster().allocate_producer(v1::AllocateProducerRequest::default())).await;
    let id = allocated.expect("a producer id").into_inner().producer_id;
    let from = |epoch, sequence| {
        let producer =
            Producer { id: ProducerId::new(id), epoch: ProducerEpoch::new(epoch), sequence: Sequence::new(sequence) };
        with_producer(batch(&["a"]), Some(producer))
    };
    let status = node.append(LOG, from(1, 4)).await.expect_err("an unknown producer starts at 0");
    assert_eq!(kind(&status), Kind::UnknownProducer(v1::UnknownProducer { producer_id: id }));
    let first = node.append(LOG, from(1, 0)).await.expect("is appended");
    let again = node.append(LOG, from(1, 0)).await.expect("had landed");
    assert_eq!((again.start, again.end, again.duplicate), (first.start, first.end, true));
    let status = node.append(LOG, from(1, 5)).await.expect_err("leaves a gap");
    let gap = v1::OutOfSequence { producer_id: id, expected: 1, actual: 5 };
    assert_eq!(kind(&status), Kind::OutOfSequence(gap));
    let status = node.append(LOG, from(0, 1)).await.expect_err("is fenced");
    assert_eq!(kind(&status), Kind::ProducerFenced(v1::ProducerFenced { producer_id: id, current_epoch: 1 }));
    assert_eq!(node.end().await, 1);
}
