//! The state image at a replica's floor.
//!
//! ```text
//!   image at the floor ── metadata of entries (floor, F] ──► image at F
//!                                                              │ in the journal, on stable storage
//!                                                              ▼
//!                                     snapshot stands at F ──► entries through F are purged
//! ```
//!
//! # Invariants
//! - Nothing is purged beyond the newest image in the journal: what the
//!   entries did is not lost with them, even if Kv is.
//! - The image ends before the entry that holds the first retained record, so
//!   that whoever installs it is sent that entry.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use openraft::{EntryPayload, StoredMembership as RaftStoredMembership};
use quipu_protocol::Index;
use quipu_storage::journal::{EntryId, Journal, ReplicaKey};
use quipu_storage::{Batch, Space};

use super::saved::{Saved, row_key};
use super::store::{POISONED, Shared};
use super::{Floor, Machine};
use crate::types::StoredMembership;
use crate::{entry, log_store, types};

/// How many bytes of entries are read at once.
const READ_BYTES: u64 = 1 << 20;

/// The replica's newest state image.
pub(super) async fn load(journal: &Journal, key: ReplicaKey) -> io::Result<Option<Saved>> {
    let Some((at, bytes)) = log_store::read_image(journal, key).await? else { return Ok(None) };
    let saved = Saved::decode(bytes).map_err(io::Error::other)?;
    assert_eq!(saved.applied, at, "a state image is as of the entry that it is kept under");
    Ok(Some(saved))
}

impl<M: Machine> Shared<M> {
    /// Raises the floor if entries of at least `step` bytes are not needed any
    /// more; returns where it is then.
    pub(crate) async fn raise_if_due(&self, step: u64) -> io::Result<Option<EntryId>> {
        let to = match M::FLOOR {
            // Nothing is trimmed by it: it would only be written.
            Floor::Applied if self.journal.low_space().is_some() => None,
            Floor::Applied if self.above_floor.load(Ordering::Relaxed) < step => None,
            Floor::Applied => self.applied_now(),
            Floor::Trimmed => self.dispensable(step)?,
        };
        match to {
            Some(to) => self.raise(to).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes sure that the state as of now, or a later one, is in the journal,
    /// on stable storage: no start brings back an older one.
    pub(crate) async fn keep(&self) -> io::Result<()> {
        let Some(now) = self.applied_now() else { return Ok(()) };
        loop {
            self.raise(now).await?;
            // One that the floor's keeper took before may come after it.
            let kept = self.journal.replica(self.key).and_then(|state| state.image);
            if kept.is_some_and(|kept| kept.index >= now.index) {
                return Ok(());
            }
        }
    }

    fn applied_now(&self) -> Option<EntryId> {
        self.state.read().expect(POISONED).applied.as_ref().map(types::entry_id)
    }

    /// The last entry that is not needed, if there is enough of that.
    fn dispensable(&self, step: u64) -> io::Result<Option<EntryId>> {
        let (found, applied) = {
            let state = self.state.read().expect(POISONED);
            let found = state.machine.dispensable(&*self.kv, self.key).map_err(io::Error::other)?;
            (found, state.applied.as_ref().map(types::entry_id))
        };
        let Some(found) = found.filter(|found| found.bytes >= step) else { return Ok(None) };
        let last = match found.needed {
            None => applied,
            Some(needed) => match needed.get().checked_sub(1) {
                None => None,
                Some(last) => self.journal.entry_id(self.key, Index::new(last)).map_err(io::Error::other)?,
            },
        };
        assert!(last <= applied, "floor {last:?} would be past applied {applied:?}");
        Ok(last)
    }

    /// Puts a state image as of the applied entry `to` into the journal.
    pub(super) async fn raise(&self, to: EntryId) -> io::Result<EntryId> {
        let there = || self.journal.replica(self.key).and_then(|state| state.image);
        if let Some(there) = there().filter(|there| there.index >= to.index) {
            return Ok(there);
        }
        let image = match M::FLOOR {
            Floor::Applied => Some(self.saved_now()?),
            Floor::Trimmed => self.replay(to).await?,
        };
        let Some(image) = image else { return Ok(there().unwrap_or(to)) };
        self.above_floor.store(0, Ordering::Relaxed);
        log_store::save_image(&self.journal, self.key, image.applied, image.encode().into()).await?;
        quipu_protocol::point!("floor-advanced");
        self.risen(&image.image)?;
        Ok(image.applied)
    }

    /// The state as it is now.
    fn saved_now(&self) -> io::Result<Saved> {
        let state = self.state.read().expect(POISONED);
        let applied = state.applied.as_ref().map(types::entry_id);
        let applied = applied.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "nothing was applied yet"))?;
        Ok(Saved { applied, membership: state.membership.clone(), image: state.machine.image() })
    }

    /// Applies the entries from the floor through `to` to the image there;
    /// `None` if that is as high already.
    async fn replay(&self, to: EntryId) -> io::Result<Option<Saved>> {
        let mut machine = self.state.read().expect(POISONED).machine.blank();
        let mut membership = StoredMembership::default();
        let mut next = Index::new(0);
        if let Some(floor) = load(&self.journal, self.key).await? {
            // A snapshot was taken over meanwhile.
            if floor.applied.index >= to.index {
                return Ok(None);
            }
            machine.install(&floor.image).map_err(io::Error::other)?;
            (membership, next) = (floor.membership, floor.applied.index.next());
        }
        let mut applied = None;
        while next <= to.index {
            let range = next.get()..to.index.next().get();
            let entries = log_store::read(&self.journal, self.key, range, READ_BYTES).await?;
            if entries.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("entry {next} is gone")));
            }
            for stored in entries {
                let id = stored.id;
                match entry::from_stored(stored)?.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Membership(set) => {
                        membership = RaftStoredMembership::new(Some(types::log_id(id)), set);
                    }
                    EntryPayload::Normal(command) => {
                        machine.apply(id, &command.body()).map_err(io::Error::other)?;
                    }
                }
                (next, applied) = (id.index.next(), Some(id));
            }
            if let Some(applied) = applied {
                // Its rows are kept already, or not needed any more.
                machine.saved(applied);
            }
        }
        assert_eq!(applied, Some(to), "a replay ends with the entry that it was for");
        Ok(Some(Saved { applied: to, membership, image: machine.image() }))
    }

    /// Tells the machine, and removes rows that are of no use any more.
    fn risen(&self, image: &Bytes) -> io::Result<()> {
        let rows = self.state.write().expect(POISONED).machine.rise(image).map_err(io::Error::other)?;
        let Some(rows) = rows else { return Ok(()) };
        let mut batch = Batch::new();
        let (start, end) = (row_key(self.key, rows.start), row_key(self.key, rows.end));
        batch.delete_range(Space::Offsets, start.to_vec(), end.to_vec());
        self.kv.write(batch).map_err(io::Error::other)
    }
}
