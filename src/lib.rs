//! Samovar keeps data hot: a cache for Rust and, through the feature `python`, for asyncio.
//!
//! The map of the crate. Arrows point one way: `python → cache, work → io → codec → core`.
//! - [`core`] decides and holds: entries, expiry, eviction, keys, single flight. No I/O, no clock of its own, no Python.
//! - [`codec`] turns values into bytes that leave the process, and back: the frame, compression, sealing.
//! - [`cache`] is the Rust face: [`Cache`], which drives the single-flight machine on tokio.
//! - [`io`] is the edges: the stores behind the memory, and the thread their connections live on.
//! - [`work`] owns the one background thread of a process, the sweeper.
//! - `python` is the extension module `samovar._core`, the only folder that names PyO3.
//!
#![cfg_attr(feature = "tokio", doc = "```")]
#![cfg_attr(not(feature = "tokio"), doc = "```ignore")]
//! use samovar::{Cache, Memory, Policy, minutes};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let cache: Cache<String, u64> = Cache::builder().name("app").memory(Memory::entries(10_000)).build();
//! let policy = Policy::ttl(minutes(5));
//! let answer = cache.get_or_load("six by seven", policy, |_| async { Ok::<_, std::io::Error>(42) }).await;
//! assert_eq!(answer.unwrap(), 42);
//! # });
//! ```
//!
//! [`remote`](CacheBuilder::remote) puts a store behind the memory that other processes share, such as `Redis`: what is there is
//! not loaded again, from Rust or from Python.
//!
//! A [`Policy`] says what a value is good for before and after the end of its ttl, so that neither a slow origin nor one that is
//! down is seen by callers. Tests own the time:
//!
#![cfg_attr(feature = "tokio", doc = "```")]
#![cfg_attr(not(feature = "tokio"), doc = "```ignore")]
//! use samovar::{Cache, Clock, Policy, minutes};
//! use std::io;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let clock = Clock::system();
//! clock.freeze();
//! let cache: Cache<String, u64> = Cache::builder().clock(clock.clone()).build();
//! let policy = Policy { stale_if_error: minutes(60), ..Policy::ttl(minutes(5)) };
//! cache.insert("six by seven".into(), 42, policy);
//! clock.advance(minutes(30));
//! let answer = cache.get_or_load("six by seven", policy, |_| async { Err(io::Error::other("down")) }).await;
//! assert_eq!(answer.unwrap(), 42);
//! # });
//! ```

#[cfg(feature = "tokio")]
pub mod cache;
pub mod codec;
pub mod core;
pub mod error;
pub mod io;
#[cfg(feature = "python")]
mod python;
pub mod work;

#[cfg(feature = "tokio")]
pub use cache::{
    Background, BusStats, Cache, CacheBuilder, Entry, Insight, LoadContext, LoadFailed, Memory, OnError, Remote,
    minutes,
};
pub use core::clock::Clock;
pub use core::flight::{Explanation, Standing, Would};
pub use core::memory::{Eviction, Reason};
pub use core::policy::{OnRefreshError, Policy};
pub use core::remote::Sharing;
pub use core::remote::write::Outcome;
pub use core::stats::Stats;
pub use error::{Error, Result, StoreError, StoreFailure};
#[cfg(feature = "redis")]
pub use io::store::redis::{Redis, RedisOptions};
