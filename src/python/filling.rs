//! How a lease is filled where a store is behind the memory: it is asked and claimed before the loader is called, and offered the
//! value before the callers are told.
//!
//! [`core::remote::fill`](crate::core::remote::fill) says what is next. Here it is done, by callbacks on an event loop or by a
//! blocked thread; both share all but the waiting. No task is made for it, and no Python runs but the user's.

use super::blocking;
use super::bridge::{self, Caller};
use super::coding::{Fetched, clipped};
use super::copy;
use super::pending::Holds;
use super::recipe::Kept;
use super::remote::Behind;
use super::request::{Ending, Judged, Request};
use super::state::State;
use super::task::{self, Job, Load};
use super::tier::Object;
use crate::core::flight::{Lease, lifetime};
use crate::core::policy::Lifetime;
use crate::core::remote::cell::{Framed, Under};
use crate::core::remote::fill::{End, Fill, Input, Next};
use crate::core::remote::{CLAIM_LIFE, Filled, Found, Frame, Sharing, Token, Version, Wanted};
use crate::io::store::stored::Stored;
use crate::io::store::{self, Action, Answer, Reply};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A lease that is being filled.
pub struct Filling {
    machine: Fill<()>,
    /// What the entry is called in the store.
    key: Vec<u8>,
    token: Token,
    /// The claim it loads under.
    held: Option<Token>,
    /// What the store had, or has now.
    found: Option<Fetched>,
    /// What it had before.
    old: Option<Fetched>,
    /// The version of what the store has and nobody here can read.
    unread: Option<Version>,
    judged: Option<Judged>,
    /// The life of what was offered to it.
    offered: Option<Lifetime>,
}

/// What the store was asked.
#[derive(Clone, Copy)]
enum Asked {
    Claim(Wanted),
    Fill,
    Release,
}

/// What is to be done.
enum Do {
    Ask(Asked, Action),
    Load,
    End(End<()>),
}

/// What a store's answer leads to.
enum Told {
    Next(Next<()>),
    /// What is there cannot be read: something newer than that is wanted.
    Again(Asked, Action),
}

impl Filling {
    /// Of a lease that was just taken; `None` if its entry is of this process alone.
    pub fn begin(py: Python<'_>, state: &State, request: &Request) -> PyResult<Option<(Filling, Next<()>)>> {
        let Some(behind) = &request.behind else { return Ok(None) };
        if request.space.is_disabled() {
            return Ok(None);
        }
        let Some(key) = behind.remote.key_of(py, state, &request.space, &request.spot)? else { return Ok(None) };
        let token = Token::new(random()?);
        // What the store has there may be no more, and it has yet to hear so.
        let wanted = match request.refresh || behind.remote.is_behind(&key) {
            true => Wanted::Anew,
            false => {
                let (entry, _) = request.spot.locate(py, &request.tier)?;
                let memory = request.tier.memory.lock();
                Wanted::Newer(entry.and_then(|entry| memory.version(memory.entries.resolve(entry)?)))
            }
        };
        let (machine, next) = Fill::begin(token, wanted, Sharing::Process);
        let filling = Filling {
            machine,
            key,
            token,
            held: None,
            found: None,
            old: None,
            unread: None,
            judged: None,
            offered: None,
        };
        Ok(Some((filling, next)))
    }

    fn step(&mut self, request: &Request, input: Input<()>) -> Next<()> {
        // It is told what it had asked for.
        self.machine.step(input, request.tier.clock.now()).unwrap_or(Next::End(End::Failed))
    }

    /// What the machine wants done.
    fn doing(&mut self, py: Python<'_>, request: &Request, behind: &Behind, next: Next<()>) -> PyResult<Do> {
        Ok(match next {
            Next::Claim { token, wanted } => {
                Do::Ask(Asked::Claim(wanted), Action::Claim { token, wanted, life: CLAIM_LIFE })
            }
            Next::Load => {
                if let Some(token) = self.held {
                    behind.remote.claims.hold(token, &self.key);
                }
                Do::Load
            }
            Next::Write { claim: Some(token), newer_than, .. } => match self.pack(py, request, behind)? {
                Some((frame, keep)) => {
                    let under = Under::Claim(token);
                    Do::Ask(Asked::Fill, Action::Fill { under, newer_than, frame, keep })
                }
                None => {
                    behind.remote.tell(self.key.clone(), Action::Release { token });
                    Do::End(End::Loaded(None, None))
                }
            },
            Next::Release(token) => Do::Ask(Asked::Release, Action::Release { token }),
            Next::End(end) => Do::End(end),
            Next::Write { claim: None, .. } | Next::Read | Next::Await(_) => Do::End(End::Forgone(None)),
        })
    }

