//! What a value is good for after its ttl: early, stale, a last resort, gone. The names are those of `test_freshness.py`.
#![cfg(feature = "tokio")]

mod origin;

use origin::{FRESH, HOUR, MINUTE, Numbers, SECOND, World, all, turns};
use samovar::{Cache, Clock, Error, LoadFailed, Policy, Standing, Stats, Would, minutes};
use std::io;
use std::time::Duration;
use tokio::runtime::Builder;

/// Stale for a minute after the first.
const STALE: Policy = Policy { stale_while_revalidate: MINUTE, ..FRESH };

#[tokio::test]
async fn a_stale_value_answers_at_once_and_exactly_one_refresh_runs_behind() {
    let world = World::stale(STALE).await;
    world.origin.close();
    for _ in 0..100 {
        assert_eq!(world.ask(STALE).await.unwrap(), 1);
    }
    turns().await;
    assert_eq!(world.origin.calls(), 2);
    let asking = (0..10).map(|_| world.asking(STALE)).collect();
    assert!(all(asking).await.into_iter().all(|answer| answer.unwrap() == 1));
    world.origin.open();
    turns().await;
    assert_eq!((world.ask(STALE).await.unwrap(), world.origin.calls()), (2, 2));
    let Stats { hits, stale_hits, misses, loads, refreshes, .. } = world.cache.stats();
    assert_eq!((hits, stale_hits, misses, loads, refreshes), (1, 110, 1, 2, 1));
}

#[tokio::test]
async fn a_stale_call_that_is_never_awaited_starts_nothing() {
    let world = World::stale(STALE).await;
    drop(world.ask(STALE));
    turns().await;
    assert_eq!(world.origin.calls(), 1);
}

#[tokio::test]
async fn get_takes_only_what_is_fresh_since_nobody_would_load_it() {
    let policy = Policy { stale_while_revalidate: HOUR, ..FRESH };
    let world = World::stale(policy).await;
    assert_eq!(world.cache.get("k"), None);
    world.origin.close();
    for _ in 0..3 {
        assert_eq!(world.ask(policy).await.unwrap(), 1);
    }
    assert_eq!((world.cache.get("k"), world.cache.contains("k")), (None, false));
    world.origin.open();
    turns().await;
    assert_eq!(world.cache.get("k"), Some(2));
}

#[tokio::test]
async fn beyond_its_windows_a_value_is_gone() {
    let world = World::stale(STALE).await;
    world.clock.advance(MINUTE - SECOND);
    assert_eq!(world.ask(STALE).await.unwrap(), 2);
}

#[tokio::test]
async fn hard_expiry_holds_while_a_refresh_is_in_flight() {
    let world = World::stale(STALE).await;
    world.origin.close();
    assert_eq!(world.ask(STALE).await.unwrap(), 1);
    world.clock.advance(MINUTE);
    let waiting = world.asking(STALE);
    turns().await;
    assert!(!waiting.is_finished(), "the old value is dead: who asks now waits for the load");
    world.origin.open();
    assert_eq!((waiting.await.unwrap().unwrap(), world.origin.calls()), (2, 2));
}

#[tokio::test]
async fn an_invalidation_during_a_refresh_is_not_undone_by_it() {
    let world = World::stale(STALE).await;
    world.origin.close();
    assert_eq!(world.ask(STALE).await.unwrap(), 1);
    turns().await;
    world.cache.invalidate("k");
    world.origin.open();
    turns().await;
    assert_eq!((world.cache.peek("k"), world.ask(STALE).await.unwrap()), (None, 3));
}

#[tokio::test]
async fn a_refresh_goes_on_when_whoever_started_it_is_gone() {
    let world = World::stale(STALE).await;
    world.origin.close();
    let asking = world.asking(STALE);
    assert_eq!(asking.await.unwrap().unwrap(), 1);
    turns().await;
    assert_eq!((world.origin.calls(), world.origin.cancelled(), world.waiting()), (2, 0, Some(0)));
    world.origin.open();
    turns().await;
    assert_eq!(world.cache.get("k"), Some(2));
}

