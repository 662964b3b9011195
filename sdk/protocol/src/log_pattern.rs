//! A pattern of log names: `*` stands for any characters, `?` for one.

use std::fmt;
use std::str::FromStr;

use crate::{LogName, LogNameError};

/// A checked pattern: as a log's name, with `*` and `?` as well. A `*` stands
/// for no characters, one or more, `/` among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPattern(String);

impl LogPattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What every name that matches begins with.
    pub fn prefix(&self) -> &str {
        let end = self.0.find(['*', '?']).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// Whether `name` matches, the whole of it.
    pub fn matches(&self, name: &LogName) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_str().as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where to go on when what follows the last star does not match: the
        // star takes one character more.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p + 1, n));
                    p += 1;
                }
                Some(&wanted) if wanted == b'?' || wanted == name[n] => (p, n) = (p + 1, n + 1),
                _ => {
                    let Some((after, taken)) = star else { return false };
                    star = Some((after, taken + 1));
                    (p, n) = (after, taken + 1);
                }
            }
        }
        pattern[p..].iter().all(|rest| *rest == b'*')
    }
}

/// Matches the log of that name alone.
impl From<&LogName> for LogPattern {
    fn from(name: &LogName) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl FromStr for LogPattern {
    type Err = LogNameError;

    fn from_str(text: &str) -> Result<Self, LogNameError> {
        // Of the same length, and every other character is a name's.
        text.replace(['*', '?'], "-").parse::<LogName>()?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LogPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<LogPattern>().expect("a pattern").matches(&name.parse().expect("a name"))
    }

    #[test]
    fn a_star_stands_for_any_characters_and_a_question_mark_for_one() {
        for (pattern, name) in [
            ("orders", "orders"),
            ("*", "a/b/c"),
            ("orders/*", "orders/eu/1"),
            ("orders/*", "orders/"),
            ("*/eu-?", "orders/eu-1"),
            ("a*b*c", "a-b-b-c"),
            ("a**c", "ac"),
            ("*ab", "aab"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("orders", "orders/1"),
            ("orders/*", "orders"),
            ("?", "ab"),
            ("a?c", "ac"),
            ("a*b", "abc"),
            ("*b", "a"),
            ("Orders", "orders"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_no_name_could_have_is_refused() {
        for text in ["", "a b", "[ab]", "é*", &"*".repeat(256)] {
            text.parse::<LogPattern>().expect_err(text);
        }
        assert_eq!("orders/*/x".parse::<LogPattern>().expect("a pattern").prefix(), "orders/");
    }

    /// By trying everything, on strings that are short enough for it.
    fn by_trying(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], name) => name.is_empty(),
            ([b'*', rest @ ..], name) => (0..=name.len()).any(|taken| by_trying(rest, &name[taken..])),
            ([b'?', rest @ ..], [_, name @ ..]) => by_trying(rest, name),
            ([one, rest @ ..], [other, name @ ..]) => one == other && by_trying(rest, name),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn a_match_is_what_trying_everything_finds(pattern in "[ab*?]{1,8}", name in "[ab]{1,8}") {
            let found = matches(&pattern, &name);
            prop_assert_eq!(found, by_trying(pattern.as_bytes(), name.as_bytes()), "{} {}", pattern, name);
            if found {
                prop_assert!(name.starts_with(pattern.parse::<LogPattern>().expect("a pattern").prefix()));
            }
        }
    }
}
