//! The shared journal: one node's durable entries, of all its replicas.
//!
//! ```text
//!   append, votes, …          one write + one fdatasync for all of them
//!   of all groups  ──stage──► committer ──► Lane::Commit ──► Done, in order
//!                                │ segment full
//!                                ▼
//!                             seal ──► Lane::Background: index rows ─► Kv, next spare
//!                                                        oldest segments ─► rewritten, let go of
//! ```
//!
//! What is staged is readable at once and durable when its [`Done`] says so.
//! After a failed write or sync the journal stops for ever.

mod background;
mod cleaner;
mod committer;
mod config;
mod driver;
mod entry;
mod error;
mod finding;
mod format;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod manifest;
mod mending;
mod packing;
mod reader;
mod recovery;
mod recycling;
mod rescue;
mod room;
mod rot;
mod scan;
mod scrub;
mod segment;
mod space;
mod state;
mod tail_cache;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quipu_protocol::Index;
use quipu_protocol::environment::Random;

pub use config::{
    ConfigError, JournalConfig, MAX_COMMIT_BYTES, MAX_ENTRY_BYTES, MAX_FRAME_BYTES, MAX_LOW_SPACE_BYTES,
    MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, Owner,
};
pub use entry::{Entry, EntryId, ReplicaKey, ReplicaState, Vote};
pub use error::{Damage, DamagedPart, JournalError, OpenError, ReadError};
pub use mending::{MendDone, MendError, Survey, SurveyDone, Wound};
pub use scrub::{ScrubDone, ScrubPosition, Scrubbed};
pub use space::LowSpace;

use background::Background;
use cleaner::Cleaner;
use committer::{Committer, Event, Resume};
use driver::{Hooks, Shared};
use format::{FIRST_COMMIT, Position};
use manifest::{DIRECTORY, Manifest, PATH, Segment};
use segment::{SegmentFile, SegmentFiles};
use state::{Located, Refused, State};

use crate::disk::Disk;
use crate::kv::Kv;

/// Called once, when what was staged is on stable storage or never will be;
/// from any thread, in staging order, and free to call the journal. It must
/// not block.
pub type Done = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// Called once with the entries read.
pub type ReadDone = Box<dyn FnOnce(Result<Vec<Entry>, ReadError>) + Send>;

/// Called once with the image read; `None` if there is none.
pub type ImageDone = Box<dyn FnOnce(Result<Option<(EntryId, Bytes)>, ReadError>) + Send>;

/// A call into the node that the journal makes again and again.
pub type Hook = Box<dyn Fn() + Send + Sync>;

/// Called with the reason when the journal stops.
pub type FailedHook = Box<dyn Fn(&str) + Send + Sync>;

/// A node's journal; clones share it.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

/// What start-up found.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Segments whose bytes were scanned, and how many bytes that was.
    pub scanned_segments: u64,
    /// Bytes read by the scan.
    pub scanned_bytes: u64,
    /// Bytes of a last commit that was never synced and is dropped.
    pub torn_bytes: u64,
    /// Whether the index of full segments had to be rebuilt from nothing.
    pub index_rebuilt: bool,
    /// Places where commit headers were damaged, and everything in the commits
    /// was found without them.
    pub survived_headers: u64,
    /// The number of the last commit found, which is durable; 0 for none. It
    /// never goes back from one start to the next.
    pub last_commit: u64,
    /// Damage below the durable mark, and whose it is; `None` is everybody's.
    pub damage: Vec<(Option<ReplicaKey>, Damage)>,
}

/// What the journal did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Group commits, marks included.
    pub commits: u64,
    /// fdatasyncs that appends waited for.
    pub fsyncs: u64,
    /// Entries written.
    pub entries: u64,
    /// Their payloads.
    pub payload_bytes: u64,
    /// Bytes written by commits: payloads, headers, padding.
    pub written_bytes: u64,
    /// Bytes written to prepare segments, ahead of use.
    pub prepared_bytes: u64,
    /// Entries' payloads that were written again, to free old segments.
    pub relocated_bytes: u64,
    /// Segments that were let go of.
    pub recycled_segments: u64,
    /// Replicas that were found damaged while the journal was open.
    pub damage_found: u64,
    /// Reads whose checksum was wrong, and right when they were repeated.
    pub misreads: u64,
    /// Entries that were taken from elsewhere in place of damaged ones.
    pub mended_entries: u64,
    /// Their payloads.
    pub mended_bytes: u64,
    /// Bytes read to find rot.
    pub scrubbed_bytes: u64,
    /// How often everything sealed was read for that.
    pub scrub_passes: u64,
    /// Frames found rotten by it.
    pub scrub_findings: u64,
}

