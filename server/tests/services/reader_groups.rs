//! Reader groups: what a node answers members, and how members of the SDK's share
//! logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quipu_protocol::environment::BoxFuture;
use quipu_protocol::v1;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::reader_groups_client::ReaderGroupsClient;
use quipu_sdk::{
    Client, ClientConfig, Generation, GroupConfig, GroupError, GroupReader, LogConfig, LogId, LogName, Offset,
    PositionError, Positions, ProducerConfig,
};
use tonic::transport::Channel;

use crate::clock::MovedClock;
use crate::node::{Node, config, kind, within};

#[path = "../../../sdk/examples/reader_group.rs"]
#[allow(dead_code, reason = "its own `main` is not called")]
mod example;

const GROUP: &str = "billing";

impl Node {
    fn groups(&self) -> ReaderGroupsClient<Channel> {
        ReaderGroupsClient::new(self.channel())
    }

    fn client(&self) -> Client {
        Client::new(ClientConfig::new(["node:1"]), self.environment.clone()).expect("a good configuration")
    }

    async fn joins(&self, request: v1::JoinReaderGroupRequest) -> Result<v1::JoinReaderGroupResponse, Kind> {
        let joined = within(async {
            loop {
                match self.groups().join(request.clone()).await {
                    // Its registrars elect themselves.
                    Err(status) if matches!(kind(&status), Kind::NotLeader(_) | Kind::Unavailable(_)) => {
                        tokio::task::yield_now().await;
                    }
                    joined => return joined,
                }
            }
        });
        joined.await.map(tonic::Response::into_inner).map_err(|status| kind(&status))
    }

    async fn beats(
        &self,
        member: u64,
        generation: u64,
        returned: Vec<v1::ReturnedLog>,
    ) -> Result<v1::ReaderHeartbeatResponse, Kind> {
        let request = v1::ReaderHeartbeatRequest { group: GROUP.to_owned(), member, generation, returned, wait_ms: 0 };
        let beat = within(self.groups().heartbeat(request)).await;
        beat.map(tonic::Response::into_inner).map_err(|status| kind(&status))
    }

    /// The same of a member that returns nothing, as soon as it knows something new.
    async fn waits(&self, member: u64, generation: u64) -> Result<v1::ReaderHeartbeatResponse, Kind> {
        let group = GROUP.to_owned();
        let request = v1::ReaderHeartbeatRequest { group, member, generation, wait_ms: 60_000, ..Default::default() };
        let beat = within(self.groups().heartbeat(request)).await;
        beat.map(tonic::Response::into_inner).map_err(|status| kind(&status))
    }

    async fn with_logs(self, count: u32) -> Self {
        for number in 0..count {
            self.create(&format!("orders/{number}"), v1::LogConfig::default()).await.expect("the log is created");
        }
        self
    }
}

fn joining(request: u8) -> v1::JoinReaderGroupRequest {
    v1::JoinReaderGroupRequest {
        group: GROUP.to_owned(),
        pattern: "orders/*".to_owned(),
        client: format!("worker-{request}"),
        session_ms: 300_000,
        request_id: vec![request; 16].into(),
        wait_for_logs: false,
    }
}

async fn with_logs(count: u32) -> Node {
    Node::start().await.with_logs(count).await
}

fn names(shares: &[v1::ReaderShare]) -> Vec<&str> {
    shares.iter().map(|share| share.log.as_str()).collect()
}

#[tokio::test]
async fn a_group_without_logs_is_refused_with_what_to_do() {
    let node = Node::start().await;
    let none = Kind::NoMatchingLogs(v1::NoMatchingLogs { pattern: "orders/*".to_owned() });
    assert_eq!(node.joins(joining(1)).await, Err(none));

    let waiting = v1::JoinReaderGroupRequest { wait_for_logs: true, ..joining(1) };
    let v1::JoinReaderGroupResponse { member, generation, .. } = node.joins(waiting).await.expect("it waits");
    assert!(node.beats(member, 0, Vec::new()).await.expect("it is a member").shares.is_empty());
    node.create("orders/eu", v1::LogConfig::default()).await.expect("the log is created");
    let answer = node.waits(member, generation).await.expect("it is a member");
    assert_eq!(names(&answer.shares), ["orders/eu"], "it is told as soon as there is one");
}

