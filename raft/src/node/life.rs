//! How a node lives: from its start to its end.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use quipu_protocol::peer::catalog_reply::Outcome;
use quipu_protocol::peer::refusal::Reason;
use quipu_protocol::{LogId, NodeId, ReplicaId};
use quipu_storage::journal::ReplicaKey;
use tokio::sync::{Notify, oneshot};

use super::inner::{Inner, POISONED};
use super::{Fatal, errors, mending, scrub};
use crate::catalog::{self, Catalog, Place};
use crate::group::{Group, Role, StartError, StopReason};
use crate::peers::{GroupNetwork, Local};
use crate::{bootstrap, reconcile};

/// The journal is marked idle this long after the last activity.
const IDLE: Duration = Duration::from_millis(10);

/// A start is registered again after this time when it failed.
const REGISTER_AGAIN: Duration = Duration::from_millis(500);

/// Handing leadership over takes no longer than this.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(3);
/// Whether leadership has gone is looked at this often.
const HAND_OVER_CHECK: Duration = Duration::from_millis(10);

impl Inner {
    /// Sets the node going.
    pub(super) fn begin(self: &Arc<Self>) {
        self.watch_journal();
        self.spawn("leaders", Arc::clone(self).tell_leaders());
        self.spawn("space", scrub::mind_space(Arc::downgrade(self)));
        self.spawn("scrub", scrub::run(self.journal.clone(), Arc::clone(&self.environment.clock), &self.config));
        let node = Arc::clone(self);
        self.spawn("node", async move {
            if let Err(fatal) = node.live().await {
                node.fail(fatal);
            }
        });
    }

    async fn live(self: &Arc<Self>) -> Result<(), Fatal> {
        bootstrap::find_cluster(self).await?;
        bootstrap::look_around(self).await?;
        self.start_catalog().await?;
        // Peers that were silent until here may still turn out to be strangers.
        let meeting = Arc::clone(self);
        self.spawn("meeting", async move {
            if let Err(fatal) = bootstrap::meet_peers(&meeting).await {
                meeting.fail(fatal);
            }
        });
        let registering = Arc::clone(self);
        self.spawn("registration", async move { registering.register().await });
        self.spawn("mending", mending::run(Arc::downgrade(self)));
        reconcile::run(self).await;
        Ok(())
    }

    async fn start_catalog(self: &Arc<Self>) -> Result<(), Fatal> {
        let fatal = |error: &StartError| Fatal::Catalog { reason: errors::chain(error) };
        let identity = self.identity();
        let replica = ReplicaId::new(identity.catalog_replica);
        let key = ReplicaKey { group: LogId::CATALOG, replica };
        // A node that joined knows no founders.
        let founders = identity.founders.iter().filter(|founder| founder.catalog_voter);
        let founders: Vec<Place> = founders
            .map(|it| Place { replica: ReplicaId::new(it.catalog_replica), node: NodeId::new(it.id) })
            .collect();
        let begin = reconcile::found(&self.journal, key, &founders).await.map_err(|error| fatal(&error))?;
        if let Err(damage) = mending::before_start(self, key).await {
            return Err(fatal(&StartError::Damaged(damage)));
        }
        let network = GroupNetwork::new(Arc::clone(&self.peers), LogId::CATALOG, replica);
        let group = Group::start(
            key,
            Catalog::default(),
            self.journal.clone(),
            Arc::clone(&self.kv),
            &self.environment,
            network,
            self.config.group.clone(),
        );
        let group = group.await.map_err(|error| fatal(&error))?;
        let stopped = group.stopped();
        let node = Arc::downgrade(self);
        self.spawn("catalog-watch", async move {
            let reason = stopped.await;
            if let Some(node) = node.upgrade().filter(|_| reason != StopReason::Shutdown) {
                node.fail(Fatal::Catalog { reason: reason.to_string() });
            }
        });
        self.peers.registry().insert(LogId::CATALOG, replica, Arc::new(group.clone()));
        begin.with(&group).await;
        self.tell_leaders_of(&group);
        self.catalog.send_replace(Some(group));
        Ok(())
    }

    /// Tells the catalog of this start, for as long as it takes.
    async fn register(&self) {
        loop {
            match self.change(catalog::register(&self.peers.me())).await {
                Ok(Outcome::Joined(_)) => return,
                Ok(Outcome::Refusal(refusal)) if refusal.reason() == Reason::OlderDisk => {
                    quipu_protocol::point!("old-disk-refused");
                    return self.fail(Fatal::Refused { by: self.config.node, reason: refusal.message });
                }
                // Not founded yet, or nobody leads.
                Ok(_) | Err(_) => self.environment.clock.sleep(REGISTER_AGAIN).await,
            }
        }
    }

    /// Lets the journal tell the node what it has to know.
    fn watch_journal(self: &Arc<Self>) {
        self.mark_when_idle();
        let node = Arc::downgrade(self);
        self.journal.set_failed_hook(Box::new(move |reason| {
            if let Some(node) = node.upgrade() {
                node.fail(Fatal::Journal { reason: reason.to_owned() });
            }
        }));
        let damage = Arc::clone(&self.damage);
        self.journal.set_damage_hook(Box::new(move || damage.notify_one()));
        let node = Arc::downgrade(self);
        self.journal.on_seal(Box::new(move || save_states(&node)));
    }

