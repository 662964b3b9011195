//! A run as the page's scripts read it.
//!
//! Times are in microseconds since the run began. Whatever counts or names
//! something goes as text: a number beyond 2⁵³ would lose its last digits in
//! the browser.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Heading;
use crate::event::{Answer, Event, Phase, Role, Stop, What};
use crate::history::{Call, Operation, Outcome};
use crate::violation::Violation;

/// So many records of an operation are spelled out.
const SPELLED_OUT: usize = 24;

/// All that the page shows.
pub(super) fn page(heading: &Heading, events: &[Event], operations: &[Operation], violations: &[Violation]) -> Value {
    let names = Names::new(heading, events);
    let end = events
        .iter()
        .map(|event| event.at)
        .chain(operations.iter().map(|operation| operation.completed.unwrap_or(operation.invoked)))
        .max()
        .unwrap_or_default();
    json!({
        "seed": heading.seed.to_string(),
        "commit": heading.commit,
        "replay": heading.replay,
        "settings": heading.settings,
        "groups": names.groups.iter().map(|(group, name)| (group.to_string(), name)).collect::<Vec<_>>(),
        "end": micros(end),
        "events": events.iter().map(|event| happened(event, &names)).collect::<Vec<_>>(),
        "operations": operations.iter().map(asked).collect::<Vec<_>>(),
        "violations": violations
            .iter()
            .map(|violation| broken(violation, heading, events, operations, end))
            .collect::<Vec<_>>(),
    })
}

/// What groups and faults are called.
struct Names<'a> {
    groups: BTreeMap<u64, &'a str>,
    faults: BTreeMap<u64, &'a str>,
}

impl<'a> Names<'a> {
    fn new(heading: &'a Heading, events: &'a [Event]) -> Self {
        let mut groups: BTreeMap<u64, &str> = BTreeMap::from([(0, "catalog")]);
        groups.extend(heading.groups.iter().map(|(group, name)| (*group, name.as_str())));
        let faults = events.iter().filter_map(|event| match &event.what {
            What::FaultBegins { fault, kind, .. } => Some((*fault, kind.as_str())),
            _ => None,
        });
        Self { groups, faults: faults.collect() }
    }

    fn group(&self, group: u64) -> String {
        self.groups.get(&group).map_or_else(|| format!("log {group}"), |name| (*name).to_owned())
    }

    fn fault(&self, fault: u64) -> String {
        self.faults.get(&fault).map_or_else(|| format!("fault {fault}"), |kind| format!("fault {fault}, {kind},"))
    }
}

