//! What the catalog knows, in memory and as its image.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::{
    BootCount, ClusterId, Incarnation, LogId, LogName, LogPattern, NodeId, ReplicaId, Timestamp, stored, v1,
};

use super::FIRST_ALLOTTED_REPLICA;
use super::placement::Loads;
use crate::machine::MachineError;

/// The catalog's state.
///
/// # Invariants
/// - A replica id, a log id and a producer id are given out once.
/// - A disk that was replaced never becomes its node's disk again.
/// - A log wants at most one replica on a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    pub(super) cluster: ClusterId,
    pub(super) nodes: BTreeMap<NodeId, CatalogNode>,
    pub(super) logs: BTreeMap<LogId, CatalogLog>,
    /// The logs by name, registrars not among them; follows from `logs`.
    pub(super) names: BTreeMap<LogName, LogId>,
    /// What each node has to do; follows from `logs`.
    pub(super) loads: Loads,
    pub(super) next_log: u64,
    pub(super) next_replica: u64,
    pub(super) next_producer: i64,
    pub(super) time: Timestamp,
    pub(super) version: u64,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogNode {
    /// Where its peers and clients reach it, `host:port`.
    pub address: String,
    /// The disk it has now.
    pub incarnation: Incarnation,
    /// The last start of that disk that was heard of, and the number drawn then.
    pub boot_count: BootCount,
    /// See `boot_count`.
    pub boot: u64,
    /// Its replica of the catalog.
    pub catalog_replica: ReplicaId,
    /// Whether that replica should vote.
    pub catalog_voter: bool,
    /// The disks it had before.
    pub retired: BTreeSet<Incarnation>,
}

/// What a group keeps that the catalog creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Records: it is a log.
    Records,
    /// Reader groups: it is a registrar, which nobody finds by its name.
    ReaderGroups,
}

/// A log, or a registrar, as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogLog {
    /// What it keeps.
    pub keeps: Keeps,
    /// Its name.
    pub name: LogName,
    /// Its configuration; nothing in it is left to a default.
    pub config: v1::LogConfig,
    /// The replicas it was created with, which write its first entry. The first
    /// one campaigns at once, so that it leads at the beginning.
    pub founders: Vec<Place>,
    /// The replicas it should have now.
    pub wanted: Vec<Place>,
}

/// A replica and where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The replica.
    pub replica: ReplicaId,
    /// Its node.
    pub node: NodeId,
}

/// Numbers that are counted up never come near this; an image that has one
/// beyond it is none, and counting on from it would overflow.
const LAST_NUMBER: u64 = 1 << 62;

impl Default for Catalog {
    fn default() -> Self {
        Self {
            cluster: ClusterId::default(),
            nodes: BTreeMap::new(),
            logs: BTreeMap::new(),
            names: BTreeMap::new(),
            loads: Loads::default(),
            next_log: LogId::CATALOG.get() + 1,
            next_replica: FIRST_ALLOTTED_REPLICA,
            next_producer: 1,
            time: Timestamp::default(),
            version: 0,
        }
    }
}

/// Logs whose names match a pattern.
pub(crate) struct Found {
    /// The first of them, by id.
    pub(crate) logs: Vec<LogId>,
    /// How many there are besides.
    pub(crate) left_out: u64,
    /// How many names were held against the pattern.
    pub(crate) looked_at: usize,
}

/// Those of `names` that match `pattern`: the first `limit` of them by id.
pub(crate) fn logs_matching(names: &BTreeMap<LogName, LogId>, pattern: &LogPattern, limit: usize) -> Found {
    let prefix = pattern.prefix();
    let later = names.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
    let mut looked_at = 0;
    let later = later.take_while(|(name, _)| name.as_str().starts_with(prefix)).inspect(|_| looked_at += 1);
    let mut logs: Vec<LogId> = later.filter(|(name, _)| pattern.matches(name)).map(|(_, id)| *id).collect();
    logs.sort_unstable();
    let left_out = logs.len().saturating_sub(limit) as u64;
    logs.truncate(limit);
    Found { logs, left_out, looked_at }
}

impl Catalog {
    /// The cluster it describes; none until the cluster is founded.
    pub fn cluster(&self) -> Option<ClusterId> {
        (self.cluster != ClusterId::default()).then_some(self.cluster)
    }

