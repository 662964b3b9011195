//! What each command does to the catalog.
//!
//! A command is refused in its reply, with nothing changed, or takes effect
//! whole. Only one that a newer version must have written stops the replica.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use quipu_protocol::batch::{Codecs, Compression};
use quipu_protocol::peer::{
    CatalogReply, Joined, LogAltered, LogCreated, LogDeleted, ProducersAllotted, Refusal, catalog_reply, refusal,
};
use quipu_protocol::stored::catalog_command::Command;
use quipu_protocol::{
    BootCount, ClusterId, Incarnation, LogId, LogName, NodeId, ProducerId, ReplicaId, Timestamp, stored, v1,
};
use quipu_storage::journal::EntryId;

use super::{
    Catalog, CatalogLog, CatalogNode, DEFAULT_REPLICAS, FIRST_ALLOTTED_REPLICA, FLOOR, Keeps, MAX_BATCH_BYTES,
    MAX_LOGS, MAX_NODES, MAX_PRODUCER_BLOCK, MIN_BATCH_BYTES, Place, catalog_voters,
};
use crate::log::next_producer_id;
use crate::machine::{Floor, Machine, MachineError};
use crate::registrar::REGISTRARS;
use crate::types::Reply;

impl Machine for Catalog {
    const FLOOR: Floor = FLOOR;

    fn blank(&self) -> Self {
        Self::default()
    }

    fn apply(&mut self, id: EntryId, command: &Bytes) -> Result<Reply, MachineError> {
        let unreadable = |reason: String| MachineError::new("a command to the catalog", reason);
        let command = stored::CatalogCommand::decode(command.clone())
            .map_err(|error| unreadable(format!("entry {id:?}: {error}")))?;
        self.time = self.time.max(Timestamp::new(command.stamp));
        let outcome = match command.command {
            Some(Command::Found(found)) => self.found(found),
            Some(Command::RegisterNode(registration)) => self.register(registration),
            Some(Command::CreateLog(creation)) => self.create_log(creation),
            Some(Command::AlterLog(alteration)) => self.alter_log(&alteration),
            Some(Command::DeleteLog(deletion)) => self.delete_log(&deletion),
            Some(Command::AllocateProducers(request)) => self.allocate_producers(request),
            Some(Command::ReplaceReplica(damaged)) => self.replace_replica(&damaged),
            Some(Command::CreateRegistrars(creation)) => self.create_registrars(&creation),
            None => return Err(unreadable(format!("entry {id:?} holds a command of a newer version"))),
        };
        let reply = CatalogReply { version: self.version, outcome: Some(outcome) };
        Ok(Reply::Catalog(reply.encode_to_vec().into()))
    }

    fn image(&self) -> Bytes {
        self.to_image()
    }

    fn install(&mut self, image: &Bytes) -> Result<(), MachineError> {
        *self = Self::from_image(image)?;
        Ok(())
    }
}

type Outcome = catalog_reply::Outcome;

impl Catalog {
    fn found(&mut self, found: stored::Found) -> Outcome {
        if self.cluster().is_none() {
            self.cluster = ClusterId::new(found.cluster_id);
            let founders = found.nodes.into_iter();
            self.nodes = founders.map(|node| (NodeId::new(node.id), CatalogNode::from_stored(node))).collect();
            self.version += 1;
        }
        Outcome::Done(true)
    }

    fn register(&mut self, registration: stored::RegisterNode) -> Outcome {
        let id = NodeId::new(registration.id);
        let incarnation = Incarnation::new(registration.incarnation);
        if self.cluster().is_none() {
            return refuse(refusal::Reason::NotNow, "the cluster is being founded");
        }
        if registration.id == 0 || registration.id >= FIRST_ALLOTTED_REPLICA || registration.incarnation == 0 {
            return refuse(refusal::Reason::Malformed, "a node is numbered from 1 to 1048575 and has an incarnation");
        }
        let nodes = self.nodes.len() as u64;
        let outcome = match self.nodes.get_mut(&id) {
            Some(node) if node.incarnation == incarnation => node.started(&registration),
            Some(node) if node.retired.contains(&incarnation) => {
                Err(format!("node {id} has had another disk since this one"))
            }
            Some(_) => {
                self.replace_disk(id, &registration);
                Ok(true)
            }
            None if nodes >= MAX_NODES => {
                return Outcome::Error(v1::Error::too_large("max_nodes", MAX_NODES, MAX_NODES + 1));
            }
            None => {
                self.add_node(id, &registration);
                Ok(true)
            }
        };
        match outcome {
            Ok(changed) => {
                self.version += u64::from(changed);
                let catalog_replica = self.nodes[&id].catalog_replica.get();
                Outcome::Joined(Joined { cluster_id: self.cluster.get(), catalog_replica, nodes: self.peers() })
            }
            Err(why) => refuse(refusal::Reason::OlderDisk, &why),
        }
    }

