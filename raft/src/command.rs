//! Commands as their entries are stored.

use std::fmt;

use bytes::Bytes;
use prost::Message;

/// The key of `command` in `quipu.stored.v1.Entry`: field 3, of a length and bytes.
const KEY: u8 = 3 << 3 | 2;

/// A command to a group's machine, encoded once, as the entry that holds it is
/// stored: from its proposal on, the same bytes go into the leader's journal and
/// to every follower.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// An encoded `quipu.stored.v1.Entry`.
    stored: Bytes,
    /// Where the command begins in it; it ends where that ends.
    start: usize,
}

impl Command {
    /// Encodes `message`, a command to some machine.
    pub fn encode(message: &impl Message) -> Self {
        let length = message.encoded_len();
        let mut stored = Vec::with_capacity(start(length) + length);
        stored.push(KEY);
        message.encode_length_delimited(&mut stored).expect("a vector grows");
        Self { stored: stored.into(), start: start(length) }
    }

    /// The command `body`, which is a slice of the entry that is stored as `stored`.
    pub(crate) fn of_stored(stored: Bytes, body: Bytes) -> Self {
        let start = start(body.len());
        // Nothing else fits into so few bytes. What some other version writes
        // beside the command is not kept.
        if stored.len() == start + body.len() { Self { stored, start } } else { body.into() }
    }

    /// What the machine gets.
    pub fn body(&self) -> Bytes {
        self.stored.slice(self.start..)
    }

    /// How many bytes that is.
    pub(crate) fn length(&self) -> usize {
        self.stored.len() - self.start
    }

    /// The entry that holds it, as it is stored.
    pub(crate) fn into_stored(self) -> Bytes {
        self.stored
    }
}

/// A command that comes encoded already.
impl From<Bytes> for Command {
    fn from(body: Bytes) -> Self {
        let start = start(body.len());
        let mut stored = Vec::with_capacity(start + body.len());
        stored.push(KEY);
        prost::encode_length_delimiter(body.len(), &mut stored).expect("a vector grows");
        stored.extend_from_slice(&body);
        Self { stored: stored.into(), start }
    }
}

// A command may be a megabyte: diagnostics get its length.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} B)", self.length())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a command of so many bytes begins in its entry.
fn start(length: usize) -> usize {
    1 + prost::length_delimiter_len(length)
}

#[cfg(test)]
mod tests {
    use quipu_protocol::stored;

    use super::*;

    #[test]
    fn a_command_is_encoded_as_its_entry_is_stored() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let message = stored::TracedCommand { trace: vec![7; length].into() };
            let body = Bytes::from(message.encode_to_vec());
            let entry = stored::Entry { payload: Some(stored::entry::Payload::Command(body.clone())) };
            let command = Command::encode(&message);
            assert_eq!(command.body(), body);
            assert_eq!(command.length(), body.len());
            assert_eq!(command, Command::from(body.clone()));
            let stored = Bytes::from(entry.encode_to_vec());
            assert_eq!(command, Command::of_stored(stored.clone(), body));
            assert_eq!(command.into_stored(), stored);
        }
    }

    #[test]
    fn what_is_stored_beside_a_command_is_not_kept() {
        let body = Bytes::from_static(b"command");
        let entry = stored::Entry { payload: Some(stored::entry::Payload::Command(body.clone())) };
        let strange = Bytes::from([&[0xA0, 0x06, 0x01], &entry.encode_to_vec()[..]].concat());
        let read = stored::Entry::decode(strange.clone()).unwrap();
        assert_eq!(read, entry, "a field that this version does not know");
        assert_eq!(Command::of_stored(strange, body.clone()), Command::from(body));
    }
}
