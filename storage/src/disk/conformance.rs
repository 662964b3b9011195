//! What every [`Disk`](super::Disk) has to hold; run by each implementation's
//! tests.
