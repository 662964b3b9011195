//! What a log remembers of its producers, as `quipu.v1` promises it: written
//! from the promise and not from the server's code, so that the two can differ.

use std::collections::{BTreeMap, VecDeque};

use quipu_protocol::batch::BatchHeader;
use quipu_protocol::{ProducerEpoch, ProducerId, Sequence, v1};

/// How many appends of a producer are remembered.
const REMEMBERED: usize = 64;

#[derive(Default)]
pub(crate) struct Dedupe {
    producers: BTreeMap<ProducerId, Remembered>,
    /// Unknown ids below this one were allotted too long ago.
    oldest: ProducerId,
}

struct Remembered {
    epoch: ProducerEpoch,
    next: Sequence,
    /// Of this epoch, and of those before what there is room for.
    last: VecDeque<Landed>,
    /// The epoch that a resolution ended, and from where on nothing of it lands.
    ended: Option<(ProducerEpoch, Sequence)>,
}

#[derive(Clone, Copy)]
struct Landed {
    epoch: ProducerEpoch,
    first: Sequence,
    count: u32,
    base: u64,
}

/// What became of an append, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    Landed { start: u64, end: u64 },
    Never,
    Forgotten,
}

impl Dedupe {
    /// The base offset of the append that `batch` repeats, if that is remembered.
    /// Refused if nobody can tell any more.
    pub(crate) fn recall(&self, batch: &BatchHeader) -> Result<Option<u64>, v1::Error> {
        let Some(producer) = batch.producer else { return Ok(None) };
        match self.producers.get(&producer.id) {
            None if producer.id < self.oldest => Err(v1::Error::unknown_producer(producer.id)),
            Some(known) if known.epoch == producer.epoch => {
                let asked = (producer.epoch, producer.sequence, batch.count);
                let repeats = |landed: &&Landed| (landed.epoch, landed.first, landed.count) == asked;
                Ok(known.last.iter().find(repeats).map(|landed| landed.base))
            }
            _ => Ok(None),
        }
    }

    /// The base offset under which the batch lands or has landed before, and
    /// whether it had. `end` is where a new one would land.
    pub(crate) fn apply(&mut self, batch: &BatchHeader, end: u64) -> Result<(u64, bool), v1::Error> {
        let Some(producer) = batch.producer else { return Ok((end, false)) };
        if let Some(base) = self.recall(batch)? {
            return Ok((base, true));
        }
        let (id, epoch, first, count) = (producer.id, producer.epoch, producer.sequence, batch.count);
        let zero = Sequence::new(0);
        match self.producers.get(&id) {
            None if first != zero => return Err(v1::Error::unknown_producer(id)),
            Some(known) if epoch < known.epoch => return Err(v1::Error::producer_fenced(id, known.epoch)),
            Some(known) if epoch == known.epoch && first != known.next => {
                return Err(v1::Error::out_of_sequence(id, known.next, first));
            }
            Some(known) if epoch > known.epoch && first != zero => {
                return Err(v1::Error::out_of_sequence(id, zero, first));
            }
            None | Some(_) => {}
        }
        let known = self.producers.entry(id).or_insert_with(|| Remembered::new(epoch));
        known.epoch = epoch;
        known.next = first.advance(count);
        known.last.push_back(Landed { epoch, first, count, base: end });
        if known.last.len() > REMEMBERED {
            known.last.pop_front();
        }
        Ok((end, false))
    }

    /// What became of the append of this producer and epoch that begins with
    /// `sequence`: one that has not landed never will.
    pub(crate) fn resolve(&mut self, id: ProducerId, epoch: ProducerEpoch, sequence: Sequence) -> Resolved {
        if !self.producers.contains_key(&id) && id < self.oldest {
            return Resolved::Forgotten;
        }
        let known = self.producers.entry(id).or_insert_with(|| Remembered::new(epoch));
        let is_it = |landed: &&Landed| (landed.epoch, landed.first) == (epoch, sequence);
        if let Some(landed) = known.last.iter().find(is_it) {
            return Resolved::Landed { start: landed.base, end: landed.base + u64::from(landed.count) };
        }
        let never_from = match known.ended {
            Some((ended, from)) if ended == epoch => from,
            _ if epoch < known.epoch => return Resolved::Forgotten,
            _ if epoch > known.epoch => Sequence::new(0),
            _ => known.next,
        };
        if sequence < never_from {
            return Resolved::Forgotten;
        }
        if epoch >= known.epoch {
            known.ended = Some((epoch, never_from));
            known.epoch = ProducerEpoch::new(epoch.get() + 1);
            known.next = Sequence::new(0);
        }
        Resolved::Never
    }

    /// As if all producers had been silent for longer than the expiry.
    /// Ids from `oldest` on were allotted since.
    pub(crate) fn forget(&mut self, oldest: ProducerId) {
        self.producers.clear();
        self.oldest = oldest;
    }
}

impl Remembered {
    fn new(epoch: ProducerEpoch) -> Self {
        Self { epoch, next: Sequence::new(0), last: VecDeque::new(), ended: None }
    }
}
