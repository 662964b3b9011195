//! The catalog's commands, for whoever proposes them.

use bytes::Bytes;
use prost::Message;
use quipu_protocol::stored::catalog_command::Command;
use quipu_protocol::{ClusterId, LogId, LogName, NodeId, ReplicaId, Timestamp, peer, stored, v1};

/// Founds the cluster; only the first such command counts.
pub fn found(cluster: ClusterId, founders: Vec<stored::Node>) -> Command {
    Command::Found(stored::Found { cluster_id: cluster.get(), nodes: founders })
}

/// Registers the start that a node introduces itself with, and with it its disk
/// and its address.
pub fn register(from: &peer::Introduction) -> Command {
    Command::RegisterNode(stored::RegisterNode {
        id: from.node,
        address: from.address.clone(),
        incarnation: from.incarnation,
        boot_count: from.boot_count,
        boot: from.boot,
    })
}

/// Creates a log, rather on nodes that are `reachable`.
pub fn create_log(name: &LogName, config: v1::LogConfig, reachable: impl IntoIterator<Item = NodeId>) -> Command {
    Command::CreateLog(stored::CreateLog {
        name: name.as_str().to_owned(),
        config: Some(config),
        reachable: reachable.into_iter().map(NodeId::get).collect(),
    })
}

/// Changes the configuration of the log `log`.
pub fn alter_log(log: LogId, change: v1::LogAlteration) -> Command {
    Command::AlterLog(stored::AlterLog { log: log.get(), change: Some(change) })
}

/// Deletes the log `log`, which has this name.
pub fn delete_log(log: LogId, name: &LogName) -> Command {
    Command::DeleteLog(stored::DeleteLog { log: log.get(), name: name.as_str().to_owned() })
}

/// Allots `count` producer ids.
pub fn allocate_producers(count: u32) -> Command {
    Command::AllocateProducers(stored::AllocateProducers { count })
}

/// Puts a new replica in the place of one that is damaged for good.
pub fn replace_replica(log: LogId, replica: ReplicaId) -> Command {
    Command::ReplaceReplica(stored::ReplaceReplica { log: log.get(), replica: replica.get() })
}

/// Creates the groups that keep reader groups, unless there are any; rather on
/// nodes that are `reachable`.
pub fn create_registrars(reachable: impl IntoIterator<Item = NodeId>) -> Command {
    let reachable = reachable.into_iter().map(NodeId::get).collect();
    Command::CreateRegistrars(stored::CreateRegistrars { reachable })
}

/// A command as it is proposed, stamped with the proposing leader's clock.
pub fn encode(stamp: Timestamp, command: Command) -> Bytes {
    stored::CatalogCommand { stamp: stamp.get(), command: Some(command) }.encode_to_vec().into()
}
