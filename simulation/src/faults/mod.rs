//! What goes wrong in a run.
//!
//! ```text
//!   planned ──▶ due ──▶ strike: choose whom, by the plan's draw ──▶ lasts ──▶ over
//!                   └──▶ not now: nobody to strike, or too few good copies
//! ```
//!
//! One good copy of everything committed is always left, or no cluster could
//! keep its promises: at most one node at a time has a copy in doubt (see
//! `custody`). Faults that cost no copy strike as they like.

mod custody;
mod disks;
mod kind;
mod messages;
mod network;
mod processes;

use std::time::Duration;

pub use kind::Kind;

pub(crate) use custody::Custody;
pub(crate) use processes::crash_here;

use crate::event::What;
use crate::links::Harm;
use crate::run::Run;
use crate::scenario::FaultPlan;

/// A fault that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    /// When it is over.
    pub(crate) ends_at: Duration,
    undo: Vec<Undo>,
}

/// What is done when a fault is over.
#[derive(Clone, Debug)]
pub(crate) enum Undo {
    /// Messages to these nodes arrive as they were sent.
    Carry(Vec<u64>),
    /// Links come back.
    Mend(Harm),
    /// Latencies are as usual.
    UsualLatency,
    /// A node is started, if nothing runs on it.
    Start(u64),
    /// A process that was paused goes on, unless it has ended since.
    Resume {
        /// Where it runs.
        node: u64,
        /// Which of that node's processes it is.
        boot: u64,
    },
    /// A disk is as fast as usual, and moves.
    UsualDisk(u64),
    /// A clock is right again.
    RightClock(u64),
    /// A disk has room again, which its node has to find out by itself.
    Room(u64),
    /// What was armed on a node and did not strike is taken back.
    Disarm(u64),
    /// A node's disk, which is in doubt, is replaced by an empty one.
    Replace(u64),
    /// A node's disk is replaced by an old copy of it; so long after that it is
    /// replaced by an empty one.
    Age { node: u64, copy: usize, then_ms: u64 },
    /// A node whose disk rotted has found that by now and is whole again; if it
    /// had no time for it, its disk is replaced.
    Scrubbed {
        /// The node.
        node: u64,
        /// Which of its processes ran.
        boot: u64,
        /// How often everything sealed had been read before.
        passes: u64,
    },
    /// Two nodes get their own disks back.
    SwapBack(u64, u64),
}

/// What a fault did when it struck.
pub(crate) struct Strike {
    pub(crate) nodes: Vec<u64>,
    pub(crate) details: String,
    pub(crate) undo: Vec<Undo>,
}

impl Strike {
    fn on(nodes: impl IntoIterator<Item = u64>, details: impl Into<String>) -> Self {
        Self { nodes: nodes.into_iter().collect(), details: details.into(), undo: Vec::new() }
    }

    fn undone_by(mut self, undo: Undo) -> Self {
        self.undo.push(undo);
        self
    }
}

impl Run<'_> {
    /// Lets a planned fault strike, if it can.
    pub(crate) fn strike(&mut self, plan: &FaultPlan) {
        let mut draw = Draw::new(plan.draw);
        let struck = self
            .strike_links(plan, &mut draw)
            .or_else(|| self.strike_messages(plan, &mut draw))
            .or_else(|| self.strike_processes(plan, &mut draw));
        let Some(strike) = struck.or_else(|| self.strike_disks(plan, &mut draw)) else { return };
        let now = self.now();
        let hit = self.history.pending() > 0;
        self.recorder.count(plan.kind, |struck| {
            struck.fired += 1;
            struck.hit += u64::from(hit);
        });
        self.recorder.event(
            now,
            What::FaultBegins {
                fault: plan.number,
                kind: plan.kind.name().to_owned(),
                nodes: strike.nodes,
                details: strike.details,
            },
        );
        self.active.push(Active {
            number: plan.number,
            kind: plan.kind,
            ends_at: now + Duration::from_millis(plan.lasts_ms),
            undo: strike.undo,
        });
    }

    /// Ends the faults that are over.
    pub(crate) fn end_faults(&mut self, all: bool) {
        let now = self.now();
        let (over, lasting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.active).into_iter().partition(|fault| all || fault.ends_at <= now);
        self.active = lasting;
        for fault in over {
            self.recorder.event(now, What::FaultEnds { fault: fault.number });
            for undo in fault.undo {
                self.undo(fault.number, fault.kind, undo, all);
            }
        }
    }

    fn undo(&mut self, number: u64, kind: Kind, undo: Undo, all: bool) {
        match undo {
            Undo::Carry(nodes) => self.carry_messages(number, &nodes),
            Undo::Mend(harm) => self.cluster.links.mend(&self.cluster.sim, &harm),
            Undo::UsualLatency => self.usual_latency(),
            Undo::Start(node) => self.start_if_down(node),
            Undo::Resume { node, boot } => self.resume(node, boot),
            Undo::UsualDisk(node) => {
                let nature = &self.cluster.nodes[&node].nature;
                nature.slow_down(1);
                nature.stall(false);
            }
            Undo::RightClock(node) => self.cluster.nodes[&node].host.wall.set_off_by(0),
            Undo::Room(node) => self.cluster.nodes[&node].disk().limit_bytes(None),
            Undo::Disarm(node) => {
                self.cluster.nodes[&node].nature.disarm();
                self.armed.borrow_mut().retain(|armed| armed.node != node);
            }
            Undo::Replace(node) => self.replace_disk(node),
            Undo::Age { node, copy, then_ms } => {
                self.age_disk(node, copy);
                // The old disk is refused; then the operator replaces it.
                let wait = if all { Duration::ZERO } else { Duration::from_millis(then_ms) };
                let ends_at = self.now() + wait;
                self.active.push(Active { number, kind, ends_at, undo: vec![Undo::Replace(node)] });
            }
            Undo::Scrubbed { node, boot, passes } => self.judge_rot(node, boot, passes),
            Undo::SwapBack(one, other) => self.swap_disks(one, other),
        }
    }
}

/// The choices of one fault.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(draw: u64) -> Self {
        Self(draw)
    }

    /// The next 64 bits (SplitMix64, by Steele, Lea and Flood).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// One of them, if there is any.
    pub(crate) fn one<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.index(of.len())].clone()) }
    }

    /// A part of them, neither none nor all if it can be helped.
    pub(crate) fn some<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        let mut left = of.to_vec();
        let count = 1 + self.index(of.len().saturating_sub(1).max(1));
        let mut chosen = Vec::new();
        while chosen.len() < count && !left.is_empty() {
            let at = self.index(left.len());
            chosen.push(left.remove(at));
        }
        chosen
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("an index")
    }
}
