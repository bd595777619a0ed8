//! Writes that a source has not got yet: the last one of each key, which of them go together, and when those that failed
//! are tried again.
//!
//! There is one write a key. While it is under way a newer one waits behind it, so the writes of a key arrive in order.
//! Until the last one has arrived, or is given up, it is what the key is worth reading as. One batch is under way at a time.
//!
//! A source that is away must cost neither writes nor peace: after a batch that failed everybody pauses, and the next try
//! is with what has failed least. A value that the source refuses must not keep others from it: what failed together is
//! tried again in halves, apart from what never failed, and what fails by itself again makes nobody pause for longer.
//!
//! Nothing here calls anybody: time and draws are arguments, and values that leave are handed back.

#[cfg(test)]
mod tests;

use crate::core::clock::{Millis, later};
use crate::core::resilience::Retry;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A key, shared between the places that know it.
pub type Key = Arc<str>;

/// How long, how many, how often.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// A write waits this long for company.
    pub delay: Millis,
    /// So many go together, at least 1.
    pub max_batch: usize,
    /// So many keys may wait, at least 1.
    pub max_pending: usize,
    /// The pauses after failures, and after how many of them a value is given up.
    pub retry: Retry,
}

/// What is to be done about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It gets a value.
    Set,
    /// It goes.
    Delete,
}

/// A write that was taken in.
#[derive(Debug)]
pub struct Accepted<V> {
    /// The value whose place it took.
    pub displaced: Option<V>,
    /// True if whoever writes may have to come sooner than they know.
    pub ring: bool,
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is pending.
    Idle,
    /// A batch is under way.
    Flying,
    /// Nothing before this moment.
    At(Millis),
    /// These are to be written now; their values are what [`Queue::get`] says.
    Batch(Batch),
}

/// Keys that go together. Each of them is there once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// To be named when it ends.
    pub id: u64,
    /// What is done about all of them.
    pub kind: Kind,
    /// The oldest first.
    pub keys: Vec<Key>,
}

/// How a batch ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The source has it.
    Written,
    /// It has not; the draw in `[0, 1)` decides when it is tried again.
    Failed(Failure, f64),
    /// Nobody can say. It does not count as a failure.
    Unknown,
}

/// Why a batch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Another try may help.
    Passing,
    /// No other try helps: the source refuses a value in it.
    Final,
    /// The source was not asked.
    NotAsked,
}

/// A write that is no longer pending.
#[derive(Debug, PartialEq, Eq)]
pub struct Left<V> {
    /// Its key.
    pub key: Key,
    /// What was to be done.
    pub kind: Kind,
    /// Its value.
    pub value: V,
    /// How often it was tried and failed.
    pub tries: u32,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Finished<V> {
    /// Keys whose last write the source has.
    pub written: Vec<Left<V>>,
    /// Writes that were given up.
    pub lost: Vec<Left<V>>,
}

#[derive(Debug)]
struct Write<V> {
    kind: Kind,
    value: V,
    /// Its place in the order of all.
    number: u64,
    /// When it has waited long enough for company.
    due: Millis,
    /// How often its key failed in a row.
    failures: u32,
    /// How often this very value failed.
    tries: u32,
    /// It goes with so many, itself included.
    room: usize,
    /// True once its key has failed with no other beside it.
    alone: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In one of the lines.
    Ready,
    /// Failed; back in line then.
    Resting(Millis),
    /// Under way; the number and the due time of a newer write behind it.
    Flying(Option<(u64, Millis)>),
}

/// Writes of one kind that may go.
#[derive(Debug, Default)]
struct Line {
    /// By number, so by due time too.
    fresh: BTreeMap<u64, Key>,
    /// Those that failed, by how often and number.
    again: BTreeMap<(u32, u64), Key>,
}

/// See the module.
#[derive(Debug)]
pub struct Queue<V> {
    terms: Terms,
    writes: HashMap<Key, Write<V>>,
    lines: [Line; 2],
    resting: BTreeMap<(Millis, u64), Key>,
    /// Of all writes; of a key with a newer write behind the one under way, both.
    numbers: BTreeSet<u64>,
    last: u64,
    /// What has a number up to this one waits for no company.
    hurried: u64,
    /// Batches that failed since one went well.
    streak: u32,
    paused_until: Millis,
    flying: Option<Batch>,
    /// Whose turn it is if both fresh writes and others may go.
    again_first: bool,
    batches: u64,
}

impl<V> Queue<V> {
    /// An empty queue.
    pub fn new(terms: Terms) -> Self {
        Queue {
            terms,
            writes: HashMap::new(),
            lines: Default::default(),
            resting: BTreeMap::new(),
            numbers: BTreeSet::new(),
            last: 0,
            hurried: 0,
            streak: 0,
            paused_until: 0,
            flying: None,
            again_first: false,
            batches: 0,
        }
    }

