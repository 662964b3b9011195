//! What nobody waits for: preparing segments ahead of use, and moving full
//! ones into the index.
//!
//! ```text
//!   segment full ─► next spare: file, zeros, header, sync ─► manifest ─► ready
//!                └► manifest: its end ─► index rows ─► seal hook ─► Kv::flush ─► memory let go of
//!                     └► oldest segments rewritten, let go of, used again (cleaner)
//! ```
//!
//! One task after another, on the background lane.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use quipu_protocol::point;

use super::cleaner::Cleaner;
use super::committer::Event;
use super::driver::Shared;
use super::index::{self, Indexed, SealedReplica};
use super::manifest::{Manifest, Segment};
use super::segment::{self, SegmentFile};
use super::state::State;
use crate::disk::{Lane, Operation, Outcome};

/// What the background lane works on.
pub(super) struct Background {
    pub(super) manifest: Manifest,
    /// A segment could not be indexed: the rows of later ones would not fit
    /// on, so that the next start scans from there.
    pub(super) index_behind: bool,
    pub(super) cleaner: Cleaner,
}

impl Background {
    /// The segments that may be let go of without any other being sealed first,
    /// in their order.
    pub(super) fn let_go_next(&self) -> Vec<Segment> {
        let segments = self.manifest.segments.iter().copied();
        segments.take_while(|segment| self.cleaner.is_before_last_indexed(segment.id)).collect()
    }
}

impl Shared {
    pub(super) fn background(&self) -> MutexGuard<'_, Background> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `task` on the background lane, or `refused` if the lane is full or
    /// gone.
    pub(super) fn submit_task(
        self: &Arc<Self>,
        task: impl FnOnce(&Arc<Self>) + Send + 'static,
        refused: impl FnOnce(&Arc<Self>, io::Error) + Send + 'static,
    ) {
        let (running, refusing) = (self.clone(), self.clone());
        let operation = Operation::Task(Box::new(move || task(&running)));
        let done = Box::new(move |result: io::Result<Outcome>| {
            if let Err(error) = result {
                refused(&refusing, error);
            }
        });
        self.disk.submit(Lane::Background, operation, done);
    }

    /// Whether another segment should be prepared now. After a failure, or where
    /// there is little room, only when nothing can go on without one, or somebody
    /// was refused for it.
    pub(super) fn wants_spare(&self, state: &State) -> bool {
        let wanted = state.committer.spares() < self.config.spare_segments;
        let is_tight = state.no_space.is_some() || state.low_space.is_some();
        let due = !is_tight || state.committer.is_starved();
        let writing = state.committer.stopped().is_none() && !state.committer.is_closed();
        wanted && due && writing && !state.preparing
    }

    pub(super) fn prepare_spare(self: &Arc<Self>) {
        let state = self.lock();
        let (spares, starved) = (state.committer.spares(), state.committer.is_starved());
        drop(state);
        // A segment that was let go of may have come first.
        let wanted = spares < self.config.spare_segments;
        let prepared = if wanted { self.has_room_for_segment(starved) } else { Ok(false) };
        match prepared.and_then(|has_room| has_room.then(|| self.prepare_segment()).transpose()) {
            Ok(Some(file)) => {
                let mut state = self.lock();
                state.preparing = false;
                state.counters.prepared_bytes += file.segment.bytes;
                let low = state.low_space.is_some();
                drop(state);
                self.spare_ready(file);
                if low && let Err(error) = self.look_ahead() {
                    tracing::warn!(%error, "cannot tell how much room the disk has left");
                }
            }
            // There is one, or there would be if nothing could go on without.
            Ok(None) => {
                let mut state = self.lock();
                (state.preparing, state.no_space) = (false, None);
                drop(state);
                self.drive();
            }
            Err(error) => self.no_spare(&error),
        }
    }

    /// A segment may be written to from now on.
    pub(super) fn spare_ready(self: &Arc<Self>, file: SegmentFile) {
        // It may be the last one: what fits into it is taken, and no more.
        let is_last = self.disk.free_bytes().map_or(true, |free| self.check_reserve(free).is_err());
        let mut state = self.lock();
        if !is_last {
            state.no_space = None;
        }
        let Segment { id: segment, bytes, .. } = file.segment;
        state.segments.insert(segment, file.segment);
        state.writable.insert(segment, Arc::new(file));
        state.step(Event::SpareReady { segment, bytes });
        drop(state);
        self.drive();
    }

