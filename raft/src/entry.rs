//! Entries as openraft has them, to and from entries as the journal keeps
//! them.
//!
//! A command's bytes are copied neither way: to the journal they go as they
//! were proposed, and what comes back stays a slice of what it returned, so
//! applying and reading the tail touch only the journal's cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use openraft::EntryPayload;
use prost::Message;
use quipu_protocol::{NodeId, stored};

use crate::types::{self, Command, Entry, Member};

/// openraft's membership of one of our groups.
pub(crate) type Membership = openraft::Membership<u64, Member>;

/// `entry` as the journal keeps it.
pub(crate) fn to_stored(entry: Entry) -> quipu_storage::journal::Entry {
    use stored::entry::Payload;
    let encoded = |payload| stored::Entry { payload: Some(payload) }.encode_to_vec().into();
    let payload = match entry.payload {
        EntryPayload::Blank => encoded(Payload::Blank(stored::Blank {})),
        EntryPayload::Normal(command) => command.into_stored(),
        EntryPayload::Membership(membership) => encoded(Payload::Membership(stored_membership(&membership))),
    };
    quipu_storage::journal::Entry { id: types::entry_id(&entry.log_id), payload }
}

/// The journal's `entry` as openraft has it.
pub(crate) fn from_stored(entry: quipu_storage::journal::Entry) -> io::Result<Entry> {
    use stored::entry::Payload;
    let refuse = |reason: String| {
        let (term, index) = (entry.id.term, entry.id.index);
        io::Error::new(io::ErrorKind::InvalidData, format!("entry {index} of term {term}: {reason}"))
    };
    let decoded = stored::Entry::decode(entry.payload.clone()).map_err(|error| refuse(error.to_string()))?;
    let payload = match decoded.payload {
        Some(Payload::Blank(_)) => EntryPayload::Blank,
        Some(Payload::Command(bytes)) => EntryPayload::Normal(Command::of_stored(entry.payload, bytes)),
        Some(Payload::Membership(membership)) => EntryPayload::Membership(membership_of(&membership).map_err(refuse)?),
        None => return Err(refuse("it is of a kind unknown to this version".to_owned())),
    };
    Ok(Entry { log_id: types::log_id(entry.id), payload })
}

/// The command inside a journal entry, unless it is a blank or a membership.
pub(crate) fn command_of(entry: quipu_storage::journal::Entry) -> io::Result<Option<Bytes>> {
    Ok(match from_stored(entry)?.payload {
        EntryPayload::Normal(command) => Some(command.body()),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    })
}

/// `membership` as it is kept.
pub(crate) fn stored_membership(membership: &Membership) -> stored::Membership {
    let configs = membership.get_joint_config().iter();
    stored::Membership {
        configs: configs.map(|voters| stored::Voters { replicas: voters.iter().copied().collect() }).collect(),
        members: membership
            .nodes()
            .map(|(replica, member)| stored::Member { replica: *replica, node: member.node.get() })
            .collect(),
    }
}

/// A kept membership as openraft has it, or why it is none.
pub(crate) fn membership_of(membership: &stored::Membership) -> Result<Membership, String> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.iter().map(|voters| voters.replicas.iter().copied().collect()).collect();
    let nodes: BTreeMap<u64, Member> =
        membership.members.iter().map(|member| (member.replica, Member { node: NodeId::new(member.node) })).collect();
    Membership::new(configs, nodes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LogId;

    fn round_trip(payload: EntryPayload<Command, u64, Member>) {
        let entry = Entry { log_id: LogId::new_term_index(3, 7), payload };
        assert_eq!(from_stored(to_stored(entry.clone())).unwrap(), entry);
    }

    #[test]
    fn every_kind_of_entry_comes_back_as_it_was() {
        round_trip(EntryPayload::Blank);
        round_trip(EntryPayload::Normal(Bytes::from_static(b"append").into()));
        let nodes: BTreeMap<u64, Member> = (1..=4).map(|n| (n, Member { node: NodeId::new(n * 10) })).collect();
        let joint = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
        round_trip(EntryPayload::Membership(Membership::new(joint, nodes).unwrap()));
    }

    #[test]
    fn command_is_a_slice_of_what_the_journal_returned() {
        let command = Bytes::from(vec![7; 100]);
        let stored =
            to_stored(Entry { log_id: LogId::new_term_index(1, 1), payload: EntryPayload::Normal(command.into()) });
        let kept = stored.payload.as_ptr_range();
        let returned = command_of(stored.clone()).unwrap().unwrap();
        assert!(kept.contains(&returned.as_ptr()), "the command was copied");
    }

    #[test]
    fn unknown_kind_is_refused() {
        let id = types::entry_id(&LogId::new_term_index(1, 1));
        from_stored(quipu_storage::journal::Entry { id, payload: Bytes::new() }).unwrap_err();
        from_stored(quipu_storage::journal::Entry { id, payload: Bytes::from_static(&[0xff; 9]) }).unwrap_err();
    }
}
