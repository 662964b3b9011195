//! Ways in for the fuzz targets (`fuzz/`): they put bytes to what reads
//! peers' messages and stored rows, which nobody outside of this crate calls.
//! Nothing in here decides anything.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;
use quipu_protocol::peer::{self, reply, request};
use quipu_storage::journal::Entry;

use crate::entry;
use crate::log::read_offset_row;
use crate::machine::read_saved;
use crate::peers::{Arrived, Incoming, convert};

/// Reads a peer's request; whether it is one. What is read has to travel on
/// as it came.
pub fn request(body: &[u8]) -> bool {
    let Ok(request) = peer::Request::decode(body) else { return false };
    match request.kind {
        None => false,
        Some(request::Kind::Append(append)) => {
            let session = append.session;
            // Its pulse is none of openraft's.
            let append = peer::Append { pulse: None, ..append };
            comes_back(append, convert::receive_append, |request| convert::send_append(&request, session))
        }
        Some(request::Kind::Vote(vote) | request::Kind::PreVote(vote)) => {
            comes_back(vote, convert::receive_vote, |vote| convert::send_vote(&vote))
        }
        Some(request::Kind::Snapshot(snapshot)) => {
            comes_back(snapshot, convert::receive_snapshot, |(vote, snapshot)| convert::send_snapshot(&vote, &snapshot))
        }
        Some(request::Kind::TransferLeader(transfer)) => {
            comes_back(transfer, convert::receive_transfer, |transfer| convert::send_transfer(&transfer))
        }
    }
}

/// Reads a peer's reply; whether it is one.
pub fn reply(body: &[u8]) -> bool {
    let Ok(reply) = peer::Reply::decode(body) else { return false };
    match reply.kind {
        None => false,
        Some(reply::Kind::Refusal(_) | reply::Kind::TransferLeader(_)) => true,
        Some(reply::Kind::Appended(appended)) => {
            let appended = peer::Appended { stamp: 0, ..appended };
            comes_back(appended, convert::receive_appended, convert::send_appended)
        }
        Some(reply::Kind::Vote(vote) | reply::Kind::PreVote(vote)) => {
            comes_back(vote, convert::receive_vote_reply, |vote| convert::send_vote_reply(&vote))
        }
        Some(reply::Kind::Snapshot(snapshot)) => convert::receive_snapshot_reply(snapshot).is_ok(),
    }
}

/// Whether `message` can be read. Once it was read and written, reading and
/// writing it again changes nothing.
fn comes_back<M: Message + Clone + PartialEq + Debug, T, E>(
    message: M,
    receive: impl Fn(M) -> Result<T, E>,
    send: impl Fn(T) -> M,
) -> bool {
    let Ok(read) = receive(message) else { return false };
    let sent = send(read);
    let Ok(again) = receive(sent.clone()) else { panic!("{sent:?} was sent and cannot be read") };
    let sent_again = send(again);
    assert!(sent == sent_again, "{sent:?} came back as {sent_again:?}");
    true
}

/// Takes pieces in until one is refused. Every message that becomes whole has
/// to be its pieces, one after another.
pub fn pieces(pieces: impl IntoIterator<Item = peer::Piece>) {
    let mut incoming = Incoming::default();
    let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for piece in pieces {
        let sent = piece.clone();
        let Ok(arrived) = incoming.take(piece) else { return };
        match arrived {
            Arrived::Part { request } => {
                assert!(!sent.last && request == sent.request, "a part is of the message that was sent");
                model.entry(request).or_default().extend_from_slice(&sent.body);
            }
            Arrived::Whole { request, body } => {
                assert!(sent.last && request == sent.request, "a message is whole with its last piece");
                let mut whole = model.remove(&request).unwrap_or_default();
                whole.extend_from_slice(&sent.body);
                assert!(body == whole, "a message is its pieces");
            }
            Arrived::Abandoned { request } => {
                assert!(sent.abandoned && request == sent.request, "a message is abandoned by its sender");
                model.remove(&request);
            }
        }
    }
}

/// Reads a journal entry's payload; whether it is one.
pub fn stored_entry(entry: Entry) -> bool {
    let Ok(read) = entry::from_stored(entry) else { return false };
    let again = entry::from_stored(entry::to_stored(read.clone())).expect("what was written can be read");
    assert!(again == read, "{read:?} came back as {again:?}");
    true
}

/// Reads a replica's saved state; whether it is one.
pub fn saved_state(value: &[u8]) -> bool {
    read_saved(Bytes::copy_from_slice(value))
}

/// Reads a row that says which entry gave which offsets; whether it is one.
pub fn offset_row(key: &[u8], value: &[u8]) -> bool {
    read_offset_row(key, Bytes::copy_from_slice(value))
}
