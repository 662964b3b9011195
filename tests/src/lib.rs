//! Real processes, real disks, `kill -9`.
//!
//! A harness that starts `quipu serve` processes and tells stories about them:
//!
//! ```text
//! let cluster = Cluster::start(3).await;
//! let appender = cluster.keeps_appending_to("orders").await;
//! cluster.leader_of("orders").await.kill();
//! let ledger = appender.stop().await;
//! cluster.each_replica_reads("orders").await.holds(&ledger);
//! ```
//!
//! It reaches a cluster as a stranger would: through the binary's command
//! line, the wire, and the files of a stopped node. What a test waits for is a
//! state of the cluster, looked at again and again within [`PATIENCE`]; no
//! test waits for time to pass, but for those that watch something *not*
//! happen.
#![forbid(unsafe_code)]

mod appender;
mod auditor;
mod binary;
mod cluster;
mod command;
mod copies;
mod forgetful;
mod hosts;
mod http;
mod node;
mod ports;
mod segments;
mod shim;
mod waiting;

pub use appender::{Appender, Ledger};
pub use auditor::{Auditor, reads_own_copy};
pub use binary::quipu;
pub use cluster::{Cluster, ClusterShape};
pub use command::{Command, Finished};
pub use copies::Copies;
pub use forgetful::Forgetful;
pub use hosts::{Cut, Hosts, Slow};
pub use http::{http_get, metric};
pub use node::Node;
pub use ports::Ports;
pub use segments::Segments;
pub use shim::Stall;
pub use waiting::{PATIENCE, eventually, not_tested};
