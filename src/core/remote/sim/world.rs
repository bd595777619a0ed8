//! Several processes with a memory each, one store and a bus between them; requests that take their time or get lost, messages
//! that arrive late. The memory and its flights are the real ones, and so are the machines; the rest is as simple as can be.

use super::super::fill::{self, End, Fill, Next};
use super::super::write::NEWEST;
use super::super::write::{self, Effect, Outcome, What, Write};
use super::super::{Frame, Others, Token, Wanted};
use super::node::{Kept, Message, Node, Reply, Request, Run, Wire, Work, hash};
use super::store::{Store, TTL};
use crate::core::clock::Millis;
use crate::core::flight::{self, Ended, Home, Keep, Lasting, Lease, Life, Lookup, Place, Refresh, Since, Wish};
use crate::core::memory::Discard;
use crate::core::policy::Policy;
use crate::core::remote::ledger::Note;
use std::fmt;
use std::time::Duration;

pub const KEYS: usize = 2;
const HOME: Home = Home { thread: 1, event_loop: 1 };
const POLICY: Policy = Policy::ttl(TTL);

/// What somebody is content with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Anything fresh.
    Any,
    /// A newer value than the one in memory.
    Newer,
    /// One that is loaded from now on.
    Anew,
}

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Asks for a key.
    Ask { node: usize, key: u8, want: Want },
    /// Takes what is there, and has nothing loaded.
    Get { node: usize, key: u8 },
    /// Writes a key: there is no other source.
    Set { node: usize, key: u8 },
    /// Changes the source, and invalidates the key.
    Invalidate { node: usize, key: u8 },
    /// The store needs room.
    Evict { key: u8 },
    /// The store loses everything.
    Flush,
    /// A memory needs room.
    Forget { node: usize, key: u8 },
    /// Time passes.
    Wait(Millis),
    /// The store cannot be reached, or can be again.
    Gone(bool),
}

/// How a request gets lost: before the store has done anything, or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Request,
    Reply,
}

/// Something that can happen next. A run is a fill or a write that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The store does what was asked.
    Apply(usize, u64),
    /// Its answer arrives.
    Deliver(usize, u64),
    /// The answer will never arrive.
    Lose(usize, u64, Loss),
    /// The answer is lost, and it is asked once more.
    Repeat(usize, u64),
    /// A claim is renewed.
    Renew(usize, u64),
    /// The claim of another process is gone, or its own time is over.
    Look(usize, u64),
    /// A load ends; `false`: it fails.
    Load(usize, u64, bool),
    /// The next effect of a write.
    Go(usize, u64),
    /// The next message from another node arrives.
    Hear(usize, usize),
    /// What could not be told to the store is told.
    Recover(usize),
}

/// Somebody who waits.
#[derive(Clone, Copy, Debug)]
struct Caller {
    key: u8,
    floor: usize,
    /// What it is content with.
    want: Want,
    done: bool,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub now: Millis,
    others: Others,
    /// How many loads have begun.
    pub loads: usize,
    pub store: Store,
    pub gone: bool,
    nodes: Vec<Node>,
    callers: Vec<Caller>,
    /// All values of a key's source in their order.
    truth: [Vec<u32>; KEYS],
    values: u32,
    serial: u64,
    /// What somebody was answered and should not have been.
    fault: Option<String>,
}

pub type Verdict = Result<(), String>;

impl World {
    pub fn new(nodes: usize, others: Others) -> Self {
        World {
            now: 1_000_000,
            others,
            loads: 0,
            store: Store::default(),
            gone: false,
            nodes: (0..nodes).map(|_| Node::new()).collect(),
            callers: Vec::new(),
            truth: [const { Vec::new() }; KEYS].map(|_: Vec<u32>| vec![0]),
            values: 0,
            serial: 0,
            fault: None,
        }
    }

    /// How new a value is; one that nobody's source has ever been, or not yet, is newer than all.
    fn rank(&self, key: u8, value: u32) -> usize {
        self.truth[usize::from(key)].iter().position(|&other| other == value).unwrap_or(usize::MAX)
    }

    fn newest(&self, key: u8) -> usize {
        self.truth[usize::from(key)].len() - 1
    }

