//! Who may write: epochs and conditions as scripts see them, and primaries that
//! fight over a log while its leader is killed again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quipu_sdk::{
    AppendError, AppendId, Client, Environment, LogConfig, LogName, Offset, OffsetRange, Producer, ProducerConfig,
    ReaderConfig, Resolution, Writers, system,
};
use quipu_tests::{Cluster, Ledger, PATIENCE, eventually};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt as _;

/// How long primaries fight, unless `QUIPU_FIGHT_SECONDS` says otherwise.
const FIGHT: Duration = Duration::from_secs(15);
/// How often the leader is killed meanwhile.
const KILL_EVERY: Duration = Duration::from_secs(3);
/// An append that has no answer for so long is of unknown outcome, and resolved.
const DELIVERY_TIMEOUT: Duration = Duration::from_millis(700);
/// A fenced primary tries again within so many milliseconds.
const LONGEST_PAUSE_MS: u64 = 400;
/// How many counters the primaries keep.
const KEYS: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_written_under_the_newest_epoch_alone() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "accounts", "--writers", "exclusive"]).succeeds().await;
    let show = async || cluster.quipu(["writer", "show", "accounts"]).succeeds().await;
    show().await.prints("nobody has acquired accounts, which has 0..0\n");
    let acquire = |holder| cluster.quipu(["writer", "acquire", "accounts", "--holder", holder, "--json"]).succeeds();
    acquire("db-1").await.prints("{\"epoch\":1,\"end\":0}\n");

    let append = |epoch| cluster.quipu(["append", "accounts", "--epoch", epoch]);
    append("1").input("a\nb\n").succeeds().await.prints("appended 2 records at 0..2\n");
    acquire("db-2").await.prints("{\"epoch\":2,\"end\":2}\n");
    let fenced = append("1").input("c\n").is_refused().await;
    fenced.complains_of("the writer is fenced: \"db-2\" holds epoch 2");
    let ahead = append("3").input("c\n").is_refused().await;
    ahead.complains_of("the writer epoch lies ahead of the log's, which is 2");
    let without = cluster.quipu(["append", "accounts"]).input("c\n").is_refused().await;
    without.complains_of("the log takes appends under a writer epoch alone");
    cluster.quipu(["append", "accounts", "--epoch", "0"]).run().await.exits_with(2).complains_of("--epoch");

    show().await.prints("db-2 writes accounts under epoch 2; it has 0..2\n");
    let shown = cluster.quipu(["writer", "show", "accounts", "--json"]).succeeds().await.json();
    let field = |name: &str| shown[name].clone();
    assert_eq!((field("epoch"), field("holder")), (2.into(), "db-2".into()), "{shown}");
    assert_eq!((field("start"), field("end")), (0.into(), 2.into()), "{shown}");
    assert!(field("acquired_at_ms").as_i64().is_some_and(|at| at > 0), "{shown}");
    cluster.quipu(["read", "accounts"]).succeeds().await.prints("a\nb\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_appended_where_the_log_is_expected_to_end_or_not_at_all() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "accounts"]).succeeds().await;
    let append = |end| cluster.quipu(["append", "accounts", "--expect-end", end]);
    append("0").input("a\nb\n").succeeds().await.prints("appended 2 records at 0..2\n");
    append("0").input("c\n").is_refused().await.complains_of("the log ends at 2, and not at 0");
    append("3").input("c\n").is_refused().await.complains_of("the log ends at 2, and not at 3");
    append("2").input("").succeeds().await.prints("appended 0 records at 2..2\n");
    append("2").input("c\n").succeeds().await.prints("appended 1 records at 2..3\n");
    // One batch takes them all, or none is taken.
    let small = cluster.quipu(["append", "accounts", "--expect-end", "3", "--batch-records", "1"]);
    small.input("d\ne\n").is_refused().await.complains_of("--batch-records");

    cluster.quipu(["writer", "acquire", "accounts", "--holder", "db-1"]).succeeds().await;
    let both = cluster.quipu(["append", "accounts", "--epoch", "1", "--expect-end", "3"]);
    both.input("d\n").succeeds().await.prints("appended 1 records at 3..4\n");
    cluster.quipu(["read", "accounts"]).succeeds().await.prints("a\nb\nc\nd\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_append_that_is_interrupted_before_the_last_line_appends_nothing() {
    let cluster = Cluster::start(1).await;
    cluster.quipu(["log", "create", "accounts"]).succeeds().await;
    let mut append = cluster.quipu(["append", "accounts", "--expect-end", "0"]).spawn_fed();
    // More than fits into the pipe: so it is reading.
    let mut input = append.stdin.take().expect("a pipe");
    input.write_all(format!("{}\n", "x".repeat(1 << 10)).repeat(1 << 10).as_bytes()).await.expect("it reads");
    let pid = append.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("it runs");
    kill_process(pid, Signal::INT).expect("it can be signalled");
    let ended = tokio::time::timeout(PATIENCE, append.wait_with_output()).await.expect("it ends");
    let ended = ended.expect("it can be awaited");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0), "{told}");
    assert!(told.contains("nothing was appended"), "{told}");
    drop(input);
    cluster.quipu(["read", "accounts"]).succeeds().await.prints("");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquisition_that_is_asked_for_again_gives_the_first_answer() {
    let cluster = Cluster::start(3).await;
    cluster.quipu(["log", "create", "accounts"]).succeeds().await;
    let acquire =
        |holder, id| cluster.quipu(["writer", "acquire", "accounts", "--holder", holder, "--request-id", id, "--json"]);
    let (first, second) = ("0123456789abcdef0123456789abcdef", "ffffffffffffffffffffffffffffffff");
    acquire("db-1", first).succeeds().await.prints("{\"epoch\":1,\"end\":0}\n");
    cluster.quipu(["append", "accounts"]).input("a\n").succeeds().await;
    acquire("db-1", first).succeeds().await.prints("{\"epoch\":1,\"end\":0}\n");
    acquire("db-2", second).succeeds().await.prints("{\"epoch\":2,\"end\":1}\n");
    // Every node has it on its disk.
    cluster.kill_all();
    cluster.start_all().await;
    acquire("db-1", first).succeeds().await.prints("{\"epoch\":1,\"end\":0}\n");
    cluster.quipu(["append", "accounts", "--epoch", "2"]).input("b\n").succeeds().await;

    acquire("db-3", "0123").run().await.exits_with(2).complains_of("32 hexadecimal digits");
    acquire("", second).is_refused().await.complains_of("holder");
    let nowhere = cluster.quipu(["writer", "acquire", "nowhere", "--holder", "db-1"]).is_refused().await;
    nowhere.complains_of("there is no log nowhere");
    cluster.quipu(["writer", "show", "nowhere"]).is_refused().await.complains_of("there is no log nowhere");
    let shown = cluster.quipu(["writer", "show", "accounts", "--json"]).succeeds().await.json();
    assert_eq!((&shown["epoch"], &shown["holder"]), (&2.into(), &"db-2".into()), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn primaries_that_fight_over_a_log_lose_nothing_and_never_write_beside_each_other() {
    let cluster = Cluster::start(3).await;
    let config = LogConfig { writers: Writers::Exclusive, ..LogConfig::default() };
    let log = cluster.create_with("fought-over", config).await;
    let environment = system::environment();
    let until = environment.clock.monotonic() + length_of_the_fight();
    let (one, other, kills) = tokio::join!(
        Primary::new(cluster.client(), &log, "db-1", &environment).fight(until),
        Primary::new(cluster.client(), &log, "db-2", &environment).fight(until),
        kill_leaders(&cluster, &log, &environment, until),
    );
    tell(&[&one, &other], kills);
    assert!(kills > 0, "no leader was killed");
    for book in [&one, &other] {
        assert!(book.epochs.len() > 1 && book.fenced > 0 && !book.acknowledged.is_empty(), "it was no fight");
    }

    let epochs: BTreeSet<u64> = one.epochs.iter().chain(&other.epochs).copied().collect();
    assert_eq!(epochs.len(), one.epochs.len() + other.epochs.len(), "an epoch was given twice");
    let mut acknowledged = [one.acknowledged, other.acknowledged].concat();
    acknowledged.sort();
    let expected = acknowledged.iter().fold(Database::default(), |mut database, (offset, value)| {
        database.apply(*offset, value);
        database
    });
    // Each append was acknowledged, resolved, or certain to have failed: the log
    // holds the first, once, and nothing else.
    cluster.each_replica_reads(log.as_str()).await.holds(&Ledger { acknowledged, unknown: Vec::new() });
    let last = [one.last, other.last].into_iter().flatten().max_by_key(|(epoch, _)| *epoch).expect("somebody wrote");
    assert_eq!(last.1.counters, expected.counters, "the last one's memory is what the log says");
}

fn length_of_the_fight() -> Duration {
    std::env::var("QUIPU_FIGHT_SECONDS").map_or(FIGHT, |seconds| {
        Duration::from_secs(seconds.parse().expect("QUIPU_FIGHT_SECONDS is a number of seconds"))
    })
}

/// Kills whoever leads, again and again; once another one does, it may come back.
/// How often.
async fn kill_leaders(cluster: &Cluster, log: &LogName, environment: &Environment, until: Duration) -> usize {
    let mut kills = 0;
    loop {
        tokio::time::sleep(KILL_EVERY).await;
        if environment.clock.monotonic() >= until {
            return kills;
        }
        let killed = cluster.leader_of(log.as_str()).await.kill();
        kills += 1;
        cluster.leader_of(log.as_str()).await;
        killed.start().serves().await;
    }
}

/// Counters, as the records of a log make them: `EPOCH NAME NUMBER KEY COUNT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Database {
    counters: BTreeMap<String, u64>,
    /// Where the log goes on.
    end: Offset,
    /// Of the last record.
    epoch: u64,
}

impl Database {
    /// Takes the log's next record.
    fn apply(&mut self, offset: Offset, value: &Bytes) {
        let text = std::str::from_utf8(value).expect("text");
        let words: Vec<&str> = text.split(' ').collect();
        let [epoch, _, _, key, count] = words[..] else { panic!("{text:?} at {offset}") };
        let (epoch, count): (u64, u64) = (epoch.parse().expect("an epoch"), count.parse().expect("a count"));
        assert_eq!(offset, self.end, "what follows {} records", self.end);
        assert!(epoch >= self.epoch, "epoch {epoch} at {offset} comes after {}", self.epoch);
        let counter = self.counters.entry(key.to_owned()).or_default();
        assert_eq!(count, *counter + 1, "{text:?} at {offset} was written by one that did not know {counter}");
        (*counter, self.end, self.epoch) = (count, offset.next(), epoch);
    }

    /// What the records below `end` make.
    async fn replay(client: &Client, log: &LogName, end: Offset) -> Option<Self> {
        let mut reader = client.reader(log, ReaderConfig::default()).expect("a reader");
        let mut database = Self::default();
        while database.end < end {
            match reader.next().await {
                Ok(record) => {
                    let record = record.unwrap_or_else(|| panic!("the log ends at {} before {end}", database.end));
                    database.apply(record.offset, &record.value.expect("a value"));
                }
                Err(error) if error.is_retryable() => return None,
                Err(error) => panic!("a replay failed: {error:?}"),
            }
        }
        Some(database)
    }
}

/// What a primary was told.
#[derive(Default)]
struct Book {
    acknowledged: Vec<(Offset, Bytes)>,
    /// Appends without an answer that had landed, and that never will.
    resolved: [usize; 2],
    fenced: usize,
    epochs: Vec<u64>,
    /// Its last epoch, and what it had in memory then.
    last: Option<(u64, Database)>,
}

/// One that writes whenever it holds the epoch.
struct Primary<'a> {
    client: &'a Client,
    log: &'a LogName,
    name: &'static str,
    environment: &'a Environment,
    number: u64,
    book: Book,
}