/// What the journal holds in memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Staged and not yet durable, as [`Journal::staged_bytes`].
    pub staged_bytes: u64,
    /// Entries in memory, with what each costs beside its payload.
    pub tail_cache_bytes: u64,
    /// Those of them that are not durable yet and are kept whatever
    /// [`JournalConfig::tail_cache_bytes`] is.
    pub tail_cache_staged_bytes: u64,
}

impl Journal {
    /// Opens the journal on `disk`, or makes one; reads what is not in `kv`
    /// yet from the segments.
    ///
    /// # Errors
    /// See [`OpenError`]. Damage that can be held against single replicas is no
    /// error: see [`damage`](Self::damage).
    pub fn open(
        disk: Arc<dyn Disk>,
        kv: Arc<dyn Kv>,
        random: Arc<dyn Random>,
        config: JournalConfig,
        owner: Owner,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        Self::reopen(disk, kv, random, config, owner, 0)
    }

    /// As [`open`](Self::open), for a caller who remembers that the journal held
    /// commit `remembered` (see [`RecoveryReport::last_commit`]); 0 for none.
    ///
    /// # Errors
    /// [`OpenError::Older`] if it does not any more. Nothing is written to the
    /// journal then: what is written next would take that commit's number, and
    /// the next start would find nothing wrong.
    pub fn reopen(
        disk: Arc<dyn Disk>,
        kv: Arc<dyn Kv>,
        random: Arc<dyn Random>,
        config: JournalConfig,
        owner: Owner,
        remembered: u64,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        config.check()?;
        Self::open_checked(disk, kv, random, config, owner, remembered)
    }

