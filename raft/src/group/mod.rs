//! One running replica of one group.
//!
//! ```text
//!   propose ─▶ openraft ─▶ LogStore ─▶ journal
//!                 │
//!                 └ committed ─▶ MachineStore ─▶ view
//! ```
//!
//! Owns the handle to openraft and watches over it: a storage error or a
//! panic stops the replica, and [`Group::stopped`] says why; it never limps
//! on. Starts and ends; does not choose who the members are.

mod barrier;
mod confirmation;
mod errors;
mod floor;
mod founding;
mod freshness;
mod options;
mod status;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::RaftNetworkFactory;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::impls::ProgressResponder;
use openraft::network::NetSnapshot;
use quipu_protocol::environment::{Environment, Task};
use quipu_protocol::peer::Pulse;
use quipu_storage::journal::{EntryId, Journal, ReplicaKey};
use quipu_storage::{Kv, KvError};
use tokio::sync::watch;

use crate::log_store::LogStore;
use crate::machine::{Floor, Machine, MachineStore, Shared};
use crate::runtime::scope;
use crate::traces::Traces;
use crate::types::{self, Command, Raft, Reply, TypeConfig};

use confirmation::{Confirmations, Confirming};

pub use errors::{BarrierError, ProposeError, StartError, StopReason};
pub use founding::found;
pub use freshness::Freshness;
pub use options::{GroupOptions, OptionsError};
pub use status::{GroupStatus, Membership, Role};

const POISONED: &str = "a holder of this lock panicked";

/// One running replica. Clones are handles to the same one; the replica
/// stops by [`shutdown`](Self::shutdown) or when the last handle is dropped.
pub struct Group<M: Machine> {
    inner: Arc<Inner<M>>,
}

impl<M: Machine> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<M: Machine> {
    key: ReplicaKey,
    raft: Raft<M>,
    shared: Arc<Shared<M>>,
    journal: Journal,
    environment: Environment,
    stopped: watch::Receiver<Option<StopReason>>,
    heard: Mutex<freshness::Heard>,
    confirmations: Arc<Confirmations>,
    /// How long a majority is waited for.
    patience: Duration,
    _supervisor: Task,
    _floor: Task,
}

