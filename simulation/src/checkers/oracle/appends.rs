//! What became of the appends.

use std::collections::BTreeMap;

use super::{Authors, Findings};
use crate::checkers::settled::Settled;
use crate::checkers::tell::{List, Told};
use crate::history::{Call, Operation, Outcome};

/// One append of the log.
#[derive(Clone, Copy)]
struct Append<'a> {
    operation: &'a Operation,
    producer: u64,
    values: &'a [u64],
}

impl Append<'_> {
    fn failed(&self) -> bool {
        matches!(self.operation.outcome, Outcome::Failed { .. } | Outcome::Fenced { .. } | Outcome::Mismatch { .. })
    }

    /// The offsets that were acknowledged.
    fn acknowledged(&self) -> Option<(u64, u64)> {
        match self.operation.outcome {
            Outcome::Appended { start, end } => Some((start, end)),
            _ => None,
        }
    }

    /// Where the batch begins, or any of it if it is not there whole.
    fn place(&self, settled: &Settled) -> Option<u64> {
        let any = || self.values.iter().filter_map(|&value| settled.places(value).first().copied()).min();
        settled.find(self.values).or_else(any)
    }

    /// Those values that are there, or those that are not.
    fn values_that_are(&self, there: bool, settled: &Settled) -> Vec<u64> {
        self.values.iter().copied().filter(|&value| settled.places(value).is_empty() != there).collect()
    }
}

pub(super) fn check(calls: &[&Operation], settled: &Settled, authors: &Authors<'_>, findings: &mut Findings<'_>) {
    let appends: Vec<Append<'_>> = calls
        .iter()
        .filter_map(|&operation| match &operation.call {
            Call::Append { producer, values, .. } => Some(Append { operation, producer: *producer, values }),
            _ => None,
        })
        .collect();
    no_lost_record(&appends, settled, findings);
    no_doubled_record(settled, authors, findings);
    no_invented_record(calls, settled, authors, findings);
    failed_never_lands(&appends, settled, findings);
    batch_is_atomic(&appends, settled, findings);
    range_fits_batch(&appends, findings);
    offset_never_changes_meaning(&appends, settled, findings);
    producer_order(&appends, settled, findings);
}

fn no_lost_record(appends: &[Append<'_>], settled: &Settled, findings: &mut Findings<'_>) {
    for append in appends.iter().filter(|append| append.acknowledged().is_some()) {
        let lost = append.values_that_are(false, settled);
        if !lost.is_empty() {
            let details =
                format_args!("{} are not there, though acknowledged: {}", List(&lost), Told(append.operation));
            findings.add("no-lost-record", [append.operation.id], details);
        }
    }
}

fn no_doubled_record(settled: &Settled, authors: &Authors<'_>, findings: &mut Findings<'_>) {
    for (value, places) in settled.all_places().filter(|(_, places)| places.len() > 1) {
        let author = authors.get(&value).map(|author| author.id);
        findings.add("no-doubled-record", author, format_args!("value {value} is at offsets {}", List(places)));
    }
}

fn no_invented_record(calls: &[&Operation], settled: &Settled, authors: &Authors<'_>, findings: &mut Findings<'_>) {
    // A log that nobody called upon has records only if they were invented.
    let log = calls.first().map(|operation| operation.log.as_str());
    for (value, places) in settled.all_places() {
        match authors.get(&value) {
            None => {
                let details = format_args!("value {value} at {} was appended by nobody", List(places));
                findings.add("no-invented-record", [], details);
            }
            Some(author) if log != Some(&author.log) => {
                let (places, other, told) = (List(places), &author.log, Told(author));
                let details = format_args!("value {value} at {places} was appended to log {other}: {told}");
                findings.add("no-invented-record", [author.id], details);
            }
            Some(_) => {}
        }
    }
}

fn failed_never_lands(appends: &[Append<'_>], settled: &Settled, findings: &mut Findings<'_>) {
    for append in appends.iter().filter(|append| append.failed()) {
        let landed = append.values_that_are(true, settled);
        if let Some(place) = append.place(settled) {
            let told = Told(append.operation);
            let details = format_args!("{} are there, at {place} first, though they failed: {told}", List(&landed));
            findings.add("failed-never-lands", [append.operation.id], details);
        }
    }
}

fn batch_is_atomic(appends: &[Append<'_>], settled: &Settled, findings: &mut Findings<'_>) {
    for append in appends.iter().filter(|append| !append.failed()) {
        let there = append.values_that_are(true, settled);
        if there.is_empty() || settled.find(append.values).is_some() {
            continue;
        }
        let offsets: Vec<u64> = there.iter().filter_map(|&value| settled.places(value).first().copied()).collect();
        let (there, offsets, told) = (List(&there), List(&offsets), Told(append.operation));
        let details = format_args!("of one batch {there} are at offsets {offsets}, not whole and in order: {told}");
        findings.add("batch-is-atomic", [append.operation.id], details);
    }
}

fn range_fits_batch(appends: &[Append<'_>], findings: &mut Findings<'_>) {
    for append in appends {
        let Some((start, end)) = append.acknowledged() else { continue };
        let records = append.values.len() as u64;
        if end.checked_sub(start) != Some(records) {
            let details = format_args!("{records} records were given {start}..{end}: {}", Told(append.operation));
            findings.add("range-fits-batch", [append.operation.id], details);
        }
    }
}

fn offset_never_changes_meaning(appends: &[Append<'_>], settled: &Settled, findings: &mut Findings<'_>) {
    for append in appends {
        let Some((start, _)) = append.acknowledged() else { continue };
        // What is nowhere is lost, which is told already.
        let moved = append.values.iter().zip(start..).find_map(|(&value, offset)| {
            let places = settled.places(value);
            (!places.is_empty() && !places.contains(&offset)).then_some((offset, value, places))
        });
        if let Some((offset, value, places)) = moved {
            let (places, told) = (List(places), Told(append.operation));
            let instead = match settled.at(offset) {
                Some(other) => format!("where value {other} is"),
                None => format!("and the log ends at {}", settled.end()),
            };
            let details = format_args!("value {value} is at {places}, not at {offset}, {instead}: {told}");
            findings.add("offset-never-changes-meaning", [append.operation.id], details);
        }
    }
}

/// Of those that were acknowledged: one that was given up may still be on its
/// way, and land after calls that were made later.
fn producer_order(appends: &[Append<'_>], settled: &Settled, findings: &mut Findings<'_>) {
    let mut furthest: BTreeMap<u64, (u64, Append<'_>)> = BTreeMap::new();
    for append in appends.iter().filter(|append| append.acknowledged().is_some()) {
        let Some(place) = append.place(settled) else { continue };
        match furthest.get(&append.producer) {
            Some((before, earlier)) if place < *before => {
                let (earlier, later) = (earlier.operation, append.operation);
                let details = format_args!(
                    "producer {} called {} first, which is at {before}, and {}, which is at {place}",
                    append.producer,
                    Told(earlier),
                    Told(later)
                );
                findings.add("producer-order", [earlier.id, later.id], details);
            }
            _ => {
                furthest.insert(append.producer, (place, *append));
            }
        }
    }
}