    fn open_checked(
        disk: Arc<dyn Disk>,
        kv: Arc<dyn Kv>,
        random: Arc<dyn Random>,
        config: JournalConfig,
        owner: Owner,
        remembered: u64,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let (mut manifest, unused) = manifest_of(disk.as_ref(), &owner)?;
        let listed = manifest.clone();
        let recovered = recovery::recover(&disk, kv.as_ref(), &owner, &mut manifest)?;
        let found = recovered.report.last_commit;
        if found < remembered {
            return Err(OpenError::Older { found, remembered });
        }
        // Only now is it sure that the journal opens, and may be changed.
        for path in unused.into_iter().map(segment::path) {
            disk.remove(&path).map_err(|source| OpenError::disk("remove", &path, source))?;
        }
        let open = recovered.resume.map(|resume| resume.place.segment);
        let dropped = drop_unfit_spares(&mut manifest, open, config.segment_bytes);
        let resume = match recovered.resume {
            Some(resume) => resume,
            None => begin_segment(disk.as_ref(), random.as_ref(), &config, &mut manifest, &recovered)?,
        };
        if manifest != listed {
            manifest.write(disk.as_ref()).map_err(|source| OpenError::disk("write", PATH, source))?;
        }
        for id in dropped {
            // Not listed any more; if it stays, the next start removes it.
            let _ = disk.remove(&segment::path(id));
        }
        let mut state =
            State::new(Committer::new(resume), recovered.replicas, recovered.touched, recovered.held, &config);
        state.segments = manifest.segments.iter().map(|segment| (segment.id, *segment)).collect();
        for segment in manifest.segments.iter().filter(|segment| segment.id >= resume.place.segment) {
            let file = SegmentFile::open(&disk, *segment);
            let file = file.map_err(|source| OpenError::disk("open", &segment::path(segment.id), source))?;
            state.writable.insert(segment.id, Arc::new(file));
            if segment.id > resume.place.segment {
                state.step(Event::SpareReady { segment: segment.id, bytes: segment.bytes });
            }
        }
        // What was recovered is durable and relied upon from here on.
        state.step(Event::MarkWanted);
        let cleaner = Cleaner::new(recovered.living);
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            files: SegmentFiles::new(disk.clone()),
            disk,
            kv,
            random,
            config,
            owner,
            hooks: Hooks::default(),
            background: Mutex::new(Background { manifest, index_behind: false, cleaner }),
        });
        shared.drive();
        Ok((Self { shared }, recovered.report))
    }

    /// Appends contiguous entries after the replica's last; readable on
    /// return.
    pub fn append(&self, key: ReplicaKey, entries: Vec<Entry>, done: Done) {
        if entries.is_empty() {
            return done(Ok(()));
        }
        let bound = self.shared.config.max_entry_bytes();
        let staged = self.shared.lock().append(key, entries, done, bound);
        self.proceed(staged);
    }

    /// Saves the replica's vote.
    pub fn save_vote(&self, key: ReplicaKey, vote: Vote, done: Done) {
        let staged = self.shared.lock().save_vote(key, vote, done);
        self.proceed(staged);
    }

    /// Drops the entries from `from` on; gone for reads on return.
    pub fn truncate(&self, key: ReplicaKey, from: Index, done: Done) {
        let staged = self.shared.lock().truncate(key, from, done, self.shared.kv.as_ref());
        self.proceed(staged);
    }

    /// Drops the entries through `through` for good; gone for reads on return.
    pub fn purge(&self, key: ReplicaKey, through: EntryId, done: Done) {
        let staged = self.shared.lock().purge(key, through, done);
        self.proceed(staged);
    }

    /// Saves the group's metadata as of the entry `at`, in place of an older
    /// image. Whoever purges through `at` saves it first.
    pub fn save_image(&self, key: ReplicaKey, at: EntryId, image: Bytes, done: Done) {
        let bound = self.shared.config.max_entry_bytes();
        let staged = self.shared.lock().save_image(key, at, image, done, bound);
        self.proceed(staged);
    }

    /// Reads the newest state image on stable storage, on the disk's read
    /// lane.
    pub fn read_image(&self, key: ReplicaKey, done: ImageDone) {
        self.shared.read_image(key, done);
    }

    /// Remembers how far the group has committed. Rides with the next commit
    /// and causes none, so that it may be lost.
    pub fn save_committed(&self, key: ReplicaKey, committed: EntryId) {
        self.shared.lock().save_committed(key, committed);
    }

    /// Forgets the replica for good; its key is never used again.
    pub fn retire(&self, key: ReplicaKey, done: Done) {
        let staged = self.shared.lock().retire(key, done);
        self.proceed(staged);
    }

    /// Goes on after something was staged, or tells why it was not.
    fn proceed(&self, staged: Result<(), Refused>) {
        match staged {
            Ok(()) => self.shared.drive(),
            Err((done, error)) => {
                if matches!(error, JournalError::NoSpace { .. }) {
                    self.shared.retry_spare();
                }
                done(Err(error));
            }
        }
    }

    /// What is held of the replica; `None` if nothing ever was. Ask
    /// [`damage`](Self::damage) before starting it.
    pub fn replica(&self, key: ReplicaKey) -> Option<ReplicaState> {
        self.shared.lock().replica(key)
    }

    /// Damage below the replica's durable mark: it must not start. One that
    /// runs, and of which this was found since, should stop.
    pub fn damage(&self, key: ReplicaKey) -> Option<Damage> {
        self.shared.lock().replicas.get(&key)?.damage()
    }

    /// All replicas with damage.
    pub fn damaged(&self) -> Vec<(ReplicaKey, Damage)> {
        let state = self.shared.lock();
        state.replicas.iter().filter_map(|(key, replica)| Some((*key, replica.damage()?))).collect()
    }

    /// How often damage of the replica was found since the journal was opened:
    /// for [`clear_damage`](Self::clear_damage).
    pub fn findings(&self, key: ReplicaKey) -> u64 {
        self.shared.lock().replicas.get(&key).map_or(0, |replica| replica.findings)
    }

    /// Looks for what is damaged in a replica that does not run, from `from`
    /// on: index 0 at first, then wherever the last call left off. Reads
    /// everything that the replica has, a bounded part of it a call.
    pub fn survey(&self, key: ReplicaKey, from: Index, done: SurveyDone) {
        self.shared.survey(key, from, done);
    }

    /// Takes `entries` in place of a [`Wound`]'s, all of them, if ids, lengths
    /// and checksum are as what is left of it says. Of a frame that was
    /// truncated or purged in part, nobody can have everything that its
    /// checksum covers: ids and lengths have to do.
    pub fn mend(&self, key: ReplicaKey, entries: Vec<Entry>, done: MendDone) {
        self.shared.mend(key, entries, done);
    }

    /// Notes for good that nothing of the replica is damaged any more, which a
    /// whole survey told that began after [`findings`](Self::findings) was
    /// asked; refused if something was found since. The replica may start.
    pub fn clear_damage(&self, key: ReplicaKey, findings: u64, done: Done) {
        self.shared.clear_damage(key, findings, done);
    }

    /// Reads about `max_bytes` of what is sealed and needed, from where an
    /// earlier call left off, and holds what is rotten against its replica.
    pub fn scrub(&self, from: Option<ScrubPosition>, max_bytes: u64, done: ScrubDone) {
        self.shared.scrub(from, max_bytes, done);
    }

    /// All replicas that are not retired.
    pub fn replicas(&self) -> Vec<ReplicaKey> {
        self.shared.lock().keys()
    }

    /// The id of the entry at `index`; also of the last purged one. `None` if
    /// there is no such entry.
    ///
    /// # Errors
    /// [`JournalError::Index`] when the entry's segment is sealed and the index
    /// cannot be read.
    pub fn entry_id(&self, key: ReplicaKey, index: Index) -> Result<Option<EntryId>, JournalError> {
        let located = self.shared.lock().locate(key, index);
        Ok(match located {
            Located::Nowhere => None,
            Located::Known(id) => Some(id),
            Located::Indexed => {
                let frame = index::frame_of(self.shared.kv.as_ref(), key, index)?;
                frame.and_then(|frame| frame.entry_id(index))
            }
        })
    }

    /// Reads the entries of `range`, as many as there are and as fit into
    /// `max_bytes` of payload, at least one if there is any: inline when they
    /// are in memory, else on the disk's read lane.
    pub fn read(&self, key: ReplicaKey, range: Range<Index>, max_bytes: u64, done: ReadDone) {
        self.shared.read(key, range, max_bytes, done);
    }

    /// The last entry that is on stable storage with all before it.
    pub fn durable(&self, key: ReplicaKey) -> Option<EntryId> {
        self.shared.lock().replica(key)?.durable
    }

    /// How much is staged and not yet durable, in bytes of the journal: the
    /// callers' measure for back-pressure.
    pub fn staged_bytes(&self) -> u64 {
        self.shared.lock().committer.staged_bytes()
    }

    /// Looks how much room the file system has. The node calls this now and
    /// then; the journal itself looks before it prepares a segment.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn check_space(&self) -> std::io::Result<()> {
        self.shared.check_space()
    }

    /// That the file system had too little room when that was last looked at.
    /// What is staged all the same is written as long as there is room in
    /// prepared segments: whoever appends what can wait asks first.
    pub fn low_space(&self) -> Option<LowSpace> {
        self.shared.lock().low_space
    }

    /// What it holds in memory now. Exact between two calls of the disk's.
    pub fn footprint(&self) -> Footprint {
        self.shared.lock().footprint()
    }

    /// Writes a mark if the last commit has none, so that damage to it cannot
    /// be taken for a torn write. The node calls this 10 ms after the last
    /// activity.
    pub fn mark_idle(&self) {
        self.shared.lock().step(Event::MarkWanted);
        self.shared.drive();
    }

    /// Sets what is called after each commit that still wants a mark.
    pub fn set_activity_hook(&self, hook: Hook) {
        self.shared.hooks.activity.set(hook);
    }

    /// Sets what is called once if the journal stops.
    pub fn set_failed_hook(&self, hook: FailedHook) {
        self.shared.hooks.failed.set(hook);
    }

    /// Sets what is called, from any thread, when damage was found of a replica
    /// that had been whole, or was found once more: [`damaged`](Self::damaged)
    /// tells of which. Whoever sets it has to mend such a replica or retire it:
    /// until then the segments with what rotted are kept.
    pub fn set_damage_hook(&self, hook: Hook) {
        self.shared.hooks.damage.set(hook);
    }

    /// Sets what is called on the background lane after a segment was sealed
    /// and before the index is flushed.
    pub fn on_seal(&self, hook: Hook) {
        self.shared.hooks.seal.set(hook);
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.shared.lock().counters
    }

    /// Writes what is staged and a final mark, and flushes the index. Later
    /// calls that write are refused.
    pub fn close(&self, done: Done) {
        let staged = self.shared.lock().close(done);
        self.proceed(staged);
    }
}

