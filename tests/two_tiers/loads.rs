//! A load asks the store first, and the store takes what it brings.

use super::wire::{Fare, stored};
use super::{KEPT, SECOND, TTL, World, fail, find, load, until};
use samovar::{Cache, Outcome, Policy, Remote, Sharing, Standing, minutes};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The times of what is in memory.
fn times(cache: &super::Names, key: &str) -> (Option<std::time::SystemTime>, Option<std::time::SystemTime>) {
    let entry = cache.peek(key).unwrap();
    (entry.fresh_until, entry.expires)
}

#[tokio::test]
async fn a_miss_asks_the_store_before_it_loads() {
    let world = World::new();
    assert_eq!(load(&world.here, "a", TTL, 1).await, 1);
    assert_eq!(find(&world.there, "a", TTL).await, 1);
    assert_eq!(find(&world.there, "a", TTL).await, 1, "memory has it now");
    let stats = world.there.stats();
    assert_eq!((stats.remote_hits, stats.hits, stats.misses, stats.loads), (1, 1, 0, 0));
    let stats = world.here.stats();
    assert_eq!((stats.remote_hits, stats.misses, stats.loads), (0, 1, 1));
}

#[tokio::test]
async fn what_the_store_has_lives_in_memory_for_the_rest_of_its_life() {
    let world = World::new();
    let jittered = Policy { jitter: 0.5, ..KEPT };
    load(&world.here, "a", jittered, 1).await;
    world.advance(minutes(2));
    find(&world.there, "a", jittered).await;
    assert_eq!(times(&world.there, "a"), times(&world.here, "a"), "one draw for all tiers");
    world.here.fetch("a").await.unwrap();
    world.advance(minutes(3));
    assert_eq!((world.here.get("a"), world.there.get("a")), (None, None));
    assert_eq!(world.there.peek("a").unwrap().state, Standing::Stale);
    assert_eq!(load(&world.there, "a", jittered, 2).await, 2);
}

#[tokio::test]
async fn not_found_travels_too() {
    let world = World::new();
    let policy = Policy { negative_ttl: Some(minutes(1)), ..TTL };
    let none = |cache: &super::Names| {
        let cache = cache.clone();
        async move { cache.get_or_find("a", policy, |_| async { Ok::<_, Infallible>(None) }).await.unwrap() }
    };
    assert_eq!(none(&world.here).await, None);
    let unloaded = world.there.get_or_find("a", policy, |_| async { Ok::<_, Infallible>(Some(1)) }).await;
    assert_eq!(unloaded.unwrap(), None);
    assert_eq!((world.there.stats().loads, world.there.stats().remote_hits), (0, 1));
    assert_eq!(world.there.fetch("a").await, Ok(None));
    assert_eq!(world.there.stats().negative_hits, 1, "memory knows");
    world.advance(minutes(1));
    let loaded = world.there.get_or_find("a", policy, |_| async { Ok::<_, Infallible>(Some(2)) }).await;
    assert_eq!(loaded.unwrap(), Some(2));
}

#[tokio::test]
async fn what_is_not_to_be_kept_is_kept_nowhere() {
    let world = World::new();
    assert_eq!(load(&world.here, "a", Policy::ttl(Duration::ZERO), 1).await, 1);
    assert_eq!((world.here.get("a"), stored(&world.wire, "a").await), (None, None));
    assert_eq!(load(&world.there, "a", TTL, 2).await, 2, "and nobody's claim is in the way");
    assert_eq!(world.here.fetch("a").await, Ok(Some(2)));
}

#[tokio::test]
async fn a_refresh_behind_takes_what_another_has_loaded() {
    let world = World::new();
    let policy = Policy { stale_while_revalidate: minutes(5), ..TTL };
    load(&world.here, "a", policy, 1).await;
    find(&world.there, "a", policy).await;
    world.advance(minutes(6));
    assert_eq!(load(&world.there, "a", policy, 2).await, 1, "the old one answers, the new one is loaded behind");
    until(|| world.there.get("a") == Some(2)).await;
    assert_eq!(find(&world.here, "a", policy).await, 1);
    until(|| world.here.get("a") == Some(2)).await;
    let stats = world.here.stats();
    assert_eq!((stats.loads, stats.refreshes, stats.stale_hits), (1, 0, 1), "it loaded once, long ago");
}

