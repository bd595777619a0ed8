//! One load per key, whoever asks, leaves, fails or invalidates meanwhile. What holds from Python too has the names of
//! `test_flight.py`.
#![cfg(feature = "tokio")]

use samovar::{Cache, Clock, Error, LoadContext, LoadFailed, Policy, Stats, minutes};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Barrier, Semaphore, oneshot};
use tokio::task::{JoinHandle, yield_now};

const TTL: Policy = Policy::ttl(minutes(5));

type Names = Cache<String, u64>;
type Answer<E = Infallible> = Result<u64, LoadFailed<E>>;

fn names() -> Names {
    Cache::builder().name("names").build()
}

/// A door in front of a load: it counts who came, and lets through as many as it is told.
#[derive(Clone)]
struct Door(Arc<(AtomicU64, Semaphore)>);

impl Door {
    fn closed() -> Self {
        Door(Arc::new((AtomicU64::new(0), Semaphore::new(0))))
    }

    fn open(&self) {
        self.0.1.add_permits(1);
    }

    async fn pass(&self) {
        self.0.0.fetch_add(1, SeqCst);
        self.0.1.acquire().await.unwrap().forget();
    }

    /// Returns when so many have come, ever.
    async fn has_seen(&self, loads: u64) {
        until(|| self.0.0.load(SeqCst) == loads).await;
    }
}

/// A broken promise fails after a minute instead of hanging.
async fn soon<T>(promise: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), promise).await.expect("it should have happened by now")
}

/// Waits without sleeping.
async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            yield_now().await;
        }
    };
    soon(waiting).await;
}

/// A caller on a task of its own, whose loader waits at `door` and gives `value`.
fn ask(cache: &Names, key: &str, value: u64, door: &Door) -> JoinHandle<Answer> {
    let (cache, key, door) = (cache.clone(), key.to_string(), door.clone());
    tokio::spawn(async move {
        let load = move |_| async move {
            door.pass().await;
            Ok(value)
        };
        cache.get_or_load(&key, TTL, load).await
    })
}

/// A second caller, whose own loader must not be called.
async fn join(cache: &Names, key: &str) -> JoinHandle<Answer> {
    let before = cache.stats().coalesced;
    let (joining, key) = (cache.clone(), key.to_string());
    let task = tokio::spawn(async move {
        joining.get_or_load(&key, TTL, |_| async { unreachable!("somebody loads already") }).await
    });
    until(|| cache.stats().coalesced > before).await;
    task
}

/// Tells when the future that owns it is dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Dropped {
    fn pair() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Dropped(Some(sender)), receiver)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.take().map(|sender| sender.send(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_awaits_of_a_cold_key_are_one_load() {
    let (cache, door, start) = (names(), Door::closed(), Arc::new(Barrier::new(1_001)));
    let callers: Vec<_> = (0..1_000)
        .map(|caller| {
            let (cache, door, start) = (cache.clone(), door.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                let load = move |_| async move {
                    door.pass().await;
                    Ok::<_, Infallible>(caller)
                };
                cache.get_or_load("a", TTL, load).await
            })
        })
        .collect();
    start.wait().await;
    until(|| cache.stats().coalesced == 999).await;
    door.open();
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(caller.await.unwrap().unwrap());
    }
    let loaded = cache.get("a").unwrap();
    assert!(answers.iter().all(|&answer| answer == loaded));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.misses, stats.coalesced, stats.hits), (1, 1_000, 999, 1));
    cache.validate().unwrap();
}

#[tokio::test]
async fn a_caller_that_is_cancelled_leaves_the_load_to_the_others() {
    let (cache, door) = (names(), Door::closed());
    let leader = ask(&cache, "a", 1, &door);
    door.has_seen(1).await;
    let other = join(&cache, "a").await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    door.open();
    assert_eq!((other.await.unwrap().unwrap(), cache.get("a")), (1, Some(1)));
    assert_eq!(cache.stats().loads, 1);
    cache.validate().unwrap();
}

#[tokio::test]
async fn a_dropped_waiter_changes_nothing_for_the_others() {
    let (cache, door) = (names(), Door::closed());
    let leader = ask(&cache, "a", 1, &door);
    door.has_seen(1).await;
    let (other, leaving) = (join(&cache, "a").await, join(&cache, "a").await);
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    door.open();
    assert_eq!((leader.await.unwrap().unwrap(), other.await.unwrap().unwrap()), (1, 1));
    cache.validate().unwrap();
}