#[tokio::test]
async fn a_log_goes_to_another_member_once_it_is_let_go_of() {
    let node = with_logs(2).await;
    let first = node.joins(joining(1)).await.expect("joined");
    assert_eq!(node.joins(joining(1)).await.expect("joined"), first, "a repeat gets the same answer");
    let all = node.beats(first.member, 0, Vec::new()).await.expect("a member");
    assert_eq!(names(&all.shares), ["orders/0", "orders/1"]);

    let second = node.joins(joining(2)).await.expect("joined");
    let asked = node.beats(first.member, all.generation, Vec::new()).await.expect("a member");
    let returning: Vec<_> = asked.shares.iter().filter(|share| share.returning).cloned().collect();
    assert_eq!(returning.len(), 1);
    assert!(node.beats(second.member, 0, Vec::new()).await.expect("a member").shares.is_empty());

    let returned = returning.iter().map(|it| v1::ReturnedLog { log_id: it.log_id, generation: it.generation });
    let kept = node.beats(first.member, asked.generation, returned.collect()).await.expect("a member");
    assert_eq!(kept.shares.len(), 1);
    let given = node.beats(second.member, 0, Vec::new()).await.expect("a member");
    assert_eq!(names(&given.shares), names(&returning));
    assert!(given.shares[0].generation > returning[0].generation, "which fences the one before");

    let request = v1::DescribeReaderGroupRequest { group: GROUP.to_owned() };
    let group = within(node.groups().describe(request)).await.expect("it is there").into_inner();
    assert_eq!((group.pattern.as_str(), group.logs), ("orders/*", 2));
    let clients: Vec<&str> = group.members.iter().map(|member| member.client.as_str()).collect();
    assert_eq!(clients, ["worker-1", "worker-2"]);
}

#[tokio::test]
async fn who_is_not_heard_of_loses_its_logs_and_is_told_to_join_anew() {
    let (clock, environment) = MovedClock::environment();
    let node = Node::start_in(environment, config(1)).await.with_logs(2).await;
    let silent = v1::JoinReaderGroupRequest { session_ms: 1_000, ..joining(1) };
    let silent = node.joins(silent).await.expect("joined").member;
    let other = node.joins(joining(2)).await.expect("joined").member;
    let mut known = node.beats(other, 0, Vec::new()).await.expect("a member").generation;
    clock.pass(Duration::from_secs(1));
    within(async {
        loop {
            let answer = node.waits(other, known).await.expect("a member");
            if answer.shares.len() == 2 {
                return;
            }
            known = answer.generation;
        }
    })
    .await;
    let unknown = v1::UnknownReaderMember { group: GROUP.to_owned(), member: silent };
    assert_eq!(node.beats(silent, 0, Vec::new()).await, Err(Kind::UnknownReaderMember(unknown)));
}