impl<'a> Primary<'a> {
    fn new(client: &'a Client, log: &'a LogName, name: &'static str, environment: &'a Environment) -> Self {
        Self { client, log, name, environment, number: 0, book: Book::default() }
    }

    async fn fight(mut self, until: Duration) -> Book {
        while self.environment.clock.monotonic() < until {
            self.reign(until).await;
            self.environment.clock.sleep(Duration::from_millis(self.below(LONGEST_PAUSE_MS))).await;
        }
        self.book
    }

    fn below(&self, bound: u64) -> u64 {
        self.environment.random.next() % bound
    }

    /// Acquires the epoch, replays, and writes until it is fenced.
    async fn reign(&mut self, until: Duration) {
        let writer = match self.client.acquire_writer(self.log, self.name).await {
            Ok(writer) => writer,
            Err(error) if error.is_retryable() || !error.has_no_side_effects() => return,
            Err(error) => panic!("{} cannot acquire {}: {error:?}", self.name, self.log),
        };
        let epoch = writer.epoch.get();
        self.book.epochs.push(epoch);
        let Some(mut database) = Database::replay(self.client, self.log, writer.end).await else { return };
        let config = ProducerConfig {
            writer_epoch: Some(writer.epoch),
            delivery_timeout: DELIVERY_TIMEOUT,
            ..ProducerConfig::default()
        };
        let producer = self.client.producer(self.log, config).expect("a producer");
        while self.environment.clock.monotonic() < until && self.write(&producer, epoch, &mut database).await {}
        self.book.last = Some((epoch, database));
    }