#[tokio::test]
async fn a_load_that_everybody_left_is_cancelled() {
    let cache = names();
    let (dropped, aborted) = Dropped::pair();
    let (begun, has_begun) = oneshot::channel();
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move {
            let load = move |_| async move {
                let _dropped = dropped;
                begun.send(()).unwrap();
                std::future::pending::<Result<u64, Infallible>>().await
            };
            cache.get_or_load("a", TTL, load).await
        }
    });
    has_begun.await.unwrap();
    let other = join(&cache, "a").await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    cache.validate().unwrap();
    other.abort();
    assert!(other.await.unwrap_err().is_cancelled());
    soon(aborted).await.expect("the load's future is dropped");

    let anew = cache.get_or_load("a", TTL, |_| async { Ok::<_, Infallible>(2) }).await;
    assert_eq!((anew.unwrap(), cache.stats().loads, cache.stats().load_errors), (2, 2, 0));
    cache.validate().unwrap();
}

#[tokio::test]
async fn a_call_that_is_never_awaited_warns_and_takes_no_lease() {
    let cache = names();
    drop(cache.get_or_load("a", TTL, |_| async { Ok::<_, Infallible>(1) }));
    // The warning is the compiler's: a future does nothing unless it is awaited.
    assert_eq!(cache.stats(), Default::default());
    cache.validate().unwrap();
}

#[tokio::test]
async fn a_loader_that_raises_reaches_everyone_and_the_next_call_loads_again() {
    let (cache, door) = (names(), Door::closed());
    let asking: Vec<JoinHandle<Answer<io::Error>>> = (0..3)
        .map(|_| {
            let (cache, door) = (cache.clone(), door.clone());
            tokio::spawn(async move {
                let load = move |_| async move {
                    door.pass().await;
                    Err(io::Error::other("the database is away"))
                };
                cache.get_or_load("a", TTL, load).await
            })
        })
        .collect();
    until(|| cache.stats().coalesced == 2).await;
    door.open();
    let mut errors = Vec::new();
    for caller in asking {
        match caller.await.unwrap().unwrap_err() {
            LoadFailed::Loader(error) => errors.push(error),
            other => panic!("not the loader's error: {other}"),
        }
    }
    assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])));
    assert_eq!((cache.get("a"), cache.stats().loads, cache.stats().load_errors), (None, 1, 1));

    // Alone, a caller can have its error by value.
    let alone = cache.get_or_load("a", TTL, |_| async { Err(io::Error::other("still away")) }).await.unwrap_err();
    assert_eq!((alone.to_string(), alone.loader().unwrap().kind()), ("still away".into(), io::ErrorKind::Other));
    assert_eq!(alone.into_loader().unwrap().to_string(), "still away");
    cache.validate().unwrap();
}

#[tokio::test]
async fn callers_who_disagree_about_the_error_type_are_told_so() {
    let (cache, door) = (names(), Door::closed());
    let leader = tokio::spawn({
        let (cache, door) = (cache.clone(), door.clone());
        async move {
            let load = move |_| async move {
                door.pass().await;
                Err(io::Error::other("away"))
            };
            cache.get_or_load("a", TTL, load).await
        }
    });
    door.has_seen(1).await;
    let other = join(&cache, "a").await;
    door.open();
    assert!(matches!(leader.await.unwrap(), Err(LoadFailed::Loader(_))));
    let told = other.await.unwrap().unwrap_err();
    assert!(told.loader().is_none());
    let text = told.to_string();
    assert!(text.contains("io::error::Error") && text.contains("Infallible") && text.contains("'names'"), "{text}");
}

#[tokio::test]
async fn a_loader_that_panics_fails_its_callers_and_nobody_else() {
    let (cache, door) = (names(), Door::closed());
    let leader = tokio::spawn({
        let (cache, door) = (cache.clone(), door.clone());
        async move {
            let load = move |_| async move {
                door.pass().await;
                // A panic without the hook's print.
                std::panic::resume_unwind(Box::new("out of beans"))
            };
            cache.get_or_load("a", TTL, load).await as Answer
        }
    });
    door.has_seen(1).await;
    let other = join(&cache, "a").await;
    door.open();
    for caller in [leader, other] {
        let failed = caller.await.expect("the caller itself does not panic").unwrap_err();
        assert!(matches!(&failed, LoadFailed::Cache(Error::Load { .. })));
        assert_eq!(
            failed.to_string(),
            "the load of a key of the cache 'names' ended without a result: its loader panicked: out of beans; \
             ask again to load it anew"
        );
    }
    assert_eq!(cache.stats().load_errors, 1);
    let panics_at_once = |_| -> std::future::Ready<Result<u64, Infallible>> {
        std::panic::resume_unwind(Box::new("before the first await".to_string()))
    };
    let failed = cache.get_or_load("a", TTL, panics_at_once).await.unwrap_err();
    assert!(failed.to_string().contains("before the first await"), "{failed}");
    assert_eq!(cache.get_or_load("a", TTL, |_| async { Ok::<_, Infallible>(2) }).await.unwrap(), 2);
    cache.validate().unwrap();
}

