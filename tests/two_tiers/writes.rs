//! What is written by hand: the store first, then memory, whatever happens on the way.

use super::wire::{Fare, Wire, stored};
use super::{KEPT, Names, TTL, World, find, load, process, until};
use samovar::codec::refusal::Refusal;
use samovar::codec::values::Json;
use samovar::{Cache, Clock, Error, Outcome, Policy, Remote, minutes};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn what_is_set_is_in_both_tiers_until_it_is_deleted() {
    let World { here, there, wire, .. } = World::new();
    assert_eq!(here.set("a".into(), 1, TTL).await, Ok(Outcome::Applied));
    assert_eq!((here.get("a"), there.get("a")), (Some(1), None));
    assert_eq!((there.fetch("a").await, there.get("a")), (Ok(Some(1)), Some(1)));
    assert_eq!(there.delete("a").await, Ok(Outcome::Applied));
    assert_eq!((there.get("a"), stored(&wire, "a").await), (None, None));
    assert_eq!(here.get("a"), Some(1), "it does not hear of that");
    assert_eq!(here.set("a".into(), 2, Policy::ttl(Duration::ZERO)).await, Ok(Outcome::Applied));
    assert_eq!((here.get("a"), stored(&wire, "a").await), (None, None), "a ttl of zero deletes");
    let stats = there.stats();
    assert_eq!((stats.invalidations, stats.remote_hits, stats.misses), (1, 1, 2), "get asks memory alone");
}

#[tokio::test]
async fn many_are_written_read_and_deleted_in_one_round_trip() {
    let World { here, there, wire, .. } = World::new();
    let three = HashMap::from([("a", 1), ("b", 2), ("c", 3)].map(|(key, value)| (key.to_string(), value)));
    assert_eq!(here.set_many(three.clone(), TTL).await, Ok(Outcome::Applied));
    assert_eq!(there.fetch_many(["a", "b", "c", "d"]).await, Ok(three.clone()));
    assert_eq!(there.fetch_many(["a", "b", "c"]).await, Ok(three));
    assert_eq!(there.delete_many(["a", "b", "d"]).await, Ok(Outcome::Applied));
    assert_eq!(wire.take_submitted(), [3, 5, 3], "and the clock with what is read first");
    assert_eq!(there.fetch_many(["a", "b", "c"]).await, Ok(HashMap::from([("c".into(), 3)])));
    assert_eq!(there.fetch_many::<str>([]).await, Ok(HashMap::<String, u64>::new()));
    assert_eq!(there.delete_many::<str>([]).await, Ok(Outcome::Applied));
}

#[tokio::test]
async fn nothing_found_is_noted_in_both_tiers() {
    let World { here, there, .. } = World::new();
    assert_eq!(here.note_missing("a".into(), minutes(1)).await, Ok(Outcome::Applied));
    assert_eq!((here.fetch("a").await, here.stats().negative_hits), (Ok(None), 1));
    assert_eq!(there.fetch("a").await, Ok(None));
    assert_eq!(there.get_or_find("a", TTL, |_| async { Ok::<_, Error>(Some(1)) }).await.unwrap(), None);
    assert_eq!((there.stats().loads, there.stats().remote_hits), (0, 1));
}

#[tokio::test]
async fn the_store_comes_first_and_a_write_goes_on_without_its_writer() {
    let World { here, wire, .. } = World::new();
    here.set("a".into(), 1, TTL).await.unwrap();
    wire.fares(Fare::Slow);
    let cache = here.clone();
    let writing = tokio::spawn(async move { cache.set("a".into(), 2, TTL).await });
    until(|| wire.waiting() == 1).await;
    assert_eq!(here.get("a"), Some(1), "the store has not answered");
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    wire.give(0);
    assert_eq!(here.get("a"), Some(2));
}

