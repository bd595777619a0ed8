//! Drives the machines of [`core::remote`](crate::core::remote) over a store, on tokio: what they say is next is done, and they are told
//! what came of it.
//!
//! It decides nothing but what bytes mean: a frame that cannot be read is no frame, and is replaced by what is loaded.

use super::stored::Stored;
use super::unanswered;
use super::{Action, Answer, Answers, Reply, Request, Store};
use crate::core::clock::{Clock, Millis, NEVER, later};
use crate::core::coherence::registers::Verdict;
use crate::core::remote::cell::{Framed, Under};
use crate::core::remote::fill::{End, Fill, Input, Next};
use crate::core::remote::write::{self, What};
use crate::core::remote::{Filled, Found, Frame, TOMBSTONE_LIFE, Token, Version, Wanted};
use crate::error::StoreError;
use crate::io::alarm::Alarm;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// How values become frames, and back.
pub trait Frames<V>: Sync {
    /// The frame of a value, or of its absence, and for how long it is of use. `None` if it cannot be one.
    fn encode(&self, value: Option<&V>) -> Option<(Vec<u8>, Option<Duration>)>;

    /// What a frame holds, and what has become of it by what was invalidated since; `None` if it cannot be read.
    fn decode(&self, stored: &Stored) -> Option<(Option<V>, Verdict)>;

    /// What is asked along with a claim: the cache's clock, if what moves there is known.
    fn clock(&self) -> Option<Request> {
        None
    }

    /// What that was answered.
    fn told(&self, _answer: Answer) {}

    /// The store cannot be asked: what memory has, if it is in doubt and answers then.
    fn suspect(&self, _error: &StoreError) -> Option<Frame<V>> {
        None
    }

    /// The store has nothing fresh: what memory has, if it is in doubt, is no more.
    fn refute(&self) {}
}

/// One key of a store.
pub struct Place<'a, C> {
    /// The store.
    pub store: &'a (dyn Store + 'a),
    /// The key.
    pub key: &'a [u8],
    /// The clock of the memory in front.
    pub clock: &'a Clock,
    /// How its values are kept.
    pub frames: &'a C,
}