    pub fn act(&mut self, act: Act) -> Verdict {
        match act {
            Act::Ask { node, key, want } => return self.ask(node, key, want),
            Act::Get { node, key } => return self.get(node, key),
            Act::Set { node, key } => {
                self.values += 1;
                self.begin_write(node, key, What::Value(self.values), usize::MAX);
            }
            Act::Invalidate { node, key } => {
                self.values += 1;
                self.truth[usize::from(key)].push(self.values);
                self.begin_write(node, key, What::Tombstone, self.newest(key));
            }
            Act::Evict { key } => self.store.evict(key),
            Act::Flush => self.store.flush(),
            Act::Forget { node, key } => self.nodes[node].forget(key),
            Act::Wait(by) => self.now += by,
            Act::Gone(gone) => self.gone = gone,
        }
        Ok(())
    }

    fn ask(&mut self, at: usize, key: u8, want: Want) -> Verdict {
        let newest = self.newest(key);
        let (now, node) = (self.now, &mut self.nodes[at]);
        let anew = want != Want::Any;
        let floor = if want == Want::Anew { newest } else { node.floor[usize::from(key)] };
        let place = Place { home: Some(HOME), refresh: Refresh::Behind, life: Life::Steady };
        let since = Since::default();
        let wish = Wish { policy: &POLICY, group: node.group, place, anew: anew.then_some(&since) };
        let entry = node.entry(key);
        let located = (
            entry.map(|(id, _)| node.memory.entries.target(id)),
            node.memory.flights.find(hash(key), |other| *other == key),
        );
        let caller = self.callers.len() as u32;
        self.callers.push(Caller { key, floor, want, done: false });
        match node.memory.look_up(&wish, (hash(key), || key), located, now, || 0.5) {
            Lookup::Hit(id, _) => {
                self.callers[caller as usize].done = true;
                let kept = node.memory.entries.peek(id).map(|found| *found.value);
                return kept.map_or(Ok(()), |kept| self.answered(key, floor, kept.value));
            }
            Lookup::Flying(flight, _) => drop(node.memory.wait(&wish, flight, HOME, now, caller)),
            Lookup::Lead(lease) => {
                node.memory.wait_for_own(&POLICY, lease, HOME, now, caller);
                let known = entry.filter(|_| anew).and_then(|(_, kept)| kept.version);
                let wanted = if want == Want::Anew { Wanted::Anew } else { Wanted::Newer(known) };
                let fill = Fill::begin(self.token(), wanted, self.others);
                self.begin_fill(at, key, lease, fill);
            }
            Lookup::Nowhere => return Err("there is a place to load on".into()),
        }
        Ok(())
    }

    /// Takes what is there, and no lease.
    fn get(&mut self, at: usize, key: u8) -> Verdict {
        let (now, node) = (self.now, &mut self.nodes[at]);
        let (entry, floor) = (node.entry(key), node.floor[usize::from(key)]);
        if node.memory.look_only(node.group, entry.map(|(id, _)| id), now).is_some() {
            return entry.map_or(Ok(()), |(_, kept)| self.answered(key, floor, kept.value));
        }
        let mark = node.memory.mark(hash(key), 0);
        let caller = self.callers.len() as u32;
        self.callers.push(Caller { key, floor, want: Want::Any, done: false });
        let id = self.begin(at, key, Work::Look(caller, mark));
        self.send(at, id, Request::Read);
        Ok(())
    }

    /// The store has answered somebody who took no lease.
    fn looked(&mut self, at: usize, id: u64, frame: Option<Frame<u32>>) {
        let (now, node) = (self.now, &mut self.nodes[at]);
        let Some(place) = node.runs.iter().position(|run| run.id == id) else { return };
        let Run { key, work: Work::Look(caller, mark), .. } = node.runs.remove(place) else { return };
        let fresh = frame.filter(|frame| now < frame.fresh_until);
        let found = fresh.and_then(|frame| Some((frame.value?, frame)));
        if let Some((value, frame)) = found {
            node.promote(key, mark, Kept { value, version: Some(frame.version) }, frame.fresh_until - now, now);
        }
        self.wake(&[caller], found.map(|(value, _)| value));
    }

    fn answered(&self, key: u8, floor: usize, value: u32) -> Verdict {
        let rank = self.rank(key, value);
        if rank >= floor { Ok(()) } else { Err(format!("{value} of {key} is {rank}, and {floor} was known")) }
    }

    fn token(&mut self) -> Token {
        self.serial += 1;
        Token::new(u128::from(self.serial))
    }

