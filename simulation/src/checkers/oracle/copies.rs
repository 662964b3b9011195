//! What the replicas of a log hold, beside each other.

use std::collections::BTreeMap;

use super::Findings;
use crate::history::{Operation, Outcome};

/// A replica's records: offsets and values.
type Copy = Vec<(u64, u64)>;

pub(super) fn check(calls: &[&Operation], copies: Option<&BTreeMap<u64, Copy>>, findings: &mut Findings<'_>) {
    let none = BTreeMap::new();
    let copies = copies.unwrap_or(&none);
    created_log_exists(calls, copies, findings);
    contiguous_offsets(copies, findings);
    replicas_agree(copies, findings);
}

fn created_log_exists(calls: &[&Operation], copies: &BTreeMap<u64, Copy>, findings: &mut Findings<'_>) {
    let created = calls.iter().find(|operation| operation.outcome == Outcome::Created);
    if let (Some(operation), true) = (created, copies.is_empty()) {
        findings.add("created-log-exists", [operation.id], "it was created, and no node holds a copy of it");
    }
}

fn contiguous_offsets(copies: &BTreeMap<u64, Copy>, findings: &mut Findings<'_>) {
    for (node, copy) in copies {
        let wrong = (0..).zip(copy).find(|&(expected, &(offset, _))| offset != expected);
        if let Some((expected, (offset, value))) = wrong {
            let details = format_args!("node {node} has offset {offset} (value {value}) where {expected} should be");
            findings.add("contiguous-offsets", [], details);
        }
    }
}

fn replicas_agree(copies: &BTreeMap<u64, Copy>, findings: &mut Findings<'_>) {
    let Some((first, reference)) = copies.first_key_value() else { return };
    for (node, copy) in copies.iter().skip(1).filter(|&(_, copy)| copy != reference) {
        let at = copy.iter().zip(reference).take_while(|(a, b)| a == b).count();
        let there = |copy: &Copy| match copy.get(at) {
            Some((offset, value)) => format!("value {value} at offset {offset}"),
            None => "nothing more".to_owned(),
        };
        let details = format_args!(
            "after {at} records alike node {first} has {} and node {node} has {} ({} and {} records)",
            there(reference),
            there(copy),
            reference.len(),
            copy.len()
        );
        findings.add("replicas-agree", [], details);
    }
}
