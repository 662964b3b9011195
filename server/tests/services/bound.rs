//! What is asked of a log by its id is asked of that log alone.

use bytes::Bytes;
use quipu_protocol::v1;
use quipu_protocol::v1::error::Kind;
use tonic::Status;

use crate::batches::batch;
use crate::node::{LOG, Node, kind, within};

/// The log's id, and its configuration.
async fn summary(node: &Node) -> (u64, v1::LogConfig) {
    let request = v1::DescribeLogRequest { name: LOG.to_owned() };
    let described = within(node.cluster().describe_log(request)).await.expect("it is there").into_inner();
    let log = described.log.expect("a log");
    (log.id, log.config.expect("a configuration"))
}

/// Asks for everything that changes a log but appends, of the one with this id.
async fn change(node: &Node, log_id: u64) -> Vec<Result<(), Status>> {
    let log = LOG.to_owned();
    let trim = v1::TrimRequest { log: log.clone(), to: 1, log_id, ..v1::TrimRequest::default() };
    let acquire = v1::AcquireWriterRequest {
        log: log.clone(),
        holder: "db-1".to_owned(),
        request_id: Bytes::from_static(&[7; 16]),
        log_id,
    };
    // Of a producer that has not appended.
    let resolve =
        v1::ResolveRequest { log: log.clone(), producer_id: 1 << 50, log_id, ..v1::ResolveRequest::default() };
    let alteration = v1::LogAlteration { retention_ms: Some(60_000), ..v1::LogAlteration::default() };
    let alter = v1::AlterLogRequest { name: log, change: Some(alteration), id: log_id };
    vec![
        within(node.records().trim(trim)).await.map(|answer| assert_eq!(answer.into_inner().log_id, log_id)),
        within(node.records().acquire_writer(acquire)).await.map(drop),
        within(node.records().resolve(resolve)).await.map(drop),
        within(node.cluster().alter_log(alter)).await.map(drop),
    ]
}

async fn fill(node: &Node) {
    for value in ["a", "b"] {
        node.append(LOG, batch(&[value])).await.expect("is appended");
    }
}

/// Where it starts, the writer's epoch, and its configuration.
async fn state(node: &Node) -> (u64, u64, v1::LogConfig) {
    let request = v1::DescribeWriterRequest { log: LOG.to_owned(), log_id: 0 };
    let writer = within(node.records().describe_writer(request)).await.expect("is described").into_inner();
    (writer.start, writer.epoch, summary(node).await.1)
}

#[tokio::test]
async fn what_is_asked_of_a_deleted_log_by_its_id_does_nothing_to_the_next_one_of_its_name() {
    let node = Node::with_log().await;
    fill(&node).await;
    let (first, _) = summary(&node).await;
    for done in change(&node, first).await {
        done.expect("it is the log that is meant");
    }
    let (start, epoch, config) = state(&node).await;
    assert_eq!((start, epoch, config.retention_ms), (1, 1, 60_000), "so far all of it counts");

    let delete = || v1::DeleteLogRequest { name: LOG.to_owned(), id: first };
    assert!(within(node.cluster().delete_log(delete())).await.expect("is deleted").into_inner().deleted);
    for refused in change(&node, first).await {
        let status = refused.expect_err("there is no such log");
        assert_eq!(kind(&status), Kind::UnknownLog(v1::UnknownLog { name: LOG.to_owned() }));
    }

    let node = node.having(v1::LogConfig::default()).await;
    fill(&node).await;
    let (second, config) = summary(&node).await;
    assert!(second > first, "{second} after {first}");
    for refused in change(&node, first).await {
        let status = refused.expect_err("it is another log");
        assert_eq!(kind(&status), Kind::UnknownLog(v1::UnknownLog { name: LOG.to_owned() }));
    }
    let again = within(node.cluster().delete_log(delete())).await.expect("that one is gone").into_inner();
    assert!(!again.deleted);
    assert_eq!(state(&node).await, (0, 0, config), "the new log is as it was");
}
