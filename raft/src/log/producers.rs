//! What makes a retried append land once.
//!
//! Per producer id a log keeps the epoch and the last appends. In order:
//!
//! ```text
//!   unknown id                  sequence 0, allotted lately and
//!                               after every forgotten id       │ else unknown
//!   lower or ended epoch        fenced
//!   higher epoch                sequence 0                     │ else out of sequence
//!   equals a remembered append  its first answer again
//!   follows the last append     accepted                       │ else out of sequence
//! ```
//!
//! Stricter than Kafka, which takes any sequence from an unknown id: there,
//! after an expiry, 5 can land before 0 and a retry can land twice.
//!
//! # Invariant
//! Everything here is a function of the log's commands: expiry goes by log
//! time, eviction by (log time, id), and the bounds are constants. A replica
//! with other bounds would accept what its peers refuse, so changing one is
//! a change of the format.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quipu_protocol::batch::Producer;
use quipu_protocol::{Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence, Timestamp, stored};

use super::machine::LAST_OFFSET;
use crate::machine::MachineError;
use crate::types::{self, BatchOutcome, Resolution};

/// How many appends of a producer are remembered; at most so many may be in
/// flight under one producer id.
pub const REMEMBERED_APPENDS: usize = 64;

/// How long after its last append a producer is forgotten, and how long after
/// its allotment an id may first be used, in milliseconds of log time (24 h).
/// A client must give up retrying sooner than that.
pub const PRODUCER_EXPIRY_MS: i64 = 24 * 60 * 60 * 1000;

/// How many producers a log remembers. One more, and the one that appended
/// longest ago is forgotten.
pub const MAX_PRODUCERS: usize = 4096;

/// How many of a producer id's low bits tell apart the ids of a millisecond.
const COUNTER_BITS: u32 = 20;

/// The smallest id the catalog may allot at `now`, when `next` is the
/// smallest that it has not allotted.
///
/// An id carries the time of its allotment, so that a log can refuse one that
/// it may have known and forgotten: milliseconds since 1970 in the high bits,
/// a counter in the low 20. Ids only grow, whatever the clock does, so none
/// is ever reused. They stay positive until the year 2248.
pub fn next_producer_id(next: ProducerId, now: Timestamp) -> ProducerId {
    let earliest = now.get().clamp(0, i64::MAX >> COUNTER_BITS) << COUNTER_BITS;
    // Never 0: an id has to be positive.
    ProducerId::new(next.get().max(earliest).max(1))
}

/// When `id` was allotted.
pub fn allotted_at(id: ProducerId) -> Timestamp {
    Timestamp::new(id.get() >> COUNTER_BITS)
}

/// The producers of one log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    known: BTreeMap<ProducerId, Known>,
    /// The same producers by the log time of their last append.
    by_time: BTreeSet<(Timestamp, ProducerId)>,
    /// The newest id ever forgotten. Ids are allotted in order, so refusing
    /// the unknown up to here refuses every one that may have appended before,
    /// whatever the clocks said.
    forgotten: ProducerId,
}

#[derive(Debug, PartialEq, Eq)]
struct Known {
    epoch: ProducerEpoch,
    last_append: Timestamp,
    /// The last appends of this epoch, oldest first; none only if the epoch was
    /// raised without one.
    appends: VecDeque<Remembered>,
    /// The epoch before.
    ended: Option<EndedEpoch>,
}

/// An epoch in which nothing can land any more.
#[derive(Debug, PartialEq, Eq)]
struct EndedEpoch {
    epoch: ProducerEpoch,
    /// The sequence that would have followed.
    next: Sequence,
    appends: VecDeque<Remembered>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remembered {
    first: Sequence,
    last: Sequence,
    base: Offset,
}

impl Producers {
    /// Forgets those whose last append was too long ago at log time `now`.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        while let Some((last_append, id)) = self.by_time.first().copied()
            && now.get().saturating_sub(last_append.get()) > PRODUCER_EXPIRY_MS
        {
            self.forget(last_append, id);
        }
    }

