//! Requests of several that are made at one moment, carried to a store together.

use super::ear::{Ear, Listening};
use super::{Action, Answer, Answers, Cursor, Paging, Request, Store, Tally};
use crate::core::coherence::Origin;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};

/// A store that keeps what it is asked until it is [flushed](Self::flush), and then asks the one behind it once.
pub(crate) struct Gathered<'a> {
    store: &'a dyn Store,
    waiting: Mutex<Vec<(Request, Way)>>,
    /// Ways that no answer has gone.
    open: Arc<AtomicUsize>,
}

/// Where one answer goes.
struct Way {
    answers: Answers,
    at: usize,
    open: Arc<AtomicUsize>,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.open.fetch_sub(1, AcqRel);
    }
}

impl<'a> Gathered<'a> {
    pub fn over(store: &'a dyn Store) -> Self {
        Gathered { store, waiting: Mutex::default(), open: Arc::default() }
    }

    /// Asks what has gathered; the clock once, however many want to know what it says.
    pub fn flush(&self) {
        let (mut requests, mut ways, mut clocks) = (Vec::<Request>::new(), Vec::<Vec<Way>>::new(), Vec::<usize>::new());
        for (request, way) in std::mem::take(&mut *self.waiting.lock()) {
            let is_clock = matches!(request.action, Action::Registers { .. });
            match clocks.iter().find(|&&at| is_clock && requests[at] == request) {
                Some(&at) => ways[at].push(way),
                None => {
                    clocks.extend(is_clock.then_some(requests.len()));
                    requests.push(request);
                    ways.push(vec![way]);
                }
            }
        }
        if requests.is_empty() {
            return;
        }
        let ways = Mutex::new(ways);
        let give = move |answers: Vec<(usize, Answer)>| {
            for (at, answer) in answers {
                let ways: Vec<Way> = ways.lock().get_mut(at).map(std::mem::take).unwrap_or_default();
                ways.into_iter().for_each(|way| way.answers.give(vec![(way.at, answer.clone())]));
            }
        };
        self.store.submit(requests, Answers::new(give));
    }

    /// True if nobody waits for an answer.
    pub fn is_quiet(&self) -> bool {
        self.open.load(Acquire) == 0
    }
}

impl Store for Gathered<'_> {
    fn submit(&self, requests: Vec<Request>, answers: Answers) {
        self.open.fetch_add(requests.len(), AcqRel);
        let way = |at| Way { answers: answers.clone(), at, open: Arc::clone(&self.open) };
        self.waiting.lock().extend(requests.into_iter().enumerate().map(|(at, request)| (request, way(at))));
    }

    fn scan(&self, prefix: &[u8], from: Cursor) -> Paging {
        self.store.scan(prefix, from)
    }

    fn tally(&self) -> Tally {
        self.store.tally()
    }

    fn listen(&self, cache: &[u8], origin: Origin, external: bool, ear: Arc<dyn Ear>) -> Option<Listening> {
        self.store.listen(cache, origin, external, ear)
    }

    fn close(&self) {
        self.store.close();
    }
}

/// What has not been asked when it goes is asked nobody, but for claims that others wait for.
impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        self.waiting.lock().retain(|(request, _)| matches!(request.action, Action::Release { .. }));
        self.flush();
    }
}
