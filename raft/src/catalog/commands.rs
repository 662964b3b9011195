//! The catalog's commands, encoded for a proposal.

use bytes::Bytes;
use prost::Message;
use quipu_protocol::stored::catalog_command::Command;
use quipu_protocol::{BootCount, ClusterId, Incarnation, LogName, NodeId, Timestamp, stored, v1};

/// Founds the cluster; only the first such command counts.
pub fn found(stamp: Timestamp, cluster: ClusterId, founders: Vec<stored::Node>) -> Bytes {
    encode(stamp, Command::Found(stored::Found { cluster_id: cluster.get(), nodes: founders }))
}

/// Registers a start of `node`, and with it its disk and its address.
pub fn register(
    stamp: Timestamp,
    node: NodeId,
    address: String,
    incarnation: Incarnation,
    boot_count: BootCount,
    boot: u64,
) -> Bytes {
    let registration = stored::RegisterNode {
        id: node.get(),
        address,
        incarnation: incarnation.get(),
        boot_count: boot_count.get(),
        boot,
    };
    encode(stamp, Command::RegisterNode(registration))
}

/// Creates a log.
pub fn create_log(stamp: Timestamp, name: &LogName, config: v1::LogConfig, reachable: Vec<NodeId>) -> Bytes {
    let creation = stored::CreateLog {
        name: name.as_str().to_owned(),
        config: Some(config),
        reachable: reachable.into_iter().map(NodeId::get).collect(),
    };
    encode(stamp, Command::CreateLog(creation))
}

/// Allots `count` producer ids.
pub fn allocate_producers(stamp: Timestamp, count: u32) -> Bytes {
    encode(stamp, Command::AllocateProducers(stored::AllocateProducers { count }))
}

fn encode(stamp: Timestamp, command: Command) -> Bytes {
    stored::CatalogCommand { stamp: stamp.get(), command: Some(command) }.encode_to_vec().into()
}
