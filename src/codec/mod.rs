//! Entries that travel: values to bytes and back.
//!
//! Bytes in, bytes out: no I/O, no clock, no Python. What is read here was written by somebody else, so nothing panics on it, and
//! nothing is allocated that the bytes at hand do not account for.

pub mod msgpack;
pub mod serializer;
pub mod values;
