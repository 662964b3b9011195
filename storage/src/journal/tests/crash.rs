//! Cuts the power at every operation of recorded runs.
//!
//! Segments are tiny, so that a run holds rolls, seals, switches of the
//! manifest and flushes of the index, and the power goes in the middle of
//! each of them as well.

use super::model::Script;
use super::rig::{Memory, Talk, low, tiny};
use crate::journal::{JournalConfig, OpenError};

/// How long a recorded run is.
const STEPS: usize = 70;

/// How much is done between a recovery and the next crash.
const MORE: usize = 12;

const SEGMENT_BYTES: u64 = 32 * 1024;

/// What a crash takes besides what was not synced.
#[derive(Clone, Copy, PartialEq)]
enum Loss {
    /// What the store had not flushed.
    Unflushed,
    /// The whole store.
    Kv,
}

/// What is run.
#[derive(Clone, Copy, PartialEq)]
enum Run {
    /// Little is purged.
    Keeps,
    /// So much is purged that segments are rewritten and used again.
    Trims,
    /// So is it while there is little room.
    IsLow,
}

impl Run {
    fn config(self) -> JournalConfig {
        match self {
            Self::IsLow => low(SEGMENT_BYTES),
            Self::Keeps | Self::Trims => tiny(SEGMENT_BYTES),
        }
    }

    fn script(self, seed: u64) -> Script {
        match self {
            Self::Keeps => Script::new(seed),
            Self::Trims => Script::that_trims(seed),
            Self::IsLow => Script::that_is_low(seed),
        }
    }
}

/// Runs the script of `seed` from an empty disk.
fn recorded(seed: u64, run: Run, cut: Option<u64>) -> (Memory, Script) {
    let memory = Memory::new(seed);
    let mut script = run.script(seed);
    let steps = if run == Run::Keeps { STEPS } else { 3 * STEPS };
    if let Some(cut) = cut {
        memory.disk.cut_power_at(cut);
    }
    if let Ok((journal, _)) = Talk::open(memory.disk.clone(), memory.kv.clone(), run.config()) {
        script.run(&journal, &memory, steps);
    }
    (memory, script)
}

fn survives_a_cut_at_every_operation(seed: u64, run: Run, loss: Loss) {
    let (memory, script) = recorded(seed, run, None);
    let changes = memory.disk.changes();
    assert!(script.done() > STEPS / 2, "only {} operations of the run were done", script.done());
    if run != Run::Keeps {
        assert!(memory.disk.content("journal/00000003.segment").is_none(), "the run lets go of segments");
    } else {
        assert!(memory.disk.content("journal/00000004.segment").is_some(), "the run rolls");
    }
    for cut in 1..=changes {
        let (memory, mut script) = recorded(seed, run, Some(cut));
        let mut memory = memory.restore(seed + cut);
        // Twice more, with a little done in between: what was dropped must not
        // come back later.
        for round in 0..3 {
            if loss == Loss::Kv {
                memory = memory.without_kv();
            }
            let context = format!("seed {seed}, cut {cut}, round {round}");
            let opened = Talk::open(memory.disk.clone(), memory.kv.clone(), run.config());
            let (journal, report) = opened.unwrap_or_else(|error| panic!("{context}: {error}: {error:?}"));
            assert_eq!(report.damage, [], "{context}: a crash is not corruption");
            script.check(&journal, &context);
            memory.disk.cut_power_at(1 + (seed + cut * 7 + round) % 40);
            script.run(&journal, &memory, MORE);
            memory = memory.restore(cut + round);
        }
    }
}

#[test]
fn what_was_done_survives_a_power_cut_at_every_operation() {
    for seed in 1..=4 {
        survives_a_cut_at_every_operation(seed, Run::Keeps, Loss::Unflushed);
    }
}

#[test]
fn what_was_done_survives_a_power_cut_that_takes_the_index_too() {
    for seed in 11..=12 {
        survives_a_cut_at_every_operation(seed, Run::Keeps, Loss::Kv);
    }
}

#[test]
fn what_was_done_survives_a_power_cut_at_every_operation_of_recycling() {
    for seed in 41..=43 {
        survives_a_cut_at_every_operation(seed, Run::Trims, Loss::Unflushed);
    }
}

#[test]
fn what_was_done_survives_a_power_cut_during_recycling_that_takes_the_index_too() {
    for seed in 51..=52 {
        survives_a_cut_at_every_operation(seed, Run::Trims, Loss::Kv);
    }
}

#[test]
fn what_was_done_survives_a_power_cut_at_every_operation_of_making_room() {
    for seed in 61..=62 {
        survives_a_cut_at_every_operation(seed, Run::IsLow, Loss::Unflushed);
    }
}

#[test]
fn what_was_done_survives_a_power_cut_while_room_is_made_that_takes_the_index_too() {
    survives_a_cut_at_every_operation(71, Run::IsLow, Loss::Kv);
}

#[test]
fn a_power_cut_while_starting_changes_nothing() {
    let (memory, mut script) = recorded(21, Run::Keeps, None);
    let memory = memory.restore(1);
    let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
    script.check(&journal, "before");
    for cut in 1.. {
        let again = memory.kill(cut).without_kv();
        let before = again.disk.changes();
        again.disk.cut_power_at(cut);
        let opened = Talk::open(again.disk.clone(), again.kv.clone(), tiny(SEGMENT_BYTES));
        let finished = again.disk.changes() - before < cut;
        assert!(matches!(opened, Ok(_) | Err(OpenError::Disk { .. })), "cut {cut}");
        let again = again.restore(cut);
        let (journal, _) = again.open(tiny(SEGMENT_BYTES));
        script.check(&journal, &format!("cut {cut} of a start"));
        if finished {
            break;
        }
    }
}

#[test]
fn a_journal_that_is_killed_again_and_again_holds_what_it_should() {
    for seed in 31..=34 {
        let mut memory = Memory::new(seed);
        let mut script = Script::new(seed);
        for round in 0..20 {
            let (journal, _) = memory.open(tiny(SEGMENT_BYTES));
            script.check(&journal, &format!("seed {seed}, round {round}"));
            script.run(&journal, &memory, STEPS);
            script.check_staged(&journal);
            memory = memory.kill(seed + round);
        }
    }
}
