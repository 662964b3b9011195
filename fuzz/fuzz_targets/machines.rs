//! See `quipu_fuzz::machines`.
#![no_main]

use quipu_fuzz::{begin, machines};

libfuzzer_sys::fuzz_target!(init: begin(machines::seeds), |input: &[u8]| machines::run(input));
