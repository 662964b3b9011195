//! How many bytes of each segment are worth keeping.
//!
//! Decides which segments are rewritten, not which are let go of: that is
//! decided by looking at the rows.

use std::collections::{BTreeMap, BTreeSet};

use super::{FrameRef, ROWS, keys, rows};
use crate::kv::{Batch, Kv, KvError, Space};

/// Bytes of a segment's frames of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::journal) struct Share {
    /// All that were ever written to it.
    pub(in crate::journal) held: u64,
    /// Those that have a row.
    pub(in crate::journal) living: u64,
}

/// The share of every sealed segment, as the rows have it.
#[derive(Debug, Default)]
pub(in crate::journal) struct Living {
    shares: BTreeMap<u64, Share>,
    changed: BTreeSet<u64>,
}

impl Living {
    /// As kept in `kv`.
    pub(in crate::journal) fn load(kv: &dyn Kv) -> Result<Self, KvError> {
        let mut loaded = Self::default();
        let mut start = keys::segment(b's', 0).to_vec();
        loop {
            let page = kv.scan(Space::Index, &start, b"t", ROWS)?;
            let shares = page.iter().filter_map(|(key, row)| Some((keys::read_segment(key)?, rows::read_share(row)?)));
            loaded.shares.extend(shares);
            match page.last() {
                Some((last, _)) if page.len() == ROWS => start = [&last[..], &[0]].concat(),
                _ => return Ok(loaded),
            }
        }
    }

    /// What segment `id` holds.
    pub(in crate::journal) fn share(&self, id: u64) -> Share {
        self.shares.get(&id).copied().unwrap_or_default()
    }

    /// Bytes of all frames that have a row.
    pub(in crate::journal) fn bytes(&self) -> u64 {
        self.shares.values().map(|share| share.living).sum()
    }

    /// Segment `id` was sealed with frames of `held` bytes.
    pub(super) fn sealed(&mut self, id: u64, held: u64) {
        self.shares.entry(id).or_default().held = held;
        self.changed.insert(id);
    }

    /// A frame got its row.
    pub(super) fn add(&mut self, frame: &FrameRef) {
        let share = self.shares.entry(frame.place.segment).or_default();
        share.living += u64::from(frame.length);
        self.changed.insert(frame.place.segment);
    }

    /// A frame lost its row.
    pub(super) fn remove(&mut self, frame: &FrameRef) {
        let Some(share) = self.shares.get_mut(&frame.place.segment) else { return };
        share.living = share.living.saturating_sub(frame.length.into());
        self.changed.insert(frame.place.segment);
    }

    pub(super) fn forget_through(&mut self, id: u64) {
        self.shares = self.shares.split_off(&(id + 1));
        self.changed = self.changed.split_off(&(id + 1));
    }

    /// Adds the rows of what changed to `batch`: with the change itself.
    pub(super) fn put_changed(&mut self, batch: &mut Batch) {
        for id in std::mem::take(&mut self.changed) {
            batch.put(Space::Index, keys::segment(b's', id), rows::share(self.share(id)));
        }
    }
}
