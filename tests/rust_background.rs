//! The budget for what runs behind: how many refreshes run at once, and who goes without. The names are those of
//! `test_background.py`.
#![cfg(feature = "tokio")]

mod origin;

use origin::{FRESH, HOUR, MINUTE, SECOND, turns};
use samovar::{Background, Cache, Clock, LoadContext, Policy, Would};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

/// Stale for an hour after the first minute.
const STALE: Policy = Policy { stale_while_revalidate: HOUR, ..FRESH };

/// Loads that are held while the gate has no permits, and how many run.
#[derive(Clone)]
struct Busy {
    gate: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl Busy {
    fn open() -> Self {
        Busy { gate: Arc::new(Semaphore::new(1_000)), running: Arc::default(), calls: Arc::default() }
    }

    fn close(&self) {
        self.gate.forget_permits(1_000_000);
    }

    fn running(&self) -> usize {
        self.running.load(Relaxed)
    }

    async fn load(self) -> Result<usize, Infallible> {
        let call = self.calls.fetch_add(1, Relaxed);
        self.running.fetch_add(1, Relaxed);
        drop(self.gate.acquire().await);
        self.running.fetch_sub(1, Relaxed);
        Ok(call)
    }
}

struct World {
    clock: Clock,
    background: Background,
    cache: Cache<usize, usize>,
    origin: Busy,
}

impl World {
    /// So many stale values, and loads that are held.
    async fn stale(loads: u32, keys: usize) -> World {
        let (clock, background) = (Clock::system(), Background::new(loads));
        clock.freeze();
        let cache = Cache::builder().clock(clock.clone()).background(&background).build();
        let world = World { clock, background, cache, origin: Busy::open() };
        for key in 0..keys {
            world.ask(key, STALE).await;
        }
        world.clock.advance(MINUTE);
        world.origin.close();
        world
    }

    async fn ask(&self, key: usize, policy: Policy) -> usize {
        let origin = self.origin.clone();
        self.cache.get_or_load(&key, policy, move |_: LoadContext| origin.load()).await.unwrap()
    }

    async fn hits(&self, keys: usize) {
        for key in 0..keys {
            assert_eq!(self.ask(key, STALE).await, key);
        }
        turns().await;
    }
}

#[tokio::test]
async fn of_many_stale_keys_as_many_are_loaded_at_once_as_there_is_room_and_in_the_end_all() {
    let world = World::stale(4, 200).await;
    world.hits(200).await;
    assert_eq!((world.origin.running(), world.background.running()), (4, 4));
    assert_eq!(world.cache.explain(&199, &STALE).would, Would::AnswerAndRefreshLater);
    world.clock.advance(SECOND);
    world.hits(200).await;
    assert_eq!(world.origin.running(), 4);
    world.origin.gate.add_permits(1_000);
    turns().await;
    assert_eq!(world.cache.explain(&199, &STALE).would, Would::AnswerAndRefresh);
    for _ in 0..49 {
        world.clock.advance(SECOND);
        for key in 0..200 {
            world.ask(key, STALE).await;
        }
        turns().await;
    }
    assert_eq!((world.origin.calls.load(Relaxed), world.background.running()), (400, 0));
    for key in 0..200 {
        assert!(world.ask(key, STALE).await >= 200, "{key} was loaded anew");
    }
    assert_eq!(world.cache.stats().misses, 200);
}

#[tokio::test]
async fn a_dead_value_is_loaded_by_its_caller_whatever_runs_behind() {
    let world = World::stale(1, 1).await;
    world.hits(1).await;
    let asking = world.ask(7, STALE);
    tokio::pin!(asking);
    let held = tokio::select! { biased; _ = &mut asking => false, () = turns() => true };
    assert!(held);
    assert_eq!((world.origin.running(), world.background.running()), (2, 1));
    world.origin.gate.add_permits(1_000);
    asking.await;
}

#[tokio::test]
async fn ids_that_are_loaded_in_one_call_need_room_for_one() {
    let world = World::stale(1, 50).await;
    let calls = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let (origin, counted) = (world.origin.clone(), Arc::clone(&calls));
        let load = move |_: LoadContext, keys: Vec<usize>| {
            counted.fetch_add(1, Relaxed);
            let origin = origin.clone();
            async move { origin.load().await.map(|_| keys.iter().map(|&key| (key, key + 100)).collect()) }
        };
        let found: HashMap<usize, usize> = world.cache.get_or_load_many(0..50, STALE, load).await.unwrap();
        assert!((0..50).all(|key| found[&key] == key));
        turns().await;
        assert_eq!((world.background.running(), calls.load(Relaxed)), (1, 1));
    }
    world.origin.gate.add_permits(1_000);
    turns().await;
    assert_eq!((world.background.running(), world.cache.get(&49)), (0, Some(149)));
}

#[tokio::test]
async fn room_comes_back_however_a_load_ends() {
    let world = World::stale(4, 4).await;
    world.hits(4).await;
    world.cache.invalidate(&0);
    world.cache.clear();
    assert_eq!(world.background.running(), 4, "they go on, for nobody");
    world.origin.gate.add_permits(1_000);
    turns().await;
    assert_eq!(world.background.running(), 0);
    let failing = |_: LoadContext| async { Err::<usize, _>("down") };
    let panics = |_: LoadContext| async { if true { panic!("at once") } else { Ok::<usize, &str>(1) } };
    for key in 0..2 {
        world.ask(key, STALE).await;
    }
    world.clock.advance(MINUTE);
    world.cache.get_or_load(&0, STALE, failing).await.unwrap();
    world.cache.get_or_load(&1, STALE, panics).await.unwrap();
    assert_eq!(world.background.running(), 2);
    turns().await;
    assert_eq!(world.background.running(), 0);
}

#[test]
fn a_loop_that_ends_with_refreshes_running_gives_their_room_back() {
    let runtime = || Builder::new_current_thread().build().unwrap();
    let gone = runtime();
    let world = gone.block_on(async {
        let world = World::stale(4, 8).await;
        world.hits(4).await;
        assert_eq!(world.background.running(), 4);
        world
    });
    drop(gone);
    assert_eq!(world.background.running(), 0);
    runtime().block_on(async {
        world.hits(8).await;
        assert_eq!(world.background.running(), 4);
    });
}

#[tokio::test]
async fn the_number_changes_while_loads_run() {
    let world = World::stale(2, 10).await;
    for (loads, running) in [(2, 2), (5, 5), (1, 5)] {
        world.background.resize(loads);
        world.clock.advance(SECOND);
        world.hits(10).await;
        assert_eq!((world.background.loads(), world.origin.running()), (loads, running));
    }
}

#[tokio::test]
async fn who_says_nothing_has_the_budget_of_the_process() {
    let process = Background::default();
    assert_eq!((process.loads(), Background::new(0).loads()), (64, 1));
    let (clock, origin) = (Clock::system(), Busy::open());
    clock.freeze();
    let cache: Cache<usize, usize> = Cache::builder().clock(clock.clone()).build();
    let world = World { clock, background: process.clone(), cache, origin };
    world.ask(0, STALE).await;
    world.clock.advance(MINUTE);
    world.origin.close();
    world.hits(1).await;
    assert_eq!(process.running(), 1);
    world.origin.gate.add_permits(1_000);
    turns().await;
    assert_eq!(process.running(), 0);
}
