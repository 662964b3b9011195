//! See `quipu_fuzz::config`.
#![no_main]

use quipu_fuzz::{begin, config};

libfuzzer_sys::fuzz_target!(init: begin(config::seeds), |input: &[u8]| config::run(input));
