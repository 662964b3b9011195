//! Members of reader groups: they join, read what they are given, commit, and
//! leave, vanish or fall asleep.
//!
//! ```text
//!   join ─▶ read ─▶ commit … ─▶ leave ────────────────────┐
//!     ▲                      ├▶ vanish: missed after its session
//!     │                      └▶ sleep: what it is asked for is taken
//!     └─────────────────────────────────────────────────────┘
//! ```
//!
//! Two groups read the same logs. What each of them was delivered, and what it
//! committed, is held against what a group promises, as it happens: no record is
//! skipped, and who lost a log commits nothing there any more.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use quipu_protocol::environment::BoxFuture;
use quipu_sdk::{
    Consistency, Generation, GroupConfig, GroupReader, GroupRecords, LogId, LogName, Offset, PositionError, Positions,
};

use super::{Context, value_of};
use crate::checkers::groups::{Claim, Commit, Groups};
use crate::environment::clock::now;
use crate::violation::Violation;

/// What the logs' names begin with that groups read.
pub(crate) const SHARED: &str = "shared-";
/// The groups.
pub(crate) const GROUPS: [&str; 2] = ["billing", "audit"];

/// Sessions last so long, in milliseconds.
const SESSIONS_MS: [u64; 3] = [1_000, 1_500, 3_000];
/// A member waits for records so long at a time.
const PATIENCE: Duration = Duration::from_millis(500);
/// What failed is tried again after up to this time, in milliseconds.
const AGAIN_MS: u64 = 200;
/// One commit in so many leaves late.
const ONE_IN_LATE: u64 = 12;
/// A member reads up to so many times before it leaves, vanishes or sleeps.
const MOST_TURNS: u64 = 30;

