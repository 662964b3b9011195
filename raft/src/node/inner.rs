//! What a node consists of, and opening it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use quipu_protocol::environment::{Environment, Task};
use quipu_protocol::peer::{Founder, Introduction};
use quipu_protocol::{ClusterId, Incarnation, LogId, NodeId, ReplicaId, stored, v1};
use quipu_storage::identity::{self, IdentityError};
use quipu_storage::journal::{Journal, Owner, ReplicaKey};
use quipu_storage::{Disk, Kv, KvError};
use tokio::sync::{Notify, watch};

use super::mending::Casualty;
use super::{Fatal, NodeConfig, NodeStartError};
use crate::catalog::Catalog;
use crate::clocks::NodeClock;
use crate::group::Group;
use crate::log::LogReplica;
use crate::peers::{Deadlines, Peers};
use crate::registrar::RegistrarReplica;

pub(super) const POISONED: &str = "a holder of this lock panicked";

/// A node.
pub(crate) struct Inner {
    pub(super) config: NodeConfig,
    pub(super) environment: Environment,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) kv: Arc<dyn Kv>,
    pub(super) journal: Journal,
    pub(super) peers: Arc<Peers>,
    pub(super) identity: Mutex<stored::Identity>,
    /// The catalog's replica, once it runs.
    pub(super) catalog: watch::Sender<Option<Group<Catalog>>>,
    /// The logs' replicas that the catalog wants here.
    pub(super) logs: watch::Sender<BTreeMap<LogId, LogHere>>,
    pub(super) progress: watch::Sender<Progress>,
    /// Changes of leaders that this node has learned of.
    pub(super) leader_changes: AtomicU64,
    /// Damage was found.
    pub(super) damage: Arc<Notify>,
    /// What became of damaged replicas.
    pub(super) casualties: Mutex<BTreeMap<ReplicaKey, Casualty>>,
    /// Something happened that the reconciler should look at now.
    pub(super) nudge: Arc<Notify>,
    pub(super) tasks: Mutex<Vec<Task>>,
}

/// A log's replica on this node.
#[derive(Clone)]
pub(crate) struct LogHere {
    /// Which replica.
    pub(crate) replica: ReplicaId,
    /// How it is.
    pub(crate) state: LogState,
}

/// How a log's replica is.
#[derive(Clone)]
pub(crate) enum LogState {
    /// It takes part in its group, and that is a log.
    Running(LogReplica),
    /// It takes part in its group, and that keeps reader groups.
    Registrar(RegistrarReplica),
    /// It does not run and will not by itself.
    Failed {
        /// Why.
        reason: String,
        /// Whether its entries are damaged.
        damaged: bool,
    },
}

impl LogState {
    /// The log's replica, if it is one that runs.
    pub(crate) fn log(&self) -> Option<&LogReplica> {
        match self {
            Self::Running(replica) => Some(replica),
            Self::Registrar(_) | Self::Failed { .. } => None,
        }
    }

    /// The registrar's replica, if it is one that runs.
    pub(crate) fn registrar(&self) -> Option<&RegistrarReplica> {
        match self {
            Self::Registrar(replica) => Some(replica),
            Self::Running(_) | Self::Failed { .. } => None,
        }
    }

    /// Writes the state of a replica that runs to Kv, as far as it may be.
    pub(crate) fn checkpoint(&self) -> Option<Result<(), KvError>> {
        match self {
            Self::Running(replica) => Some(replica.group().checkpoint()),
            Self::Registrar(replica) => Some(replica.group().checkpoint()),
            Self::Failed { .. } => None,
        }
    }

    /// Stops a replica that runs.
    pub(crate) async fn shutdown(self) {
        match self {
            Self::Running(replica) => replica.shutdown().await,
            Self::Registrar(replica) => replica.shutdown().await,
            Self::Failed { .. } => {}
        }
    }
}

/// How far the node has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) ready: bool,
    pub(super) fatal: Option<Fatal>,
}

impl Inner {
    /// Opens the data directory.
    pub(super) fn open(
        config: NodeConfig,
        environment: Environment,
        disk: Arc<dyn Disk>,
        kv: impl FnOnce() -> Result<Arc<dyn Kv>, KvError>,
    ) -> Result<Arc<Self>, NodeStartError> {
        config.validate()?;
        let mut identity = identity::open(&*disk, &*environment.random, config.node, None)?.identity;
        // A journal is made before a cluster is known. One that is gone since
        // took votes and acknowledged entries with it: this disk must not
        // speak in the old one's name.
        if identity.cluster_id != 0 && !has_journal(&*disk) {
            return Err(NodeStartError::JournalGone);
        }
        let owner = Owner {
            cluster: ClusterId::new(identity.cluster_id),
            node: config.node,
            incarnation: Incarnation::new(identity.incarnation),
        };
        let kv = kv()?;
        let random = Arc::clone(&environment.random);
        let remembered = identity.journal_commit;
        let (journal, recovered) =
            Journal::reopen(Arc::clone(&disk), Arc::clone(&kv), random, config.journal, owner, remembered)?;
        tracing::info!(
            node = config.node.get(),
            scanned_segments = recovered.scanned_segments,
            scanned_bytes = recovered.scanned_bytes,
            torn_bytes = recovered.torn_bytes,
            index_rebuilt = recovered.index_rebuilt,
            survived_headers = recovered.survived_headers,
            damaged = recovered.damage.len(),
            "journal open"
        );
        identity.journal_commit = recovered.last_commit;
        identity::write(&*disk, &identity)?;
        let peers = Peers::new(
            environment.clone(),
            deadlines(&config),
            NodeClock::among_peers(Arc::clone(&environment.clock), config.max_clock_skew),
            introduction(&config, &identity, environment.random.next()),
            addresses(&config, &identity),
        );
        Ok(Arc::new(Self {
            config,
            environment,
            disk,
            kv,
            journal,
            peers,
            identity: Mutex::new(identity),
            catalog: watch::channel(None).0,
            logs: watch::channel(BTreeMap::new()).0,
            progress: watch::channel(Progress::default()).0,
            leader_changes: AtomicU64::new(0),
            damage: Arc::default(),
            casualties: Mutex::default(),
            nudge: Arc::default(),
            tasks: Mutex::default(),
        }))
    }

