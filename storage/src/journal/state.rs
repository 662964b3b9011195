//! What a running journal knows, and what each call does to it.
//!
//! Each replica is held twice: as its callers see it, with everything staged,
//! and as the file has it, with everything written (see [`super::index`]).
//!
//! ```text
//!   call ──► staged view changes at once ──► staged ──► in flight ──► Done
//!                                              │ encoded
//!                                              └──► file view changes
//! ```
//!
//! No I/O but a look into the index when a truncation reaches sealed
//! segments; everything here happens under the journal's one lock.

mod commits;
mod replica;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use quipu_protocol::Index;

use self::replica::Cut;
pub(super) use self::replica::Replica;
use super::committer::{Command, Committer, Event};
use super::config::{JournalConfig, MAX_FRAME_BYTES};
use super::entry::{Entry, EntryId, ReplicaKey, ReplicaState, Vote};
use super::error::JournalError;
use super::format::DESCRIPTOR;
use super::frame::Frame;
use super::index::FileReplica;
use super::manifest::Segment;
use super::segment::SegmentFile;
use super::space::LowSpace;
use super::tail_cache::{TailCache, Ticket};
use super::{Counters, Done, Footprint, index, tail_cache};
use crate::disk::AlignedBuffer;
use crate::kv::{Kv, KvError};

/// A staged frame.
pub(super) struct Item {
    pub(super) key: ReplicaKey,
    pub(super) frame: Frame,
    /// Whether it may say something newer when it is written.
    hint: bool,
    ticket: Ticket,
    pub(super) done: Option<Done>,
}

/// Where the id of an entry is to be found.
pub(super) enum Located {
    Nowhere,
    Known(EntryId),
    /// In the index of sealed segments, if anywhere.
    Indexed,
}

/// See the module.
pub(super) struct State {
    pub(super) committer: Committer,
    pub(super) commands: VecDeque<Command>,
    /// Whether a thread is executing commands.
    pub(super) driving: bool,
    staged: VecDeque<Item>,
    pub(super) in_flight: Vec<Item>,
    pub(super) replicas: BTreeMap<ReplicaKey, Replica>,
    cache: TailCache,
    tickets: Ticket,
    pub(super) synced: Ticket,
    /// Every segment there is.
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Those that are, or will be, written to.
    pub(super) writable: BTreeMap<u64, Arc<SegmentFile>>,
    /// Replicas with a frame in the segment that is written to.
    touched: BTreeSet<ReplicaKey>,
    /// Bytes of the frames of entries in that segment.
    held: u64,
    /// The last commit's, for the next one.
    pub(super) buffer: AlignedBuffer,
    pub(super) preparing: bool,
    /// Reads on their way to the disk, in the order in which they began.
    reads: BTreeSet<u64>,
    /// The number of the next one.
    pub(super) next_read: u64,
    /// Whether a segment is not let go of for a read's sake.
    pub(super) awaits_reads: bool,
    /// Why the last attempt to prepare a segment failed.
    pub(super) no_space: Option<Arc<str>>,
    pub(super) low_space: Option<LowSpace>,
    /// Whether anything was purged, retired or mended, or the journal opened, since
    /// it was last looked whether room can be made.
    pub(super) may_free: bool,
    /// Whether that is about to be looked at.
    pub(super) making_room: bool,
    closing: bool,
    pub(super) closers: Vec<Done>,
    pub(super) counters: Counters,
}

/// A call that was refused, with whom to tell.
pub(super) type Refused = (Done, JournalError);

