//! A store in memory: what the scripts of a real one have to do, each at one moment. Time is an argument, and the store's clock,
//! which orders what is written, goes on when all else is lost.

use super::super::{CLAIM_LIFE, Filled, Found, Frame, Token, Version};
use crate::core::broken::{Rule, broken};
use crate::core::clock::{Millis, deadline, later};
use crate::core::remote::write::What;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long it is known that a key was invalidated.
const TOMBSTONE_LIFE: Duration = Duration::from_secs(30);
/// How long values are fresh.
pub const TTL: Duration = Duration::from_secs(60);
/// How long they are of some use after that.
pub const GRACE: Duration = Duration::from_secs(60);

/// What is under a key.
#[derive(Clone, Debug, Default)]
struct Cell {
    frame: Option<Frame<u32>>,
    /// Until when it is known that the key was invalidated.
    buried_until: Millis,
    claim: Option<(Token, Millis)>,
}

impl Cell {
    fn fresh(&self, now: Millis) -> Option<Frame<u32>> {
        self.frame.filter(|frame| now < frame.fresh_until)
    }

    fn is_over(&self, now: Millis) -> bool {
        let claimed = self.claim.is_some_and(|(_, until)| now < until);
        let kept = self.frame.is_some_and(|frame| now < frame.expires);
        !claimed && !kept && now >= self.buried_until
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Store {
    cells: BTreeMap<u8, Cell>,
    clock: u64,
}

impl Store {
    fn cell(&mut self, key: u8, now: Millis) -> &mut Cell {
        self.cells.retain(|_, cell| !cell.is_over(now));
        self.cells.entry(key).or_default()
    }

    fn version(&mut self) -> Version {
        self.clock += 1;
        Version(self.clock)
    }

    /// A fresh frame newer than that, or a claim: the one that is alive, else this one.
    pub fn claim(&mut self, key: u8, token: Token, newer_than: Option<Version>, now: Millis) -> Found<u32> {
        let cell = self.cell(key, now);
        if let Some(frame) = cell.fresh(now).filter(|frame| newer_than.is_none_or(|known| known < frame.version)) {
            return Found::Fresh(frame);
        }
        let live = cell.claim.filter(|(_, until)| now < *until);
        let (live, _) = *cell.claim.insert(live.unwrap_or((token, later(now, CLAIM_LIFE))));
        Found::Claimed(live, cell.frame)
    }

    /// True if the claim is still there, for as long as a new one.
    pub fn renew(&mut self, key: u8, token: Token, now: Millis) -> bool {
        let claim = self.cell(key, now).claim.as_mut().filter(|(live, _)| *live == token);
        claim.map(|(_, until)| *until = later(now, CLAIM_LIFE)).is_some()
    }

    /// Writes what was loaded under a claim if the claim is still there; or, while a test breaks the rule, in any case.
    pub fn fill(&mut self, key: u8, claim: Option<Token>, value: Option<u32>, now: Millis) -> Filled<u32> {
        let known = self.cells.contains_key(&key);
        let cell = self.cell(key, now);
        let held = claim.is_none_or(|token| cell.claim.is_some_and(|(live, _)| live == token));
        if held || (broken(Rule::AbsenceIsNoClaim) && (!known || cell.is_over(now))) {
            return Filled::Written(self.put(key, value, now));
        }
        cell.fresh(now).map_or(Filled::Gone, Filled::Lost)
    }

    /// Writes, whatever is there.
    pub fn write(&mut self, key: u8, what: What<u32>, now: Millis) -> Version {
        match what {
            What::Value(value) => self.put(key, Some(value), now),
            What::Tombstone => {
                let buried_until = later(now, TOMBSTONE_LIFE);
                *self.cell(key, now) = Cell { buried_until, ..Cell::default() };
                self.version()
            }
        }
    }

    fn put(&mut self, key: u8, value: Option<u32>, now: Millis) -> Version {
        let version = self.version();
        let fresh_until = deadline(now, Some(TTL));
        let frame = Frame { version, value, fresh_until, expires: later(fresh_until, GRACE) };
        *self.cell(key, now) = Cell { frame: Some(frame), ..Cell::default() };
        version
    }

    /// It needed the room.
    pub fn evict(&mut self, key: u8) {
        self.cells.remove(&key);
    }

    /// It lost everything.
    pub fn flush(&mut self) {
        self.cells.clear();
    }

    /// What it would answer with now.
    pub fn frame(&self, key: u8, now: Millis) -> Option<Frame<u32>> {
        self.cells.get(&key)?.fresh(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Token = Token(1);
    const TWO: Token = Token(2);

    fn millis(duration: Duration) -> Millis {
        duration.as_millis() as Millis
    }

    #[test]
    fn a_live_claim_is_adopted_and_its_first_fill_wins() {
        let mut store = Store::default();
        assert_eq!(store.claim(0, ONE, None, 0), Found::Claimed(ONE, None));
        assert_eq!(store.claim(0, TWO, None, 0), Found::Claimed(ONE, None));
        let Filled::Written(version) = store.fill(0, Some(ONE), Some(7), 5) else { panic!("it is there") };
        let Filled::Lost(frame) = store.fill(0, Some(ONE), Some(8), 6) else { panic!("the claim is gone") };
        assert_eq!((frame.version, frame.value), (version, Some(7)));
        assert_eq!(store.claim(0, TWO, None, 6), Found::Fresh(frame));
        assert_eq!(store.claim(0, TWO, Some(version), 6), Found::Claimed(TWO, Some(frame)), "a refresh");
    }

    #[test]
    fn whatever_happens_to_a_key_takes_the_claim_away() {
        let happens: [fn(&mut Store); 5] = [
            |store| store.evict(0),
            |store| store.flush(),
            |store| _ = store.write(0, What::Tombstone, 1),
            |store| _ = store.write(0, What::Value(9), 1),
            |store| _ = store.claim(0, TWO, None, millis(CLAIM_LIFE)),
        ];
        for happens in happens {
            let mut store = Store::default();
            store.claim(0, ONE, None, 0);
            happens(&mut store);
            assert!(!matches!(store.fill(0, Some(ONE), Some(7), 2), Filled::Written(_)));
        }
    }

    #[test]
    fn a_renewed_claim_outlives_its_first_life() {
        let mut store = Store::default();
        store.claim(0, ONE, None, 0);
        assert!(store.renew(0, ONE, millis(CLAIM_LIFE) - 1) && !store.renew(0, TWO, 1));
        assert!(matches!(store.fill(0, Some(ONE), None, millis(CLAIM_LIFE) + 1), Filled::Written(_)));
        assert!(!store.renew(0, ONE, millis(CLAIM_LIFE) + 1));
    }

    #[test]
    fn versions_grow_though_all_is_lost() {
        let mut store = Store::default();
        let first = store.write(0, What::Value(1), 0);
        store.flush();
        assert!(store.write(0, What::Tombstone, 0) > first);
    }
}