#[tokio::test]
async fn an_invalidation_during_a_load_stores_nothing_and_a_later_call_starts_anew() {
    let (cache, door, later) = (names(), Door::closed(), Door::closed());
    let old = ask(&cache, "a", 1, &door);
    door.has_seen(1).await;
    let joined = join(&cache, "a").await;
    cache.invalidate("a");
    let new = ask(&cache, "a", 2, &later);
    later.has_seen(1).await;
    door.open();
    assert_eq!((old.await.unwrap().unwrap(), joined.await.unwrap().unwrap(), cache.get("a")), (1, 1, None));
    later.open();
    assert_eq!((new.await.unwrap().unwrap(), cache.get("a")), (2, Some(2)));
    cache.validate().unwrap();
}

#[tokio::test]
async fn an_explicit_write_outlives_an_older_load() {
    let (cache, door) = (names(), Door::closed());
    for write in
        [|cache: &Names| cache.insert("a".into(), 7, TTL), |cache: &Names| assert!(cache.add("a".into(), 7, TTL))]
    {
        let loads = cache.stats().loads;
        let old = ask(&cache, "a", 1, &door);
        door.has_seen(loads + 1).await;
        write(&cache);
        door.open();
        assert_eq!((old.await.unwrap().unwrap(), cache.get("a")), (1, Some(7)));
        cache.remove("a");
        cache.validate().unwrap();
    }
}

#[tokio::test]
async fn a_load_that_was_under_way_at_a_clear_stores_nothing() {
    // The table may give a group's number again: a load from before the clears must not be taken for one of now.
    for (held, clears) in [(0, 1), (0, 2), (3, 1), (3, 2), (3, 3)] {
        let (cache, door, later) = (names(), Door::closed(), Door::closed());
        for key in 0..held {
            cache.insert(key.to_string(), key, TTL);
        }
        let old = ask(&cache, "a", 1, &door);
        door.has_seen(1).await;
        for _ in 0..clears {
            cache.clear();
        }
        let new = ask(&cache, "a", 2, &later);
        later.has_seen(1).await;
        door.open();
        assert_eq!((old.await.unwrap().unwrap(), cache.get("a"), cache.len()), (1, None, 0));
        later.open();
        assert_eq!((new.await.unwrap().unwrap(), cache.get("a")), (2, Some(2)));
        cache.validate().unwrap();
    }
}

#[tokio::test]
async fn a_ttl_of_zero_is_shared_by_those_who_wait_and_not_kept() {
    let (cache, door) = (names(), Door::closed());
    let leader = tokio::spawn({
        let (cache, door) = (cache.clone(), door.clone());
        async move {
            let load = move |_| async move {
                door.pass().await;
                Ok::<_, Infallible>(1)
            };
            cache.get_or_load("a", Policy::ttl(Duration::ZERO), load).await
        }
    });
    door.has_seen(1).await;
    let other = join(&cache, "a").await;
    door.open();
    assert_eq!((leader.await.unwrap().unwrap(), other.await.unwrap().unwrap()), (1, 1));
    assert_eq!((cache.get("a"), cache.len(), cache.stats().loads), (None, 0, 1));
}

#[tokio::test]
async fn a_loaded_value_is_fresh_for_its_ttl_and_then_loaded_again() {
    let clock = Clock::system();
    clock.freeze();
    let cache: Cache<String, u64> = Cache::builder().clock(clock.clone()).build();
    let loads = Arc::new(AtomicU64::new(0));
    let load = || {
        let loads = Arc::clone(&loads);
        move |_| async move { Ok::<_, Infallible>(loads.fetch_add(1, SeqCst) + 1) }
    };
    assert_eq!(cache.get_or_load("a", TTL, load()).await.unwrap(), 1);
    clock.advance(minutes(5) - Duration::from_millis(1));
    assert_eq!(cache.get_or_load("a", TTL, load()).await.unwrap(), 1);
    clock.advance(Duration::from_millis(1));
    assert_eq!(cache.get_or_load("a", TTL, load()).await.unwrap(), 2);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads, stats.coalesced, stats.entries), (1, 2, 2, 0, 1));
}

