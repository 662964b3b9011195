//! Reads entries: from memory at once, from segments on the read lane.
//!
//! ```text
//!   start ─────────────────────────────────────────────► end
//!   indexed frames (Kv) │ frames in memory │ recent entries
//!   └── read in spans, whole frames, checked ┘ └ as they are
//! ```
//!
//! A frame that is not what was written is never served (see [`super::rot`]).
//! What is found before it is; the next read then starts with the damage.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quipu_protocol::Index;

use super::driver::Shared;
use super::entry::{Entry, ReplicaKey};
use super::error::{Damage, DamagedPart, ReadError};
use super::format::{FrameHeader, Kind, Position};
use super::frame;
use super::index::{self, FrameRef, ImageRef};
use super::state::Replica;
use super::{ImageDone, ReadDone};
use crate::disk::{AlignedBuffer, Lane, Operation, Outcome};

/// What is read at once, unless one frame alone is larger.
const SPAN_BYTES: u64 = 4 * 1024 * 1024;

/// Other groups' bytes that are read over rather than stepped over.
const GAP_BYTES: u64 = 64 * 1024;

/// How many rows of the index are looked at in one go.
const ROWS: usize = 256;

/// A read that needs the disk.
struct Plan {
    key: ReplicaKey,
    range: Range<Index>,
    /// Where `recent` goes on, or `range` ends.
    disk_end: Index,
    max_bytes: u64,
    /// Frames in memory that may be needed, ascending.
    memory: Vec<FrameRef>,
    recent: Vec<Entry>,
    /// Frames that lie elsewhere than the index says.
    moved: BTreeMap<Index, FrameRef>,
    /// See [`State::read_began`](super::state::State::read_began).
    read: u64,
}

impl Shared {
    /// See [`Journal::read`](super::Journal::read).
    pub(super) fn read(self: &Arc<Self>, key: ReplicaKey, range: Range<Index>, max_bytes: u64, done: ReadDone) {
        let plan = match self.plan(key, range, max_bytes) {
            Err(result) => return done(result),
            Ok(plan) => plan,
        };
        let (reader, ended, read) = (self.clone(), self.clone(), plan.read);
        // The result travels from the task to its completion, which runs
        // whether the task did or not.
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let task = Operation::Task(Box::new(move || {
            let _ = send.send(reader.execute_read(plan));
        }));
        let completion = Box::new(move |ran: io::Result<Outcome>| {
            ended.read_ended(read);
            done(match ran {
                Err(error) => Err(ReadError::Disk(Arc::new(error))),
                Ok(_) => receive.recv().unwrap_or_else(|_| Err(given_up())),
            });
        });
        self.disk.submit(Lane::Read, task, completion);
    }

    /// What has to be read from the disk, or the result if nothing has.
    fn plan(
        &self,
        key: ReplicaKey,
        range: Range<Index>,
        max_bytes: u64,
    ) -> Result<Plan, Result<Vec<Entry>, ReadError>> {
        let mut state = self.lock();
        let replica = state.replicas.get(&key).ok_or(Err(ReadError::UnknownReplica { key }))?;
        let Some(last) = replica.tail.last() else { return Err(Ok(Vec::new())) };
        let range = range.start..range.end.min(last.index.next());
        if range.is_empty() {
            return Err(Ok(Vec::new()));
        }
        if let Some(purged) = replica.purged().filter(|purged| range.start <= purged.index) {
            return Err(Err(ReadError::Purged { purged: purged.index }));
        }
        let tail_start = replica.tail.start().unwrap_or(range.end);
        let mut recent = Vec::new();
        if tail_start <= range.start {
            replica.tail.read(&range, max_bytes, &mut recent);
            return Err(Ok(recent));
        }
        replica.tail.read(&(tail_start..range.end), max_bytes, &mut recent);
        let mut disk_end = tail_start.min(range.end);
        let frames = &replica.file.frames;
        let first = frames.partition_point(|frame| frame.end() <= range.start);
        let mut memory = Vec::new();
        let mut bytes = 0;
        for frame in frames.range(first..).take_while(|frame| frame.first < disk_end) {
            if bytes > max_bytes {
                // Enough, though the headers were counted too.
                disk_end = frame.first;
                recent.clear();
                break;
            }
            bytes += u64::from(frame.length);
            memory.push(frame.clone());
        }
        let from = replica.moved.range(..=range.start).next_back().map_or(range.start, |(first, _)| *first);
        let moved = replica.moved.range(from..range.end).map(|(first, frame)| (*first, frame.clone())).collect();
        let read = state.read_began();
        Ok(Plan { key, range, disk_end, max_bytes, memory, recent, moved, read })
    }

