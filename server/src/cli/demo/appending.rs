//! Lines on their way into the log: some in flight, each at the offset where
//! it has to be.

use std::time::Duration;

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use indicatif::ProgressBar;
use quipu_sdk::{Append, Environment, Offset, Producer, Record};
use tokio::io::BufReader;

use super::input::Input;
use crate::cli::failure::Failure;
use crate::cli::lines::Lines;

/// The most appends in flight; fewer for a short input, so that some of it is
/// left when the leader is killed.
const MAX_IN_FLIGHT: u64 = 64;
/// A long input goes in at most about so many appends, each of several lines.
const APPENDS: u64 = 20_000;
/// An append of several lines is closed at this size, bytes.
const APPEND_BYTES: usize = 256 << 10;

/// An append stream of the input's lines, in order.
pub(super) struct Appending<'a> {
    environment: &'a Environment,
    producer: &'a Producer,
    lines: Lines<BufReader<tokio::fs::File>>,
    bar: ProgressBar,
    lines_per_append: u64,
    max_in_flight: usize,
    in_flight: FuturesOrdered<Append>,
    sent: u64,
    /// How many lines are acknowledged; they are the first ones.
    acknowledged: u64,
    last_acknowledged_at: Duration,
    longest_silence: Duration,
}

impl<'a> Appending<'a> {
    pub(super) async fn new(
        input: &Input,
        producer: &'a Producer,
        environment: &'a Environment,
        bar: ProgressBar,
    ) -> Result<Self, Failure> {
        let lines_per_append = input.lines.div_ceil(APPENDS);
        let appends = input.lines.div_ceil(lines_per_append);
        Ok(Self {
            environment,
            producer,
            lines: input.read().await?,
            bar,
            lines_per_append,
            max_in_flight: usize::try_from((appends / 8).clamp(1, MAX_IN_FLIGHT)).unwrap_or(1),
            in_flight: FuturesOrdered::new(),
            sent: 0,
            acknowledged: 0,
            last_acknowledged_at: environment.clock.monotonic(),
            longest_silence: Duration::ZERO,
        })
    }

    pub(super) const fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The longest time between two acknowledgements since this was called
    /// last.
    pub(super) fn take_longest_silence(&mut self) -> Duration {
        std::mem::take(&mut self.longest_silence)
    }

    /// Sends until `lines` lines have been sent or the input ends, keeping
    /// appends in flight; the last ones still are when this returns.
    pub(super) async fn send_until(&mut self, lines: u64) -> Result<(), Failure> {
        while self.sent < lines {
            if self.in_flight.len() >= self.max_in_flight {
                self.receive().await?;
            }
            let records = self.next_records().await?;
            if records.is_empty() {
                return Ok(());
            }
            self.sent += records.len() as u64;
            self.in_flight.push_back(self.producer.enqueue(records).await?);
        }
        Ok(())
    }

    /// Sends everything that is left and waits for every acknowledgement.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        self.send_until(u64::MAX).await?;
        while !self.in_flight.is_empty() {
            self.receive().await?;
        }
        Ok(())
    }

    async fn next_records(&mut self) -> Result<Vec<Record>, Failure> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while (records.len() as u64) < self.lines_per_append && bytes < APPEND_BYTES {
            let line = self.lines.next().await.map_err(|error| Failure::Refused(error.to_string()))?;
            let Some(line) = line else { break };
            bytes += line.len();
            records.push(self.producer.record(line));
        }
        Ok(records)
    }

    /// The oldest append's acknowledgement.
    async fn receive(&mut self) -> Result<(), Failure> {
        let Some(appended) = self.in_flight.next().await else { return Ok(()) };
        let range = appended?;
        // The log is ours alone, so that a line's offset is its number.
        if range.start() != Offset::new(self.acknowledged) {
            let message = format!("line {} was acknowledged at offset {}", self.acknowledged, range.start());
            return Err(Failure::Refused(message));
        }
        self.acknowledged = range.end().get();
        let now = self.environment.clock.monotonic();
        self.longest_silence = self.longest_silence.max(now.saturating_sub(self.last_acknowledged_at));
        self.last_acknowledged_at = now;
        self.bar.set_position(self.acknowledged);
        Ok(())
    }
}