#[tokio::test]
async fn a_loader_may_say_how_long_its_value_is_kept() {
    let clock = Clock::system();
    clock.freeze();
    let cache: Cache<String, u64> = Cache::builder().clock(clock.clone()).build();
    let token = cache.get_or_load("token", TTL, |ctx| async move {
        assert_eq!(ctx.policy(), TTL);
        ctx.keep(Policy::ttl(minutes(1)));
        Ok::<_, Infallible>(1)
    });
    assert_eq!(token.await.unwrap(), 1);
    clock.advance(minutes(1));
    assert_eq!(cache.get("token"), None);
}

#[tokio::test]
async fn a_load_that_asks_for_its_own_key_loads_directly() {
    let cache = names();
    let outer = cache.clone();
    let load = move |ctx: LoadContext| async move {
        let nested = outer.get_or_load("a", TTL, |_| async { Ok::<_, Infallible>(40) }).await?;
        // A task of its own is part of the load where it says so.
        let part = outer.clone();
        let spawned =
            tokio::spawn(
                async move { ctx.within(part.get_or_load("a", TTL, |_| async { Ok::<_, Infallible>(1) })).await },
            );
        Ok::<_, LoadFailed<Infallible>>(nested + spawned.await.unwrap()? + 1)
    };
    assert_eq!(soon(cache.get_or_load("a", TTL, load)).await.unwrap(), 42);
    assert_eq!((cache.get("a"), cache.stats().loads), (Some(42), 3), "what was loaded directly is not stored");
    cache.validate().unwrap();
}

#[tokio::test]
async fn loads_that_wait_for_each_other_raise_load_cycle() {
    let cache = names();
    let (second, first) = (cache.clone(), cache.clone());
    let load = move |_| async move {
        let far = second.get_or_load("b", TTL, |_| async move {
            first.get_or_load("a", TTL, |_| async { Ok::<_, Infallible>(1) }).await
        });
        far.await
    };
    let failed = soon(cache.get_or_load("a", TTL, load)).await.unwrap_err();
    let text = failed.to_string();
    assert!(text.contains("'names' in rust_flight::") && text.contains("wait for each other"), "{text}");
    let inner = failed.loader().and_then(LoadFailed::loader).expect("it is the error of the innermost load");
    assert!(matches!(inner, LoadFailed::Cache(Error::LoadCycle { path }) if path.len() == 2), "{inner}");
    assert_eq!((cache.len(), cache.stats().loads), (0, 2));
    cache.validate().unwrap();
}

#[tokio::test]
async fn a_refresh_loads_anew() {
    let (cache, door) = (names(), Door::closed());
    let load = |value| move |_| async move { Ok::<_, Infallible>(value) };
    assert_eq!(cache.get_or_load("a", TTL, load(1)).await.unwrap(), 1);
    assert_eq!(cache.refresh("a", TTL, load(2)).await.unwrap(), 2);
    assert_eq!(cache.get_or_load("a", TTL, load(3)).await.unwrap(), 2);
    let refreshing = tokio::spawn({
        let (cache, door) = (cache.clone(), door.clone());
        let load = move |_| async move {
            door.pass().await;
            Ok::<_, Infallible>(4)
        };
        async move { cache.refresh("a", TTL, load).await }
    });
    door.has_seen(1).await;
    assert_eq!(cache.get_or_load("a", TTL, load(5)).await.unwrap(), 2, "until it is there others get the old one");
    door.open();
    assert_eq!((refreshing.await.unwrap().unwrap(), cache.get("a")), (4, Some(4)));
    cache.validate().unwrap();
}

/// A refresh whose load counts up, and waits at a door.
fn refreshing(cache: &Names, door: &Door, begun: &Arc<AtomicU64>) -> JoinHandle<Answer> {
    let (cache, door, begun) = (cache.clone(), door.clone(), Arc::clone(begun));
    let load = move |_| async move {
        let mine = begun.fetch_add(1, SeqCst) + 1;
        door.pass().await;
        Ok::<_, Infallible>(mine)
    };
    tokio::spawn(async move { cache.refresh("a", TTL, load).await })
}

