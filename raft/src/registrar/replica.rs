//! A registrar's replica: what members ask of its leader.

use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::RaftNetworkFactory;
use openraft::network::NetSnapshot;
use quipu_protocol::environment::{Environment, Task};
use quipu_protocol::stored::registrar_command::Command;
use quipu_protocol::{Generation, LogId, LogName, MemberId, NodeId, ReaderGroupName, ReplicaId, Term};
use quipu_storage::Kv;
use quipu_storage::journal::{Journal, ReplicaKey};

use super::vigil::Vigil;
use super::{Answer, Held, Joining, MAX_SHARES, Matched, Member, ReaderGroup, Refused, Registrar, commands, minder};
use crate::catalog::Catalog;
use crate::clocks::NodeClock;
use crate::group::{BarrierError, Group, GroupOptions, ProposeError, Role, StartError, StopReason};
use crate::types::{Reply, TypeConfig};

/// The local copy of the catalog is waited for this long to know logs that the
/// registrar knows.
const COPY_PATIENCE: Duration = Duration::from_secs(2);

const NO_MAJORITY: &str = "no majority answers";

/// A running replica of a registrar; clones are handles to the same one.
#[derive(Clone)]
pub struct RegistrarReplica {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Shared,
    _minder: Task,
}

/// What the replica and its minder have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) group: Group<Registrar>,
    pub(super) catalog: Group<Catalog>,
    pub(super) environment: Environment,
    stamps: NodeClock,
    vigil: Arc<Mutex<Vigil>>,
}

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// That of the group.
    pub generation: Generation,
    /// Its logs, by name.
    pub shares: Vec<(LogName, LogId, Held)>,
}

/// A reader group, as whoever looks sees it.
#[derive(Clone, Debug)]
pub struct GroupDescription {
    /// Whose logs are shared.
    pub pattern: String,
    /// That of its last change.
    pub generation: Generation,
    /// Its members.
    pub members: Vec<MemberDescription>,
    /// How many logs it shares.
    pub logs: usize,
    /// How many logs match besides, and are too many.
    pub left_out: u64,
}

/// A member of a reader group, as whoever looks sees it.
#[derive(Clone, Debug)]
pub struct MemberDescription {
    /// Its number.
    pub id: MemberId,
    /// Who it is.
    pub member: Member,
    /// How long ago it was heard of.
    pub silent_for: Duration,
    /// What it has.
    pub shares: Vec<(LogName, LogId, Held)>,
}

