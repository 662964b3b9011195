//! Finds out at start-up what the journal holds, and where it goes on.
//!
//! ```text
//!   indexed segments │ full, not indexed │ open                     │ spare
//!   not looked at    │ scanned, indexed  │ scanned to its very end  │ begun?
//! ```
//!
//! **Torn or damaged.** One commit is in flight at a time, and it is written
//! only after all before it were synced. So the bytes at `P` that are not a
//! valid commit are damage if a valid commit header follows anywhere later, or
//! the manifest says that the segment went on: they were synced. Otherwise
//! they are the one commit that never was, and it is dropped.
//!
//! **What is dropped stays dropped.** A commit's header is in its first
//! sector, and a dropped commit started at the very byte where the next one is
//! written: its header is overwritten first of all. Whatever else is left of
//! it lies behind the end of the chain, where only valid commit headers count,
//! and it has none. Between two valid headers every sector was synced, so that
//! frames may be looked for there without their header.
//!
//! **Whose damage.** A commit's directory names the replica of each frame; if
//! the header that holds it is damaged, the frames tell themselves. A replica
//! with damage is not started; where nothing tells whose a damaged byte was,
//! none of them is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::RecoveryReport;
use super::committer::Resume;
use super::config::Owner;
use super::entry::ReplicaKey;
use super::error::{Damage, DamagedPart, OpenError};
use super::finding::{Finding, examine};
use super::format::{CommitHeader, FIRST_COMMIT, Kind, Position, SECTOR};
use super::index::{self, FileReplica, Indexed, Living, SealedReplica};
use super::manifest::{Manifest, Segment};
use super::rescue;
use super::scan::Scanner;
use super::segment::{SegmentFile, path};
use crate::disk::Disk;
use crate::kv::Kv;

/// What recovery found.
pub(super) struct Recovered {
    pub(super) replicas: BTreeMap<ReplicaKey, FileReplica>,
    /// Replicas with frames in the open segment.
    pub(super) touched: BTreeSet<ReplicaKey>,
    /// Bytes of the frames of entries in it.
    pub(super) held: u64,
    /// Where to go on; `None` when a segment has to be prepared first.
    pub(super) resume: Option<Resume>,
    /// Of the next commit.
    pub(super) sequence: u64,
    /// Where the last commit ends.
    pub(super) mark: Position,
    pub(super) report: RecoveryReport,
    pub(super) living: Living,
}

/// Recovers the journal that `manifest` lists; notes in `manifest` where
/// segments turned out to end.
pub(super) fn recover(
    disk: &Arc<dyn Disk>,
    kv: &dyn Kv,
    owner: &Owner,
    manifest: &mut Manifest,
) -> Result<Recovered, OpenError> {
    for segment in &manifest.segments {
        let file = open(disk, *segment)?;
        if !file.check(owner)? {
            tracing::warn!(path = path(segment.id), "a segment's header is damaged; the manifest says the same");
        }
    }
    let mut recovery = Recovery::start(disk, kv, manifest)?;
    let segments = manifest.segments.clone();
    let first = recovery.indexed.map_or(0, |indexed| segments.partition_point(|it| it.id <= indexed.segment));
    let mut resume = None;
    for (ordinal, segment) in segments.iter().enumerate().skip(first) {
        let next = segments.get(ordinal + 1);
        match recovery.segment(*segment, next)? {
            Ended::Here { byte } if recovery.unattributed.is_some() => {
                // Replicas to come must not be blamed for it at the next
                // start: this segment is read for the last time.
                recovery.index(segment, byte)?;
                manifest.seal(segment.id, byte);
            }
            Ended::Here { byte } => {
                resume = Some(recovery.resume(*segment, byte)?);
                break;
            }
            Ended::InNext { end } => {
                recovery.index(segment, end)?;
                manifest.seal(segment.id, end);
            }
        }
    }
    recovery.finish(resume)
}

fn open(disk: &Arc<dyn Disk>, segment: Segment) -> Result<SegmentFile, OpenError> {
    SegmentFile::open(disk, segment).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => OpenError::SegmentMissing { path: path(segment.id) },
        _ => OpenError::disk("open", &path(segment.id), source),
    })
}