    /// How many keys are pending.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// True if nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The newest write of a key.
    pub fn get(&self, key: &str) -> Option<(Kind, &V)> {
        self.writes.get(key).map(|write| (write.kind, &write.value))
    }

    /// Calls `visit` with every value, until it says false.
    pub fn visit(&self, mut visit: impl FnMut(&V) -> bool) -> bool {
        self.writes.values().all(|write| visit(&write.value))
    }

    /// Takes a write in; gives the value back if there is no room. A key that is pending already needs none.
    pub fn put(&mut self, key: &str, kind: Kind, value: V, now: Millis) -> Result<Accepted<V>, V> {
        let due = now.saturating_add(self.terms.delay);
        let Some(write) = self.writes.get_mut(key) else { return self.put_new(key.into(), kind, value, due) };
        let displaced = Some(std::mem::replace(&mut write.value, value));
        let before = std::mem::replace(&mut write.kind, kind);
        match &mut write.stage {
            Stage::Flying(newer) => {
                if newer.is_none() {
                    self.last += 1;
                    *newer = Some((self.last, due));
                    self.numbers.insert(self.last);
                }
            }
            Stage::Resting(_) => write.tries = 0,
            Stage::Ready => {
                write.tries = 0;
                let (number, failures) = (write.number, write.failures);
                if before != kind
                    && let Some(key) = self.lines[before as usize].remove(number, failures)
                {
                    self.lines[kind as usize].insert(number, failures, key);
                }
            }
        }
        Ok(Accepted { displaced, ring: self.is_called_for(kind) })
    }

    fn put_new(&mut self, key: Key, kind: Kind, value: V, due: Millis) -> Result<Accepted<V>, V> {
        if self.writes.len() >= self.terms.max_pending {
            return Err(value);
        }
        self.last += 1;
        let number = self.last;
        let room = self.terms.max_batch;
        let stage = Stage::Ready;
        let write = Write { kind, value, number, due, failures: 0, tries: 0, room, alone: false, stage };
        self.numbers.insert(number);
        self.lines[kind as usize].fresh.insert(number, key.clone());
        self.writes.insert(key, write);
        Ok(Accepted { displaced: None, ring: self.writes.len() == 1 || self.is_called_for(kind) })
    }

    /// True if fresh writes of a kind go without waiting for more.
    fn is_called_for(&self, kind: Kind) -> bool {
        let fresh = self.lines[kind as usize].fresh.len();
        fresh >= self.terms.max_batch || (fresh > 0 && self.writes.len() >= self.terms.max_pending)
    }

    /// What there is to do now.
    pub fn next(&mut self, now: Millis) -> Next {
        if self.writes.is_empty() {
            return Next::Idle;
        }
        if self.flying.is_some() {
            return Next::Flying;
        }
        if self.paused_until > now {
            return Next::At(self.paused_until);
        }
        while let Some(rested) = self.resting.first_entry().filter(|first| first.key().0 <= now) {
            let key = rested.remove();
            self.line_up(key);
        }
        let (fresh, again) = (self.fresh_to_go(now), self.again_to_go());
        let batch = match (fresh, again) {
            (None, None) => return Next::At(self.next_moment()),
            (Some(kind), None) => self.take_fresh(kind),
            (None, Some(kind)) => self.take_again(kind),
            (Some(_), Some(kind)) if self.again_first => self.take_again(kind),
            (Some(kind), Some(_)) => self.take_fresh(kind),
        };
        self.flying = Some(batch.clone());
        Next::Batch(batch)
    }

