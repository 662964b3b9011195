//! The small files of a data directory: `IDENTITY` and the journal's
//! `MANIFEST`.
//!
//! Input: a byte (bit 7: sealed; bit 0: which), then the file's content. An
//! identity is also opened on a disk, as a start would.

use quipu_protocol::{ClusterId, NodeId, stored, v1};
use quipu_storage::identity::{self, FORMAT_VERSION, IDENTITY_FILE};
use quipu_storage::journal::fuzzing;
use quipu_storage::{Access, AlignedBuffer, Disk, MemoryDisk};

use crate::image::{self, Counting};
use crate::{choice, recovery, seal};

const SEALED: u8 = 0x80;

/// Reads the file.
pub fn run(input: &[u8]) {
    let (how, content) = choice(input);
    let mut content = content.to_vec();
    let sealed = how & SEALED != 0;
    if how & 1 == 0 {
        if sealed {
            seal::manifest(&mut content);
        }
        let _ = fuzzing::manifest(&content);
        return;
    }
    content.resize(content.len().next_multiple_of(4096), 0);
    if sealed {
        seal::identity(&mut content);
    }
    let Ok(decoded) = identity::decode(&content) else { return };
    let encoded = identity::encode(&decoded).expect("what was read fits");
    assert_eq!(identity::decode(&encoded).expect("what was written is read"), decoded);
    start(&content, &decoded);
}

/// A start counts itself in and changes nothing else; a refused one changes
/// nothing at all.
fn start(content: &[u8], before: &stored::Identity) {
    let disk = MemoryDisk::new(1);
    let file = disk.create(IDENTITY_FILE, Access::Buffered).expect("a new disk");
    disk.write_at(file, 0, &AlignedBuffer::padded(content)).expect("memory takes it");
    disk.close(file);
    let cluster = Some(ClusterId::new(0xC1));
    match identity::open(&disk, &Counting::default(), NodeId::new(before.node), cluster) {
        Ok(opened) => {
            let expected = stored::Identity { boot_count: before.boot_count + 1, ..before.clone() };
            assert_eq!(opened.identity, expected, "a start is counted");
            assert_eq!(identity::read(&disk).expect("it was written"), Some(expected));
        }
        Err(_) => assert_eq!(disk.content(IDENTITY_FILE).as_deref(), Some(content), "a refusal changes nothing"),
    }
}

/// Identities with and without founders, and manifests of real journals.
pub fn seeds() -> Vec<Vec<u8>> {
    let node = |id| stored::Node { id, address: format!("n{id}:1"), incarnation: id, ..stored::Node::default() };
    let plain =
        stored::Identity { version: FORMAT_VERSION, node: 1, incarnation: 9, boot_count: 3, ..Default::default() };
    let joined = stored::Identity {
        cluster_id: 0xC1,
        founders: vec![node(1), node(2)],
        catalog_replica: 1,
        peers: vec![v1::Peer { node: 2, address: "n2:1".to_owned() }],
        ..plain.clone()
    };
    let mut seeds: Vec<Vec<u8>> = [plain, joined]
        .iter()
        .map(|identity| identity::encode(identity).expect("a small identity"))
        // The padding is added when it is read.
        .map(|content| [&[SEALED | 1], content[..256].trim_ascii_end()].concat())
        .collect();
    for image in recovery::seeds() {
        let image = image::read(&image);
        // One of the seeds is an empty disk.
        let manifest = image.disk.content("journal/MANIFEST");
        seeds.extend(manifest.map(|manifest| [&[SEALED], &manifest[..256]].concat()));
    }
    seeds
}
