//! What writer epochs and resolutions promised.

use std::collections::BTreeMap;

use super::Findings;
use crate::checkers::order;
use crate::checkers::settled::Settled;
use crate::checkers::tell::{List, Told};
use crate::history::{Call, Operation, Outcome};

pub(super) fn check(calls: &[&Operation], settled: &Settled, findings: &mut Findings<'_>) {
    epoch_is_given_once(calls, findings);
    fenced_never_lands(calls, findings);
    resolve_never_lies(calls, settled, findings);
}

fn epoch_is_given_once(calls: &[&Operation], findings: &mut Findings<'_>) {
    let mut given: BTreeMap<u64, u64> = BTreeMap::new();
    for operation in calls {
        let Outcome::Acquired { epoch, .. } = operation.outcome else { continue };
        if let Some(earlier) = given.insert(epoch, operation.id) {
            let details = format_args!("epoch {epoch} was given to #{earlier}, too: {}", Told(operation));
            findings.add("epoch-is-given-once", [earlier, operation.id], details);
        }
    }
}

/// An append that was made after a newer epoch was acknowledged cannot be a
/// repeat of one that had landed before.
fn fenced_never_lands(calls: &[&Operation], findings: &mut Findings<'_>) {
    let acquired = order::highest_before(calls, |operation| match operation.outcome {
        Outcome::Acquired { epoch, .. } => Some((epoch, operation.id)),
        _ => None,
    });
    for (operation, acquired) in calls.iter().zip(acquired) {
        let (Call::Append { terms, .. }, Outcome::Appended { .. }) = (&operation.call, &operation.outcome) else {
            continue;
        };
        let newer = acquired.filter(|(epoch, _)| terms.epoch.is_some_and(|claimed| claimed < *epoch));
        if let Some((epoch, by)) = newer {
            let details = format_args!("#{by} had acquired epoch {epoch} before: {}", Told(operation));
            findings.add("fenced-never-lands", [by, operation.id], details);
        }
    }
}

fn resolve_never_lies(calls: &[&Operation], settled: &Settled, findings: &mut Findings<'_>) {
    for operation in calls {
        let (Call::Resolve { values }, &Outcome::Resolved { landed }) = (&operation.call, &operation.outcome) else {
            continue;
        };
        let there = settled.find(values);
        let is_true = match landed {
            Some((start, end)) => there == Some(start) && end.checked_sub(start) == Some(values.len() as u64),
            None => values.iter().all(|&value| settled.places(value).is_empty()),
        };
        if !is_true {
            let (values, told) = (List(values), Told(operation));
            let details = match there {
                Some(place) => format!("{values} are at {place}: {told}"),
                None => format!("{values} are not there: {told}"),
            };
            findings.add("resolve-never-lies", [operation.id], details);
        }
    }
}
