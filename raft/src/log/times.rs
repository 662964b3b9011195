//! Of what time a log's records are, roughly: the newest timestamp of each run
//! of rows.
//!
//! ```text
//!   rows     r r r r │ r r r r │ r r r r │ r r
//!   blocks   newest 7│ newest 9│ newest 8│ newest 9
//! ```
//!
//! Timestamps are the producers' and come in any order. The first record at or
//! after a time lies in the first block whose newest one is not before it; the
//! rows of that block, and then one entry, tell where. Of a log with many rows
//! a block has many: when there are more than [`MAX_BLOCKS`], two become one.
//!
//! Part of the state: the same on all replicas, and in every image.

use std::collections::VecDeque;
use std::ops::Range;

use quipu_protocol::{Offset, Timestamp, stored};

use crate::machine::MachineError;

/// The most blocks.
const MAX_BLOCKS: usize = 512;

/// How many rows a block has as long as there are few.
const FEWEST_ROWS: u64 = 16;

/// No log has as many rows.
const MOST_ROWS: u64 = 1 << 62;

/// The newest timestamp of each run of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeIndex {
    /// How many rows a block takes.
    rows: u64,
    /// In order of offsets, without a gap.
    blocks: VecDeque<Block>,
}

/// A run of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    /// Its first offset.
    base: Offset,
    /// How many rows it has.
    rows: u64,
    /// The newest timestamp in them.
    newest: Timestamp,
}

impl Default for TimeIndex {
    fn default() -> Self {
        Self { rows: FEWEST_ROWS, blocks: VecDeque::new() }
    }
}

impl TimeIndex {
    /// Adds the row after the last one.
    pub(super) fn push(&mut self, base: Offset, newest: Timestamp) {
        match self.blocks.back_mut().filter(|last| last.rows < self.rows) {
            Some(last) => {
                last.rows += 1;
                last.newest = last.newest.max(newest);
            }
            None => self.blocks.push_back(Block { base, rows: 1, newest }),
        }
        if self.blocks.len() > MAX_BLOCKS {
            self.halve();
        }
    }

    /// Makes one block of two.
    fn halve(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        let mut blocks = blocks.into_iter();
        while let Some(mut block) = blocks.next() {
            if let Some(next) = blocks.next() {
                block.rows = block.rows.saturating_add(next.rows);
                block.newest = block.newest.max(next.newest);
            }
            self.blocks.push_back(block);
        }
        self.rows = self.rows.saturating_mul(2).min(MOST_ROWS);
    }

    /// Forgets the blocks before `start`, of a log that ends at `end`.
    pub(super) fn trim(&mut self, start: Offset, end: Offset) {
        while self.blocks.get(1).is_some_and(|second| second.base <= start) {
            self.blocks.pop_front();
        }
        if start == end {
            *self = Self::default();
        }
    }

    /// The first block with an offset from `from` on that may hold a record at
    /// or after `at`, as far as it lies from `from` on; of a log that ends at
    /// `end`.
    pub(super) fn find(&self, from: Offset, at: Timestamp, end: Offset) -> Option<Range<Offset>> {
        let ends = self.blocks.iter().skip(1).map(|block| block.base).chain([end]);
        let mut blocks = self.blocks.iter().zip(ends);
        let (block, end) = blocks.find(|(block, end)| *end > from && block.newest >= at)?;
        Some(block.base.max(from)..end)
    }

    pub(super) fn image(&self) -> stored::TimeIndex {
        let block =
            |block: &Block| stored::TimeBlock { base: block.base.get(), rows: block.rows, newest: block.newest.get() };
        stored::TimeIndex { rows: self.rows, blocks: self.blocks.iter().map(block).collect() }
    }

