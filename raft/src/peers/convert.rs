//! openraft's messages as they travel, and back.
//!
//! What cannot be read is refused in words; it never becomes a message.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::{Snapshot, SnapshotMeta};
use prost::Message;
use quipu_protocol::{Index, Term, peer, stored};
use quipu_storage::journal::EntryId;

use crate::entry;
use crate::types::{self, LogId, TypeConfig, Vote};

/// A message that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read: {reason}")]
pub(crate) struct Unreadable {
    what: &'static str,
    reason: String,
}

fn unreadable(what: &'static str, reason: impl ToString) -> Unreadable {
    Unreadable { what, reason: reason.to_string() }
}

pub(crate) fn ballot(vote: &Vote) -> peer::Ballot {
    peer::Ballot { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote(ballot: Option<peer::Ballot>) -> Result<Vote, Unreadable> {
    let ballot = ballot.ok_or_else(|| unreadable("a message", "it has no ballot"))?;
    Ok(match ballot.committed {
        true => Vote::new_committed(ballot.term, ballot.voted_for),
        false => Vote::new(ballot.term, ballot.voted_for),
    })
}

fn sent_id(id: &LogId) -> peer::EntryId {
    peer::EntryId { term: id.leader_id.term, index: id.index }
}

fn log_id(id: peer::EntryId) -> LogId {
    types::log_id(EntryId { term: Term::new(id.term), index: Index::new(id.index) })
}

pub(crate) fn send_append(request: &AppendEntriesRequest<TypeConfig>, session: u64) -> peer::Append {
    let entries = request.entries.iter().map(|entry| {
        let stored = entry::to_stored(entry.clone());
        peer::Entry { term: stored.id.term.get(), index: stored.id.index.get(), payload: stored.payload }
    });
    peer::Append {
        ballot: Some(ballot(&request.vote)),
        previous: request.prev_log_id.as_ref().map(sent_id),
        commit: request.leader_commit.as_ref().map(sent_id),
        entries: entries.collect(),
        session,
        pulse: None,
    }
}

pub(crate) fn receive_append(append: peer::Append) -> Result<AppendEntriesRequest<TypeConfig>, Unreadable> {
    let mut next = append.previous.map_or(0, |id| id.index.saturating_add(1));
    let mut entries = Vec::new();
    for sent in append.entries {
        if sent.index != next {
            return Err(unreadable("an append", format!("entry {} comes where {next} should", sent.index)));
        }
        next = next.saturating_add(1);
        let id = EntryId { term: Term::new(sent.term), index: Index::new(sent.index) };
        // A slice would keep the whole message in memory as long as the journal
        // caches this entry.
        let payload = Bytes::copy_from_slice(&sent.payload);
        let entry = quipu_storage::journal::Entry { id, payload };
        entries.push(entry::from_stored(entry).map_err(|error| unreadable("an entry", error))?);
    }
    Ok(AppendEntriesRequest {
        vote: vote(append.ballot)?,
        prev_log_id: append.previous.map(log_id),
        leader_commit: append.commit.map(log_id),
        entries,
    })
}

pub(crate) fn send_appended(response: AppendEntriesResponse<TypeConfig>) -> peer::Appended {
    use peer::appended::Outcome;
    let outcome = match response {
        AppendEntriesResponse::Success => Outcome::Done(true),
        AppendEntriesResponse::PartialSuccess(Some(id)) => Outcome::Partly(sent_id(&id)),
        AppendEntriesResponse::PartialSuccess(None) => Outcome::Nothing(true),
        AppendEntriesResponse::Conflict => Outcome::Conflict(true),
        AppendEntriesResponse::HigherVote(vote) => Outcome::Higher(ballot(&vote)),
    };
    peer::Appended { outcome: Some(outcome), stamp: 0 }
}

pub(crate) fn receive_appended(reply: peer::Appended) -> Result<AppendEntriesResponse<TypeConfig>, Unreadable> {
    use peer::appended::Outcome;
    Ok(match reply.outcome.ok_or_else(|| unreadable("an answer to an append", "it has no outcome"))? {
        Outcome::Done(_) => AppendEntriesResponse::Success,
        Outcome::Partly(id) => AppendEntriesResponse::PartialSuccess(Some(log_id(id))),
        Outcome::Nothing(_) => AppendEntriesResponse::PartialSuccess(None),
        Outcome::Conflict(_) => AppendEntriesResponse::Conflict,
        Outcome::Higher(ballot) => AppendEntriesResponse::HigherVote(vote(Some(ballot))?),
    })
}

pub(crate) fn send_vote(request: &VoteRequest<TypeConfig>) -> peer::Vote {
    peer::Vote {
        ballot: Some(ballot(&request.vote)),
        last: request.last_log_id.as_ref().map(sent_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn receive_vote(request: peer::Vote) -> Result<VoteRequest<TypeConfig>, Unreadable> {
    Ok(VoteRequest {
        vote: vote(request.ballot)?,
        last_log_id: request.last.map(log_id),
        leadership_transfer: request.leadership_transfer,
    })
}

pub(crate) fn send_vote_reply(response: &VoteResponse<TypeConfig>) -> peer::VoteReply {
    peer::VoteReply {
        ballot: Some(ballot(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(sent_id),
    }
}

pub(crate) fn receive_vote_reply(reply: peer::VoteReply) -> Result<VoteResponse<TypeConfig>, Unreadable> {
    Ok(VoteResponse { vote: vote(reply.ballot)?, vote_granted: reply.granted, last_log_id: reply.last.map(log_id) })
}

/// A snapshot as openraft has it: its data is the state image.
pub(crate) type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, Bytes>;

pub(crate) fn send_snapshot(vote: &Vote, snapshot: &RaftSnapshot) -> peer::Snapshot {
    let membership = &snapshot.meta.last_membership;
    peer::Snapshot {
        ballot: Some(ballot(vote)),
        last: snapshot.meta.last_log_id.as_ref().map(sent_id),
        membership_entry: membership.log_id().as_ref().map(sent_id),
        membership: entry::stored_membership(membership.membership()).encode_to_vec().into(),
        image: snapshot.snapshot.clone(),
    }
}

pub(crate) fn receive_snapshot(sent: peer::Snapshot) -> Result<(Vote, RaftSnapshot), Unreadable> {
    let membership = stored::Membership::decode(sent.membership).map_err(|error| unreadable("a snapshot", error))?;
    let membership = entry::membership_of(&membership).map_err(|error| unreadable("a snapshot", error))?;
    let meta = SnapshotMeta {
        last_log_id: sent.last.map(log_id),
        last_membership: types::StoredMembership::new(sent.membership_entry.map(log_id), membership),
    };
    Ok((vote(sent.ballot)?, Snapshot { meta, snapshot: sent.image }))
}

pub(crate) fn receive_snapshot_reply(reply: peer::SnapshotReply) -> Result<SnapshotResponse<TypeConfig>, Unreadable> {
    Ok(SnapshotResponse::new(vote(reply.ballot)?))
}

pub(crate) fn send_transfer(request: &TransferLeaderRequest<TypeConfig>) -> peer::TransferLeader {
    peer::TransferLeader {
        from: Some(ballot(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(sent_id),
    }
}

pub(crate) fn receive_transfer(request: peer::TransferLeader) -> Result<TransferLeaderRequest<TypeConfig>, Unreadable> {
    Ok(TransferLeaderRequest::new(vote(request.from)?, request.to, request.last.map(log_id)))
}