    /// See [`Journal::read_image`](super::Journal::read_image).
    pub(super) fn read_image(self: &Arc<Self>, key: ReplicaKey, done: ImageDone) {
        let mut state = self.lock();
        let Some(image) = state.replicas.get(&key).and_then(Replica::image) else {
            drop(state);
            return done(Ok(None));
        };
        let read = state.read_began();
        drop(state);
        let (reader, ended) = (self.clone(), self.clone());
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let task = Operation::Task(Box::new(move || {
            let read = reader.image(key, &image);
            if let Err(ReadError::Damaged { key, damage }) = &read {
                reader.found(*key, *damage);
            }
            let _ = send.send(read);
        }));
        let completion = Box::new(move |ran: io::Result<Outcome>| {
            ended.read_ended(read);
            let result = match ran {
                Err(error) => Err(ReadError::Disk(Arc::new(error))),
                Ok(_) => receive.recv().unwrap_or_else(|_| Err(given_up())),
            };
            done(result.map(|bytes| Some((image.at, bytes))));
        });
        self.disk.submit(Lane::Read, task, completion);
    }

    /// The bytes of an image, if they are what was written; read twice before
    /// it is said that they are not.
    pub(super) fn image(&self, key: ReplicaKey, image: &ImageRef) -> Result<Bytes, ReadError> {
        match self.image_once(key, image) {
            Err(ReadError::Damaged { .. }) => self.image_once(key, image).inspect(|_| self.misread(key)),
            read => read,
        }
    }

    fn image_once(&self, key: ReplicaKey, image: &ImageRef) -> Result<Bytes, ReadError> {
        let Position { segment: id, byte: named } = image.place;
        let disk = |error| ReadError::Disk(Arc::new(error));
        let damaged = |part| ReadError::Damaged { key, damage: Damage { segment: id, byte: named, index: None, part } };
        let segment = self.lock().segments.get(&id).copied();
        let segment = segment.ok_or(ReadError::Missing { key, index: image.at.index })?;
        let file = self.files.get(segment).map_err(disk)?;
        let mut buffer = AlignedBuffer::new();
        let byte = named.min(segment.bytes);
        let end = byte.saturating_add(image.length.into()).min(segment.bytes);
        let start = file.read_checked(byte, end, &mut buffer).map_err(disk)?;
        let from = usize::try_from(byte - start).expect("a frame fits into memory");
        let to = usize::try_from(end - start).expect("a frame fits into memory");
        let frame = &buffer[from..to];
        let header = FrameHeader::decode(segment.nonce, byte, frame).filter(|header| {
            let same = header.key == key && header.index == image.at.index.get();
            same && header.kind == Kind::StateImage
        });
        let header = header.ok_or_else(|| damaged(DamagedPart::FrameHeader))?;
        let payload = header.payload(segment.nonce, frame).ok_or_else(|| damaged(DamagedPart::Payload))?;
        Ok(Bytes::copy_from_slice(payload))
    }

    fn execute_read(self: &Arc<Self>, plan: Plan) -> Result<Vec<Entry>, ReadError> {
        let mut reading = Reading { entries: Vec::new(), next: plan.range.start, left: plan.max_bytes };
        let read = self.read_disk(&plan, &mut reading);
        if let Err(ReadError::Damaged { key, damage }) = &read {
            self.found(*key, *damage);
        }
        match read {
            Ok(()) => {}
            Err(_) if !reading.entries.is_empty() => return Ok(reading.entries),
            Err(error) => return self.excuse(&plan, &reading, error),
        }
        if reading.next == plan.disk_end {
            for entry in plan.recent {
                if !reading.take(entry) {
                    break;
                }
            }
        }
        Ok(reading.entries)
    }