/// A registrar did not do what was asked, or perhaps did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadersError {
    /// Another replica has to be asked. Nothing was changed.
    #[error("another replica leads: {leader:?}")]
    NotLeader {
        /// Which, as far as this one knows.
        leader: Option<(ReplicaId, NodeId)>,
    },
    /// It was proposed, and it is not known whether it took effect. All that is
    /// asked of a registrar may be asked again.
    #[error("whether it was done is not known")]
    OutcomeUnknown,
    /// No answer is possible now. Nothing was changed.
    #[error("{reason}")]
    Unavailable {
        /// Why.
        reason: &'static str,
    },
    /// The replica has stopped. Nothing was changed.
    #[error("the replica stopped: {0}")]
    Stopped(StopReason),
    /// The registrar refuses it. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl RegistrarReplica {
    /// Starts the replica `key` from what its journal and Kv hold. `catalog` says
    /// which logs there are, `stamps` what time it is.
    ///
    /// # Errors
    /// See [`Group::start`].
    #[expect(clippy::too_many_arguments, reason = "each of them is another part of the node")]
    pub async fn start<N>(
        key: ReplicaKey,
        journal: Journal,
        kv: Arc<dyn Kv>,
        environment: &Environment,
        network: N,
        options: GroupOptions,
        catalog: Group<Catalog>,
        stamps: NodeClock,
    ) -> Result<Self, StartError>
    where
        N: RaftNetworkFactory<TypeConfig>,
        N::Network: NetSnapshot<TypeConfig, SnapshotData = Bytes>,
    {
        let group = Group::start(key, Registrar::default(), journal, kv, environment, network, options).await?;
        let environment = environment.clone();
        let shared = Shared { group, catalog, environment, stamps, vigil: Arc::default() };
        let minder = shared.environment.tasks.spawn("registrar", Box::pin(minder::mind(shared.clone())));
        Ok(Self { inner: Arc::new(Inner { shared, _minder: minder }) })
    }

    /// Its group: leader, members, shutting down.
    pub fn group(&self) -> &Group<Registrar> {
        &self.inner.shared.group
    }

    /// What it keeps.
    pub(crate) fn held(&self) -> RegistrarFootprint {
        self.group().view(|registrar| RegistrarFootprint {
            groups: registrar.groups().len(),
            members: registrar.groups().values().map(|group| group.members.len()).sum(),
            shares: registrar.groups().values().map(|group| group.shares.len()).sum(),
        })
    }

    /// Makes somebody a member. The same request id gets the same answer.
    ///
    /// # Errors
    /// After an unknown outcome, join again with the same request id.
    pub async fn join(&self, joining: Joining) -> Result<(MemberId, Generation, u64), ReadersError> {
        let shared = &self.inner.shared;
        shared.settle().await?;
        let matched = shared.matched(&joining.pattern);
        match shared.propose(commands::join(joining, &matched)).await? {
            Answer::Joined { member, generation, session_ms } => {
                quipu_protocol::point!("reader-joined");
                // It is heard of from now on, whoever led when it was applied.
                if let Ok(term) = shared.leads() {
                    shared.vigil().hear(member, term, shared.now());
                }
                Ok((member, generation, session_ms))
            }
            Answer::Refused(refused) => Err(refused.into()),
            Answer::Done(_) => unreachable!("a join was answered like another command"),
        }
    }

    /// Ends a membership; whether there was one.
    ///
    /// # Errors
    /// Leaving again is harmless, whatever became of the first attempt.
    pub async fn leave(&self, group: &ReaderGroupName, member: MemberId) -> Result<bool, ReadersError> {
        let left = self.inner.shared.done(commands::drop_members(group, &[member])).await?;
        Ok(left > 0)
    }

    /// `member` lives, knows what it has at the generation `known`, and has let go
    /// of `returned`. Answers with what it has: at once if the generation is
    /// another one, or else after `wait`, but no later than after a third of its
    /// session.
    ///
    /// # Errors
    /// [`Refused::UnknownMember`] when it has been dropped: it has nothing then.
    pub async fn heartbeat(
        &self,
        name: &ReaderGroupName,
        member: MemberId,
        known: Generation,
        returned: &[(LogId, Generation)],
        wait: Duration,
    ) -> Result<Assignment, ReadersError> {
        let shared = &self.inner.shared;
        let term = shared.settle().await?;
        let mut found = shared.look(name, |group| session_of(group, member));
        if found.is_err() {
            // This replica leads perhaps no more, without knowing.
            shared.barrier().await?;
            found = shared.look(name, |group| session_of(group, member));
        }
        let session = found?;
        shared.is_followed(session).await?;
        shared.vigil().hear(member, term, shared.now());
        let is_held = |group: &ReaderGroup| {
            let held = |(log, generation): &(LogId, Generation)| {
                let held = group.shares.get(log).and_then(|share| share.held);
                held.is_some_and(|held| held.member == member && held.generation == *generation)
            };
            Ok(returned.iter().any(held))
        };
        if shared.look(name, is_held)? {
            shared.done(commands::return_shares(name, member, returned)).await?;
            quipu_protocol::point!("reader-shares-returned");
        }
        let until = shared.now() + wait.min(session / 3);
        let mut applied = shared.group.applied();
        loop {
            applied.mark_unchanged();
            let generation = shared.look(name, |group| session_of(group, member).map(|_| group.generation))?;
            let left = until.saturating_sub(shared.now());
            if generation < known {
                return Err(ReadersError::Unavailable { reason: "this registrar knows less than the member" });
            }
            if generation > known || left.is_zero() {
                return shared.assignment(name, member).await;
            }
            match shared.environment.clock.timeout(left, applied.changed()).await {
                Ok(Ok(())) => drop(shared.leads()?),
                Ok(Err(_)) => return Err(ReadersError::Stopped(StopReason::Shutdown)),
                Err(_) => {}
            }
        }
    }

    /// A group as it is now.
    pub async fn describe(&self, name: &ReaderGroupName) -> Result<GroupDescription, ReadersError> {
        let shared = &self.inner.shared;
        shared.barrier().await?;
        let described = |group: &ReaderGroup| {
            let now = shared.now();
            let vigil = shared.vigil();
            let member = |(id, member): (&MemberId, &Member)| MemberDescription {
                id: *id,
                member: member.clone(),
                silent_for: vigil.heard(*id).map_or(Duration::ZERO, |heard| now.saturating_sub(heard)),
                shares: shared.named(group, *id),
            };
            Ok(GroupDescription {
                pattern: group.pattern.as_str().to_owned(),
                generation: group.generation,
                members: group.members.iter().map(member).collect(),
                logs: group.shares.len(),
                left_out: group.left_out,
            })
        };
        shared.look_at_known_logs(name, described).await
    }

    /// At most `limit` groups whose names come after `after`, by name, without
    /// what their members have; and whether there are more.
    pub async fn list(
        &self,
        after: Option<&ReaderGroupName>,
        limit: usize,
    ) -> Result<(Vec<(ReaderGroupName, GroupSummary)>, bool), ReadersError> {
        let shared = &self.inner.shared;
        shared.barrier().await?;
        Ok(shared.group.view(|registrar| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut later = registrar.groups().range::<ReaderGroupName, _>((from, Bound::Unbounded));
            let page = later.by_ref().take(limit).map(|(name, group)| (name.clone(), GroupSummary::of(group)));
            let page = page.collect();
            (page, later.next().is_some())
        }))
    }

    /// Stops the replica and saves its state.
    pub async fn shutdown(&self) {
        self.inner.shared.group.shutdown().await;
    }
}

