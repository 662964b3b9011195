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
    last: VecDeque<Landed>,
}

#[derive(Clone, Copy)]
struct Landed {
    first: Sequence,
    count: u32,
    base: u64,
}

impl Dedupe {
    /// The base offset under which the batch lands or has landed before, and
    /// whether it had. `end` is where a new one would land.
    pub(crate) fn apply(&mut self, batch: &BatchHeader, end: u64) -> Result<(u64, bool), v1::Error> {
        let Some(producer) = batch.producer else { return Ok((end, false)) };
        let (id, epoch, first, count) = (producer.id, producer.epoch, producer.sequence, batch.count);
        let zero = Sequence::new(0);
        match self.producers.get_mut(&id) {
            None if first != zero || id < self.oldest => return Err(v1::Error::unknown_producer(id)),
            Some(known) if epoch < known.epoch => return Err(v1::Error::producer_fenced(id, known.epoch)),
            Some(known) if epoch == known.epoch => {
                let repeats = |landed: &&Landed| (landed.first, landed.count) == (first, count);
                if let Some(landed) = known.last.iter().find(repeats) {
                    return Ok((landed.base, true));
                }
                if first != known.next {
                    return Err(v1::Error::out_of_sequence(id, known.next, first));
                }
            }
            Some(_) if first != zero => return Err(v1::Error::out_of_sequence(id, zero, first)),
            None | Some(_) => {
                self.producers.insert(id, Remembered { epoch, next: zero, last: VecDeque::new() });
            }
        }
        if let Some(known) = self.producers.get_mut(&id) {
            known.next = first.advance(count);
            known.last.push_back(Landed { first, count, base: end });
            if known.last.len() > REMEMBERED {
                known.last.pop_front();
            }
        }
        Ok((end, false))
    }

    /// As if all producers had been silent for longer than the expiry.
    /// Ids from `oldest` on were allotted since.
    pub(crate) fn forget(&mut self, oldest: ProducerId) {
        self.producers.clear();
        self.oldest = oldest;
    }
}
