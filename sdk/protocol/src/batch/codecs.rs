//! Which codecs a log takes.

use std::fmt;
use std::str::FromStr;

use super::{Compression, UnknownCompression};

/// A set of codecs. The default takes any, those of later versions too.
///
/// As text it is `any`, or names with commas between them: `none,lz4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Codecs(u32);

impl Codecs {
    /// Any codec.
    pub const ANY: Self = Self(0);

    /// Every bit that means a codec.
    const KNOWN: u32 = (1 << Compression::ALL.len()) - 1;

    /// The set that `bits` say: bit n for the codec that has number n in a
    /// batch's attributes; no bit for any codec. `None` when a bit means none.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !Self::KNOWN == 0 { Some(Self(bits)) } else { None }
    }

    /// See [`from_bits`](Self::from_bits).
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every codec is taken.
    pub const fn is_any(self) -> bool {
        self.0 == 0
    }

    /// Whether batches with this codec are taken.
    pub const fn contains(self, codec: Compression) -> bool {
        self.is_any() || self.0 & Self::bit(codec) != 0
    }

    const fn bit(codec: Compression) -> u32 {
        1 << codec.code()
    }
}

impl FromIterator<Compression> for Codecs {
    fn from_iter<I: IntoIterator<Item = Compression>>(codecs: I) -> Self {
        Self(codecs.into_iter().fold(0, |bits, codec| bits | Self::bit(codec)))
    }
}

impl fmt::Display for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("any");
        }
        let names: Vec<&str> =
            Compression::ALL.into_iter().filter(|codec| self.contains(*codec)).map(Compression::as_str).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Codecs {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, UnknownCompression> {
        if text == "any" {
            return Ok(Self::ANY);
        }
        text.split(',').map(str::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_as_it_is_written() {
        for text in ["any", "none", "lz4,zstd", "none,gzip,snappy,lz4,zstd"] {
            assert_eq!(text.parse::<Codecs>().expect("a set").to_string(), text);
        }
        for text in ["", "all", "lz4,", "lz4 zstd", "any,lz4"] {
            text.parse::<Codecs>().expect_err(text);
        }
    }

    #[test]
    fn a_set_takes_what_it_names_and_no_set_takes_all() {
        let some: Codecs = "none,zstd".parse().expect("a set");
        let taken: Vec<Compression> = Compression::ALL.into_iter().filter(|codec| some.contains(*codec)).collect();
        assert_eq!(taken, [Compression::None, Compression::Zstd]);
        assert!(Compression::ALL.into_iter().all(|codec| Codecs::ANY.contains(codec)));
        assert_eq!(Codecs::from_bits(some.bits()), Some(some));
        assert_eq!(Codecs::from_bits(1 << 5), None);
    }
}