/// The manifest on the disk, or that of a journal made just now; and the segment
/// files that it does not list: they were never used, or were let go of, and are
/// to be removed. If one is in use, the manifest is an old one.
fn manifest_of(disk: &dyn Disk, owner: &Owner) -> Result<(Manifest, Vec<u64>), OpenError> {
    let failed = |operation, source| OpenError::disk(operation, DIRECTORY, source);
    disk.create_directory(DIRECTORY).map_err(|source| failed("create", source))?;
    let names = disk.list(DIRECTORY).map_err(|source| failed("list", source))?;
    let mut files = names.iter().filter_map(|name| segment::id_of(name));
    let Some(mut manifest) = Manifest::read(disk)? else {
        if files.next().is_some() {
            return Err(OpenError::ManifestMissing { path: PATH.into() });
        }
        let manifest = Manifest::new(*owner);
        manifest.write(disk).map_err(|source| OpenError::disk("write", PATH, source))?;
        return Ok((manifest, Vec::new()));
    };
    if !owner.accepts(&manifest.owner) {
        return Err(OpenError::Foreign { path: PATH.into(), found: manifest.owner, wanted: *owner });
    }
    if owner.is_complete() {
        manifest.owner = *owner;
    }
    // Segments are let go of in their order, the manifest first.
    let first = manifest.segments.first().map_or(0, |segment| segment.id);
    let unused: Vec<u64> = files.filter(|id| manifest.segments.iter().all(|segment| segment.id != *id)).collect();
    for &id in &unused {
        if id >= first && segment::holds_commits(disk, id)? {
            return Err(OpenError::ManifestOlder { path: segment::path(id) });
        }
        manifest.next_segment = manifest.next_segment.max(id.saturating_add(1));
    }
    Ok((manifest, unused))
}

