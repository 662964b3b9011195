//! A client moves a cursor of its own: commits, compares, claims, tries under an older
//! generation, and lets an append carry a commit that is then repeated.
//!
//! Nobody else moves it, so that each answer can be judged at once: it has to be
//! where the last acknowledged commit left it, or where one of those does that were
//! never answered and that no later generation has fenced.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::join;
use quipu_protocol::transport::{ChannelOptions, channel};
use quipu_protocol::v1;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_sdk::{Cursor, CursorCommit, CursorError, CursorRefusal, LogId, LogName, Offset};

use super::{Context, contested, repeat};
use crate::environment::clock::now;
use crate::history::{Call, Outcome, Terms};
use crate::violation::Violation;

/// Positions are numbers that tell commits apart, as if of a log that there is not.
const ELSEWHERE: LogId = LogId::new(1 << 40);

pub(super) async fn run(context: Context, log: usize, pause_ms: u64) {
    let log = context.log(log);
    let contested = contested::cursor(&context, log.clone(), pause_ms);
    join(own(&context, log, pause_ms), contested).await;
}

async fn own(context: &Context, log: LogName, pause_ms: u64) {
    // A client that crashed comes back, and knows nothing of the cursor that it had.
    let name = format!("own-{}", context.shared.counters.producer());
    let cursor = context.client.cursor(&log, &name.parse().expect("a good name"));
    let known = Known { settled: BTreeSet::from([None]), ..Known::default() };
    let mut owner = Owner { context, log, name, cursor, generation: 0, known };
    while context.goes_on() {
        context.pause(pause_ms).await;
        owner.step().await;
    }
}

/// What the owner of a cursor knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Where it may be by what was answered.
    settled: BTreeSet<Option<u64>>,
    /// The commits that were never answered, with their generations: each may land at
    /// any time, once.
    open: BTreeSet<(u64, u64)>,
    /// The highest generation that is known to be the cursor's.
    generation: u64,
}

impl Known {
    /// Something was acknowledged that leaves the cursor at `position`.
    pub(crate) fn is_at(&mut self, position: Option<u64>, generation: u64) {
        self.settled = BTreeSet::from([position]);
        self.generation = self.generation.max(generation);
        self.open.retain(|(open, _)| *open >= self.generation);
    }

    /// A commit has no answer.
    pub(crate) fn is_open(&mut self, position: u64, generation: u64) {
        self.open.insert((generation, position));
    }

    /// Where it was seen: false if it cannot be there.
    pub(crate) fn saw(&mut self, position: Option<u64>, generation: u64) -> bool {
        let open = self.open.iter().any(|(_, open)| Some(*open) == position);
        let can_be = self.settled.contains(&position) || open;
        self.is_at(position, generation);
        can_be
    }
}

struct Owner<'a> {
    context: &'a Context,
    log: LogName,
    name: String,
    cursor: Cursor,
    generation: u64,
    known: Known,
}

