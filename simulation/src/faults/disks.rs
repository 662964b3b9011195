//! Faults of disks, and what operators do about them.

use quipu_storage::MemoryDisk;
use quipu_storage::journal::JournalConfig;

use super::{Custody, Draw, Kind, Strike, Undo};
use crate::event::Stop;
use crate::run::Run;
use crate::scenario::FaultPlan;
use crate::segments;

/// How long the operator looks at a node that refuses its disk.
const LOOKS_MS: u64 = 400;

impl Run<'_> {
    pub(super) fn strike_disks(&mut self, plan: &FaultPlan, draw: &mut Draw) -> Option<Strike> {
        let all: Vec<u64> = self.cluster.nodes.keys().copied().collect();
        let up: Vec<u64> = self.cluster.nodes.values().filter(|node| node.is_up()).map(|node| node.number).collect();
        if plan.kind.spoils() && !self.may_spoil() {
            return None;
        }
        match plan.kind {
            Kind::FsyncError => {
                let node = draw.one(&up)?;
                self.cluster.nodes[&node].disk().fail_next_sync();
                Some(Strike::on([node], "the next one").undone_by(Undo::Start(node)))
            }
            Kind::DiskFull => {
                let node = draw.one(&up)?;
                let disk = self.cluster.nodes[&node].disk();
                // Half of the time it is what the low-space mark keeps that is left.
                let kept = JournalConfig::default().low_space_bytes;
                let (left, details) = if draw.below(2) == 0 { (0, "no file grows") } else { (kept, "nearly full") };
                disk.limit_bytes(Some(disk.size() + left));
                Some(Strike::on([node], details).undone_by(Undo::Room(node)))
            }
            Kind::LostMetadata => {
                let node = draw.one(&up)?;
                self.stop_node(node, Stop::Killed);
                self.cluster.nodes[&node].lose_metadata();
                self.cluster.start(node);
                Some(Strike::on([node], "all of it"))
            }
            // One exchange at a time, or nobody would find his own again.
            Kind::SwappedDisks if up.len() > 1 && self.custody == Custody::Good && !self.is_active(plan.kind) => {
                let one = draw.one(&up)?;
                let other = draw.one(&up.iter().copied().filter(|node| *node != one).collect::<Vec<_>>())?;
                self.swap_disks(one, other);
                Some(
                    Strike::on([one, other], format!("of nodes {one} and {other}"))
                        .undone_by(Undo::SwapBack(one, other)),
                )
            }
            Kind::Rot => {
                let node = draw.one(&up)?;
                let place = segments::sealed_payload(&self.cluster.nodes[&node].disk(), |bound| draw.below(bound))?;
                let server = self.cluster.nodes[&node].server()?;
                let passes = server.node().journal().counters().scrub_passes;
                let boot = self.cluster.nodes[&node].boots();
                let disk = self.cluster.nodes[&node].disk();
                self.custody = Custody::InDoubt(node);
                disk.flip_bit(&place.path, place.byte, place.bit);
                let details = format!("bit {} of byte {} of {}", place.bit, place.byte, place.path);
                Some(Strike::on([node], details).undone_by(Undo::Scrubbed { node, boot, passes }))
            }
            Kind::Misread => {
                let node = draw.one(&up)?;
                let disk = self.cluster.nodes[&node].disk();
                let place = segments::sealed_payload(&disk, |bound| draw.below(bound))?;
                disk.misread_once(&place.path, place.byte);
                Some(Strike::on([node], format!("byte {} of {} is read wrong once", place.byte, place.path)))
            }
            Kind::BitFlip | Kind::BadSector | Kind::StaleFile => {
                let node = draw.one(&all)?;
                let details = self.spoil_bytes(plan.kind, node, draw)?;
                self.custody = Custody::InDoubt(node);
                // Half of the time it is found by a start, else by a read.
                if draw.below(2) == 0 {
                    self.restart(node);
                }
                Some(Strike::on([node], details).undone_by(Undo::Replace(node)))
            }
            Kind::LostWrite | Kind::MisdirectedWrite => {
                let node = draw.one(&up)?;
                self.custody = Custody::InDoubt(node);
                let nature = &self.cluster.nodes[&node].nature;
                match plan.kind {
                    Kind::LostWrite => nature.lose_next_write(),
                    _ => nature.misdirect_next_write(),
                }
                let strike = Strike::on([node], "the next one of its journal");
                Some(strike.undone_by(Undo::Disarm(node)).undone_by(Undo::Replace(node)))
            }
            Kind::OldDisk => {
                let node = draw.one(&up)?;
                self.stop_node(node, Stop::Killed);
                let copy = self.copies.len();
                self.copies.push(self.cluster.nodes[&node].disk().copy(draw.next()));
                self.cluster.start(node);
                self.custody = Custody::InDoubt(node);
                let undo = Undo::Age { node, copy, then_ms: LOOKS_MS };
                Some(Strike::on([node], "a copy was made, which comes back when this is over").undone_by(undo))
            }
            Kind::EmptyDisk => {
                let node = draw.one(&all)?;
                self.replace_disk(node);
                Some(Strike::on([node], "all of it"))
            }
            _ => None,
        }
    }

    /// Whether a copy may be lost: all of them are good, and enough.
    fn may_spoil(&self) -> bool {
        // Who has another's disk is not the one to be spared.
        let in_place = !self.is_active(Kind::SwappedDisks);
        self.custody == Custody::Good && in_place && self.cluster.nodes.len() >= 3
    }

    fn spoil_bytes(&mut self, kind: Kind, node: u64, draw: &mut Draw) -> Option<String> {
        let disk = self.cluster.nodes[&node].disk();
        if kind == Kind::StaleFile {
            // Commits that were there when the node last started, and two of
            // them at least, since the very last may have been torn.
            let known = self.cluster.nodes[&node].known_segment()?;
            let at = draw.one(known.commits.get(..known.commits.len().checked_sub(2)?)?)?;
            let written = disk.content(&known.path)?.len() as u64;
            disk.corrupt(&known.path, at, &vec![0; usize::try_from(written - at).ok()?]);
            return Some(format!("{} as it was when it ended at {at}", known.path));
        }
        let segments = segments::written(&disk);
        // Half of the time where a start looks, whatever was indexed.
        let newest = segments.last()?;
        let segment = if draw.below(2) == 0 { newest.clone() } else { draw.one(&segments)? };
        // The last commit may be one that nothing says was synced: damage to
        // it is taken for a torn write, as the guarantees say.
        let last = if segment.path == newest.path { *segment.commits.last()? } else { segment.end };
        let headers: Vec<u64> = segment.commits.iter().copied().filter(|commit| *commit < last).collect();
        // Headers are few among many bytes, and matter the most.
        let at = match draw.below(3) {
            0 => draw.one(&headers)? + draw.below(segments::COMMIT_HEADER),
            _ => draw.below(last),
        };
        let path = &segment.path;
        Some(if kind == Kind::BitFlip {
            let bit = u8::try_from(draw.below(8)).ok()?;
            disk.flip_bit(path, at, bit);
            format!("bit {bit} of byte {at} of {path}")
        } else {
            disk.break_reads(path, at, 1);
            format!("the one of byte {at} of {path}")
        })
    }

    /// A disk that rotted is good again if everything sealed was read since and
    /// nothing on it is damaged any more. Its copy is judged with the others.
    pub(super) fn judge_rot(&mut self, node: u64, boot: u64, passes: u64) {
        let target = &self.cluster.nodes[&node];
        let whole = target.server().filter(|_| target.is_up() && target.boots() == boot).is_some_and(|server| {
            let journal = server.node().journal();
            // One pass may have been past the place.
            journal.counters().scrub_passes >= passes + 2 && journal.damaged().is_empty()
        });
        if self.custody != Custody::InDoubt(node) {
            return;
        }
        if whole {
            self.custody = Custody::Good;
            self.recorder.mark(self.now(), "rot-was-judged-mended");
        } else {
            self.replace_disk(node);
        }
    }

    /// Puts an empty disk into a node, whatever was on the old one, and starts
    /// it.
    pub(crate) fn replace_disk(&mut self, node: u64) {
        if self.cluster.nodes[&node].is_up() {
            self.stop_node(node, Stop::Killed);
        }
        self.sweep_ended();
        self.put_empty_disk(node);
        self.cluster.start(node);
    }

    fn put_empty_disk(&mut self, node: u64) {
        let seed = self.cluster.draw();
        let target = &self.cluster.nodes[&node];
        target.nature.disarm();
        target.set_disk(MemoryDisk::new(seed));
        target.lose_metadata();
        let boot = target.boots() + 1;
        self.custody = Custody::Resyncing { node, boot, targets: self.always.committed() };
        self.recorder.mark(self.now(), "disk-replaced");
    }

    /// A disk that lost the journal's last write is not started again: nothing
    /// on it tells that write from one that was torn, and nobody can be asked
    /// to notice.
    pub(crate) fn give_up_spoiled_tail(&mut self, node: u64) {
        if self.custody == Custody::InDoubt(node) && self.cluster.nodes[&node].nature.has_spoiled_tail() {
            self.put_empty_disk(node);
        }
    }

    /// Starts a node on the copy of its disk that was made earlier.
    pub(super) fn age_disk(&mut self, node: u64, copy: usize) {
        if self.cluster.nodes[&node].is_up() {
            self.stop_node(node, Stop::Killed);
        }
        self.sweep_ended();
        let seed = self.cluster.draw();
        let target = &self.cluster.nodes[&node];
        target.set_disk(self.copies[copy].copy(seed));
        target.lose_metadata();
        self.cluster.start(node);
    }

    /// Exchanges two nodes' disks and starts both.
    pub(super) fn swap_disks(&mut self, one: u64, other: u64) {
        for node in [one, other] {
            if self.cluster.nodes[&node].is_up() {
                self.stop_node(node, Stop::Killed);
            }
        }
        self.sweep_ended();
        let (seed, seed_of_other) = (self.cluster.draw(), self.cluster.draw());
        let (disk, disk_of_other) = (self.cluster.nodes[&one].disk(), self.cluster.nodes[&other].disk());
        self.cluster.nodes[&one].set_disk(disk_of_other.copy(seed));
        self.cluster.nodes[&other].set_disk(disk.copy(seed_of_other));
        for node in [one, other] {
            self.cluster.nodes[&node].lose_metadata();
            self.cluster.start(node);
        }
    }
}
