//! What every [`Kv`] has to hold, for each implementation's tests to run.
//!
//! What a crash leaves is not among it: only an implementation knows how to
//! crash itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Batch, Kv, Space};

/// Runs every check, each on a fresh and empty store. The second value of the
/// pair is kept for as long as the store: a temporary directory, say.
///
/// # Panics
/// When a check fails.
pub fn run_all<K: Kv, G>(fresh: impl Fn() -> (K, G)) {
    let checks: [fn(&dyn Kv); 7] = [
        spaces_hold_keys_of_their_own,
        scan_is_ordered_bounded_and_half_open,
        last_before_finds_the_greatest_key_within,
        changes_of_a_batch_apply_in_order,
        empty_keys_and_values_are_keys_and_values,
        closed_store_refuses_everything,
        agrees_with_a_plain_map,
    ];
    for check in checks {
        let (kv, _guard) = fresh();
        check(&kv);
    }
}

/// The same key in two spaces is two keys.
pub fn spaces_hold_keys_of_their_own(kv: &dyn Kv) {
    for space in Space::ALL {
        write(kv, |batch| batch.put(space, "key", space.name()));
    }
    write(kv, |batch| batch.delete(Space::Offsets, "key"));
    assert_eq!(kv.get(Space::Index, b"key").unwrap(), Some(Bytes::from("index")));
    assert_eq!(kv.get(Space::Offsets, b"key").unwrap(), None);
    assert_eq!(kv.get(Space::State, b"key").unwrap(), Some(Bytes::from("state")));
    write(kv, |batch| batch.delete_range(Space::Index, "a", "z"));
    assert_eq!(kv.get(Space::State, b"key").unwrap(), Some(Bytes::from("state")));
}

/// A scan returns keys of `start..end` in order, and no more than asked for.
pub fn scan_is_ordered_bounded_and_half_open(kv: &dyn Kv) {
    write(kv, |batch| ["d", "b", "a", "c", "e"].map(|key| batch.put(Space::State, key, key)).into_iter().collect());
    let scan = |start: &str, end: &str, limit| {
        let pairs = kv.scan(Space::State, start.as_bytes(), end.as_bytes(), limit).unwrap();
        assert!(pairs.iter().all(|(key, value)| key == value), "values were mixed up");
        pairs.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect::<String>()
    };
    assert_eq!(scan("b", "e", 100), "bcd");
    assert_eq!(scan("b", "e", 2), "bc");
    assert_eq!(scan("b", "e", 0), "");
    assert_eq!(scan("bb", "dd", 100), "cd");
    assert_eq!(scan("", "zzz", 100), "abcde");
    assert_eq!(scan("c", "c", 100), "");
    assert_eq!(scan("e", "a", 100), "");
}

/// The greatest key at or below one, and not below the lower bound.
pub fn last_before_finds_the_greatest_key_within(kv: &dyn Kv) {
    write(kv, |batch| ["b", "d", "d\0"].map(|key| batch.put(Space::Offsets, key, key)).into_iter().collect());
    let last = |lower: &str, key: &str| {
        let pair = kv.last_before(Space::Offsets, lower.as_bytes(), key.as_bytes()).unwrap();
        pair.map(|(key, _)| String::from_utf8(key.to_vec()).unwrap())
    };
    assert_eq!(last("a", "c").as_deref(), Some("b"));
    assert_eq!(last("a", "d").as_deref(), Some("d"), "the key itself counts");
    assert_eq!(last("a", "d\0").as_deref(), Some("d\0"));
    assert_eq!(last("a", "z").as_deref(), Some("d\0"));
    assert_eq!(last("b", "b").as_deref(), Some("b"), "so does the lower bound");
    assert_eq!(last("c", "cc"), None);
    assert_eq!(last("e", "z"), None);
    assert_eq!(last("a", "a"), None);
    assert_eq!(last("z", "a"), None);
}

