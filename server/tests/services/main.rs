//! What a node answers to those who speak `quipu.v1` to it: a real server over
//! a disk, a key-value store and a network in memory.

mod appends;
mod batches;
mod bound;
mod clock;
mod cursors;
mod fresh;
mod http;
mod leases;
mod life;
mod network;
mod node;
mod operator;
mod reader_groups;
mod reads;
mod refusals;
mod traces;
mod writers;
