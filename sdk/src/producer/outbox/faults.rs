//! An outbox, a network that loses, delays and repeats, and a log that keeps
//! its promise: whatever happens, what the outbox says is true of the log.
//!
//! Each seed is a run of its own; a failure names its seed.
#![allow(clippy::cast_possible_truncation, reason = "counts of a test")]

use quipu_protocol::batch::{BatchBuilder, BatchHeader, Compression, records};
use quipu_protocol::v1::error::Kind;
use quipu_protocol::{ProducerId, Timestamp, v1};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::cluster::Refusal;

#[path = "../../../tests/fake/dedupe.rs"]
mod dedupe;
use dedupe::Dedupe;

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
    /// Requests on the stream, oldest first, and the answers to them.
    stream: VecDeque<(u64, Bytes)>,
    answers: VecDeque<(u64, Result<OffsetRange, v1::Error>)>,
    /// Copies on streams that are lost: each may arrive at any time, or never.
    stragglers: Vec<Bytes>,
    taken: Vec<Taken>,
    next_value: u64,
}

struct Taken {
    values: std::ops::Range<u64>,
    outcome: oneshot::Receiver<Result<OffsetRange, AppendError>>,
}

/// A batch that begins with such a value is malformed.
fn is_bad(value: u64) -> bool {
    value % 13 == 5
}

impl Run {
    fn new(seed: u64) -> Self {
        let config = ProducerConfig { in_flight: [1, 2, 5, 64][seed as usize % 4], ..ProducerConfig::default() };
        Self {
            random: StdRng::seed_from_u64(seed),
            outbox: Outbox::new("orders".parse().expect("a name"), config),
            now: Duration::ZERO,
            ids: 0,
            dedupe: Dedupe::default(),
            log: Vec::new(),
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
        self.outbox.take_batch((batch, count), None, 1, waiter, self.now);
        self.taken.push(Taken { values, outcome });
    }

    /// The log takes `batch`, if it is what may come next.
    fn apply(&mut self, batch: &Bytes) -> Result<OffsetRange, v1::Error> {
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
        let (base, duplicate) = self.dedupe.apply(&header, self.log.len() as u64)?;
        if !duplicate {
            self.log.extend(values);
        }
        let base = Offset::new(base);
        Ok(OffsetRange::new(base, base.advance(u64::from(header.count))))
    }

    /// The server takes the stream's next request up.
    fn serve(&mut self, faults: bool) {
        let Some((request, batch)) = self.stream.pop_front() else { return };
        let answer = match if faults { self.random.random_range(0..20) } else { 0 } {
            0..16 => self.apply(&batch),
            16 => Err(v1::Error::unavailable("an election")),
            17 => {
                let _ = self.apply(&batch);
                Err(v1::Error::outcome_unknown("lost the lead"))
            }
            18 => {
                self.stragglers.push(batch);
                Err(v1::Error::outcome_unknown("lost the lead"))
            }
            // Takes it, and never answers.
            _ => {
                let _ = self.apply(&batch);
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
        self.stragglers.extend(self.stream.drain(..).map(|(_, batch)| batch));
        self.outbox.stream_ended(self.now);
    }

    fn send(&mut self) {
        if self.outbox.needs_identity() {
            self.ids += 1;
            self.outbox.identify(ProducerId::new(self.ids));
        }
        if let Next::Request { request, batch, .. } = self.outbox.next(self.now) {
            self.stream.push_back((request, batch));
        }
    }

    fn straggle(&mut self) {
        if !self.stragglers.is_empty() {
            let at = self.random.random_range(0..self.stragglers.len());
            let batch = self.stragglers.swap_remove(at);
            let _ = self.apply(&batch);
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
        while !self.stragglers.is_empty() {
            self.straggle();
        }
    }

    /// What was told, against what is in the log. How many landed, failed for
    /// certain, and were unknown.
    fn check(mut self) -> [usize; 3] {
        assert!(self.log.is_sorted_by(|a, b| a < b), "out of order or twice: {:?}", self.log);
        let mut told = [0; 3];
        for Taken { values, outcome } in &mut self.taken {
            let there = values.clone().filter(|value| self.log.binary_search(value).is_ok()).count();
            match outcome.try_recv().expect("everything is answered") {
                Ok(range) => {
                    let offsets = range.start().get() as usize..range.end().get() as usize;
                    assert!(self.log[offsets].iter().copied().eq(values.clone()), "{values:?} is not at {range}");
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
        }
        told
    }
}

#[test]
fn what_is_told_is_true_whatever_the_network_does() {
    let mut told = [0; 3];
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
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
    // The runs reach every kind of end, and mostly the good one.
    let [landed, failed, unknown] = told;
    assert!(failed > 1_000 && unknown > 1_000 && landed > 2 * (failed + unknown), "{told:?}");
}