async fn turns() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test]
async fn refreshes_that_arrive_during_one_share_the_next() {
    let (cache, door, begun) = (names(), Door::closed(), Arc::default());
    let first = refreshing(&cache, &door, &begun);
    door.has_seen(1).await;
    let later = [(); 5].map(|()| refreshing(&cache, &door, &begun));
    turns().await;
    assert_eq!(begun.load(SeqCst), 1);
    door.open();
    assert_eq!(first.await.unwrap().unwrap(), 1);
    door.has_seen(2).await;
    assert_eq!(cache.get("a"), Some(1), "what a refresh has loaded is stored, whoever wants a newer value");
    door.open();
    for answer in later {
        assert_eq!(answer.await.unwrap().unwrap(), 2);
    }
    assert_eq!((begun.load(SeqCst), cache.get("a"), cache.stats().loads), (2, Some(2), 2));
    cache.validate().unwrap();
}

#[tokio::test]
async fn refreshes_faster_than_their_load_still_bring_new_values() {
    let (cache, door, begun) = (names(), Door::closed(), Arc::default());
    let mut asking = Vec::new();
    for round in 1..=5 {
        asking.extend([(); 3].map(|()| refreshing(&cache, &door, &begun)));
        door.has_seen(round).await;
        turns().await;
        door.open();
        while cache.get("a") != Some(round) {
            yield_now().await;
        }
    }
    (0..2).for_each(|_| door.open());
    for answer in asking {
        answer.await.unwrap().unwrap();
    }
    cache.validate().unwrap();
}

#[test]
fn a_load_that_is_taken_over_counts_and_a_refresh_is_no_miss() {
    let (cache, door) = (names(), Door::closed());
    let first = runtime();
    let starter = started(&first, &cache, &door);
    runtime().block_on(async {
        let waiting = ask(&cache, "a", 2, &door);
        until(|| cache.stats().coalesced == 1).await;
        first.shutdown_background();
        door.has_seen(2).await;
        door.open();
        assert_eq!(soon(waiting).await.unwrap().unwrap(), 2);
        assert!(starter.await.is_err());
        let Stats { loads, misses, .. } = cache.stats();
        assert_eq!((loads, misses), (2, 2));
        assert_eq!(cache.refresh("a", TTL, |_| async { Ok::<_, Infallible>(3) }).await.unwrap(), 3);
    });
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.refreshes, stats.misses), (3, 1, 2));
    cache.validate().unwrap();
}

#[tokio::test]
async fn a_key_asked_for_again_after_an_invalidation_by_its_own_loader_is_a_load_of_its_own() {
    let cache = names();
    let inner = cache.clone();
    let load = move |_| async move {
        inner.invalidate("a");
        inner.get_or_load("a", TTL, |_| async { Ok::<_, Infallible>(2) }).await
    };
    assert_eq!(cache.get_or_load("a", TTL, load).await.unwrap(), 2);
    assert_eq!((cache.get("a"), cache.stats().loads), (Some(2), 2));
    cache.validate().unwrap();
}

/// A key whose copy, which a caller makes between its first look and its second, lets somebody else store the value.
#[derive(PartialEq, Eq, Hash)]
struct Slow(u64);

static SLOW: std::sync::OnceLock<Cache<Slow, u64>> = std::sync::OnceLock::new();

impl Clone for Slow {
    fn clone(&self) -> Self {
        SLOW.get().unwrap().insert(Slow(self.0), 7, TTL);
        Slow(self.0)
    }
}

#[tokio::test]
async fn a_value_that_comes_between_the_first_look_and_the_lease_is_found() {
    let cache = SLOW.get_or_init(|| Cache::builder().build());
    assert_eq!(cache.get_or_load(&Slow(1), TTL, |_| async { Ok::<_, Infallible>(1) }).await.unwrap(), 7);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (1, 0, 0));
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// A caller of `key` "a" on a runtime that is driven until its load is under way, and no further.
fn started(runtime: &Runtime, cache: &Names, door: &Door) -> JoinHandle<Answer> {
    let caller = {
        let _inside = runtime.enter();
        ask(cache, "a", 1, door)
    };
    runtime.block_on(door.has_seen(1));
    caller
}

