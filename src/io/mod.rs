//! The edges: what waits for the outside. The only part of the crate that opens connections; it decides nothing about entries.
//!
//! - [`store`] is a tier behind the memory that other processes share.
//! - [`inbox`] carries answers to a thread that sleeps on a file descriptor.
//! - `alarm` waits for a moment of a clock.
//! - `runtime` is the one thread on which its connections live, and `process` what each process has to have of its own.

#[cfg(feature = "tokio")]
pub(crate) mod alarm;
#[cfg(unix)]
pub mod inbox;
#[cfg(feature = "tokio")]
pub mod process;
#[cfg(feature = "redis")]
pub mod runtime;
pub mod store;