    fn begin_fill(&mut self, node: usize, key: u8, lease: Lease, (fill, next): (Fill<u32>, Next<u32>)) {
        let id = self.begin(node, key, Work::Fill(lease, fill));
        self.next(node, id, next);
    }

    fn begin(&mut self, node: usize, key: u8, work: Work) -> u64 {
        self.serial += 1;
        let id = self.serial;
        self.nodes[node].runs.push(Run {
            id,
            key,
            work,
            wire: Wire::Quiet,
            loading: None,
            awaits: None,
            repeated: false,
        });
        id
    }

    fn begin_write(&mut self, node: usize, key: u8, what: What<u32>, rank: usize) {
        let (write, todo) = Write::begin(what);
        let mark = self.nodes[node].memory.mark(hash(key), 0);
        let id = self.begin(node, key, Work::Write { write, todo: todo.into(), rank, mark });
        self.go(node, id);
    }

    /// A request is sent, if the store can be reached.
    fn send(&mut self, node: usize, id: u64, request: Request) {
        let gone = self.gone;
        let Some(run) = self.nodes[node].run(id) else { return };
        if !gone {
            run.wire = Wire::Asked(request);
            return;
        }
        match (&mut run.work, request) {
            (Work::Fill(..), Request::Renew(..)) => {}
            (Work::Fill(_, fill), _) => {
                let next = fill.step(fill::Input::Unknown, self.now);
                next.into_iter().for_each(|next| self.next(node, id, next));
            }
            (Work::Look(..), _) => self.looked(node, id, None),
            (Work::Write { .. }, _) => self.written(node, id, write::Input::Unreachable),
        }
    }

    /// A write has come to something: it learns whether anything has changed under its key meanwhile.
    fn written(&mut self, at: usize, id: u64, input: write::Input) {
        let node = &mut self.nodes[at];
        let Some(run) = node.runs.iter_mut().find(|run| run.id == id) else { return };
        let Work::Write { write, todo, mark, .. } = &mut run.work else { return };
        if !node.memory.is_unchanged(*mark) {
            write.step(write::Input::Overtaken(NEWEST));
        }
        todo.extend(write.step(input));
        self.go(at, id);
    }

    fn next(&mut self, node: usize, id: u64, next: Next<u32>) {
        match next {
            Next::Claim { token, wanted } => {
                let life = self.others.sharing.claim_life();
                self.send(node, id, Request::Claim(token, wanted, life));
            }
            Next::Read => unreachable!("who takes no lease has no machine"),
            Next::Write { claim, value, newer_than } => {
                self.send(node, id, Request::Fill((claim, newer_than), value));
            }
            Next::Release(token) => self.send(node, id, Request::Release(token)),
            Next::Await(token, _) => self.nodes[node].run(id).into_iter().for_each(|run| run.awaits = Some(token)),
            Next::Load => {
                self.loads += 1;
                let Some(run) = self.nodes[node].run(id) else { return };
                run.loading = self.truth[usize::from(run.key)].last().copied();
            }
            Next::End(end) => self.end(node, id, end),
        }
    }

    /// A fill is over: into memory what may go there, and the callers are answered.
    fn end(&mut self, at: usize, id: u64, end: End<u32>) {
        let (now, node) = (self.now, &mut self.nodes[at]);
        let Some(place) = node.runs.iter().position(|run| run.id == id) else { return };
        let Run { work: Work::Fill(lease, _), .. } = node.runs.remove(place) else { return };
        let left = |frame: &Frame<u32>| Some(Duration::from_millis(frame.fresh_until.saturating_sub(now)));
        let (input, value, kept, ttl) = match end {
            End::Found(frame) | End::Lost(frame) | End::Meanwhile(Some(frame)) => {
                (flight::Input::Loaded, frame.value, Some(Some(frame.version)), left(&frame))
            }
            End::Loaded(value, version) => (flight::Input::Loaded, value, Some(version), Some(TTL)),
            End::Forgone(value) => (flight::Input::Loaded, value, None, None),
            End::Old(frame) => (flight::Input::Failed, frame.value, None, None),
            End::Failed => (flight::Input::Failed, None, None, None),
            End::Absent => (flight::Input::Absent, None, None, None),
            End::Meanwhile(None) | End::TooLate => unreachable!("nobody here blocks a thread"),
        };
        let keep = kept.zip(value).map(|(version, value)| {
            let value = move || Kept { value, version };
            Keep {
                value,
                tag: 0,
                negative: false,
                lasting: Lasting::For(ttl),
                weight: 1,
                adapted: None,
                note: Note::default(),
            }
        });
        let ended = Ended { lease, input, keep, policy: &POLICY, group: node.group };
        let done = node.memory.finish(ended, now, || 0.5, &mut Discard::default());
        for effect in done.effects {
            match effect {
                flight::Effect::Wake(callers) => self.wake(&callers, value),
                flight::Effect::Again(callers) => callers.into_iter().for_each(|caller| self.ask_again(at, caller)),
                _ => {}
            }
        }
    }

