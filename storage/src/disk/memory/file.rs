//! One file of a [`MemoryDisk`](super::MemoryDisk): what the running process
//! reads, and what the medium holds.
//!
//! ```text
//!   live      │ a a a │ b' b' │ c' c' │ d d ...   what reads see
//!   unsynced  │       │ b     │       │           what the medium holds there;
//!   lost      │       │       │ c     │           the rest is the same on both
//! ```
//!
//! A sync forgets `unsynced`. One that fails moves it to `lost`: the page cache
//! calls those pages clean now, so no later sync writes them, and only writing
//! them again puts them back among the unsynced. Direct access goes past the
//! page cache: there a sync that fails leaves what reads see from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// What a medium writes whole, in bytes; what a power cut loses is a choice
/// of these.
pub(super) const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// What the medium holds of a sector; `None` is zeros, as behind a file's end.
type Held = Option<Box<Sector>>;

/// A file's bytes, with what a power cut would do to them.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    live: Vec<u8>,
    synced_length: usize,
    unsynced: BTreeMap<usize, Held>,
    lost: BTreeMap<usize, Held>,
    unreadable: BTreeSet<usize>,
}

impl File {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.live
    }

    /// How many bytes a write that ends at `end` would add.
    pub(super) fn growth(&self, end: usize) -> usize {
        end.saturating_sub(self.live.len())
    }

    /// Whether any sector of `range` cannot be read.
    pub(super) fn is_unreadable(&self, range: Range<usize>) -> bool {
        self.unreadable.range(sectors(range)).next().is_some()
    }

    pub(super) fn break_reads(&mut self, range: Range<usize>) {
        self.unreadable.extend(sectors(range));
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        for sector in sectors(offset..end) {
            if let Some(held) = self.lost.remove(&sector) {
                self.unsynced.insert(sector, held);
            } else if !self.unsynced.contains_key(&sector) {
                self.unsynced.insert(sector, self.sector(sector));
            }
            // A real disk puts a bad sector elsewhere when it is written.
            self.unreadable.remove(&sector);
        }
        if end > self.live.len() {
            self.live.resize(end, 0);
        }
        self.live[offset..end].copy_from_slice(bytes);
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.synced_length = self.live.len();
    }

    pub(super) fn fail_sync(&mut self) {
        self.lost.append(&mut self.unsynced);
    }

    /// As [`fail_sync`](Self::fail_sync), of a file with direct access.
    pub(super) fn fail_direct_sync(&mut self, landed: bool) {
        for (sector, held) in std::mem::take(&mut self.unsynced) {
            if !landed && sector * SECTOR < self.live.len() {
                revert(&held, slice(&mut self.live, sector));
            }
        }
        self.synced_length = self.live.len();
    }

    /// Changes bytes on the medium behind everyone's back; a page cache that
    /// held them is none the wiser, but nothing here relies on stale reads.
    pub(super) fn corrupt(&mut self, offset: usize, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            self.live[at] = *byte;
            for held in [&mut self.unsynced, &mut self.lost] {
                if let Some(sector) = held.get_mut(&(at / SECTOR)) {
                    sector.get_or_insert_with(|| Box::new([0; SECTOR]))[at % SECTOR] = *byte;
                }
            }
        }
    }

    /// Drops everything from `length` on, from the medium too.
    pub(super) fn shorten(&mut self, length: usize) {
        self.live.truncate(length);
        self.synced_length = self.synced_length.min(length);
        for held in [&mut self.unsynced, &mut self.lost] {
            held.split_off(&length.div_ceil(SECTOR));
        }
    }

    /// What is left after a power cut, as `chance` has it.
    pub(super) fn after_power_cut(&self, chance: &mut StdRng) -> Self {
        let mut left = self.live.clone();
        let fate = Fate::draw(chance, self.live.len().div_ceil(SECTOR));
        for (sector, held) in &self.unsynced {
            fate.decide(chance, *sector, held, slice(&mut left, *sector));
        }
        let lost_landed = landed_without_sync(chance);
        for (sector, held) in &self.lost {
            if !lost_landed {
                revert(held, slice(&mut left, *sector));
            }
        }
        left.truncate(fate.length(chance, self.synced_length, self.live.len()));
        let synced_length = left.len();
        Self { live: left, synced_length, unreadable: self.unreadable.clone(), ..Self::default() }
    }

    fn sector(&self, sector: usize) -> Held {
        if sector * SECTOR >= self.live.len() {
            return None;
        }
        let mut held = Box::new([0; SECTOR]);
        let start = (sector * SECTOR).min(self.live.len());
        let end = (start + SECTOR).min(self.live.len());
        held[..end - start].copy_from_slice(&self.live[start..end]);
        Some(held)
    }
}

/// What a power cut does to a file's unsynced sectors as a whole. The plain
/// fates are drawn as often as the mixed ones: they are the likeliest in
/// life, and among many sectors an even mix would never produce them.
enum Fate {
    /// None of the writes had reached the medium.
    AllOld,
    /// All of them had.
    AllNew,
    /// Those below this sector had.
    Prefix(usize),
    /// Each sector is old, new, zeros or garbage, by itself.
    Mixed,
}

impl Fate {
    fn draw(chance: &mut StdRng, sectors: usize) -> Self {
        match chance.random_range(0..5) {
            0 => Self::AllOld,
            1 => Self::AllNew,
            2 => Self::Prefix(chance.random_range(0..=sectors)),
            _ => Self::Mixed,
        }
    }

    fn decide(&self, chance: &mut StdRng, sector: usize, held: &Held, left: &mut [u8]) {
        match self {
            Self::AllNew => {}
            Self::AllOld => revert(held, left),
            Self::Prefix(end) if sector < *end => {}
            Self::Prefix(_) => revert(held, left),
            Self::Mixed => match chance.random_range(0..8) {
                0..=2 => {}
                3..=5 => revert(held, left),
                6 => left.fill(0),
                _ => chance.fill_bytes(left),
            },
        }
    }

    fn length(&self, chance: &mut StdRng, synced: usize, live: usize) -> usize {
        match self {
            Self::AllNew => live,
            Self::AllOld => synced,
            Self::Prefix(end) => (end * SECTOR).clamp(synced, live),
            Self::Mixed => (chance.random_range(synced..=live) / SECTOR * SECTOR).clamp(synced, live),
        }
    }
}

/// After a failed sync the medium may hold either; mostly it is the old.
pub(super) fn landed_without_sync(chance: &mut StdRng) -> bool {
    chance.random_range(0..4) == 0
}

fn revert(held: &Held, left: &mut [u8]) {
    match held {
        Some(held) => left.copy_from_slice(&held[..left.len()]),
        None => left.fill(0),
    }
}

fn slice(bytes: &mut [u8], sector: usize) -> &mut [u8] {
    let end = ((sector + 1) * SECTOR).min(bytes.len());
    &mut bytes[sector * SECTOR..end]
}

fn sectors(bytes: Range<usize>) -> Range<usize> {
    bytes.start / SECTOR..bytes.end.div_ceil(SECTOR)
}