/// How a segment's chain of commits ended.
enum Ended {
    /// Nothing was written after this byte.
    Here { byte: u64 },
    /// The journal went on in the next segment.
    InNext { end: u64 },
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    kv: &'a dyn Kv,
    indexed: Option<Indexed>,
    replicas: BTreeMap<ReplicaKey, FileReplica>,
    touched: BTreeSet<ReplicaKey>,
    /// Bytes of the frames of entries in the segment being scanned.
    held: u64,
    /// Of the last commit; `None` before the first.
    sequence: Option<u64>,
    /// Where the last commit ends.
    mark: Position,
    /// Whether the last commit holds frames, or something that was dropped
    /// lies where the next one goes.
    unmarked: bool,
    /// Damage that could be anybody's.
    unattributed: Option<Damage>,
    report: RecoveryReport,
    living: Living,
}

impl<'a> Recovery<'a> {
    /// Begins with what the index holds, if that belongs to this journal.
    fn start(disk: &'a Arc<dyn Disk>, kv: &'a dyn Kv, manifest: &Manifest) -> Result<Self, OpenError> {
        let indexed = index::indexed(kv)?.filter(|indexed| {
            let same = |segment: &Segment| segment.id == indexed.segment && segment.nonce == indexed.nonce;
            manifest.segments.iter().any(same)
        });
        let replicas = if indexed.is_some() { index::replicas(kv)? } else { None };
        let indexed = indexed.filter(|_| replicas.is_some());
        let mut report = RecoveryReport::default();
        if indexed.is_none() {
            index::clear(kv)?;
            report.index_rebuilt = manifest.segments.iter().any(|segment| segment.sealed.is_some());
            if report.index_rebuilt {
                quipu_protocol::point!("index-rebuilt");
            }
        }
        let replicas: BTreeMap<_, _> = replicas.unwrap_or_default().into_iter().collect();
        for (key, replica) in &replicas {
            report.damage.extend(replica.damage.map(|damage| (Some(*key), damage)));
        }
        Ok(Self {
            disk,
            kv,
            replicas,
            touched: BTreeSet::new(),
            held: 0,
            sequence: indexed.map(|indexed| indexed.sequence),
            mark: indexed.map_or(Position::default(), |it| Position { segment: it.segment, byte: it.end }),
            unmarked: false,
            unattributed: None,
            living: if indexed.is_some() { Living::load(kv)? } else { Living::default() },
            indexed,
            report,
        })
    }

    /// Replays one segment.
    fn segment(&mut self, segment: Segment, next: Option<&Segment>) -> Result<Ended, OpenError> {
        let file = open(self.disk, segment)?;
        let mut scanner = Scanner::new(&file, segment);
        let mut byte = FIRST_COMMIT;
        let ended = loop {
            if segment.sealed == Some(byte) {
                break Ended::InNext { end: byte };
            }
            if let Some(header) = self.commit_at(&mut scanner, byte)? {
                if self.replay(&mut scanner, byte, &header, next)? {
                    byte += header.whole_length();
                    continue;
                }
                scanner.check_readable(byte, byte + header.whole_length())?;
                quipu_protocol::point!("torn-commit-dropped");
                self.report.torn_bytes += header.whole_length();
                // Its header is valid: if the journal rolled on from here, a
                // later start would take it for a commit that was synced. A
                // mark is written over it first.
                self.unmarked = true;
                break Ended::Here { byte };
            }
            // Not a commit: the end, or damage with something after it.
            match self.resync(&mut scanner, byte, next)? {
                Resync::Commit { at, sequence } => {
                    self.rescue(&mut scanner, byte, at, Some(sequence))?;
                    byte = at;
                }
                Resync::End { end, sequence } => {
                    self.rescue(&mut scanner, byte, end, sequence)?;
                    break Ended::InNext { end };
                }
                Resync::Nothing => {
                    scanner.check_readable(byte, byte + SECTOR)?;
                    if !scanner.is_zero(byte, (byte + SECTOR).min(segment.bytes))? {
                        quipu_protocol::point!("torn-commit-dropped");
                        self.report.torn_bytes += SECTOR;
                    }
                    break Ended::Here { byte };
                }
            }
        };
        self.report.scanned_segments += 1;
        self.report.scanned_bytes += scanner.read_bytes();
        Ok(ended)
    }

    /// The commit header at `byte`, if it follows the last commit.
    fn commit_at(&self, scanner: &mut Scanner<'_>, byte: u64) -> Result<Option<CommitHeader>, OpenError> {
        let header = scanner.commit_header(byte)?;
        Ok(header.filter(|header| self.sequence.is_none_or(|last| header.sequence == last + 1)))
    }