    /// The frame of what was loaded; `None` for what is of this process alone.
    fn pack(&mut self, py: Python<'_>, request: &Request, behind: &Behind) -> PyResult<Option<super::coding::Packed>> {
        let Some(Judged { kept: Ok(kept), failed, .. }) = &self.judged else { return Ok(None) };
        let Some(ttl) = kept.ttl else { return Ok(None) };
        let missing = kept.is_negative();
        if let (true, Some(error)) = (missing, failed)
            && !error.bind(py).is_instance(request.tier.state.not_found(py)?)?
        {
            // An error that is remembered, of which others know nothing.
            return Ok(None);
        }
        let (clock, began) = (&request.tier.clock, request.began.load(Relaxed));
        let terms = (ttl, missing, request.adapted(kept));
        let life = lifetime(&request.recipe.policy, terms, (began, clock.now()), || request.tier.draw_of_life());
        let value = kept.plain(py)?;
        let what = kept.written(&value);
        let packed = behind.coding.get().pack(py, &self.key, what, (&life, began), clock);
        let packed = match packed {
            Ok(packed) => packed,
            Err(error) => {
                task::unstorable(&request.tier, &request.recipe.name, &error);
                None
            }
        };
        self.offered = packed.is_some().then_some(life);
        Ok(packed)
    }

    fn read(
        &self,
        py: Python<'_>,
        request: &Request,
        behind: &Behind,
        stored: &Stored,
    ) -> Option<(Fetched, Frame<()>)> {
        let fetched = behind.coding.get().read(py, &self.key, stored, request.tier.clock.both())?;
        let Fetched { fresh_until, expires, version, .. } = fetched;
        let value = fetched.value.as_ref().map(drop);
        Some((fetched, Frame { version, value, fresh_until, expires }))
    }

    /// What the store's answer leads to.
    fn told(
        &mut self,
        py: Python<'_>,
        request: &Request,
        behind: &Behind,
        (asked, answer): (Asked, Answer),
    ) -> PyResult<Told> {
        let input = match (asked, answer) {
            (Asked::Claim(wanted), Ok(Reply::Claimed(Found::Fresh(stored)))) => {
                match self.read(py, request, behind, &stored) {
                    Some((mut fetched, frame)) => {
                        if let Some(packed) = fetched.resealed.take() {
                            behind.remote.rewrite(&self.key, fetched.version, packed);
                        }
                        self.found = Some(fetched);
                        Input::Claimed(Found::Fresh(frame))
                    }
                    None => {
                        self.unread = Some(stored.version());
                        let wanted = Wanted::Newer(wanted.known().max(Some(stored.version())));
                        let action = Action::Claim { token: self.token, wanted, life: CLAIM_LIFE };
                        return Ok(Told::Again(Asked::Claim(wanted), action));
                    }
                }
            }
            (Asked::Claim(_), Ok(Reply::Claimed(Found::Claimed(token, old)))) => {
                self.held = Some(token);
                let old = old.filter(|stored| Some(stored.version()) != self.unread);
                let old = old.and_then(|stored| self.read(py, request, behind, &stored));
                let (fetched, frame) = old.unzip();
                self.old = fetched;
                Input::Claimed(Found::Claimed(token, frame))
            }
            (Asked::Fill, Ok(Reply::Filled(filled))) => Input::Filled(match filled {
                Filled::Written(version) => Filled::Written(version),
                Filled::Gone => Filled::Gone,
                Filled::Lost(stored) => match self.read(py, request, behind, &stored) {
                    Some((fetched, frame)) => {
                        self.found = Some(fetched);
                        Filled::Lost(frame)
                    }
                    None => Filled::Gone,
                },
            }),
            (Asked::Release, Ok(_)) => Input::Released,
            (_, Err(error)) => {
                behind.remote.failed(py, &error)?;
                Input::Unknown
            }
            (_, Ok(_)) => Input::Unknown,
        };
        Ok(Told::Next(self.step(request, input)))
    }

