//! Requests over a plain store: what has to be read for them, what they come to, and what has to be written.
//!
//! Whoever has such a store does the reading and writing; [`bytes`](super::bytes) says what becomes of one key. Where the store can swap, what was
//! decided holds only if the bytes are still those that were read: else it is decided anew. Where it cannot, another process may write
//! between the reading and the writing, and its invalidation, say, is lost. Within a process a [`Gate`] keeps those apart.

use super::bytes::{Change, step};
use super::kept::no_frame;
use super::{Answer, Reply, Request};
use crate::core::clock::Clock;
use crate::core::remote::{Filled, Version};
use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The time of a node that has no store to give it: µs since 1970, never the same twice, never back.
#[derive(Debug, Default)]
pub struct NodeClock {
    clock: Clock,
    last: AtomicU64,
}

impl NodeClock {
    /// By this clock.
    pub fn new(clock: Clock) -> Self {
        NodeClock { clock, last: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        self.clock.wall(self.clock.now()) * 1000
    }

    /// A version that is above all that were given or seen here.
    fn version(&self, now: u64) -> Version {
        let next = |last: u64| now.max(last + 1);
        Version(next(self.last.fetch_update(Relaxed, Relaxed, |last| Some(next(last))).unwrap_or_else(|last| last)))
    }

    fn saw(&self, reply: &Reply) {
        let stamp = match reply {
            Reply::Written(version) | Reply::Buried(version, _) | Reply::Filled(Filled::Written(version)) => version.0,
            Reply::Moved(stamp) => *stamp,
            Reply::Told(told) => told.stamp,
            _ => return,
        };
        self.last.fetch_max(stamp, Relaxed);
    }
}

/// See the module: requests that were submitted together, by their keys.
#[derive(Debug)]
pub struct Plain {
    store: String,
    requests: Vec<Request>,
    /// Each key once, and the places of its requests.
    keys: Vec<(Vec<u8>, Vec<usize>)>,
}

impl Plain {
    /// Sorts what the store of this name is asked.
    pub fn new(store: &str, requests: Vec<Request>) -> Self {
        let mut keys: Vec<(Vec<u8>, Vec<usize>)> = Vec::new();
        let mut known: HashMap<&[u8], usize> = HashMap::new();
        for (place, request) in requests.iter().enumerate() {
            let key = *known.entry(&request.key).or_insert_with(|| {
                keys.push((request.key.to_vec(), Vec::new()));
                keys.len() - 1
            });
            keys[key].1.push(place);
        }
        drop(known);
        Plain { store: store.to_owned(), requests, keys }
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// What has to be read, each key once.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.keys.iter().map(|(key, _)| &key[..])
    }

    /// The requests on the key that is at this place among [`keys`](Self::keys).
    pub fn places(&self, key: usize) -> &[usize] {
        &self.keys[key].1
    }

    /// The keys on which more is asked than what is there.
    pub fn changing(&self) -> impl Iterator<Item = &[u8]> {
        let changes = |place: &usize| !matches!(self.requests[*place].action, super::Action::Read);
        self.keys.iter().filter(move |(_, places)| places.iter().any(changes)).map(|(key, _)| &key[..])
    }

    /// What the requests on this key come to where these bytes are: the answers, and what has to be done first to make them true.
    pub fn decide(&self, key: usize, held: Option<&[u8]>, clock: &NodeClock) -> (Vec<(usize, Answer)>, Change) {
        let (mut answers, mut change) = (Vec::new(), Change::None);
        for &place in self.places(key) {
            let there = match &change {
                Change::None => held,
                Change::Write(bytes, _) => Some(&bytes[..]),
                Change::Remove => None,
            };
            let now = clock.now();
            let Some((reply, next)) = step(there, &self.requests[place].action, clock.version(now), now) else {
                answers.push((place, Err(no_frame(&self.store))));
                continue;
            };
            clock.saw(&reply);
            answers.push((place, Ok(reply)));
            if next != Change::None {
                change = next;
            }
        }
        (answers, change)
    }
}

/// Who may work on which keys: one at a time on each, in the order they came.
#[derive(Debug)]
pub struct Gate<T> {
    busy: HashSet<Vec<u8>>,
    waiting: VecDeque<(Vec<Vec<u8>>, T)>,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Gate { busy: HashSet::new(), waiting: VecDeque::new() }
    }
}

impl<T> Gate<T> {
    /// Lets it in if nobody works on one of its keys or has waited longer for one; else it waits, and comes out of
    /// [`leave`](Self::leave).
    pub fn enter(&mut self, keys: Vec<Vec<u8>>, who: T) -> Option<T> {
        self.waiting.push_back((keys, who));
        self.let_in().pop()
    }

