//! Several processes with a memory each, one store, and a connection from each to hear what the others do. Requests take their time
//! or get lost, messages come late, twice, in another order or never, processes stand still or begin anew, and the store forgets.
//!
//! What is decided is decided by the real machines: what is in doubt, whether something was missed, what the registers say, what is
//! owed, how a key is filled and written. The rest is as simple as can be. Each value has a rank, by when its source became it;
//! whoever asks is told how new the answer has to be at least, and it is looked at when it comes.

use super::node::{Held, Item, KEYS, Link, Node, Promise, Reply, Request, Run, TAGS, Wire, Work};
use super::store::Store;
use crate::core::broken::{Rule, broken};
use crate::core::clock::Millis;
use crate::core::coherence::heed::{HEARTBEAT, PATIENCE, TIME_OUT};
use crate::core::coherence::message::{self, Message};
use crate::core::coherence::owed;
use crate::core::coherence::{How, Origin};
use crate::core::remote::fill;
use crate::core::remote::write::{self, What};
use std::hash::{DefaultHasher, Hash, Hasher};

/// So many items may wait on a connection; then the store cuts it.
const ROOM: usize = 40;

pub const HEARTBEAT_MS: Millis = HEARTBEAT.as_millis() as Millis;
pub const TIME_OUT_MS: Millis = TIME_OUT.as_millis() as Millis;
pub const PATIENCE_MS: Millis = PATIENCE.as_millis() as Millis;

/// Names that are moved; some are no entry's.
pub const NAMES: [(&str, &str); 9] =
    [("", "t"), ("a", "t"), ("a:b", "u"), ("a:b", ""), ("a", ""), ("", ""), ("ab", ""), ("", "t*"), ("b", "t")];

/// True if what is under the key has this tag in this namespace: as simply as it can be said.
pub fn bears(key: usize, (path, tag): (&str, &str)) -> bool {
    let within = match key {
        0 => matches!(path, "" | "a" | "a:b"),
        _ => matches!(path, "" | "a"),
    };
    within && (tag.is_empty() || TAGS[key].contains(&tag))
}

/// What somebody does, or what is done to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Asks for a key.
    Read { node: usize, key: u8 },
    /// Writes a key: what the source is with that.
    Set { node: usize, key: u8 },
    /// Changes the source, and invalidates the key.
    Invalidate { node: usize, key: u8 },
    /// Changes the source of all that has a name, and moves that.
    Move { node: usize, name: usize, how: How },
    /// Somebody else changes the source and removes the key, and the store tells who listens.
    Touch { key: u8 },
    /// The store needs room.
    Evict { key: u8 },
    /// The same, and takes it from the clock.
    EvictClock,
    /// The clock forgets what was moved longest ago.
    Squeeze,
    /// The store loses everything.
    Flush,
    /// The store's time jumps.
    Jump(i64),
    /// A memory needs room.
    Forget { node: usize, key: u8 },
    /// Time passes.
    Wait(Millis),
    /// The store cannot be reached from there, or can be again.
    Gone { node: usize, gone: bool },
    /// A process stands still, or goes on.
    Pause { node: usize, paused: bool },
    /// A process ends, and another one takes its place.
    Crash { node: usize },
    /// Something happens to what is on the way to a process.
    Link { node: usize, fault: Fault, at: usize },
    /// Somebody who is none of ours publishes something.
    Forge { forgery: Forgery, at: usize },
    /// Whatever can be heard is heard, and it is asked whether anything was missed.
    Tend { node: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Lose,
    Double,
    Swap,
    Cut,
    /// What comes is cut short.
    Spoil,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    Foreign,
    Malformed,
    Replay,
    Invented,
}

/// How a request gets lost: before the store has done anything, or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Request,
    Reply,
}

