//! Cursors and leases that all clients use at once, so that no answer can be judged by
//! itself: the search for one order of all calls judges them.
//!
//! Each request is sent once, to one node: one that is sent again may take effect
//! twice, with others in between, which is no single call any more. After a while all
//! go on to a new name, so that calls of unknown outcome do not add up.

use std::time::Duration;

use quipu_protocol::transport::{ChannelOptions, channel};
use quipu_protocol::v1;
use quipu_protocol::v1::cursor_commit::{Expected, NoPosition};
use quipu_protocol::v1::cursor_refused::Reason;
use quipu_protocol::v1::cursors_client::CursorsClient;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::records_client::RecordsClient;
use quipu_sdk::{Consistency, LogName};
use tonic::transport::Channel;
use tonic::{ConnectError, Response, Status};

use super::{Context, repeat};
use crate::environment::clock::now;
use crate::history::{Call, CursorAnswer, CursorCall, LeaseAnswer, LeaseCall, Outcome};

/// A request is waited for this long: a commit waits up to a second for others.
const ATTEMPT: Duration = Duration::from_millis(1_500);
/// After so long another name is used.
const NAME_LASTS: Duration = Duration::from_millis(2_000);
/// One that outlasts a run, however wrong clocks are.
const LASTING_MS: u64 = 10 * 365 * 86_400_000;
/// One that may end while the run lasts.
const SHORT_MS: u64 = 300;
/// Positions are numbers that tell commits apart, as if of a log that there is not.
const ELSEWHERE: u64 = 1 << 40;

/// The name that all clients use now.
fn name() -> String {
    format!("contested-{}", now().as_millis() / NAME_LASTS.as_millis())
}

/// What was answered, or what is known of a call without an answer.
type Answered<T> = Result<T, Failure>;

enum Failure {
    /// Refused for a reason that says something.
    Refused(Kind),
    /// Nothing was done.
    NotDone(String),
    /// It may have been.
    Unknown(String),
}

impl Failure {
    fn outcome(self) -> Outcome {
        match self {
            Self::Refused(kind) => Outcome::Failed { why: format!("{kind:?}") },
            Self::NotDone(why) => Outcome::Failed { why },
            Self::Unknown(why) => Outcome::Unknown { why },
        }
    }
}

/// Whoever asks: it goes to the node that answered last.
struct Asking<'a> {
    context: &'a Context,
    log: LogName,
    address: String,
}

impl<'a> Asking<'a> {
    fn new(context: &'a Context, log: LogName) -> Self {
        Self { context, log, address: repeat::any_address(context) }
    }

    /// One that looks at what any node has, and is to be told that by the leader alone.
    fn elsewhere(&self) -> Self {
        Self::new(self.context, self.log.clone())
    }

    async fn once<T, F>(&mut self, request: impl FnOnce(Channel) -> F) -> Answered<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let environment = &self.context.environment;
        let channel = channel(environment, &self.address, ChannelOptions::default())
            .map_err(|error| Failure::NotDone(error.to_string()))?;
        let failure = match environment.clock.timeout(ATTEMPT, request(channel)).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => failure(&status),
            Err(late) => Failure::Unknown(late.to_string()),
        };
        if !matches!(failure, Failure::Refused(_)) {
            self.address = repeat::any_address(self.context);
        }
        Err(failure)
    }
}

fn failure(status: &Status) -> Failure {
    let why = status.message().to_owned();
    match v1::Error::from_status(status).map(|error| error.kind) {
        Some(Some(kind @ (Kind::CursorRefused(_) | Kind::LeaseNotHeld(_)))) => Failure::Refused(kind),
        Some(Some(Kind::OutcomeUnknown(_))) => Failure::Unknown(why),
        Some(_) => Failure::NotDone(why),
        None if never_left(status) => Failure::NotDone(why),
        None => Failure::Unknown(why),
    }
}