    /// Appends once, where it knows the log to end. False once it is fenced.
    async fn write(&mut self, producer: &Producer, epoch: u64, database: &mut Database) -> bool {
        let values = self.next_values(epoch, database);
        let records = values.iter().map(|value| producer.record(value.clone())).collect();
        let range = match producer.append_at(database.end, records).await {
            Ok(range) => range,
            Err(AppendError::WriterFenced { current, holder }) => {
                // It may be an attempt of its own, which it gave up and which came late.
                assert!(current.get() > epoch, "{holder} fences {} under epoch {epoch} by {current}", self.name);
                self.book.fenced += 1;
                return false;
            }
            Err(AppendError::OutcomeUnknown { append, .. }) => {
                match self.resolve(append.expect("the producer is idempotent")).await {
                    Some(range) => range,
                    None => return true,
                }
            }
            // Nobody could be given it.
            Err(error) if error.is_retryable() && error.has_no_side_effects() => return true,
            Err(error) => panic!("{} under epoch {epoch}: {error:?}", self.name),
        };
        let expected = OffsetRange::new(database.end, database.end.advance(values.len() as u64));
        assert_eq!(range, expected, "it landed elsewhere than where the log was to end");
        for value in values {
            self.book.acknowledged.push((database.end, value.clone()));
            database.apply(database.end, &value);
        }
        true
    }

