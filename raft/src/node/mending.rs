//! Brings damaged replicas back.
//!
//! ```text
//!   found ─▶ leads? hand over ─▶ stop ─▶ survey ─▶ payloads lost ─▶ fetched from peers ─▶ start
//!                                          └ a header, an image, or nobody has them ─▶ replaced
//! ```
//!
//! A damaged replica does not run: it serves nothing, does not vote and does
//! not campaign, as if its node had crashed. What it fetches has to be what its
//! own frame's header says that it was, term, index, length and checksum, so
//! that it does not matter who gives it, or whether it is committed. What
//! cannot come back is not guessed: the replica gives way to a new one on this
//! node, under a new id, once another replica leads the group.
//!
//! # Invariants
//! - A replica that was damaged starts only once a whole survey found nothing.
//! - The catalog's replica is mended before it starts. One that runs lets go of
//!   what rotted: its floor may be at what is applied.

use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use quipu_protocol::peer::FetchedEntry;
use quipu_protocol::v1::replica_description::{Role, State};
use quipu_protocol::{Index, LogId, NodeId, Timestamp, point};
use quipu_storage::journal::{Damage, Entry, MendError, ReplicaKey, Survey, Wound};
use tokio::sync::oneshot;

use super::inner::{Inner, LogHere, LogState, POISONED};
use crate::catalog;
use crate::log_store;

/// What could not be done is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// A peer gives entries within this time, or another one is asked.
const FETCH_DEADLINE: Duration = Duration::from_secs(10);
/// A peer says within this time whether it leads.
const REPORT_DEADLINE: Duration = Duration::from_secs(1);
/// The most bytes of payload in one answer to a peer, but always one entry.
const FETCH_BYTES: u64 = 4 << 20;

/// What became of a replica that was damaged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Casualty {
    /// When the damage that it still has was found.
    pub(crate) since: Option<Timestamp>,
    /// Entries that were fetched for it.
    pub(crate) refetched: u64,
    /// How often it stopped, was found whole again, and started anew.
    pub(crate) recoveries: u64,
}

/// Why a replica is still damaged.
enum Unmended {
    /// Nothing brings back what it lost.
    Lost(Damage),
    /// It may go better the next time.
    Later(String),
}

/// Mends what is damaged for as long as the node lives.
pub(super) async fn run(node: Weak<Inner>) {
    let Some((damage, clock)) = node.upgrade().map(|node| (node.damage.clone(), node.environment.clock.clone())) else {
        return;
    };
    loop {
        let Some(node) = node.upgrade() else { return };
        let pending = node.mend_all().await;
        drop(node);
        if pending {
            // Whatever is found meanwhile is looked at then, too.
            let _ = clock.timeout(AGAIN, damage.notified()).await;
        } else {
            damage.notified().await;
        }
    }
}

/// Mends the catalog's replica before it starts, for as long as it takes.
pub(super) async fn before_start(node: &Inner, key: ReplicaKey) -> Result<(), Damage> {
    while node.journal.damage(key).is_some() {
        node.note_damage(key);
        match node.mend(key, &node.peers.others()).await {
            Ok(()) => node.note_mended(key),
            Err(Unmended::Lost(damage)) => return Err(damage),
            Err(Unmended::Later(why)) => {
                tracing::warn!(%key, why, "the catalog's replica is damaged, and not mended yet");
                node.environment.clock.sleep(AGAIN).await;
            }
        }
    }
    Ok(())
}

impl Inner {
    /// What became of a replica, if it was damaged since the node started.
    pub(super) fn casualty(&self, key: ReplicaKey) -> Casualty {
        self.casualties.lock().expect(POISONED).get(&key).copied().unwrap_or_default()
    }

    /// The damaged replicas of logs.
    pub(super) fn damaged_logs(&self) -> Vec<ReplicaKey> {
        let damaged = self.journal.damaged().into_iter().map(|(key, _)| key);
        damaged.filter(|key| key.group != LogId::CATALOG).collect()
    }

    /// Entries that a replica of `group` here has, whatever else is wrong with
    /// it, from the first on.
    pub(crate) async fn entries_for_peer(
        &self,
        group: LogId,
        range: Range<Index>,
    ) -> Result<Vec<FetchedEntry>, String> {
        let Some(key) = self.journal.replicas().into_iter().rfind(|key| key.group == group) else {
            return Ok(Vec::new());
        };
        let held = self.journal.replica(key);
        let purged = held.and_then(|held| held.purged);
        if range.is_empty() || purged.is_some_and(|purged| range.start <= purged.index) {
            return Ok(Vec::new());
        }
        let range = range.start.get()..range.end.get();
        let read = log_store::read(&self.journal, key, range, FETCH_BYTES).await;
        let entries = read.map_err(|error| error.to_string())?.into_iter();
        let fetched = |Entry { id, payload }| FetchedEntry { term: id.term.get(), index: id.index.get(), payload };
        Ok(entries.map(fetched).collect())
    }

