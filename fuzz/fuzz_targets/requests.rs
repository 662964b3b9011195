//! See `quipu_fuzz::requests`.
#![no_main]

use quipu_fuzz::{begin, requests};

libfuzzer_sys::fuzz_target!(init: begin(requests::seeds), |input: &[u8]| requests::run(input));
