//! A reader group's name: 1 to 200 bytes of `A-Z a-z 0-9 . _ / -`.

use std::fmt;
use std::str::FromStr;

use crate::{LogName, LogNameError};

/// A checked name of a reader group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderGroupName(String);

/// Why a text is no reader group's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReaderGroupNameError {
    /// The name has no character.
    #[error("a reader group's name has 1 to {} bytes; this one is empty", ReaderGroupName::MAX_BYTES)]
    Empty,
    /// The name is too long.
    #[error("a reader group's name has at most {} bytes; this one has {bytes}", ReaderGroupName::MAX_BYTES)]
    TooLong {
        /// The name's length in bytes.
        bytes: usize,
    },
    /// A character is not allowed.
    #[error("a reader group's name is made of A-Z a-z 0-9 . _ / -; {character:?} at byte {position} is none of them")]
    BadCharacter {
        /// The first character that is not allowed.
        character: char,
        /// Its position in bytes.
        position: usize,
    },
}

impl ReaderGroupName {
    /// The longest name, in bytes: a cursor's name is made of it, and is bounded.
    pub const MAX_BYTES: usize = 200;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A number that is the same wherever and whenever it is asked for: FNV-1a
    /// of the name, 64 bits.
    pub fn stable_hash(&self) -> u64 {
        self.0.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }
}

impl FromStr for ReaderGroupName {
    type Err = ReaderGroupNameError;

    fn from_str(text: &str) -> Result<Self, ReaderGroupNameError> {
        if text.len() > Self::MAX_BYTES {
            return Err(ReaderGroupNameError::TooLong { bytes: text.len() });
        }
        // The same characters as a log's name.
        match text.parse::<LogName>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(LogNameError::Empty) => Err(ReaderGroupNameError::Empty),
            Err(LogNameError::TooLong { bytes }) => Err(ReaderGroupNameError::TooLong { bytes }),
            Err(LogNameError::BadCharacter { character, position }) => {
                Err(ReaderGroupNameError::BadCharacter { character, position })
            }
        }
    }
}

impl fmt::Display for ReaderGroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{ReaderGroupName, ReaderGroupNameError};

    #[test]
    fn names_that_are_refused_say_why() {
        let check = |text: &str, expect: ReaderGroupNameError| {
            assert_eq!(text.parse::<ReaderGroupName>(), Err(expect), "{text:?}");
        };
        check("", ReaderGroupNameError::Empty);
        check(&"x".repeat(201), ReaderGroupNameError::TooLong { bytes: 201 });
        check("a*", ReaderGroupNameError::BadCharacter { character: '*', position: 1 });
        "x".repeat(200).parse::<ReaderGroupName>().expect("a name");
    }

    #[test]
    fn the_hash_of_a_name_never_changes() {
        // Reader groups are found by it: as published for FNV-1a.
        for (name, hash) in [("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)] {
            assert_eq!(name.parse::<ReaderGroupName>().expect("a name").stable_hash(), hash, "{name}");
        }
    }
}