    fn read_disk(&self, plan: &Plan, reading: &mut Reading) -> Result<(), ReadError> {
        let mut buffer = AlignedBuffer::new();
        while reading.next < plan.disk_end && reading.has_room() {
            let frames = self.frames(plan, reading.next)?;
            if !frames.first().is_some_and(|frame| frame.first <= reading.next && reading.next < frame.end()) {
                return Err(ReadError::Missing { key: plan.key, index: reading.next });
            }
            let mut rest = &frames[..];
            while !rest.is_empty() && reading.has_room() {
                let span = span(rest, reading.left);
                self.read_span(plan, &rest[..span], &mut buffer, reading)?;
                rest = &rest[span..];
            }
        }
        Ok(())
    }

    /// Frames that follow each other from the one that holds `next` on, in
    /// memory or indexed.
    fn frames(&self, plan: &Plan, next: Index) -> Result<Vec<FrameRef>, ReadError> {
        let memory_start = plan.memory.first().map_or(plan.disk_end, |frame| frame.first);
        let mut frames = Vec::new();
        if next < memory_start {
            let first = index::frame_of(self.kv.as_ref(), plan.key, next)?;
            let until = memory_start.min(plan.disk_end);
            let following = index::frames_from(self.kv.as_ref(), plan.key, next.next(), until, ROWS)?;
            let looked = looked_through(&following, ROWS, until);
            frames.extend(first.into_iter().chain(following));
            put_in_place(&mut frames, &plan.moved, next..looked);
            clip(&mut frames, until);
            frames.retain(|frame| frame.end() > next);
        } else {
            let after = plan.memory.partition_point(|frame| frame.first <= next);
            frames.extend_from_slice(&plan.memory[after.saturating_sub(1)..]);
            put_in_place(&mut frames, &plan.moved, NONE);
            clip(&mut frames, plan.disk_end);
        }
        let gapless = frames.windows(2).take_while(|pair| pair[0].end() == pair[1].first).count();
        frames.truncate(gapless + 1);
        Ok(frames)
    }