#[test]
fn a_refresh_on_a_closed_loop_does_not_keep_the_value_stale_for_ever() {
    let policy = Policy { stale_while_revalidate: HOUR, ..FRESH };
    let runtime = || Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    let world = first.block_on(World::stale(policy));
    world.origin.close();
    assert_eq!(first.block_on(world.ask(policy)).unwrap(), 1);
    first.block_on(turns());
    assert_eq!(world.origin.calls(), 2);
    drop(first);
    world.origin.open();
    world.clock.advance(2 * SECOND);
    runtime().block_on(async {
        assert_eq!(world.ask(policy).await.unwrap(), 1);
        turns().await;
        assert_eq!((world.ask(policy).await.unwrap(), world.origin.calls()), (3, 3));
    });
}

#[tokio::test]
async fn jitter_takes_up_to_its_share_of_the_ttl_at_random() {
    let clock = Clock::system();
    clock.freeze();
    // The draws depend on the name, so that this test is the same each time.
    let cache: Cache<u64, u64> = Cache::builder().name("jittered").clock(clock).build();
    let policy = Policy { jitter: 0.2, ..Policy::ttl(Duration::from_secs(1_000)) };
    let mut lives = Vec::new();
    for key in 0..2_000 {
        cache.get_or_load(&key, policy, move |_| async move { Ok::<_, io::Error>(key) }).await.unwrap();
        let entry = cache.peek(&key).unwrap();
        lives.push(entry.fresh_until.unwrap().duration_since(entry.created).unwrap().as_secs_f64());
    }
    let (least, most) = (lives.iter().copied().fold(f64::MAX, f64::min), lives.iter().copied().fold(0.0, f64::max));
    assert!((800.0..810.0).contains(&least) && 990.0 < most && most <= 1_000.0, "{least} {most}");
    let buckets = (0..10).map(|at| 800.0 + 20.0 * f64::from(at));
    let counts = buckets.map(|from| lives.iter().filter(|&&life| from <= life && life < from + 20.0).count() as f64);
    let chi_squared: f64 = counts.map(|count| (count - 200.0).powi(2) / 200.0).sum();
    assert!(chi_squared < 33.7, "{chi_squared}"); // p = 0.0001 with 9 degrees of freedom
}

#[test]
fn an_explicit_set_is_never_jittered() {
    let cache: Cache<u64, u64> = Cache::builder().build();
    cache.insert(7, 1, Policy { jitter: 0.5, ..FRESH });
    let entry = cache.peek(&7).unwrap();
    assert_eq!(entry.fresh_until.unwrap().duration_since(entry.created).unwrap(), MINUTE);
}

/// Early refresh, of a value whose load took two seconds.
async fn hot(world: &World, policy: Policy) {
    let (clock, origin) = (world.clock.clone(), world.origin.clone());
    let load = move |_| async move {
        clock.advance(2 * SECOND);
        origin.call().await
    };
    assert_eq!(world.cache.get_or_load("k", policy, load).await.unwrap(), 1);
}

#[tokio::test]
async fn a_hot_value_is_refreshed_early_behind_and_by_one_caller() {
    let (world, policy) = (World::new(), Policy { early: 1.0, ..FRESH });
    hot(&world, policy).await;
    world.clock.advance(31 * SECOND);
    for _ in 0..1_000 {
        assert_eq!(world.ask(policy).await.unwrap(), 1);
    }
    assert_eq!(world.origin.calls(), 1, "28 seconds before the end are 14 times its load time");
    world.clock.advance(28 * SECOND); // one second before the end
    world.origin.close();
    for _ in 0..1_000 {
        assert_eq!(world.ask(policy).await.unwrap(), 1);
    }
    turns().await;
    assert_eq!(world.origin.calls(), 2);
    world.origin.open();
    turns().await;
    assert_eq!((world.ask(policy).await.unwrap(), world.cache.stats().stale_hits), (2, 0));
}

#[tokio::test]
async fn get_takes_a_value_that_may_be_refreshed_early_as_it_is() {
    let (world, policy) = (World::new(), Policy { early: 5.0, ..FRESH });
    hot(&world, policy).await;
    world.clock.advance(30 * SECOND);
    assert_eq!((world.cache.get("k"), world.cache.get_many(["k", "l"])), (Some(1), vec![Some(1), None]));
    let Stats { hits, misses, .. } = world.cache.stats();
    assert_eq!((hits, misses), (2, 2));
}