    fn forget(&mut self, last_append: Timestamp, id: ProducerId) {
        self.by_time.remove(&(last_append, id));
        self.known.remove(&id);
        self.forgotten = self.forgotten.max(id);
    }

    /// The answer to a batch of `producer` at log time `now` of which nobody can
    /// tell any more whether it repeats one that had landed; none if that can be
    /// told.
    pub(crate) fn cannot_tell(&self, producer: Producer, now: Timestamp) -> Option<BatchOutcome> {
        match self.known.get(&producer.id) {
            None => self.may_have_known(producer.id, now).then_some(BatchOutcome::UnknownProducer),
            Some(known) => {
                known.is_over(producer.epoch).then_some(BatchOutcome::ProducerFenced { current: known.epoch })
            }
        }
    }

    /// Whether an id that is unknown may have been known before.
    fn may_have_known(&self, id: ProducerId, now: Timestamp) -> bool {
        now.get().saturating_sub(allotted_at(id).get()) > PRODUCER_EXPIRY_MS || id <= self.forgotten
    }

    /// Accepts `count` records from `producer` at offset `base`, or says why
    /// not, changing nothing.
    pub(crate) fn append(&mut self, producer: Producer, count: u32, base: Offset, now: Timestamp) -> BatchOutcome {
        debug_assert!(count > 0, "a batch has records");
        let append = Remembered { first: producer.sequence, last: producer.sequence.advance(count - 1), base };
        let starts = producer.sequence == Sequence::new(0);
        match self.known.get_mut(&producer.id) {
            None => {
                if !starts || self.may_have_known(producer.id, now) {
                    return BatchOutcome::UnknownProducer;
                }
                self.make_room();
                let appends = VecDeque::from([append]);
                let known = Known { epoch: producer.epoch, last_append: now, appends, ended: None };
                self.known.insert(producer.id, known);
            }
            Some(known) if known.is_over(producer.epoch) => {
                return BatchOutcome::ProducerFenced { current: known.epoch };
            }
            Some(known) if producer.epoch > known.epoch => {
                if !starts {
                    return BatchOutcome::OutOfSequence { expected: Sequence::new(0) };
                }
                self.by_time.remove(&(known.last_append, producer.id));
                known.end_epoch();
                known.epoch = producer.epoch;
                known.last_append = now;
                known.appends.push_back(append);
            }
            Some(known) => {
                if let Some(range) = known.repeats(append) {
                    return BatchOutcome::Duplicate(range);
                }
                let expected = known.next();
                if producer.sequence != expected {
                    return BatchOutcome::OutOfSequence { expected };
                }
                if known.appends.len() == REMEMBERED_APPENDS {
                    known.appends.pop_front();
                }
                known.appends.push_back(append);
                // All of an entry are of one time.
                if known.last_append == now {
                    return BatchOutcome::Appended(types::range(base, count.into()));
                }
                self.by_time.remove(&(known.last_append, producer.id));
                known.last_append = now;
            }
        }
        self.by_time.insert((now, producer.id));
        assert_eq!(self.known.len(), self.by_time.len(), "every producer known is in the order of times once");
        BatchOutcome::Appended(types::range(base, count.into()))
    }

    /// Where `count` records of `producer` lie, if they repeat an append that is
    /// remembered.
    pub(crate) fn recall(&self, producer: Producer, count: u32) -> Option<OffsetRange> {
        let known = self.known.get(&producer.id)?;
        let last = producer.sequence.advance(count.checked_sub(1)?);
        let append = Remembered { first: producer.sequence, last, base: Offset::ZERO };
        if known.epoch == producer.epoch && !known.is_over(producer.epoch) { known.repeats(append) } else { None }
    }

