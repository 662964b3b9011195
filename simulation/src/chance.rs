//! Randomness of the process that no environment passes in: the keys of hash
//! maps, above all, whose order of iteration shows in libraries.
//!
//! The standard library takes them from the C library's `getrandom`; this is
//! another one, which gives every call the same numbers, so that it does not
//! matter which thread asks first. So a run repeats whatever maps its libraries
//! iterate over.
#![allow(unsafe_code, reason = "a symbol of the C library is replaced")]

/// Fills `length` bytes at `buffer` with numbers that are always the same (SplitMix64, by Steele, Lea and Flood).
///
/// # Safety
/// As the C library's: `buffer` is writable for `length` bytes.
// SAFETY: the symbol replaces the C library's function of the same name, with
// its signature and its contract: all of the buffer is filled.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    for at in 0..length {
        let mut mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // SAFETY: `at` lies within the buffer, which the caller vouches for.
        unsafe { buffer.add(at).write(mixed.to_le_bytes()[7]) };
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
