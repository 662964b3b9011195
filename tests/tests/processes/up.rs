//! `quipu up`: a local cluster of real processes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitStatus;

use quipu_tests::{Cluster, Command, PATIENCE, eventually, http_get, metric};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

#[tokio::test(flavor = "multi_thread")]
async fn up_prints_a_line_a_node_and_ends_them_all_on_sigterm() {
    let scratch = Cluster::of(3).prepare();
    let mut up = Up::run(&scratch, &[]).await;
    let first = scratch.ports().first();
    let addresses: Vec<String> = up.nodes.values().map(|node| node.address.clone()).collect();
    assert_eq!(addresses, (0..3).map(|i| format!("127.0.0.1:{}", first + i)).collect::<Vec<_>>());
    for i in 1..=3 {
        assert!(scratch.directory().join(format!("node-{i}")).is_dir(), "node {i}'s data is in node-{i}");
    }

    scratch.quipu(["log", "create", "orders"]).succeeds().await;
    scratch.quipu(["append", "orders"]).input("one\ntwo\n").succeeds().await;

    let pids: Vec<Pid> = up.nodes.values().map(|node| node.pid).collect();
    let status = up.signal(Signal::TERM).await;
    assert_eq!(status.code(), Some(0), "{status}");
    for pid in pids {
        assert!(test_kill_process(pid).is_err(), "process {pid:?} is left over");
    }

    // Run again on the same directory it goes on where it was.
    let mut again = Up::run(&scratch, &[]).await;
    scratch.quipu(["append", "orders"]).input("three\n").succeeds().await.prints("appended 1 records at 2..3\n");
    scratch.each_replica_reads("orders").await.equals(["one", "two", "three"]);
    assert_eq!(again.signal(Signal::INT).await.code(), Some(0), "Ctrl-C ends it as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn up_serves_metrics_and_health_of_every_node() {
    let scratch = Cluster::of(3).prepare();
    let mut up = Up::run(&scratch, &[]).await;
    let addresses: Vec<String> = (0..3).map(|i| format!("127.0.0.1:{}", scratch.ports().http(i))).collect();
    for address in &addresses {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(http_get(address, path).await.expect("an answer"), (200, "ok\n".to_owned()), "{address}{path}");
        }
    }

    scratch.quipu(["log", "create", "orders"]).succeeds().await;
    scratch.quipu(["append", "orders"]).input("one\ntwo\n").succeeds().await;
    let mut records = 0;
    for address in &addresses {
        records += metric(address, "quipu_appended_records_total").await;
    }
    assert_eq!(records, 2, "one node has led and counted both records");

    assert_eq!(up.signal(Signal::TERM).await.code(), Some(0));
    for address in &addresses {
        assert!(http_get(address, "/healthz").await.is_err(), "nobody answers at {address} any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_leaves_a_killed_node_dead() {
    let scratch = Cluster::of(3).prepare();
    let mut up = Up::run(&scratch, &[]).await;
    scratch.quipu(["log", "create", "orders"]).succeeds().await;
    kill_process(up.nodes[&2].pid, Signal::KILL).expect("it runs");
    eventually("node 2 is down", async || {
        let status = scratch.quipu(["status", "--json"]).run().await;
        let state = &status.json()["nodes"][1]["state"];
        if *state == "down" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    scratch.quipu(["append", "orders"]).input("one\n").succeeds().await;
    assert!(scratch.node(2).health().await.is_err(), "nobody has started node 2 again");
    assert_eq!(up.signal(Signal::TERM).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn up_starts_a_killed_node_again_when_told_to() {
    let scratch = Cluster::of(3).prepare();
    let mut up = Up::run(&scratch, &["--restart"]).await;
    let killed = up.nodes[&2].pid;
    kill_process(killed, Signal::KILL).expect("it runs");
    let again = up.next_node().await;
    assert_eq!(again.0, 2);
    assert_ne!(again.1.pid, killed, "another process");
    scratch.node(2).health().await.expect("it serves once its line is printed");
    assert_eq!(up.signal(Signal::TERM).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn up_refuses_what_makes_no_sense() {
    let scratch = Cluster::of(1).prepare();
    let directory = scratch.directory().join("up");
    let directory = directory.to_str().expect("a path in UTF-8");
    for (arguments, codes) in [
        (["--nodes", "0"], [1, 2]),
        (["--base-port", "65535"], [1, 2]),
        // The ports for HTTP would lie beyond the last one, or among the others.
        (["--base-port", "65434"], [1, 2]),
        (["--base-port", "65500"], [1, 2]),
        (["--nodes", "101"], [1, 2]),
    ] {
        let [flag, value] = arguments;
        let refused = Command::new(["up", "--data-dir", directory, flag, value]).run().await;
        assert!(codes.contains(&refused.code().unwrap_or_default()), "{refused}");
        assert!(!Path::new(directory).exists(), "nothing was made: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_refuses_addresses_that_are_served_by_another() {
    let served = Cluster::start(1).await;
    let elsewhere = served.directory().join("up");
    let directory = elsewhere.to_str().expect("a path in UTF-8");
    let port = served.ports().first().to_string();
    let up = Command::new(["up", "--nodes", "1", "--data-dir", directory, "--base-port", &port]);
    let _ = up.is_refused().await.complains_of(served.node(1).address());
    assert!(!elsewhere.join("node-1").exists(), "no node was started");
}

/// A running `quipu up`.
struct Up {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    nodes: BTreeMap<u64, UpNode>,
}

struct UpNode {
    pid: Pid,
    address: String,
}

impl Up {
    /// Runs it on the directory and the ports of `scratch`, whose own nodes do
    /// not run, and waits for three nodes' lines.
    async fn run(scratch: &Cluster, arguments: &[&str]) -> Self {
        let directory = scratch.directory().to_str().expect("a path in UTF-8");
        let port = scratch.ports().first().to_string();
        let mut line = vec!["up", "--nodes", "3", "--data-dir", directory, "--base-port", &port];
        line.extend(["--set", "journal.segment_bytes=4194304", "--set", "log.largest_max_batch_bytes=2097152"]);
        line.extend(arguments);
        let mut child = Command::new(line).spawn();
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut up = Self { child, lines, nodes: BTreeMap::new() };
        for _ in 0..3 {
            let (number, node) = up.next_node().await;
            assert!(up.nodes.insert(number, node).is_none(), "node {number} has two lines");
        }
        up
    }

    /// The next `node 1 pid 4242 address 127.0.0.1:7001`.
    async fn next_node(&mut self) -> (u64, UpNode) {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
        let line = line.expect("a pipe").expect("a line");
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["node", number, "pid", pid, "address", address] => {
                let pid = pid.parse().ok().and_then(Pid::from_raw).unwrap_or_else(|| panic!("{line:?}"));
                (number.parse().expect("a number"), UpNode { pid, address: address.to_owned() })
            }
            _ => panic!("{line:?}"),
        }
    }

    async fn signal(&mut self, signal: Signal) -> ExitStatus {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("it runs");
        kill_process(pid, signal).expect("it can be signalled");
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it can be awaited")
    }
}
