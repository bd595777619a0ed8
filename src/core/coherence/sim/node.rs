//! One process: what it has in memory and has heard, what it has under way, what it owes, and how it is tied to the store.

use crate::core::broken::{Rule, broken};
use crate::core::clock::Millis;
use crate::core::coherence::hearing::Hearing;
use crate::core::coherence::heed::{Mark, Span, Trust};
use crate::core::coherence::owed::{self, Debt, Owed};
use crate::core::coherence::registers::{Began, Registers, Verdict};
use crate::core::coherence::{How, Name, Origin, Told};
use crate::core::remote::fill::Fill;
use crate::core::remote::write::{What, Write};
use crate::core::remote::{Filled, Found, Frame, Token, Version, Wanted};
use std::collections::VecDeque;

/// Two keys, each with its namespace and its tags.
pub const KEYS: usize = 2;
pub const PATHS: [&str; KEYS] = ["a:b", "a"];
pub const TAGS: [&[&str]; KEYS] = [&["t", "u"], &["t"]];

/// What a frame holds: a value, and the stamp of when its load began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    pub value: u32,
    pub stamp: u64,
}

/// An entry in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    pub value: u32,
    pub version: Option<Version>,
    pub began: Began,
    pub span: Span,
    pub until: Millis,
}

#[derive(Clone, Debug, Hash)]
pub enum Request {
    Claim(Token, Wanted),
    Read,
    Fill((Option<Token>, Option<Version>), Option<Held>),
    Release(Token),
    Write(What<u32>),
    Move(Name, How),
}

#[derive(Clone, Debug, Hash)]
pub enum Reply {
    Claim(Option<Told>, Found<Frame<Held>>),
    Read(Option<Told>, Option<Frame<Held>>),
    Fill(Filled<Frame<Held>>),
    Released,
    Write(Version),
    Move(u64),
}

#[derive(Clone, Debug, Hash)]
pub enum Wire {
    Quiet,
    Asked(Request),
    Answered(Reply),
}

/// How new an answer has to be: by all that was invalidated, and by what has not only expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Need {
    pub gone: usize,
    pub any: usize,
}

impl Need {
    pub fn raise(&mut self, rank: usize, how: How) {
        self.any = self.any.max(rank);
        self.gone = self.gone.max(if how == How::Gone { rank } else { 0 });
    }
}

/// Somebody who waits.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Caller {
    pub key: u8,
    /// By what this process has done itself.
    pub own: Need,
    /// By that, and by what any process has done too long ago.
    pub need: Need,
    /// When it began to wait, in the process's sequence.
    pub joined: u64,
}

#[derive(Clone, Debug, Hash)]
pub enum Work {
    Fill {
        fill: Box<Fill<Held>>,
        callers: Vec<Caller>,
        /// When its load began.
        began: Began,
        /// What the load, which runs, has read from the source.
        loading: Option<u32>,
    },
    /// Something in memory is in doubt.
    Look(Caller, Option<Version>),
    Write {
        write: Write<u32>,
        rank: usize,
        here: u64,
    },
    Move(Name, How, [Option<usize>; KEYS]),
    /// With what is told by that.
    Recover(Debt<u8>, Vec<Promise>),
}

/// An invalidation that the store will hear of: the keys that it is for, and how new they are to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    pub what: owed::What<u8>,
    pub ranks: [Option<usize>; KEYS],
}

#[derive(Clone, Debug, Hash)]
pub struct Run {
    pub id: u64,
    pub key: u8,
    pub work: Work,
    pub wire: Wire,
    pub mark: Mark<Millis>,
    /// The process's sequence when it began.
    pub asked: u64,
    pub changes: u32,
    /// Who comes may wait for it.
    pub attached: bool,
}

/// What comes from the store, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    Message(Vec<u8>),
    Touched(u8),
    Told(Millis, Told),
    Beat { asked: Millis, birth: u64, messages: u64, moves: u64 },
}

/// The connection on which a process listens.
#[derive(Clone, Debug, Default, Hash)]
pub struct Link {
    pub up: bool,
    /// The store sends nothing any more, and the process does not know.
    pub cut: bool,
    pub items: VecDeque<Item>,
    pub hearing: Option<Hearing>,
    /// When it was asked whether anything was missed, and there is no answer yet.
    pub beat: Option<Millis>,
    pub next_beat: Millis,
}

/// One process.
#[derive(Clone, Debug, Hash)]
pub struct Node {
    pub origin: Origin,
    pub memory: [Option<Kept>; KEYS],
    pub changes: [u32; KEYS],
    pub runs: Vec<Run>,
    pub registers: Registers,
    pub trust: Trust<Millis>,
    pub owed: Owed<u8>,
    /// What is owed, as the simulator knows it.
    pub promises: Vec<Promise>,
    pub link: Link,
    /// What callers may not be behind.
    pub floor: [Need; KEYS],
    pub paused: bool,
    /// The store cannot be reached from here.
    pub gone: bool,
    /// How many answers were served in doubt.
    pub doubts: usize,
    /// What tells its runs and claims apart.
    pub serial: u64,
}

impl Run {
    /// What is noted of something that the store had when it was asked.
    pub fn found(&self, held: Held) -> Began {
        Began { here: Some(self.asked).filter(|_| !broken(Rule::FoundIsNoted)), store: Some(held.stamp) }
    }
}

impl Node {
    pub fn new(origin: u128, registers: usize, owed: usize) -> Self {
        Node {
            origin: Origin(origin),
            memory: [None; KEYS],
            changes: [0; KEYS],
            runs: Vec::new(),
            registers: Registers::new(registers),
            trust: Trust::default(),
            owed: Owed::new(owed),
            promises: Vec::new(),
            link: Link::default(),
            floor: [Need::default(); KEYS],
            paused: false,
            gone: false,
            doubts: 0,
            serial: 0,
        }
    }

    pub fn run(&mut self, id: u64) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.id == id)
    }

    pub fn take_run(&mut self, id: u64) -> Option<Run> {
        let at = self.runs.iter().position(|run| run.id == id)?;
        Some(self.runs.remove(at))
    }

    pub fn entry(&mut self, key: u8) -> &mut Option<Kept> {
        &mut self.memory[usize::from(key)]
    }

    pub fn judge(&self, key: u8, began: Began) -> Verdict {
        let key = usize::from(key);
        self.registers.judge(PATHS[key], TAGS[key].iter().copied(), began)
    }

    /// True unless the store has yet to hear of something under this key.
    pub fn believes(&self, key: u8) -> bool {
        let at = usize::from(key);
        !self.owed.has(&key) && self.owed.judge(PATHS[at], TAGS[at].iter().copied()) == Verdict::Good
    }

    /// What is in memory under a key is something else now.
    pub fn put(&mut self, key: u8, kept: Option<Kept>) {
        self.changes[usize::from(key)] += 1;
        *self.entry(key) = kept;
    }

    /// Something has changed under a key: loads that are under way store nothing, and nobody comes to wait for them.
    pub fn change(&mut self, key: u8) {
        self.changes[usize::from(key)] += 1;
        let loads = self.runs.iter_mut().filter(|run| run.key == key && matches!(run.work, Work::Fill { .. }));
        loads.for_each(|run| run.attached = false);
    }

    /// True if nothing has changed under its key since a run began.
    pub fn is_unchanged(&self, run: &Run) -> bool {
        self.changes[usize::from(run.key)] == run.changes
    }
}
