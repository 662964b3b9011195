//! Real processes, real disks, `kill -9`.
//!
//! A harness that starts `quipu serve` processes and tells stories about them:
//!
//! ```text
//! let cluster = Cluster::start(3).await;
//! cluster.leader_of("orders").await.kill();
//! cluster.each_replica_reads("orders").await.equals(&acknowledged);
//! ```
//!
//! It reaches a cluster as a stranger would: through the binary's command
//! line, the wire, and the files of a stopped node.
#![forbid(unsafe_code)]
