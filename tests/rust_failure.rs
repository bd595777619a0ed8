//! What a load that fails or hangs does to an old value, and what is remembered instead. The names are those of
//! `test_failure.py`.
#![cfg(feature = "tokio")]

mod origin;

use origin::{FRESH, HOUR, MINUTE, SECOND, World, all, error_of, soon, turns};
use samovar::{Cache, Error, LoadFailed, OnRefreshError, Policy, Standing, minutes};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::runtime::Builder;

/// The old value is a last resort for an hour.
const GRACE: Policy = Policy { stale_if_error: HOUR, ..FRESH };
/// "Not found" is remembered for a minute.
const FINDS: Policy = Policy { negative_ttl: Some(MINUTE), ..Policy::ttl(HOUR) };

#[tokio::test]
async fn if_the_load_fails_the_old_value_answers_everyone() {
    for callers in [1, 5] {
        let world = World::stale(GRACE).await;
        world.origin.fail(Some("down"));
        let answers = all((0..callers).map(|_| world.asking(GRACE)).collect()).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap() == 1));
        assert_eq!((world.origin.calls(), world.cache.stats().load_errors), (2, 1));
    }
}

#[tokio::test]
async fn a_failed_load_is_not_tried_again_before_its_time_and_never_makes_the_value_fresh() {
    let world = World::stale(GRACE).await;
    world.origin.fail(Some("down"));
    for _ in 0..20 {
        assert_eq!(world.ask(GRACE).await.unwrap(), 1);
    }
    assert_eq!(world.origin.calls(), 2);
    assert_eq!((world.cache.peek("k").unwrap().state, world.cache.get("k")), (Standing::Stale, None));
    world.clock.advance(29 * SECOND);
    assert_eq!((world.ask(GRACE).await.unwrap(), world.origin.calls()), (1, 2));
    world.clock.advance(SECOND);
    assert_eq!((world.ask(GRACE).await.unwrap(), world.origin.calls()), (1, 3));
    world.origin.fail(None);
    world.clock.advance(30 * SECOND);
    assert_eq!((world.ask(GRACE).await.unwrap(), world.origin.calls()), (4, 4));
}

#[tokio::test]
async fn the_window_of_the_last_resort_ends() {
    let policy = Policy { stale_if_error: minutes(5), retry_after: HOUR, ..FRESH };
    let world = World::stale(policy).await;
    world.origin.fail(Some("down"));
    assert_eq!(world.ask(policy).await.unwrap(), 1);
    world.clock.advance(minutes(5));
    assert_eq!(error_of(world.ask(policy).await), "down");
}

#[tokio::test]
async fn a_refresh_behind_that_fails_is_counted_and_gated() {
    let policy = Policy { stale_while_revalidate: HOUR, ..FRESH };
    let world = World::stale(policy).await;
    world.origin.fail(Some("down"));
    for _ in 0..20 {
        assert_eq!(world.ask(policy).await.unwrap(), 1);
        turns().await;
    }
    assert_eq!(world.origin.calls(), 2, "a load on each stale read would be an outage of its own");
    assert_eq!(world.cache.stats().load_errors, 1);
}

#[tokio::test]
async fn dropping_on_error_ends_the_old_value_and_raises() {
    let policy = Policy { on_refresh_error: OnRefreshError::Drop, ..GRACE };
    let world = World::stale(policy).await;
    world.origin.fail(Some("down"));
    assert_eq!(error_of(world.ask(policy).await), "down");
    assert_eq!(world.cache.peek("k"), None);
}

#[tokio::test]
async fn an_explicit_refresh_that_fails_raises_and_leaves_the_value() {
    let world = World::new();
    assert_eq!(world.ask(GRACE).await.unwrap(), 1);
    world.origin.fail(Some("down"));
    assert_eq!(error_of(world.cache.refresh("k", GRACE, world.origin.load()).await), "down");
    assert_eq!(world.ask(GRACE).await.unwrap(), 1);
}

