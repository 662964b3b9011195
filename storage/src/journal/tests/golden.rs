//! The bytes on disk, written down: a change of these is a new version of the
//! format.

use std::fmt::Write as _;

use super::rig::{Memory, OWNER, Seeded, entry, id, key, tiny, vote};
use crate::journal::Journal;
use crate::journal::format::FIRST_COMMIT;

/// Rows of 16 bytes, without those that are all zero.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (row, bytes) in bytes.chunks(16).enumerate().filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)) {
        let _ = write!(text, "{:06x}", row * 16);
        for pair in bytes.chunks(4) {
            let _ = write!(text, " ");
            pair.iter().for_each(|byte| {
                let _ = write!(text, "{byte:02x}");
            });
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_format_is_what_it_was() {
    let memory = Memory::new(1);
    let opened =
        Journal::open_checked(memory.disk.clone(), memory.kv.clone(), Seeded::new(7), tiny(32 * 1024), OWNER, 0);
    let (journal, _) = opened.unwrap();
    memory.disk.hold();
    journal.save_vote(key(1), vote(2, 11), Box::new(|_| ()));
    journal.append(key(2), vec![entry(3, 4, 5), entry(3, 5, 12)], Box::new(|_| ()));
    journal.truncate(key(2), quipu_protocol::Index::new(5), Box::new(|_| ()));
    journal.purge(key(2), id(3, 4), Box::new(|_| ()));
    journal.save_committed(key(2), id(3, 4));
    journal.retire(key(1), Box::new(|_| ()));
    memory.disk.release();
    journal.mark_idle();
    let segment = memory.disk.content("journal/00000001.segment").unwrap();
    let manifest = memory.disk.content("journal/MANIFEST").unwrap();
    let found = format!(
        "manifest\n{}header\n{}commits\n{}",
        dump(&manifest),
        dump(&segment[..FIRST_COMMIT as usize]),
        dump(&segment[FIRST_COMMIT as usize..])
    );
    let wanted = include_str!("golden.txt");
    assert!(found == wanted, "the bytes on disk changed; found:\n{found}");
}