    /// Somebody who was let in goes: those who may come in now.
    pub fn leave(&mut self, keys: &[Vec<u8>]) -> Vec<T> {
        keys.iter().for_each(|key| _ = self.busy.remove(key));
        self.let_in()
    }

    /// Who waits does so no more.
    pub fn give_up(&mut self, is_it: impl Fn(&T) -> bool) -> Vec<T> {
        self.waiting.retain(|(_, who)| !is_it(who));
        self.let_in()
    }

    /// Nobody comes in any more: those who waited.
    pub fn close(&mut self) -> Vec<T> {
        self.waiting.drain(..).map(|(_, who)| who).collect()
    }

    fn let_in(&mut self) -> Vec<T> {
        let (mut inside, mut still, mut wanted) = (Vec::new(), VecDeque::new(), HashSet::new());
        for (keys, who) in self.waiting.drain(..) {
            if keys.iter().any(|key| self.busy.contains(key) || wanted.contains(key)) {
                wanted.extend(keys.iter().cloned());
                still.push_back((keys, who));
            } else {
                self.busy.extend(keys);
                inside.push(who);
            }
        }
        self.waiting = still;
        inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::store::Action;
    use std::time::Duration;

    fn keys(text: &str) -> Vec<Vec<u8>> {
        text.bytes().map(|key| vec![key]).collect()
    }

    #[test]
    fn one_at_a_time_works_on_a_key_and_who_came_first_is_first() {
        let mut gate = Gate::default();
        assert_eq!(gate.enter(keys("ab"), 1), Some(1));
        assert_eq!(gate.enter(keys("bc"), 2), None);
        assert_eq!(gate.enter(keys("c"), 3), None, "2 has waited longer for it");
        assert_eq!(gate.enter(keys("d"), 4), Some(4));
        assert_eq!(gate.enter(keys(""), 5), Some(5));
        assert_eq!(gate.leave(&keys("ab")), [2]);
        assert_eq!(gate.leave(&keys("bc")), [3]);
        assert_eq!(gate.enter(keys("c"), 6), None);
        assert_eq!(gate.enter(keys("ce"), 7), None);
        assert_eq!(gate.enter(keys("e"), 8), None);
        assert_eq!(gate.give_up(|&who| who == 7), [8]);
        assert_eq!(gate.leave(&keys("c")), [6]);
        gate.leave(&keys("cde"));
        assert!(gate.busy.is_empty() && gate.waiting.is_empty());
    }

    #[test]
    fn requests_on_one_key_see_what_those_before_them_left() {
        let frame = [&[1, 0, 0, 0][..], &[255; 16], b"value"].concat();
        let ask = |key: &'static str, action| Request { key: key.into(), action };
        let put = Action::Put { frame: frame.clone(), keep: None, tell: None };
        let requests = vec![
            ask("a", put.clone()),
            ask("b", Action::Read),
            ask("a", Action::Read),
            ask("a", Action::Delete),
            ask("a", Action::Read),
            ask("a", Action::Put { frame: vec![1; 19], keep: None, tell: None }),
        ];
        let plain = Plain::new("a store", requests);
        assert_eq!(plain.keys().collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(plain.changing().collect::<Vec<_>>(), [b"a"]);
        let clock = NodeClock::default();
        let (answers, change) = plain.decide(0, None, &clock);
        assert_eq!(change, Change::Remove);
        let [(0, Ok(Reply::Written(_))), (2, Ok(Reply::Read(Some(stored)))), rest @ ..] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!(stored.frame(), frame);
        assert!(matches!(rest, [(3, Ok(Reply::Done(true))), (4, Ok(Reply::Read(None))), (5, Err(_))]), "{rest:?}");
        assert_eq!(plain.decide(1, None, &clock), (vec![(1, Ok(Reply::Read(None)))], Change::None));
    }

    #[test]
    fn a_node_gives_no_version_twice_and_none_below_what_it_has_met() {
        let clock = Clock::system();
        clock.freeze();
        let node = NodeClock::new(clock.clone());
        let one = node.version(node.now());
        let other = node.version(node.now());
        assert!(one < other);
        clock.advance(Duration::from_secs(1));
        assert_eq!(node.version(node.now()), Version(node.now()));
        node.saw(&Reply::Written(Version(node.now() + 77)));
        assert_eq!(node.version(node.now()), Version(node.now() + 78));
    }
}