    /// Grows with every change that nodes may have to act upon.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The largest stamp of a command so far.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The nodes.
    pub fn nodes(&self) -> &BTreeMap<NodeId, CatalogNode> {
        &self.nodes
    }

    /// Whether `node` has the disk `incarnation` now.
    pub fn has_disk(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.nodes.get(&node).is_some_and(|it| it.incarnation == incarnation)
    }

    /// The logs and the registrars.
    pub fn logs(&self) -> &BTreeMap<LogId, CatalogLog> {
        &self.logs
    }

    /// Whether there was a log of that id once and is none any more. Of a log
    /// that this copy does not know yet it says no.
    pub fn is_deleted(&self, id: LogId) -> bool {
        id != LogId::CATALOG && id.get() < self.next_log && !self.logs.contains_key(&id)
    }

    /// How many logs were deleted so far.
    pub fn deletions(&self) -> u64 {
        let created = self.next_log.saturating_sub(LogId::CATALOG.get() + 1);
        created.saturating_sub(self.logs.len() as u64)
    }

    /// The log of that name.
    pub fn log_named(&self, name: &LogName) -> Option<(LogId, &CatalogLog)> {
        let id = *self.names.get(name)?;
        Some((id, self.logs.get(&id)?))
    }

    /// The logs whose names match `pattern`, by id: the first `limit` of them, and
    /// how many there are besides.
    pub fn logs_matching(&self, pattern: &LogPattern, limit: usize) -> (Vec<LogId>, u64) {
        let found = logs_matching(&self.names, pattern, limit);
        (found.logs, found.left_out)
    }

    /// The logs by name, registrars not among them.
    pub(crate) fn names(&self) -> &BTreeMap<LogName, LogId> {
        &self.names
    }

    /// The registrars, in their order; none until the first reader group.
    pub fn registrars(&self) -> Vec<LogId> {
        let registrars = self.logs.iter().filter(|(_, log)| log.keeps == Keeps::ReaderGroups);
        registrars.map(|(id, _)| *id).collect()
    }

    /// How many logs there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// At most `limit` logs whose names come after `after` and match `pattern`,
    /// by name; and whether there are more.
    pub fn logs_after(&self, after: &str, pattern: Option<&LogPattern>, limit: usize) -> (Vec<v1::LogSummary>, bool) {
        let prefix = pattern.map_or("", LogPattern::prefix);
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let later = self.names.range::<str, _>((from, Bound::Unbounded));
        let later = later.take_while(|(name, _)| name.as_str().starts_with(prefix));
        let mut later = later.filter(|(name, _)| pattern.is_none_or(|pattern| pattern.matches(name)));
        let page = later.by_ref().take(limit).filter_map(|(_, &id)| self.summary(id)).collect();
        (page, later.next().is_some())
    }

    /// A log in a client's words.
    pub fn summary(&self, id: LogId) -> Option<v1::LogSummary> {
        let log = self.logs.get(&id)?;
        Some(v1::LogSummary { name: log.name.as_str().to_owned(), id: id.get(), config: Some(log.config) })
    }

    /// The nodes in a client's words.
    pub fn peers(&self) -> Vec<v1::Peer> {
        self.nodes.iter().map(|(node, it)| v1::Peer { node: node.get(), address: it.address.clone() }).collect()
    }

    /// The nodes that have a replica of `log`, in a client's words.
    pub fn peers_of(&self, log: &CatalogLog) -> Vec<v1::Peer> {
        let peer = |place: &Place| {
            let address = self.nodes.get(&place.node).map(|it| it.address.clone()).unwrap_or_default();
            v1::Peer { node: place.node.get(), address }
        };
        log.wanted.iter().map(peer).collect()
    }

    pub(super) fn to_image(&self) -> Bytes {
        let image = stored::Catalog {
            cluster_id: self.cluster.get(),
            nodes: self.nodes.iter().map(|(&id, node)| node.to_stored(id)).collect(),
            logs: self.logs.iter().map(|(&id, log)| log.to_stored(id)).collect(),
            next_log: self.next_log,
            next_replica: self.next_replica,
            next_producer: self.next_producer,
            time: self.time.get(),
            version: self.version,
        };
        image.encode_to_vec().into()
    }