    fn prepare_segment(&self) -> io::Result<SegmentFile> {
        let mut background = self.background();
        let manifest = &mut background.manifest;
        let segment = Segment {
            id: manifest.next_segment,
            epoch: 1,
            nonce: self.random.next(),
            bytes: self.config.segment_bytes,
            sealed: None,
        };
        // The number is used up even if this fails: the manifest on the disk
        // may list the segment then.
        manifest.next_segment += 1;
        segment::prepare(self.disk.as_ref(), &segment, &self.owner)?;
        point!("segment-prepared");
        let mut extended = manifest.clone();
        extended.segments.push(segment);
        extended.write(self.disk.as_ref())?;
        *manifest = extended;
        SegmentFile::open(&self.disk, segment)
    }

    pub(super) fn no_spare(self: &Arc<Self>, error: &io::Error) {
        point!("no-space");
        let reason: Arc<str> = error.to_string().into();
        let mut state = self.lock();
        state.preparing = false;
        if state.no_space.is_none() {
            tracing::error!(%error, "no journal segment can be prepared");
        }
        state.no_space = Some(reason.clone());
        state.step(Event::NoSpare { reason });
        drop(state);
        self.drive();
    }

    /// Takes another attempt to prepare a segment, after somebody was refused
    /// for want of one.
    pub(super) fn retry_spare(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.preparing || state.no_space.is_none() || state.committer.stopped().is_some() {
            return;
        }
        state.preparing = true;
        drop(state);
        self.submit_task(Self::prepare_spare, |shared, error| shared.no_spare(&error));
    }

    pub(super) fn index_segment(
        self: &Arc<Self>,
        indexed: Indexed,
        replicas: &[SealedReplica],
        facts: BTreeMap<u64, u64>,
    ) {
        let mut background = self.background();
        if background.manifest.seal(indexed.segment, indexed.end)
            && let Err(error) = background.manifest.write(self.disk.as_ref())
        {
            // The next segment's first commit tells the same.
            tracing::warn!(%error, segment = indexed.segment, "cannot note in the manifest that a segment is full");
        }
        point!("segment-sealed");
        let behind = background.index_behind;
        let living = &mut background.cleaner.living;
        let added = if behind { Ok(()) } else { index::add_segment(self.kv.as_ref(), living, replicas, indexed) };
        drop(background);
        if let Some(hook) = self.hooks.seal.get() {
            self.tell(|| hook());
        }
        point!("index-written");
        let flushed = added.and_then(|()| self.kv.flush());
        match flushed {
            Err(error) => self.index_failed(indexed.segment, &error),
            Ok(()) if behind => {}
            Ok(()) => {
                let mut state = self.lock();
                for replica in replicas {
                    if let Some(replica) = state.replicas.get_mut(&replica.key()) {
                        replica.indexed(indexed.segment);
                    }
                }
                // What could not be told before may be known by now.
                state.may_free = true;
                // Reads that began before may still go by what the index said.
                let barrier = state.next_read;
                drop(state);
                self.background().cleaner.indexed(indexed.segment, facts, barrier);
                self.clean();
            }
        }
    }

    /// The index of this and later segments stays in memory, and the next
    /// start scans them: slower, not wrong.
    pub(super) fn index_failed(&self, segment: u64, error: &(dyn std::error::Error + 'static)) {
        self.background().index_behind = true;
        tracing::error!(error, segment, "cannot index a journal segment");
    }

    pub(super) fn flush_and_close(self: &Arc<Self>) {
        if let Err(error) = self.kv.flush() {
            tracing::warn!(%error, "cannot flush the journal's index");
        }
        self.closed();
    }

    pub(super) fn closed(self: &Arc<Self>) {
        let closers = std::mem::take(&mut self.lock().closers);
        for done in closers {
            self.tell(|| done(Ok(())));
        }
    }
}
