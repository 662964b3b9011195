//! See `quipu_fuzz::peers`.
#![no_main]

use quipu_fuzz::{begin, peers};

libfuzzer_sys::fuzz_target!(init: begin(peers::seeds), |input: &[u8]| peers::run(input));
