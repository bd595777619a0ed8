//! One process: its memory, what it has under way, and what it has yet to hear and to tell.

use super::super::fill::Fill;
use super::super::ledger::{Mark, Note};
use super::super::write::{Effect, What, Write};
use super::super::{Filled, Found, Frame, Token, Version, Wanted};
use super::store::TTL;
use super::world::KEYS;
use crate::core::broken::{Rule, broken};
use crate::core::clock::Millis;
use crate::core::flight::{Lease, Written};
use crate::core::memory::{Capacity, Discard, Eviction, GroupId, Memory, New, Placement, Reason, RegionId, mix};
use crate::core::policy::Lifetime;
use std::collections::VecDeque;
use std::time::Duration;

/// A value in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub value: u32,
    pub version: Option<Version>,
}

#[derive(Clone, Copy, Debug)]
pub enum Request {
    Read,
    Claim(Token, Wanted, Duration),
    Fill((Option<Token>, Option<Version>), Option<u32>),
    Renew(Token, Duration),
    Release(Token),
    Write(What<u32>),
}

impl Request {
    /// As stores have it.
    pub fn may_be_repeated(self) -> bool {
        match self {
            Request::Write(What::Value(_)) => false,
            Request::Claim(..) => broken(Rule::ClaimsAreAskedOnce),
            _ => true,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Reply {
    Read(Option<Frame<u32>>),
    Claim(Found<Frame<u32>>),
    Fill(Filled<Frame<u32>>),
    Renew(Token, bool),
    Released,
    Write(Version),
}

#[derive(Clone, Copy, Debug)]
pub enum Wire {
    Quiet,
    Asked(Request),
    Answered(Reply),
}

#[derive(Clone, Debug)]
pub enum Work {
    Fill(Lease, Fill<u32>),
    /// For this caller, who took no lease.
    Look(u32, Mark),
    Write {
        write: Write<u32>,
        todo: VecDeque<Effect<u32>>,
        rank: usize,
        mark: Mark,
    },
}

#[derive(Clone, Debug)]
pub struct Run {
    pub id: u64,
    pub key: u8,
    pub work: Work,
    pub wire: Wire,
    /// What its load, which runs, has read from the source.
    pub loading: Option<u32>,
    /// The claim it waits for.
    pub awaits: Option<Token>,
    /// A request of it was asked twice already.
    pub repeated: bool,
}

/// A message on the bus, and how new what it tells of is.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub from: usize,
    pub key: u8,
    pub version: Version,
    pub rank: usize,
}

/// One process.
#[derive(Debug)]
pub struct Node {
    pub memory: Memory<u8, Kept, u32>,
    pub group: GroupId,
    pub runs: Vec<Run>,
    pub inbox: Vec<Message>,
    /// Keys the store is to be told of, with how new what they were invalidated for is.
    pub recover: VecDeque<(u8, usize)>,
    /// What callers may not be behind.
    pub floor: [usize; KEYS],
}

pub fn hash(key: u8) -> u64 {
    mix(u64::from(key), 0)
}

impl Node {
    pub fn new() -> Self {
        let mut memory = Memory::new(Capacity::entries(100), Eviction::Lru);
        let group = memory.entries.add_group(RegionId(0));
        memory.ledger = Some(Box::default());
        Node { memory, group, runs: Vec::new(), inbox: Vec::new(), recover: VecDeque::new(), floor: [0; KEYS] }
    }

    pub fn entry(&self, key: u8) -> Option<(u32, Kept)> {
        let id = self.memory.entries.find(hash(key), |other| *other == key)?;
        Some((id, *self.memory.entries.peek(id)?.value))
    }

    pub fn run(&mut self, id: u64) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.id == id)
    }

    pub fn detach(&mut self, key: u8) {
        if let Some(flight) = self.memory.flights.find(hash(key), |other| *other == key) {
            self.memory.flights.detach(flight);
        }
    }

    pub fn forget(&mut self, key: u8) {
        if let Some((id, _)) = self.entry(key) {
            self.memory.entries.remove(id, Reason::Removed, &mut Discard::default());
        }
    }

    /// What the store has, for somebody who has no lease.
    pub fn promote(&mut self, key: u8, mark: Mark, kept: Kept, left: Millis, now: Millis) {
        let Some(version) = kept.version else { return };
        let entry = self.entry(key).map(|(id, _)| self.memory.entries.target(id));
        let flight = self.memory.flights.find(hash(key), |other| *other == key);
        let placement = Placement::new(self.group, now + left, 0);
        let new = New { hash: hash(key), key, value: kept, placement };
        let written = Written { new, lifetime: Lifetime::plain(now + left) };
        self.memory.promote(written, (entry, flight), (mark, Note::of(Some(version))), now, &mut Discard::default());
    }

    /// Something of this version took the place of what was under the key.
    pub fn drop_older(&mut self, key: u8, version: Option<Version>) {
        self.detach(key);
        self.memory.note_change(hash(key));
        let there = self.entry(key).and_then(|(_, kept)| kept.version);
        if version.is_none_or(|version| version.replaces(there)) {
            self.forget(key);
        }
    }

    pub fn put(&mut self, key: u8, kept: Kept, now: Millis) {
        self.detach(key);
        self.memory.note_change(hash(key));
        let there = self.entry(key).and_then(|(_, there)| there.version);
        if kept.version.is_none_or(|version| version.replaces(there)) {
            let placement = Placement::new(self.group, now + TTL.as_millis() as Millis, 0);
            let new = New { hash: hash(key), key, value: kept, placement };
            self.memory.entries.put(new, |other| *other == key, now, &mut Discard::default());
        }
    }

    /// Callers from now on may not be behind this.
    pub fn knows(&mut self, key: u8, rank: usize) {
        let floor = &mut self.floor[usize::from(key)];
        *floor = rank.max(*floor);
    }
}