/// Takes spare segments of another length than is wanted now off the list.
fn drop_unfit_spares(manifest: &mut Manifest, open: Option<u64>, wanted: u64) -> Vec<u64> {
    let Some(open) = open else { return Vec::new() };
    let unfit = |segment: &Segment| segment.id > open && segment.bytes != wanted;
    let dropped = manifest.segments.iter().filter(|segment| unfit(segment)).map(|segment| segment.id).collect();
    manifest.segments.retain(|segment| !unfit(segment));
    dropped
}

/// Prepares the segment that the journal goes on in, on this thread.
fn begin_segment(
    disk: &dyn Disk,
    random: &dyn Random,
    config: &JournalConfig,
    manifest: &mut Manifest,
    recovered: &recovery::Recovered,
) -> Result<Resume, OpenError> {
    let id = manifest.next_segment;
    let segment = Segment { id, epoch: 1, nonce: random.next(), bytes: config.segment_bytes, sealed: None };
    let prepared = segment::prepare(disk, &segment, &manifest.owner);
    prepared.map_err(|source| OpenError::disk("prepare", &segment::path(id), source))?;
    manifest.next_segment += 1;
    manifest.segments.push(segment);
    let place = Position { segment: id, byte: FIRST_COMMIT };
    let Segment { bytes, .. } = segment;
    Ok(Resume { place, bytes, sequence: recovered.sequence, mark: recovered.mark, unmarked: false })
}