#[tokio::test]
async fn an_early_refresh_wants_something_newer_than_memory_has() {
    let world = World::new();
    let policy = Policy { early: 1_000.0, ..TTL };
    let clock = world.clock.clone();
    let slow = |_| async move {
        clock.advance(SECOND);
        Ok::<_, Infallible>(1)
    };
    world.here.get_or_load("a", policy, slow).await.unwrap();
    find(&world.there, "a", policy).await;
    world.advance(minutes(5) - SECOND);
    let (before, _) = times(&world.there, "a");
    assert_eq!(
        load(&world.there, "a", policy, 2).await,
        1,
        "it is fresh, and the load took long enough to begin early"
    );
    until(|| world.there.get("a") == Some(2)).await;
    assert!(times(&world.there, "a").0 > before);
    assert_eq!(world.there.stats().loads, 1);
}

#[tokio::test]
async fn a_refresh_loads_although_the_store_has_a_value() {
    let world = World::new();
    load(&world.here, "a", TTL, 1).await;
    let two = world.there.refresh("a", TTL, |_| async { Ok::<_, Infallible>(2) }).await;
    assert_eq!((two.unwrap(), world.there.get("a")), (2, Some(2)));
    assert_eq!((world.there.stats().loads, world.there.stats().remote_hits), (1, 0));
    let other = super::process(&world.clock, Remote::over(Arc::clone(&world.wire)));
    assert_eq!(other.fetch("a").await, Ok(Some(2)));
}

#[tokio::test]
async fn an_old_value_of_the_store_answers_if_the_load_fails() {
    let world = World::new();
    load(&world.here, "a", KEPT, 1).await;
    world.advance(minutes(10));
    assert_eq!(fail(&world.there, "a", TTL).await.unwrap_err().to_string(), "away", "this policy has no windows");
    assert_eq!(fail(&world.there, "a", KEPT).await.unwrap(), 1);
    let entry = world.there.peek("a").unwrap();
    assert_eq!((entry.state, entry.fresh_until), (Standing::Stale, times(&world.here, "a").0), "nothing freshens it");
    assert_eq!(world.there.stats().load_errors, 2);
    assert_eq!(fail(&world.there, "a", KEPT).await.unwrap(), 1);
    assert_eq!(world.there.stats().loads, 2, "and nobody tries again at once");
    world.advance(KEPT.retry_after);
    assert_eq!(load(&world.there, "a", KEPT, 2).await, 2);
    world.advance(minutes(66));
    assert!(fail(&world.here, "a", KEPT).await.is_err(), "all windows are over");
}

#[tokio::test]
async fn a_key_deleted_while_it_is_loaded_is_stored_nowhere_in_whatever_process() {
    for elsewhere in [false, true] {
        let world = World::new();
        let door = Arc::new(Semaphore::new(0));
        let (cache, gate) = (world.here.clone(), Arc::clone(&door));
        let asking = tokio::spawn(async move {
            let load = |_| async move {
                gate.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(1)
            };
            cache.get_or_load("a", TTL, load).await
        });
        until(|| world.wire.store_tally().claims == 1).await;
        let deleter = if elsewhere { &world.there } else { &world.here };
        assert_eq!(deleter.delete("a").await, Ok(Outcome::Applied));
        door.add_permits(1);
        assert_eq!(asking.await.unwrap().unwrap(), 1, "who waits is answered");
        assert_eq!((world.here.get("a"), stored(&world.wire, "a").await), (None, None));
        assert_eq!(load(&world.here, "a", TTL, 2).await, 2);
    }
}

#[tokio::test]
async fn who_loads_second_takes_what_was_first() {
    let world = World::new();
    let (cache, there) = (world.here.clone(), world.there.clone());
    let both =
        cache.get_or_load("a", TTL, |_| async move { Ok::<_, Infallible>(10 + load(&there, "a", TTL, 1).await) });
    assert_eq!(both.await.unwrap(), 1, "the other process was first");
    assert_eq!((world.here.get("a"), world.there.get("a")), (Some(1), Some(1)));
}

#[tokio::test]
async fn many_keys_ask_the_store_at_once_and_one_call_loads_the_rest() {
    let world = World::new();
    world.here.set_many([("a".to_string(), 1), ("b".into(), 2)], TTL).await.unwrap();
    world.wire.take_submitted();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let keys = ["a", "b", "c", "d", "e"].map(String::from);
    let policy = Policy { negative_ttl: Some(minutes(1)), ..TTL };
    let found = world.there.get_or_load_many(keys.clone(), policy, move |_, missing| {
        assert_eq!(missing, ["c", "d", "e"]);
        counted.fetch_add(1, SeqCst);
        async { Ok::<_, Infallible>(HashMap::from([("c".into(), 3), ("d".into(), 4), ("z".into(), 9)])) }
    });
    let expected = HashMap::from([("a", 1), ("b", 2), ("c", 3), ("d", 4)].map(|(key, value)| (key.to_string(), value)));
    assert_eq!(found.await.unwrap(), expected);
    assert_eq!(
        (calls.load(SeqCst), world.wire.take_submitted()),
        (1, vec![6, 3]),
        "claims and the clock, then what was loaded"
    );
    let stats = world.there.stats();
    assert_eq!((stats.remote_hits, stats.loads, stats.misses, stats.unasked), (2, 3, 3, 1));
    let again = world.here.get_or_load_many(keys, policy, |_, missing| async move { panic!("{missing:?}") });
    let again: Result<_, samovar::LoadFailed<Infallible>> = again.await;
    assert_eq!(again.unwrap(), expected, "what was not found is known there too");
}