    fn add_node(&mut self, id: NodeId, registration: &stored::RegisterNode) {
        let catalog_replica = self.next_replica();
        let node = CatalogNode {
            address: registration.address.clone(),
            incarnation: Incarnation::new(registration.incarnation),
            boot_count: BootCount::new(registration.boot_count),
            boot: registration.boot,
            catalog_replica,
            catalog_voter: false,
            retired: BTreeSet::new(),
        };
        self.nodes.insert(id, node);
        self.complete_registrars(id);
        // More nodes may mean more voters; the lowest numbers come first.
        let voters = self.nodes.values().filter(|it| it.catalog_voter).count();
        let mut missing = catalog_voters(self.nodes.len()).saturating_sub(voters);
        for node in self.nodes.values_mut() {
            if missing > 0 && !node.catalog_voter {
                node.catalog_voter = true;
                missing -= 1;
            }
        }
    }

    /// Every replica that was on the old disk gets a new id, so that the node
    /// never speaks, and above all never votes, in the old one's name.
    fn replace_disk(&mut self, id: NodeId, registration: &stored::RegisterNode) {
        let catalog_replica = self.next_replica();
        if let Some(node) = self.nodes.get_mut(&id) {
            node.retired.insert(node.incarnation);
            node.address.clone_from(&registration.address);
            node.incarnation = Incarnation::new(registration.incarnation);
            node.boot_count = BootCount::new(registration.boot_count);
            node.boot = registration.boot;
            node.catalog_replica = catalog_replica;
        }
        let mut next = self.next_replica;
        for place in self.logs.values_mut().flat_map(|log| &mut log.wanted).filter(|place| place.node == id) {
            place.replica = ReplicaId::new(next);
            next += 1;
        }
        self.next_replica = next;
    }

    fn create_log(&mut self, creation: stored::CreateLog) -> Outcome {
        let name: LogName = match creation.name.parse() {
            Ok(name) => name,
            Err(error) => return Outcome::Error(error.into()),
        };
        let asked = creation.config.unwrap_or_default();
        if let Some((id, log)) = self.log_named(&name) {
            // Whoever leaves a choice to the cluster agrees with what it chose.
            let replicas_agree = asked.replicas == 0 || asked.replicas == log.config.replicas;
            let agree = replicas_agree && v1::LogConfig { replicas: log.config.replicas, ..asked } == log.config;
            return match agree {
                true => Outcome::LogCreated(LogCreated { log: self.summary(id), created: false }),
                false => Outcome::Error(v1::Error::log_exists(name.as_str(), log.config)),
            };
        }
        match self.config(asked) {
            Ok(config) => self.add_log(name, config, &creation.reachable),
            Err(error) => Outcome::Error(error),
        }
    }

    /// `asked` with what it left open filled in.
    fn config(&self, asked: v1::LogConfig) -> Result<v1::LogConfig, v1::Error> {
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let replicas = if asked.replicas == 0 { DEFAULT_REPLICAS.min(nodes) } else { asked.replicas };
        if replicas > nodes || nodes == 0 {
            return Err(v1::Error::too_few_nodes(replicas, nodes));
        }
        within_bounds(&asked)?;
        if self.count() as u64 >= MAX_LOGS {
            return Err(v1::Error::too_large("max_logs", MAX_LOGS, MAX_LOGS + 1));
        }
        Ok(v1::LogConfig { replicas, ..asked })
    }

    fn alter_log(&mut self, alteration: &stored::AlterLog) -> Outcome {
        let id = LogId::new(alteration.log);
        let log = self.logs.get_mut(&id).filter(|log| log.keeps == Keeps::Records);
        let Some(log) = log else {
            return Outcome::Error(v1::Error::unknown_log(&format!("with id {id}")));
        };
        let config = altered(&log.config, &alteration.change.unwrap_or_default());
        if let Err(error) = within_bounds(&config) {
            return Outcome::Error(error);
        }
        let changed = std::mem::replace(&mut log.config, config) != config;
        self.version += u64::from(changed);
        Outcome::LogAltered(LogAltered { log: self.summary(id), changed })
    }

