//! What every [`Kv`](super::Kv) has to hold; run by each implementation's
//! tests.