#[tokio::test]
async fn a_refresh_that_is_not_to_be_kept_ends_the_old_value() {
    let policy = Policy { stale_while_revalidate: HOUR, ..FRESH };
    let world = World::stale(policy).await;
    let origin = world.origin.clone();
    let unkept = world.cache.get_or_load("k", policy, |ctx| async move {
        ctx.keep(Policy::ttl(Duration::ZERO));
        origin.call().await
    });
    assert_eq!(unkept.await.unwrap(), 1);
    turns().await;
    assert_eq!((world.cache.peek("k"), world.ask(policy).await.unwrap()), (None, 3));
}

// --- time-outs

/// Who has waited for a second would rather have the old value.
const IMPATIENT: Policy = Policy { soft_timeout: Some(SECOND), ..GRACE };

#[tokio::test]
async fn a_caller_who_has_waited_long_enough_gets_the_old_value_and_the_load_goes_on() {
    let world = World::stale(IMPATIENT).await;
    world.origin.close();
    let waiting = (0..3).map(|_| world.asking(IMPATIENT)).collect();
    turns().await;
    world.clock.advance(SECOND);
    assert!(all(waiting).await.into_iter().all(|answer| answer.unwrap() == 1));
    assert_eq!((world.origin.calls(), world.origin.cancelled()), (2, 0));
    world.origin.open();
    turns().await;
    assert_eq!((world.ask(IMPATIENT).await.unwrap(), world.origin.calls()), (2, 2));
}