    /// What became of the append of `producer` that begins with its sequence, at
    /// log time `now`. One that has not landed never will: its epoch ends.
    pub(crate) fn resolve(&mut self, producer: Producer, now: Timestamp) -> Resolution {
        let Producer { id, epoch, sequence } = producer;
        let Some(known) = self.known.get_mut(&id) else {
            if self.may_have_known(id, now) {
                return Resolution::Forgotten;
            }
            self.make_room();
            let mut known = Known { epoch, last_append: now, appends: VecDeque::new(), ended: None };
            known.raise_epoch();
            self.known.insert(id, known);
            self.by_time.insert((now, id));
            return Resolution::Never;
        };
        if let Some(ended) = known.ended.as_ref().filter(|ended| ended.epoch == epoch) {
            return resolved_of(&ended.appends, ended.next, sequence);
        }
        if epoch < known.epoch {
            // Between the epoch that is remembered and this one nothing landed.
            let nothing_landed = known.ended.as_ref().is_none_or(|ended| epoch > ended.epoch);
            return if nothing_landed { Resolution::Never } else { Resolution::Forgotten };
        }
        if epoch > known.epoch {
            // Nothing of that epoch has come, and nothing is to come.
            known.end_epoch();
            known.epoch = epoch;
            known.raise_epoch();
            return Resolution::Never;
        }
        let resolved = resolved_of(&known.appends, known.next(), sequence);
        if resolved == Resolution::Never {
            known.raise_epoch();
        }
        resolved
    }

    fn make_room(&mut self) {
        while self.known.len() >= MAX_PRODUCERS
            && let Some((last_append, id)) = self.by_time.first().copied()
        {
            self.forget(last_append, id);
        }
    }

    /// The newest id ever forgotten; part of an image.
    pub(crate) fn forgotten(&self) -> ProducerId {
        self.forgotten
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    /// The producers as an image holds them, by id.
    pub(crate) fn image(&self) -> Vec<stored::Producer> {
        self.known
            .iter()
            .map(|(id, known)| stored::Producer {
                id: id.get(),
                epoch: known.epoch.get().into(),
                last_append: known.last_append.get(),
                appends: appends_image(&known.appends),
                ended: known.ended.as_ref().map(|ended| stored::EndedEpoch {
                    epoch: ended.epoch.get().into(),
                    next_sequence: ended.next.get(),
                    appends: appends_image(&ended.appends),
                }),
            })
            .collect()
    }

    /// The producers of an image.
    pub(crate) fn from_image(image: &[stored::Producer], forgotten: ProducerId) -> Result<Self, MachineError> {
        let mut producers = Self { forgotten, ..Self::default() };
        for producer in image {
            let id = ProducerId::new(producer.id);
            let epoch = epoch_of(producer.epoch)?;
            if producer.appends.is_empty() && producer.ended.is_none() {
                return Err(refuse(format!("producer {id} has no append")));
            }
            let appends = appends_of(&producer.appends)?;
            let last_append = Timestamp::new(producer.last_append);
            let ended = producer.ended.as_ref().map(ended_of).transpose()?;
            if ended.as_ref().is_some_and(|ended| ended.epoch > epoch) {
                return Err(refuse(format!("producer {id} has ended a later epoch than its own")));
            }
            let known = Known { epoch, last_append, appends, ended };
            if producers.known.insert(id, known).is_some() {
                return Err(refuse(format!("producer {id} twice")));
            }
            producers.by_time.insert((last_append, id));
        }
        if producers.known.len() > MAX_PRODUCERS {
            return Err(refuse(format!("{} producers", producers.known.len())));
        }
        Ok(producers)
    }
}

impl Known {
    /// The sequence that follows its last append.
    fn next(&self) -> Sequence {
        self.appends.back().map_or(Sequence::new(0), |append| append.last.advance(1))
    }

    /// Where an append lies that this one repeats.
    fn repeats(&self, append: Remembered) -> Option<OffsetRange> {
        // Most appends follow the last one, and need no look at the others:
        // what is remembered is far less than what sequences wrap after.
        if append.first == self.next() {
            return None;
        }
        let same = |earlier: &&Remembered| (earlier.first, earlier.last) == (append.first, append.last);
        let earlier = self.appends.iter().rev().find(same)?;
        quipu_protocol::point!("append-repeated");
        Some(earlier.range())
    }