#[test]
fn one_function_serves_two_loops_in_two_threads() {
    let (cache, door) = (names(), Door::closed());
    let one = std::thread::spawn({
        let (cache, door) = (cache.clone(), door.clone());
        move || runtime().block_on(async { ask(&cache, "a", 1, &door).await.unwrap().unwrap() })
    });
    let two = std::thread::spawn({
        let (cache, door) = (cache.clone(), door.clone());
        move || {
            runtime().block_on(async {
                door.has_seen(1).await;
                let waiting = join(&cache, "a").await;
                door.open();
                waiting.await.unwrap().unwrap()
            })
        }
    });
    assert_eq!((one.join().unwrap(), two.join().unwrap()), (1, 1));
    assert_eq!(cache.stats().loads, 1);
    cache.validate().unwrap();
}

#[test]
fn a_load_on_a_loop_that_stops_keeps_nobody_elsewhere_waiting() {
    let (cache, door, second) = (names(), Door::closed(), Door::closed());
    let first = runtime();
    let starter = started(&first, &cache, &door);
    runtime().block_on(async {
        let waiting = ask(&cache, "a", 2, &second);
        until(|| cache.stats().coalesced == 1).await;
        first.shutdown_background();
        assert!(starter.await.unwrap_err().is_cancelled());
        second.has_seen(1).await;
        let third = join(&cache, "a").await;
        second.open();
        assert_eq!((soon(waiting).await.unwrap().unwrap(), soon(third).await.unwrap().unwrap()), (2, 2));
    });
    assert_eq!((cache.get("a"), cache.stats().loads), (Some(2), 2));
    cache.validate().unwrap();
}

#[test]
fn a_waiter_that_is_to_load_on_a_loop_that_stopped_keeps_nobody_from_loading() {
    let (cache, door) = (names(), Door::closed());
    let (first, second) = (runtime(), runtime());
    let starter = started(&first, &cache, &door);
    // It is chosen, but its runtime is not driven before it is gone too.
    let chosen = second.block_on(join(&cache, "a"));
    runtime().block_on(async {
        let waiting = ask(&cache, "a", 3, &door);
        until(|| cache.stats().coalesced == 2).await;
        first.shutdown_background();
        second.shutdown_background();
        door.has_seen(2).await;
        door.open();
        assert_eq!(soon(waiting).await.unwrap().unwrap(), 3);
        assert!(starter.await.is_err() && chosen.await.is_err());
    });
    assert_eq!((cache.get("a"), cache.stats().loads), (Some(3), 2));
    cache.validate().unwrap();
}

#[test]
fn a_runtime_that_took_load_and_callers_with_it_leaves_nothing_behind() {
    let (cache, door) = (names(), Door::closed());
    let first = runtime();
    let callers = (started(&first, &cache, &door), first.block_on(join(&cache, "a")));
    drop(first);
    assert!(callers.0.is_finished() && callers.1.is_finished());
    cache.validate().unwrap();
    let anew = runtime().block_on(cache.get_or_load("a", TTL, |_| async { Ok::<_, Infallible>(2) }));
    assert_eq!((anew.unwrap(), cache.get("a")), (2, Some(2)));
    cache.validate().unwrap();
}

#[test]
fn a_load_cancelled_by_others_is_a_load_error() {
    let cache = names();
    let first = runtime();
    let mut asking = Box::pin(cache.get_or_load("a", TTL, |_| std::future::pending::<Result<u64, Infallible>>()));
    // One poll inside the first runtime starts the load there.
    first.block_on(std::future::poll_fn(|context| {
        assert!(asking.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    }));
    drop(first);
    let told = runtime().block_on(async { soon(asking).await.unwrap_err().to_string() });
    assert!(told.contains("its runtime was shut down"), "{told}");
    cache.validate().unwrap();
}

#[test]
fn without_a_runtime_a_hit_is_answered_and_a_miss_says_what_it_needs() {
    let cache = names();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut poll_once = |key: &'static str| {
        let mut asking = Box::pin(cache.get_or_load(key, TTL, |_| async { Ok::<_, Infallible>(1) }));
        asking.as_mut().poll(&mut context)
    };
    cache.insert("a".into(), 1, TTL);
    assert!(matches!(poll_once("a"), std::task::Poll::Ready(Ok(1))));
    match poll_once("b") {
        std::task::Poll::Ready(Err(LoadFailed::Cache(error @ Error::Config { .. }))) => {
            assert!(error.to_string().contains("outside a tokio runtime"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    cache.validate().unwrap();
}
