//! What reaches a run from outside without passing through its environment:
//! the C library's randomness and its clocks.
//!
//! Hash maps of libraries take their keys from `getrandom`, and the order in
//! which they are iterated over shows. Runtimes with a paused clock start it at
//! the real one, and what is left of a millisecond decides which of two timers
//! ends first. Both functions are replaced here, for the whole program: the
//! numbers are always the same, and the clocks stand still for the thread that
//! carries a run out.
#![allow(unsafe_code, reason = "symbols of the C library are replaced")]

use std::cell::Cell;
use std::ffi::c_int;

use libc::{CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, clockid_t, size_t, ssize_t, timespec};

thread_local! {
    static STANDS_STILL: Cell<bool> = const { Cell::new(false) };
}

/// What a stopped clock shows: some time long after anything that is
/// subtracted from it.
const SHOWN: timespec = timespec { tv_sec: 1_767_225_600, tv_nsec: 0 };

/// Clocks stand still for this thread until this is dropped.
pub(crate) struct StoppedClocks(());

/// Stops the clocks for this thread; those of processor time go on.
pub(crate) fn stop_clocks() -> StoppedClocks {
    STANDS_STILL.set(true);
    StoppedClocks(())
}

impl Drop for StoppedClocks {
    fn drop(&mut self) {
        STANDS_STILL.set(false);
    }
}

/// Fills `length` bytes at `buffer` with numbers that are always the same,
/// whoever asks first (SplitMix64, by Steele, Lea and Flood).
///
/// # Safety
/// As the C library's: `buffer` is writable for `length` bytes.
// SAFETY: the symbol replaces the C library's function of the same name, with
// its signature and its contract: all of the buffer is filled.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: size_t, _flags: u32) -> ssize_t {
    for at in 0..length {
        let mut mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // SAFETY: `at` lies within the buffer, which the caller vouches for.
        unsafe { buffer.add(at).write(mixed.to_le_bytes()[7]) };
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// Reads a clock, or what it shows while it is stopped.
///
/// # Safety
/// As the C library's: `time` is writable.
// SAFETY: the symbol replaces the C library's function of the same name, with
// its signature and its contract: what it cannot answer the kernel does.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let tells_time = matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME);
    // A thread that ends has no such variable any more, and no run either.
    if tells_time && STANDS_STILL.try_with(Cell::get).unwrap_or(false) {
        // SAFETY: the caller vouches for `time`.
        unsafe { time.write(SHOWN) };
        return 0;
    }
    // SAFETY: the system call has the same contract.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    c_int::try_from(result).unwrap_or(-1)
}
