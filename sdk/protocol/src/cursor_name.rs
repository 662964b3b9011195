//! A cursor's name: 1 to 255 bytes of UTF-8 without control characters.

use std::fmt;
use std::str::FromStr;

/// A checked name of a cursor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorName(String);

/// Why a text is no name of a cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorNameError {
    /// The name has no character.
    #[error("a cursor's name has 1 to {} bytes; this one is empty", CursorName::MAX_BYTES)]
    Empty,
    /// The name is too long.
    #[error("a cursor's name has at most {} bytes; this one has {bytes}", CursorName::MAX_BYTES)]
    TooLong {
        /// The name's length in bytes.
        bytes: usize,
    },
    /// A character is not allowed.
    #[error("a cursor's name has no control characters; there is {character:?} at byte {position}")]
    Control {
        /// The first character that is not allowed.
        character: char,
        /// Its position in bytes.
        position: usize,
    },
}

impl CursorName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CursorName {
    type Err = CursorNameError;

    fn from_str(text: &str) -> Result<Self, CursorNameError> {
        if text.is_empty() {
            return Err(CursorNameError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(CursorNameError::TooLong { bytes: text.len() });
        }
        match text.char_indices().find(|(_, character)| character.is_control()) {
            Some((position, character)) => Err(CursorNameError::Control { character, position }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for CursorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{CursorName, CursorNameError};

    #[test]
    fn names_that_are_refused_say_why() {
        let check = |text: &str, expect: CursorNameError| assert_eq!(text.parse::<CursorName>(), Err(expect));
        check("", CursorNameError::Empty);
        check(&"x".repeat(256), CursorNameError::TooLong { bytes: 256 });
        check("a\nb", CursorNameError::Control { character: '\n', position: 1 });
        check("é\u{85}", CursorNameError::Control { character: '\u{85}', position: 2 });
    }

    #[test]
    fn names_up_to_the_bound_are_taken() {
        for text in ["a", "billing (eu)", "счёт", &"x".repeat(255)] {
            assert_eq!(text.parse::<CursorName>().expect("a name").as_str(), text);
        }
    }
}
