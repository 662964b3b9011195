//! Makes the checksums of a journal's files right, by the text of the format
//! (`storage/src/journal/format.rs`, `manifest.rs`) and not by its code.

use twox_hash::XxHash3_64;

const SECTOR: usize = 4096;

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let number = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    number.map_or(0, |field| u32::from_le_bytes(field) as usize)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let number = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
    number.map_or(0, u64::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

/// A manifest's, of the length that it says.
pub(crate) fn manifest(content: &mut [u8]) {
    let length = u32_at(content, 12);
    let Some(listed) = content.get_mut(..length).filter(|listed| listed.len() >= 24) else { return };
    put(listed, 16, 0);
    let checksum = XxHash3_64::oneshot(listed);
    put(listed, 16, checksum);
}

/// An identity's: over version, length and message.
pub(crate) fn identity(content: &mut [u8]) {
    if content.len() < 24 {
        return;
    }
    let Some(end) = u32_at(content, 12).checked_add(24).filter(|end| *end <= content.len()) else { return };
    let covered = [&content[8..16], &content[24..end]].concat();
    put(content, 16, XxHash3_64::oneshot(&covered));
}

/// A segment header's.
pub(crate) fn segment_header(sector: &mut [u8]) {
    if sector.len() >= 128 {
        let checksum = XxHash3_64::oneshot(&sector[..120]);
        put(sector, 120, checksum);
    }
}

/// Those of a whole segment: its header, every frame, every commit.
pub(crate) fn segment(file: &mut [u8]) {
    segment_header(file);
    let nonce = u64_at(file, 56);
    for at in (SECTOR..file.len()).step_by(8) {
        if file[at..].starts_with(b"QFRM") {
            frame(nonce, at as u64, &mut file[at..]);
        }
    }
    for at in (SECTOR..file.len()).step_by(SECTOR) {
        if file[at..].starts_with(b"QCMT") {
            commit_header(nonce, at as u64, &mut file[at..]);
        }
    }
}

/// A frame's, which starts at `byte` of its segment: payload, then header.
pub(crate) fn frame(nonce: u64, byte: u64, frame: &mut [u8]) {
    let start = 88 + u32_at(frame, 20).saturating_mul(16);
    let end = usize::try_from(u64_at(frame, 64)).ok().and_then(|length| start.checked_add(length));
    let Some(payload) = end.and_then(|end| frame.get(start..end)) else { return };
    let checksum = XxHash3_64::oneshot_with_seed(nonce, payload);
    put(frame, 72, checksum);
    let checksum = XxHash3_64::oneshot_with_seed(nonce.wrapping_add(byte), &frame[16..start]);
    put(frame, 8, checksum);
}

/// A commit header's, which starts at `byte` of its segment.
pub(crate) fn commit_header(nonce: u64, byte: u64, commit: &mut [u8]) {
    let end = 64 + u32_at(commit, 56).saturating_mul(24);
    let Some(covered) = commit.get(16..end) else { return };
    let checksum = XxHash3_64::oneshot_with_seed(nonce.wrapping_add(byte), covered);
    put(commit, 8, checksum);
}
