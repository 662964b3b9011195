//! See `quipu_fuzz::files`.
#![no_main]

use quipu_fuzz::{begin, files};

libfuzzer_sys::fuzz_target!(init: begin(files::seeds), |input: &[u8]| files::run(input));
