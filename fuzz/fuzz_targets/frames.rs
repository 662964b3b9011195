//! See `quipu_fuzz::frames`.
#![no_main]

use quipu_fuzz::{begin, frames};

libfuzzer_sys::fuzz_target!(init: begin(frames::seeds), |input: &[u8]| frames::run(input));
