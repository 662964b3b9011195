//! See `quipu_fuzz::recovery`.
#![no_main]

use quipu_fuzz::{begin, recovery};

libfuzzer_sys::fuzz_target!(init: begin(recovery::seeds), |input: &[u8]| recovery::run(input));
