//! What Kv keeps of a replica's machine.
//!
//! ```text
//!   State    group, replica           MachineState: image as of `applied`
//!   Offsets  group, replica, row key  a row of the machine's
//! ```
//!
//! Numbers in keys are big-endian, so a replica's rows lie together and in
//! order. All that changes at once is one batch: the rows, the image and the
//! applied id are of the same moment whatever a crash takes back.

use bytes::Bytes;
use openraft::StoredMembership as RaftStoredMembership;
use prost::Message;
use quipu_protocol::{Index, LogId, ReplicaId, Term, stored};
use quipu_storage::journal::{EntryId, ReplicaKey};
use quipu_storage::{Batch, Kv, KvError, Space};

use super::{MachineError, Row};
use crate::entry;
use crate::types::{self, StoredMembership};

/// The layout of images and rows that this version reads and writes.
const VERSION: u32 = 1;

/// How many states are looked at in one go.
const STATES: usize = 64;

/// A machine's state as of an entry.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) applied: EntryId,
    pub(crate) membership: StoredMembership,
    pub(crate) image: Bytes,
}

/// The key under which a replica's rows lie, followed by a row's own.
pub(crate) fn row_key(key: ReplicaKey, row: [u8; 8]) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&state_key(key));
    bytes[16..].copy_from_slice(&row);
    bytes
}

fn state_key(key: ReplicaKey) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key.group.get().to_be_bytes());
    bytes[8..].copy_from_slice(&key.replica.get().to_be_bytes());
    bytes
}

impl Saved {
    /// What Kv keeps of `key`, if anything.
    pub(crate) fn load(kv: &dyn Kv, key: ReplicaKey) -> Result<Result<Option<Self>, MachineError>, KvError> {
        let value = kv.get(Space::State, &state_key(key))?;
        Ok(value.map(Self::decode).transpose())
    }

    /// Adds the state and `rows` to `batch`.
    pub(crate) fn write(&self, key: ReplicaKey, rows: Vec<Row>, batch: &mut Batch) {
        for row in rows {
            batch.put(row.space, row_key(key, row.key).to_vec(), row.value);
        }
        batch.put(Space::State, state_key(key).to_vec(), self.encode());
    }

    /// As it is kept, in Kv and in the journal.
    pub(super) fn encode(&self) -> Vec<u8> {
        let id = |id: EntryId| stored::EntryId { term: id.term.get(), index: id.index.get() };
        stored::MachineState {
            version: VERSION,
            applied: Some(id(self.applied)),
            membership: Some(entry::stored_membership(self.membership.membership())),
            membership_set_at: self.membership.log_id().as_ref().map(|set_at| id(types::entry_id(set_at))),
            image: self.image.clone(),
        }
        .encode_to_vec()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(super) fn decode(value: Bytes) -> Result<Self, MachineError> {
        let refuse = |reason: String| MachineError::new("the saved state of a replica", reason);
        let state = stored::MachineState::decode(value).map_err(|error| refuse(error.to_string()))?;
        if state.version != VERSION {
            return Err(refuse(format!("it is of version {}, this is version {VERSION}", state.version)));
        }
        let id = |id: stored::EntryId| EntryId { term: Term::new(id.term), index: Index::new(id.index) };
        let applied = state.applied.map(id).ok_or_else(|| refuse("it names no entry".to_owned()))?;
        let membership = state.membership.unwrap_or_default();
        let set_at = state.membership_set_at.map(|set_at| types::log_id(id(set_at)));
        let membership = match set_at {
            // openraft's own default has no voters, which no entry may have.
            None => StoredMembership::default(),
            Some(set_at) => RaftStoredMembership::new(Some(set_at), entry::membership_of(&membership).map_err(refuse)?),
        };
        Ok(Self { applied, membership, image: state.image })
    }
}

/// Whether `value` is a saved state. What is read has to be written as it was.
pub(crate) fn read_saved(value: Bytes) -> bool {
    let Ok(saved) = Saved::decode(value) else { return false };
    let encoded = saved.encode();
    let again = Saved::decode(encoded.clone().into()).expect("what was written can be read");
    assert!(again.encode() == encoded, "{saved:?} came back as {again:?}");
    true
}

/// Removes everything that `kv` keeps of `key`.
pub(crate) fn remove(kv: &dyn Kv, key: ReplicaKey) -> Result<(), KvError> {
    let mut batch = Batch::new();
    forget(key, &mut batch);
    kv.write(batch)
}

/// Whose state `kv` keeps.
pub(crate) fn keys(kv: &dyn Kv) -> Result<Vec<ReplicaKey>, KvError> {
    // One past the last key there can be.
    let end = [0xff; 17];
    let mut start = Vec::new();
    let mut keys = Vec::new();
    loop {
        let page = kv.scan(Space::State, &start, &end, STATES)?;
        keys.extend(page.iter().filter_map(|(key, _)| read_state_key(key)));
        match page.last() {
            Some((last, _)) if page.len() == STATES => start = [&last[..], &[0]].concat(),
            _ => return Ok(keys),
        }
    }
}

fn read_state_key(key: &[u8]) -> Option<ReplicaKey> {
    let group = key.first_chunk::<8>()?;
    let replica = key.get(8..)?.try_into().ok()?;
    let (group, replica) = (u64::from_be_bytes(*group), u64::from_be_bytes(replica));
    Some(ReplicaKey { group: LogId::new(group), replica: ReplicaId::new(replica) })
}

/// Removes everything that is kept of `key`.
pub(crate) fn forget(key: ReplicaKey, batch: &mut Batch) {
    batch.delete(Space::State, state_key(key).to_vec());
    // One past the last row there can be.
    let mut end = row_key(key, [0xff; 8]).to_vec();
    end.push(0);
    batch.delete_range(Space::Offsets, row_key(key, [0; 8]).to_vec(), end);
}