    pub(crate) fn config(&self) -> &NodeConfig {
        &self.config
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(crate) fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    pub(crate) fn nudge(&self) -> &Arc<Notify> {
        &self.nudge
    }

    pub(crate) fn identity(&self) -> stored::Identity {
        self.identity.lock().expect(POISONED).clone()
    }

    /// Which disk the node runs on.
    pub(crate) fn disk_incarnation(&self) -> Incarnation {
        Incarnation::new(self.identity.lock().expect(POISONED).incarnation)
    }

    /// The catalog's replica, once it runs.
    pub(crate) fn catalog(&self) -> Option<Group<Catalog>> {
        self.catalog.borrow().clone()
    }

    /// Looks at the catalog as far as it is known here; none before it is.
    pub(crate) fn view<T>(&self, look: impl FnOnce(&Catalog) -> T) -> Option<T> {
        Some(self.catalog()?.view(look))
    }

    /// The logs' replicas that the catalog wants here.
    pub(crate) fn logs(&self) -> &watch::Sender<BTreeMap<LogId, LogHere>> {
        &self.logs
    }

    /// Runs a task for as long as the node lives.
    pub(crate) fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let task = self.environment.tasks.spawn(name, Box::pin(future));
        let mut tasks = self.tasks.lock().expect(POISONED);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Makes durable that the node has a cluster, and tells its peers.
    pub(crate) fn remember_cluster(&self, change: impl FnOnce(&mut stored::Identity)) -> Result<(), Fatal> {
        let mut identity = self.identity.lock().expect(POISONED);
        let mut changed = identity.clone();
        change(&mut changed);
        identity::write(&*self.disk, &changed).map_err(|error| Fatal::Storage { reason: error.to_string() })?;
        *identity = changed;
        for peer in &identity.peers {
            self.peers.set_address(NodeId::new(peer.node), &peer.address);
        }
        self.peers.introduce(|me| {
            me.cluster_id = identity.cluster_id;
            me.founders = identity.founders.iter().map(founder).collect();
        });
        Ok(())
    }

    /// Keeps where the peers are, for a start without being told.
    pub(crate) fn remember_peers(&self, peers: Vec<v1::Peer>) -> Result<(), IdentityError> {
        let mut identity = self.identity.lock().expect(POISONED);
        if identity.peers == peers {
            return Ok(());
        }
        let changed = stored::Identity { peers, ..identity.clone() };
        identity::write(&*self.disk, &changed)?;
        *identity = changed;
        Ok(())
    }
}

fn has_journal(disk: &dyn Disk) -> bool {
    disk.list("journal").is_ok_and(|files| !files.is_empty())
}

fn deadlines(config: &NodeConfig) -> Deadlines {
    Deadlines {
        control: config.group.election_min * 4 / 5,
        // Long enough for a follower's disk to take a large entry in.
        data: (config.group.election_max * 4).max(std::time::Duration::from_secs(3)),
    }
}

fn introduction(config: &NodeConfig, identity: &stored::Identity, boot: u64) -> Introduction {
    let configured = config.members().into_iter();
    Introduction {
        node: config.node.get(),
        incarnation: identity.incarnation,
        boot_count: identity.boot_count,
        boot: boot.max(1),
        cluster_id: identity.cluster_id,
        address: config.address.clone(),
        configured: configured.map(|(node, address)| v1::Peer { node: node.get(), address }).collect(),
        founders: identity.founders.iter().map(founder).collect(),
    }
}

fn founder(node: &stored::Node) -> Founder {
    Founder { node: node.id, incarnation: node.incarnation, address: node.address.clone() }
}

/// Where the nodes are: as configured, otherwise as last known.
fn addresses(config: &NodeConfig, identity: &stored::Identity) -> BTreeMap<NodeId, String> {
    let known = identity.peers.iter().map(|peer| (NodeId::new(peer.node), peer.address.clone()));
    let mut addresses: BTreeMap<NodeId, String> = known.collect();
    addresses.extend(config.members());
    addresses
}