    /// Somebody who wants a newer value than the one that has just come.
    fn ask_again(&mut self, at: usize, caller: u32) {
        let Caller { key, want, .. } = self.callers[caller as usize];
        self.callers[caller as usize].done = true;
        if let Err(story) = self.ask(at, key, want) {
            self.fault.get_or_insert(story);
        }
    }

    fn wake(&mut self, callers: &[u32], value: Option<u32>) {
        for &caller in callers {
            let Caller { key, floor, .. } = self.callers[caller as usize];
            self.callers[caller as usize].done = true;
            if let Some(Err(story)) = value.map(|value| self.answered(key, floor, value)) {
                self.fault.get_or_insert(story);
            }
        }
    }

    /// The next effect of a write.
    fn go(&mut self, at: usize, id: u64) {
        let (now, node) = (self.now, &mut self.nodes[at]);
        let Some(run) = node.run(id) else { return };
        let key = run.key;
        let Work::Write { todo, rank, .. } = &mut run.work else { return };
        let rank = *rank;
        match todo.pop_front() {
            Some(Effect::WriteTier(what)) => self.send(at, id, Request::Write(what)),
            Some(Effect::PutMemory(value, version)) => {
                node.put(key, Kept { value, version }, now);
            }
            Some(Effect::DropMemory(version)) => {
                node.drop_older(key, version);
            }
            Some(Effect::Publish(version)) => {
                let message = Message { from: at, key, version, rank };
                let others = self.nodes.iter_mut().enumerate().filter(|(other, _)| *other != at);
                others.for_each(|(_, other)| other.inbox.push(message));
            }
            // A value that never came to the store is nothing that anybody could be behind.
            Some(Effect::Recover) => node.recover.push_back((key, if rank == usize::MAX { 0 } else { rank })),
            Some(Effect::Done(outcome)) => {
                if outcome == Outcome::Applied {
                    node.knows(key, rank);
                }
                node.runs.retain(|run| run.id != id);
            }
            None => {}
        }
    }

    /// Something happens.
    pub fn happen(&mut self, event: Event) {
        match event {
            Event::Apply(node, id) => self.apply(node, id),
            Event::Deliver(node, id) => self.deliver(node, id),
            Event::Lose(node, id, loss) => {
                if loss == Loss::Reply {
                    self.apply(node, id);
                }
                self.lose(node, id);
            }
            Event::Repeat(node, id) => {
                let Some(Wire::Asked(request)) = self.nodes[node].run(id).map(|run| run.wire) else { return };
                self.apply(node, id);
                let Some(run) = self.nodes[node].run(id) else { return };
                (run.wire, run.repeated) = (Wire::Asked(request), true);
            }
            Event::Load(node, id, succeeds) => {
                let now = self.now;
                let Some(run) = self.nodes[node].run(id) else { return };
                let Some(value) = run.loading.take() else { return };
                let input = if succeeds { fill::Input::Loaded(Some(value)) } else { fill::Input::Failed };
                let Work::Fill(_, fill) = &mut run.work else { return };
                let next = fill.step(input, now);
                next.into_iter().for_each(|next| self.next(node, id, next));
            }
            Event::Renew(node, id) => {
                let now = self.now;
                let Some(Run { work: Work::Fill(_, fill), .. }) = self.nodes[node].run(id) else { return };
                let token = fill.renew(now);
                let life = fill.claim_life();
                token.into_iter().for_each(|token| self.send(node, id, Request::Renew(token, life)));
            }
            Event::Look(node, id) => {
                let now = self.now;
                let Some(run) = self.nodes[node].run(id) else { return };
                run.awaits = None;
                let Work::Fill(_, fill) = &mut run.work else { return };
                let next = fill.step(fill::Input::Awaited, now);
                next.into_iter().for_each(|next| self.next(node, id, next));
            }
            Event::Go(node, id) => self.go(node, id),
            Event::Hear(node, from) => self.hear(node, from),
            Event::Recover(node) => {
                if let Some((key, rank)) = self.nodes[node].recover.pop_front() {
                    self.begin_write(node, key, What::Tombstone, rank);
                }
            }
        }
    }

