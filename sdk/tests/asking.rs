//! What a client promises about questions and changes that are no records.

mod fake;

use std::time::Duration;

use fake::{FakeCluster, log};
use futures_util::StreamExt as _;
use quipu_protocol::v1;
use quipu_sdk::{
    AlterLogError, Client, ClientConfig, Codecs, Compression, ConfigError, Consistency, CreateLogError, DeleteLogError,
    Lease, LeaseError, LogAlteration, LogConfig, LogError, LogName, NodeId, Offset, OffsetRange, RequestError,
    Timestamp, TrimError, system,
};

#[tokio::test]
async fn a_log_is_created_once_and_found_again() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client();
    let name: LogName = "invoices".parse().expect("a name");
    let config = LogConfig {
        replicas: Some(3),
        max_batch_bytes: Some(4096),
        retention_bytes: Some(1 << 30),
        codecs: Codecs::from_iter([Compression::None, Compression::Lz4]),
        max_timestamp_after_ms: Some(60_000),
        ..LogConfig::default()
    };
    let first = client.create_log(&name, config).await.expect("created");
    assert_eq!((&first.log.name, first.log.config, first.created), (&name, config, true));
    assert!(!client.create_log(&name, config).await.expect("there").created);

    let error = client.create_log(&name, LogConfig::default()).await.expect_err("another configuration");
    assert!(matches!(&error, CreateLogError::Exists { config: found, .. } if *found == config), "{error}");
    let error = client.create_log(&log(), LogConfig { replicas: Some(4), ..config }).await.expect_err("three nodes");
    assert!(matches!(error, CreateLogError::TooFewNodes { replicas: 4, nodes: 3 }), "{error}");
    assert!(error.has_no_side_effects() && !error.is_retryable());

    for extra in ["a", "b", "c"] {
        client.create_log(&extra.parse().expect("a name"), LogConfig::default()).await.expect("created");
    }
    let listed: Vec<String> =
        client.list_logs().await.expect("listed").iter().map(|log| log.name.to_string()).collect();
    assert_eq!(listed, ["a", "b", "c", "invoices", "orders"], "through all pages, by name");
    let some = client.logs(Some("*o*s".parse().expect("a pattern"))).into_stream();
    let some: Vec<String> = some.map(|log| log.expect("listed").name.to_string()).collect().await;
    assert_eq!(some, ["invoices", "orders"]);
    assert!(client.logs(Some("*x*".parse().expect("a pattern"))).next().await.expect("listed").is_none());
}

#[tokio::test]
async fn an_alteration_changes_what_it_names_and_says_whether_that_was_new() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client();
    let name: LogName = "invoices".parse().expect("a name");
    let config = LogConfig { replicas: Some(3), retention_bytes: Some(5), ..LogConfig::default() };
    client.create_log(&name, config).await.expect("created");
    let change = LogAlteration { retention_bytes: Some(None), retention_ms: Some(Some(9)), ..LogAlteration::default() };
    let altered = client.alter_log(&name, change).await.expect("altered");
    let expected = LogConfig { retention_bytes: None, retention_ms: Some(9), ..config };
    assert_eq!((altered.log.config, altered.changed), (expected, true));
    assert!(!client.alter_log(&name, change).await.expect("as it is").changed);
    let error = client.alter_log(&"nobody".parse().expect("a name"), change).await.expect_err("no such log");
    assert!(matches!(error, AlterLogError::UnknownLog { .. }), "{error}");
    let too_small = LogAlteration { max_batch_bytes: Some(1), ..change };
    let error = client.alter_log(&name, too_small).await.expect_err("too small");
    assert!(matches!(&error, AlterLogError::BadConfig { field, .. } if field == "max_batch_bytes"), "{error}");
    assert!(error.has_no_side_effects() && !error.is_retryable());
}