    pub(super) fn from_image(image: &Bytes) -> Result<Self, MachineError> {
        let bad = |reason: String| MachineError::new("the catalog's image", reason);
        let image = stored::Catalog::decode(image.clone()).map_err(|error| bad(error.to_string()))?;
        for (what, number) in [("log", image.next_log), ("replica", image.next_replica), ("version", image.version)] {
            if number > LAST_NUMBER {
                return Err(bad(format!("its next {what} is {number}, which no cluster comes to")));
            }
        }
        let mut catalog = Self {
            cluster: ClusterId::new(image.cluster_id),
            next_log: image.next_log,
            next_replica: image.next_replica,
            next_producer: image.next_producer,
            time: Timestamp::new(image.time),
            version: image.version,
            ..Self::default()
        };
        for node in image.nodes {
            catalog.nodes.insert(NodeId::new(node.id), CatalogNode::from_stored(node));
        }
        for log in image.logs {
            let id = LogId::new(log.id);
            let log = CatalogLog::from_stored(log).map_err(bad)?;
            if log.keeps == Keeps::Records {
                catalog.names.insert(log.name.clone(), id);
            }
            catalog.loads.add(&log);
            catalog.logs.insert(id, log);
        }
        Ok(catalog)
    }
}

impl CatalogNode {
    pub(super) fn to_stored(&self, id: NodeId) -> stored::Node {
        stored::Node {
            id: id.get(),
            address: self.address.clone(),
            incarnation: self.incarnation.get(),
            catalog_replica: self.catalog_replica.get(),
            catalog_voter: self.catalog_voter,
            boot_count: self.boot_count.get(),
            boot: self.boot,
            retired: self.retired.iter().map(|it| it.get()).collect(),
        }
    }

    pub(super) fn from_stored(node: stored::Node) -> Self {
        Self {
            address: node.address,
            incarnation: Incarnation::new(node.incarnation),
            boot_count: BootCount::new(node.boot_count),
            boot: node.boot,
            catalog_replica: ReplicaId::new(node.catalog_replica),
            catalog_voter: node.catalog_voter,
            retired: node.retired.into_iter().map(Incarnation::new).collect(),
        }
    }
}

impl CatalogLog {
    /// Its replica on `node`.
    pub fn replica_on(&self, node: NodeId) -> Option<ReplicaId> {
        self.wanted.iter().find(|place| place.node == node).map(|place| place.replica)
    }

    fn to_stored(&self, id: LogId) -> stored::Log {
        let members = |places: &[Place]| places.iter().copied().map(Place::to_stored).collect();
        stored::Log {
            id: id.get(),
            name: self.name.as_str().to_owned(),
            config: Some(self.config),
            founders: members(&self.founders),
            wanted: members(&self.wanted),
            kind: self.keeps.to_stored().into(),
        }
    }

    fn from_stored(log: stored::Log) -> Result<Self, String> {
        let places = |members: Vec<stored::Member>| members.iter().map(Place::from_stored).collect();
        let keeps = Keeps::from_stored(log.kind);
        Ok(Self {
            keeps: keeps.ok_or_else(|| format!("log {} is of an unknown kind, {}", log.id, log.kind))?,
            name: log.name.parse().map_err(|error| format!("log {}: {error}", log.id))?,
            config: log.config.ok_or_else(|| format!("log {} has no configuration", log.id))?,
            founders: places(log.founders),
            wanted: places(log.wanted),
        })
    }
}

impl Keeps {
    fn to_stored(self) -> stored::LogKind {
        match self {
            Self::Records => stored::LogKind::Records,
            Self::ReaderGroups => stored::LogKind::Registrar,
        }
    }

    fn from_stored(kind: i32) -> Option<Self> {
        match stored::LogKind::try_from(kind).ok()? {
            stored::LogKind::Records => Some(Self::Records),
            stored::LogKind::Registrar => Some(Self::ReaderGroups),
        }
    }
}

impl Place {
    fn to_stored(self) -> stored::Member {
        stored::Member { replica: self.replica.get(), node: self.node.get() }
    }

    fn from_stored(member: &stored::Member) -> Self {
        Self { replica: ReplicaId::new(member.replica), node: NodeId::new(member.node) }
    }
}
