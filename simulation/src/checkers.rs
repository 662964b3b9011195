//! Judges of a run, by what its clients saw and what its replicas hold in the
//! end.
//!
//! Pure: they know nothing of the cluster, read no clock and draw nothing, so
//! that a history that was kept can be judged again.

pub mod linearizable;

#[cfg(test)]
mod tests;
