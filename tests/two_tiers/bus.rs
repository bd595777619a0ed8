//! What others are told of what is written here, and what becomes of a memory that hears of others.

use super::wire::Fare;
use super::{Names, SECOND, TTL, World, find, load, process, until};
use samovar::core::coherence::{How, Name, Origin};
use samovar::io::store::Store;
use samovar::io::store::ear::{Ear, Listening, News};
use samovar::io::store::local::LocalStore;
use samovar::{Cache, Remote};
use std::convert::Infallible;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Somebody else, who notes what is said of a cache.
#[derive(Default)]
struct Notes(Mutex<Vec<News>>);

impl Ear for Notes {
    fn hear(&self, news: News) {
        self.0.lock().unwrap().push(news);
    }
}

impl Notes {
    fn of(store: &LocalStore, cache: &str) -> (Arc<Notes>, Listening) {
        let notes = Arc::new(Notes::default());
        let ear = Arc::clone(&notes) as Arc<dyn Ear>;
        let listening = store.listen(cache.as_bytes(), Origin(1), false, ear).expect("it has a bus");
        notes.changed();
        (notes, listening)
    }

    /// The keys of which it was heard since the last time that they have changed.
    fn changed(&self) -> Vec<String> {
        let news = std::mem::take(&mut *self.0.lock().unwrap());
        let key = |news| match news {
            News::Changed { key, .. } => Some(String::from_utf8(key).unwrap()),
            _ => None,
        };
        news.into_iter().filter_map(key).collect()
    }
}

#[tokio::test]
async fn others_are_told_of_what_is_written_by_hand_and_of_nothing_that_is_loaded() {
    let World { here, wire, .. } = World::new();
    let (notes, _listening) = Notes::of(&wire.store, "app");
    here.set("a".into(), 1, TTL).await.unwrap();
    here.set_many([("b".into(), 1), ("c".into(), 1)], TTL).await.unwrap();
    assert_eq!(notes.changed(), ["app::a", "app::b", "app::c"]);
    here.note_missing("a".into(), SECOND).await.unwrap();
    assert_eq!(here.set_if_absent("d".into(), 1, TTL).await, Ok(true));
    assert_eq!(here.set_if_present("d".into(), 2, TTL).await, Ok(true));
    assert_eq!(notes.changed(), ["app::a", "app::d", "app::d"]);
    assert_eq!(here.set_if_absent("d".into(), 3, TTL).await, Ok(false));
    assert_eq!(notes.changed(), [""; 0], "nothing was written");
    here.delete_many(["b", "c"]).await.unwrap();
    here.set("d".into(), 1, samovar::Policy::ttl(std::time::Duration::ZERO)).await.unwrap();
    assert_eq!(notes.changed(), ["app::b", "app::c", "app::d"]);
    load(&here, "e", TTL, 1).await;
    assert_eq!(notes.changed(), [""; 0]);
}

#[tokio::test]
async fn others_are_told_late_of_what_the_store_was_told_late() {
    let World { here, wire, .. } = World::new();
    let (notes, _listening) = Notes::of(&wire.store, "app");
    wire.fares(Fare::Away);
    here.set("a".into(), 1, TTL).await.unwrap();
    here.delete("b").await.unwrap();
    assert_eq!(notes.changed(), [""; 0]);
    wire.fares(Fare::Well);
    here.set("c".into(), 1, TTL).await.unwrap();
    until(|| here.queued() == 0).await;
    let mut told = notes.changed();
    told.sort();
    assert_eq!(told, ["app::a", "app::b", "app::c"]);
}

#[tokio::test]
async fn a_cache_is_told_of_by_its_name_as_it_stands_in_keys() {
    let store = Arc::new(LocalStore::default());
    let (notes, _listening) = Notes::of(&store, "a%3Ab");
    let cache: Names = Cache::builder().name("a:b").remote(Arc::clone(&store)).build();
    cache.set("k".into(), 1, TTL).await.unwrap();
    assert_eq!(notes.changed(), ["a%3Ab::k"]);
}

/// Two processes that hear of each other.
fn world() -> World {
    world_with(|remote| remote)
}

fn world_with(option: impl Fn(Remote) -> Remote) -> World {
    let world = World::with(option);
    world.wire.has_bus.store(true, SeqCst);
    world
}

impl World {
    /// Something may have been missed, and nothing is proven again.
    fn loses(&self) {
        self.wire.say(&News::Lost);
        self.advance(3 * SECOND);
    }