    fn apply(&mut self, node: usize, id: u64) {
        let now = self.now;
        let Some(run) = self.nodes[node].runs.iter_mut().find(|run| run.id == id) else { return };
        let key = run.key;
        let Wire::Asked(request) = run.wire else { return };
        let reply = match request {
            Request::Read => Reply::Read(self.store.frame(key, now)),
            Request::Claim(token, wanted, life) => Reply::Claim(self.store.claim(key, (token, life), wanted, now)),
            Request::Fill(under, value) => Reply::Fill(self.store.fill(key, under, value, now)),
            Request::Renew(token, life) => Reply::Renew(token, self.store.renew(key, (token, life), now)),
            Request::Release(token) => {
                self.store.release(key, token, now);
                Reply::Released
            }
            Request::Write(what) => {
                if let (What::Value(value), Work::Write { rank, .. }) = (what, &mut run.work) {
                    let truth = &mut self.truth[usize::from(key)];
                    truth.push(value);
                    *rank = truth.len() - 1;
                }
                Reply::Write(self.store.write(key, what, now))
            }
        };
        run.wire = Wire::Answered(reply);
    }

    fn deliver(&mut self, node: usize, id: u64) {
        let now = self.now;
        let Some(run) = self.nodes[node].run(id) else { return };
        let Wire::Answered(reply) = std::mem::replace(&mut run.wire, Wire::Quiet) else { return };
        let next = match (&mut run.work, reply) {
            (Work::Look(..), Reply::Read(frame)) => return self.looked(node, id, frame),
            (Work::Fill(_, fill), Reply::Claim(found)) => fill.step(fill::Input::Claimed(found), now),
            (Work::Fill(_, fill), Reply::Fill(filled)) => fill.step(fill::Input::Filled(filled), now),
            (Work::Fill(_, fill), Reply::Released) => fill.step(fill::Input::Released, now),
            (Work::Fill(_, fill), Reply::Renew(token, there)) => {
                if !there {
                    fill.claim_is_gone(token);
                }
                None
            }
            (Work::Write { .. }, Reply::Write(version)) => {
                return self.written(node, id, write::Input::Written(version));
            }
            _ => None,
        };
        next.into_iter().for_each(|next| self.next(node, id, next));
    }

    /// Nobody will ever hear what became of a request.
    fn lose(&mut self, node: usize, id: u64) {
        let now = self.now;
        let Some(run) = self.nodes[node].run(id) else { return };
        let renews = matches!(run.wire, Wire::Asked(Request::Renew(..)) | Wire::Answered(Reply::Renew(..)));
        run.wire = Wire::Quiet;
        match &mut run.work {
            Work::Fill(..) if renews => {}
            Work::Fill(_, fill) => {
                let next = fill.step(fill::Input::Unknown, now);
                next.into_iter().for_each(|next| self.next(node, id, next));
            }
            Work::Look(..) => self.looked(node, id, None),
            Work::Write { .. } => self.written(node, id, write::Input::Unknown),
        }
    }

    /// The next message of one of the others.
    fn hear(&mut self, at: usize, from: usize) {
        let node = &mut self.nodes[at];
        let Some(place) = node.inbox.iter().position(|message| message.from == from) else { return };
        let Message { key, version, rank, .. } = node.inbox.remove(place);
        node.drop_older(key, Some(version));
        node.knows(key, rank);
    }