/// Something that can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The store does what was asked; the second half of a request, that for the registers, may fail alone.
    Apply(usize, u64, bool),
    /// Its answer arrives.
    Deliver(usize, u64),
    /// The answer will never arrive.
    Lose(usize, u64, Loss),
    /// A load ends; `false`: it fails.
    Load(usize, u64, bool),
    /// The next item of a connection arrives.
    Hear(usize),
    /// A connection is made.
    Connect(usize),
    /// It is asked whether anything was missed.
    Ask(usize),
    /// There is no answer to that.
    TimeOut(usize),
    /// It is seen that a connection is cut.
    Notice(usize),
    /// What could not be told to the store is told.
    Recover(usize),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct World {
    pub now: Millis,
    pub store: Store,
    pub nodes: Vec<Node>,
    /// All values of a key's source in their order.
    pub truth: [Vec<u32>; KEYS],
    /// What the store was told was invalidated, and when.
    pub told: [Vec<Heard>; KEYS],
    pub values: u32,
    /// How many registers a mirror has room for, and how much may be owed.
    rooms: (usize, usize),
    /// All messages.
    pub said: Vec<Vec<u8>>,
    /// How many callers wait.
    pub waiting: usize,
    /// What somebody was answered and should not have been.
    pub fault: Option<String>,
    pub answers: usize,
}

/// The store has heard that what is older than this is no more.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Heard {
    pub rank: usize,
    pub how: How,
    pub when: Millis,
    /// From this one, which knows itself when it has been told so; `None`: somebody who is none of ours.
    pub by: Option<Origin>,
}

pub type Verdicts = Result<(), String>;

impl World {
    pub fn new(nodes: usize, rooms: (usize, usize)) -> Self {
        World {
            now: 1_000_000,
            store: Store::default(),
            nodes: (0..nodes).map(|at| Node::new(at as u128 + 1, rooms.0, rooms.1)).collect(),
            truth: [const { Vec::new() }; KEYS].map(|_: Vec<u32>| vec![0]),
            told: [const { Vec::new() }; KEYS],
            values: 0,
            rooms,
            said: Vec::new(),
            waiting: 0,
            fault: None,
            answers: 0,
        }
    }

    pub fn act(&mut self, act: Act) {
        match act {
            Act::Read { node, key } => self.read(node, key),
            Act::Set { node, key } => {
                self.values += 1;
                self.write(node, key, What::Value(self.values), 0);
            }
            Act::Invalidate { node, key } => {
                let rank = self.change(key);
                self.write(node, key, What::Tombstone, rank);
            }
            Act::Move { node, name, how } => self.move_name(node, name, how),
            Act::Touch { key } => {
                let rank = self.change(key);
                self.store.evict(key);
                self.heard_of(key, rank, How::Gone, None);
                self.send_all(&Item::Touched(key));
            }
            Act::Evict { key } => self.store.evict(key),
            Act::EvictClock => self.store.clock = Default::default(),
            Act::Squeeze => self.store.clock.forget(),
            Act::Flush => self.store.flush(),
            Act::Jump(by) => self.store.jump(by),
            Act::Forget { node, key } => *self.nodes[node].entry(key) = None,
            Act::Wait(by) => self.now += by,
            Act::Gone { node, gone } => {
                self.nodes[node].gone = gone;
                self.nodes[node].link.cut |= gone;
            }
            Act::Pause { node, paused } => self.nodes[node].paused = paused,
            Act::Crash { node } => self.crash(node),
            Act::Link { node, fault, at } => self.spoil(node, fault, at),
            Act::Forge { forgery, at } => self.forge(forgery, at),
            Act::Tend { node } => self.tend(node),
        }
    }

    /// The source is something else from now on.
    pub fn change(&mut self, key: u8) -> usize {
        self.values += 1;
        let truth = &mut self.truth[usize::from(key)];
        truth.push(self.values);
        truth.len() - 1
    }

