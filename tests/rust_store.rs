//! The store in this process's own memory keeps what all stores promise.
#![cfg(feature = "tokio")]

mod contract;

use samovar::StoreFailure;
use samovar::core::coherence::{How, Move, Name, Origin};
use samovar::io::store::ear::{Ear, News};
use samovar::io::store::local::LocalStore;
use samovar::io::store::{Action, Answers, Cursor, Paging, Reply, Request, Store, Tally, Tell};
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn the_contract_holds() {
    contract::holds(&LocalStore::default()).await;
}

/// A store on the worst of days that its promises allow: each request goes by itself, in any order, and is answered late.
struct Faulty {
    store: Arc<LocalStore>,
    random: Mutex<u64>,
}

impl Faulty {
    fn draw(&self, below: u64) -> u64 {
        let mut random = self.random.lock().unwrap();
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) % below
    }
}

impl Store for Faulty {
    fn submit(&self, requests: Vec<Request>, answers: Answers) {
        let mut left: Vec<_> = requests.into_iter().enumerate().collect();
        while !left.is_empty() {
            let (at, request) = left.swap_remove(self.draw(left.len() as u64) as usize);
            let (store, answers, pause, late) = (Arc::clone(&self.store), answers.clone(), self.draw(6), self.draw(4));
            tokio::spawn(async move {
                for _ in 0..pause {
                    tokio::task::yield_now().await;
                }
                let answer = (&*store as &dyn Store).ask_one(request.key, request.action).await;
                for _ in 0..late {
                    tokio::task::yield_now().await;
                }
                answers.give(vec![(at, answer)]);
            });
        }
    }

    fn scan(&self, prefix: &[u8], from: Cursor) -> Paging {
        self.store.scan(prefix, from)
    }

    fn tally(&self) -> Tally {
        self.store.tally()
    }

    fn close(&self) {
        self.store.close();
    }
}

#[tokio::test]
async fn the_contract_holds_where_answers_come_late_one_by_one_and_in_any_order() {
    for seed in 0..20 {
        contract::holds(&Faulty { store: Arc::default(), random: Mutex::new(seed) }).await;
    }
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
    let tell = |origin| Some(Arc::new(Tell { cache: b"shop".to_vec(), origin: Origin(origin) }));
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