    /// The loader has come to its end.
    fn loaded(&mut self, request: &Request, behind: &Behind, judged: Judged) -> Next<()> {
        if let Some(token) = self.held
            && !behind.remote.claims.end(token)
        {
            self.machine.claim_is_gone(token);
        }
        let input = match &judged.kept {
            Ok(kept) => Input::Loaded((!kept.is_negative()).then_some(())),
            Err(_) => Input::Failed,
        };
        self.judged = Some(judged);
        self.step(request, input)
    }

    /// Nobody wants it any more.
    fn abandon(&self, behind: &Behind) {
        if self.held == Some(self.token) {
            behind.remote.claims.end(self.token);
            behind.remote.tell(self.key.clone(), Action::Release { token: self.token });
        }
    }

    /// What the end means, and for whom.
    fn end(
        self,
        py: Python<'_>,
        state: &State,
        request: &Request,
        behind: &Behind,
        end: End<()>,
    ) -> PyResult<(Judged, Ending)> {
        let Filling { key, found, old, judged, offered, .. } = self;
        let (now, policy, most) = (request.tier.clock.now(), &request.recipe.policy, behind.remote.most);
        let taken = |fetched: Fetched| -> PyResult<(Judged, Lifetime, _)> {
            let (life, version) = (fetched.lifetime(policy, most, now), fetched.version);
            Ok((judged_of(py, state, request, &key, fetched)?, life, version))
        };
        let failed = || PyRuntimeError::new_err("a load ended with nothing to tell of it");
        Ok(match (end, found, judged) {
            (End::Found(_), Some(fetched), _) => {
                let (judged, life, version) = taken(fetched)?;
                (judged, Ending::Found(life, version))
            }
            (End::Lost(_), Some(fetched), _) => {
                let (judged, life, version) = taken(fetched)?;
                (judged, Ending::Written(life, Some(version)))
            }
            (End::Loaded(_, version), _, Some(judged)) => match offered {
                Some(life) => (judged, Ending::Written(clipped(life, most, now, policy), version)),
                None => (judged, Ending::Loaded),
            },
            (End::Forgone(_), _, Some(judged)) => (judged, Ending::Forgone),
            (End::Old(_), _, Some(judged)) => match old.and_then(|old| old.value) {
                Some(value) => {
                    let (stored, kind) = copy::isolate(value.bind(py), request.recipe.copy)?;
                    (judged, Ending::Old((stored.unbind(), kind)))
                }
                None => (judged, Ending::Loaded),
            },
            (_, _, Some(judged)) => (judged, Ending::Loaded),
            (_, _, None) => return Err(failed()),
        })
    }
}

/// Bits that fork does not copy.
pub fn random() -> PyResult<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        PyRuntimeError::new_err(format!(
            "the operating system has no random bytes to give ({error}); nothing can be claimed"
        ))
    })?;
    Ok(u128::from_le_bytes(bytes))
}

/// What was found, as if it had been loaded here.
fn judged_of(py: Python<'_>, state: &State, request: &Request, key: &[u8], fetched: Fetched) -> PyResult<Judged> {
    if fetched.value.is_none() && fetched.returned {
        let nothing = state.not_found(py)?.clone().unbind();
        let kept = Kept { value: nothing.clone_ref(py), kind: copy::NOTHING, ttl: Some(None), weight: 1, since: 0 };
        return Ok(Judged { value: Some(nothing), failed: None, kept: Ok(kept) });
    }
    let Some(value) = fetched.value else {
        let text = format!("nothing is under {}", String::from_utf8_lossy(key));
        let error = state.not_found(py)?.call1((text,))?.unbind();
        let kept = Kept { ttl: Some(None), ..Kept::nothing(error.clone_ref(py), Default::default()) };
        return Ok(Judged { value: None, failed: Some(error), kept: Ok(kept) });
    };
    let (stored, kind) = request.tier.isolate(value.bind(py), request.recipe.copy)?;
    let weight = if request.behind.as_ref().is_some_and(|behind| behind.remote.keeps) {
        request.tier.weigh(value.bind(py))?
    } else {
        1
    };
    let kept = Kept { value: stored.unbind(), kind, ttl: Some(None), weight, since: 0 };
    Ok(Judged { value: Some(value), failed: None, kept: Ok(kept) })
}

/// A result that nobody loaded: an error of this side.
fn failed(py: Python<'_>, error: PyErr) -> Judged {
    let error = error.into_value(py).into_any();
    Judged { value: None, failed: Some(error.clone_ref(py)), kept: Err(error) }
}

