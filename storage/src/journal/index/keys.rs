//! The keys of the index's rows (see [`super`]). Numbers are big-endian, so
//! that rows lie in the order of their indexes.

use bytes::{BufMut, Bytes};
use quipu_protocol::{Index, LogId, ReplicaId};

use crate::journal::entry::ReplicaKey;

pub(super) const INDEXED: &[u8] = b"j";

pub(super) fn frame(key: ReplicaKey, first: u64) -> Bytes {
    let mut bytes = Vec::with_capacity(25);
    put(&mut bytes, b'e', key);
    bytes.put_u64(first);
    bytes.into()
}

pub(super) fn replica(key: ReplicaKey) -> Bytes {
    let mut bytes = Vec::with_capacity(17);
    put(&mut bytes, b'r', key);
    bytes.into()
}

/// Below every replica's key.
pub(super) const FIRST: ReplicaKey = ReplicaKey { group: LogId::new(0), replica: ReplicaId::new(0) };

pub(super) fn segment(tag: u8, id: u64) -> Bytes {
    let mut bytes = Vec::with_capacity(9);
    bytes.put_u8(tag);
    bytes.put_u64(id);
    bytes.into()
}

pub(super) fn read_segment(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.strip_prefix(b"s")?.try_into().ok()?))
}

pub(super) fn sealed(segment: u64, key: ReplicaKey) -> Bytes {
    let mut bytes = Vec::with_capacity(25);
    bytes.put_u8(b't');
    bytes.put_u64(segment);
    bytes.put_u64(key.group.get());
    bytes.put_u64(key.replica.get());
    bytes.into()
}

pub(super) fn read_sealed(bytes: &[u8]) -> Option<ReplicaKey> {
    read_key(bytes.strip_prefix(b"t")?.get(8..)?)
}

fn put(bytes: &mut Vec<u8>, tag: u8, key: ReplicaKey) {
    bytes.put_u8(tag);
    bytes.put_u64(key.group.get());
    bytes.put_u64(key.replica.get());
}

pub(super) fn read_replica(bytes: &[u8]) -> Option<ReplicaKey> {
    read_key(bytes.strip_prefix(b"r")?)
}

fn read_key(bytes: &[u8]) -> Option<ReplicaKey> {
    let rest: &[u8; 16] = bytes.try_into().ok()?;
    let (group, replica) = rest.split_at(8);
    Some(ReplicaKey {
        group: LogId::new(u64::from_be_bytes(group.try_into().ok()?)),
        replica: ReplicaId::new(u64::from_be_bytes(replica.try_into().ok()?)),
    })
}

pub(super) fn read_first(bytes: &[u8]) -> Option<Index> {
    let first = bytes.strip_prefix(b"e")?.get(16..24)?;
    Some(Index::new(u64::from_be_bytes(first.try_into().ok()?)))
}