/// Two writes whose answers arrive in the wrong order.
async fn overtaken(first: Option<u64>, second: Option<u64>) -> (Option<u64>, Option<u64>) {
    let World { here, wire, clock, .. } = World::new();
    here.set("a".into(), 7, TTL).await.unwrap();
    wire.fares(Fare::Slow);
    let write = |value: Option<u64>| {
        let cache = here.clone();
        tokio::spawn(async move {
            match value {
                Some(value) => cache.set("a".into(), value, TTL).await,
                None => cache.delete("a").await,
            }
        })
    };
    let one = write(first);
    until(|| wire.waiting() == 1).await;
    let two = write(second);
    until(|| wire.waiting() == 2).await;
    wire.fares(Fare::Well);
    wire.give(1);
    assert_eq!(two.await.unwrap(), Ok(Outcome::Applied));
    wire.give(0);
    assert_eq!(one.await.unwrap(), Ok(Outcome::Applied));
    let other = process(&clock, Remote::over(Arc::clone(&wire)));
    (here.get("a"), other.fetch("a").await.unwrap())
}

#[tokio::test]
async fn an_older_write_whose_answer_comes_late_leaves_memory_no_older_than_the_store() {
    assert_eq!(overtaken(Some(1), None).await, (None, None));
    assert_eq!(overtaken(None, Some(2)).await, (Some(2), Some(2)));
    let (memory, store) = overtaken(Some(1), Some(2)).await;
    assert_eq!(store, Some(2));
    assert!(memory.is_none() || memory == store, "{memory:?}");
}

#[tokio::test]
async fn one_of_all_who_set_what_is_absent_is_told_so() {
    let World { here, there, wire, .. } = World::new();
    assert_eq!(here.set_if_present("a".into(), 1, TTL).await, Ok(false));
    assert_eq!(here.set_if_absent("a".into(), 1, TTL).await, Ok(true));
    assert_eq!(there.set_if_absent("a".into(), 2, TTL).await, Ok(false), "its memory has nothing, the store has");
    assert_eq!((there.get("a"), there.fetch("a").await), (None, Ok(Some(1))));
    assert_eq!(there.set_if_present("a".into(), 3, TTL).await, Ok(true));
    assert_eq!((there.get("a"), stored(&wire, "a").await.is_some()), (Some(3), true));
    for fare in [Fare::Away, Fare::Mute] {
        wire.fares(fare);
        let error = there.set_if_absent("a".into(), 4, TTL).await.unwrap_err();
        assert!(matches!(error, Error::Store(_)), "{error}");
        assert_eq!((there.get("a"), there.queued()), (None, 0), "what is there may be somebody else's");
    }
    let zero = there.set_if_absent("a".into(), 4, Policy::ttl(Duration::ZERO)).await.unwrap_err();
    assert!(zero.to_string().contains("ttl"), "{zero}");
}

#[tokio::test]
async fn what_was_fetched_comes_into_memory_only_if_nothing_has_happened_to_it_since() {
    let World { here, there, wire, .. } = World::new();
    let held = async |change: &'static str| {
        here.set("a".into(), 1, TTL).await.unwrap();
        there.delete("other").await.unwrap();
        wire.fares(Fare::Slow);
        let cache = there.clone();
        let fetching = tokio::spawn(async move { cache.fetch("a").await });
        until(|| wire.waiting() == 1).await;
        wire.fares(Fare::Well);
        match change {
            "set" => drop(there.set("a".into(), 2, TTL).await),
            "delete" => drop(there.delete("a").await),
            _ => {}
        }
        wire.give(0);
        let fetched = fetching.await.unwrap();
        let kept = there.get("a");
        there.delete("a").await.unwrap();
        (fetched.unwrap(), kept)
    };
    assert_eq!(held("nothing").await, (Some(1), Some(1)));
    assert_eq!(held("set").await, (Some(1), Some(2)));
    assert_eq!(held("delete").await, (Some(1), None));
}

#[tokio::test]
async fn a_value_that_cannot_be_written_is_refused_before_anything_is_stored() {
    let World { clock, wire, .. } = World::new();
    let remote = || Remote::over(Arc::clone(&wire)).max_value_bytes(8);
    let cache: Cache<String, String> = Cache::builder().name("app").clock(clock).remote(remote()).build();
    let long = || "x".repeat(9);
    cache.set("a".into(), "short".into(), TTL).await.unwrap();
    let error = cache.set("a".into(), long(), TTL).await.unwrap_err();
    assert!(matches!(error, Error::Codec { .. }), "{error}");
    assert!(error.to_string().contains("app::a") && error.to_string().contains("max_value_bytes"), "{error}");
    assert_eq!(cache.get("a"), Some("short".into()));
    let both = [("b".to_string(), "short".to_string()), ("c".into(), long())];
    assert!(cache.set_many(both, TTL).await.is_err());
    assert_eq!(cache.fetch("b").await, Ok(None));
    let load = |_| async move { Ok::<_, Error>("x".repeat(9)) };
    assert_eq!(cache.get_or_load("d", TTL, load).await.unwrap(), long(), "who loads it gets it");
    assert_eq!((cache.get("d"), stored(&wire, "d").await), (Some(long()), None), "and memory alone has it");
}