    /// Does what can be done now about everything damaged; whether something
    /// is left.
    async fn mend_all(self: &Arc<Self>) -> bool {
        let mut pending = false;
        for (key, damage) in self.journal.damaged() {
            self.note_damage(key);
            let treated = match key.group {
                LogId::CATALOG => self.shed_damage(key).await,
                _ => self.treat(key, damage).await,
            };
            match treated {
                Ok(()) => self.note_mended(key),
                Err(why) => {
                    tracing::warn!(%key, why, "a damaged replica waits");
                    pending = true;
                }
            }
        }
        pending
    }

    fn note_damage(&self, key: ReplicaKey) {
        let now = self.environment.clock.wall();
        self.casualties.lock().expect(POISONED).entry(key).or_default().since.get_or_insert(now);
    }

    fn note_mended(&self, key: ReplicaKey) {
        self.casualties.lock().expect(POISONED).entry(key).or_default().since = None;
    }

    /// A replica that had stopped starts anew in this process.
    pub(super) fn note_recovery(&self, key: ReplicaKey) {
        self.casualties.lock().expect(POISONED).entry(key).or_default().recoveries += 1;
    }

    /// Stops a damaged replica of a log, mends it, and lets it be started again;
    /// or has it replaced.
    async fn treat(self: &Arc<Self>, key: ReplicaKey, damage: Damage) -> Result<(), String> {
        let here = self.logs.borrow().get(&key.group).filter(|here| here.replica == key.replica).cloned();
        let here = here.ok_or("its log is not known here, or not any more")?;
        self.take_out(key, here, damage).await;
        let peers = self.view(|catalog| {
            let log = catalog.logs().get(&key.group)?;
            Some(log.wanted.iter().map(|place| place.node).collect::<Vec<NodeId>>())
        });
        let peers =
            peers.flatten().unwrap_or_default().into_iter().filter(|node| !self.is_me(*node)).collect::<Vec<_>>();
        match self.mend(key, &peers).await {
            Ok(()) => {
                tracing::info!(%key, "a damaged replica is whole again");
                self.note_recovery(key);
                self.logs.send_if_modified(|logs| {
                    let mended = logs.get(&key.group).is_some_and(|here| here.replica == key.replica);
                    mended && logs.remove(&key.group).is_some()
                });
                self.nudge.notify_one();
                Ok(())
            }
            Err(Unmended::Later(why)) => Err(why),
            Err(Unmended::Lost(lost)) => self.have_replaced(key, lost, &peers).await,
        }
    }

    /// Lets a replica that runs stop, another one leading in its place.
    async fn take_out(&self, key: ReplicaKey, here: LogHere, damage: Damage) {
        let failed = LogState::Failed { reason: format!("its entries are damaged: {damage}"), damaged: true };
        if !matches!(here.state, LogState::Failed { .. }) {
            let local = self.peers.registry().get(key.group).filter(|local| local.replica == key.replica);
            if let Some(local) = local
                && self.hand_over_one(key.group, &local).await
            {
                point!("handed-over-for-damage");
            }
            self.peers.registry().remove(key.group, key.replica);
            here.state.shutdown().await;
        }
        self.logs.send_if_modified(|logs| match logs.get_mut(&key.group) {
            Some(here)
                if here.replica == key.replica && !matches!(here.state, LogState::Failed { damaged: true, .. }) =>
            {
                here.state = failed;
                true
            }
            _ => false,
        });
    }

