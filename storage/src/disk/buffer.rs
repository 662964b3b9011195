//! Memory that `O_DIRECT` accepts: its address is a multiple of
//! [`ALIGNMENT`], and so is the length of what is read into or written from
//! it.

use std::fmt;
use std::ops::{Deref, DerefMut};

use aligned_vec::{AVec, ConstAlign};

/// What offsets, lengths and addresses are multiples of, in bytes. Fits every
/// logical block size that is in use.
pub const ALIGNMENT: usize = 4096;

/// A growable run of bytes that starts at a multiple of [`ALIGNMENT`].
#[derive(Clone)]
pub struct AlignedBuffer {
    bytes: AVec<u8, ConstAlign<ALIGNMENT>>,
}

impl AlignedBuffer {
    /// An empty buffer; takes no memory yet.
    pub fn new() -> Self {
        Self { bytes: AVec::new(ALIGNMENT) }
    }

    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: AVec::with_capacity(ALIGNMENT, capacity) }
    }

    /// `length` zeros. To be written or read into, `length` has to be a
    /// multiple of [`ALIGNMENT`].
    pub fn zeroed(length: usize) -> Self {
        let mut buffer = Self::with_capacity(length);
        buffer.resize(length);
        buffer
    }

    /// `bytes`, and zeros up to a multiple of [`ALIGNMENT`].
    pub fn padded(bytes: &[u8]) -> Self {
        let mut buffer = Self::with_capacity(bytes.len().next_multiple_of(ALIGNMENT));
        buffer.extend_from_slice(bytes);
        buffer.pad();
        buffer
    }

    /// How many bytes fit without moving.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends `bytes`.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends zeros, or drops bytes from the end, until there are `length`.
    pub fn resize(&mut self, length: usize) {
        self.bytes.resize(length, 0);
    }

    /// Appends zeros up to a multiple of [`ALIGNMENT`].
    pub fn pad(&mut self) {
        self.resize(self.len().next_multiple_of(ALIGNMENT));
    }

    /// Drops all bytes and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Whether the length is one that can be written.
    pub fn is_aligned(&self) -> bool {
        self.len().is_multiple_of(ALIGNMENT)
    }
}

impl Default for AlignedBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT, AlignedBuffer};

    #[test]
    fn bytes_start_at_a_multiple_of_the_alignment_however_the_buffer_grew() {
        let mut grown = AlignedBuffer::new();
        for length in [1, 100, 4096, 70_000] {
            grown.extend_from_slice(&vec![7; length]);
            assert_eq!(grown.as_ptr().addr() % ALIGNMENT, 0);
        }
        assert_eq!(AlignedBuffer::zeroed(3 * ALIGNMENT).as_ptr().addr() % ALIGNMENT, 0);
    }

    #[test]
    fn padding_appends_zeros_up_to_the_alignment_and_no_further() {
        let buffer = AlignedBuffer::padded(&[9; 10]);
        assert_eq!(buffer.len(), ALIGNMENT);
        assert_eq!((&buffer[..10], &buffer[10..]), (&[9; 10][..], &[0; ALIGNMENT - 10][..]));
        assert_eq!(AlignedBuffer::padded(&[9; ALIGNMENT]).len(), ALIGNMENT);
        assert_eq!(AlignedBuffer::padded(&[]).len(), 0);
    }
}