impl Owner<'_> {
    async fn step(&mut self) {
        match self.context.below(9) {
            0..=2 => self.commit(false).await,
            3 => self.commit(true).await,
            4 | 5 => self.look().await,
            6 => self.claim().await,
            7 => self.commit_as_of_old().await,
            _ => self.carry().await,
        }
    }

    fn next(&self) -> (u64, CursorCommit) {
        let position = self.context.shared.counters.values(1)[0];
        (position, self.cursor.at(Offset::new(position)).of(ELSEWHERE).under(self.generation))
    }

    /// Commits, compared or not.
    async fn commit(&mut self, compared: bool) {
        let (position, commit) = self.next();
        let there = self.known.settled.first().copied().flatten();
        let is_sure = self.known.open.is_empty() && self.known.settled.len() == 1;
        let commit = if compared { commit.expecting(there.map(Offset::new)) } else { commit };
        match self.cursor.commit_as(commit).await {
            Ok(()) => self.known.is_at(Some(position), self.generation),
            Err(CursorError::Refused { refusal: CursorRefusal::Mismatch { position, .. }, .. }) if compared => {
                if is_sure {
                    self.violated(&format!("is at {position:?} for a commit that expects {there:?}"));
                }
                self.saw(position.map(Offset::get), self.known.generation);
            }
            Err(CursorError::Refused { refusal, .. }) => self.violated(&format!("does not take a commit: {refusal}")),
            Err(error) if error.has_no_side_effects() => {}
            Err(_) => self.known.is_open(position, self.generation),
        }
    }

    async fn look(&mut self) {
        if let Ok(found) = self.cursor.get().await {
            let position = found.as_ref().and_then(|found| found.position).map(Offset::get);
            self.saw(position, found.map_or(0, |found| found.generation));
        }
    }

    /// From here on nothing lands of what came before, if this is answered.
    async fn claim(&mut self) {
        self.generation += 1;
        match self.cursor.claim(self.generation).await {
            Ok(position) => self.saw(position.map(Offset::get), self.generation),
            Err(CursorError::Refused { refusal, .. }) => self.violated(&format!("cannot be claimed: {refusal}")),
            Err(_) => {}
        }
    }

    /// As one would that it was taken from.
    async fn commit_as_of_old(&mut self) {
        let Some(old) = self.known.generation.checked_sub(1) else { return };
        let (_, commit) = self.next();
        match self.cursor.commit_as(commit.under(old)).await {
            Ok(()) => self.violated(&format!("was moved under generation {old} after {}", self.known.generation)),
            Err(CursorError::Refused { refusal: CursorRefusal::Fenced { .. }, .. }) => {
                self.context.shared.recorder.mark(now(), "a-cursor-was-fenced");
            }
            Err(_) => {}
        }
    }

    /// An append carries a commit; the cursor moves on, and the append comes again.
    async fn carry(&mut self) {
        let Some(id) = repeat::allocate(self.context).await else { return };
        let values = self.context.shared.counters.values(1);
        let batch = repeat::batch(&values, id, 0);
        let (position, _) = self.next();
        let commit = v1::CursorCommit {
            cursor: self.name.clone(),
            position,
            of: ELSEWHERE.get(),
            generation: self.generation,
            ..v1::CursorCommit::default()
        };
        let producer = self.context.shared.counters.producer();
        let call = Call::Append { producer, values, terms: Terms::default() };
        let operation = self.context.invoke(self.log.as_str(), call);
        let mut landed = None;
        for _ in 0..4 {
            landed = self.send(&batch, &commit).await;
            if landed.is_some() {
                break;
            }
            self.context.pause(200).await;
        }
        match &landed {
            Some(appended) => {
                let (start, end) = (appended.start, appended.end);
                self.context.complete(operation, Outcome::Appended { start, end });
                self.known.is_at(Some(position), self.generation);
            }
            None => {
                let why = "no copy was answered".to_owned();
                self.context.complete(operation, Outcome::Unknown { why });
                self.known.is_open(position, self.generation);
                return;
            }
        }
        self.commit(false).await;
        if self.send(&batch, &commit).await.is_some_and(|again| again.duplicate) {
            self.context.shared.recorder.mark(now(), "an-append-with-a-cursor-came-again");
        }
        self.look().await;
    }

    async fn send(&self, batch: &Bytes, commit: &v1::CursorCommit) -> Option<v1::Appended> {
        let address = repeat::any_address(self.context);
        let channel = channel(&self.context.environment, &address, ChannelOptions::default()).ok()?;
        let request = v1::AppendRequest {
            request: 1,
            log: self.log.to_string(),
            batch: batch.clone(),
            cursors: v1::CarriedCommits::encoded(vec![commit.clone()]),
            ..v1::AppendRequest::default()
        };
        let call = async { RecordsClient::new(channel).append_one(request).await };
        let answer = self.context.environment.clock.timeout(repeat::ATTEMPT, call).await.ok()?.ok()?;
        match answer.into_inner().outcome? {
            v1::append_response::Outcome::Appended(appended) => Some(appended),
            v1::append_response::Outcome::Error(_) => None,
        }
    }

    fn saw(&mut self, position: Option<u64>, generation: u64) {
        let known = self.known.clone();
        if !self.known.saw(position, generation) {
            self.violated(&format!("is at {position:?}, generation {generation}, where {known:?} is known"));
        }
    }

    fn violated(&self, what: &str) {
        let details = format!("log {}: cursor {} of client {} {what}", self.log, self.name, self.context.number);
        let violation = Violation::new("a-cursor-is-what-was-committed", details);
        self.context.shared.recorder.violated(now(), violation, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known { settled: BTreeSet::from([None]), ..Known::default() }
    }

    #[test]
    fn it_is_where_the_last_acknowledged_commit_left_it() {
        let mut known = known();
        assert!(known.clone().saw(None, 0));
        known.is_at(Some(5), 0);
        assert!(known.clone().saw(Some(5), 0));
        assert!(!known.clone().saw(None, 0), "an acknowledged commit is gone");
        assert!(!known.saw(Some(4), 0), "an older one is back");
    }

    #[test]
    fn what_was_not_answered_may_land_until_it_is_fenced() {
        let mut known = known();
        known.is_at(Some(5), 0);
        known.is_open(6, 0);
        known.is_at(Some(7), 0);
        assert!(known.clone().saw(Some(6), 0) && known.clone().saw(Some(7), 0));
        known.is_at(Some(7), 1);
        assert!(!known.saw(Some(6), 1), "a later generation has fenced it");
    }
}