    /// Reads frames that lie near each other, and takes their entries.
    fn read_span(
        &self,
        plan: &Plan,
        frames: &[FrameRef],
        buffer: &mut AlignedBuffer,
        reading: &mut Reading,
    ) -> Result<(), ReadError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Ok(()) };
        let missing = ReadError::Missing { key: plan.key, index: first.first };
        let segment = self.lock().segments.get(&first.place.segment).copied().ok_or(missing.clone())?;
        let end = last.place.byte.saturating_add(u64::from(last.length));
        if end > segment.bytes {
            return Err(missing);
        }
        let file = self.files.get(segment).map_err(|error| ReadError::Disk(Arc::new(error)))?;
        let start =
            file.read_checked(first.place.byte, end, buffer).map_err(|error| ReadError::Disk(Arc::new(error)))?;
        for frame in frames {
            let from = usize::try_from(frame.place.byte - start).expect("a span fits into memory");
            let bytes = &buffer[from..from + frame.length as usize];
            let entries = match checked(plan.key, frame, segment.nonce, bytes, reading.next) {
                Err(ReadError::Damaged { .. }) => self.read_again(segment, plan.key, frame, reading.next)?,
                checked => checked?,
            };
            for entry in entries {
                if entry.id.index >= frame.end() || !reading.take(entry) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// An entry that is not found is no error if it is gone by now.
    fn excuse(&self, plan: &Plan, reading: &Reading, error: ReadError) -> Result<Vec<Entry>, ReadError> {
        if !matches!(error, ReadError::Missing { .. }) {
            return Err(error);
        }
        let state = self.lock();
        let replica = state.replicas.get(&plan.key);
        if let Some(purged) = replica.and_then(Replica::purged).filter(|it| reading.next <= it.index) {
            return Err(ReadError::Purged { purged: purged.index });
        }
        match replica.and_then(|replica| replica.tail.last()) {
            Some(last) if reading.next <= last.index => Err(error),
            _ => Ok(Vec::new()),
        }
    }
}

pub(super) fn given_up() -> ReadError {
    ReadError::Disk(Arc::new(io::Error::other("the read was given up")))
}

/// What a read has so far.
struct Reading {
    entries: Vec<Entry>,
    next: Index,
    /// Bytes of payload that may still be taken.
    left: u64,
}

impl Reading {
    fn has_room(&self) -> bool {
        self.entries.is_empty() || self.left > 0
    }

    /// Takes the next entry; false if it does not fit any more.
    fn take(&mut self, entry: Entry) -> bool {
        let bytes = entry.payload.len() as u64;
        if bytes > self.left && !self.entries.is_empty() {
            self.left = 0;
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        self.next = entry.id.index.next();
        self.entries.push(entry);
        true
    }
}

/// No index at all.
pub(super) const NONE: Range<Index> = Index::new(0)..Index::new(0);

/// Up to where a look for at most `limit` frames that begin before `until` went,
/// which found `following`.
pub(super) fn looked_through(following: &[FrameRef], limit: usize, until: Index) -> Index {
    match following.last() {
        Some(last) if following.len() >= limit => last.first.next(),
        _ => until,
    }
}

/// Lets frames that were mended or written again lie where they do now, and puts
/// those of `range` among them that the index does not know: a rebuilt one knows
/// nothing of places that were gone.
pub(super) fn put_in_place(frames: &mut Vec<FrameRef>, moved: &BTreeMap<Index, FrameRef>, range: Range<Index>) {
    for frame in frames.iter_mut() {
        if let Some(to) = moved.get(&frame.first) {
            (frame.place, frame.length) = (to.place, to.length);
        }
    }
    let known = frames.len();
    for frame in moved.range(..range.end).map(|(_, frame)| frame).filter(|frame| frame.end() > range.start) {
        if frames[..known].binary_search_by_key(&frame.first, |known| known.first).is_err() {
            frames.push(frame.clone());
        }
    }
    frames.sort_by_key(|frame| frame.first);
}

/// Lets every frame end where the next one starts, and the last at `until`:
/// later frames win.
pub(super) fn clip(frames: &mut [FrameRef], until: Index) {
    let mut end = until;
    for frame in frames.iter_mut().rev() {
        let fitting = end.get().saturating_sub(frame.first.get());
        frame.count = frame.count.min(u32::try_from(fitting).unwrap_or(u32::MAX));
        end = frame.first;
    }
}

/// How many of `frames` to read at once: those that follow closely, as long
/// as they are wanted.
fn span(frames: &[FrameRef], wanted: u64) -> usize {
    let Some(first) = frames.first() else { return 0 };
    let (mut end, mut useful) = (frame_end(first), u64::from(first.length));
    let mut count = 1;
    for (before, frame) in frames.iter().zip(&frames[1..]) {
        let gapless = before.end() == frame.first;
        let near = (end..end.saturating_add(GAP_BYTES)).contains(&frame.place.byte);
        let small = frame_end(frame).saturating_sub(first.place.byte) <= SPAN_BYTES;
        let same = first.place.segment == frame.place.segment;
        if !(gapless && near && small && same && useful < wanted) {
            break;
        }
        end = frame_end(frame);
        useful += u64::from(frame.length);
        count += 1;
    }
    count
}

fn frame_end(frame: &FrameRef) -> u64 {
    frame.place.byte.saturating_add(u64::from(frame.length))
}

/// The entries of a frame from `next` on, if its bytes are what was written.
pub(super) fn checked(
    key: ReplicaKey,
    frame: &FrameRef,
    nonce: u64,
    bytes: &[u8],
    next: Index,
) -> Result<Vec<Entry>, ReadError> {
    let Position { segment, byte } = frame.place;
    let damaged = |part| ReadError::Damaged { key, damage: Damage { segment, byte, index: Some(frame.first), part } };
    let header = FrameHeader::decode(nonce, byte, bytes).filter(|header| {
        let same = header.key == key && header.index == frame.first.get();
        same && matches!(header.kind, Kind::Entries | Kind::Relocated) && header.count >= frame.count
    });
    let header = header.ok_or_else(|| damaged(DamagedPart::FrameHeader))?;
    let payload = header.payload(nonce, bytes).ok_or_else(|| damaged(DamagedPart::Payload))?;
    Ok(frame::entries_of(&header, bytes, payload, next.max(frame.first)))
}
