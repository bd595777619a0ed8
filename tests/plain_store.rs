//! A store that can do no more than get, set and delete bytes keeps what all stores promise, with `swap` and without.
#![cfg(feature = "tokio")]

mod contract;

use contract::{ANY, LIFE, MINUTE, fresh, token};
use samovar::core::remote::cell::Under;
use samovar::core::remote::{Filled, Found};
use samovar::io::store::bytes::Change;
use samovar::io::store::plain::{NodeClock, Plain};
use samovar::io::store::{Action, Answer, Answers, Cursor, Paging, Reply, Request, Store, Tally};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes, and until when.
type Bytes = (Vec<u8>, Option<Instant>);

/// What is plain about it: each of these is one step, and nothing else is.
#[derive(Default)]
struct Map(Mutex<BTreeMap<Vec<u8>, Bytes>>);

impl Map {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut map = self.0.lock().unwrap();
        map.retain(|_, (_, end)| end.is_none_or(|end| Instant::now() < end));
        map.get(key).map(|(bytes, _)| bytes.clone())
    }

    fn set(&self, key: &[u8], bytes: Vec<u8>, life: Option<Duration>) {
        self.0.lock().unwrap().insert(key.to_vec(), (bytes, life.map(|life| Instant::now() + life)));
    }

    fn delete(&self, key: &[u8]) {
        self.0.lock().unwrap().remove(key);
    }

    /// Sets it if that is what is there; else says what is.
    fn swap(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        bytes: Vec<u8>,
        life: Option<Duration>,
    ) -> Result<(), Option<Vec<u8>>> {
        let mut map = self.0.lock().unwrap();
        let there =
            map.get(key).filter(|(_, end)| end.is_none_or(|end| Instant::now() < end)).map(|(bytes, _)| &bytes[..]);
        if there != expected {
            return Err(there.map(<[u8]>::to_vec));
        }
        map.insert(key.to_vec(), (bytes, life.map(|life| Instant::now() + life)));
        Ok(())
    }
}

/// A node's way to it.
struct PlainStore {
    map: Arc<Map>,
    clock: NodeClock,
    swaps: bool,
    tally: Mutex<Tally>,
}

impl PlainStore {
    fn new(map: &Arc<Map>, swaps: bool) -> Self {
        PlainStore { map: Arc::clone(map), clock: NodeClock::default(), swaps, tally: Mutex::default() }
    }

    fn work(&self, plain: &Plain, key: usize, name: &[u8]) -> Vec<(usize, Answer)> {
        let mut held = self.map.get(name);
        loop {
            let (answers, change) = plain.decide(key, held.as_deref(), &self.clock);
            match change {
                Change::None => {}
                Change::Remove => self.map.delete(name),
                Change::Write(bytes, life) if self.swaps => match self.map.swap(name, held.as_deref(), bytes, life) {
                    Ok(()) => {}
                    Err(there) => {
                        self.tally.lock().unwrap().retries += 1;
                        held = there;
                        continue;
                    }
                },
                Change::Write(bytes, life) => self.map.set(name, bytes, life),
            }
            return answers;
        }
    }
}

impl Store for PlainStore {
    fn submit(&self, requests: Vec<Request>, answers: Answers) {
        requests.iter().for_each(|request| self.tally.lock().unwrap().ask(&request.action));
        let plain = Plain::new("a map", requests);
        for (key, name) in plain.keys().enumerate() {
            let done = self.work(&plain, key, name);
            done.iter().for_each(|(_, answer)| self.tally.lock().unwrap().answer(answer));
            answers.give(done);
        }
    }

    fn scan(&self, prefix: &[u8], _from: Cursor) -> Paging {
        let mut map = self.map.0.lock().unwrap();
        map.retain(|_, (_, end)| end.is_none_or(|end| Instant::now() < end));
        let keys = map.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        Box::pin(std::future::ready(Ok((keys, None))))
    }

    fn tally(&self) -> Tally {
        *self.tally.lock().unwrap()
    }

    fn close(&self) {}
}

#[tokio::test]
async fn the_contract_holds_with_swap_and_without() {
    for swaps in [true, false] {
        contract::holds(&PlainStore::new(&Arc::default(), swaps)).await;
    }
}

/// Many threads at one key, each with a node of its own.
fn at_once<T: Send>(map: &Arc<Map>, what: impl Fn(&dyn Store, usize) -> T + Sync) -> Vec<T> {
    let begin = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        let work = |number| {
            let (begin, what, store) = (&begin, &what, PlainStore::new(map, true));
            scope.spawn(move || {
                begin.wait();
                what(&store, number)
            })
        };
        let threads: Vec<_> = (0..8).map(work).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn ask(store: &dyn Store, key: &str, action: Action) -> Reply {
    let (sent, answer) = std::sync::mpsc::channel();
    let give = Answers::new(move |answers| answers.into_iter().for_each(|(_, answer)| sent.send(answer).unwrap()));
    store.submit(vec![Request { key: key.to_owned().into(), action }], give);
    answer.recv().unwrap().unwrap()
}

#[test]
fn of_nodes_that_claim_a_key_at_once_one_has_it_and_of_fills_one_is_written() {
    let map = Arc::default();
    for round in 0..200 {
        let key = format!("k{round}");
        let claims = at_once(&map, |store, number| {
            let claim = Action::Claim { token: token(number as u128 + 1), wanted: ANY, life: LIFE };
            match ask(store, &key, claim) {
                Reply::Claimed(Found::Claimed(token, None)) => token,
                other => panic!("{other:?}"),
            }
        });
        assert!(claims.windows(2).all(|pair| pair[0] == pair[1]), "{claims:?}");
        let filled = at_once(&map, |store, number| {
            let (frame, under) = (fresh(&number.to_string()), Under::Claim(claims[0]));
            ask(store, &key, Action::Fill { under, newer_than: None, frame, keep: Some(MINUTE), tell: None })
        });
        let written = filled.iter().filter(|reply| matches!(reply, Reply::Filled(Filled::Written(_)))).count();
        let lost = filled.iter().filter(|reply| matches!(reply, Reply::Filled(Filled::Lost(_)))).count();
        assert_eq!((written, lost), (1, 7), "{filled:?}");
    }
}

#[test]
fn versions_of_nodes_that_write_at_once_differ() {
    let map = Arc::default();
    let mut versions: Vec<_> = at_once(&map, |store, _| {
        let put = || Action::Put { frame: fresh("x"), keep: None, tell: None };
        (0..200).map(|_| ask(store, "k", put())).collect::<Vec<_>>()
    })
    .into_iter()
    .flatten()
    .map(|reply| if let Reply::Written(version) = reply { version } else { panic!("{reply:?}") })
    .collect();
    versions.sort();
    assert!(versions.is_sorted_by(|one, next| one < next));
}