#[tokio::test]
async fn bad_input_is_refused_by_the_name_of_the_field_or_the_bound() {
    let node = with_logs(1).await;
    let unknown = Kind::UnknownReaderGroup(v1::UnknownReaderGroup { name: GROUP.to_owned() });
    assert_eq!(node.beats(1, 0, Vec::new()).await, Err(unknown), "before there was any");
    let request = v1::ListReaderGroupsRequest::default();
    let none = within(node.groups().list(request)).await.expect("listed").into_inner();
    assert_eq!(none, v1::ListReaderGroupsResponse::default());

    node.joins(joining(1)).await.expect("joined");
    let other = v1::JoinReaderGroupRequest { pattern: "*".to_owned(), ..joining(2) };
    let pattern = "orders/*".to_owned();
    assert_eq!(node.joins(other).await, Err(Kind::OtherPattern(v1::OtherPattern { pattern })));
    for (field, bad) in [
        ("group", v1::JoinReaderGroupRequest { group: "g*".to_owned(), ..joining(2) }),
        ("group", v1::JoinReaderGroupRequest { group: "g".repeat(201), ..joining(2) }),
        ("pattern", v1::JoinReaderGroupRequest { pattern: String::new(), ..joining(2) }),
        ("client", v1::JoinReaderGroupRequest { client: String::new(), ..joining(2) }),
        ("client", v1::JoinReaderGroupRequest { client: "c".repeat(257), ..joining(2) }),
        ("session_ms", v1::JoinReaderGroupRequest { session_ms: 999, ..joining(2) }),
        ("session_ms", v1::JoinReaderGroupRequest { session_ms: 300_001, ..joining(2) }),
        ("request_id", v1::JoinReaderGroupRequest { request_id: vec![1; 15].into(), ..joining(2) }),
    ] {
        match node.joins(bad).await {
            Err(Kind::InvalidArgument(invalid)) => assert_eq!(invalid.field, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    let returned = vec![v1::ReturnedLog::default(); 10_001];
    match node.beats(1, 0, returned).await {
        Err(Kind::TooLarge(bound)) => assert_eq!((bound.bound.as_str(), bound.limit), ("reader_group_logs", 10_000)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn workers_of_the_example_bill_every_order_and_go_on_where_another_one_stopped() {
    let node = with_logs(2).await;
    let client = node.client();
    let mut producers = Vec::new();
    for number in 0..2 {
        let log: LogName = format!("orders/{number}").parse().expect("a name");
        producers.push(client.producer(&log, ProducerConfig::default()).expect("a good configuration"));
    }
    let mut billed = BTreeSet::new();
    for (worker, order) in [("worker-1", "tea"), ("worker-2", "coffee")] {
        for producer in &producers {
            within(producer.append(vec![producer.record(order)])).await.expect("appended");
        }
        let mut reader = within(example::join(&client, worker)).await.expect("joined");
        let before = billed.len();
        while billed.len() < before + 2 {
            let mut bill = |log: &str, records: &quipu_sdk::GroupRecords| {
                for record in &records.records {
                    assert!(billed.insert((log.to_owned(), record.offset.get())), "what was committed comes once");
                }
            };
            within(example::work(&mut reader, &mut bill)).await.expect("works");
        }
        within(reader.leave()).await.expect("left");
    }
    assert_eq!(billed.len(), 4);
}

/// The highest generation of a log, and where its readers have come to.
type Position = (Generation, Option<Offset>);

/// Positions in memory, held to their contract.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<BTreeMap<LogId, Position>>>);

impl Positions for Kept {
    fn claim(
        &self,
        _: &LogName,
        id: LogId,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Option<Offset>, PositionError>> {
        let mut kept = self.0.lock().expect("nobody panicked");
        let (highest, position) = kept.entry(id).or_default();
        let claimed = if generation < *highest { Err(PositionError::Fenced) } else { Ok(*position) };
        *highest = generation.max(*highest);
        Box::pin(std::future::ready(claimed))
    }

    fn commit(
        &self,
        _: &LogName,
        id: LogId,
        generation: Generation,
        position: Offset,
    ) -> BoxFuture<'static, Result<(), PositionError>> {
        let mut kept = self.0.lock().expect("nobody panicked");
        let (highest, committed) = kept.entry(id).or_default();
        let answer = if generation < *highest { Err(PositionError::Fenced) } else { Ok(()) };
        if answer.is_ok() {
            (*highest, *committed) = (generation, Some(position));
        }
        Box::pin(std::future::ready(answer))
    }
}

async fn member(client: &Client, positions: &Kept, session: Duration) -> Result<GroupReader, GroupError> {
    let (group, pattern) = (GROUP.parse().expect("a name"), "orders/*".parse().expect("a pattern"));
    let config = GroupConfig { session, ..GroupConfig::default() };
    client.reader_group(&group, &pattern).positions(Arc::new(positions.clone())).config(config).join().await
}

/// Reads and commits until it has delivered `count` records.
async fn reads(reader: &mut GroupReader, count: usize, seen: &mut BTreeSet<(String, u64)>) {
    while seen.len() < count {
        let records = within(reader.next()).await.expect("it reads");
        for record in records.records {
            seen.insert((records.log.to_string(), record.offset.get()));
        }
        assert_eq!(reader.commit().await.expect("it commits").lost, []);
    }
}

#[tokio::test]
async fn two_members_share_logs_and_the_one_that_stays_takes_over_where_the_other_was() {
    let node = Node::start().await;
    let (client, positions) = (node.client(), Kept::default());
    let mut producers = Vec::new();
    for number in 0..4 {
        let log: LogName = format!("orders/{number}").parse().expect("a name");
        within(client.create_log(&log, LogConfig::default())).await.expect("created");
        producers.push(client.producer(&log, ProducerConfig::default()).expect("a good configuration"));
    }
    let append = async |value: &'static str| {
        for producer in &producers {
            within(producer.append(vec![producer.record(value)])).await.expect("appended");
        }
    };
    append("before").await;
    let mut first = within(member(&client, &positions, Duration::from_secs(2))).await.expect("joined");
    let mut seen = BTreeSet::new();
    reads(&mut first, 4, &mut seen).await;

    let mut second = within(member(&client, &positions, Duration::from_secs(2))).await.expect("joined");
    // The first one lets go of two logs while it waits for records.
    within(async {
        while second.logs().len() < 2 {
            let _ = tokio::time::timeout(Duration::from_millis(20), first.next()).await;
        }
    })
    .await;
    append("while both read").await;
    let mut of_second = BTreeSet::new();
    reads(&mut second, 2, &mut of_second).await;
    reads(&mut first, 6, &mut seen).await;
    seen.extend(of_second);
    assert_eq!(seen.len(), 8, "each log is read by one of them, from where it was committed: {seen:?}");

    // Its process is gone, and nobody says so.
    drop(first);
    append("after").await;
    reads(&mut second, 4, &mut BTreeSet::new()).await;
    assert_eq!(second.logs().len(), 4);
    let group = GROUP.parse().expect("a name");
    let described = within(client.describe_reader_group(&group)).await.expect("described");
    assert_eq!(described.members.iter().map(|member| member.shares.len()).collect::<Vec<_>>(), [4]);
    within(second.leave()).await.expect("left");
    let groups = within(client.reader_groups()).await.expect("listed");
    assert_eq!(groups.iter().map(|group| (group.name.as_str(), group.members)).collect::<Vec<_>>(), [(GROUP, 0)]);
    let ends = positions.0.lock().expect("nobody panicked").values().map(|(_, end)| *end).collect::<Vec<_>>();
    assert_eq!(ends, vec![Some(Offset::new(3)); 4], "nothing was skipped");
}