/// An event: what its kind needs to be drawn, and `text` for everything that is
/// read. `topic` is what the table filters by.
fn happened(event: &Event, names: &Names) -> Value {
    let mut row = match &event.what {
        What::Phase { phase } => {
            let (name, meaning) = described_phase(*phase);
            json!({ "topic": "phase", "phase": name, "text": format!("{name}: {meaning}") })
        }
        What::Started { node, boot } => json!({
            "topic": "node", "state": "starting", "node": node.to_string(), "boot": boot.to_string(),
            "text": format!("node {node} starts, boot {boot}"),
        }),
        What::Serves { node } => json!({
            "topic": "node", "state": "up", "node": node.to_string(),
            "text": format!("node {node} takes part in its cluster"),
        }),
        What::Stopped { node, how, why } => {
            let (how, told) = described_stop(*how);
            let why = why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            json!({
                "topic": "node", "state": "down", "node": node.to_string(), "how": how,
                "text": format!("node {node} {told}{why}"),
            })
        }
        What::Role { node, group, replica, role, term } => {
            let (role, told) = described_role(*role);
            let name = names.group(*group);
            json!({
                "topic": "role", "node": node.to_string(), "group": group.to_string(),
                "replica": replica.to_string(), "role": role, "term": term.to_string(),
                "text": format!("node {node} {told} {name} in term {term}, replica {replica}"),
            })
        }
        What::FaultBegins { fault, kind, nodes, details } => json!({
            "topic": "fault", "begins": fault.to_string(), "kind": kind,
            "nodes": nodes.iter().map(u64::to_string).collect::<Vec<_>>(), "details": details,
            "text": format!("fault {fault}, {kind}: {details}"),
        }),
        What::FaultEnds { fault } => json!({
            "topic": "fault", "ends": fault.to_string(),
            "text": format!("{} is over", names.fault(*fault)),
        }),
        What::Invoked { operation, client, log, call } => json!({
            "topic": "call", "operation": operation.to_string(), "client": client.to_string(),
            "log": log, "call": call,
            "text": format!("#{operation} client {client} on {log}: {call}"),
        }),
        What::Completed { operation, answer, details } => {
            let answer = match answer {
                Answer::Done => "done",
                Answer::Failed => "failed",
                Answer::Unknown => "unknown",
            };
            json!({
                "topic": "answer", "operation": operation.to_string(), "answer": answer, "details": details,
                "text": format!("#{operation} {answer}: {details}"),
            })
        }
        What::Mark { mark } => json!({ "topic": "mark", "mark": mark, "text": mark }),
        What::Violated { promise, details, node } => json!({
            "topic": "violation", "promise": promise, "node": node.map(|node| node.to_string()),
            "text": format!("{promise}: {details}"),
        }),
    };
    row["at"] = micros(event.at).into();
    row
}

fn described_phase(phase: Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::Founding => ("founding", "the cluster is founded, without faults"),
        Phase::Chaos => ("chaos", "faults strike while clients work"),
        Phase::Healing => ("healing", "all faults are over; what is down is started"),
        Phase::Liveness => ("liveness", "everything has to work again within its time"),
        Phase::Judgement => ("judgement", "what every replica holds is read and compared"),
    }
}

fn described_stop(how: Stop) -> (&'static str, &'static str) {
    match how {
        Stop::Killed => ("killed", "was killed: what it had written is still there"),
        Stop::PowerLost => ("power lost", "lost its power: what was not synced may be gone"),
        Stop::ShutDown => ("shut down", "was shut down, as it was asked to"),
        Stop::Failed => ("failed", "failed: it said that it cannot go on"),
    }
}

fn described_role(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::Leader => ("leader", "leads"),
        Role::Follower => ("follower", "follows"),
        Role::Learner => ("learner", "learns"),
    }
}

