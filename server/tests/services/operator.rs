//! What a node is asked by those who operate it, and by tools that look at what
//! it serves.

use std::collections::BTreeSet;
use std::sync::Arc;

use quipu_protocol::v1;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::operator_client::OperatorClient;
use quipu_server::{NodeEnvironment, Server, telemetry};
use quipu_storage::MemoryDisk;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::node::{Node, config, config_with, environment, kind, outside, within};

async fn change(node: &Node, filter: &str) -> Result<(String, String), Status> {
    let request = v1::ChangeLogFilterRequest { filter: filter.to_owned() };
    let changed = within(OperatorClient::new(node.channel()).change_log_filter(request)).await?.into_inner();
    Ok((changed.before, changed.now))
}

/// The only test of this process that starts logging.
#[tokio::test]
async fn what_a_node_logs_is_changed_while_it_runs() {
    let log_filter = telemetry::start("error").expect("logging starts");
    let environment = environment();
    let disk = Arc::new(MemoryDisk::new(1));
    let outside = NodeEnvironment { log_filter: Some(log_filter), ..outside(&environment, Arc::clone(&disk)) };
    let server = Server::start(config(1), outside).await.expect("the node starts");
    let node = Node { server: Arc::new(server), disk, environment };
    let enabled = || tracing::enabled!(target: "quipu_server", tracing::Level::DEBUG);
    let pair = |before: &str, now: &str| (before.to_owned(), now.to_owned());

    assert!(!enabled());
    assert_eq!(change(&node, "").await.expect("is told"), pair("error", "error"));
    assert_eq!(
        change(&node, "error,quipu_server=debug").await.expect("is taken"),
        pair("error", "error,quipu_server=debug")
    );
    assert!(enabled());

    let refused = change(&node, "loud").await.expect_err("is no level");
    assert!(matches!(kind(&refused), Kind::InvalidArgument(_)) && refused.message().contains("loud"), "{refused:?}");
    let long = change(&node, &"quipu=info,".repeat(1000)).await.expect_err("is too long");
    assert!(long.message().contains("1024 are allowed"), "{long:?}");
    assert!(enabled(), "what is refused changes nothing");

    assert_eq!(change(&node, "error").await.expect("is taken"), pair("error,quipu_server=debug", "error"));
    assert!(!enabled());
}

#[tokio::test]
async fn a_node_that_does_not_decide_what_is_logged_says_so() {
    let node = Node::start().await;
    let refused = change(&node, "debug").await.expect_err("is refused");
    assert!(refused.message().contains("cannot be changed"), "{refused:?}");
}

async fn reflected(node: &Node, question: MessageRequest) -> Result<ServerReflectionResponse, Status> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let requests = tokio_stream::iter([request]);
    let mut client = ServerReflectionClient::new(node.channel());
    let mut answers = within(client.server_reflection_info(requests)).await?.into_inner();
    Ok(within(answers.message()).await?.expect("an answer"))
}

#[tokio::test]
async fn a_tool_is_told_of_the_public_services_and_of_no_other() {
    let node = Node::start().await;
    let answer = reflected(&node, MessageRequest::ListServices(String::new())).await.expect("is told");
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
        panic!("no list: {answer:?}")
    };
    let names: BTreeSet<String> = listed.service.into_iter().map(|service| service.name).collect();
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "quipu.v1.Cluster",
        "quipu.v1.Cursors",
        "quipu.v1.Operator",
        "quipu.v1.ReaderGroups",
        "quipu.v1.Records",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
    let symbol = MessageRequest::FileContainingSymbol("quipu.v1.Records".to_owned());
    let answer = reflected(&node, symbol).await.expect("is told");
    assert!(matches!(answer.message_response, Some(MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
}

#[tokio::test]
async fn reflection_can_be_switched_off() {
    let node = Node::start_as(config_with(1, &[("server.reflection", 0)])).await;
    let refused = reflected(&node, MessageRequest::ListServices(String::new())).await.expect_err("is off");
    assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
}