impl<C> Place<'_, C> {
    /// Fills the key as the machine says. `load` is polled if nothing else has it; its error is given with the end it led to.
    pub async fn fill<V, E>(
        &self,
        (mut fill, mut next): (Fill<V>, Next<V>),
        load: impl Future<Output = Result<Option<V>, E>>,
    ) -> (End<V>, Option<E>)
    where
        V: Clone,
        C: Frames<V>,
    {
        let (mut load, mut failed) = (pin!(load), None);
        loop {
            let input = match next {
                Next::End(end) => return (end, failed),
                Next::Claim { token, wanted } => self.claim(token, wanted, fill.claim_life()).await,
                Next::Read => match self.store.read(self.key).await {
                    Ok(found) => {
                        let read = found.and_then(|stored| self.frame(&stored));
                        let good = read.filter(|(_, verdict)| *verdict == Verdict::Good).map(|(frame, _)| frame);
                        Input::Read(good.filter(|frame| self.is_fresh(frame)))
                    }
                    Err(_) => Input::Unknown,
                },
                Next::Await(_, pause) => {
                    Alarm::ring(self.clock, later(self.clock.now(), pause)).await;
                    Input::Awaited
                }
                Next::Load => {
                    let mut leaving = Leaving { store: self.store, key: self.key, claim: fill.kept_from_others() };
                    let loaded = self.load(&mut fill, load.as_mut()).await;
                    leaving.claim = None;
                    match loaded {
                        Ok(value) => Input::Loaded(value),
                        Err(error) => {
                            failed = Some(error);
                            Input::Failed
                        }
                    }
                }
                Next::Write { claim, value, newer_than } => {
                    match self.write_loaded(claim, value.as_ref(), newer_than).await {
                        Some(input) => input,
                        None => return (End::Loaded(value, None), failed),
                    }
                }
                Next::Release(token) => match self.store.release(self.key, token).await {
                    Ok(_) => Input::Released,
                    Err(_) => Input::Unknown,
                },
            };
            next = fill.step(input, self.clock.now()).expect("it was told what it had asked for");
        }
    }

    async fn claim<V>(&self, token: Token, mut wanted: Wanted, life: Duration) -> Input<V>
    where
        C: Frames<V>,
    {
        let mut unread = None;
        loop {
            match self.ask_claim(token, wanted, life).await {
                Ok(Reply::Claimed(Found::Fresh(stored))) => match self.frame(&stored) {
                    Some((frame, Verdict::Good)) => return Input::Claimed(Found::Fresh(frame)),
                    judged => {
                        // What has expired is still of use should the load fail.
                        unread = judged.is_none().then(|| stored.version());
                        wanted = Wanted::Newer(wanted.known().max(Some(stored.version())));
                    }
                },
                Ok(Reply::Claimed(Found::Claimed(token, old))) => {
                    self.frames.refute();
                    let old = old.filter(|stored| Some(stored.version()) != unread);
                    let old = old.and_then(|stored| Some(self.frame(&stored)?.0));
                    return Input::Claimed(Found::Claimed(token, old));
                }
                Ok(_) => return Input::Unknown,
                Err(error) => {
                    let suspect = self.frames.suspect(&error).filter(|_| matches!(wanted, Wanted::Newer(_)));
                    return suspect.map_or(Input::Unknown, |frame| Input::Claimed(Found::Fresh(frame)));
                }
            }
        }
    }

    /// Claims; the clock is asked along with that, before anything is loaded.
    async fn ask_claim<V>(&self, token: Token, wanted: Wanted, life: Duration) -> Answer
    where
        C: Frames<V>,
    {
        let claim = Request { key: self.key.to_vec().into(), action: Action::Claim { token, wanted, life } };
        let requests: Vec<Request> = [claim].into_iter().chain(self.frames.clock()).collect();
        let mut answers = self.store.ask(requests).await.into_iter();
        let claimed = answers.next().unwrap_or_else(|| Err(unanswered()));
        // It is known before what was found is judged by it.
        answers.for_each(|answer| self.frames.told(answer));
        claimed
    }

    /// The load, and its claim renewed meanwhile.
    async fn load<V: Clone, T>(&self, fill: &mut Fill<V>, mut load: Pin<&mut impl Future<Output = T>>) -> T {
        loop {
            let renewing = pin!(Alarm::ring(self.clock, fill.renew_at()));
            if let First::Left(loaded) = first(load.as_mut(), renewing).await {
                return loaded;
            }
            let Some(token) = fill.renew(self.clock.now()) else { continue };
            let renewed = pin!(self.store.renew(self.key, token, fill.claim_life()));
            match first(load.as_mut(), renewed).await {
                First::Left(loaded) => return loaded,
                First::Right(Ok(false)) => fill.claim_is_gone(token),
                First::Right(_) => {}
            }
        }
    }

    /// Offers what was loaded; `None` if it cannot be kept there, and its claim was taken away.
    async fn write_loaded<V>(
        &self,
        claim: Option<Token>,
        value: Option<&V>,
        newer_than: Option<Version>,
    ) -> Option<Input<V>>
    where
        C: Frames<V>,
    {
        let token = claim?;
        let Some((frame, keep)) = self.frames.encode(value) else {
            // A claim that cannot be taken away ends by itself.
            let _ = self.store.release(self.key, token).await;
            return None;
        };
        let filled = self.store.fill(self.key, (Under::Claim(token), newer_than), frame, keep).await;
        Some(filled.map_or(Input::Unknown, |filled| {
            Input::Filled(match filled {
                Filled::Written(version) => Filled::Written(version),
                Filled::Lost(stored) => self.frame(&stored).map_or(Filled::Gone, |(frame, _)| Filled::Lost(frame)),
                Filled::Gone => Filled::Gone,
            })
        }))
    }

    /// What a machine's [`WriteTier`](write::Effect::WriteTier) came to.
    ///
    /// # Errors
    ///
    /// What the store said, where that is to be told and not only acted on.
    pub async fn write<V>(&self, what: What<V>) -> (write::Input, Option<StoreError>)
    where
        C: Frames<V>,
    {
        let written = match what {
            What::Tombstone => self.store.invalidate(self.key, TOMBSTONE_LIFE).await,
            What::Value(value) => match self.frames.encode(Some(&value)) {
                Some((frame, keep)) => self.store.put(self.key, frame, keep).await,
                // It is not for the store, and what is there is of no use any more.
                None => self.store.invalidate(self.key, TOMBSTONE_LIFE).await,
            },
        };
        match written {
            Ok(version) => (write::Input::Written(version), None),
            Err(error) if error.undone => (write::Input::Unreachable, Some(error)),
            Err(error) => (write::Input::Unknown, Some(error)),
        }
    }

    fn is_fresh<V>(&self, frame: &Frame<V>) -> bool {
        self.clock.now() < frame.fresh_until
    }

    /// A frame, its moments on the clock of the memory, and whether it is as good as it says; `None` if it is of no use.
    fn frame<V>(&self, stored: &Stored) -> Option<(Frame<V>, Verdict)>
    where
        C: Frames<V>,
    {
        let (value, verdict) = self.frames.decode(stored)?;
        let (fresh_until, expires) = (moment(self.clock, stored.fresh_until()), moment(self.clock, stored.expires()));
        // When it was expired nobody noted: not later than now.
        let fresh_until = if verdict == Verdict::Stale { fresh_until.min(self.clock.now()) } else { fresh_until };
        let frame = Frame { version: stored.version(), value, fresh_until, expires };
        (verdict != Verdict::Gone).then_some((frame, verdict))
    }
}

/// A frame's moment, in µs since 1970, on a clock.
pub(crate) fn moment(clock: &Clock, micros: u64) -> Millis {
    let (now, millis) = (clock.now(), micros / 1000);
    let wall = clock.wall(now);
    match millis.checked_sub(wall) {
        _ if micros == u64::MAX => NEVER,
        Some(left) => now.saturating_add(left).min(NEVER),
        None => now.saturating_sub(wall - millis),
    }
}

/// A load that was stopped, or panicked, takes a claim away that keeps others from loading.
struct Leaving<'a> {
    store: &'a (dyn Store + 'a),
    key: &'a [u8],
    claim: Option<Token>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.claim {
            let release = Request { key: self.key.to_vec().into(), action: Action::Release { token } };
            // If it fails, the claim ends by itself.
            self.store.submit(vec![release], Answers::new(drop));
        }
    }
}

/// Which of two ended first.
enum First<L, R> {
    Left(L),
    Right(R),
}

/// Polls both until one has ended.
async fn first<L: Future, R: Future>(mut left: Pin<&mut L>, mut right: Pin<&mut R>) -> First<L::Output, R::Output> {
    poll_fn(|context| {
        if let Poll::Ready(left) = left.as_mut().poll(context) {
            return Poll::Ready(First::Left(left));
        }
        right.as_mut().poll(context).map(First::Right)
    })
    .await
}
