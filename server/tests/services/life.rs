//! A node's life: starting, serving, ending, failing.

use std::sync::Arc;

use quipu_protocol::v1;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::read_request::{From, Start};
use quipu_server::Server;
use quipu_storage::MemoryDisk;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::batches::batch;
use crate::node::{LOG, Node, config, environment, kind, outside, within};

#[tokio::test]
async fn health_is_told_of_the_node_and_of_each_service() {
    let node = Node::start().await;
    for service in ["", "quipu.v1.Records", "quipu.v1.Cluster", "quipu.v1.Operator", "quipu.peer.v1.Peers"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = within(node.health().check(request)).await.expect(service).into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
}

#[tokio::test]
async fn health_turns_when_the_node_ends() {
    let node = Node::start().await;
    let request = HealthCheckRequest { service: String::new() };
    let mut watched = within(node.health().watch(request)).await.expect("is watched").into_inner();
    let mut next = async || within(watched.message()).await.expect("no error").expect("a status").status();
    assert_eq!(next().await, ServingStatus::Serving);
    let server = Arc::clone(&node.server);
    let (turned, ()) = tokio::join!(next(), server.shutdown());
    assert_eq!(turned, ServingStatus::NotServing);
}

#[tokio::test]
async fn a_node_that_ends_ends_its_followers_and_takes_no_more() {
    let node = Node::with_log().await;
    let request = v1::ReadRequest {
        log: LOG.to_owned(),
        from: Some(From::Start(Start {})),
        follow: true,
        ..v1::ReadRequest::default()
    };
    let mut follower = within(node.records().read(request)).await.expect("is taken").into_inner();
    let first = within(follower.message()).await.expect("no error").expect("where it is");
    assert_eq!(first.next, 0);
    within(node.server.shutdown()).await;
    let status = within(follower.message()).await.expect_err("the node has ended");
    assert!(matches!(kind(&status), Kind::Unavailable(_)), "{status:?}");
    assert!(node.append(LOG, batch(&["a"])).await.is_err());
    // Ending twice is ending once.
    within(node.server.shutdown()).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let node = Node::with_log().await;
    node.append(LOG, batch(&["a", "b"])).await.expect("is appended");
    within(node.server.shutdown()).await;
    let disk = Arc::new(node.disk.restore(7));
    let server = Server::start(config(1), outside(&node.environment, Arc::clone(&disk))).await.expect("starts again");
    within(server.ready()).await.expect("takes part");
    let node = Node { server: Arc::new(server), disk, environment: node.environment };
    let again = within(async {
        loop {
            match node.offsets_of(LOG, v1::Consistency::Linearizable).await {
                Ok(offsets) => break offsets,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    assert_eq!(again.await.end, 2);
}

#[tokio::test]
async fn another_nodes_data_directory_is_refused() {
    let node = Node::start().await;
    within(node.server.shutdown()).await;
    let disk = Arc::new(node.disk.restore(7));
    let error = Server::start(config(2), outside(&environment(), disk)).await.err().expect("is refused");
    let message = error.to_string();
    assert!(message.contains("node 1") && message.contains("node 2"), "{message}");
}

#[tokio::test]
async fn an_address_in_use_is_refused_by_name() {
    let node = Node::start().await;
    let outside = outside(&node.environment, Arc::new(MemoryDisk::new(2)));
    let error = Server::start(config(1), outside).await.err().expect("is refused");
    assert!(error.to_string().contains("cannot listen on node:1"), "{error}");
}

#[tokio::test]
async fn a_failed_sync_ends_the_node_and_says_what_to_do() {
    let node = Node::with_log().await;
    node.append(LOG, batch(&["a"])).await.expect("is appended");
    node.disk.fail_next_sync();
    let status = node.append(LOG, batch(&["b"])).await.expect_err("was not made durable");
    assert!(!status.message().is_empty());
    let failure = within(node.server.failed()).await;
    assert!(failure.reason.contains("disk"), "{failure}");
}
