//! An ordered map that forgets at a power cut what was not flushed.
//!
//! ```text
//!   durable ──unflushed batches, in order──► live
//! ```
//!
//! A power cut keeps `durable` and some prefix of the batches after it, as an
//! engine without a log of its own does that may flush early.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Batch, Change, Kv, KvError, Space};

/// A [`Kv`] in memory.
pub struct MemoryKv {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Pairs,
    durable: Pairs,
    unflushed: Vec<Batch>,
    unflushed_bytes: u64,
    flushed_bytes: u64,
    closed: bool,
}

type Pairs = BTreeMap<Space, BTreeMap<Bytes, Bytes>>;

impl MemoryKv {
    /// An empty one.
    pub fn new() -> Self {
        Self::of(Pairs::new())
    }

    fn of(durable: Pairs) -> Self {
        Self { state: Mutex::new(State { live: durable.clone(), durable, ..State::default() }) }
    }

    /// The store as found after a power cut: the state after some prefix of
    /// the batches that holds at least everything flushed, chosen by `seed`.
    /// Closes this one; may be called again with another seed.
    #[must_use]
    pub fn lose_unflushed(&self, seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut state = self.state();
        state.closed = true;
        let kept = match chance.random_range(0..3) {
            0 => 0,
            _ => chance.random_range(0..=state.unflushed.len()),
        };
        let mut left = state.durable.clone();
        for batch in &state.unflushed[..kept] {
            apply(&mut left, batch);
        }
        Self::of(left)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, KvError> {
        let state = self.state();
        if state.closed { Err(KvError::Closed) } else { Ok(state) }
    }
}

impl Default for MemoryKv {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn flush(&mut self) {
        for batch in self.unflushed.drain(..) {
            apply(&mut self.durable, &batch);
        }
        self.flushed_bytes += std::mem::take(&mut self.unflushed_bytes);
    }

    fn range<'a>(
        &'a self,
        space: Space,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> impl DoubleEndedIterator<Item = (Bytes, Bytes)> + use<'a> {
        let pairs = self.live.get(&space).map(|pairs| pairs.range::<[u8], _>(bounds));
        pairs.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone()))
    }
}

impl Kv for MemoryKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.open()?.live.get(&space).and_then(|pairs| pairs.get(key)).cloned())
    }

    fn scan(&self, space: Space, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        let state = self.open()?;
        if start >= end {
            return Ok(Vec::new());
        }
        Ok(state.range(space, (Bound::Included(start), Bound::Excluded(end))).take(limit).collect())
    }

    fn last_before(&self, space: Space, lower: &[u8], key: &[u8]) -> Result<Option<(Bytes, Bytes)>, KvError> {
        let state = self.open()?;
        if lower > key {
            return Ok(None);
        }
        Ok(state.range(space, (Bound::Included(lower), Bound::Included(key))).next_back())
    }

    fn write(&self, batch: Batch) -> Result<(), KvError> {
        let mut state = self.open()?;
        apply(&mut state.live, &batch);
        state.unflushed_bytes += size(&batch);
        state.unflushed.push(batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), KvError> {
        self.open()?.flush();
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        self.state().flushed_bytes
    }

    fn close(&self) -> Result<(), KvError> {
        let mut state = self.open()?;
        state.flush();
        state.closed = true;
        Ok(())
    }
}

fn apply(pairs: &mut Pairs, batch: &Batch) {
    for change in batch.changes() {
        match change {
            Change::Put { space, key, value } => {
                pairs.entry(*space).or_default().insert(key.clone(), value.clone());
            }
            Change::Delete { space, key } => {
                pairs.entry(*space).or_default().remove(key);
            }
            Change::DeleteRange { space, start, end } => {
                let pairs = pairs.entry(*space).or_default();
                let gone: Vec<_> = pairs.range(start.clone()..end.clone()).map(|(key, _)| key.clone()).collect();
                for key in gone {
                    pairs.remove(&key);
                }
            }
        }
    }
}

fn size(batch: &Batch) -> u64 {
    let sizes = batch.changes().iter().map(|change| match change {
        Change::Put { key, value, .. } => key.len() + value.len(),
        Change::Delete { key, .. } => key.len(),
        Change::DeleteRange { start, end, .. } => start.len() + end.len(),
    });
    sizes.map(|size| size as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::{Batch, Kv, MemoryKv, Space};
    use crate::kv::conformance;

    #[test]
    fn holds_what_every_kv_holds() {
        conformance::run_all(|| (MemoryKv::new(), ()));
    }

    fn put(kv: &MemoryKv, space: Space, number: u8) {
        let mut batch = Batch::new();
        batch.put(space, vec![number], vec![number]);
        kv.write(batch).expect("a write");
    }

    #[test]
    fn power_cut_leaves_a_prefix_of_the_batches_with_all_that_was_flushed() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let kv = MemoryKv::new();
            (0..4).for_each(|number| put(&kv, Space::ALL[usize::from(number) % 3], number));
            kv.flush().expect("a flush");
            (4..10).for_each(|number| put(&kv, Space::ALL[usize::from(number) % 3], number));
            let left = kv.lose_unflushed(seed);
            let holds = |number: u8| {
                let space = Space::ALL[usize::from(number) % 3];
                left.get(space, &[number]).expect("a read").is_some()
            };
            let length = (0..10).take_while(|number| holds(*number)).count();
            assert!(length >= 4, "seed {seed} lost something flushed");
            assert!(!(0..10).skip(length).any(holds), "seed {seed} left a gap");
            lengths.insert(length);
            assert!(kv.get(Space::Index, &[0]).is_err(), "the store outlived its power");
        }
        assert_eq!(lengths, (4..=10).collect(), "some prefixes are never left");
    }
}
