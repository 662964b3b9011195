//! What a producer promises, over the wire and against a cluster that fails in
//! every way that a script can say.

mod fake;

use std::time::Duration;

use fake::{FakeCluster, OnAppend, log};
use futures_util::FutureExt;
use quipu_protocol::v1;
use quipu_sdk::{
    Append, AppendError, Client, ClientConfig, ConfigError, Offset, OffsetRange, Producer, ProducerConfig, SendError,
    system,
};

fn producer(client: &Client, config: ProducerConfig) -> Producer {
    client.producer(&log(), config).expect("a good configuration")
}

async fn enqueue(producer: &Producer, value: impl ToString) -> Append {
    producer.enqueue(vec![producer.record(value.to_string())]).await.expect("room")
}

async fn append(producer: &Producer, value: &str) -> Result<OffsetRange, AppendError> {
    producer.append(vec![producer.record(value.to_owned())]).await
}

fn range(start: u64, end: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(start), Offset::new(end))
}

#[tokio::test]
async fn acked_once_in_order_through_leader_changes() {
    let cluster = FakeCluster::start(3).await;
    let mut script = vec![OnAppend::Land; 400];
    script[20] = OnAppend::MoveLeader(1);
    script[60] = OnAppend::LandAndBreak;
    script[150] = OnAppend::MoveLeader(2);
    script[200] = OnAppend::Break;
    script[230] = OnAppend::Refuse(v1::Error::outcome_unknown("lost the lead"));
    script[280] = OnAppend::Refuse(v1::Error::overloaded("append_queue_bytes", 1));
    script[350] = OnAppend::MoveLeader(0);
    cluster.on_append(script);

    let producer = producer(&cluster.client(), ProducerConfig::default());
    let mut appends = Vec::new();
    for value in 0..300 {
        appends.push(enqueue(&producer, value).await);
    }
    for (offset, append) in (0..).zip(appends) {
        assert_eq!(append.await.expect("acknowledged"), range(offset, offset + 1));
    }
    let expect: Vec<String> = (0..300).map(|value: i32| value.to_string()).collect();
    assert_eq!(cluster.values(), expect);
}

#[tokio::test]
async fn retry_after_lost_answer_lands_once() {
    let cluster = FakeCluster::start(1).await;
    cluster.on_append([OnAppend::LandAndBreak]);
    let producer = producer(&cluster.client(), ProducerConfig::default());
    assert_eq!(append(&producer, "a").await.expect("acknowledged"), range(0, 1));
    assert_eq!(append(&producer, "b").await.expect("acknowledged"), range(1, 2));
    assert_eq!(cluster.values(), ["a", "b"]);
    assert_eq!(cluster.appends(), 3, "the first one came twice");
}

#[tokio::test]
async fn answers_find_their_appends_in_any_order() {
    let cluster = FakeCluster::start(1).await;
    cluster.on_append([OnAppend::LandAndAnswerLate, OnAppend::LandAndAnswerLate, OnAppend::Land]);
    let producer = producer(&cluster.client(), ProducerConfig::default());
    let appends = [enqueue(&producer, 0).await, enqueue(&producer, 1).await, enqueue(&producer, 2).await];
    for (offset, append) in (0..).zip(appends) {
        assert_eq!(append.await.expect("acknowledged"), range(offset, offset + 1));
    }
    assert_eq!(cluster.appends(), 3);
}

#[tokio::test]
async fn a_refused_batch_fails_alone_and_leaves_no_hole() {
    let cluster = FakeCluster::start(1).await;
    let too_large = v1::Error::too_large("max_batch_bytes", 10, 20);
    // The batches after it are out of sequence, as a real log finds them.
    cluster.on_append([OnAppend::Land, OnAppend::Refuse(too_large), OnAppend::Land]);
    let producer = producer(&cluster.client(), ProducerConfig::default());
    let mut appends = Vec::new();
    for value in ["a", "b", "c", "d"] {
        appends.push(enqueue(&producer, value).await);
    }
    let mut outcomes = Vec::new();
    for append in appends {
        outcomes.push(append.await);
    }
    let refused = outcomes.remove(1).expect_err("refused");
    assert!(
        matches!(&refused, AppendError::TooLarge { bound, limit: 10, actual: 20 } if bound == "max_batch_bytes"),
        "{refused}"
    );
    assert!(refused.has_no_side_effects() && !refused.is_retryable());
    for (offset, outcome) in (0..).zip(outcomes) {
        assert_eq!(outcome.expect("acknowledged"), range(offset, offset + 1));
    }
    assert_eq!(cluster.values(), ["a", "c", "d"]);
}

