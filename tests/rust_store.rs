//! The store in this process's own memory keeps what all stores promise.
#![cfg(feature = "tokio")]

mod contract;

use samovar::StoreFailure;
use samovar::core::coherence::{How, Move, Name, Origin};
use samovar::io::store::ear::{Ear, News};
use samovar::io::store::local::LocalStore;
use samovar::io::store::{Action, Reply, Store, Tell};
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn the_contract_holds() {
    contract::holds(&LocalStore::default()).await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let store = LocalStore::default();
    let store: &dyn Store = &store;
    store.put("k", contract::fresh("x"), None).await.unwrap();
    store.close();
    contract::failure(store.read("k").await, StoreFailure::Unreachable, "closed");
}

/// Keeps what it hears.
#[derive(Default)]
struct Notes(Mutex<Vec<News>>);

impl Ear for Notes {
    fn hear(&self, news: News) {
        self.0.lock().unwrap().push(news);
    }
}

impl Notes {
    fn heard(&self) -> Vec<News> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn who_listens_is_told_by_whoever_writes() {
    let local = LocalStore::default();
    let store: &dyn Store = &local;
    let [here, there, outside, other] = [(); 4].map(|()| Arc::new(Notes::default()));
    let listen = |cache: &[u8], origin, external, ear: &Arc<Notes>| {
        store.listen(cache, Origin(origin), external, Arc::clone(ear) as Arc<dyn Ear>).unwrap()
    };
    let _here = listen(b"shop", 1, false, &here);
    let there_listens = listen(b"shop", 2, false, &there);
    let _outside = listen(b"shop", 1, true, &outside);
    let _other = listen(b"shop2", 1, false, &other);
    for ear in [&here, &there, &outside, &other] {
        assert!(matches!(ear.heard()[..], [News::Proven { told: Some(_), .. }]));
    }
    let tell = |origin| Some(Tell { cache: b"shop".to_vec(), origin: Origin(origin) });
    let put = |origin| Action::Put { frame: contract::fresh("x"), keep: None, tell: tell(origin) };
    let Ok(Reply::Written(version)) = store.ask_one("shop::k", put(1)).await else { panic!("it is written") };
    let (key, names) = (b"shop::k".to_vec(), vec![Name::new("", "a")]);
    let at = store.move_registers("shop", names.clone(), How::Gone, Origin(2)).await.unwrap();
    assert!(at > version.0);
    let moved = News::Moved(Move { names, how: How::Gone, at });
    assert_eq!(there.heard(), [News::Changed { key: key.clone(), version }]);
    assert_eq!(here.heard(), std::slice::from_ref(&moved));
    assert_eq!(outside.heard(), [News::Touched { key }, moved]);
    assert_eq!(other.heard(), []);
    let told = store.registers("shop", contract::NOTHING).await.unwrap();
    assert_eq!((told.messages, told.moves), (2, 1));
    drop(there_listens);
    store.ask_one("shop::k", put(1)).await.unwrap();
    assert_eq!(there.heard(), []);
    store.close();
    assert!(matches!(here.heard()[..], [News::Lost]));
}
