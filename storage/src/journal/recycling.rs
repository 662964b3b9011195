//! Letting go of segments that hold nothing any more, and using their files
//! again.
//!
//! ```text
//!   manifest without it ─► its rows in Kv ─► header for its next use ─► renamed ─► manifest with it
//!   └ nobody's from here on                  └ or the file is removed
//! ```
//!
//! # Invariants
//! - Nothing lives in what is let go of: by the index, or by what is known
//!   beyond it where there is little room ([`super::room`]).
//! - Segments are let go of in their order: what is listed is always the end
//!   of the journal, without a hole. A file with a number below every listed
//!   one was let go of, whatever is in it.
//! - A crash before the manifest is written leaves the segment and what was
//!   written again: of two frames with the same entries the later one counts.
//!   A crash after it leaves a file that the next start removes.

use std::io;
use std::sync::Arc;

use quipu_protocol::point;

use super::background::Background;
use super::driver::Shared;
use super::index;
use super::manifest::Segment;
use super::segment::{self, SegmentFile};

/// Files are kept for use again only while all of them take at most this share
/// of what lives in sealed segments, in percent, and [`SPACE_SEGMENTS`] more.
/// Several logs whose entries die in different orders leave segments that are
/// dead in part: room that one log alone does not take, and that a file for
/// later must not take on top.
const SPACE_PERCENT: u64 = 130;
/// See [`SPACE_PERCENT`].
const SPACE_SEGMENTS: u64 = 4;

impl Shared {
    /// Lets go of the oldest segments, as long as nothing lives in them and
    /// nobody reads them.
    pub(super) fn let_go(self: &Arc<Self>) {
        while let Some(oldest) = self.dead() {
            if let Err(error) = self.let_go_of(oldest) {
                tracing::error!(%error, segment = oldest.id, "cannot let go of a journal segment");
                return;
            }
        }
    }

    /// The oldest segment, if nothing lives in it.
    fn dead(&self) -> Option<Segment> {
        let background = self.background();
        let oldest = background.manifest.segments.first().copied()?;
        if !background.cleaner.is_free_of_facts(oldest.id) || background.index_behind {
            return None;
        }
        let mut state = self.lock();
        if state.reads_before(background.cleaner.barrier()) {
            state.awaits_reads = true;
            return None;
        }
        drop(state);
        match index::is_living(self.kv.as_ref(), oldest.id) {
            Ok(living) => (!living).then_some(oldest),
            Err(error) => {
                tracing::error!(%error, segment = oldest.id, "cannot tell what lives in a journal segment");
                None
            }
        }
    }

    pub(super) fn let_go_of(self: &Arc<Self>, old: Segment) -> io::Result<()> {
        let mut background = self.background();
        let mut shortened = background.manifest.clone();
        shortened.segments.retain(|segment| segment.id != old.id);
        shortened.write(self.disk.as_ref())?;
        background.manifest = shortened;
        point!("segment-let-go");
        let mut state = self.lock();
        state.segments.remove(&old.id);
        state.counters.recycled_segments += 1;
        let spares = state.committer.spares();
        // Room that others need is not kept for later.
        let is_tight = state.low_space.is_some() || !self.has_space_for(&background, old.bytes);
        let recycled = if is_tight { 0 } else { self.config.recycled_segments };
        drop(state);
        self.files.forget(old.id);
        // Should these rows stay, the next segment takes them along.
        if let Err(error) = index::forget_segments(self.kv.as_ref(), &mut background.cleaner.living, old.id) {
            tracing::warn!(%error, segment = old.id, "cannot forget a journal segment's rows");
        }
        drop(background);
        let kept = self.config.spare_segments + recycled;
        if spares < kept && old.bytes == self.config.segment_bytes {
            let file = self.reuse(old)?;
            point!("segment-recycled");
            self.spare_ready(file);
        } else {
            self.disk.remove(&segment::path(old.id))?;
            point!("segment-removed");
        }
        Ok(())
    }

    /// Whether so many bytes may be kept on top of the segments that are listed.
    fn has_space_for(&self, background: &Background, bytes: u64) -> bool {
        let listed: u64 = background.manifest.segments.iter().map(|segment| segment.bytes).sum();
        let living = background.cleaner.living.bytes() / 100 * SPACE_PERCENT;
        listed + bytes <= living + SPACE_SEGMENTS * self.config.segment_bytes
    }

    /// Makes a spare of a segment that no manifest lists.
    fn reuse(&self, old: Segment) -> io::Result<SegmentFile> {
        let mut background = self.background();
        let manifest = &mut background.manifest;
        let (id, nonce) = (manifest.next_segment, self.random.next());
        let segment = Segment { id, epoch: old.epoch + 1, nonce, bytes: old.bytes, sealed: None };
        manifest.next_segment += 1;
        segment::reuse(self.disk.as_ref(), old.id, &segment, &self.owner)?;
        point!("segment-reused");
        let mut extended = manifest.clone();
        extended.segments.push(segment);
        extended.write(self.disk.as_ref())?;
        *manifest = extended;
        SegmentFile::open(&self.disk, segment)
    }

    /// A read is done; a segment may have waited for it.
    pub(super) fn read_ended(self: &Arc<Self>, read: u64) {
        let mut state = self.lock();
        state.read_ended(read);
        if !std::mem::take(&mut state.awaits_reads) {
            return;
        }
        drop(state);
        self.submit_task(Self::clean, |_, _| {});
    }
}