    fn delete_log(&mut self, deletion: &stored::DeleteLog) -> Outcome {
        let id = LogId::new(deletion.log);
        if self.is_deleted(id) {
            return Outcome::LogDeleted(LogDeleted { deleted: false });
        }
        let is_meant = |log: &&CatalogLog| log.keeps == Keeps::Records && log.name.as_str() == deletion.name;
        match self.logs.get(&id).filter(is_meant) {
            None => Outcome::Error(v1::Error::unknown_log(&deletion.name)),
            Some(log) => {
                self.names.remove(&log.name);
                self.loads.remove(log);
                self.logs.remove(&id);
                self.version += 1;
                Outcome::LogDeleted(LogDeleted { deleted: true })
            }
        }
    }

    fn add_log(&mut self, name: LogName, config: v1::LogConfig, reachable: &[u64]) -> Outcome {
        let id = self.add_group(Keeps::Records, name.clone(), config, reachable);
        self.names.insert(name, id);
        self.version += 1;
        Outcome::LogCreated(LogCreated { log: self.summary(id), created: true })
    }

    fn add_group(&mut self, keeps: Keeps, name: LogName, config: v1::LogConfig, reachable: &[u64]) -> LogId {
        let reachable = reachable.iter().copied().map(NodeId::new).collect();
        let nodes = self.place(config.replicas as usize, &reachable);
        let founders: Vec<Place> = nodes.into_iter().map(|node| Place { replica: self.next_replica(), node }).collect();
        let id = LogId::new(self.next_log);
        self.next_log += 1;
        let log = CatalogLog { keeps, name, config, wanted: founders.clone(), founders };
        self.loads.add(&log);
        self.logs.insert(id, log);
        id
    }

    /// How many there are never changes: a reader group is found by it.
    fn create_registrars(&mut self, creation: &stored::CreateRegistrars) -> Outcome {
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        if nodes == 0 {
            return Outcome::Error(v1::Error::too_few_nodes(1, nodes));
        }
        if self.registrars().is_empty() {
            let replicas = DEFAULT_REPLICAS.min(nodes);
            let config = v1::LogConfig { replicas, max_batch_bytes: MIN_BATCH_BYTES, ..v1::LogConfig::default() };
            for number in 0..REGISTRARS {
                let name = format!("registrar-{number}").parse().expect("it is made of a log name's characters");
                self.add_group(Keeps::ReaderGroups, name, config, &creation.reachable);
            }
            self.version += 1;
        }
        Outcome::Done(true)
    }