    pub fn heard_of(&mut self, key: u8, rank: usize, how: How, by: Option<usize>) {
        let by = by.map(|at| self.nodes[at].origin);
        self.told[usize::from(key)].push(Heard { rank, how, when: self.now, by });
    }

    /// How new a value is; one that nobody's source has ever been, or not yet, is newer than all.
    pub fn rank(&self, key: u8, value: u32) -> usize {
        self.truth[usize::from(key)].iter().rposition(|&other| other == value).unwrap_or(usize::MAX)
    }

    fn crash(&mut self, at: usize) {
        let callers = self.nodes[at].runs.iter().map(|run| match &run.work {
            Work::Fill { callers, .. } => callers.len(),
            Work::Look(..) => 1,
            _ => 0,
        });
        self.waiting -= callers.sum::<usize>();
        let (gone, origin) = (self.nodes[at].gone, u128::from(self.serial(at)));
        let serial = self.nodes[at].serial;
        self.nodes[at] = Node { gone, serial, ..Node::new(origin, self.rooms.0, self.rooms.1) };
    }

    /// A number that is used nowhere else.
    pub fn serial(&mut self, at: usize) -> u64 {
        let node = &mut self.nodes[at];
        node.serial += 1;
        node.serial * 100 + at as u64
    }

    pub fn begin(&mut self, at: usize, key: u8, work: Work) -> u64 {
        let (id, node) = (self.serial(at), &mut self.nodes[at]);
        let (mark, changes) = (node.trust.mark(self.now + PATIENCE_MS), node.changes[usize::from(key)]);
        let asked = node.registers.sequence();
        node.runs.push(Run { id, key, work, wire: Wire::Quiet, mark, asked, changes, attached: true });
        id
    }

    /// A request is sent, if the store can be reached, and is believed.
    pub fn send(&mut self, at: usize, id: u64, request: Request) {
        let node = &mut self.nodes[at];
        let Some(key) = node.run(id).map(|run| run.key) else { return };
        let asks = matches!(request, Request::Claim(..) | Request::Read | Request::Fill(..));
        if node.gone || (asks && !node.believes(key)) {
            return self.unanswered(at, id, write::Input::Unreachable);
        }
        if broken(Rule::StoreTells) {
            self.tell_early(at, key, &request);
        }
        if let Some(run) = self.nodes[at].run(id) {
            run.wire = Wire::Asked(request);
        }
    }

    /// What breaks a rule.
    fn tell_early(&mut self, at: usize, key: u8, request: &Request) {
        let moment = self.store.moment(self.now);
        let stamp = self.store.clock.next(moment);
        match request {
            Request::Write(_) => self.publish(at, stamp, message::What::Changed { key: vec![key] }),
            Request::Move(name, how) => {
                self.publish(at, stamp, message::What::Moved { names: vec![name.clone()], how: *how });
            }
            _ => {}
        }
    }

    /// Nobody will ever hear what became of a request, or it was never sent.
    pub fn unanswered(&mut self, at: usize, id: u64, input: write::Input) {
        let node = &mut self.nodes[at];
        let Some(run) = node.run(id) else { return };
        run.wire = Wire::Quiet;
        match run.work {
            Work::Fill { .. } => self.step(at, id, fill::Input::Unknown),
            Work::Look(..) => self.looked(at, id, None),
            Work::Write { .. } => self.written(at, id, input),
            Work::Move(..) => self.moved(at, id, None),
            Work::Recover(..) => drop(node.take_run(id)),
        }
    }

