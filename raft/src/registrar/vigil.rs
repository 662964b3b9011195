//! Who was heard of when, as a registrar's leader remembers it.
//!
//! In memory alone: a new leader has heard of nobody, and gives everyone a whole
//! session from then on, and whole time to let go of logs. So does one that was
//! paused: who spoke meanwhile was not heard. Purely a function of
//! what it is told; the time is the monotonic clock's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quipu_protocol::{Generation, LogId, MemberId, ReaderGroupName, Term};

use super::Registrar;

/// A leader that looks so much later than something was to become due was paused.
const PAUSE: Duration = Duration::from_millis(250);

/// What a leader has heard.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    /// In which term; nothing of an older one counts.
    term: Option<Term>,
    heard: BTreeMap<MemberId, Duration>,
    /// Since when a member is asked for a log.
    asked: BTreeMap<(LogId, MemberId, Generation), Duration>,
    /// When something was to become due, when it looked last.
    next: Option<Duration>,
}

/// What has become due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Members that were not heard of.
    pub(super) silent: BTreeMap<ReaderGroupName, Vec<MemberId>>,
    /// Logs that were not let go of.
    pub(super) kept: BTreeMap<ReaderGroupName, Vec<(LogId, Generation)>>,
    /// When something may become due next.
    pub(super) next: Option<Duration>,
}

impl Vigil {
    /// In which term somebody leads who has heard of members.
    pub(super) fn term(&self) -> Option<Term> {
        self.term
    }

    /// `member` was heard of in `term`.
    pub(super) fn hear(&mut self, member: MemberId, term: Term, now: Duration) {
        self.begin(term);
        self.heard.insert(member, now);
    }

    /// When `member` was last heard of, if it was.
    pub(super) fn heard(&self, member: MemberId) -> Option<Duration> {
        self.heard.get(&member).copied()
    }

    /// What is due `now`, of what the leader of `term` has applied.
    pub(super) fn look(&mut self, registrar: &Registrar, term: Term, now: Duration) -> Due {
        self.begin(term);
        if self.next.is_some_and(|next| now > next + PAUSE) {
            self.heard.clear();
            self.asked.clear();
        }
        let mut due = Due::default();
        let mut members = BTreeSet::new();
        let mut asked = BTreeSet::new();
        for (name, group) in registrar.groups() {
            for (id, member) in &group.members {
                members.insert(*id);
                let heard = *self.heard.entry(*id).or_insert(now);
                if due.is_over(heard, member.session_ms, now) {
                    due.silent.entry(name.clone()).or_default().push(*id);
                }
            }
            for (log, share) in &group.shares {
                let Some(held) = share.held.filter(|held| held.returning) else { continue };
                let Some(member) = group.members.get(&held.member) else { continue };
                let key = (*log, held.member, held.generation);
                asked.insert(key);
                let since = *self.asked.entry(key).or_insert(now);
                if due.is_over(since, member.session_ms, now) {
                    due.kept.entry(name.clone()).or_default().push((*log, held.generation));
                }
            }
        }
        self.heard.retain(|member, _| members.contains(member));
        self.asked.retain(|key, _| asked.contains(key));
        self.next = due.next;
        due
    }

    fn begin(&mut self, term: Term) {
        if self.term != Some(term) {
            *self = Self { term: Some(term), ..Self::default() };
        }
    }
}

impl Due {
    /// Whether `session_ms` have passed since `since`; if not, they will have next.
    fn is_over(&mut self, since: Duration, session_ms: u64, now: Duration) -> bool {
        let at = since + Duration::from_millis(session_ms);
        if at > now {
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
        at <= now
    }
}