    /// All that can happen by itself. `fails`: loads may fail; `losses`: requests may get lost.
    pub fn events(&self, fails: bool, losses: bool) -> Vec<Event> {
        let mut events = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            for run in &node.runs {
                self.run_events(at, run, fails, losses, &mut events);
            }
            let mut senders: Vec<usize> = node.inbox.iter().map(|message| message.from).collect();
            senders.sort_unstable();
            senders.dedup();
            events.extend(senders.into_iter().map(|from| Event::Hear(at, from)));
            if !node.recover.is_empty() && !self.gone {
                events.push(Event::Recover(at));
            }
        }
        events
    }

    fn run_events(&self, at: usize, run: &Run, fails: bool, losses: bool, events: &mut Vec<Event>) {
        let id = run.id;
        match run.wire {
            Wire::Asked(_) => events.push(Event::Apply(at, id)),
            Wire::Answered(_) => events.push(Event::Deliver(at, id)),
            Wire::Quiet => {
                if run.loading.is_some() {
                    events.push(Event::Load(at, id, true));
                    events.extend(fails.then_some(Event::Load(at, id, false)));
                }
                let over = matches!(&run.work, Work::Fill(_, fill) if fill.waits_until() <= self.now);
                if run.awaits.is_some_and(|token| over || !self.store.is_claimed(run.key, token, self.now)) {
                    events.push(Event::Look(at, id));
                }
                match &run.work {
                    Work::Fill(_, fill) if run.loading.is_some() && fill.renew_at() <= self.now => {
                        events.push(Event::Renew(at, id));
                    }
                    Work::Write { todo, .. } if !todo.is_empty() => events.push(Event::Go(at, id)),
                    _ => {}
                }
            }
        }
        if losses && let Wire::Asked(request) = run.wire {
            events.extend([Loss::Request, Loss::Reply].map(|loss| Event::Lose(at, id, loss)));
            events.extend((request.may_be_repeated() && !run.repeated).then_some(Event::Repeat(at, id)));
        }
    }

    /// True while somebody has not been answered.
    pub fn is_waited_for(&self) -> bool {
        self.callers.iter().any(|caller| !caller.done)
    }

    /// After each step.
    pub fn check(&self) -> Verdict {
        if let Some(story) = &self.fault {
            return Err(story.clone());
        }
        for node in &self.nodes {
            node.memory.entries.validate()?;
        }
        Ok(())
    }

    /// When nothing is under way: nobody was left behind, and nothing old is anywhere.
    pub fn check_end(&self) -> Verdict {
        if let Some(caller) = self.callers.iter().find(|caller| !caller.done) {
            return Err(format!("{caller:?} was never answered"));
        }
        for key in 0..KEYS as u8 {
            let frame = self.store.frame(key, self.now);
            let stored = frame.and_then(|frame| frame.value).map(|value| ("the store".to_owned(), value));
            let served = self.nodes.iter().enumerate().filter_map(|(at, node)| {
                let (id, kept) = node.entry(key)?;
                node.memory.entries.is_served(id, |end| self.now >= end).then(|| (format!("node {at}"), kept))
            });
            for (place, kept) in served {
                self.check_value(key, &place, kept.value)?;
                let twin = frame.filter(|frame| Some(frame.version) == kept.version);
                if twin.is_some_and(|twin| twin.value != Some(kept.value)) {
                    return Err(format!("{place} has {kept:?}, and the store {frame:?}"));
                }
            }
            stored.map_or(Ok(()), |(place, value)| self.check_value(key, &place, value))?;
        }
        Ok(())
    }

    fn check_value(&self, key: u8, place: &str, value: u32) -> Verdict {
        let rank = self.rank(key, value);
        let fresh = rank == self.newest(key);
        if fresh { Ok(()) } else { Err(format!("{place} ends with {value} of {key}: {:?}", self.truth)) }
    }

    /// All that can matter later.
    pub fn sum(&self, out: &mut impl fmt::Write) -> fmt::Result {
        write!(out, "{} {} {:?} {:?}", self.now, self.gone, self.store, self.truth)?;
        for (at, node) in self.nodes.iter().enumerate() {
            write!(out, "{at} {:?} {:?} {:?} {:?}", node.runs, node.inbox, node.recover, node.floor)?;
            write!(out, "{:?}", node.memory.flights)?;
            for (id, kept) in (0..KEYS as u8).filter_map(|key| node.entry(key)) {
                write!(out, "{:?} {kept:?} {:?}", node.memory.entries.target(id), node.memory.entries.span(id))?;
            }
        }
        let waiting = self.callers.iter().enumerate().filter(|(_, caller)| !caller.done);
        waiting.into_iter().try_for_each(|caller| write!(out, "{caller:?}"))
    }
}
