//! How a lease is filled where a store is behind the memory: it is asked and claimed before the loader is called, and offered the
//! value before the callers are told.
//!
//! [`core::remote::fill`](crate::core::remote::fill) says what is next. Here it is done, by callbacks on an event loop or by a
//! blocked thread; both share all but the waiting. No task is made for it, and no Python runs but the user's.

mod blocked;

pub use blocked::{Blocked, advance, rest};

use super::blocking;
use super::bridge::{self, Caller, Few, Whom};
use super::claims::Renewal;
use super::coding::{Fetched, clipped};
use super::copy;
use super::pending::Holds;
use super::recipe::Kept;
use super::remote::Behind;
use super::request::{Ending, Judged, Request};
use super::state::State;
use super::task::{self, Job, Load};
use super::tier::{Object, Tier};
use super::waiters;
use crate::core::clock::{Millis, NEVER, later};
use crate::core::coherence::registers::{Began, Verdict};
use crate::core::flight::{FlightId, Lease, lifetime};
use crate::core::policy::Lifetime;
use crate::core::remote::cell::{Framed, Under};
use crate::core::remote::fill::{End, Fill, Input, Next};
use crate::core::remote::ledger::Note;
use crate::core::remote::wait::{Patience, look_again};
use crate::core::remote::{Filled, Found, Frame, Others, Sharing, Token, Version, Wanted};
use crate::error::StoreFailure;
use crate::io::store::stored::Stored;
use crate::io::store::{self, Action, Answer, Answers, Reply};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use smallvec::smallvec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Somebody loads what has a name behind: known to whoever hears of it, until what was loaded is in memory or is not to be.
struct Underway {
    tier: Arc<Tier>,
    key: u64,
    flight: FlightId,
}

impl Underway {
    fn begin(tier: &Arc<Tier>, key: u64, flight: FlightId) -> Arc<Self> {
        if let Some(ledger) = &mut tier.memory.lock().ledger {
            ledger.begin_load(key, flight);
        }
        Arc::new(Underway { tier: Arc::clone(tier), key, flight })
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if let Some(ledger) = &mut self.tier.memory.lock().ledger {
            ledger.end_load(self.key, self.flight);
        }
    }
}

/// A lease that is being filled.
pub struct Filling {
    machine: Fill<()>,
    underway: Arc<Underway>,
    lease: Lease,
    /// What the entry is called in the store.
    key: Vec<u8>,
    token: Token,
    /// The claim it loads under.
    held: Option<Token>,
    /// While it loads under it.
    renewal: Option<Renewal>,
    /// What the store had, or has now.
    found: Option<Fetched>,
    /// What it had before.
    old: Option<Fetched>,
    /// The version of what the store has and nobody here can read.
    unread: Option<Version>,
    judged: Option<Judged>,
    /// The life of what was offered to it.
    offered: Option<Lifetime>,
    /// When its load began, in the store's order.
    stamp: Option<u64>,
    /// What memory has, which answers while another process loads.
    at_hand: Option<AtHand>,
    /// What was found is what memory has itself: the store could not be asked.
    suspect: bool,
    /// The store could not be reached.
    away: bool,
}

/// An old value in memory, with what it counts for there.
struct AtHand {
    value: Object,
    kind: u32,
    life: Lifetime,
    note: Note,
}

/// What the store was asked.
#[derive(Clone, Copy)]
enum Asked {
    Claim(Wanted),
    Fill,
    Release,
    /// Nothing: it is waited until another process may have loaded it.
    Time,
}

