//! Rot that is found while the journal is open: by a reader, the cleaner or a
//! scrub.
//!
//! ```text
//!   checksum wrong ─► read once more, past every cache ─► right: a misread, counted
//!                                                      └► wrong: rot
//!   rot ─► held against its replica ─► Frame::Damaged ─► the node is told
//! ```
//!
//! Where a disk gives an error instead of bytes, twice, they are wrong. Another
//! error than one of the medium says nothing about the bytes: that is no rot.

use std::sync::Arc;

use quipu_protocol::{Index, point};

use super::driver::Shared;
use super::entry::{Entry, ReplicaKey};
use super::error::{Damage, ReadError};
use super::frame::Frame;
use super::index::FrameRef;
use super::manifest::Segment;
use super::reader::checked;
use super::segment::path;
use crate::disk::AlignedBuffer;

impl Shared {
    /// The entries of a frame from `next` on, read twice before it is said
    /// that they are not what was written.
    pub(super) fn read_frame(
        &self,
        segment: Segment,
        key: ReplicaKey,
        frame: &FrameRef,
        next: Index,
        buffer: &mut AlignedBuffer,
    ) -> Result<Vec<Entry>, ReadError> {
        match self.read_once(segment, key, frame, next, buffer) {
            Err(ReadError::Damaged { .. }) => self.read_again(segment, key, frame, next),
            read => read,
        }
    }

    /// The entries of a frame that was not what had been written, read once
    /// more into a buffer that nothing was read into before.
    pub(super) fn read_again(
        &self,
        segment: Segment,
        key: ReplicaKey,
        frame: &FrameRef,
        next: Index,
    ) -> Result<Vec<Entry>, ReadError> {
        let read = self.read_once(segment, key, frame, next, &mut AlignedBuffer::new());
        read.inspect(|_| self.misread(key))
    }

    fn read_once(
        &self,
        segment: Segment,
        key: ReplicaKey,
        frame: &FrameRef,
        next: Index,
        buffer: &mut AlignedBuffer,
    ) -> Result<Vec<Entry>, ReadError> {
        let bytes = self.frame_bytes(segment, frame, buffer)?;
        checked(key, frame, segment.nonce, bytes, next)
    }

    /// The bytes at a frame's place, whatever they are.
    pub(super) fn frame_bytes<'a>(
        &self,
        segment: Segment,
        frame: &FrameRef,
        buffer: &'a mut AlignedBuffer,
    ) -> Result<&'a [u8], ReadError> {
        let disk = |error| ReadError::Disk(Arc::new(error));
        let file = self.files.get(segment).map_err(disk)?;
        // A row of the index that names a place behind the segment names no bytes.
        let begin = frame.place.byte.min(segment.bytes);
        let end = begin.saturating_add(frame.length.into()).min(segment.bytes);
        let start = file.read_checked(begin, end, buffer).map_err(disk)?;
        let from = usize::try_from(begin - start).expect("a frame fits into memory");
        let to = usize::try_from(end - start).expect("a frame fits into memory");
        Ok(&buffer[from..to])
    }

    /// What was read was wrong and, read once more, right.
    pub(super) fn misread(&self, key: ReplicaKey) {
        point!("misread-excused");
        tracing::warn!(%key, "a disk gave wrong bytes, and then the right ones");
        self.lock().counters.misreads += 1;
    }

    /// Holds rot against its replica, for good, and tells the node.
    pub(super) fn found(self: &Arc<Self>, key: ReplicaKey, damage: Damage) {
        let mut state = self.lock();
        let Some(replica) = state.replicas.get_mut(&key) else { return };
        let known = replica.damage().is_some();
        replica.findings += 1;
        replica.found = Some(damage);
        if !known {
            state.counters.damage_found += 1;
            point!("rot-found");
            tracing::error!(path = path(damage.segment), %key, %damage, "the journal is damaged");
            // Should there be no room for it, it is found again after a start.
            state.stage_again(vec![(key, Frame::Damaged(damage))], Box::new(|_| {}));
        }
        drop(state);
        self.drive();
        if let Some(hook) = self.hooks.damage.get() {
            self.tell(|| hook());
        }
    }
}