    /// More nodes may mean more replicas of the registrars, up to as many as those of a
    /// new cluster have: nobody else asks for them. (A log has as many as it was created
    /// with.) `joined` has none yet.
    fn complete_registrars(&mut self, joined: NodeId) {
        let replicas = DEFAULT_REPLICAS.min(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let mut next = self.next_replica;
        for log in self.logs.values_mut().filter(|log| log.keeps == Keeps::ReaderGroups) {
            if log.config.replicas < replicas {
                log.wanted.push(Place { replica: ReplicaId::new(next), node: joined });
                log.config.replicas += 1;
                self.loads.add_replica(joined);
                next += 1;
            }
        }
        self.next_replica = next;
    }

    fn allocate_producers(&mut self, request: stored::AllocateProducers) -> Outcome {
        if !(1..=MAX_PRODUCER_BLOCK).contains(&request.count) {
            let limit = u64::from(MAX_PRODUCER_BLOCK);
            return Outcome::Error(v1::Error::too_large("max_producer_block", limit, request.count.into()));
        }
        let first = next_producer_id(ProducerId::new(self.next_producer), self.time).get();
        let Some(next) = first.checked_add(request.count.into()) else {
            return Outcome::Error(v1::Error::unavailable("all producer ids have been allotted"));
        };
        self.next_producer = next;
        Outcome::Producers(ProducersAllotted { first, count: request.count, allotted_at: self.time.get() })
    }

    /// A new replica on the same node: the old id never votes again.
    fn replace_replica(&mut self, damaged: &stored::ReplaceReplica) -> Outcome {
        let next = ReplicaId::new(self.next_replica);
        let log = self.logs.get_mut(&LogId::new(damaged.log));
        let place = log.and_then(|log| log.wanted.iter_mut().find(|place| place.replica.get() == damaged.replica));
        if let Some(place) = place {
            place.replica = next;
            self.next_replica += 1;
            self.version += 1;
        }
        Outcome::Done(true)
    }

    fn next_replica(&mut self) -> ReplicaId {
        let id = ReplicaId::new(self.next_replica);
        self.next_replica += 1;
        id
    }
}

impl CatalogNode {
    /// The disk it has was started again. Whether that changes anything that
    /// other nodes act upon; or why the disk is not the one it claims to be.
    fn started(&mut self, registration: &stored::RegisterNode) -> Result<bool, String> {
        let (count, boot) = (BootCount::new(registration.boot_count), registration.boot);
        if count < self.boot_count || (count == self.boot_count && boot != self.boot && self.boot != 0) {
            return Err(format!(
                "this disk was started {count} times, and {} times are remembered: it is an old copy",
                self.boot_count
            ));
        }
        let moved = self.address != registration.address;
        self.address.clone_from(&registration.address);
        (self.boot_count, self.boot) = (count, boot);
        Ok(moved)
    }
}

/// `config` with what `change` sets.
fn altered(config: &v1::LogConfig, change: &v1::LogAlteration) -> v1::LogConfig {
    v1::LogConfig {
        replicas: config.replicas,
        writers: config.writers,
        max_batch_bytes: change.max_batch_bytes.unwrap_or(config.max_batch_bytes),
        retention_bytes: change.retention_bytes.unwrap_or(config.retention_bytes),
        retention_ms: change.retention_ms.unwrap_or(config.retention_ms),
        cursor_expiry_ms: change.cursor_expiry_ms.or(config.cursor_expiry_ms),
        codecs: change.codecs.unwrap_or(config.codecs),
        max_timestamp_before_ms: change.max_timestamp_before_ms.unwrap_or(config.max_timestamp_before_ms),
        max_timestamp_after_ms: change.max_timestamp_after_ms.unwrap_or(config.max_timestamp_after_ms),
        max_lease_bytes: change.max_lease_bytes.unwrap_or(config.max_lease_bytes),
        max_lease_ms: change.max_lease_ms.unwrap_or(config.max_lease_ms),
    }
}

/// Whether what a log is set to is within the bounds that hold for all logs.
fn within_bounds(config: &v1::LogConfig) -> Result<(), v1::Error> {
    if !(MIN_BATCH_BYTES..=MAX_BATCH_BYTES).contains(&config.max_batch_bytes) {
        let reason = format!("{} is not from {MIN_BATCH_BYTES} to {MAX_BATCH_BYTES}", config.max_batch_bytes);
        return Err(v1::Error::invalid_argument("max_batch_bytes", reason));
    }
    if v1::Writers::try_from(config.writers).is_err() {
        let reason = format!("{} is neither shared (0) nor exclusive (1)", config.writers);
        return Err(v1::Error::invalid_argument("writers", reason));
    }
    if Codecs::from_bits(config.codecs).is_none() {
        let known: Codecs = Compression::ALL.into_iter().collect();
        let reason = format!("{:#x} names a codec that is none of {known} ({:#x})", config.codecs, known.bits());
        return Err(v1::Error::invalid_argument("codecs", reason));
    }
    Ok(())
}

fn refuse(reason: refusal::Reason, message: &str) -> Outcome {
    Outcome::Refusal(Refusal { reason: reason.into(), message: message.to_owned(), leader: 0 })
}

/// The founders as the first command registers them: catalog replicas numbered
/// like their nodes, the lowest numbers voting.
pub(crate) fn founding_nodes(founders: &BTreeMap<NodeId, (Incarnation, String)>) -> Vec<stored::Node> {
    let voters = catalog_voters(founders.len());
    let node = |(position, (id, (incarnation, address))): (usize, (&NodeId, &(Incarnation, String)))| stored::Node {
        id: id.get(),
        address: address.clone(),
        incarnation: incarnation.get(),
        catalog_replica: id.get(),
        catalog_voter: position < voters,
        boot_count: 0,
        boot: 0,
        retired: Vec::new(),
    };
    founders.iter().enumerate().map(node).collect()
}