    /// Nothing was missed before this.
    async fn is_proven(&self) {
        let store: &dyn Store = &self.wire.store;
        let told = store.registers("app", Default::default()).await.unwrap();
        self.wire.say(&News::Proven { until: Instant::now() + 1_000 * SECOND, told: Some(told) });
    }

    /// Somebody else invalidates or expires what bears this name.
    async fn moves(&self, path: &str, tag: &str, how: How) {
        let store: &dyn Store = &self.wire.store;
        store.move_registers("app", vec![Name::new(path, tag)], how, Origin(9)).await.unwrap();
    }
}

#[tokio::test]
async fn what_another_process_writes_or_deletes_leaves_memory_at_once() {
    let World { here, there, .. } = world();
    load(&here, "a", TTL, 1).await;
    assert_eq!(find(&there, "a", TTL).await, 1);
    assert_eq!(there.get("a"), Some(1));
    here.set("a".into(), 2, TTL).await.unwrap();
    assert_eq!((there.get("a"), here.get("a")), (None, Some(2)), "its own it keeps");
    assert_eq!(find(&there, "a", TTL).await, 2);
    there.delete("a").await.unwrap();
    assert_eq!((here.get("a"), here.contains("a")), (None, false));
    assert_eq!(here.fetch("a").await, Ok(None));
    assert_eq!(load(&here, "a", TTL, 3).await, 3);
    assert_eq!((here.bus_stats().heard, there.bus_stats().heard), (1, 1));
}

#[tokio::test]
async fn every_shard_hears_and_only_what_was_changed_leaves() {
    let World { clock, wire, there, .. } = world();
    let remote = Remote::over(Arc::clone(&wire));
    let here: Names = Cache::builder().name("app").clock(clock).max_entries(100_000).shards(8).remote(remote).build();
    assert_eq!(here.shards(), 8);
    for number in 0..100 {
        load(&here, &format!("k{number}"), TTL, number).await;
    }
    for number in (0..100).step_by(2) {
        there.set(format!("k{number}"), 1_000, TTL).await.unwrap();
    }
    for number in 0..100 {
        let expected = if number % 2 == 0 { None } else { Some(number) };
        assert_eq!(here.get(&*format!("k{number}")), expected);
    }
    wire.say(&News::Lost);
    assert!((0..100).all(|number| here.get(&*format!("k{number}")).is_none()), "all of it is in doubt");
    let before = wire.store_tally().claims;
    for number in (1..100).step_by(2) {
        assert_eq!(find(&here, &format!("k{number}"), TTL).await, number);
    }
    assert_eq!(wire.store_tally().claims - before, 50, "and each was asked for");
    here.validate().unwrap();
}

#[tokio::test]
async fn what_is_in_doubt_is_asked_for_before_it_is_served_and_once() {
    let world = world();
    let World { here, wire, .. } = &world;
    load(here, "a", TTL, 1).await;
    load(here, "b", TTL, 1).await;
    // Nobody hears of it.
    let store: &dyn Store = &wire.store;
    store.invalidate("app::b", SECOND).await.unwrap();
    assert_eq!(here.get("b"), Some(1));
    wire.say(&News::Lost);
    assert_eq!((here.get("a"), here.get("b")), (None, None));
    world.is_proven().await;
    assert_eq!((here.get("a"), here.contains("a")), (None, false), "nobody has looked since");
    assert_eq!(find(here, "a", TTL).await, 1);
    assert_eq!((here.get("a"), here.contains("a"), here.stats().remote_hits), (Some(1), true, 1));
    assert_eq!(here.fetch("b").await, Ok(None));
    assert_eq!(load(here, "b", TTL, 2).await, 2);
    assert_eq!((here.bus_stats().lost, here.bus_stats().unasked), (1, 0));
}

#[tokio::test]
async fn while_nothing_is_proven_what_was_asked_for_is_asked_for_again_after_a_second() {
    let world = world();
    let World { here, wire, .. } = &world;
    load(here, "a", TTL, 1).await;
    world.loses();
    let claims = || wire.store_tally().claims;
    assert_eq!(find(here, "a", TTL).await, 1);
    let before = claims();
    assert_eq!((find(here, "a", TTL).await, claims() - before), (1, 0));
    world.advance(SECOND);
    assert_eq!((find(here, "a", TTL).await, claims() - before), (1, 1));
}

