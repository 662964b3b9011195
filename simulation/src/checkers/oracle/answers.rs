//! What reads and ends showed.

use std::time::Duration;

use super::Findings;
use crate::checkers::order;
use crate::checkers::settled::Settled;
use crate::checkers::tell::Told;
use crate::history::{Call, Operation, Outcome, UNSEEN};

/// The end of the furthest append or the highest answer, and the call that
/// showed it.
type Mark = (u64, u64);

pub(super) fn check(calls: &[&Operation], settled: &Settled, findings: &mut Findings<'_>) {
    let acknowledged = order::highest_before(calls, |operation| match operation.outcome {
        Outcome::Appended { end, .. } => Some((end, operation.id)),
        _ => None,
    });
    let ended = order::highest_before(calls, |operation| match operation.outcome {
        Outcome::End { end } => Some((end, operation.id)),
        _ => None,
    });
    for ((&operation, acknowledged), ended) in calls.iter().zip(acknowledged).zip(ended) {
        match (&operation.call, &operation.outcome) {
            (&Call::Read { from, max, local }, Outcome::Read { records }) => {
                reads_agree(operation, from, max, records, settled, findings);
                if !local {
                    let shown = from.saturating_add(records.len() as u64);
                    reads_miss_nothing(operation, from..from.saturating_add(max), shown, acknowledged, findings);
                }
            }
            (&Call::ReadAfter { from, max, barrier }, Outcome::Read { records }) => {
                reads_agree(operation, from, max, records, settled, findings);
                let shown = from.saturating_add(records.len() as u64);
                barrier_sees_all(operation, from..from.saturating_add(max), shown, barrier, findings);
            }
            (Call::LocalEnd { .. }, &Outcome::LocalEnd { end, leader_end, age_ms }) => {
                end_within_log(operation, end.max(leader_end), settled, findings);
                if let Some(age_ms) = age_ms {
                    freshness_is_true(operation, end, Duration::from_millis(age_ms), calls, findings);
                }
            }
            (Call::End, &Outcome::End { end }) => {
                end_covers_acknowledged(operation, end, acknowledged, findings);
                end_within_log(operation, end, settled, findings);
                end_never_goes_back(operation, end, ended, findings);
            }
            _ => {}
        }
    }
}

fn reads_agree(
    operation: &Operation,
    from: u64,
    max: u64,
    records: &[(u64, u64)],
    settled: &Settled,
    findings: &mut Findings<'_>,
) {
    let told = Told(operation);
    let mut add = |details: std::fmt::Arguments<'_>| findings.add("reads-agree", [operation.id], details);
    if records.len() as u64 > max {
        add(format_args!("{} records were read: {told}", records.len()));
    }
    for (&(offset, value), expected) in records.iter().zip(from..) {
        if offset != expected {
            return add(format_args!("offset {offset} was read where {expected} should be: {told}"));
        }
        match settled.at(offset) {
            Some(held) if held == value || held == UNSEEN => {}
            Some(held) => return add(format_args!("value {value} was read at {offset}, which holds {held}: {told}")),
            None => {
                let end = settled.end();
                return add(format_args!("value {value} was read at {offset}, and the log ends at {end}: {told}"));
            }
        }
    }
}

fn reads_miss_nothing(
    operation: &Operation,
    asked: std::ops::Range<u64>,
    shown: u64,
    acknowledged: Option<Mark>,
    findings: &mut Findings<'_>,
) {
    let Some((end, append)) = acknowledged else { return };
    // An empty range: nothing from there on was acknowledged yet.
    let owed = asked.start..end.min(asked.end);
    if !owed.is_empty() && shown < owed.end {
        let told = Told(operation);
        let details =
            format_args!("#{append} was acknowledged up to {end} before, and the read ends at {shown}: {told}");
        findings.add("reads-miss-nothing", [append, operation.id], details);
    }
}

fn barrier_sees_all(
    operation: &Operation,
    asked: std::ops::Range<u64>,
    shown: u64,
    barrier: u64,
    findings: &mut Findings<'_>,
) {
    let owed = asked.start..barrier.min(asked.end);
    if !owed.is_empty() && shown < owed.end {
        let details = format_args!("the read ends at {shown}: {}", Told(operation));
        findings.add("barrier-sees-all", [operation.id], details);
    }
}

/// The answer was given after it was asked for, and is about the time before that
/// less the age: whatever had been acknowledged then has to be there.
fn freshness_is_true(
    operation: &Operation,
    end: u64,
    age: Duration,
    calls: &[&Operation],
    findings: &mut Findings<'_>,
) {
    let Some(as_of) = operation.invoked.checked_sub(age) else { return };
    let missing = calls.iter().find(|call| match call.outcome {
        Outcome::Appended { end: appended, .. } => appended > end && call.completed.is_some_and(|at| at <= as_of),
        _ => false,
    });
    if let Some(append) = missing {
        let details = format_args!("{} was acknowledged before {as_of:?}: {}", Told(append), Told(operation));
        findings.add("freshness-is-true", [append.id, operation.id], details);
    }
}

fn end_covers_acknowledged(operation: &Operation, end: u64, acknowledged: Option<Mark>, findings: &mut Findings<'_>) {
    if let Some((covered, append)) = acknowledged.filter(|&(covered, _)| covered > end) {
        let details = format_args!("#{append} was acknowledged up to {covered} before: {}", Told(operation));
        findings.add("end-covers-acknowledged", [append, operation.id], details);
    }
}

fn end_within_log(operation: &Operation, end: u64, settled: &Settled, findings: &mut Findings<'_>) {
    if end > settled.end() {
        let details = format_args!("the log ends at {}: {}", settled.end(), Told(operation));
        findings.add("end-within-log", [operation.id], details);
    }
}

fn end_never_goes_back(operation: &Operation, end: u64, ended: Option<Mark>, findings: &mut Findings<'_>) {
    if let Some((before, earlier)) = ended.filter(|&(before, _)| before > end) {
        let details = format_args!("#{earlier} was told {before} before: {}", Told(operation));
        findings.add("end-never-goes-back", [earlier, operation.id], details);
    }
}
