//! What others are told of what is written here, and what becomes of a memory that hears of others.

use super::wire::Fare;
use super::{SECOND, TTL, World, load, until};
use samovar::core::coherence::Origin;
use samovar::io::store::Store;
use samovar::io::store::ear::{Ear, Listening, News};
use samovar::io::store::local::LocalStore;
use std::sync::{Arc, Mutex};

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
    here.set("d".into(), 1, samovar::Policy::ttl(0 * SECOND)).await.unwrap();
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
    let cache: super::Names = samovar::Cache::builder().name("a:b").remote(Arc::clone(&store)).build();
    cache.set("k".into(), 1, TTL).await.unwrap();
    assert_eq!(notes.changed(), ["a%3Ab::k"]);
}
