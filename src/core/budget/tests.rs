//! Whatever happens in whatever order: never more loads than rooms, some left for those who cannot wait, nobody forgotten.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[derive(Clone, Debug)]
enum Act {
    Take(Need),
    LineUp {
        comes: bool,
    },
    /// One in line asks, called or not.
    Ask(usize),
    Leave(usize),
    GiveBack(usize),
    Evict(u8),
    SetRooms(u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => prop_oneof![Just(Act::Take(Need::Met)), Just(Act::Take(Need::CanWait))],
        3 => any::<bool>().prop_map(|comes| Act::LineUp { comes }),
        3 => any::<usize>().prop_map(Act::Ask),
        1 => any::<usize>().prop_map(Act::Leave),
        4 => any::<usize>().prop_map(Act::GiveBack),
        1 => (0..4_u8).prop_map(Act::Evict),
        1 => (1..12_u32).prop_map(Act::SetRooms),
    ]
}

/// One who stands in line, and whether they were called since they last asked.
struct Waiter {
    queued: Queued<u8>,
    called: Arc<AtomicBool>,
    comes: bool,
}

struct Game {
    budget: Arc<Budget<u8>>,
    /// Rooms that count, by who holds them.
    rooms: Vec<(Need, u8, Room<u8>)>,
    line: Vec<Waiter>,
    holder: u8,
}

impl Game {
    fn holder(&mut self) -> u8 {
        self.holder = (self.holder + 1) % 4;
        self.holder
    }

    fn got(&mut self, need: Need, holder: u8, room: Option<Room<u8>>) {
        let Some(room) = room else { return };
        self.rooms.push((need, holder, room));
        let (rooms, waiting) = (self.budget.rooms() as usize, self.held(Need::CanWait));
        assert!(self.rooms.len() <= rooms, "{} of {rooms}", self.rooms.len());
        assert!(need == Need::Met || 4 * waiting <= 3 * rooms || (waiting, rooms) == (1, 1), "{waiting} of {rooms}");
    }

    fn held(&self, need: Need) -> usize {
        self.rooms.iter().filter(|(of, ..)| *of == need).count()
    }

    fn has_room(&self) -> bool {
        self.budget.has_room(Need::CanWait)
    }

    fn play(&mut self, act: &Act) {
        match *act {
            Act::Take(need) => {
                let (holder, free) = (self.holder(), self.rooms.len() < self.budget.rooms() as usize);
                let room = self.budget.room(need, holder);
                assert!(need == Need::CanWait || room.is_some() == free, "who cannot wait has every room");
                self.got(need, holder, room);
            }
            Act::LineUp { comes } => {
                let called = Arc::new(AtomicBool::new(false));
                let bell = Arc::clone(&called);
                let queued = self.budget.line_up(Arc::new(move || {
                    bell.store(true, Relaxed);
                    comes
                }));
                self.line.push(Waiter { queued, called, comes });
                self.ask(self.line.len() - 1);
            }
            Act::Ask(at) if !self.line.is_empty() => self.ask(at % self.line.len()),
            Act::Leave(at) if !self.line.is_empty() => drop(self.line.swap_remove(at % self.line.len())),
            Act::GiveBack(at) if !self.rooms.is_empty() => drop(self.rooms.swap_remove(at % self.rooms.len())),
            Act::Evict(gone) => {
                let there = self.rooms.iter().any(|(_, holder, _)| *holder == gone);
                assert_eq!(self.budget.evict(|holder| *holder == gone), there);
                // What they drop later is nobody's.
                self.rooms.retain(|(_, holder, _)| *holder != gone);
            }
            Act::SetRooms(rooms) => self.budget.set_rooms(rooms),
            Act::Ask(_) | Act::Leave(_) | Act::GiveBack(_) => {}
        }
        assert_eq!(self.budget.taken(), self.rooms.len());
        assert_eq!(self.budget.0.lock().waiting, self.held(Need::CanWait));
        let is_called = |waiter: &Waiter| waiter.called.load(Relaxed);
        let forgotten = self.line.iter().any(|waiter| !is_called(waiter)) && self.has_room();
        let comes = self.line.iter().any(|waiter| is_called(waiter) && waiter.comes);
        assert!(!forgotten || comes, "there is room, and nobody was called who comes");
    }

    fn ask(&mut self, at: usize) {
        let holder = self.holder();
        let waiter = &mut self.line[at];
        waiter.called.store(false, Relaxed);
        let room = waiter.queued.take(holder);
        if room.is_some() {
            self.line.swap_remove(at);
        }
        self.got(Need::CanWait, holder, room);
    }
}

proptest! {
    #[test]
    fn rooms_are_never_more_than_there_are_and_nobody_in_line_is_forgotten(
        rooms in 1..12_u32, acts in prop::collection::vec(act(), 0..200)
    ) {
        let mut game = Game { budget: Budget::new(rooms), rooms: Vec::new(), line: Vec::new(), holder: 0 };
        acts.iter().for_each(|act| game.play(act));
        let budget = Arc::clone(&game.budget);
        drop(game);
        prop_assert_eq!(budget.taken(), 0);
        let all: Vec<_> = std::iter::from_fn(|| budget.room(Need::Met, 0)).collect();
        prop_assert_eq!(all.len(), budget.rooms() as usize, "all rooms come back");
    }
}

#[test]
fn who_can_wait_leaves_a_quarter_and_gets_the_only_room() {
    for (rooms, expected) in [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3), (8, 6), (64, 48)] {
        let budget = Budget::new(rooms);
        let taken: Vec<_> = std::iter::from_fn(|| budget.room(Need::CanWait, ())).collect();
        assert_eq!(taken.len(), expected, "of {rooms}");
        let rest: Vec<_> = std::iter::from_fn(|| budget.room(Need::Met, ())).collect();
        assert_eq!(rest.len() + expected, rooms as usize);
    }
}

#[test]
fn the_first_in_line_is_called_first() {
    let budget = Budget::new(1);
    let room = budget.room(Need::Met, ());
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut line: Vec<_> = (0..3)
        .map(|number| {
            let order = Arc::clone(&order);
            budget.line_up(Arc::new(move || {
                order.lock().push(number);
                true
            }))
        })
        .collect();
    assert!(line.iter_mut().all(|queued| queued.take(()).is_none()));
    drop(room);
    assert_eq!(*order.lock(), [0]);
    // It was called, and goes away: the next one's turn.
    drop(line.remove(0));
    assert_eq!(*order.lock(), [0, 1]);
    let room = line[0].take(());
    assert!(room.is_some() && line[1].take(()).is_none());
    drop(room);
    assert_eq!(*order.lock(), [0, 1, 2]);
}

#[test]
fn what_a_parent_held_is_nothing_to_a_forked_child() {
    let budget = Budget::new(2);
    let rooms = [budget.room(Need::Met, 1), budget.room(Need::CanWait, 2)];
    drop(budget.forget());
    assert_eq!((budget.taken(), budget.rooms()), (0, 2));
    let own = [budget.room(Need::Met, 3), budget.room(Need::Met, 4)];
    drop(rooms);
    assert_eq!(budget.taken(), own.iter().flatten().count());
}