#[tokio::test]
async fn what_is_in_doubt_answers_to_its_end_while_the_store_cannot_be_asked_and_is_counted() {
    let world = world();
    let World { here, wire, .. } = &world;
    load(here, "a", TTL, 1).await;
    load(here, "gone", TTL, 1).await;
    wire.fares(Fare::Away);
    world.loses();
    assert_eq!(here.get("a"), None, "nobody has asked yet");
    assert_eq!(find(here, "a", TTL).await, 1);
    assert_eq!((here.get("a"), here.contains("a")), (Some(1), true), "it is known to be away");
    assert_eq!(here.fetch("a").await, Ok(Some(1)));
    assert_eq!(here.bus_stats().unasked, 3);
    // What is loaded meanwhile is in memory alone, and in doubt from the start.
    assert_eq!(load(here, "b", TTL, 2).await, 2);
    assert_eq!(here.get("b"), Some(2));
    let store: &dyn Store = &wire.store;
    store.invalidate("app::gone", SECOND).await.unwrap();
    wire.fares(Fare::Well);
    world.is_proven().await;
    assert_eq!((here.get("a"), here.get("b"), here.get("gone")), (None, None, None));
    assert_eq!(find(here, "a", TTL).await, 1);
    assert_eq!((here.fetch("gone").await, here.fetch("b").await), (Ok(None), Ok(None)));
    wire.fares(Fare::Away);
    world.loses();
    assert_eq!(here.fetch("gone").await, Ok(None), "it was found to be gone");
    world.advance(6 * 60 * SECOND);
    assert_eq!((here.fetch("a").await, here.get("a")), (Ok(None), None), "its ttl is over");
}

#[tokio::test]
async fn what_was_loaded_without_the_store_is_compared_with_it_once_it_answers() {
    let World { here, there, wire, .. } = world();
    wire.fares(Fare::Away);
    assert_eq!(load(&here, "a", TTL, 1).await, 1);
    wire.fares(Fare::Well);
    assert_eq!(here.get("a"), None, "nobody knows what the store has");
    assert_eq!(load(&there, "a", TTL, 2).await, 2);
    assert_eq!(find(&here, "a", TTL).await, 2);
}

#[tokio::test]
async fn a_load_that_was_overtaken_is_not_stored_and_nobody_joins_it() {
    for lost in [false, true] {
        let World { here, there, wire, .. } = world();
        let door = Arc::new(Semaphore::new(0));
        let (cache, gate) = (here.clone(), Arc::clone(&door));
        let early = tokio::spawn(async move {
            let load = |_| async move {
                gate.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(1)
            };
            cache.get_or_load("a", TTL, load).await.unwrap()
        });
        until(|| wire.store_tally().claims == 1).await;
        if lost {
            let store: &dyn Store = &wire.store;
            store.invalidate("app::a", SECOND).await.unwrap();
            wire.say(&News::Lost);
        } else {
            there.delete("a").await.unwrap();
        }
        let cache = here.clone();
        let late = tokio::spawn(async move { load(&cache, "a", TTL, 2).await });
        // Where the key is known to have changed another load begins; else who comes late waits, and looks again.
        until(|| lost || wire.store_tally().claims == 2).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        door.add_permits(1);
        // Who loads second takes what was first.
        assert_eq!((early.await.unwrap(), late.await.unwrap()), (if lost { 1 } else { 2 }, 2));
        assert_eq!((here.fetch("a").await, there.fetch("a").await), (Ok(Some(2)), Ok(Some(2))));
    }
}

#[tokio::test]
async fn what_is_written_while_others_write_the_same_is_no_older_than_the_store() {
    let World { here, there, wire, .. } = world();
    load(&here, "a", TTL, 1).await;
    wire.fares(Fare::Slow);
    let cache = here.clone();
    let writing = tokio::spawn(async move { cache.set("a".into(), 2, TTL).await });
    until(|| wire.waiting() == 1).await;
    wire.fares(Fare::Well);
    there.set("a".into(), 3, TTL).await.unwrap();
    assert!(!here.contains("a"), "that is heard before it is answered");
    wire.give(0);
    writing.await.unwrap().unwrap();
    assert_eq!((here.get("a"), here.fetch("a").await), (None, Ok(Some(3))));
}

#[tokio::test]
async fn what_goes_with_its_namespace_or_a_tag_of_another_writer_is_neither_served_nor_found() {
    let world = world();
    let World { here, there, .. } = &world;
    load(here, "a", TTL, 1).await;
    find(there, "a", TTL).await;
    world.moves("other", "", How::Gone).await;
    assert_eq!((here.get("a"), there.get("a")), (Some(1), Some(1)));
    world.moves("", "", How::Gone).await;
    assert_eq!((here.get("a"), there.get("a"), here.len()), (None, None, 0));
    assert_eq!(here.fetch("a").await, Ok(None), "the store still has it, and it counts no more");
    assert_eq!(load(here, "a", TTL, 2).await, 2);
    assert_eq!(find(there, "a", TTL).await, 2);
    here.set("a".into(), 3, TTL).await.unwrap();
    assert_eq!(find(there, "a", TTL).await, 3, "written by hand after it was cleared");
    // One that has just begun learns what has moved before it believes the store.
    world.moves("", "", How::Stale).await;
    for listens in [true, false] {
        let new = process(&world.clock, Remote::over(Arc::clone(&world.wire)).bus(listens));
        assert_eq!(new.fetch("a").await, Ok(None));
    }
    let new = process(&world.clock, Remote::over(Arc::clone(&world.wire)));
    assert_eq!(load(&new, "a", TTL, 4).await, 4);
}

