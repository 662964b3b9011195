//! What a commit does to what the journal knows, from its frames' taking to
//! their callers' answers.
//!
//! ```text
//!   staged ─take─▶ encoded ─placed─▶ in flight ─completed─▶ Dones
//!                                        └──────abandoned─▶ Dones
//! ```

use super::{Item, State};
use crate::journal::Done;
use crate::journal::committer::Commit;
use crate::journal::format::Position;
use crate::journal::frame::{self, Frame};
use crate::journal::index::SealedReplica;

impl State {
    /// Takes the frames of a commit; their changes are applied by
    /// [`placed`](Self::placed).
    pub(in crate::journal) fn take(&mut self, commit: &Commit) -> Vec<Item> {
        let mut items: Vec<Item> = self.staged.drain(..commit.frames).collect();
        for item in items.iter_mut().filter(|item| item.hint) {
            let Frame::Committed(staged) = item.frame else { continue };
            let Some(replica) = self.replicas.get_mut(&item.key) else { continue };
            let (Some(limit), Some(newest)) = (replica.hinted.take(), replica.committed) else { continue };
            if newest.index <= limit {
                item.frame = Frame::Committed(newest);
            } else if let Some(last) = replica.tail.last().filter(|_| newest.index > staged.index) {
                // Of entries that are staged behind it: so is a frame that
                // says so.
                replica.hinted = Some(last.index);
                self.stage_hint(item.key, newest);
            }
        }
        items
    }

    /// Applies a commit's frames in file order, each with its byte and length.
    pub(in crate::journal) fn placed(&mut self, segment: u64, items: &[Item], places: &[(u64, u32)]) {
        for (item, (byte, length)) in items.iter().zip(places) {
            let frame = &item.frame;
            self.touched.insert(item.key);
            if frame.holds_entries() {
                self.held += u64::from(*length);
            }
            let replica = self.replicas.entry(item.key).or_default();
            let follows = replica.file.apply(frame.change(), Position { segment, byte: *byte }, *length);
            assert!(follows, "{}: frames are staged in the order that was checked", item.key);
            if matches!(frame, Frame::StateImage { .. }) {
                replica.images = replica.images.saturating_sub(1);
            }
            if matches!(frame, Frame::Truncate { .. })
                && let Some(cut) = &mut replica.cut
            {
                cut.staged -= 1;
                cut.segment = segment;
            }
            if let Frame::Entries(entries) = frame {
                self.counters.entries += entries.len() as u64;
                self.counters.payload_bytes += frame::payload_bytes(entries);
            }
        }
    }

    /// What was in flight is durable; returns whom to tell.
    pub(in crate::journal) fn completed(&mut self) -> Vec<Done> {
        let items = std::mem::take(&mut self.in_flight);
        if let Some(last) = items.last() {
            self.synced = last.ticket;
        }
        for item in &items {
            if matches!(item.frame, Frame::StateImage { .. })
                && let Some(replica) = self.replicas.get_mut(&item.key)
            {
                replica.image = replica.file.image;
            }
        }
        while let Some((key, append)) = self.cache.overdue(self.synced) {
            if let Some(replica) = self.replicas.get_mut(&key) {
                self.cache.evict(&mut replica.tail, append);
            }
        }
        items.into_iter().filter_map(|item| item.done).collect()
    }

    /// Nothing will be durable any more; returns whom to tell.
    pub(in crate::journal) fn abandoned(&mut self) -> Vec<Done> {
        let items = std::mem::take(&mut self.in_flight).into_iter().chain(std::mem::take(&mut self.staged));
        items.filter_map(|item| item.done).chain(std::mem::take(&mut self.closers)).collect()
    }

    /// What the index has to take over with segment `id`, all of whose frames
    /// were placed, and how many bytes of entries were written to it.
    pub(in crate::journal) fn seal(&mut self, id: u64) -> (Vec<SealedReplica>, u64) {
        self.writable.remove(&id);
        let touched = std::mem::take(&mut self.touched).into_iter();
        let replicas = touched.filter_map(|key| Some(self.replicas.get_mut(&key)?.file.seal(key, id))).collect();
        (replicas, std::mem::take(&mut self.held))
    }
}