#[tokio::test]
async fn patience_without_an_old_value_is_of_no_use() {
    let world = World::new();
    world.origin.close();
    let waiting = world.asking(IMPATIENT);
    turns().await;
    world.clock.advance(10 * SECOND);
    turns().await;
    assert!(!waiting.is_finished());
    world.origin.open();
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn patience_for_an_old_value_that_was_removed_meanwhile_is_of_no_use() {
    let world = World::stale(IMPATIENT).await;
    world.origin.close();
    let waiting = world.asking(IMPATIENT);
    turns().await;
    world.cache.invalidate("k");
    world.clock.advance(10 * SECOND);
    turns().await;
    assert!(!waiting.is_finished());
    world.origin.open();
    assert_eq!((waiting.await.unwrap().unwrap(), world.cache.peek("k")), (2, None));
}

#[tokio::test]
async fn a_load_that_takes_too_long_is_cancelled_and_everyone_answered() {
    for window in [Duration::ZERO, HOUR] {
        let policy = Policy { stale_if_error: window, timeout: Some(5 * SECOND), ..FRESH };
        let world = World::stale(policy).await;
        world.origin.close();
        let waiting = (0..3).map(|_| world.asking(policy)).collect();
        turns().await;
        world.clock.advance(5 * SECOND);
        let answers = all(waiting).await;
        turns().await;
        assert_eq!(world.origin.cancelled(), 1);
        if window > Duration::ZERO {
            assert!(answers.into_iter().all(|answer| answer.unwrap() == 1));
            assert_eq!(world.ask(policy).await.unwrap(), 1);
            assert_eq!(world.origin.calls(), 2, "a time-out is a failure: not tried again at once");
            continue;
        }
        for answer in answers {
            match answer {
                Err(LoadFailed::Cache(error @ Error::LoadTimeout { .. })) => assert_eq!(
                    error.to_string(),
                    "the load of a key of the cache 'numbers' took longer than its timeout 5s and was stopped; give it \
                     more time with timeout, or have the old value answer with stale_if_error"
                ),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_refresh_that_takes_too_long_is_stopped_though_nobody_waits_for_it() {
    let policy = Policy { stale_while_revalidate: HOUR, timeout: Some(5 * SECOND), ..FRESH };
    let world = World::stale(policy).await;
    world.origin.close();
    assert_eq!(world.ask(policy).await.unwrap(), 1);
    turns().await;
    world.clock.advance(5 * SECOND);
    turns().await;
    assert_eq!((world.origin.cancelled(), world.waiting()), (1, None));
    assert_eq!((world.ask(policy).await.unwrap(), world.origin.calls()), (1, 2));
}

#[tokio::test]
async fn time_limits_hold_on_the_real_clock_too() {
    let world = World::new();
    world.clock.thaw();
    let policy = Policy { timeout: Some(Duration::from_millis(20)), ..FRESH };
    world.origin.close();
    assert!(matches!(soon(world.ask(policy)).await, Err(LoadFailed::Cache(Error::LoadTimeout { .. }))));
    turns().await;
    assert_eq!(world.origin.cancelled(), 1);
    world.origin.open();
    assert_eq!(world.ask(policy).await.unwrap(), 2);
}

#[tokio::test]
async fn a_clock_that_is_stopped_while_somebody_waits_is_waited_for() {
    let world = World::new();
    world.clock.thaw();
    let policy = Policy { timeout: Some(minutes(5)), ..FRESH };
    world.origin.close();
    let waiting = world.asking(policy);
    turns().await;
    world.clock.freeze();
    world.clock.advance(minutes(5));
    assert!(matches!(soon(waiting).await.unwrap(), Err(LoadFailed::Cache(Error::LoadTimeout { .. }))));
    turns().await;
}

#[tokio::test]
async fn a_load_that_is_done_leaves_no_timer() {
    let policy = Policy { timeout: Some(HOUR), soft_timeout: Some(minutes(30)), ..GRACE };
    let world = World::new();
    world.origin.close();
    let (waiting, other) = (world.asking(policy), world.asking(policy));
    turns().await;
    let watched = || !format!("{:?}", world.clock).contains("wakers: {}");
    assert!(watched());
    world.origin.open();
    assert_eq!((waiting.await.unwrap().unwrap(), other.await.unwrap().unwrap()), (1, 1));
    turns().await;
    assert!(!watched(), "{:?}", world.clock);
}

#[test]
fn a_time_limit_on_a_runtime_without_time_says_what_it_needs() {
    let cache: Cache<u64, u64> = Cache::builder().build();
    let runtime = Builder::new_current_thread().build().unwrap();
    let policy = Policy { timeout: Some(SECOND), ..FRESH };
    let asked = runtime.block_on(cache.get_or_load(&7, policy, |_| async { Ok::<_, Infallible>(1) }));
    let text = asked.unwrap_err().to_string();
    assert!(text.contains("timeout") && text.contains("enable_time"), "{text}");
    cache.validate().unwrap();
}

// --- "not found" and kept errors

/// Asks for a number that is not there, `calls` counting.
async fn find(world: &World, policy: Policy, calls: &Arc<AtomicU64>) -> Option<u64> {
    let calls = Arc::clone(calls);
    let load = move |_| async move {
        calls.fetch_add(1, SeqCst);
        Ok::<_, Infallible>(None)
    };
    world.cache.get_or_find("k", policy, load).await.unwrap()
}

#[tokio::test]
async fn not_found_is_remembered_for_its_own_time_and_raised_anew() {
    let (world, calls) = (World::new(), Arc::default());
    assert_eq!(find(&world, FINDS, &calls).await, None);
    for _ in 0..2 {
        assert!(matches!(world.ask(FINDS).await, Err(LoadFailed::NotFound)));
    }
    let entry = world.cache.peek("k").unwrap();
    assert_eq!((calls.load(SeqCst), entry.state, entry.value), (1, Standing::Missing, None));
    world.clock.advance(MINUTE);
    assert_eq!((find(&world, FINDS, &calls).await, calls.load(SeqCst), world.origin.calls()), (None, 2, 0));
    let stats = world.cache.stats();
    assert_eq!((stats.negative_hits, stats.misses, stats.load_errors), (2, 2, 0));
}

#[tokio::test]
async fn not_found_that_is_returned_is_returned_again() {
    let (world, calls) = (World::new(), Arc::default());
    assert_eq!((find(&world, FINDS, &calls).await, find(&world, FINDS, &calls).await), (None, None));
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test]
async fn not_found_that_is_set_is_one_whatever_its_key() {
    let world = World::new();
    world.cache.set_missing("k".into(), MINUTE);
    assert!(matches!(world.ask(FRESH).await, Err(LoadFailed::NotFound)));
    assert_eq!(world.cache.peek("k").unwrap().state, Standing::Missing);
    let stats = world.cache.stats();
    assert_eq!((stats.hits, stats.negative_hits, stats.loads), (0, 1, 0));
}

#[tokio::test]
async fn not_found_is_told_to_those_who_wait_for_a_value() {
    let world = World::new();
    let (cache, origin) = (world.cache.clone(), world.origin.clone());
    world.origin.close();
    let finding = tokio::spawn(async move {
        cache.get_or_find("k", FINDS, |_| async move { origin.call().await.map(|_| None) }).await
    });
    turns().await;
    let waiting = world.asking(FINDS);
    turns().await;
    world.origin.open();
    assert_eq!(finding.await.unwrap().unwrap(), None);
    assert!(matches!(waiting.await.unwrap(), Err(LoadFailed::NotFound)));
    assert_eq!(world.origin.calls(), 1);
}

#[tokio::test]
async fn without_a_time_for_it_not_found_is_not_remembered() {
    let (world, calls) = (World::new(), Arc::default());
    for _ in 0..3 {
        assert_eq!(find(&world, FRESH, &calls).await, None);
    }
    assert_eq!((calls.load(SeqCst), world.cache.len()), (3, 0));
}

#[tokio::test]
async fn not_found_ends_an_old_value_whatever_its_window() {
    let (world, calls) = (World::stale(GRACE).await, Arc::default());
    let policy = Policy { negative_ttl: Some(MINUTE), ..GRACE };
    for _ in 0..2 {
        assert_eq!(find(&world, policy, &calls).await, None);
    }
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test]
async fn what_is_set_missing_is_not_found_by_whoever_would_load_it() {
    let world = World::new();
    world.cache.set_missing("k".into(), MINUTE);
    assert!(matches!(world.ask(FRESH).await, Err(LoadFailed::NotFound)));
    assert_eq!((world.cache.get("k"), world.cache.contains("k"), world.origin.calls()), (None, false, 0));
    world.clock.advance(MINUTE);
    assert_eq!(world.ask(FRESH).await.unwrap(), 1);
    world.cache.set_missing("k".into(), MINUTE);
    assert!(!world.cache.replace("k".into(), 60, FRESH), "there is nothing to replace");
    assert!(world.cache.add("k".into(), 70, FRESH));
    assert_eq!(world.ask(FRESH).await.unwrap(), 70);
}

/// A load that fails, and says that its error is to be kept.
async fn banned(world: &World, policy: Policy) -> origin::Answer {
    let origin = world.origin.clone();
    let load = move |ctx: samovar::LoadContext| async move {
        ctx.keep_error(MINUTE);
        origin.call().await
    };
    world.cache.get_or_load("k", policy, load).await
}

#[tokio::test]
async fn a_kept_error_answers_for_its_time_and_is_no_value() {
    let world = World::new();
    world.origin.fail(Some("for good"));
    for _ in 0..1_000 {
        assert_eq!(error_of(banned(&world, FRESH).await), "for good");
    }
    assert_eq!((world.origin.calls(), world.cache.get("k")), (1, None));
    let other = world.cache.get_or_load("k", FRESH, |_| async { Ok::<_, Infallible>(1) }).await.unwrap_err();
    assert!(other.to_string().contains("io::error::Error"), "{other}");
    world.clock.advance(MINUTE);
    assert_eq!(error_of(banned(&world, FRESH).await), "for good");
    assert_eq!(world.origin.calls(), 2);
}

#[tokio::test]
async fn an_old_value_is_better_than_a_kept_error() {
    let world = World::stale(GRACE).await;
    world.origin.fail(Some("down"));
    for _ in 0..2 {
        assert_eq!(banned(&world, GRACE).await.unwrap(), 1);
    }
    assert_eq!(world.origin.calls(), 2);
}

#[tokio::test]
async fn a_loader_that_panics_leaves_the_old_value_in_use() {
    let world = World::stale(GRACE).await;
    let panics = |_| async { std::panic::resume_unwind(Box::new("out of beans")) };
    let answer: Result<u64, LoadFailed<io::Error>> = world.cache.get_or_load("k", GRACE, panics).await;
    assert_eq!((answer.unwrap(), world.ask(GRACE).await.unwrap(), world.origin.calls()), (1, 1, 1));
}
