//! A group's first entry, written by the replicas that it is founded with.
//!
//! ```text
//!   journal of each founder     index 0, term 0: the founders vote
//!   found ──▶ durable ──▶ Group::start ──▶ the first founder campaigns at
//!                                          once, the others if nobody leads
//! ```
//!
//! openraft's own `initialize` refuses a replica that has voted, and a founder
//! may be asked for its vote before anything else happens to it: were the one
//! that asked lost then, nobody could found the group any more. So the entry is
//! in the journal before openraft starts, and a founder that is asked for its
//! vote has it.
//!
//! # Invariants
//! - Every founder writes the same entry under the same id: their logs agree
//!   from the first entry on, whoever leads first.
//! - Only a founder writes it, on the disk that its replica id is bound to. A
//!   replica that took a lost founder's place has another id and gets the entry
//!   from its leader; a lost founder's id is never used on another disk.

use std::collections::BTreeMap;

use openraft::EntryPayload;
use quipu_protocol::{Index, NodeId, ReplicaId, Term};
use quipu_storage::journal::{EntryId, Journal, ReplicaKey};

use super::StartError;
use crate::entry::Membership;
use crate::log_store;
use crate::types::{self, Entry, Member};

/// Makes the group's first entry durable in the journal of its founder `key`,
/// before that is started, unless it holds entries already: safe to repeat, and
/// after a crash at any moment. The caller makes sure that `key` is one of
/// `founders` and bound to this disk.
///
/// # Errors
/// [`StartError::Founding`] when the journal does not take it.
///
/// # Panics
/// When `key` is not one of `founders`.
pub async fn found(
    journal: &Journal,
    key: ReplicaKey,
    founders: &BTreeMap<ReplicaId, NodeId>,
) -> Result<(), StartError> {
    assert!(founders.contains_key(&key.replica), "replica {} is not among the founders {founders:?}", key.replica);
    let holds_entries = journal.replica(key).is_some_and(|state| state.last.is_some() || state.purged.is_some());
    // What is damaged is not written to; the start says so.
    if holds_entries || journal.damage(key).is_some() {
        return Ok(());
    }
    log_store::append_durably(journal, key, first_entry(founders)).await.map_err(StartError::Founding)
}

/// The entry that openraft would write for these members.
fn first_entry(founders: &BTreeMap<ReplicaId, NodeId>) -> Entry {
    let members: BTreeMap<u64, Member> =
        founders.iter().map(|(replica, node)| (replica.get(), Member { node: *node })).collect();
    let log_id = types::log_id(EntryId { term: Term::new(0), index: Index::new(0) });
    Entry { log_id, payload: EntryPayload::Membership(Membership::from(members)) }
}
