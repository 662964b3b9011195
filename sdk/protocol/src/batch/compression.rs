//! Records compressed as one piece, within bounds.

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One LZ4 frame: fast, modest.
    Lz4,
    /// One Zstandard frame: slower, denser.
    Zstd,
}