#[tokio::test]
async fn delivery_timeout_says_unknown_and_no_straggler_lands_after_what_follows() {
    let cluster = FakeCluster::start(1).await;
    cluster.on_append(vec![OnAppend::Hold; 20]);
    let client = Client::new(
        ClientConfig { request_timeout: Duration::from_millis(40), ..cluster.client_config() },
        system::environment(),
    );
    let config = ProducerConfig { delivery_timeout: Duration::from_millis(200), ..ProducerConfig::default() };
    let producer = producer(&client.expect("a good configuration"), config);
    let unknown = append(&producer, "lost").await.expect_err("nobody tells");
    assert!(matches!(unknown, AppendError::OutcomeUnknown { .. }), "{unknown}");
    assert!(!unknown.has_no_side_effects() && !unknown.is_retryable());
    assert!(cluster.appends() > 1, "it was tried again");

    cluster.on_append_clear();
    append(&producer, "next").await.expect("acknowledged");
    assert_eq!(cluster.let_stragglers_land(), 0, "the old epoch is fenced");
    assert_eq!(cluster.values(), ["next"]);
}

#[tokio::test]
async fn what_was_never_sent_is_not_of_unknown_outcome() {
    let config = ClientConfig { request_timeout: Duration::from_millis(50), ..ClientConfig::new([nobody().await]) };
    let client = Client::new(config, system::environment()).expect("a good configuration");
    let config = ProducerConfig { delivery_timeout: Duration::from_millis(100), ..ProducerConfig::default() };
    let error = append(&producer(&client, config), "a").await.expect_err("nobody is there");
    assert!(matches!(error, AppendError::Unavailable { .. }), "{error}");
    assert!(error.has_no_side_effects() && error.is_retryable());
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = system::environment().network.listen("127.0.0.1:0").await.expect("a free port");
    listener.local_address().expect("an address").to_string()
}

#[tokio::test]
async fn bounded_memory_makes_send_wait() {
    let cluster = FakeCluster::start(1).await;
    cluster.on_append([OnAppend::LandAndAnswerLate, OnAppend::Land]);
    let config = ProducerConfig { buffer_bytes: 2_000, ..ProducerConfig::default() };
    let producer = producer(&cluster.client(), config);
    let kilobyte = || vec![producer.record(vec![0; 1_000])];
    let first = producer.enqueue(kilobyte()).await.expect("room");
    cluster.until(|cluster| cluster.appends() == 1).await;

    let mut second = Box::pin(producer.enqueue(kilobyte()));
    assert!(second.as_mut().now_or_never().is_none(), "there is room for one");
    // A small one fits, and its answer brings the first one's.
    let small = Box::pin(producer.clone().close()).now_or_never();
    assert!(small.is_none(), "the first one is not answered");
    assert_eq!(second.await.err(), Some(SendError::Closed), "who waits for room is turned away by a close");
    drop(first);

    let large = producer.enqueue(vec![producer.record(vec![0; 2_000])]).await.err();
    assert!(matches!(large, Some(SendError::TooLarge { bound: "buffer_bytes", limit: 2_000, .. })), "{large:?}");
}

#[tokio::test]
async fn room_is_given_back_when_a_batch_is_answered() {
    let cluster = FakeCluster::start(1).await;
    let config = ProducerConfig { buffer_bytes: 2_000, ..ProducerConfig::default() };
    let producer = producer(&cluster.client(), config);
    for offset in 0..20 {
        // Each takes more than half of the buffer: they go one by one.
        let append = producer.enqueue(vec![producer.record(vec![0; 1_000])]).await.expect("room");
        assert_eq!(append.await.expect("acknowledged"), range(offset, offset + 1));
    }
    assert_eq!(cluster.most_in_flight(), 1);
}

#[tokio::test]
async fn no_more_than_in_flight_are_unanswered() {
    let cluster = FakeCluster::start(1).await;
    for _ in 0..10 {
        cluster.on_append([const { OnAppend::LandAndAnswerLate }; 3]);
        cluster.on_append([OnAppend::Land]);
    }
    let producer = producer(&cluster.client(), ProducerConfig { in_flight: 4, ..ProducerConfig::default() });
    let mut appends = Vec::new();
    for value in 0..40 {
        appends.push(enqueue(&producer, value).await);
    }
    for append in appends {
        append.await.expect("acknowledged");
    }
    assert_eq!(cluster.most_in_flight(), 4);
}

#[tokio::test]
async fn records_gather_while_a_request_is_in_flight() {
    let cluster = FakeCluster::start(1).await;
    let config = ProducerConfig { in_flight: 1, batch_records: 50, ..ProducerConfig::default() };
    let producer = producer(&cluster.client(), config);
    let mut deliveries = Vec::new();
    for value in 0..100 {
        deliveries.push(producer.send(producer.record(value.to_string())).await.expect("room"));
    }
    producer.flush().await;
    for (offset, delivery) in (0..).zip(deliveries) {
        let delivered = delivery.now_or_never().expect("flushed").expect("acknowledged");
        assert_eq!(delivered, Offset::new(offset));
    }
    let expect: Vec<String> = (0..100).map(|value: i32| value.to_string()).collect();
    assert_eq!(cluster.values(), expect);
    assert!((2..=4).contains(&cluster.batches()), "{} batches of at most 50", cluster.batches());
}