#[tokio::test]
async fn a_log_that_is_not_there_is_said_by_name() {
    let cluster = FakeCluster::start(2).await;
    let client = cluster.client();
    let name: LogName = "nothing".parse().expect("a name");
    let described = client.describe_log(&name).await.err();
    let offsets = client.offsets(&name, Consistency::Linearizable).await.err();
    for error in [described, offsets] {
        let error = error.expect("not there");
        assert!(matches!(&error, LogError::UnknownLog { log } if *log == name), "{error}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn the_end_is_asked_of_the_leader_wherever_it_is() {
    let cluster = FakeCluster::start(3).await;
    cluster.fill(&["a", "b"]);
    cluster.lead(2);
    let range = cluster.client().offsets(&log(), Consistency::Linearizable).await.expect("answered");
    assert_eq!(range, OffsetRange::new(Offset::ZERO, Offset::new(2)));
}

#[tokio::test]
async fn a_client_that_knows_one_living_node_learns_the_others() {
    let cluster = FakeCluster::start(3).await;
    let bootstrap = [nobody().await, cluster.addresses[1].clone()];
    let config = ClientConfig { bootstrap: bootstrap.into(), ..cluster.client_config() };
    let client = Client::new(config, system::environment()).expect("a good configuration");
    let status = client.status().await.expect("answered");
    let nodes: Vec<_> = status.nodes.iter().map(|node| (node.id.get(), node.address.clone())).collect();
    assert_eq!(nodes, (1..).zip(cluster.addresses.clone()).collect::<Vec<_>>());
    assert_eq!(status.catalog_leader, Some(NodeId::new(1)));
}

#[tokio::test]
async fn when_nobody_answers_the_error_says_whom_it_tried_and_that_nothing_happened() {
    let address = nobody().await;
    let config = ClientConfig { retry_timeout: Duration::from_millis(30), ..ClientConfig::new([address.clone()]) };
    let client = Client::new(config, system::environment()).expect("a good configuration");
    let error = client.create_log(&log(), LogConfig::default()).await.expect_err("nobody is there");
    assert!(error.is_retryable() && error.has_no_side_effects());
    let CreateLogError::Request(RequestError::Unavailable { attempts, last, .. }) = error else {
        panic!("{error}");
    };
    assert!(attempts >= 2, "{attempts} attempts");
    assert!(last.expect("an attempt").to_string().contains(&address));
}

#[tokio::test]
async fn a_refusal_after_an_attempt_that_may_have_been_carried_out_is_no_sure_failure() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client();
    let script = |unclear: bool, refusal: &v1::Error| {
        cluster.on_change(unclear.then(|| v1::Error::outcome_unknown("the leader was lost")));
        cluster.on_change([refusal.clone()]);
    };
    let unknown = v1::Error::unknown_log("orders");
    let config = LogConfig::default();
    let lease = Lease {
        log: client.describe_log(&log()).await.expect("there").log.id,
        holder: "a".to_owned(),
        grant: 1,
        offset: Offset::ZERO,
        until: Timestamp::default(),
    };
    for unclear in [false, true] {
        script(unclear, &v1::Error::too_few_nodes(3, 1));
        let error = client.create_log(&log(), config).await.expect_err("refused");
        assert_eq!(error.has_no_side_effects(), !unclear, "{error}");
        assert_eq!(matches!(error, CreateLogError::TooFewNodes { .. }), !unclear, "{error}");

        script(unclear, &unknown);
        let error = client.alter_log(&log(), LogAlteration::default()).await.expect_err("refused");
        assert_eq!(error.has_no_side_effects(), !unclear, "{error}");
        assert!(matches!(error, AlterLogError::UnknownLog { maybe_done, .. } if maybe_done == unclear), "{error}");

        script(unclear, &v1::Error::invalid_argument("max_batch_bytes", "too few"));
        let error = client.alter_log(&log(), LogAlteration::default()).await.expect_err("refused");
        assert_eq!(error.has_no_side_effects(), !unclear, "{error}");
        assert_eq!(matches!(error, AlterLogError::BadConfig { .. }), !unclear, "{error}");

        script(unclear, &unknown);
        let error = client.trim(&log(), Offset::new(1)).await.expect_err("refused");
        assert_eq!(error.has_no_side_effects(), !unclear, "{error}");
        assert!(matches!(error, TrimError::UnknownLog { maybe_done, .. } if maybe_done == unclear), "{error}");

        script(unclear, &v1::Error::strands_leases(Vec::new()));
        let error = client.trim(&log(), Offset::new(1)).await.expect_err("refused");
        assert_eq!(error.has_no_side_effects(), !unclear, "{error}");
        assert_eq!(matches!(error, TrimError::StrandsLeases { .. }), !unclear, "{error}");

        script(unclear, &v1::Error::lease_not_held("a", None));
        let error = client.renew_lease(&log(), &lease, None, Duration::from_secs(1)).await.expect_err("refused");
        assert_eq!(error.has_no_side_effects(), !unclear, "{error}");
        assert_eq!(matches!(error, LeaseError::NotHeld { .. }), !unclear, "{error}");

        script(unclear, &unknown);
        let error = client.delete_log(&log()).await.expect_err("refused");
        assert_eq!(error.has_no_side_effects(), !unclear, "{error}");
        assert_eq!(matches!(error, DeleteLogError::UnknownLog { .. }), !unclear, "{error}");
        assert!(!error.is_retryable() && error.to_string().contains("earlier attempt") == unclear, "{error}");
    }
}

#[test]
fn a_client_without_a_usable_address_is_refused() {
    let client =
        |addresses: &[&str]| Client::new(ClientConfig::new(addresses.iter().copied()), system::environment()).err();
    assert_eq!(client(&[]), Some(ConfigError::NoBootstrap));
    assert!(matches!(client(&["localhost"]), Some(ConfigError::BadAddress(_))));
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = system::environment().network.listen("127.0.0.1:0").await.expect("a free port");
    listener.local_address().expect("an address").to_string()
}

#[tokio::test]
async fn a_deleted_log_is_unknown_and_its_name_is_free() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client();
    let before = client.describe_log(&log()).await.expect("there").log;
    assert_eq!(client.delete_log(&log()).await.expect("deleted"), before);
    let error = client.delete_log(&log()).await.expect_err("gone");
    assert!(matches!(&error, DeleteLogError::UnknownLog { log: gone } if *gone == log()), "{error}");
    assert!(error.has_no_side_effects() && !error.is_retryable());
    let again = client.create_log(&log(), LogConfig::default()).await.expect("the name is free");
    assert!(again.created && again.log.id > before.id, "{again:?} after {before:?}");
}
