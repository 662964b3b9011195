//! Reader groups as scripts see them, over the loss of a node.

use quipu_tests::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_prints_each_record_once_whoever_joins_and_whichever_node_is_lost() {
    let cluster = Cluster::start(3).await;
    let join = |cluster: &Cluster, count: &'static str| {
        cluster.quipu(["group", "join", "billing", "orders/*", "--max-records", count])
    };
    join(&cluster, "1").is_refused().await.complains_of("no log matches \"orders/*\": create one, or join and wait");
    for log in ["orders/eu", "orders/us"] {
        cluster.quipu(["log", "create", log]).succeeds().await;
        cluster.quipu(["append", log]).input("tea\ncoffee\n").succeeds().await;
    }
    assert_eq!(
        sorted(join(&cluster, "4").succeeds().await.text()),
        ["orders/eu\tcoffee", "orders/eu\ttea", "orders/us\tcoffee", "orders/us\ttea"]
    );
    let group = cluster.quipu(["group", "describe", "billing", "--json"]).succeeds().await.json();
    assert_eq!((&group["pattern"], &group["members"]), (&"orders/*".into(), &serde_json::json!([])), "it has left");

    cluster.node(1).kill();
    for log in ["orders/eu", "orders/us"] {
        cluster.quipu(["append", log]).input("cake\n").succeeds().await;
    }
    assert_eq!(sorted(join(&cluster, "2").succeeds().await.text()), ["orders/eu\tcake", "orders/us\tcake"]);
    let listed = cluster.quipu(["group", "list", "--json"]).succeeds().await.json();
    assert_eq!((&listed["group"], &listed["members"]), (&"billing".into(), &0.into()));
    cluster.quipu(["group", "describe", "audit"]).is_refused().await.complains_of("there is no reader group audit");
    cluster.quipu(["group", "join", "a b", "*"]).is_refused().await.complains_of("a reader group's name is made of");
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}
