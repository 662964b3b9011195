//! Decides what is written when: one write in flight, everything staged in it.
//!
//! ```text
//!            staged, or a mark wanted          written and synced
//!   idle ───────────────────────────────► busy ───────────────────► idle
//!     │ what is next does not fit          │ failed
//!     ▼                                    ▼
//!   roll to a prepared segment           stopped, for ever
//!   (or wait for one)
//! ```
//!
//! A pure step function: events in, commands out, in order. Knows sizes and
//! positions, no bytes; who executes the commands keeps what was staged in
//! the same order and takes as many from its front as a command says.

use std::collections::VecDeque;
use std::sync::Arc;

use super::config::MAX_COMMIT_BYTES;
use super::format::{FIRST_COMMIT, Position, SECTOR, commit_header_length, whole_sectors};
use super::packing::Packing;

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A frame of this length was staged; one that does not force a commit
    /// rides with the next.
    Staged { length: u64, forces: bool },
    /// Nothing has happened for a while: the last commit wants its mark.
    MarkWanted,
    /// A prepared segment of this length is there.
    SpareReady { segment: u64, bytes: u64 },
    /// No segment can be prepared.
    NoSpare { reason: Arc<str> },
    /// The commit in flight is on stable storage.
    Synced,
    /// A write or a sync failed.
    Failed { reason: Arc<str> },
    /// Nothing more will be staged: write what is, mark it, and say so.
    Closing,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// The segment is full: nothing is written to it any more, and its last
    /// commit is synced.
    Seal { segment: u64, end: u64, sequence: u64 },
    /// Write the next `frames` staged frames as one commit, and sync it.
    Commit(Commit),
    /// What the commit in flight held is durable.
    Complete { wants_mark: bool },
    /// Nothing is durable any more that was not reported so: fail what is in
    /// flight and what is staged.
    Stop { reason: Arc<str> },
    /// Everything staged before closing is durable and marked.
    Closed,
}

/// One commit to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) place: Position,
    pub(super) sequence: u64,
    pub(super) mark: Position,
    pub(super) frames: usize,
}

