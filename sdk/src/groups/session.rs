//! A membership: joining, saying that one lives, and joining anew.
//!
//! ```text
//!   join ─▶ heartbeat ─▶ answer: which logs it has
//!     ▲         ▲           │
//!     │         └───────────┘ at once when it lets go of one
//!     └─ not known any more, all logs lost
//! ```
//!
//! A member that was not answered for a whole session takes itself for missed, and
//! its logs for lost, before anybody tells it so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quipu_protocol::environment::Task;
use quipu_protocol::v1::error::Kind;
use quipu_protocol::v1::reader_groups_client::ReaderGroupsClient;
use quipu_protocol::{Generation, LogId, LogName, LogPattern, MemberId, ReaderGroupName, v1};
use tokio::sync::{Notify, watch};

use super::GroupConfig;
use crate::GroupError;
use crate::cluster::{Answer, Cluster, MAX_MESSAGE_BYTES, PursuitError, Refusal, Target};

/// A log that the member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) log: LogName,
    pub(super) generation: Generation,
    pub(super) returning: bool,
}

/// What is known of the membership.
#[derive(Clone, Debug, Default)]
struct Known {
    member: MemberId,
    shares: BTreeMap<LogId, Share>,
    /// Why it is none any more, for good.
    ended: Option<GroupError>,
}

/// A membership, kept up by a task.
pub(super) struct Session {
    cluster: Arc<Cluster>,
    group: ReaderGroupName,
    known: watch::Receiver<Known>,
    returned: Arc<Returned>,
    _task: Task,
}

/// Logs that were let go of, until the group knows.
#[derive(Default)]
struct Returned {
    logs: Mutex<BTreeMap<LogId, Generation>>,
    more: Notify,
}

impl Session {
    /// Joins.
    pub(super) async fn join(
        cluster: Arc<Cluster>,
        group: ReaderGroupName,
        pattern: LogPattern,
        config: &GroupConfig,
    ) -> Result<Self, GroupError> {
        let (tell, known) = watch::channel(Known::default());
        let returned = Arc::<Returned>::default();
        let mut membership = Membership {
            cluster: Arc::clone(&cluster),
            group: group.clone(),
            pattern,
            config: config.clone(),
            member: MemberId::default(),
            generation: Generation::default(),
            tell,
            returned: Arc::clone(&returned),
        };
        membership.join().await?;
        let task = cluster.environment.tasks.spawn("reader-session", Box::pin(membership.keep_up()));
        Ok(Self { cluster, group, known, returned, _task: task })
    }

    pub(super) fn member(&self) -> MemberId {
        self.known.borrow().member
    }

    pub(super) fn shares(&self) -> BTreeMap<LogId, Share> {
        self.known.borrow().shares.clone()
    }

    /// What it has now; whatever comes later is a change.
    pub(super) fn look(&mut self) -> Result<BTreeMap<LogId, Share>, GroupError> {
        let known = self.known.borrow_and_update();
        match &known.ended {
            Some(ended) => Err(ended.clone()),
            None => Ok(known.shares.clone()),
        }
    }

    /// Waits until something else is known than when it was last looked at.
    pub(super) async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            // The task has ended, and has said why.
            std::future::pending::<()>().await;
        }
    }

    /// The log that was given at `generation` is let go of.
    pub(super) fn give_back(&self, log: LogId, generation: Generation) {
        let mut logs = self.returned.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if logs.insert(log, generation) != Some(generation) {
            self.returned.more.notify_one();
        }
    }

    /// Ends the membership.
    pub(super) async fn leave(self) -> Result<(), GroupError> {
        let Self { cluster, group, known, _task: task, .. } = self;
        // It must not join anew.
        drop(task);
        let member = known.borrow().member.get();
        let request = || v1::LeaveReaderGroupRequest { group: group.to_string(), member };
        let call = |channel| async { ReaderGroupsClient::new(channel).leave(request()).await };
        match cluster.call(Target::Keeper(group.clone()), call).await {
            Ok(_) => Ok(()),
            Err(error) => match GroupError::of(&group, error) {
                GroupError::UnknownGroup { .. } => Ok(()),
                error => Err(error),
            },
        }
    }
}

/// What the task has.
struct Membership {
    cluster: Arc<Cluster>,
    group: ReaderGroupName,
    pattern: LogPattern,
    config: GroupConfig,
    member: MemberId,
    /// That of the last answer.
    generation: Generation,
    tell: watch::Sender<Known>,
    returned: Arc<Returned>,
}

/// How a heartbeat went.
enum Beat {
    Answered(v1::ReaderHeartbeatResponse),
    /// It is no member any more.
    Missed,
    Failed(GroupError),
}

