//! A store that is away, or of which nobody knows what it did: loads run, memory alone has what they bring, and all is well again when
//! it answers.

use super::wire::{Fare, stored};
use super::{KEPT, SECOND, TTL, World, fail, find, load, until};
use samovar::{Error, OnError, Outcome, Policy, StoreFailure};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::Semaphore;

#[tokio::test]
async fn without_its_store_a_cache_loads_and_memory_alone_has_it() {
    for fare in [Fare::Away, Fare::Mute] {
        let World { here, there, wire, .. } = World::new();
        wire.fares(fare);
        assert_eq!(load(&here, "a", TTL, 1).await, 1);
        assert_eq!((here.get("a"), here.fetch("b").await, here.queued()), (Some(1), Ok(None), 0));
        wire.fares(Fare::Well);
        assert_eq!(stored(&wire, "a").await, None);
        assert_eq!(load(&there, "a", TTL, 2).await, 2);
        assert_eq!(find(&here, "a", TTL).await, 1, "memory has it, for its ttl");
    }
}

#[tokio::test]
async fn many_keys_are_loaded_by_one_call_without_the_store() {
    let World { here, wire, .. } = World::new();
    wire.fares(Fare::Away);
    let keys = ["a", "b"].map(String::from);
    let found = here.get_or_load_many(keys, TTL, |_, keys: Vec<String>| async move {
        assert_eq!(keys.len(), 2);
        Ok::<_, Infallible>(keys.into_iter().map(|key| (key, 1)).collect())
    });
    assert_eq!(found.await.unwrap().len(), 2);
    assert_eq!(here.get_many(["a", "b"]), [Some(1), Some(1)]);
}

#[tokio::test]
async fn a_value_offered_to_a_store_that_never_answers_is_kept_nowhere() {
    let World { here, wire, .. } = World::new();
    let lost = Arc::clone(&wire);
    let load = here.get_or_load("a", TTL, |_| async move {
        lost.fares(Fare::Mute);
        Ok::<_, Infallible>(1)
    });
    assert_eq!(load.await.unwrap(), 1);
    assert_eq!(here.get("a"), None, "the store may have refused it");
    wire.fares(Fare::Well);
    assert_eq!(find(&here, "a", TTL).await, 1, "it had not");
}

#[tokio::test]
async fn a_write_the_store_was_not_told_of_is_in_memory_alone_until_it_answers() {
    let World { here, there, wire, .. } = World::new();
    there.set("a".into(), 1, TTL).await.unwrap();
    there.set("b".into(), 1, TTL).await.unwrap();
    wire.fares(Fare::Away);
    assert_eq!(here.set("a".into(), 2, TTL).await, Ok(Outcome::Queued));
    assert_eq!(here.delete("b").await, Ok(Outcome::Queued));
    assert_eq!((here.get("a"), here.queued()), (Some(2), 2));
    wire.fares(Fare::Well);
    assert!(stored(&wire, "a").await.is_some(), "it has an older one, and is told of that");
    here.set("c".into(), 3, TTL).await.unwrap();
    until(|| here.queued() == 0).await;
    assert_eq!((stored(&wire, "a").await, stored(&wire, "b").await), (None, None));
    assert_eq!(here.get("a"), None, "what nobody else has does not outlive that");
}

#[tokio::test]
async fn the_store_is_told_by_itself_once_it_answers() {
    let World { here, wire, clock, .. } = World::new();
    here.set("a".into(), 1, TTL).await.unwrap();
    wire.fares(Fare::Away);
    here.delete("a").await.unwrap();
    wire.fares(Fare::Well);
    clock.thaw();
    // The sweeper does it, a second later by the clock.
    let waited = tokio::time::timeout(30 * SECOND, async {
        while here.queued() > 0 {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("nobody else writes");
    assert_eq!(stored(&wire, "a").await, None);
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_an_invalidation() {
    let World { here, wire, .. } = World::new();
    here.set("a".into(), 1, TTL).await.unwrap();
    wire.fares(Fare::Mute);
    assert_eq!(here.set("a".into(), 2, TTL).await, Ok(Outcome::Queued));
    assert_eq!((here.get("a"), here.queued()), (None, 1));
    assert!(stored(&wire, "a").await.is_some(), "nobody knows that it was written");
    wire.fares(Fare::Well);
    here.delete("other").await.unwrap();
    assert_eq!((here.queued(), stored(&wire, "a").await), (0, None));
}

#[tokio::test]
async fn who_wants_to_know_is_told_and_loads_go_on() {
    let World { here, wire, .. } = World::with(|remote| remote.on_error(OnError::Raise));
    wire.fares(Fare::Away);
    let kind = |error: Error| if let Error::Store(error) = error { error.kind } else { panic!("{error}") };
    assert_eq!(here.set("a".into(), 1, TTL).await.map_err(kind), Err(StoreFailure::Unreachable));
    assert_eq!((here.get("a"), here.queued()), (Some(1), 1), "the same is done");
    assert_eq!(here.fetch("a").await, Ok(Some(1)), "memory has it");
    assert_eq!(here.fetch("b").await.map_err(kind), Err(StoreFailure::Unreachable));
    assert_eq!(here.fetch_many(["a", "b"]).await.map_err(kind), Err(StoreFailure::Unreachable));
    assert_eq!(here.delete("a").await.map_err(kind), Err(StoreFailure::Unreachable));
    assert_eq!(load(&here, "c", TTL, 3).await, 3);
}

#[tokio::test]
async fn an_old_value_in_memory_answers_where_store_and_origin_are_away() {
    let World { here, wire, clock, .. } = World::new();
    load(&here, "a", KEPT, 1).await;
    clock.advance(super::minutes(6));
    wire.fares(Fare::Away);
    assert_eq!(fail(&here, "a", KEPT).await.unwrap(), 1);
    wire.fares(Fare::Well);
    assert_eq!(fail(&here, "a", KEPT).await.unwrap(), 1);
    assert_eq!(here.stats().loads, 2, "not before it is time");
}

#[tokio::test]
async fn a_claim_that_was_forgotten_stores_nothing() {
    let World { here, wire, clock, .. } = World::new();
    let door = Arc::new(Semaphore::new(0));
    let (cache, gate) = (here.clone(), Arc::clone(&door));
    let asking = tokio::spawn(async move {
        let load = |_| async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(1)
        };
        cache.get_or_load("a", TTL, load).await.unwrap()
    });
    until(|| wire.store_tally().claims == 1).await;
    wire.fares(Fare::Away);
    clock.advance(11 * SECOND);
    tokio::task::yield_now().await;
    wire.fares(Fare::Well);
    assert_eq!(here.fetch("a").await, Ok(None), "the claim is over, and with that all that was known of the key");
    door.add_permits(1);
    assert_eq!(asking.await.unwrap(), 1);
    assert_eq!((here.get("a"), stored(&wire, "a").await), (None, None));
}

#[test]
fn a_runtime_without_time_is_refused_with_the_cure() {
    let world = World::new();
    world.clock.thaw();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let told = runtime.block_on(world.here.get_or_load("a", TTL, |_| async { Ok::<_, Infallible>(1) }));
    let text = told.unwrap_err().to_string();
    assert!(text.contains("remote") && text.contains("enable_time"), "{text}");
    let policy = Policy::ttl(SECOND);
    assert_eq!(runtime.block_on(world.here.set("a".into(), 1, policy)), Ok(Outcome::Applied));
}
