//! A cluster can be assembled in a simulation, and a seed decides all of it.

use std::process::Command;

use quipu_sdk::{From, LogConfig, LogName, Offset, ProducerConfig, ReaderConfig, Record, Timestamp};
use quipu_simulation::{Simulation, Trace};

const RECORDS: u64 = 20;

fn record(number: u64) -> Record {
    let value = Some(format!("record {number}").into());
    Record { timestamp: Timestamp::new(0), key: None, value, headers: Vec::new() }
}

/// Three nodes, a log, some appends, all of them read back.
fn story(seed: u64) -> Trace {
    let mut simulation = Simulation::new(seed, 3).expect("a valid configuration");
    simulation.client(|client, trace| async move {
        let log: LogName = "orders".parse()?;
        let created = client.create_log(&log, LogConfig::default()).await?;
        trace.record(format_args!("created {:?}", created.log));
        let producer = client.producer(&log, ProducerConfig::default())?;
        for number in 0..RECORDS {
            let range = producer.append(vec![record(number)]).await?;
            trace.record(format_args!("appended {number} at {range}"));
            assert_eq!(range.start(), Offset::new(number), "one producer's records follow each other");
        }
        let reading = ReaderConfig { from: From::Start, ..ReaderConfig::default() };
        let mut reader = client.reader(&log, reading)?;
        let mut expected = 0;
        while let Some(found) = reader.next().await? {
            trace.record(format_args!("read {} {:?}", found.offset, found.value));
            assert_eq!(found.value, record(expected).value, "record {expected} is read back as it was appended");
            expected += 1;
        }
        assert_eq!(expected, RECORDS, "everything acknowledged is read");
        Ok(())
    });
    simulation.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

#[test]
fn three_nodes_replicate_a_log() {
    let trace = story(1).to_string();
    for node in 1..=3 {
        assert!(trace.contains(&format!("node {node} serves")), "{trace}");
    }
}

/// Not a test by itself: prints the trace of a seed, for the test below.
#[test]
#[expect(clippy::print_stdout, reason = "the test below reads it there")]
#[ignore = "run by same_seed_gives_the_same_run, in processes of its own"]
fn print_trace() {
    println!("{TRACE_BEGINS}\n{}", story(7));
}

const TRACE_BEGINS: &str = "-- trace --";

#[test]
fn same_seed_gives_the_same_run() {
    // One process a run: nothing is left over from another, and hash maps
    // iterate in another order in each.
    let trace = || {
        let mut program = Command::new(std::env::current_exe().expect("this test's program"));
        let output = program.args(["--ignored", "--exact", "print_trace", "--nocapture"]).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let (_, trace) = text.split_once(TRACE_BEGINS).expect("a trace");
        trace.split_once("test print_trace").map_or(trace, |(trace, _)| trace).to_owned()
    };
    let (first, second) = (trace(), trace());
    assert!(first.contains("appended 19"), "{first}");
    assert_eq!(first, second);
}
