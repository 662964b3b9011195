//! What a data directory says of itself, and when it is refused.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::disk::{Access, AlignedBuffer, MemoryDisk};

/// Counts up: every draw is another one.
struct Counting(AtomicU64);

impl Random for Counting {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

const NODE: NodeId = NodeId::new(3);
const CLUSTER: ClusterId = ClusterId::new(77);

fn start(disk: &MemoryDisk) -> Result<Opened, IdentityError> {
    open(disk, &Counting(AtomicU64::new(1000)), NODE, Some(CLUSTER))
}

fn joined(cluster: ClusterId) -> MemoryDisk {
    let disk = MemoryDisk::new(1);
    let mut identity = start(&disk).unwrap().identity;
    identity.cluster_id = cluster.get();
    write(&disk, &identity).unwrap();
    disk
}

#[test]
fn empty_directory_gets_an_identity_and_keeps_it() {
    let disk = MemoryDisk::new(1);
    assert!(read(&disk).unwrap().is_none());
    let first = start(&disk).unwrap();
    assert!(first.is_new);
    assert_eq!((first.identity.node, first.identity.boot_count, first.identity.cluster_id), (3, 1, 0));
    assert_ne!(first.identity.incarnation, 0);

    let second = open(&disk, &Counting(AtomicU64::new(5)), NODE, None).unwrap();
    assert!(!second.is_new);
    assert_eq!(second.identity, stored::Identity { boot_count: 2, ..first.identity });
}

#[test]
fn start_is_counted_durably_before_it_returns() {
    let disk = MemoryDisk::new(1);
    for count in 1..20 {
        let disk = disk.kill(count);
        let opened = start(&disk).unwrap();
        for seed in 0..10 {
            assert_eq!(read(&disk.restore(seed)).unwrap(), Some(opened.identity.clone()));
        }
    }
}

#[test]
fn power_cut_at_any_moment_of_a_start_leaves_the_old_count_or_the_new() {
    for count in 1.. {
        let disk = joined(CLUSTER);
        let before = read(&disk).unwrap().unwrap();
        disk.cut_power_at(count);
        let opened = start(&disk);
        for seed in 0..30 {
            let left = read(&disk.restore(seed)).unwrap().expect("the identity");
            let counted = left.boot_count - before.boot_count;
            assert!(counted == 1 || (opened.is_err() && counted == 0), "cut at {count}, seed {seed}: {counted}");
        }
        if opened.is_ok() {
            return;
        }
    }
}

#[test]
fn data_without_an_identity_is_damage_and_not_a_fresh_start() {
    for directory in DATA_DIRECTORIES {
        let disk = joined(CLUSTER);
        disk.create_directory(directory).unwrap();
        disk.create(&format!("{directory}/00000001"), Access::Buffered).unwrap();
        start(&disk).expect("data beside an identity");
        disk.remove(IDENTITY_FILE).unwrap();
        assert!(matches!(start(&disk), Err(IdentityError::Damaged { .. })));
        assert!(read(&disk).unwrap().is_none(), "a refused directory was given an identity");
    }
}

#[test]
fn directory_of_another_node_or_cluster_is_refused_and_unchanged() {
    let disk = joined(ClusterId::new(78));
    let before = read(&disk).unwrap();
    let refused = start(&disk).unwrap_err();
    assert!(matches!(refused, IdentityError::OtherCluster { found, expected: CLUSTER } if found.get() == 78));
    let refused = open(&disk, &Counting(AtomicU64::new(1)), NodeId::new(4), None).unwrap_err();
    assert!(matches!(refused, IdentityError::OtherNode { found: NODE, expected } if expected.get() == 4));
    assert_eq!(refused.to_string(), "the data directory belongs to node 3, not to node 4");
    assert_eq!(read(&disk).unwrap(), before);
    open(&disk, &Counting(AtomicU64::new(1)), NODE, None).expect("no cluster in particular is expected");
}

#[test]
fn newer_version_is_refused_by_name_and_unchanged() {
    let disk = joined(CLUSTER);
    let message = b"what a newer build writes";
    let mut content = MAGIC.to_vec();
    content.extend(9_u32.to_le_bytes());
    let length = u32::try_from(message.len()).unwrap();
    content.extend(length.to_le_bytes());
    content.extend(checksum(9, length, message).to_le_bytes());
    content.extend(message);
    write_whole_file(&disk, IDENTITY_FILE, &content).unwrap();
    let refused = start(&disk).unwrap_err();
    assert!(matches!(refused, IdentityError::NewerVersion { found: 9, supported: FORMAT_VERSION }));
    assert_eq!(disk.content(IDENTITY_FILE).unwrap(), AlignedBuffer::padded(&content)[..]);
}

#[test]
fn every_flipped_bit_is_damage() {
    let disk = joined(CLUSTER);
    // The whole head and message, and some of the padding.
    let length = 100;
    for (offset, bit) in (0..length).flat_map(|offset| (0..8).map(move |bit| (offset, bit))) {
        disk.flip_bit(IDENTITY_FILE, offset, bit);
        assert!(matches!(start(&disk), Err(IdentityError::Damaged { .. })), "bit {bit} of byte {offset}");
        disk.flip_bit(IDENTITY_FILE, offset, bit);
    }
    start(&disk).expect("all bits were flipped back");
}

#[test]
fn shortened_or_emptied_file_is_damage() {
    for length in [0, 8, 24, 30, 2048, 4095] {
        let disk = joined(CLUSTER);
        disk.shorten(IDENTITY_FILE, length);
        assert!(matches!(start(&disk), Err(IdentityError::Damaged { .. })), "{length} bytes left");
    }
}

#[test]
fn identity_above_the_bound_is_refused() {
    let disk = joined(CLUSTER);
    let mut identity = read(&disk).unwrap().unwrap();
    let address = "x".repeat(MAX_IDENTITY_BYTES);
    identity.founders.push(stored::Node { address, ..stored::Node::default() });
    assert!(matches!(write(&disk, &identity), Err(IdentityError::TooLarge { bytes }) if bytes > MAX_IDENTITY_BYTES));
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_or_an_identity(content in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&content).is_err(), "chance does not make a checksum");
    }

    #[test]
    fn any_message_under_a_right_checksum_is_an_error_or_an_identity(
        version in 0_u32..3,
        message in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let length = u32::try_from(message.len()).unwrap();
        let mut content = MAGIC.to_vec();
        content.extend(version.to_le_bytes());
        content.extend(length.to_le_bytes());
        content.extend(checksum(version, length, &message).to_le_bytes());
        content.extend(&message);
        content.resize(ALIGNMENT, 0);
        match decode(&content) {
            Ok(identity) => prop_assert_eq!(identity.version, FORMAT_VERSION),
            Err(IdentityError::NewerVersion { found, .. }) => prop_assert_eq!(found, version),
            Err(error) => prop_assert!(matches!(error, IdentityError::Damaged { .. }), "{error}"),
        }
    }

    #[test]
    fn identity_reads_back_as_written(
        node: u64, incarnation: u64, boot_count: u64, cluster_id: u64, address in "[a-z0-9.:]{0,40}",
    ) {
        let identity = stored::Identity {
            version: FORMAT_VERSION,
            node,
            incarnation,
            boot_count,
            cluster_id,
            founders: vec![stored::Node { id: node, address, ..stored::Node::default() }],
            ..stored::Identity::default()
        };
        let content = encode(&identity).unwrap();
        prop_assert_eq!(decode(&content).unwrap(), identity);
    }
}
