//! Variable-length numbers, zigzag: seven bits a byte, lowest first, the sign
//! in the lowest bit, so that small numbers of either sign are short.

use bytes::BytesMut;

use super::RecordFault;

/// The longest encoding, in bytes.
const MAX_BYTES: usize = 10;

/// How many bytes `value` takes.
pub(super) const fn length(value: i64) -> usize {
    (zigzag(value) | 1).ilog2() as usize / 7 + 1
}

/// Appends `value` to `buffer`.
pub(super) fn put(buffer: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    let mut encoded = [0; MAX_BYTES];
    let mut bytes = 0;
    loop {
        encoded[bytes] = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            break;
        }
        encoded[bytes] |= 0x80;
        bytes += 1;
    }
    buffer.extend_from_slice(&encoded[..=bytes]);
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Reads numbers and pieces off the front of a slice; never past its end.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, RecordFault> {
        let byte = *self.bytes.get(self.at).ok_or(RecordFault::CutOff)?;
        self.at += 1;
        Ok(byte)
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], RecordFault> {
        let taken = self.bytes[self.at..].get(..length).ok_or(RecordFault::CutOff)?;
        self.at += length;
        Ok(taken)
    }

    /// A number of up to 64 bits.
    pub(super) fn long(&mut self) -> Result<i64, RecordFault> {
        let mut value = 0_u64;
        for position in 0..MAX_BYTES {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if position == MAX_BYTES - 1 && bits > 1 {
                return Err(RecordFault::Number);
            }
            value |= bits << (7 * position);
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(RecordFault::Number)
    }

    /// A number of up to 32 bits.
    pub(super) fn int(&mut self) -> Result<i32, RecordFault> {
        i32::try_from(self.long()?).map_err(|_| RecordFault::Number)
    }

    /// A length or a count.
    pub(super) fn length(&mut self) -> Result<usize, RecordFault> {
        usize::try_from(self.int()?).map_err(|_| RecordFault::Negative)
    }

    /// A length or −1 for none, and then so many bytes.
    pub(super) fn piece(&mut self) -> Result<Option<&'a [u8]>, RecordFault> {
        match self.int()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| RecordFault::Negative)?).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::{Cursor, RecordFault, length, put};

    #[test]
    fn numbers_are_encoded_as_the_format_says() {
        let check = |value: i64, expect: &[u8]| {
            let mut buffer = BytesMut::new();
            put(&mut buffer, value);
            assert_eq!(&buffer[..], expect, "{value}");
        };
        check(0, &[0]);
        check(-1, &[1]);
        check(1, &[2]);
        check(-64, &[0x7f]);
        check(64, &[0x80, 0x01]);
        check(i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn numbers_that_are_too_long_are_refused() {
        let eleven = [0xff; 11];
        assert_eq!(Cursor::new(&eleven, 0).long(), Err(RecordFault::Number));
        let mut overflowing = [0xff; 10];
        overflowing[9] = 2;
        assert_eq!(Cursor::new(&overflowing, 0).long(), Err(RecordFault::Number));
        // 2³¹, which a 32-bit number cannot be.
        let wide = [0x80, 0x80, 0x80, 0x80, 0x10];
        assert_eq!(Cursor::new(&wide, 0).long(), Ok(1 << 31));
        assert_eq!(Cursor::new(&wide, 0).int(), Err(RecordFault::Number));
        assert_eq!(Cursor::new(&[0x80], 0).long(), Err(RecordFault::CutOff));
    }

    proptest! {
        #[test]
        fn every_number_comes_back_in_the_length_that_was_foretold(value: i64) {
            let mut buffer = BytesMut::new();
            put(&mut buffer, value);
            prop_assert_eq!(buffer.len(), length(value));
            let mut cursor = Cursor::new(&buffer, 0);
            prop_assert_eq!(cursor.long(), Ok(value));
            prop_assert_eq!(cursor.left(), 0);
        }
    }
}