    /// Applies the commit with `header` at `byte`. False if it is not whole
    /// and was never synced, and hence is not there.
    fn replay(
        &mut self,
        scanner: &mut Scanner<'_>,
        byte: u64,
        header: &CommitHeader,
        next: Option<&Segment>,
    ) -> Result<bool, OpenError> {
        let findings = examine(scanner, byte, header)?;
        let damaged = findings.iter().any(|finding| finding.damage.is_some());
        if damaged && !self.was_synced(scanner, byte, header, next)? {
            return Ok(false);
        }
        let segment = scanner.segment().id;
        for finding in findings {
            self.apply(segment, finding);
        }
        self.sequence = Some(header.sequence);
        self.unmarked = header.frames > 0;
        self.mark = Position { segment, byte: byte + header.whole_length() };
        Ok(true)
    }

    /// Whether something after the commit at `byte` proves that it was synced.
    fn was_synced(
        &self,
        scanner: &mut Scanner<'_>,
        byte: u64,
        header: &CommitHeader,
        next: Option<&Segment>,
    ) -> Result<bool, OpenError> {
        let end = byte + header.whole_length();
        let segment = scanner.segment();
        if segment.sealed.is_some_and(|sealed| sealed >= end) {
            return Ok(true);
        }
        if scanner.next_commit(end, header.sequence)?.is_some() {
            return Ok(true);
        }
        Ok(self.begun(next, header.sequence)?.is_some())
    }

    /// What follows the damage at `byte`, if it is damage.
    fn resync(&self, scanner: &mut Scanner<'_>, byte: u64, next: Option<&Segment>) -> Result<Resync, OpenError> {
        let last = self.sequence.unwrap_or(0);
        if let Some((at, header)) = scanner.next_commit(byte, last)? {
            return Ok(Resync::Commit { at, sequence: header.sequence });
        }
        let segment = scanner.segment();
        let begun = self.begun(next, last)?;
        if let Some(end) = segment.sealed {
            return Ok(Resync::End { end: end.max(byte), sequence: begun.map(|begun| begun.sequence) });
        }
        let Some(begun) = begun else { return Ok(Resync::Nothing) };
        // The next segment's first commit says where this one ended; without
        // it, whatever is not zero here is looked at.
        let told = begun.mark.filter(|mark| mark.segment == segment.id && mark.byte >= byte);
        let end = match told {
            Some(mark) => mark.byte.min(segment.bytes),
            // One commit lies between, and that is its first.
            None if begun.sequence <= last + 1 => byte,
            None if scanner.is_zero(byte, segment.bytes)? => byte,
            None => segment.bytes,
        };
        Ok(Resync::End { end, sequence: Some(begun.sequence) })
    }

    /// Whether the journal went on in `next`: what its first commits say.
    fn begun(&self, next: Option<&Segment>, last: u64) -> Result<Option<Begun>, OpenError> {
        let Some(next) = next else { return Ok(None) };
        let file = open(self.disk, *next)?;
        let mut scanner = Scanner::new(&file, *next);
        let first = scanner.commit_header(FIRST_COMMIT)?.filter(|header| header.sequence > last);
        if let Some(header) = first {
            return Ok(Some(Begun { mark: Some(header.mark), sequence: header.sequence }));
        }
        if next.sealed.is_none() && scanner.is_zero_window(FIRST_COMMIT)? {
            return Ok(None);
        }
        let later = scanner.next_commit(FIRST_COMMIT, last)?;
        // Its first commit is damaged, so that at least that one lies between.
        Ok(later.map(|(_, header)| Begun { mark: None, sequence: header.sequence - 1 }))
    }

    /// Takes what can be told from `from..to`, whose commit headers are
    /// damaged and which was synced before the commit `before`.
    fn rescue(&mut self, scanner: &mut Scanner<'_>, from: u64, to: u64, before: Option<u64>) -> Result<(), OpenError> {
        let last = self.sequence.unwrap_or(0);
        let rescued = rescue::frames(scanner, from, to, last, before.unwrap_or(u64::MAX))?;
        let before = before.unwrap_or(rescued.sequence.max(last) + 1);
        let segment = scanner.segment().id;
        for finding in rescued.findings {
            self.apply(segment, finding);
        }
        // Sequences that lie between without any bytes are commits that are
        // missing altogether.
        let nothing = from == to && self.sequence.is_some_and(|last| last + 1 < before);
        if let Some(byte) = rescued.unexplained.or(nothing.then_some(from)) {
            let damage = Damage { segment, byte, index: None, part: DamagedPart::Unattributed };
            self.report.damage.push((None, damage));
            self.unattributed.get_or_insert(damage);
        } else if from < to {
            quipu_protocol::point!("damaged-header-survived");
            self.report.survived_headers += 1;
        }
        self.sequence = before.checked_sub(1);
        self.mark = Position { segment, byte: to };
        Ok(())
    }