/// A lease that is filled by callbacks on an event loop.
pub struct Driven {
    state: &'static State,
    filling: Filling,
    load: Load,
    asked: Option<Asked>,
}

impl Holds for Driven {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let Filling { found, old, judged, .. } = &self.filling;
        let fetched = [found, old].into_iter().flatten().filter_map(|fetched| fetched.value.as_ref());
        let judged = judged.iter().flat_map(|judged| {
            let kept = judged.kept.as_ref().map_or_else(|error| error, |kept| &kept.value);
            [Some(kept), judged.value.as_ref(), judged.failed.as_ref()].into_iter().flatten()
        });
        fetched.chain(judged).all(&mut *visit) && self.load.visit(visit)
    }
}

/// Has a lease filled on its loop; gives it back if its entry is of this process alone.
pub fn run(py: Python<'_>, state: &'static State, load: Load) -> Option<Load> {
    match Filling::begin(py, state, &load.request) {
        Ok(None) => return Some(load),
        Ok(Some((filling, next))) => {
            task::is_under_way(py, &load);
            Box::new(Driven { state, filling, load, asked: None }).go(py, next);
        }
        Err(error) => load.settle(py, state, &failed(py, error), Ending::Loaded),
    }
    None
}

impl Driven {
    fn go(mut self: Box<Self>, py: Python<'_>, mut next: Next<()>) {
        let request = Arc::clone(&self.load.request);
        let Some(behind) = &request.behind else { return };
        loop {
            match self.filling.doing(py, &request, behind, next) {
                Ok(Do::Ask(asked, action)) => return self.ask(py, behind, asked, action),
                Ok(Do::Load) => match task::start(py, self.state, Job::Fill(self)) {
                    Some((Job::Fill(driven), judged)) => {
                        self = driven;
                        task::is_under_way(py, &self.load);
                        next = self.filling.loaded(&request, behind, judged);
                    }
                    _ => return,
                },
                Ok(Do::End(end)) => {
                    let Driven { state, filling, load, .. } = *self;
                    let ended = filling.end(py, state, &request, behind, end);
                    let (judged, ending) = ended.unwrap_or_else(|error| (failed(py, error), Ending::Loaded));
                    return load.settle(py, state, &judged, ending);
                }
                Err(error) => return self.load.settle(py, self.state, &failed(py, error), Ending::Loaded),
            }
        }
    }

    fn ask(mut self: Box<Self>, py: Python<'_>, behind: &Behind, asked: Asked, action: Action) {
        self.asked = Some(asked);
        let (state, here) = (self.state, self.load.event_loop.clone_ref(py));
        let request = store::Request { key: self.filling.key.clone(), action };
        bridge::ask(state, here.bind(py), &behind.remote.store, vec![request], self);
    }

    /// The loader has ended, with this.
    pub fn loaded(mut self: Box<Self>, py: Python<'_>, judged: Judged) {
        let request = Arc::clone(&self.load.request);
        let Some(behind) = &request.behind else { return };
        task::is_under_way(py, &self.load);
        let next = self.filling.loaded(&request, behind, judged);
        self.go(py, next);
    }

    /// What it loads.
    pub fn load(&mut self) -> &mut Load {
        &mut self.load
    }
}

impl Caller for Driven {
    fn answered(mut self: Box<Self>, py: Python<'_>, mut answers: Vec<Answer>) {
        let request = Arc::clone(&self.load.request);
        let (Some(behind), Some(asked), Some(answer)) = (&request.behind, self.asked.take(), answers.pop()) else {
            return;
        };
        let told = self.filling.told(py, &request, behind, (asked, answer));
        if !request.tier.memory.lock().flights.is_current(self.load.lease) {
            // Everybody has left, or the flight was ended.
            task::is_over(&self.load);
            return self.filling.abandon(behind);
        }
        match told {
            Ok(Told::Next(next)) => self.go(py, next),
            Ok(Told::Again(asked, action)) => self.ask(py, behind, asked, action),
            Err(error) => {
                self.filling.abandon(behind);
                self.load.settle(py, self.state, &failed(py, error), Ending::Loaded);
            }
        }
    }
}

/// A lease that is filled by a blocked thread, step by step.
pub struct Blocked<'a> {
    request: &'a Request,
    behind: &'a Behind,
    lease: Lease,
    /// Until it has ended.
    filling: Option<Filling>,
    stands: Stands,
}

