//! The kinds of faults, by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares the kinds and their list together.
macro_rules! kinds {
    ($($kind:ident = $name:literal, $about:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $(#[doc = $about] #[serde(rename = $name)] $kind,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name, which stays the same from version to version.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// What it does, for a person.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$kind => $about,)* }
            }
        }
    };
}

kinds! {
    Partition = "partition", "Two parts of the cluster do not hear each other.";
    PartitionOneWay = "partition-one-way", "One part of the cluster does not hear the other, which hears it.";
    PartitionBridge = "partition-bridge", "Two parts do not hear each other, and one node hears both.";
    IsolatedLeader = "isolated-leader", "A leader hears no other node; clients reach it.";
    CutOffClients = "cut-off-clients", "Clients do not reach a node; its peers do.";
    LostReplies = "lost-replies", "What a node answers its clients is lost, after it did what they asked.";
    Delay = "delay", "Messages take much longer than usual, everywhere.";
    SlowLink = "slow-link", "One link is much slower than the others.";
    Hold = "hold", "What is sent to and by a node is held back and arrives later, all at once.";
    Loss = "loss", "Links break now and then at random, and come back.";
    Reset = "reset", "All connections of a node are reset in the middle of what they carry.";
    PeerDuplicate = "peer-duplicate", "What its peers ask of a node arrives twice: in a row, or once more much later.";
    PeerReorder = "peer-reorder", "What its peers ask of a node arrives late, by itself, after what was sent later.";
    PeerDrop = "peer-drop", "What its peers ask of a node is lost, message by message.";
    PeerReplyLost = "peer-reply-lost", "What a node answers its peers is lost, after it did what they asked.";
    Kill = "kill", "A node's process is killed: what it wrote is there, synced or not.";
    KillMany = "kill-many", "Several nodes' processes are killed at once.";
    KillAll = "kill-all", "All nodes' processes are killed at once.";
    PowerLoss = "power-loss", "A node loses power: what it had not synced may be gone, sector by sector.";
    PowerLossMany = "power-loss-many", "Several nodes lose power at once.";
    PowerLossAll = "power-loss-all", "All nodes lose power at once.";
    KillAtPoint = "kill-at-point", "A node's process is killed the moment it reaches a named point.";
    PowerLossAtPoint = "power-loss-at-point", "A node loses power the moment it reaches a named point.";
    PowerLossInWrite = "power-loss-in-write", "A node loses power in the middle of a change to its disk.";
    KillInRecovery = "kill-in-recovery", "A node's process is killed, and killed again while it recovers.";
    Freeze = "freeze", "A node neither sends, receives, writes nor reads for longer than an election takes.";
    Pause = "pause", "A node's process is stopped as by SIGSTOP, and goes on as by SIGCONT: its timers find that time has passed.";
    ClockSkew = "clock-skew", "A node's wall clock is off by seconds.";
    ClockJump = "clock-jump", "A node's wall clock jumps by hours, and back.";
    SlowDisk = "slow-disk", "A node's disk is many times slower than usual.";
    StalledDisk = "stalled-disk", "A node's disk completes nothing for a while.";
    Restart = "restart", "A node is shut down in order and started again.";
    LeaderTransfer = "leader-transfer", "A node hands over all leaderships that it has.";
    FsyncError = "fsync-error", "An fsync fails: the node has to stop, and its machine is started again.";
    DiskFull = "disk-full", "A node's disk has no room for more files.";
    BadSector = "bad-sector", "A sector of a node's disk cannot be read.";
    Rot = "rot", "A bit of a payload rots in a sealed segment: the node has to find it, and fetch what it lost.";
    Misread = "misread", "A byte of a sealed segment is read wrong once: the node has to read it again.";
    BitFlip = "bit-flip", "A bit of what a node's disk holds is flipped.";
    MisdirectedWrite = "misdirected-write", "A write lands elsewhere in its file.";
    LostWrite = "lost-write", "A write is acknowledged and never happens.";
    StaleFile = "stale-file", "A file of a node is as it was a while ago.";
    OldDisk = "old-disk", "A node is started on an old copy of its disk.";
    SwappedDisks = "swapped-disks", "Two nodes are started on each other's disks, and then on their own.";
    EmptyDisk = "empty-disk", "A node is started on an empty disk under its old number.";
    LostMetadata = "lost-metadata", "A node loses its key-value store, which is a cache of the journal.";
    ClientCrash = "client-crash", "A client is killed with calls under way, and started again.";
}

impl Kind {
    /// Whether it may cost a node its copy of what was committed.
    pub(crate) const fn spoils(self) -> bool {
        matches!(
            self,
            Self::BadSector
                | Self::Rot
                | Self::BitFlip
                | Self::MisdirectedWrite
                | Self::LostWrite
                | Self::StaleFile
                | Self::OldDisk
                | Self::EmptyDisk
        )
    }
}

impl Kind {
    /// Whether it strikes single messages between nodes, for which they pass
    /// through relays.
    pub(crate) const fn needs_relays(self) -> bool {
        matches!(self, Self::PeerDuplicate | Self::PeerReorder | Self::PeerDrop | Self::PeerReplyLost)
    }
}

impl Kind {
    /// Whether nodes look for it by themselves, which takes settings of its own.
    pub(crate) const fn needs_scrubs(self) -> bool {
        matches!(self, Self::Rot | Self::Misread)
    }
}

impl Kind {
    /// How many nodes there have to be for it to strike.
    pub(crate) const fn least_nodes(self) -> u64 {
        match self {
            Self::PartitionBridge => 3,
            Self::Partition
            | Self::PartitionOneWay
            | Self::IsolatedLeader
            | Self::SlowLink
            | Self::PeerDuplicate
            | Self::PeerReorder
            | Self::PeerDrop
            | Self::PeerReplyLost
            | Self::KillMany
            | Self::PowerLossMany
            | Self::SwappedDisks
            | Self::LeaderTransfer => 2,
            spoiling if spoiling.spoils() => 3,
            _ => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
