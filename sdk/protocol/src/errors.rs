//! Errors on the wire.
