//! What other nodes send, and what is stored of it.
//!
//! Input: a byte that says what the rest is: a request, a reply, pieces of
//! messages, an entry's payload, a replica's saved state, an offset row.

use bytes::Bytes;
use prost::Message;
use quipu_protocol::peer::{self, appended, reply, request};
use quipu_protocol::{Index, Term, stored};
use quipu_raft::fuzzing;
use quipu_storage::journal::{Entry, EntryId};

use crate::choice;
use crate::image::Input;

/// Reads it as a peer would.
pub fn run(input: &[u8]) {
    let (how, bytes) = choice(input);
    match how % 6 {
        0 => drop(fuzzing::request(bytes)),
        1 => drop(fuzzing::reply(bytes)),
        2 => {
            let mut rest = Input(bytes);
            fuzzing::pieces(std::iter::from_fn(|| (!rest.0.is_empty()).then(|| piece(&mut rest))));
        }
        3 => {
            let id = EntryId { term: Term::new(3), index: Index::new(7) };
            fuzzing::stored_entry(Entry { id, payload: Bytes::copy_from_slice(bytes) });
        }
        4 => drop(fuzzing::saved_state(bytes)),
        _ => {
            let (key, row) = bytes.split_at(bytes.len().min(24));
            fuzzing::offset_row(key, row);
        }
    }
}

/// Which request and how it ends (1), length (1), bytes. Clocks' readings are no
/// part of what pieces are put together from.
fn piece(input: &mut Input<'_>) -> peer::Piece {
    let (what, length) = (input.byte(), input.byte());
    peer::Piece {
        request: u64::from(what & 0b11),
        body: Bytes::copy_from_slice(input.bytes(length.into())),
        last: what & 0x80 != 0,
        abandoned: what & 0x40 != 0,
        clock: None,
    }
}

/// One message of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let ballot = Some(peer::Ballot { term: 3, voted_for: 1, committed: true });
    let id = |index| peer::EntryId { term: 3, index };
    let payload = |payload| stored::Entry { payload: Some(payload) }.encode_to_vec();
    let membership = stored::Membership {
        configs: vec![stored::Voters { replicas: vec![1, 2] }, stored::Voters { replicas: vec![2] }],
        members: vec![stored::Member { replica: 1, node: 1 }, stored::Member { replica: 2, node: 2 }],
    };
    let payloads = [
        payload(stored::entry::Payload::Blank(stored::Blank {})),
        payload(stored::entry::Payload::Command(Bytes::from_static(b"a command"))),
        payload(stored::entry::Payload::Membership(membership.clone())),
    ];
    let entries = payloads.iter().zip(8..).map(|(payload, index)| peer::Entry {
        term: 3,
        index,
        payload: Bytes::from(payload.clone()),
    });
    let append = peer::Append {
        ballot,
        previous: Some(id(7)),
        commit: Some(id(6)),
        entries: entries.collect(),
        session: 4,
        pulse: None,
    };
    let vote = peer::Vote { ballot, last: Some(id(7)), leadership_transfer: true };
    let snapshot = peer::Snapshot {
        ballot,
        last: Some(id(9)),
        membership_entry: Some(id(8)),
        membership: membership.encode_to_vec().into(),
        image: Bytes::from_static(b"image"),
    };
    let requests = [
        request::Kind::Append(append),
        request::Kind::Vote(vote),
        request::Kind::PreVote(vote),
        request::Kind::Snapshot(snapshot),
        request::Kind::TransferLeader(peer::TransferLeader { from: ballot, to: 2, last: Some(id(7)) }),
    ];
    let appended = |outcome| reply::Kind::Appended(peer::Appended { outcome: Some(outcome), stamp: 0 });
    let vote = peer::VoteReply { ballot, granted: true, last: None };
    let replies = [
        appended(appended::Outcome::Done(true)),
        appended(appended::Outcome::Partly(id(8))),
        appended(appended::Outcome::Conflict(true)),
        appended(appended::Outcome::Nothing(true)),
        reply::Kind::Vote(vote),
        reply::Kind::PreVote(vote),
        reply::Kind::Snapshot(peer::SnapshotReply { ballot }),
        reply::Kind::TransferLeader(peer::TransferLeaderReply { refused: String::new() }),
    ];
    let state = stored::MachineState {
        version: 1,
        applied: Some(stored::EntryId { term: 3, index: 9 }),
        membership: Some(membership),
        membership_set_at: Some(stored::EntryId { term: 3, index: 8 }),
        image: Bytes::from_static(b"image"),
    };
    let row = stored::OffsetRow { index: 7, term: 3, records: 5, skipped: vec![1, 2], ..stored::OffsetRow::default() };
    let requests = requests.map(|kind| {
        let request = peer::Request { group: 2, from: 1, to: 2, kind: Some(kind), ..peer::Request::default() };
        (0, request.encode_to_vec())
    });
    let replies = replies.map(|kind| (1, peer::Reply { kind: Some(kind) }.encode_to_vec()));
    let mut seeds: Vec<(u8, Vec<u8>)> = Vec::from(requests);
    seeds.extend(replies);
    seeds.push((2, [&[0, 3], &b"abc"[..], &[1, 2], b"xy", &[0x80, 1], b"d", &[0x41, 0], &[0x82, 2], b"zz"].concat()));
    seeds.extend(payloads.map(|payload| (3, payload)));
    seeds.push((4, state.encode_to_vec()));
    seeds.push((5, [vec![0; 23], vec![9], row.encode_to_vec()].concat()));
    seeds.into_iter().map(|(how, bytes)| [&[how], &bytes[..]].concat()).collect()
}
