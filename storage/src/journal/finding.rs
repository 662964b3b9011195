//! What recovery can tell of a frame: what it does, or whose it was.

use quipu_protocol::Index;

use super::entry::ReplicaKey;
use super::error::{DamagedPart, OpenError};
use super::format::{CommitHeader, DirectoryItem, FrameHeader};
use super::frame::Change;
use super::scan::Scanner;

/// What is known of one frame.
pub(super) struct Finding {
    pub(super) key: ReplicaKey,
    pub(super) byte: u64,
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) index: Option<Index>,
    /// What it does, if its header is whole.
    pub(super) change: Option<Change>,
    pub(super) damage: Option<DamagedPart>,
}

impl Finding {
    /// What a frame with a whole header says; `None` if its fields contradict
    /// each other.
    pub(super) fn of(nonce: u64, byte: u64, header: &FrameHeader, frame: &[u8]) -> Option<Self> {
        let change = Change::of(header, frame)?;
        let index = match &change {
            Change::Entries { first, .. } | Change::Relocated { first, .. } => Some(*first),
            _ => None,
        };
        let damage = header.payload(nonce, frame).is_none().then_some(DamagedPart::Payload);
        let length = u32::try_from(header.frame_length()).ok()?;
        Some(Self { key: header.key, byte, length, kind: header.kind.code(), index, change: Some(change), damage })
    }
}

/// Looks at every frame that a valid commit header lists.
pub(super) fn examine(scanner: &mut Scanner<'_>, byte: u64, header: &CommitHeader) -> Result<Vec<Finding>, OpenError> {
    let nonce = scanner.segment().nonce;
    let commit = scanner.bytes(byte, header.length)?;
    let mut at = usize::try_from(header.frames_start()).unwrap_or(usize::MAX);
    let mut findings = Vec::new();
    for ordinal in 0..header.frames as usize {
        let item = DirectoryItem::decode(ordinal, commit);
        let frame = commit.get(at..at.saturating_add(item.length as usize)).unwrap_or_default();
        let byte = byte + at as u64;
        let whole = FrameHeader::decode(nonce, byte, frame).filter(|frame| {
            frame.key == item.key && frame.kind.code() == item.kind && frame.frame_length() == u64::from(item.length)
        });
        let finding = whole.and_then(|whole| Finding::of(nonce, byte, &whole, frame));
        findings.push(finding.unwrap_or(Finding {
            key: item.key,
            byte,
            length: item.length,
            kind: item.kind,
            index: None,
            change: None,
            damage: Some(DamagedPart::FrameHeader),
        }));
        at = at.saturating_add(item.length as usize);
    }
    Ok(findings)
}