impl Membership {
    /// Keeps the membership up until it cannot be any more.
    async fn keep_up(mut self) {
        let mut heard = self.cluster.now();
        loop {
            let left = (heard + self.config.session).saturating_sub(self.cluster.now());
            let beat = self.cluster.environment.clock.timeout(left, self.beat()).await;
            match beat {
                Ok(Beat::Answered(answer)) => {
                    heard = self.cluster.now();
                    self.take_in(answer);
                }
                Ok(Beat::Missed) => {
                    self.lose_all();
                    match self.join().await {
                        Ok(()) => {}
                        // Asked again, it is told again that it is missed.
                        Err(error) if error.is_retryable() => self.pause().await,
                        Err(error) => return self.end(error),
                    }
                    heard = self.cluster.now();
                }
                Ok(Beat::Failed(error)) if error.is_retryable() => {
                    self.pause().await;
                }
                Ok(Beat::Failed(error)) => return self.end(error),
                // Whoever keeps the group may have dropped it by now.
                Err(_) => {
                    self.lose_all();
                    heard = self.cluster.now();
                }
            }
            if self.tell.is_closed() {
                return;
            }
        }
    }

    async fn join(&mut self) -> Result<(), GroupError> {
        let random = &*self.cluster.environment.random;
        let request_id: Bytes = [random.next(), random.next()].iter().flat_map(|half| half.to_be_bytes()).collect();
        let request = || v1::JoinReaderGroupRequest {
            group: self.group.to_string(),
            pattern: self.pattern.to_string(),
            client: self.config.client.clone(),
            session_ms: u64::try_from(self.config.session.as_millis()).unwrap_or(u64::MAX),
            request_id: request_id.clone(),
            wait_for_logs: self.config.wait_for_logs,
        };
        let call = |channel| async { ReaderGroupsClient::new(channel).join(request()).await };
        let answer = self.cluster.call(Target::Keeper(self.group.clone()), call).await;
        let v1::JoinReaderGroupResponse { member, .. } =
            answer.map_err(|error| GroupError::of(&self.group, error))?.value;
        self.member = MemberId::new(member);
        self.generation = Generation::default();
        self.tell.send_modify(|known| *known = Known { member: self.member, ..Known::default() });
        Ok(())
    }

    /// Says that it lives, and waits for news: as long as nothing is let go of.
    async fn beat(&self) -> Beat {
        loop {
            let mut asked = std::pin::pin!(self.ask());
            let more = std::pin::pin!(self.returned.more.notified());
            match futures_util::future::select(asked.as_mut(), more).await {
                futures_util::future::Either::Left((beat, _)) => return beat,
                // Asked again at once, with that.
                futures_util::future::Either::Right(_) => {}
            }
        }
    }

    async fn ask(&self) -> Beat {
        let returned = self.returned.logs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let returned: Vec<v1::ReturnedLog> = returned
            .into_iter()
            .map(|(log, generation)| v1::ReturnedLog { log_id: log.get(), generation: generation.get() })
            .collect();
        // So long that its answer still comes in time.
        let wait = (self.config.session / 3).min(self.cluster.config.request_timeout / 2);
        let request = || v1::ReaderHeartbeatRequest {
            group: self.group.to_string(),
            member: self.member.get(),
            generation: self.generation.get(),
            returned: returned.clone(),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        // Whoever does not answer by then is taken for dead while there is time to ask
        // another one.
        let limit = (wait + self.config.session / 6).min(self.cluster.config.request_timeout);
        let call = |channel| async {
            ReaderGroupsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).heartbeat(request()).await
        };
        match self.cluster.call_within(limit, Target::Keeper(self.group.clone()), call).await {
            Ok(Answer { value, .. }) => Beat::Answered(value),
            Err(PursuitError::Refused { refusal: Refusal { error, .. }, .. })
                if matches!(error.kind, Some(Kind::UnknownReaderMember(_) | Kind::UnknownReaderGroup(_))) =>
            {
                Beat::Missed
            }
            Err(error) => Beat::Failed(GroupError::of(&self.group, error)),
        }
    }

    fn take_in(&mut self, answer: v1::ReaderHeartbeatResponse) {
        self.generation = Generation::new(answer.generation);
        let share = |share: v1::ReaderShare| {
            let log = share.log.parse().ok()?;
            let (generation, returning) = (Generation::new(share.generation), share.returning);
            Some((LogId::new(share.log_id), Share { log, generation, returning }))
        };
        let shares: BTreeMap<LogId, Share> = answer.shares.into_iter().filter_map(share).collect();
        let is_held = |log: &LogId, at: &mut Generation| shares.get(log).is_some_and(|it| it.generation == *at);
        self.returned.logs.lock().unwrap_or_else(PoisonError::into_inner).retain(is_held);
        self.tell.send_if_modified(|known| {
            let changed = known.shares != shares;
            known.shares = shares;
            changed
        });
    }

    /// Its logs may be others' by now.
    fn lose_all(&mut self) {
        self.generation = Generation::default();
        self.tell.send_if_modified(|known| !std::mem::take(&mut known.shares).is_empty());
    }

    fn end(&self, error: GroupError) {
        self.tell.send_modify(|known| {
            known.shares.clear();
            known.ended = Some(error);
        });
    }

    async fn pause(&self) {
        self.cluster.environment.clock.sleep(self.cluster.config.retry_backoff_max).await;
    }
}
