//! Variable-length numbers.
