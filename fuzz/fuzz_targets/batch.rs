//! See `quipu_fuzz::batch`.
#![no_main]

use quipu_fuzz::{batch, begin};

libfuzzer_sys::fuzz_target!(init: begin(batch::seeds), |input: &[u8]| batch::run(input));