    /// The store does what was asked.
    pub fn apply(&mut self, at: usize, id: u64, whole: bool) {
        let (now, origin) = (self.now, at);
        let known = self.nodes[at].registers.known();
        let Some(run) = self.nodes[at].run(id) else { return };
        let (key, covers) = match &run.work {
            Work::Recover(_, covers) => (run.key, covers.clone()),
            Work::Move(name, how, ranks) => {
                (run.key, vec![Promise { what: owed::What::Move(name.clone(), *how), ranks: *ranks }])
            }
            _ => (run.key, Vec::new()),
        };
        let rank = if let Work::Write { rank, .. } = run.work { rank } else { 0 };
        let Wire::Asked(request) = run.wire.clone() else { return };
        let reply = match request {
            Request::Claim(token, wanted) => {
                let told = whole.then(|| self.store.told(known, now));
                Reply::Claim(told, self.store.claim(key, token, wanted, now))
            }
            Request::Read => {
                let told = whole.then(|| self.store.told(known, now));
                Reply::Read(told, self.store.read(key, now))
            }
            Request::Fill(under, value) => Reply::Fill(self.store.fill(key, under, value, now)),
            Request::Release(token) => {
                self.store.release(key, token, now);
                Reply::Released
            }
            Request::Write(what) => {
                let version = self.store.write(key, what, now);
                if let What::Value(value) = what {
                    self.truth[usize::from(key)].push(value);
                    let written = self.truth[usize::from(key)].len() - 1;
                    self.heard_of(key, written, How::Gone, Some(at));
                    if let Some(Run { work: Work::Write { rank, .. }, .. }) = self.nodes[at].run(id) {
                        *rank = written;
                    }
                } else {
                    self.heard_of(key, rank, How::Gone, Some(at));
                    self.keep(&covers, How::Gone, at);
                }
                if !broken(Rule::StoreTells) {
                    self.publish(origin, version.0, message::What::Changed { key: vec![key] });
                }
                Reply::Write(version)
            }
            Request::Move(name, how) => {
                let stamp = self.store.moved(std::slice::from_ref(&name), how, now);
                self.keep(&covers, how, at);
                if !broken(Rule::StoreTells) {
                    self.publish(origin, stamp, message::What::Moved { names: vec![name], how });
                }
                Reply::Move(stamp)
            }
        };
        if let Some(run) = self.nodes[at].run(id) {
            run.wire = Wire::Answered(reply);
        }
    }

    /// The store has heard of these.
    pub fn keep(&mut self, promises: &[Promise], how: How, by: usize) {
        for promise in promises {
            for (key, rank) in promise.ranks.iter().enumerate() {
                if let Some(rank) = *rank {
                    self.heard_of(key as u8, rank, how, Some(by));
                }
            }
        }
    }

    pub fn publish(&mut self, from: usize, stamp: u64, what: message::What) {
        let number = self.store.clock.number();
        let bytes = Message { origin: self.nodes[from].origin, number, stamp, what }.to_bytes();
        let bytes = bytes.expect("it is short");
        self.said.push(bytes.clone());
        self.send_all(&Item::Message(bytes));
    }

    pub fn send_all(&mut self, item: &Item) {
        for Link { up, cut, items, .. } in self.nodes.iter_mut().map(|node| &mut node.link) {
            if *up && !*cut {
                *cut = items.len() > ROOM;
                items.push_back(item.clone());
            }
        }
    }

    /// The store's answer arrives.
    fn deliver(&mut self, at: usize, id: u64) {
        let now = self.now;
        let Some(run) = self.nodes[at].run(id) else { return };
        let Wire::Answered(reply) = std::mem::replace(&mut run.wire, Wire::Quiet) else { return };
        match reply {
            Reply::Claim(told, found) => self.claimed(at, id, told, found),
            Reply::Read(told, frame) => {
                let answer = self.learn(at, told).then(|| frame.filter(|frame| self.is_good(at, id, frame)));
                self.looked(at, id, answer);
            }
            Reply::Fill(filled) => self.step(at, id, fill::Input::Filled(filled)),
            Reply::Released => self.step(at, id, fill::Input::Released),
            Reply::Write(version) if matches!(run.work, Work::Write { .. }) => {
                self.written(at, id, write::Input::Written(version));
            }
            Reply::Move(stamp) if matches!(run.work, Work::Move(..)) => self.moved(at, id, Some(stamp)),
            Reply::Write(_) => self.recovered(at, id, None),
            Reply::Move(stamp) => self.recovered(at, id, Some(stamp)),
        }
        debug_assert!(now == self.now);
    }