/// What is to be done.
enum Do {
    /// The claim, with what has moved until now; or one thing.
    Ask(Asked, Action),
    Wait(Duration),
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
    /// Of a lease that was just taken, by a thread that blocks if need be; `None` if its entry is of this process alone.
    pub fn begin(
        py: Python<'_>,
        state: &State,
        request: &Request,
        (lease, blocks): (Lease, bool),
    ) -> PyResult<Option<(Filling, Next<()>)>> {
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
                let id = entry.and_then(|entry| memory.entries.resolve(entry));
                // What is in doubt is asked for, whether it is the newest or not.
                let sure = id.filter(|&id| memory.entries.doubted_since(id).is_none());
                Wanted::Newer(sure.and_then(|id| memory.version(id)))
            }
        };
        let others = others(request, lease, blocks);
        let (machine, next) = Fill::begin(token, wanted, others);
        let filling = Filling {
            underway: Underway::begin(&request.tier, behind.remote.hash(&key), lease.flight),
            machine,
            lease,
            key,
            token,
            held: None,
            renewal: None,
            found: None,
            old: None,
            unread: None,
            judged: None,
            offered: None,
            stamp: None,
            at_hand: None,
            suspect: false,
            away: false,
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
                let life = self.machine.claim_life();
                Do::Ask(Asked::Claim(wanted), Action::Claim { token, wanted, life })
            }
            Next::Await(_, pause) => Do::Wait(pause),
            Next::Load => {
                let claims = &behind.remote.claims;
                self.renewal = self.held.map(|token| claims.renew(token, &self.key, self.machine.sharing()));
                if self.machine.has_waited() {
                    let now = request.tier.clock.now();
                    request.began.store(now, Relaxed);
                    request.tier.memory.lock().flights.delayed(self.lease, now);
                }
                Do::Load
            }
            Next::Write { claim: Some(token), newer_than, .. } => match self.pack(py, request, behind)? {
                Some((frame, keep)) => {
                    let under = Under::Claim(token);
                    Do::Ask(Asked::Fill, Action::Fill { under, newer_than, frame, keep, tell: None })
                }
                None => {
                    behind.remote.tell(self.key.clone(), Action::Release { token });
                    Do::End(End::Loaded(None, None))
                }
            },
            Next::Release(token) => Do::Ask(Asked::Release, Action::Release { token }),
            Next::End(End::Meanwhile(None)) => {
                self.at_hand = self.look_at_hand(py, request);
                if self.at_hand.is_none() {
                    let next = self.machine.has_nothing_at_hand();
                    return self.doing(py, request, behind, next);
                }
                Do::End(End::Meanwhile(None))
            }
            Next::End(end) => Do::End(end),
            Next::Write { claim: None, .. } | Next::Read => Do::End(End::Forgone(None)),
        })
    }

    /// What memory still has, if that answers.
    fn look_at_hand(&self, py: Python<'_>, request: &Request) -> Option<AtHand> {
        let now = request.tier.clock.now();
        let memory = request.tier.memory.lock();
        let id = memory.old_of(self.lease, now)?;
        let (span, found) = (memory.entries.span(id), memory.entries.peek(id)?);
        let note = memory.ledger.as_ref().and_then(|ledger| ledger.of(memory.entries.target(id)).cloned());
        let note = note.unwrap_or_default();
        let (value, kind) = (found.value.clone_ref(py), found.tag);
        let life = self.life_meanwhile(request, (span.fresh_until, span.expires), span.load);
        Some(AtHand { value, kind, life, note })
    }

    fn life_meanwhile(&self, request: &Request, (fresh_until, expires): (Millis, Millis), load: u32) -> Lifetime {
        let now = request.tier.clock.now();
        let most = request.behind.as_ref().and_then(|behind| behind.remote.most);
        let ends = (fresh_until, most.map_or(expires, |most| expires.min(later(now, most))));
        request.recipe.policy.lifetime_meanwhile(ends, load, (now, look_again(self.token, now)))
    }

    /// The frame of what was loaded; `None` for what is of this process alone.
    fn pack(&mut self, py: Python<'_>, request: &Request, behind: &Behind) -> PyResult<Option<super::coding::Packed>> {
        let Some(Judged { kept: Ok(kept), failed, .. }) = &self.judged else { return Ok(None) };
        // Of what nobody knows when its load began, nobody knows what has invalidated it.
        let (Some(ttl), Some(stamp)) = (kept.ttl, self.stamp) else { return Ok(None) };
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
        let how = (kept.tags.as_ref(), stamp);
        let packed = behind.coding.get().pack(py, &self.key, what, (&life, began), how, clock);
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
        let present = request.tier.clock.both();
        let mut fetched = behind.coding.get().read(py, &self.key, stored, present)?;
        let verdict = behind.remote.judge(&request.tier, &request.space, &fetched);
        let is_stale = verdict == Verdict::Stale;
        if is_stale {
            // When it was expired nobody noted: not later than now.
            fetched.fresh_until = fetched.fresh_until.min(present.0);
            fetched.expires = fetched.expires.min(request.recipe.policy.useful_until(fetched.fresh_until));
        }
        let Fetched { fresh_until, expires, version, .. } = fetched;
        let is_of_use = verdict != Verdict::Gone && !(is_stale && expires <= present.0);
        let fresh_until = if is_stale { 0 } else { fresh_until };
        let value = fetched.value.as_ref().map(drop);
        is_of_use.then_some((fetched, Frame { version, value, fresh_until, expires }))
    }

    /// What the store's answer leads to.
    fn told(
        &mut self,
        py: Python<'_>,
        request: &Request,
        behind: &Behind,
        (asked, answer): (Asked, Answer),
    ) -> PyResult<Told> {
        if self.asks_clock(asked) {
            // It has not answered.
            behind.remote.inbox().heard.keeps_unasked(0, request.tier.clock.now());
        }
        let input = match (asked, answer) {
            (Asked::Claim(wanted), Ok(Reply::Claimed(Found::Fresh(stored)))) => {
                match self.read(py, request, behind, &stored) {
                    Some((_, frame)) if frame.fresh_until == 0 => {
                        // It was expired, and is of use should the load fail.
                        return Ok(self.claim_newer(wanted, stored.version()));
                    }
                    Some((mut fetched, frame)) => {
                        if let Some(packed) = fetched.resealed.take() {
                            behind.remote.rewrite(&self.key, fetched.version, *packed);
                        }
                        self.found = Some(fetched);
                        Input::Claimed(Found::Fresh(frame))
                    }
                    None => {
                        self.unread = Some(stored.version());
                        return Ok(self.claim_newer(wanted, stored.version()));
                    }
                }
            }
            (Asked::Claim(_), Ok(Reply::Claimed(Found::Claimed(token, old)))) => {
                self.held = Some(token);
                request.spot.refute(py, &request.tier)?;
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
            (Asked::Time, _) => Input::Awaited,
            (asked, Err(error)) => {
                // One that refuses can still be listened to.
                self.away |= matches!(error.kind, StoreFailure::Timeout | StoreFailure::Unreachable);
                behind.remote.failed(py, &error)?;
                match (asked, request.suspect(py)?) {
                    (Asked::Claim(_), Some(suspect)) => {
                        let Fetched { fresh_until, expires, version, .. } = suspect;
                        (self.found, self.suspect) = (Some(suspect), true);
                        Input::Claimed(Found::Fresh(Frame { version, value: Some(()), fresh_until, expires }))
                    }
                    _ => Input::Unknown,
                }
            }
            (_, Ok(_)) => Input::Unknown,
        };
        Ok(Told::Next(self.step(request, input)))
    }

    fn claim_newer(&self, wanted: Wanted, than: Version) -> Told {
        let wanted = Wanted::Newer(wanted.known().max(Some(than)));
        let action = Action::Claim { token: self.token, wanted, life: self.machine.claim_life() };
        Told::Again(Asked::Claim(wanted), action)
    }

    /// What is sent for that: who asks for a claim asks the clock too, before the loader is called.
    fn requests(&self, request: &Request, behind: &Behind, asked: Asked, action: Action) -> Few<store::Request> {
        let mut requests = smallvec![store::Request { key: self.key.clone().into(), action }];
        if self.asks_clock(asked) {
            requests.push(behind.remote.ask_clock(&request.tier.memory.lock()));
        }
        requests
    }

    fn asks_clock(&self, asked: Asked) -> bool {
        self.stamp.is_none() && matches!(asked, Asked::Claim(_))
    }

    /// The loader has come to its end.
    fn loaded(&mut self, request: &Request, judged: Judged) -> Next<()> {
        if let Some(renewal) = self.renewal.take()
            && renewal.is_gone()
        {
            self.machine.claim_is_gone(renewal.token);
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
            behind.remote.tell(self.key.clone(), Action::Release { token: self.token });
        }
    }

    /// Another process loads it, and what is old answers: what memory has, else what the store had.
    fn end_meanwhile(mut self, py: Python<'_>, state: &State, request: &Request) -> PyResult<(Judged, Ending)> {
        if let Some(AtHand { value, kind, life, note }) = self.at_hand {
            let own = copy::hand_out(value.bind(py), kind)?;
            let weight = request.tier.weigh(&own)?;
            let tags = note.tags.as_ref().map(|tags| tags.names.clone());
            let kept = Kept { value, kind, ttl: Some(None), weight, since: 0, tags };
            return Ok((Judged { value: Some(own.unbind()), failed: None, kept: Ok(kept) }, Ending::Found(life, note)));
        }
        let Some(old) = self.old.take() else { return Err(nothing_to_tell()) };
        let life = self.life_meanwhile(request, (old.fresh_until, old.expires), old.load);
        let note = Note { version: Some(old.version), key: self.underway.key, tags: None, began: old.began };
        Ok((judged_of(py, state, request, &self.key, old)?, Ending::Found(life, note)))
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
        match end {
            End::Meanwhile(_) => return self.end_meanwhile(py, state, request),
            End::TooLate => return Ok((failed(py, request.timed_out(py)), Ending::Loaded)),
            _ => {}
        }
        let Filling { underway, key, found, old, judged, offered, stamp, suspect, away, .. } = self;
        let (now, policy, most) = (request.tier.clock.now(), &request.recipe.policy, behind.remote.most);
        let key_hash = underway.key;
        let taken = |fetched: Fetched| -> PyResult<(Judged, Lifetime, Note)> {
            let (life, began) = (fetched.lifetime(policy, most, now), fetched.began);
            let note = Note { version: Some(fetched.version), key: key_hash, tags: None, began };
            Ok((judged_of(py, state, request, &key, fetched)?, life, note))
        };
        Ok(match (end, found, judged) {
            (End::Found(_), Some(fetched), _) => {
                let (judged, life, note) = taken(fetched)?;
                (judged, if suspect { Ending::Suspect(life, note) } else { Ending::Found(life, note) })
            }
            (End::Lost(_), Some(fetched), _) => {
                let (judged, life, note) = taken(fetched)?;
                (judged, Ending::Written(life, note))
            }
            (End::Loaded(_, version), _, Some(judged)) => match offered {
                Some(life) => {
                    let began = Began { here: None, store: stamp };
                    let note = Note { version, key: key_hash, tags: None, began };
                    (judged, Ending::Written(clipped(life, most, now, policy), note))
                }
                None => (judged, alone(key_hash, stamp, away)),
            },
            (End::Forgone(_), _, Some(judged)) => (judged, Ending::Forgone),
            (End::Old(_), _, Some(judged)) => match old.and_then(|old| old.value) {
                Some(value) => {
                    let (stored, kind) = copy::isolate(value.bind(py), request.recipe.copy)?;
                    (judged, Ending::Old((stored.unbind(), kind)))
                }
                None => (judged, Ending::Loaded),
            },
            (_, _, Some(judged)) => (judged, alone(key_hash, stamp, away)),
            (_, _, None) => return Err(nothing_to_tell()),
        })
    }
}

