//! An outbox, a network that loses, delays and repeats, and a log that keeps
//! its promise: whatever happens, what the outbox says is true of the log.
//!
//! Each seed is a run of its own; a failure names its seed.
#![allow(clippy::cast_possible_truncation, reason = "counts of a test")]

use quipu_protocol::batch::{BatchBuilder, BatchHeader, Compression, records};
use quipu_protocol::v1::error::Kind;
use quipu_protocol::{ProducerId, Timestamp, WriterEpoch, v1};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::AppendId;
use crate::cluster::Refusal;

#[path = "../../../tests/fake/dedupe.rs"]
mod dedupe;
use dedupe::{Dedupe, Resolved};

const SEEDS: u64 = 3_000;
const BATCHES: u64 = 60;
const STEPS: usize = 1_200;

struct Run {
    random: StdRng,
    outbox: Outbox,
    now: Duration,
    ids: i64,
    dedupe: Dedupe,
    log: Vec<u64>,
    /// Whether some batches expect an end, and somebody else may become the writer.
    has_terms: bool,
    /// Somebody else has.
    is_fenced: bool,
    /// Requests on the stream, oldest first, and the answers to them.
    stream: VecDeque<(u64, Letter)>,
    answers: VecDeque<(u64, Result<OffsetRange, v1::Error>)>,
    /// Copies on streams that are lost: each may arrive at any time, or never.
    stragglers: Vec<Letter>,
    taken: Vec<Taken>,
    next_value: u64,
}

/// A batch under way, under the terms it was sent with.
struct Letter {
    batch: Bytes,
    expected_end: Option<Offset>,
}

struct Taken {
    values: std::ops::Range<u64>,
    expected_end: Option<Offset>,
    outcome: oneshot::Receiver<Result<OffsetRange, AppendError>>,
}

/// A batch that begins with such a value is malformed.
fn is_bad(value: u64) -> bool {
    value % 13 == 5
}