/// Whether no connection came about, so that nothing was sent.
fn never_left(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Moves a cursor that all clients move.
pub(super) async fn cursor(context: &Context, log: LogName, pause_ms: u64) {
    let mut asking = Asking::new(context, log);
    // Where and under which generation it was seen last.
    let (mut position, mut generation) = (None, 0);
    while context.goes_on() {
        context.pause(pause_ms * 2).await;
        let call = match context.below(10) {
            drawn @ 0..=4 => CursorCall::Commit {
                position: context.shared.counters.values(1)[0],
                // Now and then as one who knows nothing of the last claim.
                generation: generation - u64::from(generation > 0 && context.below(4) == 0),
                expected: (drawn > 2).then_some(position),
            },
            5 => CursorCall::Claim { generation: generation + context.below(2) },
            6 => CursorCall::Delete,
            _ => CursorCall::Get,
        };
        let cursor = name();
        let named = Call::Cursor { cursor: cursor.clone(), call };
        let operation = context.invoke(asking.log.as_str(), named);
        let mut elsewhere = asking.elsewhere();
        let is_look = call == CursorCall::Get && context.below(2) == 0;
        let asked = if is_look { &mut elsewhere } else { &mut asking };
        let outcome = match ask_cursor(asked, &cursor, call).await {
            Ok(answer) => {
                (position, generation) = seen(call, answer, position, generation);
                Outcome::Cursor(answer)
            }
            Err(failure) => failure.outcome(),
        };
        context.complete(operation, outcome);
    }
}

/// Where a cursor is after an answer, as far as that tells.
fn seen(call: CursorCall, answer: CursorAnswer, position: Option<u64>, generation: u64) -> (Option<u64>, u64) {
    match (call, answer) {
        (CursorCall::Commit { position, generation, .. }, CursorAnswer::Committed) => (Some(position), generation),
        (_, CursorAnswer::Is { position, generation }) => (position, generation),
        (_, CursorAnswer::Fenced { generation }) => (position, generation),
        (_, CursorAnswer::Mismatch { position }) => (position, generation),
        (_, CursorAnswer::Missing | CursorAnswer::Deleted { .. }) => (None, 0),
        (_, CursorAnswer::Committed) => (position, generation),
    }
}

async fn ask_cursor(asking: &mut Asking<'_>, cursor: &str, call: CursorCall) -> Answered<CursorAnswer> {
    let (log, cursor) = (asking.log.to_string(), cursor.to_owned());
    let told = |cursor: Option<v1::Cursor>| match cursor {
        Some(v1::Cursor { position, generation, .. }) => CursorAnswer::Is { position, generation },
        None => CursorAnswer::Missing,
    };
    let answer = match call {
        CursorCall::Commit { position, generation, expected } => {
            let expected = expected.map(|expected| match expected {
                Some(expected) => Expected::PositionIs(expected),
                None => Expected::NoPosition(NoPosition {}),
            });
            let commit = v1::CursorCommit {
                cursor,
                position,
                of: ELSEWHERE,
                generation,
                expected,
                ..v1::CursorCommit::default()
            };
            let request = v1::CommitCursorRequest { log, commit: Some(commit), ..v1::CommitCursorRequest::default() };
            let committed = asking.once(|to| async { CursorsClient::new(to).commit_cursor(request).await }).await;
            committed.map(|_| CursorAnswer::Committed)
        }
        CursorCall::Claim { generation } => {
            let request = v1::ClaimCursorRequest { log, cursor, generation, ..v1::ClaimCursorRequest::default() };
            let claimed = asking.once(|to| async { CursorsClient::new(to).claim_cursor(request).await }).await;
            claimed.map(|answer| told(answer.cursor))
        }
        CursorCall::Get => {
            let request = v1::GetCursorRequest { log, cursor, ..v1::GetCursorRequest::default() };
            let found = asking.once(|to| async { CursorsClient::new(to).get_cursor(request).await }).await;
            found.map(|answer| told(answer.cursor))
        }
        CursorCall::Delete => {
            let request = v1::DeleteCursorRequest { log, cursor, ..v1::DeleteCursorRequest::default() };
            let deleted = asking.once(|to| async { CursorsClient::new(to).delete_cursor(request).await }).await;
            deleted.map(|answer| CursorAnswer::Deleted { existed: answer.deleted })
        }
        CursorCall::Expire => unreachable!("nobody asks for that"),
    };
    answer.or_else(|failure| match failure {
        Failure::Refused(Kind::CursorRefused(v1::CursorRefused { reason: Some(Reason::Fenced(fenced)), .. })) => {
            Ok(CursorAnswer::Fenced { generation: fenced.generation })
        }
        Failure::Refused(Kind::CursorRefused(v1::CursorRefused {
            reason: Some(Reason::Mismatch(mismatch)), ..
        })) => Ok(CursorAnswer::Mismatch { position: mismatch.position }),
        failure => Err(failure),
    })
}

/// Holds a lease that all clients hold under one name.
pub(super) async fn lease(context: &Context, log: LogName, pause_ms: u64) {
    let mut asking = Asking::new(context, log);
    // The grant that was seen last of the name; 0 for none.
    let (mut holder, mut grant) = (name(), 0);
    while context.goes_on() {
        context.pause(pause_ms * 2).await;
        if holder != name() {
            // What it keeps nobody needs any more.
            let_go(context, &mut asking, &holder).await;
            (holder, grant) = (name(), 0);
        }
        let call = match context.below(6) {
            drawn @ 0..=3 => {
                let Ok(range) = context.client.offsets(&asking.log, Consistency::Linearizable).await else { continue };
                let offset = range.start().advance(context.below(range.count() + 1)).get();
                let grant = if drawn > 1 { grant } else { 0 };
                LeaseCall::Hold { offset, grant, ends: context.below(5) == 0 }
            }
            4 => LeaseCall::Release { grant },
            _ => LeaseCall::Get,
        };
        let mut elsewhere = asking.elsewhere();
        let is_look = call == LeaseCall::Get && context.below(2) == 0;
        let asked = if is_look { &mut elsewhere } else { &mut asking };
        grant = match ask(context, asked, &holder, call).await {
            Some(LeaseAnswer::Held { grant, .. } | LeaseAnswer::NotHeld { now: Some(grant) }) => grant,
            _ => grant,
        };
    }
    let_go(context, &mut asking, &holder).await;
}

/// Lets go of a lease by whatever grant it is held.
async fn let_go(context: &Context, asking: &mut Asking<'_>, holder: &str) {
    if let Some(LeaseAnswer::Held { grant, .. }) = ask(context, asking, holder, LeaseCall::Get).await {
        ask(context, asking, holder, LeaseCall::Release { grant }).await;
    }
}

async fn ask(context: &Context, asking: &mut Asking<'_>, holder: &str, call: LeaseCall) -> Option<LeaseAnswer> {
    let named = Call::Lease { holder: holder.to_owned(), call };
    let operation = context.invoke(asking.log.as_str(), named);
    let answered = ask_lease(asking, holder, call).await;
    let answer = answered.as_ref().ok().copied();
    context.complete(operation, answered.map_or_else(Failure::outcome, Outcome::Lease));
    answer
}

async fn ask_lease(asking: &mut Asking<'_>, holder: &str, call: LeaseCall) -> Answered<LeaseAnswer> {
    let (log, holder) = (asking.log.to_string(), holder.to_owned());
    let told = |lease: v1::Lease| LeaseAnswer::Held { grant: lease.grant, offset: lease.offset };
    let answer = match call {
        LeaseCall::Hold { offset, grant, ends } => {
            let request = v1::HoldLeaseRequest {
                log,
                holder,
                offset: Some(offset),
                ms: if ends { SHORT_MS } else { LASTING_MS },
                grant,
                log_id: 0,
                request_id: asking.context.shared.counters.values(1)[0] + 1,
                // Whatever was granted meanwhile.
                after: u64::MAX,
            };
            let held = asking.once(|to| async { RecordsClient::new(to).hold_lease(request).await }).await;
            held.and_then(|answer| {
                answer.lease.map(told).ok_or_else(|| Failure::Unknown("no lease in the answer".to_owned()))
            })
        }
        LeaseCall::Release { grant } => {
            let request = v1::ReleaseLeaseRequest { log, holder, log_id: 0, grant };
            let released = asking.once(|to| async { RecordsClient::new(to).release_lease(request).await }).await;
            released.map(|answer| LeaseAnswer::Released { existed: answer.released })
        }
        LeaseCall::Get => {
            let request = v1::ListLeasesRequest { log, log_id: 0 };
            let listed = asking.once(|to| async { RecordsClient::new(to).list_leases(request).await }).await;
            listed.map(|answer| {
                let lease = answer.leases.into_iter().find(|lease| lease.holder == holder);
                lease.map_or(LeaseAnswer::NotHeld { now: None }, told)
            })
        }
        LeaseCall::Trim { .. } => unreachable!("another client's job"),
    };
    answer.or_else(|failure| match failure {
        Failure::Refused(Kind::LeaseNotHeld(refused)) => Ok(LeaseAnswer::NotHeld { now: refused.grant }),
        failure => Err(failure),
    })
}
