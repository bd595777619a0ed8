//! The pure heart: what is in the cache, how long, under which key, who loads what is missing, how much of that at once, and
//! what is yet to be written.
//!
//! Nothing here does I/O, sleeps, starts a thread or asks for the time (`clock` holds the one exception, and is handed in).
//! Nothing here knows Python: keys and values are type parameters, and whatever leaves the table is handed back to the
//! caller, who drops it after unlocking.

mod broken;
pub mod budget;
pub mod clock;
pub mod coherence;
pub mod draw;
#[cfg(test)]
mod explore;
pub mod flight;
#[cfg(test)]
mod history;
pub mod key;
pub mod memory;
pub mod policy;
pub mod refresher;
pub mod remote;
pub mod resilience;
pub mod stats;
pub mod turns;
pub mod writing;
