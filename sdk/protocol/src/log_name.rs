//! A log's name: 1 to 255 bytes of `A-Z a-z 0-9 . _ / -`.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// A checked log name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName(String);

/// Why a text is no log name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogNameError {
    /// The name has no character.
    #[error("a log name has 1 to {} bytes; this one is empty", LogName::MAX_BYTES)]
    Empty,
    /// The name is too long.
    #[error("a log name has at most {} bytes; this one has {bytes}", LogName::MAX_BYTES)]
    TooLong {
        /// The name's length in bytes.
        bytes: usize,
    },
    /// A character is not allowed.
    #[error("a log name is made of A-Z a-z 0-9 . _ / -; {character:?} at byte {position} is none of them")]
    BadCharacter {
        /// The first character that is not allowed.
        character: char,
        /// Its position in bytes.
        position: usize,
    },
}

impl LogName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Ordered as its text is.
impl Borrow<str> for LogName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogName {
    type Err = LogNameError;

    fn from_str(text: &str) -> Result<Self, LogNameError> {
        if text.is_empty() {
            return Err(LogNameError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(LogNameError::TooLong { bytes: text.len() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
        match text.char_indices().find(|&(_, c)| !allowed(c)) {
            Some((position, character)) => Err(LogNameError::BadCharacter { character, position }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{LogName, LogNameError};

    #[test]
    fn names_that_are_refused_say_why() {
        let check = |text: &str, expect: LogNameError| assert_eq!(text.parse::<LogName>(), Err(expect), "{text:?}");
        check("", LogNameError::Empty);
        check(&"x".repeat(256), LogNameError::TooLong { bytes: 256 });
        check("or ders", LogNameError::BadCharacter { character: ' ', position: 2 });
        check("é", LogNameError::BadCharacter { character: 'é', position: 0 });
        check("a\0", LogNameError::BadCharacter { character: '\0', position: 1 });
    }

    #[test]
    fn names_up_to_the_bound_are_taken() {
        for text in ["a", "orders/eu-1.v2_x", &"x".repeat(255)] {
            assert_eq!(text.parse::<LogName>().expect("a name").as_str(), text);
        }
    }
}
