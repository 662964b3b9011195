//! Replicas in one process: what a log promises, told as stories, and
//! openraft's own suite over our storage.
//!
//! The stories run on tokio's paused clock and a disk in memory: timeouts
//! pass as soon as nobody has anything to do, so none of them waits.
#![allow(missing_docs, reason = "tests")]

mod barriers;
mod cluster;
mod conformance;
mod environment;
mod following;
mod founding;
mod network;
mod sharing;
mod snapshots;
mod stories;
mod times;
mod trimming;