    /// Something happens.
    pub fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Apply(at, id, whole) => self.apply(at, id, whole),
            Event::Deliver(at, id) => self.deliver(at, id),
            Event::Lose(at, id, loss) => {
                if loss == Loss::Reply {
                    self.apply(at, id, true);
                }
                self.unanswered(at, id, write::Input::Unknown);
            }
            Event::Load(at, id, succeeds) => {
                let late = if broken(Rule::LoadsAreStampedFirst) { self.store.moment(now) } else { 0 };
                let Some(Run { work: Work::Fill { loading, began, .. }, .. }) = self.nodes[at].run(id) else { return };
                let Some(value) = loading.take() else { return };
                began.store = began.store.map(|stamp| stamp.max(late));
                let held = Held { value, stamp: began.store.unwrap_or(u64::MAX) };
                let input = if succeeds { fill::Input::Loaded(Some(held)) } else { fill::Input::Failed };
                self.step(at, id, input);
            }
            Event::Hear(at) => self.hear(at),
            Event::Connect(at) => self.connect(at),
            Event::Ask(at) => self.ask(at),
            Event::TimeOut(at) | Event::Notice(at) => self.lose(at),
            Event::Recover(at) => self.recover(at),
        }
    }

    /// All that can happen by itself. `fails`: loads may fail; `losses`: requests may get lost.
    pub fn events(&self, fails: bool, losses: bool, out: &mut Vec<Event>) {
        out.clear();
        for (at, node) in self.nodes.iter().enumerate() {
            for run in &node.runs {
                match run.wire {
                    Wire::Asked(_) => {
                        out.push(Event::Apply(at, run.id, true));
                        if losses {
                            out.extend([Loss::Request, Loss::Reply].map(|loss| Event::Lose(at, run.id, loss)));
                            out.push(Event::Apply(at, run.id, false));
                        }
                    }
                    Wire::Answered(_) if !node.paused => out.push(Event::Deliver(at, run.id)),
                    _ => {}
                }
                if matches!(run.work, Work::Fill { loading: Some(_), .. }) && !node.paused {
                    out.push(Event::Load(at, run.id, true));
                    out.extend(fails.then_some(Event::Load(at, run.id, false)));
                }
            }
            out.extend(self.link_events(at));
            let recovers = node.runs.iter().any(|run| matches!(run.work, Work::Recover(..)));
            if !node.owed.is_empty() && !node.gone && !node.paused && !recovers && !broken(Rule::OwedIsTold) {
                out.push(Event::Recover(at));
            }
        }
    }

    /// True while somebody has not been answered, or the store has yet to be told of something.
    pub fn is_waited_for(&self) -> bool {
        self.waiting > 0 || !self.is_quiet()
    }

    /// True if nothing is under way but what was heard.
    pub fn is_quiet(&self) -> bool {
        self.nodes.iter().all(|node| node.runs.is_empty() && node.owed.is_empty())
    }

    /// True if a message is on its way there.
    pub fn has_message(&self, at: usize) -> bool {
        self.nodes[at].link.items.iter().any(|item| matches!(item, Item::Message(_)))
    }

    /// All that can matter later.
    pub fn sum(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.now, &self.store, &self.nodes, &self.truth, &self.told, self.waiting).hash(&mut hasher);
        hasher.finish()
    }

    pub fn check(&self) -> Verdicts {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// When nothing is under way and all is well again: what was promised is kept.
    pub fn check_end(&self) -> Verdicts {
        if self.waiting > 0 {
            return Err(format!("{} were never answered", self.waiting));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            if !node.promises.is_empty() {
                return Err(format!("the store never heard of {:?} of node {at}", node.promises));
            }
        }
        Ok(())
    }
}