    /// A busy journal wakes nobody: how long ago the last commit was is looked at
    /// once in [`IDLE`].
    fn mark_when_idle(self: &Arc<Self>) {
        let clock = Arc::clone(&self.environment.clock);
        let (active, last) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Duration::ZERO)));
        let (hook, noted, now) = (Arc::clone(&active), Arc::clone(&last), Arc::clone(&clock));
        self.journal.set_activity_hook(Box::new(move || {
            *noted.lock().expect(POISONED) = now.monotonic();
            hook.notify_one();
        }));
        let journal = self.journal.clone();
        self.spawn("idle-mark", async move {
            loop {
                active.notified().await;
                loop {
                    let left = (*last.lock().expect(POISONED) + IDLE).saturating_sub(clock.monotonic());
                    if left.is_zero() {
                        break;
                    }
                    clock.sleep(left).await;
                }
                journal.mark_idle();
            }
        });
    }

    pub(crate) fn fail(&self, fatal: Fatal) {
        tracing::error!(node = self.config.node.get(), reason = %fatal, "node cannot go on");
        self.progress.send_if_modified(|progress| {
            let first = progress.fatal.is_none();
            progress.fatal.get_or_insert(fatal);
            first
        });
    }

    /// The node takes part in its cluster.
    pub(crate) fn become_ready(&self) {
        self.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.ready, true));
    }

    pub(super) async fn ready(&self) -> Result<(), Fatal> {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.ready || progress.fatal.is_some()).await;
        // The sender is in `self`: it cannot be gone.
        let fatal = reached.ok().and_then(|progress| progress.fatal.clone());
        fatal.map_or(Ok(()), Err)
    }

    pub(super) async fn failed(&self) -> Fatal {
        let mut progress = self.progress.subscribe();
        loop {
            if let Some(fatal) = progress.borrow_and_update().fatal.clone() {
                return fatal;
            }
            if progress.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) async fn hand_over(&self) {
        let led = self.peers.registry().all();
        let handed = led.into_iter().map(|(group, local)| async move { self.hand_over_one(group, &local).await });
        // Whoever does not take over in time will campaign when we are gone.
        let _ = self.environment.clock.timeout(HAND_OVER_DEADLINE, join_all(handed)).await;
    }

    /// Lets another replica lead in the place of this one, if it leads; whether
    /// one does.
    pub(super) async fn hand_over_one(&self, group: LogId, local: &Local) -> bool {
        let status = local.endpoint.status();
        let others = status.matched.iter().filter(|(id, _)| **id != local.replica);
        let others = others.filter(|(id, _)| status.membership.is_voter(**id));
        let Some((to, _)) = others.max_by_key(|(_, matched)| **matched) else { return false };
        if status.role != Role::Leader {
            return false;
        }
        let handed = async {
            if let Err(why) = local.endpoint.hand_over(*to).await {
                tracing::warn!(group = group.get(), why, "leadership stays");
                return false;
            }
            while local.endpoint.status().role == Role::Leader {
                self.environment.clock.sleep(HAND_OVER_CHECK).await;
            }
            true
        };
        self.environment.clock.timeout(HAND_OVER_DEADLINE, handed).await.unwrap_or(false)
    }

    pub(super) async fn shutdown(&self) {
        // First of all what would start replicas again.
        self.tasks.lock().expect(POISONED).clear();
        let logs = self.logs.send_replace(Default::default());
        join_all(logs.into_values().map(|log| log.state.shutdown())).await;
        if let Some(catalog) = self.catalog.send_replace(None) {
            catalog.shutdown().await;
        }
        self.peers.close();
        let (done, closed) = oneshot::channel();
        self.journal.close(Box::new(move |result| {
            let _ = done.send(result);
        }));
        if let Ok(Err(error)) = closed.await {
            tracing::error!(%error, "closing the journal");
        }
        if let Err(error) = self.kv.close() {
            // It is a cache of the journal: the next start rebuilds it.
            tracing::warn!(%error, "the metadata was not closed in order");
        }
    }

    /// Ends everything at once, as a crash would.
    pub(super) fn let_go(&self) {
        self.tasks.lock().expect(POISONED).clear();
        self.peers.close();
        self.logs.send_replace(Default::default());
        self.catalog.send_replace(None);
    }
}

/// Saves every machine's state as far as the journal has made it durable.
fn save_states(node: &Weak<Inner>) {
    let Some(node) = node.upgrade() else { return };
    let catalog = node.catalog().map(|catalog| (LogId::CATALOG, catalog.checkpoint()));
    let logs = node.logs.borrow().clone();
    let logs = logs.into_iter().filter_map(|(id, log)| Some((id, log.state.checkpoint()?)));
    for (group, saved) in catalog.into_iter().chain(logs) {
        if let Err(error) = saved {
            tracing::error!(group = group.get(), %error, "saving a state");
        }
    }
}

impl Inner {
    /// Whether `node` is this one.
    pub(crate) fn is_me(&self, node: NodeId) -> bool {
        self.config.node == node
    }
}