    /// The kind of the oldest fresh writes that need not wait.
    fn fresh_to_go(&self, now: Millis) -> Option<Kind> {
        let oldest = |kind: Kind| {
            let (&number, key) = self.lines[kind as usize].fresh.first_key_value()?;
            let due = || self.writes.get(key).is_none_or(|write| write.due <= now);
            (number <= self.hurried || self.is_called_for(kind) || due()).then_some((number, kind))
        };
        earlier(oldest(Kind::Set), oldest(Kind::Delete))
    }

    /// The kind of the writes that failed least of those that failed.
    fn again_to_go(&self) -> Option<Kind> {
        let first = |kind: Kind| self.lines[kind as usize].again.first_key_value().map(|(&place, _)| (place, kind));
        earlier(first(Kind::Set), first(Kind::Delete))
    }

    fn next_moment(&self) -> Millis {
        let due = |line: &Line| line.fresh.first_key_value().and_then(|(_, key)| Some(self.writes.get(key)?.due));
        let rested = self.resting.first_key_value().map(|(&(at, _), _)| at);
        let moments = [due(&self.lines[0]), due(&self.lines[1]), rested];
        moments.into_iter().flatten().min().unwrap_or(Millis::MAX)
    }

    fn take_fresh(&mut self, kind: Kind) -> Batch {
        let fresh = &mut self.lines[kind as usize].fresh;
        let count = fresh.len().min(self.terms.max_batch);
        let keys = (0..count).filter_map(|_| fresh.pop_first()).map(|(_, key)| key).collect();
        self.again_first = true;
        self.send(kind, keys)
    }

    /// Those that failed equally often, as many as all of them have room for.
    fn take_again(&mut self, kind: Kind) -> Batch {
        let again = &mut self.lines[kind as usize].again;
        let (mut keys, mut room, mut class) = (Vec::new(), self.terms.max_batch, None);
        while let Some(first) = again.first_entry() {
            let failures = first.key().0;
            room = room.min(self.writes.get(first.get()).map_or(1, |write| write.room));
            if *class.get_or_insert(failures) != failures || keys.len() >= room {
                break;
            }
            keys.push(first.remove());
        }
        self.again_first = false;
        self.send(kind, keys)
    }

    fn send(&mut self, kind: Kind, keys: Vec<Key>) -> Batch {
        for key in &keys {
            if let Some(write) = self.writes.get_mut(key) {
                write.stage = Stage::Flying(None);
            }
        }
        self.batches += 1;
        Batch { id: self.batches, kind, keys }
    }

    /// A batch has ended. Nothing comes of one that was given up meanwhile.
    pub fn finish(&mut self, id: u64, outcome: Outcome, now: Millis) -> Finished<V> {
        let mut finished = Finished { written: Vec::new(), lost: Vec::new() };
        let Some(batch) = self.flying.take_if(|batch| batch.id == id) else { return finished };
        match outcome {
            Outcome::Written => self.streak = 0,
            // A source that refuses a value is there.
            Outcome::Failed(Failure::Final, _) | Outcome::Unknown => {}
            Outcome::Failed(_, draw) => self.pause(&batch, draw, now),
        }
        let company = batch.keys.len();
        for key in batch.keys {
            let Some(write) = self.writes.get_mut(&key) else { continue };
            let newer = if let Stage::Flying(newer) = write.stage { newer } else { None };
            match outcome {
                Outcome::Written => write.starts_anew(self.terms.max_batch),
                Outcome::Failed(why, _) => write.has_failed(why, company, self.terms.retry.attempts()),
                // With it goes what is older.
                Outcome::Unknown if newer.is_none() => self.hurried = self.hurried.max(write.number),
                Outcome::Unknown => {}
            }
            if let Some((number, due)) = newer {
                self.numbers.remove(&write.number);
                (write.number, write.due, write.tries) = (number, due, 0);
            } else if matches!(outcome, Outcome::Written) {
                finished.written.extend(self.remove(key));
                continue;
            } else if write.is_hopeless(outcome, company, self.terms.retry.attempts()) {
                finished.lost.extend(self.remove(key));
                continue;
            }
            self.back(key, outcome, now);
        }
        finished
    }

    /// A write that was under way is pending again.
    fn back(&mut self, key: Key, outcome: Outcome, now: Millis) {
        let terms = self.terms;
        let Some(write) = self.writes.get_mut(&key) else { return };
        if let Outcome::Failed(_, draw) = outcome {
            let at = terms.pause(write.failures, draw, now);
            write.stage = Stage::Resting(at);
            self.resting.insert((at, write.number), key);
        } else {
            self.line_up(key);
        }
    }