#[tokio::test]
async fn lingering_records_share_a_batch_and_a_flush_ends_it() {
    let cluster = FakeCluster::start(1).await;
    let config = ProducerConfig { linger: Duration::from_secs(60), ..ProducerConfig::default() };
    let producer = producer(&cluster.client(), config);
    let first = producer.send(producer.record("a")).await.expect("room");
    let second = producer.send(producer.record("b")).await.expect("room");
    producer.flush().await;
    assert_eq!(first.await.expect("acknowledged"), Offset::new(0));
    assert_eq!(second.await.expect("acknowledged"), Offset::new(1));
    assert_eq!(cluster.batches(), 1);
}

#[tokio::test]
async fn lingering_ends_by_itself() {
    let cluster = FakeCluster::start(1).await;
    let config = ProducerConfig { linger: Duration::from_millis(5), ..ProducerConfig::default() };
    let producer = producer(&cluster.client(), config);
    append(&producer, "opens the stream").await.expect("acknowledged");
    let delivery = producer.send(producer.record("a")).await.expect("room");
    assert_eq!(delivery.await.expect("acknowledged"), Offset::new(1));
}

#[tokio::test]
async fn an_append_goes_behind_records_sent_before() {
    let cluster = FakeCluster::start(1).await;
    let config = ProducerConfig { linger: Duration::from_secs(60), ..ProducerConfig::default() };
    let producer = producer(&cluster.client(), config);
    let sent = producer.send(producer.record("a")).await.expect("room");
    let appended = producer.append(vec![producer.record("b"), producer.record("c")]).await;
    assert_eq!(appended.expect("acknowledged"), range(1, 3));
    assert_eq!(sent.await.expect("acknowledged"), Offset::new(0));
}

#[tokio::test]
async fn a_producer_that_was_forgotten_goes_on_under_a_new_id() {
    let cluster = FakeCluster::start(1).await;
    let producer = producer(&cluster.client(), ProducerConfig::default());
    append(&producer, "a").await.expect("acknowledged");
    cluster.forget_producers();
    assert_eq!(append(&producer, "b").await.expect("acknowledged"), range(1, 2));
    assert_eq!(cluster.values(), ["a", "b"]);
}

#[tokio::test]
async fn a_fenced_producer_takes_nothing_more() {
    let cluster = FakeCluster::start(1).await;
    let fenced = v1::Error::producer_fenced(quipu_protocol::ProducerId::new(1), quipu_protocol::ProducerEpoch::new(9));
    cluster.on_append([OnAppend::Refuse(fenced)]);
    let producer = producer(&cluster.client(), ProducerConfig::default());
    let error = append(&producer, "a").await.expect_err("fenced");
    assert!(matches!(error, AppendError::Fenced { current_epoch: 9 }), "{error}");
    let error = append(&producer, "b").await.expect_err("fenced");
    assert!(matches!(error, AppendError::NotTaken(SendError::Fenced { current_epoch: 9 })), "{error}");
}

#[tokio::test]
async fn a_log_is_unknown_only_when_every_node_says_so() {
    let cluster = FakeCluster::start(3).await;
    cluster.lead(2);
    cluster.let_nodes_be_behind(&[0, 1]);
    let producer = producer(&cluster.client(), ProducerConfig::default());
    append(&producer, "a").await.expect("the third node knows the log");

    cluster.drop_log();
    let error = append(&producer, "b").await.expect_err("it is gone");
    assert!(matches!(&error, AppendError::UnknownLog { log } if *log == fake::log()), "{error}");
    assert!(error.has_no_side_effects() && !error.is_retryable());
}

#[tokio::test]
async fn a_leader_that_stalls_is_left() {
    let cluster = FakeCluster::start(2).await;
    cluster.on_append([OnAppend::Hold, OnAppend::Hold, OnAppend::Land]);
    let producer = producer(&cluster.client(), ProducerConfig::default());
    assert_eq!(append(&producer, "a").await.expect("acknowledged"), range(0, 1));
    assert_eq!(cluster.let_stragglers_land(), 2, "both are found to be repeats");
    assert_eq!(cluster.values(), ["a"]);
}