    /// One to three records that count on.
    fn next_values(&mut self, epoch: u64, database: &Database) -> Vec<Bytes> {
        let mut counters = database.counters.clone();
        let next = |number: u64| {
            let key = format!("key-{}", self.below(KEYS));
            let count = counters.entry(key.clone()).or_default();
            *count += 1;
            format!("{epoch} {} {number} {key} {count}", self.name).into()
        };
        let count = 1 + self.below(3);
        let values = (self.number..self.number + count).map(next).collect();
        self.number += count;
        values
    }

    /// What became of an append: the log is asked until it says so.
    async fn resolve(&mut self, append: AppendId) -> Option<OffsetRange> {
        let resolved =
            eventually("an append is resolved", async || match self.client.resolve(self.log, append).await {
                Ok(resolution) => Ok(resolution),
                Err(error) => Err(format!("{error:?}")),
            })
            .await;
        match resolved {
            Resolution::Landed(range) => {
                self.book.resolved[0] += 1;
                Some(range)
            }
            Resolution::Never => {
                self.book.resolved[1] += 1;
                None
            }
            Resolution::Forgotten => panic!("{append:?} was forgotten within seconds"),
        }
    }
}

/// Tells a person how it went.
#[expect(clippy::print_stderr, reason = "a person asked for a longer fight and wants to know")]
fn tell(books: &[&Book], kills: usize) {
    for book in books {
        let [landed, never] = book.resolved;
        eprintln!(
            "{} records acknowledged under {} epochs, fenced {} times; of appends without an answer {landed} had \
             landed and {never} never will",
            book.acknowledged.len(),
            book.epochs.len(),
            book.fenced,
        );
    }
    eprintln!("{kills} leaders were killed");
}
