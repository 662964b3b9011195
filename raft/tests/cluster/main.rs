//! Clusters of whole nodes in one process: founded, restarted, losing disks.
#![forbid(unsafe_code)]

mod clocks;
mod cluster;
mod damage;
mod deletion;
mod founding;
mod freshness;
mod large;
mod loss;
mod network;
mod registrars;
mod space;
mod stubborn;