#[tokio::test]
async fn without_idempotence_a_lost_answer_is_unknown_and_nothing_is_sent_twice() {
    let cluster = FakeCluster::start(2).await;
    cluster.on_append([OnAppend::MoveLeader(1), OnAppend::LandAndBreak]);
    let producer = producer(&cluster.client(), ProducerConfig { idempotent: false, ..ProducerConfig::default() });
    // Declined for certain: that is tried again, and then the answer is lost.
    let error = append(&producer, "a").await.expect_err("the answer is lost");
    assert!(matches!(error, AppendError::OutcomeUnknown { .. }), "{error}");
    append(&producer, "b").await.expect("acknowledged");
    assert_eq!(cluster.values(), ["a", "b"]);
}

#[tokio::test]
async fn closing_waits_for_what_was_taken() {
    let cluster = FakeCluster::start(1).await;
    let producer = producer(&cluster.client(), ProducerConfig::default());
    let clone = producer.clone();
    let delivery = producer.send(producer.record("a")).await.expect("room");
    producer.close().await;
    assert_eq!(delivery.now_or_never().expect("answered").expect("acknowledged"), Offset::new(0));
    let error = append(&clone, "b").await.expect_err("closed");
    assert!(matches!(error, AppendError::NotTaken(SendError::Closed)), "{error}");
}

#[tokio::test]
async fn what_was_taken_is_sent_after_the_producer_is_dropped() {
    let cluster = FakeCluster::start(1).await;
    let producer = producer(&cluster.client(), ProducerConfig::default());
    let append = enqueue(&producer, "a").await;
    drop(producer);
    assert_eq!(append.await.expect("acknowledged"), range(0, 1));
}

#[tokio::test]
async fn nothing_is_no_batch() {
    let cluster = FakeCluster::start(1).await;
    let error = producer(&cluster.client(), ProducerConfig::default()).append(Vec::new()).await.expect_err("empty");
    assert!(matches!(error, AppendError::NotTaken(SendError::Empty)), "{error}");
}

#[tokio::test]
async fn configurations_that_contradict_a_bound_are_refused_by_name() {
    let cluster = FakeCluster::start(1).await;
    let refused = |config, field| match cluster.client().producer(&log(), config).err() {
        Some(ConfigError::OutOfBounds { field: found, .. } | ConfigError::TooShort { field: found, .. }) => {
            assert_eq!(found, field);
        }
        other => panic!("{field}: {other:?}"),
    };
    let config = ProducerConfig::default;
    refused(ProducerConfig { in_flight: 65, ..config() }, "in_flight");
    refused(ProducerConfig { in_flight: 0, ..config() }, "in_flight");
    refused(ProducerConfig { batch_bytes: 100, ..config() }, "batch_bytes");
    refused(ProducerConfig { batch_records: 0, ..config() }, "batch_records");
    refused(ProducerConfig { buffer_bytes: 1, ..config() }, "buffer_bytes");
    refused(ProducerConfig { delivery_timeout: Duration::ZERO, ..config() }, "delivery_timeout");
    let lingers = ProducerConfig { linger: Duration::from_secs(120), ..config() };
    let error = cluster.client().producer(&log(), lingers).err();
    assert!(matches!(error, Some(ConfigError::LingerPastDelivery { .. })), "{error:?}");
}

#[tokio::test]
async fn a_producer_of_a_deleted_log_never_comes_to_a_new_log_of_its_name() {
    for idempotent in [true, false] {
        let cluster = FakeCluster::start(3).await;
        let config = ProducerConfig { idempotent, ..ProducerConfig::default() };
        let producer = cluster.client().producer(&log(), config).expect("a good configuration");
        producer.append(vec![producer.record("old")]).await.expect("lands");
        cluster.replace_log();
        for _ in 0..2 {
            let error = producer.append(vec![producer.record("late")]).await.expect_err("the log is gone");
            assert!(matches!(&error, AppendError::UnknownLog { log: gone } if *gone == log()), "{error}");
            assert!(error.has_no_side_effects());
        }
        assert_eq!(cluster.values(), Vec::<String>::new(), "idempotent: {idempotent}");
        let other = cluster.client().producer(&log(), ProducerConfig::default()).expect("a good configuration");
        other.append(vec![other.record("new")]).await.expect("the new log takes it");
    }
}

#[tokio::test]
async fn a_producer_keeps_to_the_log_that_was_there_when_it_got_its_id() {
    let cluster = FakeCluster::start(3).await;
    // The first append reaches nobody before the log is another one.
    cluster.on_append(std::iter::repeat_n(OnAppend::Break, 1_000));
    let producer = cluster.client().producer(&log(), ProducerConfig::default()).expect("a good configuration");
    let pending = producer.enqueue(vec![producer.record("old")]).await.expect("taken");
    cluster.until(|cluster| cluster.appends() > 0).await;
    cluster.replace_log();
    cluster.on_append_clear();
    pending.await.expect_err("the log that it was for is gone");
    assert_eq!(cluster.values(), Vec::<String>::new());
}