#[tokio::test]
async fn what_is_written_by_hand_over_several_servers_counts_as_later_than_what_was_heard() {
    let store = Arc::new(LocalStore::default());
    let cache = || -> Names { Cache::builder().name("app").remote(Arc::clone(&store)).build() };
    let (here, there) = (cache(), cache());
    here.set("a".into(), 1, TTL).await.unwrap();
    let registers: &dyn Store = &*store;
    registers.move_registers("app", vec![Name::new("", "")], How::Gone, Origin(9)).await.unwrap();
    assert_eq!(here.fetch("a").await, Ok(None));
    here.set("a".into(), 2, TTL).await.unwrap();
    assert_eq!(there.fetch("a").await, Ok(Some(2)));
}

#[tokio::test]
async fn what_was_cleared_counts_as_nothing_there_to_who_makes_conditions() {
    let world = world();
    let World { here, there, .. } = &world;
    for key in ["a", "b"] {
        here.set(key.into(), 1, TTL).await.unwrap();
    }
    world.moves("", "", How::Gone).await;
    assert_eq!(here.set_if_present("a".into(), 2, TTL).await, Ok(false));
    assert_eq!(there.set_if_absent("a".into(), 2, TTL).await, Ok(true));
    assert_eq!(here.set_if_absent("a".into(), 3, TTL).await, Ok(false));
    assert_eq!(here.set_if_present("a".into(), 4, TTL).await, Ok(true));
    assert_eq!((there.fetch("a").await, here.fetch("b").await), (Ok(Some(4)), Ok(None)));
    // One that has just begun asks what has moved before it takes the store at its word.
    let new = process(&world.clock, Remote::over(Arc::clone(&world.wire)).bus(false));
    assert_eq!(new.set_if_absent("b".into(), 5, TTL).await, Ok(true));
}

#[tokio::test]
async fn what_was_cleared_while_it_was_loaded_is_not_kept_by_the_store() {
    let world = world();
    let World { here, wire, .. } = &world;
    let store: Arc<super::wire::Wire> = Arc::clone(wire);
    let load_and_clear = |_| async move {
        let store: &dyn Store = &store.store;
        store.move_registers("app", vec![Name::new("", "")], How::Gone, Origin(9)).await.unwrap();
        Ok::<_, Infallible>(1)
    };
    assert_eq!(here.get_or_load("a", TTL, load_and_clear).await.unwrap(), 1);
    assert_eq!(here.get("a"), None);
    assert_eq!(load(&world.there, "a", TTL, 2).await, 2, "its load began before");
}

#[tokio::test]
async fn who_does_not_listen_hears_nothing_and_tells_all_the_same() {
    let World { here, there, wire, .. } = world_with(|remote| remote.bus(false));
    let (notes, _listening) = Notes::of(&wire.store, "app");
    load(&here, "a", TTL, 1).await;
    there.set("a".into(), 2, TTL).await.unwrap();
    assert_eq!((here.get("a"), here.bus_stats().heard, notes.changed()), (Some(1), 0, vec!["app::a".to_string()]));
}

#[tokio::test]
async fn what_programs_write_that_know_nothing_of_caches_is_heard_by_who_asks_for_that() {
    for external in [true, false] {
        let World { here, wire, .. } = world_with(|remote| remote.external_writers(external));
        load(&here, "a", TTL, 1).await;
        let store: &dyn Store = &wire.store;
        store.delete("app::a").await.unwrap();
        assert_eq!(
            (here.get("a"), here.fetch("a").await),
            (if external { (None, Ok(None)) } else { (Some(1), Ok(Some(1))) })
        );
    }
}

#[tokio::test]
async fn a_cache_that_is_gone_listens_no_more() {
    let World { here, there, wire, .. } = world();
    load(&here, "a", TTL, 1).await;
    let ears = || wire.heard_by().len();
    assert_eq!(ears(), 1);
    drop((here, there));
    // The sweeper may look at it just now.
    until(|| ears() == 0).await;
}
