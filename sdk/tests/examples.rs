//! The examples do what they say.
#![allow(dead_code, reason = "their own `main` is not called")]

#[path = "../examples/append_and_read.rs"]
mod append_and_read;
#[path = "../examples/atomic_batch.rs"]
mod atomic_batch;
#[path = "../examples/barrier_read.rs"]
mod barrier_read;
#[path = "../examples/compare_and_append.rs"]
mod compare_and_append;
mod fake;
#[path = "../examples/fenced_writer.rs"]
mod fenced_writer;
#[path = "../examples/follow.rs"]
mod follow;

use fake::FakeCluster;
use fenced_writer::{Primary, State, Written};
use quipu_sdk::{LogName, Offset, OffsetRange, ProducerConfig};

#[tokio::test]
async fn append_and_read_prints_what_it_appended() {
    let cluster = FakeCluster::start(3).await;
    let greetings = append_and_read::run(&cluster.client()).await.expect("works");
    assert_eq!(greetings, ["0: hello, Ada", "1: hello, Grace", "2: hello, Radia"]);
}

#[tokio::test]
async fn follow_goes_on_where_it_stopped() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client();
    let jobs: LogName = "jobs".parse().expect("a name");
    client.create_log(&jobs, quipu_sdk::LogConfig::default()).await.expect("created");
    let producer = client.producer(&jobs, ProducerConfig::default()).expect("a good configuration");
    producer.append(vec![producer.record("a"), producer.record("b")]).await.expect("acknowledged");

    let mut seen = Vec::new();
    let mut take_one = |job: &[u8]| {
        seen.push(String::from_utf8_lossy(job).into_owned());
        false
    };
    let next = follow::run(&client, Offset::ZERO, &mut take_one).await.expect("works");
    follow::run(&client, next, &mut take_one).await.expect("works");
    assert_eq!(seen, ["a", "b"]);
}

#[tokio::test]
async fn atomic_batch_lands_as_one() {
    let cluster = FakeCluster::start(3).await;
    let range = atomic_batch::run(&cluster.client()).await.expect("works");
    assert_eq!(range, OffsetRange::new(Offset::ZERO, Offset::new(2)));
}

#[tokio::test]
async fn barrier_read_sees_what_it_has_appended_from_any_replica() {
    let cluster = FakeCluster::start(3).await;
    for price in ["17.50", "18.25"] {
        let newest = barrier_read::run(&cluster.client(), price).await.expect("works");
        assert_eq!(newest.as_deref(), Some(price));
    }
}

#[tokio::test]
async fn compare_and_append_lets_one_of_two_withdraw() {
    let cluster = FakeCluster::start(3).await;
    let withdrawn = compare_and_append::run(&cluster.client()).await.expect("works");
    assert_eq!(withdrawn.iter().filter(|withdrawn| **withdrawn).count(), 1, "{withdrawn:?}");
}

#[tokio::test]
async fn fenced_writer_stops_once_another_one_has_taken_over_what_it_wrote() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client();
    let mut first = Primary::take_over(&client, "db-1").await.expect("works");
    assert_eq!(first.state, State::new());
    for word in ["to", "be", "to"] {
        assert_eq!(first.count(word).await.expect("works"), Written::Yes);
    }
    let mut second = Primary::take_over(&client, "db-2").await.expect("works");
    assert_eq!(second.state, first.state);
    let fenced = Written::Fenced { by: "db-2".to_owned() };
    assert_eq!(first.count("or").await.expect("works"), fenced);
    assert_eq!(second.count("not").await.expect("works"), Written::Yes);
    let words = |state: &State| state.keys().cloned().collect::<Vec<_>>();
    assert_eq!((words(&first.state), words(&second.state)), (strings(["be", "to"]), strings(["be", "not", "to"])));
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}