/// Later changes of a batch win over earlier ones.
pub fn changes_of_a_batch_apply_in_order(kv: &dyn Kv) {
    write(kv, |batch| batch.put(Space::State, "c", "old"));
    write(kv, |batch| {
        batch.put(Space::State, "a", "1");
        batch.put(Space::State, "b", "1");
        batch.delete_range(Space::State, "a", "d");
        batch.put(Space::State, "b", "2");
        batch.put(Space::State, "d", "1");
        batch.delete(Space::State, "d");
    });
    let left = kv.scan(Space::State, b"", b"z", 100).unwrap();
    assert_eq!(left, [(Bytes::from("b"), Bytes::from("2"))]);
}

/// Nothing special about nothing.
pub fn empty_keys_and_values_are_keys_and_values(kv: &dyn Kv) {
    assert_eq!(kv.get(Space::State, b"").unwrap(), None);
    write(kv, |batch| batch.put(Space::State, "", ""));
    assert_eq!(kv.get(Space::State, b"").unwrap(), Some(Bytes::new()));
    assert_eq!(kv.scan(Space::State, b"", b"a", 1).unwrap(), [(Bytes::new(), Bytes::new())]);
    assert_eq!(kv.last_before(Space::State, b"", b"").unwrap(), Some((Bytes::new(), Bytes::new())));
    write(kv, |_| {});
}

/// After `close`, every call says so.
pub fn closed_store_refuses_everything(kv: &dyn Kv) {
    use super::KvError::Closed;
    kv.close().unwrap();
    assert!(matches!(kv.get(Space::State, b"a"), Err(Closed)));
    assert!(matches!(kv.scan(Space::State, b"a", b"b", 1), Err(Closed)));
    assert!(matches!(kv.last_before(Space::State, b"a", b"b"), Err(Closed)));
    assert!(matches!(kv.write(Batch::new()), Err(Closed)));
    assert!(matches!(kv.flush(), Err(Closed)));
    assert!(matches!(kv.close(), Err(Closed)));
}

/// Random changes, with flushes in between, read back as from a plain map.
pub fn agrees_with_a_plain_map(kv: &dyn Kv) {
    let mut chance = StdRng::seed_from_u64(7);
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let before = kv.bytes_written();
    for round in 0..300_u32 {
        let mut batch = Batch::new();
        for _ in 0..chance.random_range(0..8) {
            let (key, other) = (random_key(&mut chance), random_key(&mut chance));
            match chance.random_range(0..10) {
                0 => {
                    model.retain(|held, _| *held < key || *held >= other);
                    batch.delete_range(Space::Index, key, other);
                }
                1..=3 => {
                    model.remove(&key);
                    batch.delete(Space::Index, key);
                }
                _ => {
                    let value = round.to_be_bytes().to_vec();
                    batch.put(Space::Index, key.clone(), value.clone());
                    model.insert(key, value);
                }
            }
        }
        kv.write(batch).unwrap();
        if round % 50 == 49 {
            kv.flush().unwrap();
        }
        let (key, other) = (random_key(&mut chance), random_key(&mut chance));
        assert_eq!(kv.get(Space::Index, &key).unwrap().as_deref(), model.get(&key).map(Vec::as_slice));
        let last = model.iter().rfind(|(held, _)| **held >= other && **held <= key);
        assert_eq!(owned(kv.last_before(Space::Index, &other, &key).unwrap()), owned(last));
        let expected = model.iter().filter(|(held, _)| **held >= key && **held < other).take(5);
        assert_eq!(owned(kv.scan(Space::Index, &key, &other, 5).unwrap()), owned(expected));
    }
    assert!(kv.bytes_written() > before, "flushes wrote nothing");
}

fn random_key(chance: &mut StdRng) -> Vec<u8> {
    (0..chance.random_range(0..4)).map(|_| chance.random_range(b'a'..b'e')).collect()
}

fn owned<K: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (K, V)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs.into_iter().map(|(key, value)| (key.as_ref().to_vec(), value.as_ref().to_vec())).collect()
}

fn write(kv: &dyn Kv, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    kv.write(batch).unwrap();
}