impl<M: Machine> Group<M> {
    /// Starts the replica `key` from what its journal and Kv hold, `machine`
    /// being one that has applied nothing.
    ///
    /// # Errors
    /// [`StartError::Damaged`] and [`StartError::MetadataAhead`] are for
    /// good: the replica has to be replaced by one with a new id.
    pub async fn start<N>(
        key: ReplicaKey,
        machine: M,
        journal: Journal,
        kv: Arc<dyn Kv>,
        environment: &Environment,
        network: N,
        options: GroupOptions,
    ) -> Result<Self, StartError>
    where
        N: RaftNetworkFactory<TypeConfig>,
        N::Network: NetSnapshot<TypeConfig, SnapshotData = Bytes>,
    {
        let config = Arc::new(options.config()?);
        if let Some(damage) = journal.damage(key) {
            return Err(StartError::Damaged(damage));
        }
        let log_store = LogStore::new(key, journal.clone(), options.replication_bytes);
        let log_store = log_store.traced(Traces::of(key, environment));
        let store = MachineStore::open(&log_store, machine, kv, options.checkpoint_bytes).await?;
        let shared = store.shared();
        let confirmations = Arc::new(Confirmations::new(Arc::clone(&environment.clock)));
        let network = Confirming::new(network, Arc::clone(&confirmations));
        let raft = scope(environment, Raft::<M>::new(key.replica.get(), config, network, log_store, store))
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let (tell, stopped) = watch::channel(None);
        let supervisor = environment.tasks.spawn("group-supervisor", Box::pin(supervise(raft.clone(), key, tell)));
        let floor = floor::keep(raft.clone(), Arc::clone(&shared), environment.clone(), options.floor_step_bytes);
        let floor = environment.tasks.spawn("group-floor", Box::pin(floor));
        let environment = environment.clone();
        let heard = Mutex::new(freshness::Heard::nothing(environment.random.next()));
        let inner = Inner {
            key,
            raft,
            shared,
            journal,
            environment,
            stopped,
            heard,
            confirmations,
            patience: options.election_max,
            _supervisor: supervisor,
            _floor: floor,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Which replica this is.
    pub fn key(&self) -> ReplicaKey {
        self.inner.key
    }

    /// openraft's handle, for what peers ask of this replica. Call it inside
    /// [`scope`](Self::scope).
    pub fn raft(&self) -> &Raft<M> {
        &self.inner.raft
    }

    /// Runs `future` with the tasks and the seed that every call into
    /// [`raft`](Self::raft) needs.
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F, M> {
        scope(&self.inner.environment, future)
    }

    /// Proposes a command and waits for its answer. Has no deadline: while a
    /// leader is cut off from its majority, neither outcome is known.
    ///
    /// # Errors
    /// Whoever gives up waiting must take the outcome for unknown.
    pub async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        self.submit(command).await?.await
    }

    /// Hands a command over, in order with other calls, and returns a future
    /// of its answer. An error here means that nothing was proposed.
    pub(crate) async fn submit(
        &self,
        command: Command,
    ) -> Result<impl Future<Output = Result<Reply, ProposeError>> + Send + use<M>, ProposeError> {
        let (responder, answer) = ProgressResponder::complete_only();
        let sent = self.inner.raft.client_write_ff(command, Some(responder)).await;
        sent.map_err(|fatal| ProposeError::Stopped(stop_reason(&fatal)))?;
        Ok(async move {
            match answer.await {
                Ok(Ok(written)) => Ok(written.data),
                // openraft refuses with this error before it appends, never
                // after.
                Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                    Err(ProposeError::NotLeader { leader: status::forwarded(&forward) })
                }
                // Appended here and displaced by another leader's log, or the
                // replica stopped before it could say.
                Ok(Err(_)) | Err(_) => Err(ProposeError::OutcomeUnknown),
            }
        })
    }

