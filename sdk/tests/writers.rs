//! Writer epochs, conditional appends and resolutions, over the wire.

mod fake;

use std::time::Duration;

use fake::{FakeCluster, OnAppend, log};
use quipu_sdk::{
    AppendError, AppendId, Client, Offset, OffsetRange, Producer, ProducerConfig, Resolution, WriterEpoch, WriterError,
};

fn producer(client: &Client, config: ProducerConfig) -> Producer {
    client.producer(&log(), config).expect("a good configuration")
}

fn under(epoch: WriterEpoch) -> ProducerConfig {
    ProducerConfig { writer_epoch: Some(epoch), ..ProducerConfig::default() }
}

async fn append(producer: &Producer, value: &str) -> Result<OffsetRange, AppendError> {
    producer.append(vec![producer.record(value.to_owned())]).await
}

fn range(start: u64, end: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(start), Offset::new(end))
}

/// An append that nobody answers before its producer gives up, as the script has it.
async fn unanswered(cluster: &FakeCluster, client: &Client, script: OnAppend) -> AppendId {
    cluster.on_append(std::iter::once(script).chain(vec![OnAppend::Hold; 1_000]));
    let config = ProducerConfig { delivery_timeout: Duration::from_millis(800), ..ProducerConfig::default() };
    let outcome = append(&producer(client, config), "in doubt").await;
    cluster.on_append_clear();
    match outcome {
        Err(AppendError::OutcomeUnknown { append: Some(append), .. }) => append,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_writer_is_acquired_from_the_leader_and_told_where_the_log_ends() {
    let cluster = FakeCluster::start(3).await;
    cluster.fill(&["a", "b"]);
    cluster.lead(2);
    let client = cluster.client();
    let first = client.acquire_writer(&log(), "db-1").await.expect("acquired");
    assert_eq!((first.epoch, first.end), (WriterEpoch::new(1), Offset::new(2)));
    let second = client.acquire_writer_as(&log(), "db-2", &[7; 16]).await.expect("acquired");
    assert_eq!(second.epoch, WriterEpoch::new(2), "each call is a request of its own");
    let again = client.acquire_writer_as(&log(), "db-2", &[7; 16]).await.expect("acquired before");
    assert_eq!(again, second);
    let writer = client.describe_writer(&log()).await.expect("described");
    assert_eq!((writer.epoch, writer.holder.as_str(), writer.range), (second.epoch, "db-2", range(0, 2)));

    let nowhere = "nowhere".parse().expect("a name");
    let error = client.acquire_writer(&nowhere, "db-1").await.expect_err("there is no such log");
    assert!(matches!(error, WriterError::UnknownLog { .. }), "{error:?}");
}

#[tokio::test]
async fn a_producer_appends_under_its_epoch_until_it_is_fenced() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client();
    let writer = client.acquire_writer(&log(), "db-1").await.expect("acquired");
    let producer = producer(&client, under(writer.epoch));
    assert_eq!(append(&producer, "a").await.expect("acknowledged"), range(0, 1));
    let current = cluster.acquire_writer("db-2");
    for _ in 0..2 {
        match append(&producer, "b").await {
            Err(AppendError::WriterFenced { current: told, holder }) => {
                assert_eq!((told.get(), holder.as_str()), (current, "db-2"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cluster.values(), ["a"]);
}

#[tokio::test]
async fn a_conditional_append_lands_where_it_is_expected_to_and_nowhere_else() {
    let cluster = FakeCluster::start(1).await;
    let producer = producer(&cluster.client(), ProducerConfig::default());
    let record = |value: &str| vec![producer.record(value.to_owned())];
    // What lands once is acknowledged though its first answer is lost.
    cluster.on_append([OnAppend::LandAndBreak]);
    assert_eq!(producer.append_at(Offset::ZERO, record("a")).await.expect("acknowledged"), range(0, 1));
    cluster.fill(&["somebody else's"]);
    match producer.append_at(Offset::new(1), record("b")).await {
        Err(AppendError::OffsetMismatch { expected, end }) => assert_eq!((expected.get(), end.get()), (1, 2)),
        other => panic!("{other:?}"),
    }
    assert_eq!(producer.append_at(Offset::new(2), record("c")).await.expect("acknowledged"), range(2, 3));
    assert_eq!(cluster.values(), ["a", "somebody else's", "c"]);
}

#[tokio::test]
async fn an_append_that_is_resolved_never_to_land_does_not_when_it_arrives() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client();
    let append = unanswered(&cluster, &client, OnAppend::Hold).await;
    for _ in 0..2 {
        assert_eq!(client.resolve(&log(), append).await.expect("resolved"), Resolution::Never);
    }
    assert_eq!(cluster.let_stragglers_land(), 0, "its epoch is over");
    assert_eq!(cluster.values(), [""; 0]);
}

#[tokio::test]
async fn an_append_that_landed_unanswered_is_resolved_to_its_offsets() {
    let cluster = FakeCluster::start(1).await;
    cluster.fill(&["a"]);
    let client = cluster.client();
    let append = unanswered(&cluster, &client, OnAppend::LandAndAnswerLate).await;
    assert_eq!(client.resolve(&log(), append).await.expect("resolved"), Resolution::Landed(range(1, 2)));
    cluster.forget_producers();
    assert_eq!(client.resolve(&log(), append).await.expect("resolved"), Resolution::Forgotten);
    assert_eq!(cluster.values(), ["a", "in doubt"]);
}
