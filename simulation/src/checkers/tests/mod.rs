//! The judges judged.

mod engine;
