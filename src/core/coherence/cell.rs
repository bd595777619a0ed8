//! The clock of a cache as its store keeps it, and what each request does to it at one moment: the meaning of the scripts of a
//! real store.
//!
//! Pure. `now` is the store's own time, in microseconds; stamps grow even when that stands still or jumps back. A clock that is
//! not there, because nobody ever asked or the store has lost it, is born: whatever was stamped before is gone with that, as nobody
//! knows any more what was moved. It is bounded, and forgets the oldest registers in the same way.

use super::{How, Known, Moved, Name, Snapshot, Told};
use crate::core::broken::{Rule, broken};
use std::collections::BTreeMap;

/// So many registers are kept; of more the older half goes, and the floor rises to the newest of those.
pub const REGISTERS: usize = 20_000;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    /// 0 before it is born.
    birth: u64,
    floor: u64,
    last: u64,
    messages: u64,
    moves: u64,
    registers: BTreeMap<Name, Moved>,
}

impl Cell {
    /// A new stamp. For a version that has to be newer than another too, `now` is at least one more than that.
    pub fn next(&mut self, now: u64) -> u64 {
        if self.birth == 0 {
            let birth = now.max(1);
            (self.birth, self.last) = (birth, birth);
            self.floor = if broken(Rule::BornIsGone) { 0 } else { birth };
        }
        self.last = if broken(Rule::StampsGrow) { now } else { now.max(self.last.saturating_add(1)) };
        self.last
    }

    /// The number of a message that is published now. What [`next`](Self::next) and [`moved`](Self::moved) gave a stamp to has one, if
    /// others are told of it.
    pub fn number(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }

    /// Moves these registers; when that was.
    pub fn moved(&mut self, names: &[Name], how: How, now: u64) -> u64 {
        let at = self.next(now);
        self.moves += 1;
        for name in names {
            self.registers.entry(name.clone()).or_default().raise(Moved::once(how, at));
        }
        if self.registers.len() > REGISTERS {
            self.forget();
        }
        at
    }

    /// The older half of the registers goes.
    pub(super) fn forget(&mut self) {
        let mut stamps: Vec<u64> = self.registers.values().map(|moved| moved.last()).collect();
        stamps.sort_unstable();
        let Some(&newest) = stamps.get(stamps.len() / 2) else { return };
        self.registers.retain(|_, moved| moved.last() > newest);
        self.floor = self.floor.max(if broken(Rule::ForgottenIsGone) { 0 } else { newest });
    }

    /// A stamp for something that begins to load now, and what the asker does not know.
    pub fn told(&mut self, known: Known, now: u64) -> Told {
        let stamp = self.next(now);
        let Cell { birth, messages, moves, .. } = *self;
        let all = (known != Known { birth, moves }).then(|| self.snapshot());
        Told { stamp, birth, messages, moves, all }
    }

    /// What it has counted, as a heartbeat asks for it: no stamp is given, and a clock that is not there is not born.
    pub fn counts(&self) -> Told {
        let Cell { birth, last, messages, moves, .. } = *self;
        Told { stamp: last, birth, messages, moves, all: None }
    }

    fn snapshot(&self) -> Snapshot {
        let registers = self.registers.iter().map(|(name, moved)| (name.clone(), *moved)).collect();
        Snapshot { floor: self.floor, registers }
    }

    /// What a store keeps that knows bytes only.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [self.birth, self.floor, self.last, self.messages, self.moves] {
            bytes.extend(number.to_be_bytes());
        }
        for (name, moved) in &self.registers {
            let name = name.to_bytes();
            bytes.extend((name.len() as u32).to_be_bytes());
            bytes.extend(name);
            bytes.extend(moved.gone.to_be_bytes());
            bytes.extend(moved.stale.to_be_bytes());
        }
        bytes.extend(END.to_be_bytes());
        bytes
    }

    /// The clock with these bytes. What cannot be read is as good as lost: the clock is to be born then.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let [birth, floor, last, messages, moves] = numbers(&mut rest)?;
        let mut cell = Cell { birth, floor, last, messages, moves, registers: BTreeMap::new() };
        loop {
            let (length, after) =
                rest.split_first_chunk().map(|(length, after)| (u32::from_be_bytes(*length), after))?;
            if length == END {
                return after.is_empty().then_some(cell);
            }
            let (name, after) = after.split_at_checked(length as usize)?;
            rest = after;
            let [gone, stale] = numbers(&mut rest)?;
            cell.registers.insert(Name::from_bytes(name)?, Moved { gone, stale });
        }
    }
}