/// The end of a load whose value memory alone has: by its name others may invalidate it all the same.
fn alone(key: u64, stamp: Option<u64>, away: bool) -> Ending {
    let note = Note { key, began: Began { here: None, store: stamp }, ..Note::default() };
    if away && stamp.is_none() { Ending::Unasked(note) } else { Ending::Alone(note) }
}

/// Who else may load it, and how this one waits. The callers of a loop have their own time; a thread that blocks is one of them.
fn others(request: &Request, lease: Lease, blocks: bool) -> Others {
    let policy = &request.recipe.policy;
    let (wait, stale) = (policy.wait, policy.stale_while_revalidate);
    let mut patience = Patience { wait, stale, ..Patience::default() };
    if blocks && policy.single_flight == Sharing::Cluster {
        let now = request.tier.clock.now();
        patience.ends = policy.timeout.map_or(NEVER, |timeout| later(now, timeout));
        patience.at_hand = request.tier.memory.lock().at_hand(policy, lease, now);
    }
    Others { sharing: policy.single_flight, patience }
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
        let kept = Kept {
            value: nothing.clone_ref(py),
            kind: copy::NOTHING,
            ttl: Some(None),
            weight: 1,
            since: 0,
            tags: fetched.tags,
        };
        return Ok(Judged { value: Some(nothing), failed: None, kept: Ok(kept) });
    }
    let Some(value) = fetched.value else {
        let text = format!("nothing is under {}", String::from_utf8_lossy(key));
        let error = state.not_found(py)?.call1((text,))?.unbind();
        let kept =
            Kept { ttl: Some(None), tags: fetched.tags, ..Kept::nothing(error.clone_ref(py), Default::default()) };
        return Ok(Judged { value: None, failed: Some(error), kept: Ok(kept) });
    };
    let (stored, kind) = request.tier.isolate(value.bind(py), request.recipe.copy)?;
    let weight = if request.behind.as_ref().is_some_and(|behind| behind.remote.keeps) {
        request.tier.weigh(value.bind(py))?
    } else {
        1
    };
    let kept = Kept { value: stored.unbind(), kind, ttl: Some(None), weight, since: 0, tags: fetched.tags };
    Ok(Judged { value: Some(value), failed: None, kept: Ok(kept) })
}