/// What a registrar keeps, in numbers of things.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegistrarFootprint {
    pub(crate) groups: usize,
    pub(crate) members: usize,
    pub(crate) shares: usize,
}

/// A reader group in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Whose logs are shared.
    pub pattern: String,
    /// That of its last change.
    pub generation: Generation,
    /// How many members it has.
    pub members: usize,
    /// How many logs they share.
    pub logs: usize,
}

impl GroupSummary {
    fn of(group: &ReaderGroup) -> Self {
        Self {
            pattern: group.pattern.as_str().to_owned(),
            generation: group.generation,
            members: group.members.len(),
            logs: group.shares.len(),
        }
    }
}

fn session_of(group: &ReaderGroup, member: MemberId) -> Result<Duration, Refused> {
    let found = group.members.get(&member).ok_or(Refused::UnknownMember)?;
    Ok(Duration::from_millis(found.session_ms))
}

impl Shared {
    pub(super) fn now(&self) -> Duration {
        self.environment.clock.monotonic()
    }

    pub(super) fn vigil(&self) -> MutexGuard<'_, Vigil> {
        // Whoever holds it changes it in one step.
        self.vigil.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The term in which this replica leads.
    pub(super) fn leads(&self) -> Result<Term, ReadersError> {
        let status = self.group.status();
        match status.role {
            Role::Leader => Ok(status.term),
            Role::Follower | Role::Learner => Err(ReadersError::NotLeader { leader: status.leader }),
        }
    }

    /// The same, having applied all that leaders before it have: looked after once
    /// in each term.
    pub(super) async fn settle(&self) -> Result<Term, ReadersError> {
        let term = self.leads()?;
        if self.vigil().term() != Some(term) {
            self.barrier().await?;
        }
        Ok(term)
    }

    /// Makes sure that a majority took this replica for its leader no longer ago than
    /// half of a member's session. One that is cut off hears members that others miss
    /// meanwhile: they have to look for another leader while there is time.
    async fn is_followed(&self, session: Duration) -> Result<(), ReadersError> {
        if self.group.majority().is_some_and(|ago| ago <= session / 2) {
            return Ok(());
        }
        let asked = self.environment.clock.timeout(session / 8, self.barrier()).await;
        asked.unwrap_or(Err(ReadersError::Unavailable { reason: NO_MAJORITY }))
    }