impl Context {
    fn groups<T>(&self, look: impl FnOnce(&mut Groups) -> T) -> T {
        look(&mut self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn broken(&self, violation: Violation) {
        self.shared.recorder.violated(now(), violation, None);
    }
}

pub(super) async fn run(context: Context, group: usize, pause_ms: u64) {
    let group = GROUPS[group % GROUPS.len()];
    while context.goes_on() {
        let session = SESSIONS_MS[usize::try_from(context.below(SESSIONS_MS.len() as u64)).unwrap_or_default()];
        let Some((mut reader, member)) = join(&context, group, session).await else {
            context.pause(AGAIN_MS).await;
            continue;
        };
        for _ in 0..1 + context.below(MOST_TURNS) {
            if !context.goes_on() {
                break;
            }
            if !turn(&context, group, member, &mut reader, pause_ms).await {
                break;
            }
        }
        match context.below(3) {
            0 => {
                context.shared.recorder.mark(now(), "a-group-member-vanished");
                drop(reader);
            }
            1 if context.goes_on() => {
                // It lives on, and does not look at what it is asked for.
                context.environment.clock.sleep(Duration::from_millis(session * 3 / 2)).await;
                let _ = turn(&context, group, member, &mut reader, pause_ms).await;
                drop(reader);
            }
            // It is missed after its session if nobody could be told.
            _ => drop(reader.leave().await),
        }
        context.pause(pause_ms * 4).await;
    }
}

/// A member of the group, and which membership of this run it is.
async fn join(context: &Context, group: &str, session_ms: u64) -> Option<(GroupReader, u64)> {
    let name = group.parse().expect("a good name");
    let member = context.groups(Groups::member);
    let config = GroupConfig {
        client: format!("client-{}", context.number),
        session: Duration::from_millis(session_ms),
        ..GroupConfig::default()
    };
    let inner = context.client.group_positions(&name);
    let positions = Watched { context: context.clone(), group: group.to_owned(), member, session_ms, inner };
    let pattern = format!("{SHARED}*").parse().expect("a good pattern");
    let joining = context.client.reader_group(&name, &pattern).positions(Arc::new(positions)).config(config).join();
    Some((joining.await.ok()?, member))
}

/// Reads once, and commits most of the time. False when it cannot go on.
async fn turn(context: &Context, group: &str, member: u64, reader: &mut GroupReader, pause_ms: u64) -> bool {
    match context.environment.clock.timeout(PATIENCE, reader.next()).await {
        Ok(Ok(records)) => take(context, group, member, &records),
        Ok(Err(error)) if !error.is_retryable() => {
            context.broken(Violation::new("members-can-go-on", format!("group {group}: {error:?}")));
            return false;
        }
        Ok(Err(_)) => context.pause(AGAIN_MS).await,
        Err(_) => {}
    }
    context.pause(pause_ms).await;
    if context.below(4) > 0
        && let Ok(committed) = reader.commit().await
        && !committed.lost.is_empty()
    {
        context.shared.recorder.mark(now(), "a-group-member-lost-a-log");
    }
    true
}

/// Notes what was delivered.
fn take(context: &Context, group: &str, member: u64, records: &GroupRecords) {
    let log = records.log.as_str();
    for record in &records.records {
        let value = value_of(record.value.as_ref()).unwrap_or(u64::MAX);
        let delivered = |groups: &mut Groups| groups.delivered(group, log, member, record.offset.get(), value);
        if let Some(violation) = context.groups(delivered) {
            context.broken(violation);
        }
    }
}

/// A group's positions, watched.
struct Watched {
    context: Context,
    group: String,
    /// Which membership of this run.
    member: u64,
    session_ms: u64,
    inner: Arc<dyn Positions>,
}

impl Positions for Watched {
    fn claim(
        &self,
        log: &LogName,
        id: LogId,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Option<Offset>, PositionError>> {
        let (context, group, member, log_name) =
            (self.context.clone(), self.group.clone(), self.member, log.to_string());
        let claim = self.inner.claim(log, id, generation);
        Box::pin(async move {
            let began = context.tick_began();
            let claimed = claim.await;
            if let Ok(found) = &claimed {
                let claim = Claim {
                    group: &group,
                    log: &log_name,
                    generation: generation.get(),
                    member,
                    found: found.map(Offset::get),
                    began,
                    ended: context.tick_began() + context.shared.tick,
                };
                if let Some(violation) = context.groups(|groups| groups.claimed(claim)) {
                    context.broken(violation);
                }
            }
            claimed
        })
    }

    fn commit(
        &self,
        log: &LogName,
        id: LogId,
        generation: Generation,
        position: Offset,
    ) -> BoxFuture<'static, Result<(), PositionError>> {
        let (context, group, member, log_name) =
            (self.context.clone(), self.group.clone(), self.member, log.to_string());
        let commit = self.inner.commit(log, id, generation, position);
        let session_ms = self.session_ms;
        Box::pin(async move {
            if context.goes_on() && context.below(ONE_IN_LATE) == 0 {
                // So long that what it is asked for meanwhile is taken from it.
                context.pause(4 * session_ms).await;
            }
            let asked = Commit {
                group: &group,
                log: &log_name,
                generation: generation.get(),
                member,
                position: position.get(),
                began: context.tick_began(),
            };
            if let Some(violation) = context.groups(|groups| groups.commits(asked)) {
                context.broken(violation);
            }
            let committed = commit.await;
            if matches!(committed, Err(PositionError::Fenced)) {
                context.shared.recorder.mark(now(), "a-group-member-was-fenced");
            }
            let at = context.tick_began() + context.shared.tick;
            if committed.is_ok()
                && let Some(violation) = context.groups(|groups| groups.committed(asked, at))
            {
                context.broken(violation);
            }
            committed
        })
    }
}

/// The only member that a group has left.
pub(crate) struct Last {
    group: &'static str,
    member: u64,
    reader: GroupReader,
}

/// The logs that groups read.
pub(crate) fn shared_logs(context: &Context) -> Vec<LogName> {
    let shared = context.shared.logs.iter().filter(|plan| plan.name.starts_with(SHARED));
    shared.map(|plan| plan.name.parse().expect("a good name")).collect()
}

/// Reads every log to its end; the only members that the groups have left. One of them
/// has let another one have some of its logs, which has left.
pub(crate) async fn read_the_rest(context: &Context) -> Vec<Last> {
    let logs = shared_logs(context);
    let mut all = Vec::new();
    for group in GROUPS {
        let mut last = Last::of(context, group).await;
        if group == GROUPS[0] {
            let mut other = Last::of(context, group).await;
            while other.reader.logs().is_empty() && logs.len() > 1 || !has_all(context, group, &logs).await {
                last.turn(context).await;
                other.turn(context).await;
            }
            // What it was given it has claimed by then.
            other.turn(context).await;
            drop(other.reader.leave().await);
        }
        all.push(last.read_on(context).await);
    }
    all
}

impl Last {
    async fn of(context: &Context, group: &'static str) -> Self {
        loop {
            match join(context, group, SESSIONS_MS[0]).await {
                Some((reader, member)) => return Self { group, member, reader },
                None => context.pause(AGAIN_MS).await,
            }
        }
    }

    async fn turn(&mut self, context: &Context) {
        let _ = turn(context, self.group, self.member, &mut self.reader, 1).await;
    }

    /// Reads every log to its end.
    pub(crate) async fn read_on(mut self, context: &Context) -> Self {
        let logs = shared_logs(context);
        while !has_all(context, self.group, &logs).await {
            self.turn(context).await;
        }
        self
    }

    /// Leaves.
    pub(crate) async fn leave(self) {
        drop(self.reader.leave().await);
    }
}

async fn has_all(context: &Context, group: &str, logs: &[LogName]) -> bool {
    for log in logs {
        let Ok(range) = context.client.offsets(log, Consistency::Linearizable).await else { return false };
        if context.groups(|groups| groups.reaches(group, log.as_str())) < range.end().get() {
            return false;
        }
    }
    true
}