    fn apply(&mut self, segment: u64, finding: Finding) {
        self.touched.insert(finding.key);
        if [Kind::Entries.code(), Kind::Relocated.code()].contains(&finding.kind) {
            self.held += u64::from(finding.length);
        }
        let replica = self.replicas.entry(finding.key).or_default();
        let place = Position { segment, byte: finding.byte };
        let mut damage = finding.damage.map(|part| (part, finding.index));
        if let Some(change) = finding.change
            && !replica.apply(change, place, finding.length)
            && replica.damage.is_none()
        {
            damage = Some((DamagedPart::Missing, finding.index));
        }
        let Some((part, index)) = damage else { return };
        let next = replica.last.map(|last| last.index.next());
        let index = index.or(if finding.kind == Kind::Entries.code() { next } else { None });
        let damage = Damage { segment, byte: finding.byte, index, part };
        quipu_protocol::point!("damage-found");
        replica.blame(damage);
        self.report.damage.push((Some(finding.key), damage));
    }

    /// Holds damage that could be anybody's against every replica that is
    /// known, also those of which only later frames were found.
    fn blame_everybody(&mut self) {
        let Some(damage) = self.unattributed else { return };
        for (key, replica) in &mut self.replicas {
            replica.blame(damage);
            self.touched.insert(*key);
        }
    }

    /// Moves a full segment's frames into the index.
    fn index(&mut self, segment: &Segment, end: u64) -> Result<(), OpenError> {
        self.blame_everybody();
        let touched = std::mem::take(&mut self.touched);
        let sealed: Vec<SealedReplica> =
            touched.into_iter().filter_map(|key| Some(self.replicas.get_mut(&key)?.seal(key, segment.id))).collect();
        let sequence = self.sequence.unwrap_or(0);
        let held = std::mem::take(&mut self.held);
        let indexed = Indexed { segment: segment.id, nonce: segment.nonce, end, sequence, held };
        index::add_segment(self.kv, &mut self.living, &sealed, indexed)?;
        for replica in self.replicas.values_mut() {
            replica.forget_through(segment.id);
        }
        self.replicas.retain(|_, replica| !replica.retired);
        Ok(())
    }

    /// Makes sure that what was found at the end is durable before anybody
    /// relies on it.
    fn resume(&mut self, segment: Segment, byte: u64) -> Result<Resume, OpenError> {
        let file = open(self.disk, segment)?;
        file.sync().map_err(|source| OpenError::disk("sync", &path(segment.id), source))?;
        Ok(Resume {
            place: Position { segment: segment.id, byte },
            bytes: segment.bytes,
            sequence: self.sequence.map_or(1, |last| last + 1),
            mark: self.mark,
            unmarked: self.unmarked,
        })
    }

    fn finish(mut self, resume: Option<Resume>) -> Result<Recovered, OpenError> {
        self.blame_everybody();
        if self.unattributed.is_some() {
            self.kv.flush()?;
        }
        self.report.last_commit = self.sequence.unwrap_or(0);
        Ok(Recovered {
            sequence: self.sequence.map_or(1, |last| last + 1),
            mark: self.mark,
            replicas: self.replicas,
            touched: self.touched,
            held: self.held,
            resume,
            report: self.report,
            living: self.living,
        })
    }
}

/// What comes after a byte that is not a valid commit's.
enum Resync {
    /// Another commit in the same segment.
    Commit { at: u64, sequence: u64 },
    /// Nothing more in this segment, which ends there; the next one goes on
    /// with `sequence`, if that is known.
    End { end: u64, sequence: Option<u64> },
    /// Nothing at all: these bytes were never synced.
    Nothing,
}

/// What the first commits of the next segment say.
struct Begun {
    /// Where this segment ended; unknown when the first of them is damaged.
    mark: Option<Position>,
    /// Of its first commit.
    sequence: u64,
}
