//! Memory comes back though nobody touches the cache. One test at a time: they share the sweeper of the process, and
//! the one that wakes it would hide that another does not.
#![cfg(feature = "tokio")]

use samovar::{Cache, Clock, Policy, minutes, work};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const TTL: Duration = minutes(5);
const PANICKING: u64 = 13;
const SHARDS: [usize; 2] = [1, 8];

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells when it is dropped, and panics at it if it is number 13.
#[derive(Clone)]
struct Telling(Sender<u64>, u64);

impl Drop for Telling {
    fn drop(&mut self) {
        // The listener may have heard enough.
        let _ = self.0.send(self.1);
        if self.1 == PANICKING {
            // Unwinds without the panic hook's print.
            std::panic::resume_unwind(Box::new("a destructor that panics"));
        }
    }
}

fn cache(clock: &Clock, shards: usize) -> Cache<u64, Telling> {
    Cache::builder().max_entries(10_000).shards(shards).clock(clock.clone()).build()
}

/// The next `count` numbers dropped, in order of number; a minute without one is a failure.
fn freed(from: &Receiver<u64>, count: usize) -> Vec<u64> {
    let next = |_| from.recv_timeout(Duration::from_secs(60)).expect("it should have been freed by now");
    let mut freed: Vec<u64> = (0..count).map(next).collect();
    freed.sort_unstable();
    freed
}

#[test]
fn expired_entries_are_freed_and_one_that_panics_at_it_stops_nobody() {
    let _alone = alone();
    SHARDS.into_iter().for_each(free_expired);
}

fn free_expired(shards: usize) {
    let clock = Clock::system();
    clock.freeze();
    let cache = cache(&clock, shards);
    let (sender, receiver) = channel();
    for key in 0..5_000 {
        cache.insert(key, Telling(sender.clone(), key), Policy::ttl(TTL));
    }
    cache.insert(5_000, Telling(sender.clone(), 5_000), Policy::forever());
    clock.advance(TTL + Duration::from_secs(1));
    // Nothing tells a thread that rests on the system's time that a frozen clock was moved.
    work::wake();
    assert_eq!(freed(&receiver, 5_000), (0..5_000).collect::<Vec<u64>>());
    assert_eq!((cache.len(), cache.stats().expired), (1, 5_000));
    cache.validate().unwrap();
}

#[test]
fn the_sweeper_comes_by_itself_for_what_was_inserted_or_loaded() {
    let _alone = alone();
    let cache = cache(&Clock::system(), 1);
    let (sender, receiver) = channel();
    let moment = Policy::ttl(Duration::from_millis(1));
    cache.insert(1, Telling(sender.clone(), 1), moment);
    assert_eq!(freed(&receiver, 1), [1]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let load = |_| async { Ok::<_, std::convert::Infallible>(Telling(sender, 2)) };
    let loaded = runtime.block_on(cache.get_or_load(&2, moment, load)).unwrap();
    drop(loaded);
    assert_eq!(freed(&receiver, 2), [2, 2], "the caller's copy and the cache's");
    assert!(cache.is_empty());
}

#[test]
fn what_clear_forgot_is_freed_and_has_not_expired() {
    let _alone = alone();
    SHARDS.into_iter().for_each(free_cleared);
}

fn free_cleared(shards: usize) {
    let cache = cache(&Clock::system(), shards);
    let (sender, receiver) = channel();
    for key in 100..3_000 {
        cache.insert(key, Telling(sender.clone(), key), Policy::forever());
    }
    cache.clear();
    assert_eq!(freed(&receiver, 2_900), (100..3_000).collect::<Vec<u64>>());
    assert_eq!(cache.stats().expired, 0);
    cache.validate().unwrap();
}