impl State {
    /// A journal as recovered; `touched` are the replicas with frames in the
    /// open segment, `held` the bytes of the entries in it.
    pub(super) fn new(
        committer: Committer,
        replicas: BTreeMap<ReplicaKey, FileReplica>,
        touched: BTreeSet<ReplicaKey>,
        held: u64,
        config: &JournalConfig,
    ) -> Self {
        Self {
            committer,
            commands: VecDeque::new(),
            driving: false,
            staged: VecDeque::new(),
            in_flight: Vec::new(),
            touched,
            held,
            replicas: replicas.into_iter().map(|(key, file)| (key, Replica::recovered(file))).collect(),
            cache: TailCache::new(config.tail_cache_bytes),
            tickets: Ticket::default(),
            synced: Ticket::default(),
            segments: BTreeMap::new(),
            writable: BTreeMap::new(),
            buffer: AlignedBuffer::new(),
            preparing: false,
            reads: BTreeSet::new(),
            next_read: 0,
            awaits_reads: false,
            no_space: None,
            low_space: None,
            may_free: true,
            making_room: false,
            closing: false,
            closers: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Tells the committer what happened.
    pub(super) fn step(&mut self, event: Event) {
        self.committer.step(event, &mut self.commands);
    }

    /// Stages entries in frames of bounded size.
    pub(super) fn append(
        &mut self,
        key: ReplicaKey,
        entries: Vec<Entry>,
        done: Done,
        bound: u64,
    ) -> Result<(), Refused> {
        let frames = match self.check_append(key, &entries, bound) {
            Ok(()) => split(entries, bound.min(MAX_FRAME_BYTES)),
            Err(error) => return Err((done, error)),
        };
        let lengths: Vec<u64> = frames.iter().map(Frame::length).collect();
        if let Err(error) = self.check_room(&lengths) {
            return Err((done, error));
        }
        let replica = self.replicas.entry(key).or_default();
        let (mut done, last) = (Some(done), frames.len() - 1);
        for (ordinal, frame) in frames.into_iter().enumerate() {
            // Each frame has its own: they may go into different commits.
            let ticket = self.tickets.next();
            if let Frame::Entries(entries) = &frame {
                self.cache.append(key, &mut replica.tail, entries, ticket);
            }
            let done = if ordinal == last { done.take() } else { None };
            let length = frame.length();
            self.staged.push_back(Item { key, frame, hint: false, ticket, done });
            self.committer.step(Event::Staged { length, forces: true }, &mut self.commands);
        }
        Ok(())
    }

    fn check_append(&self, key: ReplicaKey, entries: &[Entry], bound: u64) -> Result<(), JournalError> {
        self.check(key)?;
        let mut expected =
            self.replicas.get(&key).and_then(|replica| replica.tail.last()).map(|last| last.index.next());
        for entry in entries {
            let (found, bytes) = (entry.id.index, entry.payload.len() as u64);
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(JournalError::NotContiguous { expected, found });
            }
            if bytes > bound {
                return Err(JournalError::EntryTooLarge { index: found, bytes, bound });
            }
            expected = Some(found.next());
        }
        Ok(())
    }

    pub(super) fn save_vote(&mut self, key: ReplicaKey, vote: Vote, done: Done) -> Result<(), Refused> {
        self.stage(key, Frame::Vote(vote), done)?;
        self.replicas.entry(key).or_default().vote = Some(vote);
        Ok(())
    }

    pub(super) fn truncate(&mut self, key: ReplicaKey, from: Index, done: Done, kv: &dyn Kv) -> Result<(), Refused> {
        // The frame names the entry before `from` as the last one: behind the
        // end there is none.
        let end = self.replicas.get(&key).and_then(|replica| replica.tail.last()).map(|last| last.index.next());
        let from = end.map_or(from, |end| from.min(end));
        let last = match self.last_before(key, from, kv) {
            Ok(last) => last,
            Err(error) => return Err((done, error)),
        };
        self.stage(key, Frame::Truncate { from, last }, done)?;
        let replica = self.replicas.entry(key).or_default();
        self.cache.truncate(&mut replica.tail, from, last);
        replica.moved.retain(|first, _| *first < from);
        // What comes in their place is written behind a hint that waits.
        let before = Index::new(from.get().saturating_sub(1));
        replica.hinted = replica.hinted.map(|limit| limit.min(before));
        let cut = replica.cut.get_or_insert(Cut { lowest: from, staged: 0, segment: 0 });
        cut.lowest = cut.lowest.min(from);
        cut.staged += 1;
        Ok(())
    }

    /// The entry that is last once those from `from` on are gone.
    fn last_before(&self, key: ReplicaKey, from: Index, kv: &dyn Kv) -> Result<Option<EntryId>, JournalError> {
        let Some(replica) = self.replicas.get(&key) else { return Ok(None) };
        if let Some(purged) = replica.purged.filter(|purged| from <= purged.index) {
            return Err(JournalError::BelowPurged { from, purged: purged.index });
        }
        let last = replica.tail.last();
        let (Some(_), Some(before)) = (last, from.get().checked_sub(1).map(Index::new)) else { return Ok(None) };
        if last.is_some_and(|last| last.index <= before) {
            return Ok(last);
        }
        Ok(self.entry_id(key, before, kv)?)
    }

    pub(super) fn purge(&mut self, key: ReplicaKey, through: EntryId, done: Done) -> Result<(), Refused> {
        self.stage(key, Frame::Purge(through), done)?;
        self.may_free = true;
        let replica = self.replicas.entry(key).or_default();
        if replica.purged.is_none_or(|purged| purged.index < through.index) {
            replica.purged = Some(through);
        }
        self.cache.purge(&mut replica.tail, through);
        Ok(())
    }

    pub(super) fn save_committed(&mut self, key: ReplicaKey, committed: EntryId) {
        // A hint is not worth the last bytes of a full disk.
        if self.check(key).is_err() || self.no_space.is_some() {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&key) else { return };
        let known = replica.committed.is_some_and(|known| known.index >= committed.index);
        // Entries that were refused for want of room are not there.
        let Some(last) = replica.tail.last().filter(|last| !known && last.index >= committed.index) else { return };
        replica.committed = Some(committed);
        if replica.hinted.is_none() {
            replica.hinted = Some(last.index);
            self.stage_hint(key, committed);
        }
    }

    fn stage_hint(&mut self, key: ReplicaKey, committed: EntryId) {
        let frame = Frame::Committed(committed);
        let length = frame.length();
        let ticket = self.tickets.next();
        self.staged.push_back(Item { key, frame, hint: true, ticket, done: None });
        self.step(Event::Staged { length, forces: false });
    }

    pub(super) fn retire(&mut self, key: ReplicaKey, done: Done) -> Result<(), Refused> {
        // A damaged replica cannot go on, but it can go.
        self.stage_beside(key, Frame::Retire, done)?;
        self.may_free = true;
        let replica = self.replicas.entry(key).or_default();
        self.cache.clear(&mut replica.tail);
        replica.retired = true;
        Ok(())
    }

    /// Stages a state image.
    pub(super) fn save_image(
        &mut self,
        key: ReplicaKey,
        at: EntryId,
        image: Bytes,
        done: Done,
        bound: u64,
    ) -> Result<(), Refused> {
        let bytes = image.len() as u64;
        if bytes > bound {
            return Err((done, JournalError::ImageTooLarge { bytes, bound }));
        }
        self.stage(key, Frame::StateImage { at, image }, done)?;
        self.replicas.entry(key).or_default().images += 1;
        Ok(())
    }

    /// Stages what was written before and is still there; `done` is called
    /// with the last of it. False if there is no room for it, or nothing is
    /// written any more.
    pub(super) fn stage_again(&mut self, frames: Vec<(ReplicaKey, Frame)>, done: Done) -> bool {
        let lengths: Vec<u64> = frames.iter().map(|(_, frame)| frame.length()).collect();
        if !self.is_writing() || self.check_room(&lengths).is_err() {
            return false;
        }
        let (mut done, last) = (Some(done), frames.len().saturating_sub(1));
        for (ordinal, (key, frame)) in frames.into_iter().enumerate() {
            let (ticket, length) = (self.tickets.next(), frame.length());
            let done = if ordinal == last { done.take() } else { None };
            self.staged.push_back(Item { key, frame, hint: false, ticket, done });
            self.step(Event::Staged { length, forces: true });
        }
        true
    }

    /// A read goes to the disk; returns its number.
    pub(super) fn read_began(&mut self) -> u64 {
        let read = self.next_read;
        self.next_read += 1;
        self.reads.insert(read);
        read
    }

    /// A read is done.
    pub(super) fn read_ended(&mut self, read: u64) {
        self.reads.remove(&read);
    }

    /// Whether a read that began before number `barrier` is on its way.
    pub(super) fn reads_before(&self, barrier: u64) -> bool {
        self.reads.first().is_some_and(|read| *read < barrier)
    }

    /// Stages one small frame.
    fn stage(&mut self, key: ReplicaKey, frame: Frame, done: Done) -> Result<(), Refused> {
        match self.check(key) {
            Ok(()) => self.stage_beside(key, frame, done),
            Err(error) => Err((done, error)),
        }
    }

    /// Stages one frame of a replica that may be damaged.
    pub(super) fn stage_beside(&mut self, key: ReplicaKey, frame: Frame, done: Done) -> Result<(), Refused> {
        let length = frame.length();
        if let Err(error) = self.check_writing(key).and_then(|()| self.check_room(&[length])) {
            return Err((done, error));
        }
        let ticket = self.tickets.next();
        self.staged.push_back(Item { key, frame, hint: false, ticket, done: Some(done) });
        self.step(Event::Staged { length, forces: true });
        Ok(())
    }

    /// Whether anything can be written for `key`, and nothing stands against it.
    fn check(&self, key: ReplicaKey) -> Result<(), JournalError> {
        self.check_writing(key)?;
        match self.replicas.get(&key).and_then(|replica| replica.blocked) {
            Some(damage) => Err(JournalError::Damaged { key, damage }),
            None => Ok(()),
        }
    }

    /// Whether anything can be written for `key`.
    fn check_writing(&self, key: ReplicaKey) -> Result<(), JournalError> {
        if let Some(reason) = self.committer.stopped() {
            return Err(JournalError::Stopped { reason: reason.clone() });
        }
        if self.closing {
            return Err(JournalError::Closed);
        }
        match self.replicas.get(&key) {
            Some(replica) if replica.retired => Err(JournalError::Retired { key }),
            _ => Ok(()),
        }
    }

    /// While no segment can be prepared, only what surely fits is accepted.
    fn check_room(&self, lengths: &[u64]) -> Result<(), JournalError> {
        let Some(reason) = &self.no_space else { return Ok(()) };
        if self.committer.has_room_for(lengths) {
            return Ok(());
        }
        let needed = self.committer.waiting_bytes() + lengths.iter().sum::<u64>();
        let room = self.committer.room();
        Err(JournalError::NoSpace { needed, room, reason: reason.clone() })
    }

    pub(super) fn footprint(&self) -> Footprint {
        let staged = self.in_flight.iter().chain(&self.staged).filter_map(|item| match &item.frame {
            Frame::Entries(entries) => Some(tail_cache::cost_of(entries)),
            _ => None,
        });
        Footprint {
            staged_bytes: self.committer.staged_bytes(),
            tail_cache_bytes: self.cache.used(),
            tail_cache_staged_bytes: staged.sum(),
        }
    }

    /// How many bytes of small facts and images each segment holds. Of what
    /// was placed, which is more than what is durable, but for the moment at
    /// which a segment is sealed.
    pub(super) fn facts(&self) -> BTreeMap<u64, u64> {
        let mut facts = BTreeMap::new();
        let living = self.replicas.values().filter(|replica| !replica.file.retired);
        for (segment, bytes) in living.flat_map(|replica| replica.file.facts()) {
            *facts.entry(segment).or_default() += bytes;
        }
        facts
    }

    /// Whether anything can be staged.
    pub(super) fn is_writing(&self) -> bool {
        self.committer.stopped().is_none() && !self.closing
    }

    /// Whether nothing is staged any more.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Nothing is staged from now on.
    pub(super) fn close(&mut self, done: Done) -> Result<(), Refused> {
        if let Some(reason) = self.committer.stopped() {
            let reason = reason.clone();
            return Err((done, JournalError::Stopped { reason }));
        }
        if self.closing {
            return Err((done, JournalError::Closed));
        }
        self.closing = true;
        self.closers.push(done);
        self.step(Event::Closing);
        Ok(())
    }

    /// What callers see of a replica.
    pub(super) fn replica(&self, key: ReplicaKey) -> Option<ReplicaState> {
        let replica = self.replicas.get(&key).filter(|replica| !replica.retired)?;
        Some(ReplicaState {
            vote: replica.vote,
            purged: replica.purged,
            last: replica.tail.last(),
            durable: replica.tail.durable(self.synced),
            committed: replica.committed,
            image: replica.image.map(|image| image.at),
        })
    }

    /// All replicas that callers see.
    pub(super) fn keys(&self) -> Vec<ReplicaKey> {
        self.replicas.iter().filter(|(_, replica)| !replica.retired).map(|(key, _)| *key).collect()
    }

    /// Where the id of the entry at `index` is to be found.
    pub(super) fn locate(&self, key: ReplicaKey, index: Index) -> Located {
        let Some(replica) = self.replicas.get(&key).filter(|replica| !replica.retired) else {
            return Located::Nowhere;
        };
        if replica.tail.last().is_none_or(|last| last.index < index) {
            return Located::Nowhere;
        }
        if let Some(purged) = replica.purged.filter(|purged| index <= purged.index) {
            return if purged.index == index { Located::Known(purged) } else { Located::Nowhere };
        }
        let known = replica.tail.entry_id(index);
        let known = known.or_else(|| replica.file.frame_of(index).and_then(|frame| frame.entry_id(index)));
        let known = known.or_else(|| replica.moved_frame_of(index).and_then(|frame| frame.entry_id(index)));
        match known {
            Some(id) => Located::Known(id),
            None if replica.file.memory_start().is_some_and(|start| start <= index) => Located::Nowhere,
            None => Located::Indexed,
        }
    }

    fn entry_id(&self, key: ReplicaKey, index: Index, kv: &dyn Kv) -> Result<Option<EntryId>, KvError> {
        match self.locate(key, index) {
            Located::Nowhere => Ok(None),
            Located::Known(id) => Ok(Some(id)),
            Located::Indexed => Ok(index::frame_of(kv, key, index)?.and_then(|frame| frame.entry_id(index))),
        }
    }
}

/// Frames of at most `bound` bytes, unless one entry alone is larger.
fn split(entries: Vec<Entry>, bound: u64) -> Vec<Frame> {
    let cost = |entry: &Entry| (entry.payload.len() + DESCRIPTOR) as u64;
    if entries.iter().map(cost).sum::<u64>() <= bound {
        return vec![Frame::Entries(entries)];
    }
    let (mut frames, mut next, mut bytes) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        if !next.is_empty() && bytes + cost(&entry) > bound {
            frames.push(Frame::Entries(std::mem::take(&mut next)));
            bytes = 0;
        }
        bytes += cost(&entry);
        next.push(entry);
    }
    frames.push(Frame::Entries(next));
    frames
}