    /// Whether nothing of an epoch can land any more. The last epoch that there is
    /// ends without a newer one.
    fn is_over(&self, epoch: ProducerEpoch) -> bool {
        epoch < self.epoch || self.ended.as_ref().is_some_and(|ended| ended.epoch == epoch)
    }

    /// Remembers the epoch as ended, with its appends. One in which nothing has
    /// landed leaves room for the one before, but the last one that there is.
    fn end_epoch(&mut self) {
        if self.appends.is_empty() && self.ended.is_some() && self.epoch != ProducerEpoch::new(i16::MAX) {
            return;
        }
        let (next, appends) = (self.next(), std::mem::take(&mut self.appends));
        self.ended = Some(EndedEpoch { epoch: self.epoch, next, appends });
    }

    /// Nothing of the epoch lands any more. The last one has no epoch after it:
    /// its producer is over.
    fn raise_epoch(&mut self) {
        quipu_protocol::point!("producer-epoch-raised");
        self.end_epoch();
        self.epoch = ProducerEpoch::new(self.epoch.get().saturating_add(1));
    }
}

impl Remembered {
    fn range(&self) -> OffsetRange {
        let count = (i64::from(self.last.get()) - i64::from(self.first.get())) & 0x7fff_ffff;
        types::range(self.base, count.cast_unsigned() + 1)
    }
}

/// What became of the append that begins with `sequence`, in an epoch with these
/// last appends whose next sequence is `next`.
fn resolved_of(appends: &VecDeque<Remembered>, next: Sequence, sequence: Sequence) -> Resolution {
    if let Some(append) = appends.iter().rev().find(|append| append.first == sequence) {
        return Resolution::Landed(append.range());
    }
    // Sequences wrap: what is less than half of them ahead has not come yet.
    let ahead = (i64::from(sequence.get()) - i64::from(next.get())) & 0x7fff_ffff;
    if ahead < 1 << 30 { Resolution::Never } else { Resolution::Forgotten }
}

fn appends_image(appends: &VecDeque<Remembered>) -> Vec<stored::Remembered> {
    let remembered = |append: &Remembered| stored::Remembered {
        first_sequence: append.first.get(),
        last_sequence: append.last.get(),
        base_offset: append.base.get(),
    };
    appends.iter().map(remembered).collect()
}

fn refuse(reason: String) -> MachineError {
    MachineError::new("a producer of a log's image", reason)
}

fn epoch_of(epoch: i32) -> Result<ProducerEpoch, MachineError> {
    i16::try_from(epoch).map(ProducerEpoch::new).map_err(|_| refuse(format!("epoch {epoch}")))
}

fn sequence_of(sequence: i32) -> Result<Sequence, MachineError> {
    if sequence < 0 { Err(refuse("a negative sequence".to_owned())) } else { Ok(Sequence::new(sequence)) }
}

fn ended_of(ended: &stored::EndedEpoch) -> Result<EndedEpoch, MachineError> {
    Ok(EndedEpoch {
        epoch: epoch_of(ended.epoch)?,
        next: sequence_of(ended.next_sequence)?,
        appends: appends_of(&ended.appends)?,
    })
}

fn appends_of(image: &[stored::Remembered]) -> Result<VecDeque<Remembered>, MachineError> {
    if image.len() > REMEMBERED_APPENDS {
        return Err(refuse(format!("{} appends", image.len())));
    }
    let mut appends = VecDeque::with_capacity(image.len());
    for append in image {
        if append.base_offset > LAST_OFFSET {
            return Err(refuse(format!("an append at offset {}", append.base_offset)));
        }
        appends.push_back(Remembered {
            first: sequence_of(append.first_sequence)?,
            last: sequence_of(append.last_sequence)?,
            base: Offset::new(append.base_offset),
        });
    }
    Ok(appends)
}

#[cfg(test)]
mod tests;
