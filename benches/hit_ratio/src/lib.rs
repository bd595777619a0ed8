//! Replays request traces through caches and counts hits: ours, the best possible one, and the peers from Rust.
//!
//! The rule is one for all: `get`, and on a miss `insert`. A trace is real requests (`data/README.md`), a bound is a
//! number of entries or of bytes. This measures hit ratio and nothing else: no time, no memory. It prints counts;
//! tables and the picture are made in Python, where the peers from Python are replayed too.

pub mod columns;
pub mod opt;
pub mod ours;
pub mod peers;
pub mod replay;
pub mod trace;
