//! A cache with a store behind its memory, and two of them over one store, as two processes are. Time stands still unless a
//! test moves it.
#![cfg(all(feature = "tokio", feature = "json"))]

mod bus;
mod frames;
mod loads;
mod outages;
mod seeded;
mod wire;
mod writes;

use samovar::{Cache, Clock, LoadFailed, Policy, Remote, minutes};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use wire::Wire;

const TTL: Policy = Policy::ttl(minutes(5));
/// Old values are good for an hour more, if a load fails.
const KEPT: Policy = Policy { stale_if_error: minutes(60), ..TTL };
const SECOND: Duration = Duration::from_secs(1);

type Names = Cache<String, u64>;

/// A store, and two processes that share it.
struct World {
    clock: Clock,
    wire: Arc<Wire>,
    here: Names,
    there: Names,
}

impl World {
    fn new() -> Self {
        Self::with(|remote| remote)
    }

    fn with(option: impl Fn(Remote) -> Remote) -> Self {
        let clock = Clock::system();
        clock.freeze();
        let wire = Wire::new(clock.clone());
        let cache = || process(&clock, option(Remote::over(Arc::clone(&wire))));
        World { here: cache(), there: cache(), clock, wire }
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

fn process(clock: &Clock, remote: Remote) -> Names {
    Cache::builder().name("app").clock(clock.clone()).remote(remote).build()
}

/// Loads a value that is not there.
async fn load(cache: &Names, key: &str, policy: Policy, value: u64) -> u64 {
    cache.get_or_load(key, policy, move |_| async move { Ok::<_, Infallible>(value) }).await.unwrap()
}

/// Asks for a value that nobody is to load.
async fn find(cache: &Names, key: &str, policy: Policy) -> u64 {
    let load = |_| async { unreachable!("the store has it") };
    let found: Result<u64, LoadFailed<Infallible>> = cache.get_or_load(key, policy, load).await;
    found.unwrap()
}

/// Asks for a value whose load fails.
async fn fail(cache: &Names, key: &str, policy: Policy) -> Result<u64, LoadFailed<io::Error>> {
    cache.get_or_load(key, policy, |_| async { Err(io::Error::other("away")) }).await
}

/// Waits for what needs no time.
async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it should have happened by now");
}