impl Run {
    fn new(seed: u64, has_terms: bool) -> Self {
        let config = ProducerConfig { in_flight: [1, 2, 5, 64][seed as usize % 4], ..ProducerConfig::default() };
        Self {
            random: StdRng::seed_from_u64(seed),
            outbox: Outbox::new("orders".parse().expect("a name"), config),
            now: Duration::ZERO,
            ids: 0,
            dedupe: Dedupe::default(),
            log: Vec::new(),
            has_terms,
            is_fenced: false,
            stream: VecDeque::new(),
            answers: VecDeque::new(),
            stragglers: Vec::new(),
            taken: Vec::new(),
            next_value: 0,
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.random.random_range(0..one_in) == 0
    }

    fn take(&mut self) {
        let values = self.next_value..self.next_value + self.random.random_range(1..4);
        self.next_value = values.end;
        let mut builder = BatchBuilder::new(Compression::None);
        for value in values.clone() {
            let value = Bytes::copy_from_slice(&value.to_be_bytes());
            builder.push(&Record::new(Timestamp::new(0), value)).expect("fits");
        }
        let (count, batch) = (builder.count(), builder.finish(None).expect("not empty"));
        let (waiter, outcome) = oneshot::channel();
        let expected_end = (self.has_terms && self.chance(2)).then(|| self.guess(values.start));
        self.outbox.take_batch((batch, count), (expected_end, Bytes::new()), 1, waiter, self.now);
        self.taken.push(Taken { values, expected_end, outcome });
    }

    /// Where the log may end when the batch that begins with `value` gets its
    /// turn: right if everything before it lands.
    fn guess(&mut self, value: u64) -> Offset {
        let lost = self.log.last().map_or(0, |last| last + 1 - self.log.len() as u64);
        Offset::new((value - lost).saturating_add(u64::from(self.chance(8))))
    }

    /// The log takes the letter's batch, if it is what may come next.
    fn apply(&mut self, Letter { batch, expected_end }: &Letter) -> Result<OffsetRange, v1::Error> {
        let values: Vec<u64> = records(batch, 1 << 20)
            .expect("sound")
            .map(|record| {
                let value = record.expect("sound").1.value.expect("a value");
                u64::from_be_bytes(value[..].try_into().expect("eight bytes"))
            })
            .collect();
        if is_bad(values[0]) {
            return Err(v1::Error::from(quipu_protocol::batch::BatchError::Empty));
        }
        let header = BatchHeader::parse(batch).expect("sound");
        let end = Offset::new(self.log.len() as u64);
        if self.dedupe.recall(&header)?.is_none() {
            if self.is_fenced {
                return Err(v1::Error::fenced(WriterEpoch::new(2), "db-2"));
            }
            if expected_end.is_some_and(|expected| expected != end) {
                return Err(v1::Error::offset_mismatch(end));
            }
        }
        let (base, duplicate) = self.dedupe.apply(&header, self.log.len() as u64)?;
        if !duplicate {
            self.log.extend(values);
        }
        let base = Offset::new(base);
        Ok(OffsetRange::new(base, base.advance(u64::from(header.count))))
    }

    /// The server takes the stream's next request up.
    fn serve(&mut self, faults: bool) {
        let Some((request, letter)) = self.stream.pop_front() else { return };
        let answer = match if faults { self.random.random_range(0..20) } else { 0 } {
            0..16 => self.apply(&letter),
            16 => Err(v1::Error::unavailable("an election")),
            17 => {
                let _ = self.apply(&letter);
                Err(v1::Error::outcome_unknown("lost the lead"))
            }
            18 => {
                self.stragglers.push(letter);
                Err(v1::Error::outcome_unknown("lost the lead"))
            }
            // Takes it, and never answers.
            _ => {
                let _ = self.apply(&letter);
                return;
            }
        };
        self.answers.push_back((request, answer));
    }

    fn answer(&mut self, faults: bool) {
        let late = if faults && self.chance(4) { self.random.random_range(0..4) } else { 0 };
        let at = late.min(self.answers.len().saturating_sub(1));
        let Some((request, answer)) = self.answers.remove(at) else { return };
        match answer {
            Ok(range) => self.outbox.landed(request, range, self.now).expect("a true answer"),
            Err(error) => match error.kind {
                Some(Kind::Unavailable(_)) => self.outbox.declined(request, false, self.now),
                Some(Kind::OutcomeUnknown(_)) => self.outbox.declined(request, true, self.now),
                _ => {
                    let refusal = Refusal { address: String::new(), error };
                    self.outbox.refused(request, &refusal, self.now).expect("nobody else has the id");
                }
            },
        }
        if self.outbox.wants_new_stream() {
            self.lose_stream();
        }
    }

    fn lose_stream(&mut self) {
        self.answers.clear();
        self.stragglers.extend(self.stream.drain(..).map(|(_, letter)| letter));
        self.outbox.stream_ended(self.now);
    }

    fn send(&mut self) {
        if self.outbox.needs_identity() {
            self.ids += 1;
            self.outbox.identify(ProducerId::new(self.ids));
        }
        if let Next::Request { request, batch, expected_end, .. } = self.outbox.next(self.now) {
            self.stream.push_back((request, Letter { batch, expected_end }));
        }
    }

    fn straggle(&mut self) {
        if !self.stragglers.is_empty() {
            let at = self.random.random_range(0..self.stragglers.len());
            let letter = self.stragglers.swap_remove(at);
            let _ = self.apply(&letter);
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..12 if (self.taken.len() as u64) < BATCHES => self.take(),
            0..45 => self.send(),
            45..70 => self.serve(true),
            70..92 => self.answer(true),
            92..95 => self.lose_stream(),
            95..98 => self.straggle(),
            98 => self.pass(),
            _ if self.has_terms && self.chance(20) => self.is_fenced = true,
            _ if self.chance(8) => self.dedupe.forget(ProducerId::new(self.ids + 1)),
            _ => {}
        }
    }

    fn pass(&mut self) {
        self.now += Duration::from_secs(self.random.random_range(1..70));
        self.outbox.expire(self.now);
    }

    fn settle(&mut self) {
        self.lose_stream();
        while !self.outbox.is_empty() {
            self.send();
            self.serve(false);
            self.answer(false);
        }
    }

    /// Copies that are still under way arrive.
    fn arrive(&mut self) {
        while !self.stragglers.is_empty() {
            self.straggle();
        }
    }

    /// Asks the log what became of a batch whose outcome is not known.
    fn resolve(&mut self, append: AppendId) -> Resolved {
        self.dedupe.resolve(append.producer, append.epoch, append.sequence)
    }

    /// What was told, against what is in the log in the end. How many landed,
    /// failed for certain, and were unknown; and of those, how many were resolved
    /// to have landed, and how many never to land.
    fn check(mut self) -> [usize; 5] {
        let mut told = [0; 5];
        let taken = std::mem::take(&mut self.taken);
        let outcomes: Vec<_> = taken
            .into_iter()
            .map(|Taken { values, expected_end, mut outcome }| {
                let outcome = outcome.try_recv().expect("everything is answered");
                let resolved = match &outcome {
                    Err(AppendError::OutcomeUnknown { append, .. }) if self.has_terms => {
                        Some(self.resolve(append.expect("it is idempotent")))
                    }
                    _ => None,
                };
                (values, expected_end, outcome, resolved)
            })
            .collect();
        // A resolution holds whatever arrives later.
        self.arrive();
        assert!(self.log.is_sorted_by(|a, b| a < b), "out of order or twice: {:?}", self.log);
        for (values, expected_end, outcome, resolved) in outcomes {
            let there = values.clone().filter(|value| self.log.binary_search(value).is_ok()).count();
            let is_at =
                |start: u64, end: u64| self.log[start as usize..end as usize].iter().copied().eq(values.clone());
            match outcome {
                Ok(range) => {
                    assert!(is_at(range.start().get(), range.end().get()), "{values:?} is not at {range}");
                    assert!(expected_end.is_none_or(|end| end == range.start()), "{values:?} landed at {range}");
                    told[0] += 1;
                }
                Err(AppendError::OutcomeUnknown { .. }) => {
                    assert!(there == 0 || there == values.clone().count(), "{values:?} landed in part");
                    told[2] += 1;
                }
                Err(error) => {
                    assert_eq!(there, 0, "{values:?} landed and was told: {error}");
                    assert!(error.has_no_side_effects());
                    told[1] += 1;
                }
            }
            match resolved {
                Some(Resolved::Landed { start, end }) => {
                    assert!(is_at(start, end), "{values:?} was resolved to {start}..{end}");
                    told[3] += 1;
                }
                Some(Resolved::Never) => {
                    assert_eq!(there, 0, "{values:?} was never to land");
                    told[4] += 1;
                }
                Some(Resolved::Forgotten) | None => {}
            }
        }
        told
    }
}

fn run_all(has_terms: bool) -> [usize; 5] {
    let mut told = [0; 5];
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed, has_terms);
            for _ in 0..STEPS {
                run.step();
            }
            run.settle();
            run.check()
        });
        let run = run.unwrap_or_else(|_| panic!("seed {seed} failed"));
        for (sum, one) in told.iter_mut().zip(run) {
            *sum += one;
        }
    }
    told
}

#[test]
fn what_is_told_is_true_whatever_the_network_does() {
    // The runs reach every kind of end, and mostly the good one.
    let told @ [landed, failed, unknown, ..] = run_all(false);
    assert!(failed > 1_000 && unknown > 1_000 && landed > 2 * (failed + unknown), "{told:?}");
}

#[test]
fn what_is_told_is_true_of_conditional_batches_and_of_a_writer_that_is_fenced() {
    let told @ [landed, failed, unknown, resolved_as_landed, resolved_as_never] = run_all(true);
    assert!(landed.min(failed).min(unknown) > 10_000, "{told:?}");
    // Most have been forgotten when the run is over.
    assert!(resolved_as_landed > 300 && resolved_as_never > 1_000, "{told:?}");
}
