//! Smaller scenarios, for a failure to be looked for in.
//!
//! Only proposes; whoever asks runs them. What is proposed can be run: it can
//! be configured, and every log has the nodes and copies that its faults need.

use crate::cluster::node_config;
use crate::scenario::{ClientPlan, Job, LogPlan, Scenario};

/// The least time for clients to do something before the end.
const LEAST_CHAOS_MS: u64 = 500;
/// How long after the last fault's end chaos may be over.
const AFTER_LAST_MS: u64 = 500;

/// What can be made less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Clients, with all they do.
    Clients,
    /// What clients do.
    Jobs,
    /// Logs, with the jobs on them.
    Logs,
    /// The time in which faults strike.
    Chaos,
    /// Nodes, with the replicas and faults that need them.
    Nodes,
    /// Settings, timing, and what is special in how clients work.
    Settings,
}

impl Part {
    /// All of them, those first that save most.
    pub const ALL: &[Self] = &[Self::Clients, Self::Jobs, Self::Logs, Self::Chaos, Self::Nodes, Self::Settings];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Jobs => "jobs",
            Self::Logs => "logs",
            Self::Chaos => "chaos",
            Self::Nodes => "nodes",
            Self::Settings => "settings",
        }
    }

    /// Scenarios with one step less of it, the boldest first.
    pub fn lessened(self, scenario: &Scenario) -> Vec<Scenario> {
        let proposed = match self {
            Self::Clients => clients(scenario),
            Self::Jobs => jobs(scenario),
            Self::Logs => (0..scenario.logs.len()).map(|log| without_log(scenario, log)).collect(),
            Self::Chaos => chaos(scenario),
            Self::Nodes => (1..scenario.nodes).map(|nodes| with_nodes(scenario, nodes)).collect(),
            Self::Settings => plainer(scenario),
        };
        proposed.into_iter().filter(|it| it != scenario && can_be_run(it)).collect()
    }
}

/// The scenario with these of its faults, by their positions.
pub fn with_faults(scenario: &Scenario, kept: &[usize]) -> Scenario {
    let faults = kept.iter().map(|position| scenario.faults[*position]).collect();
    Scenario { faults, ..scenario.clone() }
}

fn can_be_run(scenario: &Scenario) -> bool {
    !scenario.logs.is_empty() && node_config(scenario, 1).is_ok()
}

fn clients(scenario: &Scenario) -> Vec<Scenario> {
    let none = Scenario { clients: Vec::new(), ..scenario.clone() };
    let without = |at: usize| Scenario { clients: without(&scenario.clients, at), ..scenario.clone() };
    std::iter::once(none).chain((0..scenario.clients.len()).map(without)).collect()
}

fn jobs(scenario: &Scenario) -> Vec<Scenario> {
    let mut proposed = Vec::new();
    for (number, client) in scenario.clients.iter().enumerate() {
        for job in 0..client.jobs.len() {
            let mut smaller = scenario.clone();
            smaller.clients[number] = ClientPlan { jobs: without(&client.jobs, job) };
            proposed.push(smaller);
        }
    }
    proposed
}

fn without<T: Clone>(all: &[T], at: usize) -> Vec<T> {
    all.iter().enumerate().filter(|(position, _)| *position != at).map(|(_, one)| one.clone()).collect()
}

fn without_log(scenario: &Scenario, gone: usize) -> Scenario {
    let mut smaller = Scenario { logs: without(&scenario.logs, gone), ..scenario.clone() };
    for client in &mut smaller.clients {
        client.jobs.retain_mut(|job| {
            logs_of(job).into_iter().flatten().all(|log| {
                let stays = *log != gone;
                *log -= usize::from(*log > gone);
                stays
            })
        });
    }
    smaller
}

/// The logs that a job is for, by their positions.
fn logs_of(job: &mut Job) -> [Option<&mut usize>; 2] {
    match job {
        Job::Append { log, .. }
        | Job::Read { log, .. }
        | Job::Tail { log, .. }
        | Job::End { log, .. }
        | Job::Barrier { log, .. }
        | Job::Late { log, .. }
        | Job::Lease { log, .. }
        | Job::Trim { log, .. }
        | Job::Remember { log, .. }
        | Job::Fight { log, .. }
        | Job::Cursors { log, .. }
        | Job::Repeat { log, .. } => [Some(log), None],
        Job::Pipeline { from, log, .. } => [Some(from), Some(log)],
        Job::Create { .. } | Job::Recreate { .. } | Job::Group { .. } => [None, None],
    }
}

