//! One budget over all loads that nobody waits for: how many run behind at once, and who has room for one.
//!
//! A caller who meets a stale value goes on without a load if there is no room: whoever meets it next asks again. Work that
//! can wait (warming, the refresher) leaves such callers a quarter of the rooms, one at least, and may stand in line for one.
//! A room is given back when it is dropped, and is then the affair of the first in line.
//!
//! Pure: it starts nothing and asks for no time. `H` is who holds a room, so that rooms of those who never come back can be
//! found. Holders are dropped, and bells rung, after unlocking.

#[cfg(test)]
mod tests;

use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// How many loads run behind at once, if nobody says otherwise.
pub const ROOMS: u32 = 64;

/// Who asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A caller has met a value that wants to be loaded anew.
    Met,
    /// Nobody has met it: it can be done later as well.
    CanWait,
}

/// Tells one who stands in line that there may be room; false if they will not come at once, so that others should be told.
pub type Bell = Arc<dyn Fn() -> bool + Send + Sync>;

/// See the module.
pub struct Budget<H>(Mutex<State<H>>);

/// What is in motion of a budget.
pub struct State<H> {
    rooms: u32,
    taken: HashMap<u64, (Need, H)>,
    /// How many of them by those who can wait.
    waiting: usize,
    line: VecDeque<(u64, Bell)>,
    /// Numbers are given once.
    last: u64,
}

impl<H> State<H> {
    fn has_room(&self, need: Need) -> bool {
        // Where there is but one room, there is none to be left.
        let shared = self.rooms.saturating_sub(self.rooms.div_ceil(4)).max(1) as usize;
        let is_free = self.taken.len() < self.rooms as usize;
        is_free && (need == Need::Met || self.waiting < shared)
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl<H> fmt::Debug for Budget<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({} of {})", self.taken(), self.rooms())
    }
}

impl<H> Budget<H> {
    /// Room for so many loads; at least one.
    pub fn new(rooms: u32) -> Arc<Self> {
        let (taken, line) = (HashMap::new(), VecDeque::new());
        Arc::new(Budget(Mutex::new(State { rooms: rooms.max(1), taken, waiting: 0, line, last: 0 })))
    }

    /// How many rooms there are.
    pub fn rooms(&self) -> u32 {
        self.0.lock().rooms
    }

    /// How many of them are taken.
    pub fn taken(&self) -> usize {
        self.0.lock().taken.len()
    }

    /// Makes it larger or smaller, from now on: what runs goes on.
    pub fn set_rooms(&self, rooms: u32) {
        self.0.lock().rooms = rooms.max(1);
        self.call();
    }

    /// True if somebody with such a need would find room.
    pub fn has_room(&self, need: Need) -> bool {
        self.0.lock().has_room(need)
    }

    /// Takes a room, past those in line, if there is one.
    pub fn room(self: &Arc<Self>, need: Need, holder: H) -> Option<Room<H>> {
        let mut state = self.0.lock();
        if !state.has_room(need) {
            drop(state);
            return None;
        }
        Some(self.take(&mut state, need, holder))
    }

    fn take(self: &Arc<Self>, state: &mut State<H>, need: Need, holder: H) -> Room<H> {
        let number = state.number();
        state.taken.insert(number, (need, holder));
        state.waiting += usize::from(need == Need::CanWait);
        Room { budget: Arc::clone(self), number }
    }

    /// Joins the line of those who can wait; see [`Queued::take`].
    pub fn line_up(self: &Arc<Self>, bell: Bell) -> Queued<H> {
        let mut state = self.0.lock();
        let number = state.number();
        state.line.push_back((number, Arc::clone(&bell)));
        drop(state);
        Queued { budget: Arc::clone(self), number, bell, done: false }
    }

    /// What `each` makes of those who hold rooms.
    pub fn holders<T>(&self, each: impl FnMut(&H) -> T) -> Vec<T> {
        self.0.lock().taken.values().map(|(_, holder)| holder).map(each).collect()
    }

    /// Takes the rooms back of those who are gone; true if there were such. What they hold by then is worth nothing.
    pub fn evict(&self, is_gone: impl Fn(&H) -> bool) -> bool {
        let mut state = self.0.lock();
        let gone: Vec<_> = state.taken.extract_if(|_, (_, holder)| is_gone(holder)).collect();
        state.waiting -= gone.iter().filter(|(_, (need, _))| *need == Need::CanWait).count();
        drop(state);
        if !gone.is_empty() {
            self.call();
        }
        !gone.is_empty()
    }

    /// Forgets who holds rooms and who stands in line: nobody any more, in a forked child. The caller gets what they left.
    pub fn forget(&self) -> State<H> {
        let mut state = self.0.lock();
        let State { rooms, last, .. } = *state;
        let fresh = State { rooms, taken: HashMap::new(), waiting: 0, line: VecDeque::new(), last };
        std::mem::replace(&mut *state, fresh)
    }

    /// Calls the first in line who comes, if there is room for them.
    fn call(&self) {
        loop {
            let mut state = self.0.lock();
            let next = if state.has_room(Need::CanWait) { state.line.pop_front() } else { None };
            drop(state);
            if next.is_none_or(|(_, bell)| bell()) {
                return;
            }
        }
    }
}

/// Room for one load, until it is dropped.
#[must_use]
pub struct Room<H> {
    budget: Arc<Budget<H>>,
    number: u64,
}

impl<H> fmt::Debug for Room<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Room({})", self.number)
    }
}

impl<H> Drop for Room<H> {
    fn drop(&mut self) {
        let mut state = self.budget.0.lock();
        let gone = state.taken.remove(&self.number);
        state.waiting -= usize::from(matches!(gone, Some((Need::CanWait, _))));
        drop(state);
        if gone.is_some() {
            self.budget.call();
        }
    }
}

/// A stand in line, until it is dropped.
pub struct Queued<H> {
    budget: Arc<Budget<H>>,
    number: u64,
    bell: Bell,
    done: bool,
}

impl<H> fmt::Debug for Queued<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queued({})", self.number)
    }
}

impl<H> Queued<H> {
    /// Takes a room, if there is one and nobody stands before; else the bell rings when it is time to ask again.
    pub fn take(&mut self, holder: H) -> Option<Room<H>> {
        let mut state = self.budget.0.lock();
        let at = state.line.iter().position(|&(number, _)| number == self.number);
        if at.unwrap_or(0) > 0 || !state.has_room(Need::CanWait) {
            if at.is_none() {
                // It was called, and somebody came between.
                state.line.push_front((self.number, Arc::clone(&self.bell)));
            }
            drop(state);
            return None;
        }
        let left = at.and_then(|_| state.line.pop_front());
        let room = self.budget.take(&mut state, Need::CanWait, holder);
        drop(state);
        drop(left);
        self.done = true;
        self.budget.call();
        Some(room)
    }
}

impl<H> Drop for Queued<H> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.budget.0.lock();
        let at = state.line.iter().position(|&(number, _)| number == self.number);
        let left = at.and_then(|at| state.line.remove(at));
        drop(state);
        if left.is_none() {
            // It was called, and will not come.
            self.budget.call();
        }
    }
}