    /// Everybody pauses, and for longer than before if this tells something new about the source.
    fn pause(&mut self, batch: &Batch, draw: f64, now: Millis) {
        let known = match batch.keys.as_slice() {
            [only] => self.writes.get(only).is_some_and(|write| write.alone),
            _ => false,
        };
        self.streak = self.streak.saturating_add(u32::from(!known)).max(1);
        self.paused_until = self.terms.pause(self.streak, draw, now);
    }

    fn line_up(&mut self, key: Key) {
        if let Some(write) = self.writes.get_mut(&key) {
            write.stage = Stage::Ready;
            self.lines[write.kind as usize].insert(write.number, write.failures, key);
        }
    }

    fn remove(&mut self, key: Key) -> Option<Left<V>> {
        let Write { kind, value, number, tries, .. } = self.writes.remove(&key)?;
        self.numbers.remove(&number);
        Some(Left { key, kind, value, tries })
    }

    /// What is pending now waits for no company and for no pause. Gives what to ask [`is_settled`](Self::is_settled) about.
    pub fn hurry(&mut self) -> u64 {
        self.hurried = self.last;
        (self.streak, self.paused_until) = (0, 0);
        for (_, key) in std::mem::take(&mut self.resting) {
            self.line_up(key);
        }
        self.last
    }

    /// True when everything that was pending at a [`hurry`](Self::hurry) is written or given up.
    pub fn is_settled(&self, mark: u64) -> bool {
        self.numbers.first().is_none_or(|&first| first > mark)
    }

    /// Gives everything up, the oldest first, what is under way included.
    pub fn give_up(&mut self) -> Vec<Left<V>> {
        let mut left: Vec<(u64, Left<V>)> = Vec::with_capacity(self.writes.len());
        for (key, Write { kind, value, number, tries, .. }) in self.writes.drain() {
            left.push((number, Left { key, kind, value, tries }));
        }
        let (last, batches) = (self.last, self.batches);
        *self = Queue { last, batches, ..Queue::new(self.terms) };
        left.sort_by_key(|(number, _)| *number);
        left.into_iter().map(|(_, left)| left).collect()
    }
}

fn earlier<T: Ord>(one: Option<(T, Kind)>, other: Option<(T, Kind)>) -> Option<Kind> {
    match (one, other) {
        (Some((one, kind)), Some((other, _))) if one < other => Some(kind),
        (_, Some((_, kind))) | (Some((_, kind)), None) => Some(kind),
        (None, None) => None,
    }
}

impl Terms {
    /// Until when to pause after so many failures in a row.
    fn pause(&self, failures: u32, draw: f64, now: Millis) -> Millis {
        later(now, self.retry.ceiling(failures).mul_f64(draw))
    }
}

impl Line {
    fn insert(&mut self, number: u64, failures: u32, key: Key) {
        if failures == 0 {
            self.fresh.insert(number, key);
        } else {
            self.again.insert((failures, number), key);
        }
    }

    fn remove(&mut self, number: u64, failures: u32) -> Option<Key> {
        if failures == 0 { self.fresh.remove(&number) } else { self.again.remove(&(failures, number)) }
    }
}

impl<V> Write<V> {
    /// Its key's troubles are over.
    fn starts_anew(&mut self, room: usize) {
        (self.failures, self.tries, self.room, self.alone) = (0, 0, room, false);
    }

    /// It failed, with so many others that any of them may be the reason; the last try is made without them.
    fn has_failed(&mut self, why: Failure, company: usize, attempts: u32) {
        self.failures = self.failures.saturating_add(1);
        self.tries = self.tries.saturating_add(u32::from(why != Failure::NotAsked));
        self.alone |= company == 1;
        self.room = if self.tries.saturating_add(1) >= attempts { 1 } else { company.div_ceil(2) };
    }

    /// True if there is to be no other try.
    fn is_hopeless(&self, outcome: Outcome, company: usize, attempts: u32) -> bool {
        let refused = matches!(outcome, Outcome::Failed(Failure::Final, _)) && company == 1;
        refused || self.tries >= attempts
    }
}