/// What the bytes begin with: whose they are, and in which form.
const MAGIC: &[u8] = b"SVC\x01";

/// Instead of a length: there are no more registers.
const END: u32 = u32::MAX;

/// Takes so many numbers from the beginning.
fn numbers<const N: usize>(bytes: &mut &[u8]) -> Option<[u64; N]> {
    let mut all = [0; N];
    for number in &mut all {
        let (first, rest) = bytes.split_first_chunk()?;
        (*number, *bytes) = (u64::from_be_bytes(*first), rest);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tag(tag: &str) -> Vec<Name> {
        vec![Name::new("", tag)]
    }

    #[test]
    fn stamps_grow_though_time_jumps_back() {
        let mut cell = Cell::default();
        let stamps = [50, 50, 10, 0, 60].map(|now| cell.next(now));
        assert_eq!(stamps, [51, 52, 53, 54, 60], "the first was its birth");
    }

    #[test]
    fn what_begins_to_load_is_later_than_what_was_moved_and_earlier_than_what_will_be() {
        let mut cell = Cell::default();
        let before = cell.moved(&tag("a"), How::Gone, 5);
        let told = cell.told(Known::default(), 5);
        let after = cell.moved(&tag("a"), How::Stale, 5);
        assert!(told.birth < before && before < told.stamp && told.stamp < after);
        let all = told.all.unwrap();
        assert_eq!(
            all,
            Snapshot { floor: told.birth, registers: vec![(Name::new("", "a"), Moved { gone: before, stale: 0 })] }
        );
        let again = cell.told(Known { birth: told.birth, moves: 2 }, 5);
        assert_eq!((again.moves, again.all), (2, None));
        assert!(cell.told(Known { birth: told.birth, moves: 1 }, 5).all.is_some());
        assert!(cell.told(Known { birth: 1, moves: 2 }, 5).all.is_some());
    }

    #[test]
    fn a_lost_clock_is_born_anew_with_all_older_gone() {
        let mut cell = Cell::default();
        let stamp = cell.told(Known::default(), 100).stamp;
        let born = Cell::default().told(Known::default(), 200);
        assert!(born.all.unwrap().floor > stamp && born.stamp > born.birth);
    }

    #[test]
    fn of_too_many_registers_the_older_half_goes_and_the_floor_says_so() {
        let mut cell = Cell::default();
        let stamps: Vec<u64> = (0..=REGISTERS).map(|at| cell.moved(&tag(&at.to_string()), How::Gone, 0)).collect();
        let all = cell.snapshot();
        assert!(all.registers.len() <= REGISTERS / 2 && all.registers.len() > REGISTERS / 3);
        for (at, stamp) in stamps.into_iter().enumerate() {
            let kept = all.registers.iter().any(|(name, moved)| *name.tag == *at.to_string() && moved.gone == stamp);
            assert!(kept || stamp <= all.floor, "{at} is forgotten");
        }
    }

    proptest! {
        #[test]
        fn a_clock_comes_back_from_its_bytes_and_from_no_part_of_them(
            moves in prop::collection::vec((".{0,3}", ".{0,3}", any::<bool>(), 0_u64..99), 0..5), told in 0..3_usize,
        ) {
            let mut cell = Cell::default();
            for (path, tag, gone, now) in moves {
                cell.moved(&[Name::new(&path, &tag)], if gone { How::Gone } else { How::Stale }, now);
                cell.number();
            }
            (0..told).for_each(|_| drop(cell.told(Known::default(), 0)));
            let bytes = cell.to_bytes();
            prop_assert_eq!(Cell::from_bytes(&bytes), Some(cell));
            for end in 0..bytes.len() {
                prop_assert_eq!(Cell::from_bytes(&bytes[..end]), None);
            }
        }
    }
}