/// How far it has come.
enum Stands {
    Next(Next<()>),
    Asks(Asked, Action),
    Loads,
    Ended(Judged, Ending),
}

impl<'a> Blocked<'a> {
    /// Of a lease that was just taken; `None` if its entry is of this process alone.
    pub fn begin(py: Python<'_>, state: &State, request: &'a Request, lease: Lease) -> Option<Self> {
        let behind = request.behind.as_ref()?;
        let (filling, stands) = match Filling::begin(py, state, request) {
            Ok(begun) => {
                let (filling, next) = begun?;
                (Some(filling), Stands::Next(next))
            }
            Err(error) => (None, Stands::Ended(failed(py, error), Ending::Loaded)),
        };
        Some(Blocked { request, behind, lease, filling, stands })
    }

    /// True if its loader is to be called.
    pub fn loads(&self) -> bool {
        matches!(self.stands, Stands::Loads)
    }

    /// It has been, and has ended so.
    pub fn loaded(&mut self, py: Python<'_>, state: &State, called: PyResult<Object>) {
        if let Some(filling) = &mut self.filling {
            let judged = blocking::judge(py, state, self.request, self.lease, called);
            self.stands = Stands::Next(filling.loaded(self.request, self.behind, judged));
        }
    }

    /// Tells everybody how it has ended, and gives what the caller on this thread gets.
    pub fn conclude(self, py: Python<'_>, state: &State) -> PyResult<Object> {
        let ended = match self.stands {
            Stands::Ended(judged, ending) => (judged, ending),
            _ => (failed(py, PyRuntimeError::new_err("a load that has not ended")), Ending::Loaded),
        };
        blocking::answer_with(py, state, self.request, self.lease, ended)
    }

    /// Goes on to where it asks, loads or has ended.
    fn advance(&mut self, py: Python<'_>, state: &State) {
        let Stands::Next(next) = &self.stands else { return };
        let Some(mut filling) = self.filling.take() else { return };
        self.stands = match filling.doing(py, self.request, self.behind, next.clone()) {
            Ok(Do::Ask(asked, action)) => Stands::Asks(asked, action),
            Ok(Do::Load) => Stands::Loads,
            Ok(Do::End(end)) => {
                let ended = filling.end(py, state, self.request, self.behind, end);
                let (judged, ending) = ended.unwrap_or_else(|error| (failed(py, error), Ending::Loaded));
                self.stands = Stands::Ended(judged, ending);
                return;
            }
            Err(error) => Stands::Ended(failed(py, error), Ending::Loaded),
        };
        self.filling = Some(filling);
    }

    fn told(&mut self, py: Python<'_>, asked: Asked, answer: PyResult<Answer>) {
        let Some(filling) = &mut self.filling else { return };
        let told = answer.and_then(|answer| filling.told(py, self.request, self.behind, (asked, answer)));
        self.stands = match told {
            Ok(Told::Next(next)) => Stands::Next(next),
            Ok(Told::Again(asked, action)) => Stands::Asks(asked, action),
            Err(error) => {
                filling.abandon(self.behind);
                Stands::Ended(failed(py, error), Ending::Loaded)
            }
        };
    }
}

/// Lets leases of one cache go on to where each loads or has ended; what they ask at a time is one round trip.
pub fn advance(py: Python<'_>, state: &State, all: &mut [Blocked<'_>]) {
    loop {
        let (mut asking, mut requests) = (Vec::new(), Vec::new());
        for (at, one) in all.iter_mut().enumerate() {
            one.advance(py, state);
            if let (Stands::Asks(asked, action), Some(filling)) = (&one.stands, &one.filling) {
                asking.push((at, *asked));
                requests.push(store::Request { key: filling.key.clone(), action: action.clone() });
            }
        }
        let Some(behind) = asking.first().map(|&(at, _)| all[at].behind) else { return };
        let mut answers = match bridge::ask_blocking(py, &behind.remote.store, requests) {
            Ok(answers) => Ok(answers.into_iter()),
            Err(interrupt) => Err(interrupt),
        };
        for (at, asked) in asking {
            let answer = match &mut answers {
                Ok(answers) => answers.next().ok_or_else(|| PyRuntimeError::new_err("a store that does not answer")),
                Err(interrupt) => Err(interrupt.clone_ref(py)),
            };
            all[at].told(py, asked, answer);
        }
    }
}