    /// Looks at the applied state. Keep `look` short: applying waits for it.
    pub fn view<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        self.inner.shared.view(look)
    }

    /// The last applied entry, and notice of every later one. The state seen
    /// by [`view`](Self::view) is at least as new.
    pub fn applied(&self) -> watch::Receiver<Option<EntryId>> {
        self.inner.shared.applied()
    }

    /// How fresh the state is that [`view`](Self::view) shows from now on.
    pub fn freshness(&self) -> Freshness {
        let now = self.inner.environment.clock.monotonic();
        // The majority before the state: see `pulse`.
        let led = self.followed_as_of(now);
        let reach = self.view(M::reach);
        let heard = self.inner.heard.lock().expect(POISONED).freshness(reach);
        Freshness { as_of: heard.as_of.max(led), ..heard }
    }

    /// The mark of this moment that the leader is to echo.
    pub(crate) fn stamp(&self) -> u64 {
        let now = self.inner.environment.clock.monotonic();
        self.inner.heard.lock().expect(POISONED).stamp(now)
    }

    /// The leader says how far it has come.
    pub(crate) fn hear(&self, pulse: Pulse) {
        let reach = self.view(M::reach);
        self.inner.heard.lock().expect(POISONED).hear(pulse, reach);
    }

    /// What this replica tells one that follows it and gave it the stamp `echo`;
    /// none while it does not know that it leads.
    pub(crate) fn pulse(&self, echo: u64) -> Option<Pulse> {
        // The state after the majority: it then has all that was acknowledged
        // while that majority followed.
        let majority = self.majority()?;
        let end = self.view(M::reach);
        // Rounded up: younger than it is, it must not seem.
        let majority_ms = u64::try_from(majority.as_millis()).ok()?.checked_add(1)?;
        Some(Pulse { echo, majority_ms, end })
    }

    /// What this replica knows of its group now.
    pub fn status(&self) -> GroupStatus {
        let state = self.inner.journal.replica(self.inner.key);
        let durable = self.inner.journal.durable(self.inner.key);
        let applied = *self.inner.shared.applied().borrow();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        GroupStatus::of(&metrics, state.and_then(|state| state.last), durable, applied)
    }

    /// Whether this replica's own entry where a snapshot ends is another one than
    /// what that reflects.
    pub(crate) fn is_on_another_branch(&self, snapshot: Option<&types::LogId>) -> bool {
        let Some(theirs) = snapshot.map(types::entry_id) else { return false };
        let own = self.inner.journal.entry_id(self.inner.key, theirs.index);
        own.is_ok_and(|own| own.is_some_and(|own| own != theirs))
    }

    /// Asks the others whether they would vote for this replica and campaigns
    /// if a majority would, without waiting until an election is due. A leader
    /// that lives is left alone.
    pub async fn campaign(&self) {
        // The only error is that the replica has stopped, which
        // [`Self::stopped`] tells.
        let _ = self.scope(self.inner.raft.trigger().elect(true)).await;
    }

    /// Writes the machine's state to Kv as far as the journal's stable
    /// storage allows it now. The node calls this when a segment is sealed,
    /// so that Kv does not fall behind what a restart would have to apply.
    ///
    /// # Errors
    /// When Kv fails. The replica will find that out by itself and stop.
    pub fn checkpoint(&self) -> Result<(), KvError> {
        self.inner.shared.checkpoint()
    }

    /// Lets the floor rise to what is applied, and the entries below it go, in a
    /// group whose floor may be there: whatever becomes of their bytes.
    pub(crate) async fn shed(&self) {
        let applied = *self.inner.shared.applied().borrow();
        let Some(applied) = applied.filter(|_| M::FLOOR == Floor::Applied) else { return };
        self.scope(floor::lower(self.inner.raft.clone(), applied)).await;
    }

    /// Makes sure that no start of this replica brings back an older state than
    /// the one that it has now. Only for a machine whose floor is
    /// [`Floor::Applied`](crate::machine::Floor::Applied).
    ///
    /// # Errors
    /// When the journal fails, or the image does not fit into it.
    pub(crate) async fn keep_state(&self) -> std::io::Result<()> {
        self.inner.shared.keep().await
    }

    /// Whether the replica runs no more.
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.borrow().is_some()
    }

    /// Stops the replica and writes its machine's state to Kv.
    pub async fn shutdown(&self) {
        // The only error is that openraft's task was gone already.
        let _ = self.scope(self.inner.raft.shutdown()).await;
        if let Err(error) = self.inner.shared.settle().await {
            let ReplicaKey { group, replica } = self.inner.key;
            tracing::warn!(%group, %replica, %error, "the machine's state was not saved; the next start applies more");
        }
    }

    /// Resolves once the replica runs no more, with the reason.
    pub fn stopped(&self) -> impl Future<Output = StopReason> + Send + use<M> {
        let mut stopped = self.inner.stopped.clone();
        async move {
            match stopped.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or(StopReason::Panicked),
                // The supervisor ended without a word.
                Err(_) => StopReason::Panicked,
            }
        }
    }
}

/// Waits until openraft's core has ended and tells why.
async fn supervise<M: Machine>(raft: Raft<M>, key: ReplicaKey, tell: watch::Sender<Option<StopReason>>) {
    let mut server = raft.server_metrics();
    let metrics = raft.metrics();
    // The handle would keep the core alive.
    drop(raft);
    while server.changed().await.is_ok() {}
    let reason = match &metrics.borrow_watched().running_state {
        Err(fatal) => stop_reason(fatal),
        // The core ended without setting its state.
        Ok(()) => StopReason::Panicked,
    };
    if reason != StopReason::Shutdown {
        tracing::error!(group = %key.group, replica = %key.replica, %reason, "replica stopped");
    }
    tell.send_replace(Some(reason));
}

fn stop_reason(fatal: &Fatal<TypeConfig>) -> StopReason {
    match fatal {
        Fatal::StorageError(error) => StopReason::Storage(error.to_string()),
        Fatal::Panicked => StopReason::Panicked,
        Fatal::Stopped => StopReason::Shutdown,
    }
}