#[tokio::test]
async fn a_hundred_callers_of_a_key_ask_the_store_once() {
    let world = World::new();
    load(&world.here, "a", TTL, 1).await;
    world.wire.fares(Fare::Slow);
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let cache = world.there.clone();
            tokio::spawn(async move { find(&cache, "a", TTL).await })
        })
        .collect();
    until(|| world.there.stats().coalesced == 99).await;
    assert_eq!(world.wire.waiting(), 1);
    world.wire.fares(Fare::Well);
    world.wire.give(0);
    for one in asking {
        assert_eq!(one.await.unwrap(), 1);
    }
    let stats = world.there.stats();
    assert_eq!((stats.remote_hits, stats.misses, stats.loads), (100, 0, 0));
}

#[tokio::test]
async fn where_one_load_is_to_be_enough_the_other_process_waits_for_it() {
    let world = World::with(|remote| remote.single_flight(Sharing::Cluster));
    let door = Arc::new(Semaphore::new(0));
    let (cache, gate) = (world.here.clone(), Arc::clone(&door));
    let loading = tokio::spawn(async move {
        let load = |_| async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(1)
        };
        cache.get_or_load("a", TTL, load).await.unwrap()
    });
    until(|| world.wire.store_tally().claims == 1).await;
    let cache = world.there.clone();
    let waiting = tokio::spawn(async move { find(&cache, "a", TTL).await });
    until(|| world.wire.store_tally().claims == 2).await;
    door.add_permits(1);
    assert_eq!(loading.await.unwrap(), 1);
    world.advance(SECOND);
    assert_eq!(waiting.await.unwrap(), 1);
    assert_eq!((world.there.stats().loads, world.there.stats().remote_hits), (0, 1));
}

/// Has one process begin a load that ends when the door is opened.
async fn hold(world: &World, policy: Policy, brings: u64) -> (Arc<Semaphore>, tokio::task::JoinHandle<u64>) {
    let door = Arc::new(Semaphore::new(0));
    let (cache, gate, claims) = (world.here.clone(), Arc::clone(&door), world.wire.store_tally().claims);
    let loading = tokio::spawn(async move {
        let load = move |_| async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(brings)
        };
        cache.get_or_load("a", policy, load).await.unwrap()
    });
    until(|| world.wire.store_tally().claims > claims).await;
    (door, loading)
}

#[tokio::test]
async fn while_another_process_loads_what_is_old_answers_who_may_serve_it() {
    let world = World::new();
    let policy = Policy { single_flight: Sharing::Cluster, stale_while_revalidate: minutes(5), ..TTL };
    load(&world.here, "a", policy, 1).await;
    world.advance(minutes(6));
    world.here.delete("b").await.unwrap();
    let (door, loading) = hold(&world, policy, 2).await;
    assert_eq!(find(&world.there, "a", policy).await, 1, "at once: nobody moves the clock");
    let claims = world.wire.store_tally().claims;
    assert_eq!(find(&world.there, "a", policy).await, 1);
    assert_eq!(world.wire.store_tally().claims, claims, "nor does it ask at each call");
    door.add_permits(1);
    loading.await.unwrap();
    until(|| world.here.get("a") == Some(2)).await;
    world.advance(SECOND);
    find(&world.there, "a", policy).await;
    until(|| world.there.get("a") == Some(2)).await;
    assert_eq!((world.there.stats().loads, world.there.stats().load_errors), (0, 0));
}

