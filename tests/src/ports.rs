//! Ports that no other test and no outgoing connection will take.

use std::fs::File;
use std::net::TcpListener;

use crate::binary::scratch;

/// The first port of the first block, and how many blocks there are. All ports lie
/// below the range from which the kernel gives ports to outgoing connections
/// (32768 on Linux), so that a node that restarts finds its port free.
const FIRST: u16 = 14_000;
const BLOCKS: u16 = 720;
/// Ports of a block.
const BLOCK: u16 = 12;
/// `quipu up` answers HTTP so many ports further on: each block has those, too.
/// So the blocks come in lots, each followed by its ports for HTTP.
const HTTP_AFTER: u16 = 100;
const BLOCKS_IN_LOT: u16 = HTTP_AFTER / BLOCK;

/// A block of consecutive ports on 127.0.0.1, held by a lock file for as long
/// as this lives: tests in other processes take others.
pub struct Ports {
    first: u16,
    _lock: File,
}

impl Ports {
    /// Takes a block all of whose ports are free.
    ///
    /// # Panics
    /// When there is none.
    pub fn take() -> Self {
        let directory = scratch().join("ports");
        std::fs::create_dir_all(&directory).expect("the scratch directory can be written");
        // Processes begin at different blocks, so that they rarely meet.
        let begin = u16::try_from(std::process::id() % u32::from(BLOCKS)).expect("a remainder below a u16");
        for step in 0..BLOCKS {
            let block = (begin + step) % BLOCKS;
            let first = FIRST + block / BLOCKS_IN_LOT * (2 * HTTP_AFTER) + block % BLOCKS_IN_LOT * BLOCK;
            let mut ports = (first..first + BLOCK).flat_map(|port| [port, port + HTTP_AFTER]);
            let lock = File::create(directory.join(first.to_string())).expect("the scratch directory can be written");
            if lock.try_lock().is_ok() && ports.all(is_free) {
                return Self { first, _lock: lock };
            }
        }
        panic!("all ports from {FIRST} on are taken");
    }

    /// The block's number: no other one has it, in any process.
    pub(crate) fn number(&self) -> u16 {
        let past = self.first - FIRST;
        past / (2 * HTTP_AFTER) * BLOCKS_IN_LOT + past % (2 * HTTP_AFTER) / BLOCK
    }

    /// The first one.
    pub fn first(&self) -> u16 {
        self.first
    }

    /// The one that the `i`-th node of `quipu up` answers HTTP on, from 0.
    pub fn http(&self, i: u16) -> u16 {
        self.get(i) + HTTP_AFTER
    }

    /// The `i`-th one, from 0.
    pub fn get(&self, i: u16) -> u16 {
        assert!(i < BLOCK, "port {i} of a block of {BLOCK}");
        self.first + i
    }
}

#[expect(clippy::disallowed_methods, reason = "asks the operating system whether a real port is free")]
fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