    /// Reads what [`image`](Self::image) wrote, of a log that ends at `end`.
    pub(super) fn from_image(image: Option<stored::TimeIndex>, end: Offset) -> Result<Self, MachineError> {
        let refuse = |reason: String| Err(MachineError::new("a log's index of times", reason));
        let Some(image) = image else { return Ok(Self::default()) };
        if image.blocks.len() > MAX_BLOCKS || !(FEWEST_ROWS..=MOST_ROWS).contains(&image.rows) {
            return refuse(format!("{} blocks of {} rows are out of bounds", image.blocks.len(), image.rows));
        }
        let ends = image.blocks.iter().skip(1).map(|block| block.base).chain([end.get()]);
        if let Some((block, end)) = image.blocks.iter().zip(ends).find(|(block, end)| block.base >= *end) {
            return refuse(format!("a block begins at {} and ends at {end}", block.base));
        }
        if let Some(block) = image.blocks.iter().find(|block| !(1..=MOST_ROWS).contains(&block.rows)) {
            return refuse(format!("a block has {} rows", block.rows));
        }
        let block = |block: &stored::TimeBlock| Block {
            base: Offset::new(block.base),
            rows: block.rows,
            newest: Timestamp::new(block.newest),
        };
        Ok(Self { rows: image.rows, blocks: image.blocks.iter().map(block).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[i64]) -> TimeIndex {
        let mut index = TimeIndex::default();
        for (base, time) in (0..).zip(times) {
            index.push(Offset::new(base), Timestamp::new(*time));
        }
        index
    }

    /// The first row from `from` on that is at or after `at`, found by way of
    /// the blocks; and how many rows were looked at.
    fn first(index: &TimeIndex, times: &[i64], from: u64, at: i64) -> (Option<u64>, u64) {
        let end = Offset::new(times.len() as u64);
        let (mut from, mut looked) = (Offset::new(from), 0);
        while let Some(block) = index.find(from, Timestamp::new(at), end) {
            for row in block.start.get()..block.end.get() {
                looked += 1;
                if times[usize::try_from(row).unwrap()] >= at {
                    return (Some(row), looked);
                }
            }
            from = block.end;
        }
        (None, looked)
    }

    #[test]
    fn blocks_are_bounded_and_few_rows_are_looked_at() {
        let times: Vec<i64> = (0..100_000).collect();
        let index = of(&times);
        assert!(index.blocks.len() <= MAX_BLOCKS && index.blocks.len() > MAX_BLOCKS / 4, "{}", index.blocks.len());
        for at in (0..100_000).step_by(997) {
            let (found, looked) = first(&index, &times, 0, at);
            assert_eq!(found, u64::try_from(at).ok());
            assert!(looked <= index.rows, "{looked} rows for one block of {}", index.rows);
        }
        assert_eq!(first(&index, &times, 0, 100_000), (None, 0), "nothing is looked at in vain");
    }

    #[test]
    fn trimmed_blocks_are_forgotten_and_a_time_from_among_them_misleads_nobody() {
        // One record claims to be from far ahead, and is trimmed.
        let mut times: Vec<i64> = (0..10_000).collect();
        times[100] = 1 << 40;
        let mut index = of(&times);
        let end = Offset::new(10_000);
        index.trim(Offset::new(101), end);
        let (found, looked) = first(&index, &times, 101, 9_000);
        assert_eq!(found, Some(9_000));
        assert!(looked <= 2 * index.rows, "{looked}");
        index.trim(Offset::new(9_999), end);
        assert_eq!(index.blocks.len(), 1);
        index.trim(end, end);
        assert_eq!(index, TimeIndex::default());
    }

    #[test]
    fn image_that_contradicts_itself_is_refused() {
        let end = Offset::new(40);
        let good = of(&(0..40).collect::<Vec<_>>()).image();
        TimeIndex::from_image(Some(good.clone()), end).unwrap();
        let refused = |change: fn(&mut stored::TimeIndex)| {
            let mut image = good.clone();
            change(&mut image);
            TimeIndex::from_image(Some(image), end).unwrap_err();
        };
        refused(|image| image.rows = 0);
        refused(|image| image.rows = u64::MAX);
        refused(|image| image.blocks[2].base = 40);
        refused(|image| image.blocks[1].base = 0);
        refused(|image| image.blocks[0].rows = 0);
        refused(|image| image.blocks.extend(vec![stored::TimeBlock::default(); MAX_BLOCKS]));
    }

    #[test]
    fn first_row_at_or_after_a_time_is_found_whatever_the_order() {
        // A linear congruence: the same numbers at every run.
        let mut number = 1_u64;
        let mut below = |bound: u64| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (number >> 33) % bound
        };
        for _ in 0..200 {
            let count = usize::try_from(1 + below(3_000)).unwrap();
            let times: Vec<i64> = (0..count).map(|_| i64::try_from(below(100)).unwrap() - 50).collect();
            let mut index = of(&times);
            let start = usize::try_from(below(count as u64 + 1)).unwrap();
            index.trim(Offset::new(start as u64), Offset::new(count as u64));
            for at in (-60..60).step_by(7) {
                let expected = (start..count).find(|row| times[*row] >= at).map(|row| row as u64);
                assert_eq!(first(&index, &times, start as u64, at).0, expected, "at {at} from {start} of {times:?}");
            }
            let again = TimeIndex::from_image(Some(index.image()), Offset::new(count as u64)).unwrap();
            assert_eq!(again, index);
        }
    }
}
