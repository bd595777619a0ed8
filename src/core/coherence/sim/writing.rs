//! How a key is written or invalidated and names are moved, and how the store is told later of what it could not be told at once.

use super::node::{KEYS, Kept, Promise, Request, Run, Work};
use super::store::TTL;
use super::world::{NAMES, World, bears};
use crate::core::coherence::heed;
use crate::core::coherence::owed;
use crate::core::coherence::registers::Began;
use crate::core::coherence::{How, Move, Name};
use crate::core::remote::write::{self, Effect, NEWEST, What, Write};

impl World {
    pub fn write(&mut self, at: usize, key: u8, what: What<u32>, rank: usize) {
        if self.nodes[at].paused {
            return;
        }
        let here = self.nodes[at].registers.sequence();
        let (write, effects) = Write::begin(what);
        let id = self.begin(at, key, Work::Write { write, rank, here });
        self.go(at, id, effects);
    }

    pub fn move_name(&mut self, at: usize, name: usize, how: How) {
        if self.nodes[at].paused {
            return;
        }
        let (path, tag) = NAMES[name];
        let mut ranks = [None; KEYS];
        for key in (0..KEYS).filter(|&key| bears(key, NAMES[name])) {
            ranks[key] = Some(self.change(key as u8));
        }
        let name = Name::new(path, tag);
        self.nodes[at].registers.move_here(std::slice::from_ref(&name), how);
        let id = self.begin(at, 0, Work::Move(name.clone(), how, ranks));
        self.send(at, id, Request::Move(name, how));
    }

    /// A write has come to something: it learns whether anything has changed under its key meanwhile.
    pub fn written(&mut self, at: usize, id: u64, input: write::Input) {
        let node = &mut self.nodes[at];
        let Some(run) = node.runs.iter().find(|run| run.id == id) else { return };
        let changed = !node.is_unchanged(run);
        let Some(Run { work: Work::Write { write, .. }, .. }) = node.run(id) else { return };
        if changed {
            write.step(write::Input::Overtaken(NEWEST));
        }
        let effects = write.step(input);
        self.go(at, id, effects);
    }

    /// The effects of a write.
    pub fn go(&mut self, at: usize, id: u64, effects: Vec<Effect<u32>>) {
        let now = self.now;
        for effect in effects {
            let node = &mut self.nodes[at];
            let Some(run) = node.run(id) else { return };
            let Run { key, mark, work: Work::Write { rank, here, .. }, .. } = *run else { return };
            match effect {
                Effect::WriteTier(what) => self.send(at, id, Request::Write(what)),
                Effect::PutMemory(value, version) => {
                    let began = Began { here: Some(here), store: version.map(|version| version.0) };
                    node.change(key);
                    node.put(key, Some(Kept { value, version, began, span: mark.span, until: now + TTL }));
                }
                Effect::DropMemory(version) => {
                    node.change(key);
                    let there = node.entry(key).map(|kept| kept.version);
                    if version.zip(there).is_none_or(|(version, there)| heed::is_over(there, version)) {
                        node.put(key, None);
                    }
                }
                // The store has told them.
                Effect::Publish(_) => {}
                Effect::Recover => {
                    let mut ranks = [None; KEYS];
                    ranks[usize::from(key)] = Some(rank);
                    node.owed.key(key, ());
                    node.promises.push(Promise { what: owed::What::Key(key), ranks });
                }
                Effect::Done(_) => {
                    node.take_run(id);
                    node.floor[usize::from(key)].raise(rank, How::Gone);
                }
            }
        }
    }

    /// The store has answered a move, or will not.
    pub fn moved(&mut self, at: usize, id: u64, stamp: Option<u64>) {
        let node = &mut self.nodes[at];
        let Some(Run { work: Work::Move(name, how, ranks), .. }) = node.take_run(id) else { return };
        match stamp {
            Some(stamp) => node.registers.apply(&Move { names: vec![name], how, at: stamp }),
            None => {
                node.owed.moved(&name, how, ());
                node.registers.move_again(std::slice::from_ref(&name), how);
                node.promises.push(Promise { what: owed::What::Move(name, how), ranks });
            }
        }
        for (floor, rank) in node.floor.iter_mut().zip(ranks) {
            floor.raise(rank.unwrap_or(0), how);
        }
    }

    pub fn recover(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(debt) = node.owed.some(1).pop() else { return };
        let all = debt.what == owed::What::Move(Name::new("", ""), How::Gone);
        let covers: Vec<Promise> =
            node.promises.iter().filter(|promise| all || promise.what == debt.what).cloned().collect();
        let (key, request) = match &debt.what {
            owed::What::Key(key) => (*key, Request::Write(What::Tombstone)),
            owed::What::Move(name, how) => (0, Request::Move(name.clone(), *how)),
        };
        let id = self.begin(at, key, Work::Recover(debt, covers));
        self.send(at, id, request);
    }

    pub fn recovered(&mut self, at: usize, id: u64, stamp: Option<u64>) {
        let node = &mut self.nodes[at];
        let Some(Run { work: Work::Recover(debt, covers), .. }) = node.take_run(id) else { return };
        if let (owed::What::Move(name, how), Some(at)) = (&debt.what, stamp) {
            node.registers.apply(&Move { names: vec![name.clone()], how: *how, at });
        }
        node.owed.told(&debt);
        for promise in covers {
            if let Some(at) = node.promises.iter().position(|other| *other == promise) {
                node.promises.remove(at);
            }
        }
    }
}