fn chaos(scenario: &Scenario) -> Vec<Scenario> {
    let ends = scenario.faults.iter().map(|fault| fault.at_ms + fault.lasts_ms + AFTER_LAST_MS).max();
    let all_ms = scenario.timing.chaos_ms;
    let shorter = [LEAST_CHAOS_MS, all_ms / 2, ends.unwrap_or(all_ms), all_ms * 3 / 4, all_ms * 9 / 10];
    let shorter = shorter.into_iter().filter(|chaos_ms| (LEAST_CHAOS_MS..all_ms).contains(chaos_ms));
    let with = |chaos_ms| {
        let mut smaller = scenario.clone();
        smaller.timing.chaos_ms = chaos_ms;
        smaller.faults.retain(|fault| fault.at_ms < chaos_ms);
        smaller
    };
    shorter.map(with).collect()
}

fn with_nodes(scenario: &Scenario, nodes: u64) -> Scenario {
    let mut smaller = Scenario { nodes, ..scenario.clone() };
    smaller.faults.retain(|fault| fault.kind.least_nodes() <= nodes);
    // Faults that cost copies need three nodes, so that logs keep three here.
    let most = u32::try_from(nodes).unwrap_or(u32::MAX);
    for LogPlan { replicas, .. } in &mut smaller.logs {
        *replicas = (*replicas).min(most);
    }
    for job in smaller.clients.iter_mut().flat_map(|client| &mut client.jobs) {
        if let Job::Create { replicas, .. } | Job::Recreate { replicas, .. } = job {
            *replicas = (*replicas).min(most);
        }
    }
    smaller
}

/// One thing after the other as in a cluster that nobody has tuned, on a fast
/// machine, with clients that do one plain thing at a time.
fn plainer(scenario: &Scenario) -> Vec<Scenario> {
    let mut proposed = Vec::new();
    for setting in scenario.settings.keys() {
        let mut plain = scenario.clone();
        plain.settings.remove(setting);
        proposed.push(plain);
    }
    for log in 0..scenario.logs.len() {
        let mut plain = scenario.clone();
        let LogPlan { name, replicas, .. } = scenario.logs[log].clone();
        let exclusive = scenario.logs[log].exclusive;
        plain.logs[log] = LogPlan { exclusive, ..LogPlan::keeping_all(name, replicas) };
        proposed.push(plain);
    }
    let timings: [fn(&mut Scenario); 3] = [
        |plain| plain.timing.latency_ms = 1,
        |plain| plain.timing.disk_us = (20, 200),
        |plain| plain.timing.tick_ms = 1,
    ];
    let jobs: [fn(&mut Job); 5] = [
        |job| _ = append(job).map(|(it, ..)| *it = 0),
        |job| _ = append(job).map(|(_, it, ..)| *it = 1),
        |job| _ = append(job).map(|(_, _, it, ..)| *it = 16),
        |job| _ = append(job).map(|(_, _, _, it, _)| *it = 1),
        |job| _ = append(job).map(|(.., it)| *it = true),
    ];
    for change in timings {
        let mut plain = scenario.clone();
        change(&mut plain);
        proposed.push(plain);
    }
    for change in jobs {
        let mut plain = scenario.clone();
        plain.clients.iter_mut().flat_map(|client| &mut client.jobs).for_each(change);
        proposed.push(plain);
    }
    proposed
}

/// What an append may be special in: its compression, its batches' records,
/// their values' bytes, how many are in flight, and whether a retry lands once.
fn append(job: &mut Job) -> Option<(&mut u8, &mut u64, &mut usize, &mut usize, &mut bool)> {
    match job {
        Job::Append { compression, batch_records, value_bytes, in_flight, idempotent, .. } => {
            Some((compression, batch_records, value_bytes, in_flight, idempotent))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proposed_is_smaller_and_fits_together() {
        for seed in 0..200 {
            let scenario = Scenario::draw(seed);
            for smaller in Part::ALL.iter().flat_map(|part| part.lessened(&scenario)) {
                assert_ne!(smaller, scenario);
                for job in smaller.clients.clone().iter_mut().flat_map(|client| &mut client.jobs) {
                    let all = logs_of(job).into_iter().flatten().all(|log| *log < smaller.logs.len());
                    assert!(all, "seed {seed}: {job:?} has its logs");
                }
                let most = smaller.logs.iter().map(|log| u64::from(log.replicas)).max();
                assert!(most <= Some(smaller.nodes), "seed {seed}: every replica has its node");
                let needed = smaller.faults.iter().map(|fault| fault.kind.least_nodes()).max();
                assert!(needed <= Some(smaller.nodes), "seed {seed}: faults have the nodes they need");
            }
        }
    }

    #[test]
    fn lessening_comes_to_an_end() {
        let mut scenario = Scenario::draw(1);
        let mut steps = 0;
        while let Some(smaller) = Part::ALL.iter().find_map(|part| part.lessened(&scenario).into_iter().next()) {
            scenario = smaller;
            steps += 1;
            assert!(steps < 1_000, "it goes on for ever at {scenario:?}");
        }
        assert_eq!((scenario.nodes, scenario.logs.len(), scenario.clients.len()), (1, 1, 0));
    }
}