#[tokio::test]
async fn who_has_waited_long_enough_loads_too_and_the_first_to_end_is_what_all_have() {
    let world = World::new();
    let policy = Policy { single_flight: Sharing::Cluster, wait: Some(2 * SECOND), ..TTL };
    let (door, loading) = hold(&world, policy, 1).await;
    let cache = world.there.clone();
    let waiting = tokio::spawn(async move { load(&cache, "a", policy, 2).await });
    for _ in 0..12 {
        let claims = world.wire.store_tally().claims;
        world.advance(SECOND / 4);
        until(|| world.wire.store_tally().claims > claims || waiting.is_finished()).await;
    }
    assert_eq!(waiting.await.unwrap(), 2);
    door.add_permits(1);
    assert_eq!(loading.await.unwrap(), 2);
}

#[tokio::test]
async fn a_load_that_is_stopped_or_panics_keeps_no_other_process_waiting() {
    let world = World::with(|remote| remote.single_flight(Sharing::Cluster));
    let cache = world.here.clone();
    let stopped = tokio::spawn(async move { find_never(&cache).await });
    until(|| world.wire.store_tally().claims == 1).await;
    stopped.abort();
    // The clock was asked along with the claim, and then it was released.
    until(|| world.wire.store_tally().others == 2).await;
    assert_eq!(load(&world.there, "a", TTL, 2).await, 2, "at once: nobody moves the clock");
    let panics =
        world.here.get_or_load("b", TTL, |_| async { if true { panic!("oh") } else { Ok::<_, Infallible>(1) } });
    assert!(panics.await.unwrap_err().to_string().contains("oh"));
    assert_eq!(load(&world.there, "b", TTL, 3).await, 3);
}

async fn find_never(cache: &super::Names) {
    let never = |_| std::future::pending::<Result<u64, Infallible>>();
    cache.get_or_load("a", TTL, never).await.unwrap();
}

#[tokio::test]
async fn a_claim_is_renewed_while_its_load_runs() {
    let world = World::new();
    let clock = world.clock.clone();
    let wire = Arc::clone(&world.wire);
    let slow = |_| async move {
        for _ in 0..10 {
            let before = wire.store_tally().others;
            clock.advance(4 * SECOND);
            until(|| wire.store_tally().others > before).await;
        }
        Ok::<_, Infallible>(1)
    };
    assert_eq!(world.here.get_or_load("a", TTL, slow).await.unwrap(), 1);
    assert_eq!(world.there.fetch("a").await, Ok(Some(1)), "after forty seconds the claim is still there");
}

#[tokio::test]
async fn memory_asks_again_after_its_own_ttl() {
    let world = World::with(|remote| remote.memory_ttl(30 * SECOND));
    load(&world.here, "a", TTL, 1).await;
    find(&world.there, "a", TTL).await;
    world.here.set("a".into(), 2, TTL).await.unwrap();
    assert_eq!(find(&world.there, "a", TTL).await, 1, "it has not heard of it");
    world.advance(30 * SECOND);
    assert_eq!(find(&world.there, "a", TTL).await, 2);
    world.advance(30 * SECOND);
    assert_eq!(
        (find(&world.there, "a", TTL).await, find(&world.here, "a", TTL).await),
        (2, 2),
        "the same one is good enough"
    );
    assert_eq!((world.there.stats().loads, world.there.stats().remote_hits), (0, 3));
    world.advance(minutes(4));
    assert_eq!(load(&world.there, "a", TTL, 3).await, 3, "it is over for all");
    world.wire.fares(Fare::Away);
    assert_eq!(load(&world.there, "b", TTL, 4).await, 4);
    world.wire.fares(Fare::Well);
    world.here.set("b".into(), 5, TTL).await.unwrap();
    world.advance(30 * SECOND);
    assert_eq!(find(&world.there, "b", TTL).await, 5, "what was loaded without the store too");
}

#[tokio::test]
async fn a_cache_with_memory_alone_asks_nobody_for_text_or_serde() {
    #[derive(Clone, PartialEq, Debug)]
    struct Opaque;
    let cache: Cache<u64, Opaque> = Cache::builder().build();
    assert_eq!(cache.set(7, Opaque, TTL).await, Ok(Outcome::Applied));
    assert_eq!(cache.fetch(&7).await, Ok(Some(Opaque)));
    assert_eq!(cache.fetch_many(&[7, 8]).await, Ok(HashMap::from([(7, Opaque)])));
    assert_eq!(cache.set_if_absent(7, Opaque, TTL).await, Ok(false));
    assert_eq!(cache.set_if_present(7, Opaque, TTL).await, Ok(true));
    assert_eq!(cache.delete_many(&[7, 8]).await, Ok(Outcome::Applied));
    assert_eq!(cache.fetch(&7).await, Ok(None));
    assert_eq!(cache.note_missing(7, SECOND).await, Ok(Outcome::Applied));
    assert_eq!(cache.queued(), 0);
}