#[tokio::test]
async fn no_refresh_begins_so_soon_after_a_load() {
    let policy = Policy { min_refresh_interval: minutes(10), stale_while_revalidate: HOUR, ..FRESH };
    let world = World::stale(policy).await;
    assert_eq!(world.ask(policy).await.unwrap(), 1);
    turns().await;
    assert_eq!(world.origin.calls(), 1);
    world.clock.advance(minutes(9));
    assert_eq!(world.ask(policy).await.unwrap(), 1);
    turns().await;
    assert_eq!((world.ask(policy).await.unwrap(), world.origin.calls()), (2, 2));
}

#[tokio::test]
async fn an_inserted_value_has_the_windows_of_its_policy() {
    let (world, policy) = (World::new(), Policy { stale_if_error: HOUR, ..STALE });
    world.cache.insert("k".into(), 7, policy);
    world.clock.advance(MINUTE);
    assert_eq!((world.cache.get("k"), world.ask(policy).await.unwrap()), (None, 7));
    turns().await;
    assert_eq!(world.cache.get("k"), Some(1));
    world.cache.insert("k".into(), 8, policy);
    world.clock.advance(minutes(30));
    world.origin.fail(Some("down"));
    assert_eq!(world.ask(policy).await.unwrap(), 8);
}

#[tokio::test]
async fn options_that_cannot_be_are_refused_by_name() {
    let world = World::new();
    let bad = [
        (Policy { soft_timeout: Some(SECOND), ..FRESH }, "soft_timeout: 1s; add stale_if_error"),
        (
            Policy { soft_timeout: Some(SECOND), timeout: Some(SECOND), ..STALE },
            "soft_timeout: 1s; give less than timeout",
        ),
        (Policy { early: 1.0, ..Policy::forever() }, "early: 1; add a ttl"),
        (Policy { timeout: Some(Duration::ZERO), ..FRESH }, "timeout: 0ns; give"),
        (Policy { jitter: 2.0, ..FRESH }, "jitter: 2; give"),
    ];
    for (policy, message) in bad {
        match world.ask(policy).await {
            Err(LoadFailed::Cache(error @ Error::Config { .. })) => {
                assert!(error.to_string().contains(message), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.origin.calls(), 0);
}

#[tokio::test]
async fn a_cache_explains_what_a_lookup_would_do_and_why() {
    let (world, policy) = (World::new(), Policy { stale_if_error: HOUR, ..STALE });
    let cache: &Numbers = &world.cache;
    let said = || {
        let explained = cache.explain("k", &policy);
        (explained.state, explained.would)
    };
    assert_eq!(said(), (Standing::Absent, Would::Load));
    let before = cache.stats();
    hot(&world, policy).await;
    assert_eq!(said(), (Standing::Fresh, Would::Answer));
    assert_eq!(cache.explain("k", &policy).load_time, 2_000);
    world.clock.advance(MINUTE);
    assert_eq!(said(), (Standing::Stale, Would::AnswerAndRefresh));
    world.origin.close();
    assert_eq!(world.ask(policy).await.unwrap(), 1);
    turns().await;
    assert_eq!((said(), cache.explain("k", &policy).waiting), ((Standing::Stale, Would::Answer), Some(0)));
    world.clock.advance(2 * MINUTE);
    assert_eq!(said(), (Standing::Grace, Would::Wait));
    world.origin.fail(Some("down"));
    world.origin.open();
    turns().await;
    let explained = cache.explain("k", &policy);
    assert_eq!((explained.state, explained.would), (Standing::Grace, Would::Answer));
    assert_eq!(explained.retry_at, Some(explained.now + 30_000));
    assert_eq!(
        explained.to_string(),
        "is grace: a lookup would answer; the last load failed, the next is tried in 30s"
    );
    world.clock.advance(2 * HOUR);
    assert!(matches!(said(), (Standing::Dead | Standing::Absent, Would::Load)));
    assert_eq!(cache.stats().hits, before.hits);
    assert_eq!(cache.explain("nobody", &policy).state, Standing::Absent);
}
