//! The Redis store against real servers, well and sick. Each file is a subject; [`server`] starts what they need.

mod bad_input;
mod bus;
mod clock;
#[path = "../contract/mod.rs"]
mod contract;
mod failover;
mod faults;
mod promises;
mod proxy;
mod rules;
mod server;
mod together;
mod two_tiers;

use samovar::io::store::Store;
use samovar::{Redis, RedisOptions};
use std::time::Duration;

/// The store at this URL.
fn open(url: &str) -> Redis {
    Redis::open(url).unwrap()
}

/// With a budget that a busy machine does not exceed, where that is not what is tested.
fn patient() -> RedisOptions {
    RedisOptions { timeout: Duration::from_secs(5), ..RedisOptions::default() }
}

fn open_patient(url: &str) -> Redis {
    Redis::with(url, patient()).unwrap()
}

/// The same, as what all stores are.
fn store(redis: &Redis) -> &dyn Store {
    redis
}