fn asked(operation: &Operation) -> Value {
    let (state, answer) = match &operation.outcome {
        Outcome::Pending => ("pending", "no answer yet".to_owned()),
        Outcome::Created => ("done", "created".to_owned()),
        Outcome::Deleted => ("done", "deleted".to_owned()),
        Outcome::Appended { start, end } => ("done", format!("appended at {start}..{end}")),
        Outcome::Fenced { current } => ("failed", format!("fenced by epoch {current}")),
        Outcome::Mismatch { end } => ("failed", format!("refused: the log ends at {end}")),
        Outcome::Acquired { epoch, end } => ("done", format!("writes under epoch {epoch} from {end} on")),
        Outcome::Resolved { landed: Some((start, end)) } => ("done", format!("landed at {start}..{end}")),
        Outcome::Resolved { landed: None } => ("done", "has not landed and never will".to_owned()),
        Outcome::Read { records } if records.is_empty() => ("done", "read nothing".to_owned()),
        Outcome::Read { records } => ("done", format!("read {}", spelled_out(records))),
        Outcome::End { end } => ("done", format!("ends at {end}")),
        Outcome::LocalEnd { end, leader_end, age_ms: Some(age) } => {
            ("done", format!("ends at {end} of {leader_end}, up to {age} ms old"))
        }
        Outcome::LocalEnd { end, leader_end, age_ms: None } => ("done", format!("ends at {end} of {leader_end}")),
        Outcome::Cursor(answer) => ("done", answer.to_string()),
        Outcome::Lease(answer) => ("done", answer.to_string()),
        Outcome::Trimmed { start } => ("done", format!("starts at {start}")),
        Outcome::Strands { leases } => ("failed", format!("refused: it would strand {leases:?}")),
        Outcome::Failed { why } => ("failed", why.clone()),
        Outcome::Unknown { why } => ("unknown", why.clone()),
    };
    let (verb, call) = match &operation.call {
        Call::Create { replicas } => ("create", format!("create with {replicas} replicas")),
        Call::Delete => ("delete", "delete".to_owned()),
        Call::Acquire => ("acquire", "acquire the writer epoch".to_owned()),
        Call::Resolve { values } => {
            let values = spelled(values.iter().map(u64::to_string), values.len());
            ("resolve", format!("what became of {values}?"))
        }
        Call::Append { producer, values, terms } => {
            let values = spelled(values.iter().map(u64::to_string), values.len());
            let epoch = terms.epoch.map_or(String::new(), |epoch| format!(" under epoch {epoch}"));
            let end = terms.expected_end.map_or(String::new(), |end| format!(" if it ends at {end}"));
            ("append", format!("append {values} as producer {producer}{epoch}{end}"))
        }
        Call::Read { from, max, local } => {
            let local = if *local { ", from any replica" } else { "" };
            ("read", format!("read at most {max} from {from} on{local}"))
        }
        Call::End => ("end", "where does it end?".to_owned()),
        Call::ReadAfter { from, max, barrier } => ("read", format!("read {max} from {from}, all before {barrier}")),
        Call::LocalEnd { node } => ("end", format!("where does it end on node {node}?")),
        Call::Cursor { cursor, call } => ("cursor", format!("cursor {cursor}: {call}")),
        Call::Lease { holder, call } => ("lease", format!("lease of {holder}: {call}")),
        Call::Trim { to } => ("trim", format!("trim to {to}")),
    };
    json!({
        "id": operation.id.to_string(),
        "client": operation.client.to_string(),
        "log": operation.log,
        "verb": verb,
        "call": call,
        "invoked": micros(operation.invoked),
        "completed": operation.completed.map(micros),
        "state": state,
        "answer": answer,
    })
}

fn spelled_out(records: &[(u64, u64)]) -> String {
    let pairs = records.iter().map(|(offset, value)| format!("{offset}: {value}"));
    format!("{} records, {}", records.len(), spelled(pairs, records.len()))
}

fn spelled(parts: impl Iterator<Item = String>, count: usize) -> String {
    let all = parts.take(SPELLED_OUT).collect::<Vec<_>>().join(", ");
    if count > SPELLED_OUT { format!("{all} and {} more", count - SPELLED_OUT) } else { all }
}

fn broken(
    violation: &Violation,
    heading: &Heading,
    events: &[Event],
    operations: &[Operation],
    end: Duration,
) -> Value {
    let meaning = heading.promises.iter().find(|(promise, _)| *promise == violation.promise).map(|(_, words)| words);
    let shown = events.iter().find_map(|event| match &event.what {
        What::Violated { promise, details, node } if *promise == violation.promise && *details == violation.details => {
            Some((event.at, *node))
        }
        _ => None,
    });
    // What was found in the history after the run has no event of its own: it
    // showed with the last answer that it takes to see it.
    let (at, node) = shown.unwrap_or_else(|| {
        let last = operations
            .iter()
            .filter(|operation| violation.operations.contains(&operation.id))
            .map(|operation| operation.completed.unwrap_or(operation.invoked))
            .max();
        (last.unwrap_or(end), None)
    });
    json!({
        "promise": violation.promise,
        "meaning": meaning,
        "details": violation.details,
        "operations": violation.operations.iter().map(u64::to_string).collect::<Vec<_>>(),
        "at": micros(at),
        "node": node.map(|node| node.to_string()),
    })
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}