fn nothing_to_tell() -> PyErr {
    PyRuntimeError::new_err("a load ended with nothing to tell of it")
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

/// What a loop calls when somebody has waited for another process's load; its place among those who are told earlier.
#[pyclass(frozen, module = "samovar._core")]
struct Waited {
    wakes: Answers,
    _place: waiters::Place,
}

#[pymethods]
impl Waited {
    fn __call__(&self) {
        waiters::wake(&self.wakes);
    }
}

/// Has a lease filled on its loop; gives it back if its entry is of this process alone.
pub fn run(py: Python<'_>, state: &'static State, load: Load) -> Option<Load> {
    match Filling::begin(py, state, &load.request, (load.lease, false)) {
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
                Ok(Do::Wait(pause)) => return self.wait(py, behind, pause),
                Ok(Do::Load) => match task::start(py, self.state, Job::Fill(self)) {
                    Some((Job::Fill(driven), judged)) => {
                        self = driven;
                        task::is_under_way(py, &self.load);
                        next = self.filling.loaded(&request, judged);
                    }
                    _ => return,
                },
                Ok(Do::End(end)) => {
                    let Driven { state, filling, load, .. } = *self;
                    let _until_settled = Arc::clone(&filling.underway);
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
        let requests = self.filling.requests(&self.load.request, behind, asked, action);
        bridge::ask(state, here.bind(py), &behind.remote.store, requests, Whom::Other(self));
    }

    /// Goes on after a pause, or as soon as the key has changed. The loop's timer: the cache's clock may stand still.
    fn wait(mut self: Box<Self>, py: Python<'_>, behind: &Behind, pause: Duration) {
        self.asked = Some(Asked::Time);
        let (state, here, key) = (self.state, self.load.event_loop.clone_ref(py), self.filling.key.clone());
        // Without a way to be woken there is none to the store either, which was asked just now.
        let Ok(wakes) = bridge::expect(state, here.bind(py), self) else { return };
        let _place = behind.remote.waiters.join(&key, wakes.clone());
        let waited = Waited { wakes: wakes.clone(), _place };
        let timer = Bound::new(py, waited).and_then(|waited| {
            here.bind(py).call_method1(&state.names.call_later, (pause.as_secs_f64(), waited)).map(drop)
        });
        if timer.is_err() {
            waiters::wake(&wakes);
        }
    }

    /// The loader has ended, with this.
    pub fn loaded(mut self: Box<Self>, py: Python<'_>, judged: Judged) {
        let request = Arc::clone(&self.load.request);
        task::is_under_way(py, &self.load);
        let next = self.filling.loaded(&request, judged);
        self.go(py, next);
    }

    /// What it loads.
    pub fn load(&mut self) -> &mut Load {
        &mut self.load
    }
}

impl Caller for Driven {
    fn answered(mut self: Box<Self>, py: Python<'_>, answers: Few<Answer>) {
        let request = Arc::clone(&self.load.request);
        let mut answers = answers.into_iter();
        let (Some(behind), Some(asked), Some(answer)) = (&request.behind, self.asked.take(), answers.next()) else {
            return;
        };
        if let Some(clock) = answers.next() {
            self.filling.stamp = stamp_of(&request, behind, clock);
        }
        let told = self.filling.told(py, &request, behind, (asked, answer));
        if !request.tier.memory.lock().flights.is_current(self.load.lease) {
            // Everybody has left, or the flight was ended.
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

/// When a load begins that has asked the clock; `None` if that could not be asked.
fn stamp_of(request: &Request, behind: &Behind, answer: Answer) -> Option<u64> {
    let Ok(Reply::Told(told)) = answer else { return None };
    behind.remote.learn(&request.tier, &told);
    Some(told.stamp)
}
