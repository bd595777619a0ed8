//! Asking a store from async Rust: a future for an answer, and names for the requests. It decides nothing.

use super::{Action, Answer, Answers, Reply, Request, Store, Stored};
use crate::core::coherence::{How, Known, Name, Origin, Told};
use crate::core::remote::cell::Under;
use crate::core::remote::{Filled, Found, Token, Version, Wanted};
use crate::error::{StoreError, StoreFailure};
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::oneshot;

/// The answers that are there, and who waits for the rest.
struct Gathering {
    answers: Vec<Option<Answer>>,
    left: usize,
    done: Option<oneshot::Sender<Vec<Option<Answer>>>>,
}

impl Gathering {
    fn add(&mut self, answers: Vec<(usize, Answer)>) {
        for (at, answer) in answers {
            let before = self.answers[at].replace(answer);
            self.left -= usize::from(before.is_none());
        }
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            // Who asked may have gone.
            let _ = done.send(std::mem::take(&mut self.answers));
        }
    }
}

/// Of a store that never answered.
pub(crate) fn unanswered() -> StoreError {
    broken("it was dropped before it answered", "keep it open while it is asked")
}

fn broken(what: &str, cure: &str) -> StoreError {
    let (kind, store) = (StoreFailure::Unreachable, "the store".into());
    StoreError { kind, store, what: what.into(), cure: cure.into(), undone: false }
}

macro_rules! expect {
    ($answer:expr, $reply:pat => $value:expr) => {
        match $answer? {
            $reply => Ok($value),
            _ => Err(broken("it gave an answer to another question", "mend the store, which breaks its own promise")),
        }
    };
}

impl dyn Store + '_ {
    /// The answers, in the order of the requests, when all are there.
    pub async fn ask(&self, requests: Vec<Request>) -> Vec<Answer> {
        let count = requests.len();
        if count == 0 {
            return Vec::new();
        }
        let (done, answers) = oneshot::channel();
        let gathering = Gathering { answers: (0..count).map(|_| None).collect(), left: count, done: Some(done) };
        let gathering = Mutex::new(gathering);
        self.submit(requests, Answers::new(move |answers| gathering.lock().add(answers)));
        let answers = answers.await.unwrap_or_else(|_| (0..count).map(|_| None).collect());
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unanswered()))).collect()
    }

    /// The answer to one request.
    pub async fn ask_one(&self, key: impl Into<Vec<u8>>, action: Action) -> Answer {
        self.ask(vec![Request { key: key.into().into(), action }]).await.pop().unwrap_or_else(|| Err(unanswered()))
    }

    /// See [`Action::Read`].
    pub async fn read(&self, key: impl Into<Vec<u8>>) -> Result<Option<Stored>, StoreError> {
        expect!(self.ask_one(key, Action::Read).await, Reply::Read(stored) => stored)
    }

    /// See [`Action::Claim`].
    pub async fn claim(
        &self,
        key: impl Into<Vec<u8>>,
        token: Token,
        wanted: Wanted,
        life: Duration,
    ) -> Result<Found<Stored>, StoreError> {
        let action = Action::Claim { token, wanted, life };
        expect!(self.ask_one(key, action).await, Reply::Claimed(found) => found)
    }

    /// See [`Action::Fill`].
    pub async fn fill(
        &self,
        key: impl Into<Vec<u8>>,
        (under, newer_than): (Under, Option<Version>),
        frame: Vec<u8>,
        keep: Option<Duration>,
    ) -> Result<Filled<Stored>, StoreError> {
        let action = Action::Fill { under, newer_than, frame, keep, tell: None };
        expect!(self.ask_one(key, action).await, Reply::Filled(filled) => filled)
    }

    /// See [`Action::Put`].
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        frame: Vec<u8>,
        keep: Option<Duration>,
    ) -> Result<Version, StoreError> {
        expect!(self.ask_one(key, Action::Put { frame, keep, tell: None }).await, Reply::Written(version) => version)
    }

    /// See [`Action::Invalidate`].
    pub async fn invalidate(&self, key: impl Into<Vec<u8>>, keep: Duration) -> Result<Version, StoreError> {
        expect!(self.ask_one(key, Action::Invalidate { keep, by: None, tell: None }).await, Reply::Buried(version, _) => version)
    }

    /// See [`Action::Delete`].
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<bool, StoreError> {
        expect!(self.ask_one(key, Action::Delete).await, Reply::Done(done) => done)
    }

    /// See [`Action::Renew`].
    pub async fn renew(&self, key: impl Into<Vec<u8>>, token: Token, life: Duration) -> Result<bool, StoreError> {
        expect!(self.ask_one(key, Action::Renew { token, life }).await, Reply::Done(done) => done)
    }

    /// See [`Action::Release`].
    pub async fn release(&self, key: impl Into<Vec<u8>>, token: Token) -> Result<bool, StoreError> {
        expect!(self.ask_one(key, Action::Release { token }).await, Reply::Done(done) => done)
    }

    /// See [`Action::Move`].
    pub async fn move_registers(
        &self,
        cache: impl Into<Vec<u8>>,
        names: Vec<Name>,
        how: How,
        origin: Origin,
    ) -> Result<u64, StoreError> {
        let action = Action::Move { names, how, by: None, origin };
        expect!(self.ask_one(cache, action).await, Reply::Moved(stamp) => stamp)
    }

    /// See [`Action::Registers`].
    pub async fn registers(&self, cache: impl Into<Vec<u8>>, known: Known) -> Result<Told, StoreError> {
        expect!(self.ask_one(cache, Action::Registers { known }).await, Reply::Told(told) => told)
    }

    /// What is under each of these keys, in one round trip.
    pub async fn get_many<K: Into<Vec<u8>>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Result<Option<Stored>, StoreError>> {
        let requests = keys.into_iter().map(|key| Request { key: key.into().into(), action: Action::Read }).collect();
        let answers = self.ask(requests).await;
        answers.into_iter().map(|answer| expect!(answer, Reply::Read(stored) => stored)).collect()
    }

    /// Writes each of these, in one round trip.
    pub async fn set_many<K: Into<Vec<u8>>>(
        &self,
        values: impl IntoIterator<Item = (K, Vec<u8>, Option<Duration>)>,
    ) -> Vec<Result<Version, StoreError>> {
        let put = |(key, frame, keep): (K, _, _)| Request {
            key: key.into().into(),
            action: Action::Put { frame, keep, tell: None },
        };
        let answers = self.ask(values.into_iter().map(put).collect()).await;
        answers.into_iter().map(|answer| expect!(answer, Reply::Written(version) => version)).collect()
    }

    /// Forgets each of these, in one round trip; tells of each whether there was anything.
    pub async fn delete_many<K: Into<Vec<u8>>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Result<bool, StoreError>> {
        let requests = keys.into_iter().map(|key| Request { key: key.into().into(), action: Action::Delete }).collect();
        let answers = self.ask(requests).await;
        answers.into_iter().map(|answer| expect!(answer, Reply::Done(done) => done)).collect()
    }
}
