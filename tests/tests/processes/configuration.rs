//! Where a node's configuration comes from.

use quipu_tests::{Cluster, Command, eventually, http_get};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_configured_by_its_environment_alone() {
    let scratch = Cluster::of(1).prepare();
    let (address, http) = (scratch.node(1).address(), format!("127.0.0.1:{}", scratch.ports().http(0)));
    let data = scratch.directory().join("by-environment");
    let variables = [
        ("QUIPU_NODE_ID", "1"),
        ("QUIPU_PEERS", &format!("1={address}")),
        ("QUIPU_DATA_DIR", data.to_str().expect("a path in UTF-8")),
        ("QUIPU_HTTP", &http),
        ("QUIPU_JOURNAL_SEGMENT_BYTES", "4194304"),
        ("QUIPU_LOG_LARGEST_MAX_BATCH_BYTES", "2097152"),
    ];
    let serve = Command::new(["serve"]);
    let _node = variables.iter().fold(serve, |serve, (name, value)| serve.variable(name, value)).spawn();
    eventually("it is ready", async || match http_get(&http, "/readyz").await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    scratch.node(1).health().await.expect("gRPC tells the same");
    assert!(data.is_dir(), "its data is where it was told to keep it");
}
