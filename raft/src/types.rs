//! The types every group is made of.
//!
//! One configuration serves logs and catalog alike: a command is opaque bytes
//! that the group's machine understands, so peers, log store and reconciler
//! are written once.

use bytes::Bytes;
use openraft::impls::leader_id_std;
use quipu_protocol::{LogId as GroupId, NodeId, Offset, OffsetRange, ProducerEpoch, Sequence, Term, WriterEpoch};
use quipu_storage::journal::EntryId;

pub use crate::command::Command;
use crate::log::Cursor;
use crate::log::{Lease, LeaseRefused};
use crate::machine::MachineStore;
use crate::runtime::Runtime;

openraft::declare_raft_types!(
    /// What all groups have in common. A node of openraft's is a replica
    /// here: its `NodeId` is the number of a
    /// [`ReplicaId`](quipu_protocol::ReplicaId).
    ///
    /// Leader ids are the standard ones, one leader a term: then a (term,
    /// index) names one entry, and the index-0 membership that several
    /// replicas write is the same.
    pub TypeConfig:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

/// A handle to a running replica. Every call into it has to run inside
/// [`scope`](crate::runtime::scope).
pub type Raft<M> = openraft::Raft<TypeConfig, MachineStore<M>>;
/// The id of an entry, as openraft has it.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// A vote, as openraft has it.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// An entry, as openraft has it.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// A membership with the entry that set it, as openraft has it.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;

/// Where a replica lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its node. The node's address is the catalog's to know.
    pub node: NodeId,
}

/// What applying an entry answers to its proposer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A blank or a membership: there is nothing to say.
    None,
    /// A log's answer to each batch of the entry, in their order.
    Append(Vec<BatchOutcome>),
    /// The same, and a log's answer to each command that came along.
    AppendAndCommands(Vec<BatchOutcome>, Vec<CommandOutcome>),
    /// A log was trimmed.
    Trim(Trimmed),
    /// It was not, for the sake of these leases.
    Strands(Vec<Lease>),
    /// Whether there was a lease to be released, unless it is another grant.
    Released(Result<bool, LeaseRefused>),
    /// The writer epoch that was acquired.
    Acquired(Acquired),
    /// What became of an append.
    Resolved(Resolution),
    /// The catalog's answer, encoded as the catalog chooses.
    Catalog(Bytes),
    /// A registrar's answer.
    Registrar(crate::registrar::Answer),
}

/// What became of a command that went along with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Of one to a cursor.
    Cursor(Result<CursorAnswer, CursorRefusal>),
    /// A lease was granted or renewed, or not.
    Lease(Result<Lease, LeaseRefused>),
}

/// What became of a command to a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorAnswer {
    /// It was committed, by this command or by the one that this one repeats.
    Committed,
    /// It was claimed, and is this.
    Claimed(Cursor),
    /// It is not there any more.
    Deleted {
        /// Whether it was.
        existed: bool,
    },
}

/// Why a cursor does not take what was asked of it. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorRefusal {
    /// It was claimed under a higher generation.
    #[error("it was claimed under generation {generation}, which is higher")]
    Fenced {
        /// The cursor's generation.
        generation: u64,
    },
    /// It is not where it was expected to be.
    #[error("it is at {position:?}, and not where it was expected to be")]
    Mismatch {
        /// Where it is; `None` when it has no position or is not there.
        position: Option<Offset>,
        /// The log whose offset that is, if that is another one.
        of: Option<GroupId>,
    },
    /// The position lies beyond the log's end.
    #[error("the position lies beyond the log's end, which is {end}")]
    BeyondEnd {
        /// The end.
        end: Offset,
    },
    /// The log has no room for another cursor.
    #[error("the log has no room for another one: max_cursors is {limit}")]
    TooMany {
        /// How many there may be.
        limit: u64,
    },
}

/// What a trim has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// What can be read after it.
    pub range: OffsetRange,
    /// The leases that are gone by it.
    pub stranded: Vec<Lease>,
}

/// A log's writer epoch, acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// The epoch. A newer one may have been acquired since.
    pub epoch: WriterEpoch,
    /// Where the log ended then: nothing of an older epoch comes after.
    pub end: Offset,
}

/// What became of an append, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Its records have these offsets.
    Landed(OffsetRange),
    /// It has not landed and never will.
    Never,
    /// Not known any more: its producer is forgotten, or has appended too much
    /// since.
    Forgotten,
}

/// What became of one batch when its entry was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Its records have these offsets.
    Appended(OffsetRange),
    /// It repeats a remembered append, whose records have these offsets.
    Duplicate(OffsetRange),
    /// It claims a writer epoch that another holder's has replaced.
    Fenced {
        /// The epoch now.
        current: WriterEpoch,
        /// Who holds it.
        holder: String,
    },
    /// It claims a writer epoch that there has never been.
    EpochAhead {
        /// The epoch now.
        current: WriterEpoch,
    },
    /// The log takes nothing without a writer epoch.
    WriterRequired,
    /// The log does not end where it was to.
    OffsetMismatch {
        /// Where it ends.
        end: Offset,
    },
    /// A cursor does not take the commit that it carries.
    CursorRefused {
        /// The cursor's name.
        cursor: String,
        /// Why not.
        refusal: CursorRefusal,
    },
    /// Its producer id is in use under a newer epoch.
    ProducerFenced {
        /// That epoch.
        current: ProducerEpoch,
    },
    /// It neither follows its producer's last append nor repeats a
    /// remembered one.
    OutOfSequence {
        /// The sequence that would follow.
        expected: Sequence,
    },
    /// The log does not know its producer, and it does not start at sequence
    /// 0 soon after the id was allotted.
    UnknownProducer,
    /// Its header cannot be read. Appends are validated before they are
    /// proposed, so this is a proposer's error; it changes nothing.
    Malformed,
}

/// `id` as openraft has it.
pub(crate) fn log_id(id: EntryId) -> LogId {
    LogId::new_term_index(id.term.get(), id.index.get())
}

/// openraft's `id` as ours.
pub(crate) fn entry_id(id: &LogId) -> EntryId {
    EntryId { term: Term::new(id.leader_id.term), index: quipu_protocol::Index::new(id.index) }
}

/// The offsets `base..base + count`.
pub(crate) fn range(base: Offset, count: u64) -> OffsetRange {
    OffsetRange::new(base, base.advance(count))
}