#[test]
fn what_would_leave_the_store_as_it_was_says_so() {
    let World { here, .. } = World::new();
    let refused = |write: &dyn Fn(&Names)| {
        let panic = catch_unwind(AssertUnwindSafe(|| write(&here))).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    let texts = [
        (refused(&|cache| cache.insert("a".into(), 1, TTL)), "await set,"),
        (refused(&|cache| assert!(cache.add("a".into(), 1, TTL))), "await set_if_absent,"),
        (refused(&|cache| assert!(cache.replace("a".into(), 1, TTL))), "await set_if_present,"),
        (refused(&|cache| cache.set_missing("a".into(), minutes(1))), "await note_missing,"),
        (refused(&|cache| assert!(cache.remove("a"))), "await delete,"),
        (refused(&|cache| cache.invalidate("a")), "await delete,"),
        (refused(&|cache| cache.clear()), "await delete_many,"),
    ];
    for (text, cure) in texts {
        assert!(text.contains("'app'") && text.contains(cure), "{text}");
    }
}

#[tokio::test]
async fn other_names_and_namespaces_are_other_entries() {
    let clock = Clock::system();
    let wire = Wire::new(clock.clone());
    let cache = |name: &str, namespace: &str| -> Names {
        let remote = Remote::over(Arc::clone(&wire)).namespace(namespace);
        Cache::builder().name(name).remote(remote).build()
    };
    let all = [cache("app", ""), cache("app", "x"), cache("app:", "x"), cache("other", "")];
    for (value, cache) in (0..).zip(&all) {
        cache.set("a".into(), value, TTL).await.unwrap();
    }
    let long = "long ".repeat(100);
    for (value, name) in (0..).zip([("app", ""), ("app", "x"), ("app:", "x"), ("other", "")]) {
        let fresh = cache(name.0, name.1);
        assert_eq!(fresh.fetch("a").await, Ok(Some(value)));
        assert_eq!(fresh.fetch(&long).await, Ok(None));
    }
    all[0].set(long.clone(), 9, TTL).await.unwrap();
    assert_eq!(cache("app", "").fetch(&long).await, Ok(Some(9)));
}

#[tokio::test]
async fn what_another_codec_has_written_is_loaded_anew_and_replaced() {
    let World { clock, wire, here, .. } = World::new();
    let remote = Remote::over(Arc::clone(&wire)).codec(Json);
    let json: Names = Cache::builder().name("app").clock(clock).remote(remote).build();
    here.set("a".into(), 1, KEPT).await.unwrap();
    assert_eq!(json.fetch("a").await, Ok(None));
    assert_eq!(json.refusals(), [(Refusal::UnknownSerializer, 1)]);
    assert_eq!(load(&json, "a", TTL, 2).await, 2);
    assert!(stored(&wire, "a").await.unwrap().ends_with(b"2"), "it is JSON now");
    assert_eq!(find(&json, "a", TTL).await, 2);
}

#[tokio::test]
async fn who_listens_hears_what_a_write_replaces() {
    let World { clock, wire, .. } = World::new();
    let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let cache: Names = Cache::builder()
        .name("app")
        .clock(clock)
        .remote(Arc::clone(&wire))
        .on_evict(move |key: &String, value, reason| told.lock().push(format!("{key} {value} {reason:?}")))
        .build();
    cache.set("a".into(), 1, TTL).await.unwrap();
    cache.set("a".into(), 2, TTL).await.unwrap();
    cache.delete("a").await.unwrap();
    assert_eq!(*heard.lock(), ["a 1 Replaced", "a 2 Removed"]);
}