/// Where the journal goes on, as recovery found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resume {
    pub(super) place: Position,
    /// The open segment's file length.
    pub(super) bytes: u64,
    /// Of the next commit.
    pub(super) sequence: u64,
    /// Where the last commit ends.
    pub(super) mark: Position,
    /// Whether the last commit holds frames and nothing marks it.
    pub(super) unmarked: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// A commit is being written: where it ends and what it holds.
    Busy {
        end: u64,
        bytes: u64,
        frames: usize,
    },
    Closed,
    Stopped {
        reason: Arc<str>,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Committer {
    phase: Phase,
    place: Position,
    segment_bytes: u64,
    sequence: u64,
    mark: Position,
    /// Frames are counted from one, what recovery found being the first.
    frames: Frames,
    mark_wanted: bool,
    closing: bool,
    waiting: VecDeque<Waiting>,
    /// How many of those waiting force a commit.
    forcing: usize,
    waiting_bytes: u64,
    spares: VecDeque<(u64, u64)>,
}

/// How far the frames have come.
#[derive(Clone, Copy, Debug)]
struct Frames {
    /// The last one that was staged.
    staged: u64,
    /// The last one of those that force a commit.
    forcing: u64,
    /// The last one in a commit that is on stable storage.
    synced: u64,
    /// The last one in a commit with another one behind it.
    marked: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    length: u64,
    forces: bool,
}

impl Committer {
    pub(super) fn new(resume: Resume) -> Self {
        Self {
            phase: Phase::Idle,
            place: resume.place,
            segment_bytes: resume.bytes,
            sequence: resume.sequence,
            mark: resume.mark,
            frames: Frames { staged: 1, forcing: 1, synced: 1, marked: u64::from(!resume.unmarked) },
            mark_wanted: false,
            closing: false,
            waiting: VecDeque::new(),
            forcing: 0,
            waiting_bytes: 0,
            spares: VecDeque::new(),
        }
    }

    /// Takes an event; appends what is to be done to `commands`.
    pub(super) fn step(&mut self, event: Event, commands: &mut VecDeque<Command>) {
        if matches!(self.phase, Phase::Stopped { .. } | Phase::Closed) {
            return;
        }
        match event {
            Event::Staged { length, forces } => {
                self.waiting.push_back(Waiting { length, forces });
                self.waiting_bytes += length;
                self.forcing += usize::from(forces);
                self.frames.staged += 1;
                if forces {
                    self.frames.forcing = self.frames.staged;
                }
            }
            Event::MarkWanted => self.mark_wanted = true,
            Event::SpareReady { segment, bytes } => {
                let newest = self.spares.back().map_or(self.place.segment, |(newest, _)| *newest);
                assert!(newest < segment, "segments are used in order: {segment} came after {newest}");
                self.spares.push_back((segment, bytes));
            }
            Event::NoSpare { reason } => {
                if self.is_starved() && self.must_write() {
                    return self.stop(format!("no segment can be prepared: {reason}").into(), commands);
                }
                // A mark alone can wait until it is wanted again.
                self.mark_wanted = false;
            }
            Event::Synced => self.synced(commands),
            Event::Failed { reason } => return self.stop(reason, commands),
            Event::Closing => self.closing = true,
        }
        self.advance(commands);
    }

    /// Bytes that are staged or in flight.
    pub(super) fn staged_bytes(&self) -> u64 {
        let in_flight = if let Phase::Busy { bytes, .. } = self.phase { bytes } else { 0 };
        self.waiting_bytes + in_flight
    }

    /// Bytes that are staged and not in flight.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Whether what waits, and then frames of these lengths, can be written
    /// without another segment.
    pub(super) fn has_room_for(&self, more: &[u64]) -> bool {
        let mut spares = self.spares.iter();
        let mut packing = self.place_after_flight();
        for next in self.waiting.iter().map(|waiting| waiting.length).chain(more.iter().copied()) {
            while !packing.add(next) {
                let Some((_, spare)) = spares.next() else { return false };
                packing.roll(*spare);
            }
        }
        true
    }

    /// Where frames go that come after all that waits.
    pub(super) fn packing(&self) -> Packing {
        let mut packing = self.place_after_flight();
        let segment_bytes = self.spares.front().map_or(self.segment_bytes, |(_, bytes)| *bytes);
        for waiting in &self.waiting {
            if !packing.add(waiting.length) {
                packing.roll(segment_bytes);
                packing.add(waiting.length);
            }
        }
        packing.end_commit();
        packing
    }

    fn place_after_flight(&self) -> Packing {
        Packing::from(self.place.byte + self.in_flight_sectors(), self.segment_bytes)
    }

    /// Bytes left in the open segment and in the spare ones.
    pub(super) fn room(&self) -> u64 {
        let open = self.segment_bytes - self.place.byte;
        let spares: u64 = self.spares.iter().map(|(_, bytes)| bytes - FIRST_COMMIT).sum();
        open + spares - self.in_flight_sectors()
    }

    /// How many prepared segments wait for use.
    pub(super) fn spares(&self) -> usize {
        self.spares.len()
    }

    /// Why nothing is written any more.
    pub(super) fn stopped(&self) -> Option<&Arc<str>> {
        if let Phase::Stopped { reason } = &self.phase { Some(reason) } else { None }
    }

    /// The number of the last staged frame that a caller relies on.
    pub(super) fn staged_through(&self) -> u64 {
        self.frames.forcing
    }

    /// The last frame that is on stable storage, with a mark behind it.
    pub(super) fn marked_through(&self) -> u64 {
        self.frames.marked
    }

    fn is_unmarked(&self) -> bool {
        self.frames.marked < self.frames.synced
    }

    /// Whether everything was written before closing.
    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether nothing can be written for want of a prepared segment.
    pub(super) fn is_starved(&self) -> bool {
        let mark = self.is_unmarked() && self.mark_wanted;
        self.phase == Phase::Idle && self.spares.is_empty() && (self.must_write() || mark) && !self.fits()
    }

    /// Whether somebody waits for what is not written yet.
    fn must_write(&self) -> bool {
        self.forcing > 0 || self.closing
    }

    fn in_flight_sectors(&self) -> u64 {
        if let Phase::Busy { end, .. } = self.phase { end - self.place.byte } else { 0 }
    }

    fn synced(&mut self, commands: &mut VecDeque<Command>) {
        let Phase::Busy { end, frames, .. } = self.phase else {
            unreachable!("a commit was synced that was not written");
        };
        self.place.byte = end;
        self.mark = self.place;
        self.sequence += 1;
        // It marks those before it.
        self.frames.marked = self.frames.synced;
        self.frames.synced += frames as u64;
        self.phase = Phase::Idle;
        commands.push_back(Command::Complete { wants_mark: self.is_unmarked() });
    }

    fn stop(&mut self, reason: Arc<str>, commands: &mut VecDeque<Command>) {
        self.phase = Phase::Stopped { reason: reason.clone() };
        self.waiting.clear();
        (self.forcing, self.waiting_bytes) = (0, 0);
        commands.push_back(Command::Stop { reason });
    }

    /// Starts a commit if there is a reason for one and nothing is in flight.
    fn advance(&mut self, commands: &mut VecDeque<Command>) {
        if self.phase != Phase::Idle {
            return;
        }
        let leftovers = self.closing && !self.waiting.is_empty();
        let marks = self.is_unmarked() && (self.mark_wanted || self.closing);
        if self.forcing == 0 && !marks && !leftovers {
            self.mark_wanted = false;
            if self.closing {
                self.phase = Phase::Closed;
                commands.push_back(Command::Closed);
            }
            return;
        }
        if !self.fits() {
            let Some((segment, bytes)) = self.spares.pop_front() else { return };
            let Position { segment: full, byte: end } = self.place;
            commands.push_back(Command::Seal { segment: full, end, sequence: self.sequence - 1 });
            self.place = Position { segment, byte: FIRST_COMMIT };
            self.segment_bytes = bytes;
            assert!(self.fits(), "a frame was staged that fits into no segment of {bytes} bytes");
        }
        self.commit(commands);
    }

    /// Whether a commit of the next frame, or of none, fits.
    fn fits(&self) -> bool {
        let next = self.waiting.front().map_or(0, |waiting| waiting.length);
        let frames = usize::from(!self.waiting.is_empty());
        whole_sectors(commit_header_length(frames) + next) <= self.segment_bytes - self.place.byte
    }

    fn commit(&mut self, commands: &mut VecDeque<Command>) {
        let room = (self.segment_bytes - self.place.byte).min(MAX_COMMIT_BYTES);
        let (mut frames, mut length) = (0, 0);
        while let Some(next) = self.waiting.front() {
            let whole = whole_sectors(commit_header_length(frames + 1) + length + next.length);
            // The first frame fits into the segment, however large it is.
            if frames > 0 && whole > room {
                break;
            }
            frames += 1;
            length += next.length;
            self.forcing -= usize::from(next.forces);
            self.waiting.pop_front();
        }
        self.waiting_bytes -= length;
        let end = self.place.byte + whole_sectors(commit_header_length(frames) + length);
        debug_assert!(end <= self.segment_bytes, "a commit ends in its segment");
        self.phase = Phase::Busy { end, bytes: length, frames };
        self.mark_wanted = false;
        commands.push_back(Command::Commit(Commit {
            place: self.place,
            sequence: self.sequence,
            mark: self.mark,
            frames,
        }));
    }
}

const _: () = assert!(FIRST_COMMIT == SECTOR, "the room of a spare is all but its header sector");

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 16 * SECTOR;

    fn committer() -> Committer {
        let place = Position { segment: 1, byte: FIRST_COMMIT };
        Committer::new(Resume { place, bytes: SEGMENT, sequence: 1, mark: Position::default(), unmarked: false })
    }

    fn step(committer: &mut Committer, event: Event) -> Vec<Command> {
        let mut commands = VecDeque::new();
        committer.step(event, &mut commands);
        commands.into()
    }

    fn staged(length: u64) -> Event {
        Event::Staged { length, forces: true }
    }

    fn commit(segment: u64, sector: u64, sequence: u64, mark: (u64, u64), frames: usize) -> Command {
        Command::Commit(Commit {
            place: Position { segment, byte: sector * SECTOR },
            sequence,
            mark: Position { segment: mark.0, byte: mark.1 * SECTOR },
            frames,
        })
    }

    #[test]
    fn one_commit_is_in_flight_and_the_next_takes_all_that_waited() {
        let mut committer = committer();
        assert_eq!(step(&mut committer, staged(1000)), [commit(1, 1, 1, (0, 0), 1)]);
        assert_eq!(step(&mut committer, staged(3000)), []);
        assert_eq!(step(&mut committer, staged(3000)), []);
        assert_eq!(committer.staged_bytes(), 7000);
        let next = step(&mut committer, Event::Synced);
        assert_eq!(next, [Command::Complete { wants_mark: true }, commit(1, 2, 2, (1, 2), 2)]);
    }

    #[test]
    fn a_full_segment_is_left_once_its_last_commit_is_synced_and_a_spare_is_there() {
        let mut committer = committer();
        step(&mut committer, staged(14 * SECTOR));
        assert_eq!(step(&mut committer, staged(SECTOR)), []);
        assert_eq!(step(&mut committer, Event::Synced), [Command::Complete { wants_mark: true }]);
        assert!(committer.is_starved());
        let rolled = step(&mut committer, Event::SpareReady { segment: 2, bytes: SEGMENT });
        let sealed = Command::Seal { segment: 1, end: 16 * SECTOR, sequence: 1 };
        assert_eq!(rolled, [sealed, commit(2, 1, 2, (1, 16), 1)]);
    }

    #[test]
    fn a_hint_waits_for_company() {
        let mut committer = committer();
        assert_eq!(step(&mut committer, Event::Staged { length: 88, forces: false }), []);
        assert_eq!(step(&mut committer, staged(88)), [commit(1, 1, 1, (0, 0), 2)]);
    }

    #[test]
    fn a_mark_is_written_once_and_only_after_frames() {
        let mut committer = committer();
        assert_eq!(step(&mut committer, Event::MarkWanted), []);
        step(&mut committer, staged(88));
        step(&mut committer, Event::Synced);
        assert_eq!(step(&mut committer, Event::MarkWanted), [commit(1, 2, 2, (1, 2), 0)]);
        assert_eq!(step(&mut committer, Event::Synced), [Command::Complete { wants_mark: false }]);
        assert_eq!(step(&mut committer, Event::MarkWanted), []);
    }

    #[test]
    fn closing_writes_what_waits_and_a_mark_and_nothing_after() {
        let mut committer = committer();
        step(&mut committer, staged(88));
        step(&mut committer, Event::Staged { length: 88, forces: false });
        assert_eq!(step(&mut committer, Event::Closing), []);
        let hint = step(&mut committer, Event::Synced);
        assert_eq!(hint, [Command::Complete { wants_mark: true }, commit(1, 2, 2, (1, 2), 1)]);
        let mark = step(&mut committer, Event::Synced);
        assert_eq!(mark, [Command::Complete { wants_mark: true }, commit(1, 3, 3, (1, 3), 0)]);
        let closed = step(&mut committer, Event::Synced);
        assert_eq!(closed, [Command::Complete { wants_mark: false }, Command::Closed]);
        assert_eq!(step(&mut committer, staged(88)), []);
    }

    #[test]
    fn a_failure_is_reported_once_and_ends_everything() {
        let mut committer = committer();
        step(&mut committer, staged(88));
        let reason: Arc<str> = "the disk is gone".into();
        let stop = Command::Stop { reason: reason.clone() };
        assert_eq!(step(&mut committer, Event::Failed { reason: reason.clone() }), [stop]);
        assert_eq!(step(&mut committer, Event::Failed { reason }), []);
        assert_eq!(step(&mut committer, Event::Synced), []);
        assert_eq!(step(&mut committer, staged(88)), []);
        assert_eq!(committer.stopped().map(|reason| &**reason), Some("the disk is gone"));
    }

    #[test]
    fn without_a_spare_it_waits_and_stops_only_when_there_will_be_none() {
        let mut committer = committer();
        step(&mut committer, staged(14 * SECTOR));
        // Nothing is lost while what is in flight may still be synced.
        assert_eq!(step(&mut committer, Event::NoSpare { reason: "full".into() }), []);
        step(&mut committer, Event::Synced);
        step(&mut committer, staged(SECTOR));
        let stopped = step(&mut committer, Event::NoSpare { reason: "full".into() });
        assert!(matches!(&stopped[..], [Command::Stop { reason }] if reason.contains("full")));
    }

    #[test]
    fn a_mark_takes_a_segment_where_the_open_one_is_full_and_can_wait_for_one() {
        let mut committer = committer();
        step(&mut committer, staged(14 * SECTOR));
        step(&mut committer, Event::Synced);
        assert!(!committer.is_starved(), "nothing waits");
        assert_eq!(step(&mut committer, Event::MarkWanted), []);
        assert!(committer.is_starved());
        assert_eq!(step(&mut committer, Event::NoSpare { reason: "full".into() }), []);
        assert!(!committer.is_starved(), "nobody asks for another one at once");
        assert!(committer.marked_through() < committer.staged_through());
        step(&mut committer, Event::MarkWanted);
        let marked = step(&mut committer, Event::SpareReady { segment: 2, bytes: SEGMENT });
        assert_eq!(marked.last(), Some(&commit(2, 1, 2, (1, 16), 0)));
    }

    #[test]
    fn a_frame_is_marked_once_its_commit_and_the_one_behind_it_are_synced() {
        let mut committer = committer();
        assert_eq!(committer.marked_through(), committer.staged_through(), "nothing was written");
        step(&mut committer, staged(100));
        let first = committer.staged_through();
        step(&mut committer, staged(100));
        step(&mut committer, Event::Staged { length: 88, forces: false });
        let second = committer.staged_through();
        assert!(first < second);
        step(&mut committer, Event::Synced);
        assert!(committer.marked_through() < first, "nothing marks it");
        step(&mut committer, Event::Synced);
        let marked = committer.marked_through();
        assert!((first..second).contains(&marked), "the second commit marks the first");
        step(&mut committer, Event::MarkWanted);
        step(&mut committer, Event::Synced);
        assert!(committer.marked_through() >= second);
        let (staged, marked) = (committer.staged_through(), committer.marked_through());
        step(&mut committer, Event::Staged { length: 88, forces: false });
        assert_eq!((committer.staged_through(), committer.marked_through()), (staged, marked), "a hint says nothing");
    }

    #[test]
    fn what_recovery_found_without_a_mark_is_unmarked() {
        let place = Position { segment: 1, byte: FIRST_COMMIT };
        let resume = Resume { place, bytes: SEGMENT, sequence: 1, mark: Position::default(), unmarked: true };
        let mut committer = Committer::new(resume);
        assert!(committer.marked_through() < committer.staged_through());
        assert_eq!(step(&mut committer, Event::MarkWanted), [commit(1, 1, 1, (0, 0), 0)]);
        step(&mut committer, Event::Synced);
        assert_eq!(committer.marked_through(), committer.staged_through());
    }
}