    async fn barrier(&self) -> Result<(), ReadersError> {
        self.group.barrier().await.map_err(|error| match error {
            BarrierError::NotLeader { leader } => ReadersError::NotLeader { leader },
            BarrierError::Unavailable => ReadersError::Unavailable { reason: NO_MAJORITY },
            BarrierError::Stopped(reason) => ReadersError::Stopped(reason),
        })
    }

    pub(super) async fn propose(&self, command: Command) -> Result<Answer, ReadersError> {
        match self.group.propose(commands::encode(self.stamps.stamp(), command).into()).await {
            Ok(Reply::Registrar(answer)) => Ok(answer),
            Ok(reply) => unreachable!("a registrar answered {reply:?}"),
            Err(ProposeError::NotLeader { leader }) => Err(ReadersError::NotLeader { leader }),
            Err(ProposeError::OutcomeUnknown) => Err(ReadersError::OutcomeUnknown),
            Err(ProposeError::Stopped(reason)) => Err(ReadersError::Stopped(reason)),
        }
    }

    /// Proposes what is answered by a number.
    pub(super) async fn done(&self, command: Command) -> Result<usize, ReadersError> {
        match self.propose(command).await? {
            Answer::Done(count) => Ok(count),
            Answer::Refused(refused) => Err(refused.into()),
            Answer::Joined { .. } => unreachable!("a command was answered like a join"),
        }
    }

    /// The logs that match, as far as this node knows.
    pub(super) fn matched(&self, pattern: &quipu_protocol::LogPattern) -> Matched {
        self.catalog.view(|catalog| {
            let (logs, left_out) = catalog.logs_matching(pattern, MAX_SHARES);
            Matched { version: catalog.version(), logs, left_out }
        })
    }

    fn look<T>(
        &self,
        name: &ReaderGroupName,
        look: impl FnOnce(&ReaderGroup) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        self.group.view(|registrar| look(registrar.groups().get(name).ok_or(Refused::UnknownGroup)?))
    }

    async fn assignment(&self, name: &ReaderGroupName, member: MemberId) -> Result<Assignment, ReadersError> {
        let assigned = |group: &ReaderGroup| {
            session_of(group, member)?;
            Ok(Assignment { generation: group.generation, shares: self.named(group, member) })
        };
        self.look_at_known_logs(name, assigned).await
    }

    /// Looks at a group all of whose logs this node's copy of the catalog knows, and
    /// waits until it does.
    async fn look_at_known_logs<T>(
        &self,
        name: &ReaderGroupName,
        look: impl Fn(&ReaderGroup) -> Result<T, Refused>,
    ) -> Result<T, ReadersError> {
        let mut applied = self.catalog.applied();
        let known = async {
            loop {
                applied.mark_unchanged();
                // In one look: the next one may find newer logs.
                let found = self.look(name, |group| {
                    let knows = self.catalog.view(Catalog::version) >= group.version;
                    knows.then(|| look(group)).transpose()
                })?;
                if let Some(found) = found {
                    return Ok(found);
                }
                if applied.changed().await.is_err() {
                    return Err(ReadersError::Stopped(StopReason::Shutdown));
                }
            }
        };
        let limit = self.environment.clock.timeout(COPY_PATIENCE, known).await;
        limit.unwrap_or(Err(ReadersError::Unavailable { reason: "this node's copy of the catalog lags" }))
    }

    /// What `member` has, by name. A log that was deleted has none any more.
    fn named(&self, group: &ReaderGroup, member: MemberId) -> Vec<(LogName, LogId, Held)> {
        let mut shares: Vec<_> = self.catalog.view(|catalog| {
            let name = |(log, held)| Some((catalog.logs().get(&log)?.name.clone(), log, held));
            group.shares_of(member).filter_map(name).collect()
        });
        shares.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        shares
    }
}
