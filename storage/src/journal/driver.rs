//! Executes what the committer decides.
//!
//! ```text
//!   any call, any completion ──► State (under the lock) ──► commands
//!                                                             │ one thread at a time,
//!                                                             ▼ lock released for I/O and callbacks
//!                       encode, submit write + sync │ call Dones │ seal │ stop
//! ```
//!
//! A [`Done`](super::Done) may call back into the journal: it finds the driver
//! at work, leaves its command to it and returns.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_protocol::environment::Random;
use quipu_protocol::point;

use super::background::Background;
use super::committer::{Command, Commit, Event};
use super::config::{JournalConfig, Owner};
use super::error::JournalError;
use super::frame::CommitEncoder;
use super::index::Indexed;
use super::segment::{self, SegmentFile, SegmentFiles};
use super::state::{Item, State};
use super::{FailedHook, Hook};
use crate::disk::{AlignedBuffer, Disk, Lane, Operation, Outcome};
use crate::kv::Kv;

/// A commit buffer larger than this is not kept for the next commit.
const KEPT_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// What a journal's clones share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) kv: Arc<dyn Kv>,
    pub(super) random: Arc<dyn Random>,
    pub(super) config: JournalConfig,
    pub(super) owner: Owner,
    pub(super) files: SegmentFiles,
    pub(super) hooks: Hooks,
    /// Written on the background lane alone once the journal is open.
    pub(super) background: Mutex<Background>,
}

/// Calls into the node.
#[derive(Default)]
pub(super) struct Hooks {
    pub(super) activity: Slot<Hook>,
    pub(super) failed: Slot<FailedHook>,
    pub(super) seal: Slot<Hook>,
    pub(super) damage: Slot<Hook>,
}

/// A hook that may be set.
pub(super) struct Slot<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Slot<T> {
    pub(super) fn set(&self, hook: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// The hook, to be called without any lock.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // What is under the lock is consistent between any two statements
        // that can panic; a broken assertion stops its own caller only.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Executes commands until there are none, unless another thread does.
    pub(super) fn drive(self: &Arc<Self>) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.driving, true) {
            return;
        }
        loop {
            if let Some(command) = state.commands.pop_front() {
                state = self.execute(command, state);
            } else if self.wants_spare(&state) {
                state.preparing = true;
                drop(state);
                self.submit_task(Self::prepare_spare, |shared, error| shared.no_spare(&error));
                state = self.lock();
            } else {
                break;
            }
        }
        state.driving = false;
    }

    fn execute<'a>(self: &'a Arc<Self>, command: Command, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        match command {
            Command::Commit(commit) => {
                self.commit(commit, state);
            }
            Command::Complete { wants_mark } => {
                let dones = state.completed();
                drop(state);
                for done in dones {
                    self.tell(|| done(Ok(())));
                }
                if let Some(hook) = self.hooks.activity.get().filter(|_| wants_mark) {
                    self.tell(|| hook());
                }
            }
            Command::Seal { segment, end, sequence } => {
                let (replicas, held) = state.seal(segment);
                let facts = state.facts();
                let nonce = state.segments.get(&segment).map_or(0, |segment| segment.nonce);
                drop(state);
                let indexed = Indexed { segment, nonce, end, sequence, held };
                self.submit_task(
                    move |shared| shared.index_segment(indexed, &replicas, facts),
                    move |shared, error| shared.index_failed(segment, &error),
                );
            }
            Command::Stop { reason } => {
                point!("journal-stopped");
                let dones = state.abandoned();
                drop(state);
                tracing::error!(%reason, "the journal has stopped");
                for done in dones {
                    self.tell(|| done(Err(JournalError::Stopped { reason: reason.clone() })));
                }
                if let Some(hook) = self.hooks.failed.get() {
                    self.tell(|| hook(&reason));
                }
            }
            Command::Closed => {
                drop(state);
                self.submit_task(Self::flush_and_close, |shared, _| shared.closed());
            }
        }
        self.lock()
    }

    /// Calls back. A callback that panics has left its owner in a state that
    /// nobody knows: the journal stops, and all who wait behind it hear so.
    pub(super) fn tell(self: &Arc<Self>, callback: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(callback)).is_err() {
            self.failed("a callback panicked");
        }
    }

    /// Encodes a commit and submits its write and its sync.
    fn commit(self: &Arc<Self>, commit: Commit, mut state: MutexGuard<'_, State>) {
        let items = state.take(&commit);
        let buffer = std::mem::take(&mut state.buffer);
        let file = state.writable.get(&commit.place.segment).cloned().expect("a segment that is written to is open");
        drop(state);
        let (buffer, places) = encode(buffer, &commit, &items, file.segment.nonce);
        let mut state = self.lock();
        state.placed(commit.place.segment, &items, &places);
        state.in_flight = items;
        state.counters.commits += 1;
        state.counters.fsyncs += 1;
        state.counters.written_bytes += buffer.len() as u64;
        drop(state);
        point!("journal-commit");
        let (write, sync) = (self.clone(), self.clone());
        let (id, segment) = (file.id(), commit.place.segment);
        let operation = Operation::Write { file: id, offset: commit.place.byte, buffer };
        self.disk.submit(Lane::Commit, operation, Box::new(move |result| write.written(segment, result)));
        // The file stays open until its sync is done, whatever is sealed.
        let synced = Box::new(move |result| sync.synced(&file, result));
        self.disk.submit(Lane::Commit, Operation::Sync { file: id }, synced);
    }

    fn written(self: &Arc<Self>, segment: u64, result: io::Result<Outcome>) {
        match result {
            Ok(Outcome::Written(mut buffer)) => {
                point!("journal-written");
                if buffer.capacity() <= KEPT_BUFFER_BYTES {
                    buffer.clear();
                    self.lock().buffer = buffer;
                }
            }
            Ok(_) => {}
            Err(error) => self.failed(&format!("cannot write to {}: {error}", segment::path(segment))),
        }
    }

    fn synced(self: &Arc<Self>, file: &SegmentFile, result: io::Result<Outcome>) {
        match result {
            Ok(_) => {
                point!("journal-synced");
                self.lock().step(Event::Synced);
                self.drive();
            }
            Err(error) => self.failed(&format!("cannot sync {}: {error}", segment::path(file.segment.id))),
        }
    }

    fn failed(self: &Arc<Self>, reason: &str) {
        self.lock().step(Event::Failed { reason: reason.into() });
        self.drive();
    }
}

/// One commit's bytes, and where in the segment each frame lies.
fn encode(buffer: AlignedBuffer, commit: &Commit, items: &[Item], nonce: u64) -> (AlignedBuffer, Vec<(u64, u32)>) {
    let frames = u32::try_from(items.len()).expect("a commit's frames are bounded by its bytes");
    let mut encoder = CommitEncoder::new(buffer, nonce, commit.place.byte, commit.sequence, frames);
    let mut places = Vec::with_capacity(items.len());
    for item in items {
        places.push(encoder.push(item.key, &item.frame));
    }
    (encoder.finish(commit.mark), places)
}