    /// Fetches all that a replica which does not run has lost.
    async fn mend(&self, key: ReplicaKey, peers: &[NodeId]) -> Result<(), Unmended> {
        let findings = self.journal.findings(key);
        let wounds = self.survey(key).await?;
        if let Some(wound) = wounds.iter().find(|wound| !wound.mendable) {
            return Err(Unmended::Lost(wound.damage));
        }
        for wound in &wounds {
            self.refetch(key, wound, peers).await?;
        }
        // What was written in their place is looked at, like all else.
        if let Some(wound) = self.survey(key).await?.first() {
            return Err(Unmended::Later(format!("there is more: {}", wound.damage)));
        }
        let (done, cleared) = oneshot::channel();
        self.journal.clear_damage(key, findings, Box::new(move |cleared| drop(done.send(cleared))));
        match cleared.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Unmended::Later(error.to_string())),
            Err(_) => Err(dropped()),
        }
    }

    /// Everything of a replica that is damaged.
    async fn survey(&self, key: ReplicaKey) -> Result<Vec<Wound>, Unmended> {
        let (mut wounds, mut from) = (Vec::new(), Index::new(0));
        loop {
            let (done, survey) = oneshot::channel();
            self.journal.survey(key, from, Box::new(move |survey| drop(done.send(survey))));
            let survey = survey.await.map_err(|_| dropped())?;
            let Survey { wounds: more, next } = survey.map_err(|error| Unmended::Later(error.to_string()))?;
            wounds.extend(more);
            match next {
                Some(next) => from = next,
                None => return Ok(wounds),
            }
        }
    }

    /// Takes a wound's entries from whoever has them.
    async fn refetch(&self, key: ReplicaKey, wound: &Wound, peers: &[NodeId]) -> Result<(), Unmended> {
        let mut silent = None;
        for peer in peers {
            let entries = match self.fetch(*peer, key.group, wound).await {
                Ok(Some(entries)) => entries,
                Ok(None) => continue,
                Err(why) => {
                    silent = Some(format!("node {peer}: {why}"));
                    continue;
                }
            };
            let count = entries.len() as u64;
            let (done, mended) = oneshot::channel();
            self.journal.mend(key, entries, Box::new(move |mended| drop(done.send(mended))));
            match mended.await {
                Ok(Ok(())) => {
                    point!("refetched");
                    tracing::info!(%key, from = peer.get(), first = wound.first.get(), count, "damaged entries fetched");
                    self.casualties.lock().expect(POISONED).entry(key).or_default().refetched += count;
                    return Ok(());
                }
                Ok(Err(error @ MendError::Differs { .. })) => {
                    tracing::error!(%key, from = peer.get(), %error, "a peer's entries are not taken");
                }
                Ok(Err(error)) => return Err(Unmended::Later(error.to_string())),
                Err(_) => return Err(dropped()),
            }
        }
        // Only when everybody has said that it has none is nobody left.
        Err(silent.map_or(Unmended::Lost(wound.damage), Unmended::Later))
    }

    /// A wound's entries as `peer` has them; `None` if it has not all of them.
    async fn fetch(&self, peer: NodeId, group: LogId, wound: &Wound) -> Result<Option<Vec<Entry>>, String> {
        let mut entries: Vec<Entry> = Vec::new();
        while entries.len() < wound.ids.len() {
            let next = entries.last().map_or(wound.first, |last| last.id.index.next());
            let more = self.peers.fetch(peer, group, next..wound.end, FETCH_DEADLINE).await;
            let more = more.map_err(|error| error.to_string())?;
            let wanted = wound.ids.get(entries.len()..).unwrap_or_default();
            let fits = more.len() <= wanted.len() && more.iter().zip(wanted).all(|(entry, id)| entry.id == *id);
            if more.is_empty() || !fits {
                return Ok(None);
            }
            entries.extend(more);
        }
        Ok(Some(entries))
    }

    /// Asks the catalog for a new replica in the place of one that is lost.
    async fn have_replaced(self: &Arc<Self>, key: ReplicaKey, lost: Damage, peers: &[NodeId]) -> Result<(), String> {
        let mut led = false;
        for peer in peers {
            let report = self.report_of(*peer, &[key.group.get()], REPORT_DEADLINE).await;
            let replicas = report.map(|report| report.replicas).unwrap_or_default();
            led |= replicas.iter().any(|it| it.role() == Role::Leader && it.state() == State::Running);
        }
        if !led {
            return Err(format!(
                "{lost}: it is lost for good, and no other replica leads that could bring up a new one"
            ));
        }
        let replaced = self.change(catalog::replace_replica(key.group, key.replica)).await;
        replaced.map_err(|error| error.to_string())?;
        point!("damaged-replica-replaced");
        tracing::warn!(%key, %lost, "a damaged replica gives way to a new one");
        self.nudge.notify_one();
        // Done once the journal has forgotten it.
        Err(format!("{lost}: it is lost for good, and a new replica takes its place"))
    }

    /// Lets the catalog's floor rise over what rotted.
    async fn shed_damage(&self, key: ReplicaKey) -> Result<(), String> {
        let catalog = self.catalog().filter(|catalog| catalog.key() == key).ok_or("it does not run")?;
        let findings = self.journal.findings(key);
        catalog.shed().await;
        let wounds = self.survey(key).await.map_err(|unmended| match unmended {
            Unmended::Lost(damage) => damage.to_string(),
            Unmended::Later(why) => why,
        })?;
        if let Some(wound) = wounds.first() {
            return Err(format!("{} is not purged yet", wound.damage));
        }
        let (done, cleared) = oneshot::channel();
        self.journal.clear_damage(key, findings, Box::new(move |cleared| drop(done.send(cleared))));
        cleared.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

fn dropped() -> Unmended {
    Unmended::Later("the journal dropped an operation".to_owned())
}
