//! One replica: as its callers see it, with everything staged, and as the file
//! has it, with everything written.

use std::collections::BTreeMap;

use quipu_protocol::Index;

use crate::journal::entry::{EntryId, Vote};
use crate::journal::error::Damage;
use crate::journal::frame::Frame;
use crate::journal::index::{FileReplica, FrameRef, ImageRef};
use crate::journal::tail_cache::Tail;

/// One replica, as callers see it and as the file has it.
#[derive(Debug, Default)]
pub(in crate::journal) struct Replica {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<EntryId>,
    pub(super) committed: Option<EntryId>,
    /// A frame that says how far the replica has committed is staged. It may
    /// say so up to this entry: what follows is written behind it.
    pub(super) hinted: Option<Index>,
    pub(super) retired: bool,
    /// Truncations that the index does not reflect yet.
    pub(super) cut: Option<Cut>,
    /// The newest state image that is on stable storage.
    pub(super) image: Option<ImageRef>,
    /// How many later ones are staged and not written yet.
    pub(super) images: usize,
    /// Frames that were mended or written again and that the index does not
    /// reflect yet, by their first entry: on stable storage at another place than
    /// it says.
    pub(in crate::journal) moved: BTreeMap<Index, FrameRef>,
    /// Damage that was found since the journal was opened, the latest.
    pub(in crate::journal) found: Option<Damage>,
    /// How often damage was found since the journal was opened.
    pub(in crate::journal) findings: u64,
    /// Damage that was found as the journal was opened: the replica takes
    /// nothing until it is mended.
    pub(in crate::journal) blocked: Option<Damage>,
    pub(in crate::journal) tail: Tail,
    pub(in crate::journal) file: FileReplica,
}

impl Replica {
    /// A replica as recovered.
    pub(in crate::journal) fn recovered(file: FileReplica) -> Self {
        Self {
            vote: file.vote,
            purged: file.purged,
            committed: file.committed,
            hinted: None,
            retired: file.retired,
            // The index reflects it with the segment that is open.
            cut: file.truncated().map(|lowest| Cut { lowest, staged: 0, segment: 0 }),
            image: file.image,
            images: 0,
            moved: file.relocated().iter().map(|frame| (frame.first, frame.clone())).collect(),
            found: None,
            findings: 0,
            blocked: file.damage,
            tail: Tail::after(file.last),
            file,
        }
    }

    pub(in crate::journal) fn purged(&self) -> Option<EntryId> {
        self.purged
    }

    /// What is known to be damaged.
    pub(in crate::journal) fn damage(&self) -> Option<Damage> {
        self.file.damage.or(self.found).filter(|_| !self.retired)
    }

    /// What was found damaged as the journal was opened, if nobody can tell what
    /// it was: the replica may lack a vote, or what it acknowledged.
    pub(in crate::journal) fn lost(&self) -> Option<Damage> {
        self.blocked.filter(|damage| !self.retired && !damage.part.is_mendable())
    }

    /// Whether an indexed frame has to be written again if its segment is to
    /// go; `None` if that cannot be told before the next segment is indexed.
    pub(in crate::journal) fn wants(&self, frame: &FrameRef) -> Option<bool> {
        if self.retired || self.purged.is_some_and(|purged| frame.end() <= purged.index.next()) {
            return Some(false);
        }
        if self.moved.contains_key(&frame.first) {
            return None;
        }
        if self.cut.as_ref().is_some_and(|cut| cut.lowest < frame.end()) { None } else { Some(true) }
    }

    /// Whether an indexed frame is nowhere else, and still needed; `None` if that
    /// cannot be told before the next segment is indexed.
    pub(in crate::journal) fn needs(&self, frame: &FrameRef) -> Option<bool> {
        match self.wants(frame) {
            // Where something is damaged, the copy may be what is.
            None if self.damage().is_none() && self.cut.as_ref().is_none_or(|cut| frame.end() <= cut.lowest) => {
                Some(false)
            }
            wanted => wanted,
        }
    }

    /// The frame that was mended or written again and may hold `index`.
    pub(in crate::journal) fn moved_frame_of(&self, index: Index) -> Option<&FrameRef> {
        self.moved.range(..=index).next_back().map(|(_, frame)| frame)
    }

    /// The frame that begins with `first` was written again, and is on stable
    /// storage there.
    pub(in crate::journal) fn note_moved(&mut self, first: Index) {
        if self.cut.as_ref().is_some_and(|cut| cut.staged > 0 && cut.lowest <= first) {
            // It is being truncated: another one may begin there. A truncation that
            // is written has taken what it meant from the frames below.
            return;
        }
        let newest = self.file.relocated().iter().rev().find(|frame| frame.first == first);
        self.moved.extend(newest.cloned().map(|frame| (first, frame)));
    }

    /// The small facts whose newest frames lie in segments through `id`, as
    /// they are by now.
    pub(in crate::journal) fn facts_through(&self, id: u64) -> Vec<Frame> {
        let FileReplica { homes, damage, .. } = &self.file;
        let here = |home: u64| (1..=id).contains(&home);
        let vote = self.vote.filter(|_| here(homes.vote)).map(Frame::Vote);
        let purged = self.purged.filter(|_| here(homes.purged)).map(Frame::Purge);
        let committed = self.committed.filter(|_| here(homes.committed)).map(Frame::Committed);
        let damage = damage.filter(|_| here(homes.damage)).map(Frame::Damaged);
        if self.retired { Vec::new() } else { [vote, purged, committed, damage].into_iter().flatten().collect() }
    }

    /// The newest state image that is on stable storage.
    pub(in crate::journal) fn image(&self) -> Option<ImageRef> {
        self.image.filter(|_| !self.retired)
    }

    /// Whether an image that was read before is still the newest one.
    pub(in crate::journal) fn wants_image(&self, at: EntryId) -> bool {
        !self.retired && self.images == 0 && self.file.image.is_some_and(|image| image.at == at)
    }

    /// The newest state image, if it lies in a segment through `id`.
    pub(in crate::journal) fn image_through(&self, id: u64) -> Option<ImageRef> {
        self.file.image.filter(|image| !self.retired && image.place.segment <= id)
    }

    /// The index reflects everything through segment `id`.
    pub(in crate::journal) fn indexed(&mut self, id: u64) {
        self.file.forget_through(id);
        self.moved.retain(|_, frame| frame.place.segment > id);
        if self.cut.as_ref().is_some_and(|cut| cut.staged == 0 && cut.segment <= id) {
            self.cut = None;
        }
    }
}

/// Truncations that the index does not reflect yet: what lies above the lowest
/// may be gone.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) lowest: Index,
    /// How many are not written yet.
    pub(super) staged: usize,
    /// Where the last written one lies.
    pub(super) segment: u64,
}
