//! Finds frames where commit headers are damaged.
//!
//! ```text
//!   from                                                      to
//!   ? damaged header ? │ frame │ frame │ 0 0 ┆ ? header ? │ frame │ 0
//!   └ 64 + 24 × frames ┘                     └ next sector
//! ```
//!
//! The layout is rigid: header and directory take a length that follows from
//! the number of frames, frames touch each other, and a commit ends with zeros
//! to the sector's end. If all of a region is accounted for that way, nothing
//! in it is missing but the headers. If not, what is missing could have been
//! anybody's.

use super::error::OpenError;
use super::finding::Finding;
use super::format::{COMMIT_HEADER, DIRECTORY_ITEM, FRAME_HEADER, FRAME_MAGIC, FrameHeader, SECTOR, whole_sectors};
use super::scan::Scanner;

/// What was found in a region.
pub(super) struct Rescued {
    pub(super) findings: Vec<Finding>,
    /// The first byte that nothing accounts for.
    pub(super) unexplained: Option<u64>,
    /// The latest commit that any of it was in; 0 for none.
    pub(super) sequence: u64,
}

/// Looks for the frames of the commits after `last` and before `before` in
/// `from..to`.
pub(super) fn frames(
    scanner: &mut Scanner<'_>,
    from: u64,
    to: u64,
    last: u64,
    before: u64,
) -> Result<Rescued, OpenError> {
    let mut rescued = Rescued { findings: Vec::new(), unexplained: None, sequence: 0 };
    let mut commit = from;
    while commit < to {
        let header = scanner.bytes(commit, COMMIT_HEADER as u64)?;
        let erased = header.iter().all(|byte| *byte == 0);
        let expected = commit + COMMIT_HEADER as u64;
        let Some((first, mut frame)) = next_frame(scanner, expected, to, last, before)? else {
            // A mark is a header and nothing else.
            if erased || to - commit != SECTOR || !scanner.is_zero(expected, to)? {
                rescued.unexplained.get_or_insert(commit);
            }
            break;
        };
        let directory = first - expected;
        let (mut frames, mut at) = (0, first);
        loop {
            frames += 1;
            at += u64::from(frame.finding.length);
            rescued.sequence = rescued.sequence.max(frame.sequence);
            rescued.findings.push(frame.finding);
            match frame_at(scanner, at, to, last, before)? {
                Some(next) => frame = next,
                None => break,
            }
        }
        let end = whole_sectors(at).min(to);
        if erased || directory != frames * DIRECTORY_ITEM as u64 || !scanner.is_zero(at, end)? {
            rescued.unexplained.get_or_insert(commit);
        }
        commit = end;
    }
    Ok(rescued)
}

/// A frame that vouches for itself.
struct Found {
    finding: Finding,
    sequence: u64,
}

/// The first frame at or after `byte`, and where it is.
fn next_frame(
    scanner: &mut Scanner<'_>,
    byte: u64,
    to: u64,
    last: u64,
    before: u64,
) -> Result<Option<(u64, Found)>, OpenError> {
    let mut at = byte;
    while at + FRAME_HEADER as u64 <= to {
        if let Some(found) = frame_at(scanner, at, to, last, before)? {
            return Ok(Some((at, found)));
        }
        at += 8;
    }
    Ok(None)
}

fn frame_at(scanner: &mut Scanner<'_>, byte: u64, to: u64, last: u64, before: u64) -> Result<Option<Found>, OpenError> {
    if byte + FRAME_HEADER as u64 > to || scanner.bytes(byte, FRAME_MAGIC.len() as u64)? != FRAME_MAGIC {
        return Ok(None);
    }
    let nonce = scanner.segment().nonce;
    let frame = scanner.bytes(byte, to - byte)?;
    let Some(header) = FrameHeader::decode(nonce, byte, frame) else { return Ok(None) };
    if header.sequence <= last || header.sequence >= before {
        return Ok(None);
    }
    let length = usize::try_from(header.frame_length()).expect("a frame was found in memory");
    let finding = Finding::of(nonce, byte, &header, &frame[..length]);
    Ok(finding.map(|finding| Found { finding, sequence: header.sequence }))
}
