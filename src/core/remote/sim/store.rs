//! A store in memory: what the scripts of a real one have to do, each at one moment. Time is an argument, and the store's clock,
//! which orders what is written, goes on when all else is lost.

use super::super::cell::{Cell, Under};
use super::super::{Filled, Found, Frame, TOMBSTONE_LIFE, Token, Version, Wanted};
use crate::core::broken::{Rule, broken};
use crate::core::clock::{Millis, deadline, later};
use crate::core::remote::write::What;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long values are fresh.
pub const TTL: Duration = Duration::from_secs(60);
/// How long they are of some use after that.
pub const GRACE: Duration = Duration::from_secs(60);

/// A claim, and for how long it is to live.
pub type Claim = (Token, Duration);

/// See the module.
#[derive(Debug, Default)]
pub struct Store {
    cells: BTreeMap<u8, Cell<Frame<u32>>>,
    clock: u64,
}

impl Store {
    fn cell(&mut self, key: u8, now: Millis) -> &mut Cell<Frame<u32>> {
        self.cells.retain(|_, cell| !cell.is_over(now));
        self.cells.entry(key).or_default()
    }

    /// What is wanted, or a claim.
    pub fn claim(&mut self, key: u8, (token, life): Claim, wanted: Wanted, now: Millis) -> Found<Frame<u32>> {
        let wanted = if broken(Rule::AnewClaims) { Wanted::Newer(wanted.known()) } else { wanted };
        self.cell(key, now).claim(token, wanted, later(now, life), now)
    }

    /// True if the claim is still there, for as long as a new one.
    pub fn renew(&mut self, key: u8, (token, life): Claim, now: Millis) -> bool {
        self.cell(key, now).renew(token, later(now, life))
    }

    /// Takes the claim away, if it is there.
    pub fn release(&mut self, key: u8, token: Token, now: Millis) {
        self.cell(key, now).release(token);
    }

    /// True while this claim is alive.
    pub fn is_claimed(&self, key: u8, token: Token, now: Millis) -> bool {
        self.cells.get(&key).is_some_and(|cell| cell.is_claimed(token, now))
    }

    /// Writes what was loaded under a claim if the claim is still there; or, while a test breaks the rule, in any case.
    pub fn fill(
        &mut self,
        key: u8,
        (claim, newer_than): (Option<Token>, Option<Version>),
        value: Option<u32>,
        now: Millis,
    ) -> Filled<Frame<u32>> {
        let frame = self.frame_of(value, now);
        let cell = self.cell(key, now);
        match claim {
            Some(token) => cell.fill(Under::Claim(token), newer_than, frame, now),
            None => Filled::Written(cell.put(frame)),
        }
    }

    /// Writes, whatever is there.
    pub fn write(&mut self, key: u8, what: What<u32>, now: Millis) -> Version {
        let frame = self.frame_of(None, now);
        match what {
            What::Value(value) => self.cell(key, now).put(Frame { value: Some(value), ..frame }),
            What::Tombstone => self.cell(key, now).bury(frame.version, later(now, TOMBSTONE_LIFE)),
        }
    }

    fn frame_of(&mut self, value: Option<u32>, now: Millis) -> Frame<u32> {
        self.clock += 1;
        let fresh_until = deadline(now, Some(TTL));
        Frame { version: Version(self.clock), value, fresh_until, expires: later(fresh_until, GRACE) }
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
        self.cells.get(&key)?.fresh(None, now).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::CLAIM_LIFE;
    use super::*;

    const ONE: Token = Token(1);
    const TWO: Token = Token(2);
    const OF_ONE: Claim = (ONE, CLAIM_LIFE);
    const OF_TWO: Claim = (TWO, CLAIM_LIFE);
    const ANY: Wanted = Wanted::Newer(None);

    fn millis(duration: Duration) -> Millis {
        duration.as_millis() as Millis
    }

    #[test]
    fn a_live_claim_is_adopted_and_its_first_fill_wins() {
        let mut store = Store::default();
        assert_eq!(store.claim(0, OF_ONE, ANY, 0), Found::Claimed(ONE, None));
        assert_eq!(store.claim(0, OF_TWO, ANY, 0), Found::Claimed(ONE, None));
        let Filled::Written(version) = store.fill(0, (Some(ONE), None), Some(7), 5) else { panic!("it is there") };
        let Filled::Lost(frame) = store.fill(0, (Some(ONE), None), Some(8), 6) else { panic!("the claim is gone") };
        assert_eq!((frame.version, frame.value), (version, Some(7)));
        assert_eq!(store.claim(0, OF_TWO, ANY, 6), Found::Fresh(frame));
        assert_eq!(
            store.claim(0, OF_TWO, Wanted::Newer(Some(version)), 6),
            Found::Claimed(TWO, Some(frame)),
            "a refresh"
        );
    }

    #[test]
    fn whatever_happens_to_a_key_takes_the_claim_away() {
        let happens: [fn(&mut Store); 5] = [
            |store| store.evict(0),
            |store| store.flush(),
            |store| _ = store.write(0, What::Tombstone, 1),
            |store| _ = store.write(0, What::Value(9), 1),
            |store| _ = store.claim(0, OF_TWO, ANY, millis(CLAIM_LIFE)),
        ];
        for happens in happens {
            let mut store = Store::default();
            store.claim(0, OF_ONE, ANY, 0);
            happens(&mut store);
            assert!(!matches!(store.fill(0, (Some(ONE), None), Some(7), 2), Filled::Written(_)));
        }
    }

    #[test]
    fn a_renewed_claim_outlives_its_first_life() {
        let mut store = Store::default();
        store.claim(0, OF_ONE, ANY, 0);
        assert!(store.renew(0, OF_ONE, millis(CLAIM_LIFE) - 1) && !store.renew(0, OF_TWO, 1));
        assert!(matches!(store.fill(0, (Some(ONE), None), None, millis(CLAIM_LIFE) + 1), Filled::Written(_)));
        assert!(!store.renew(0, OF_ONE, millis(CLAIM_LIFE) + 1));
    }

    #[test]
    fn versions_grow_though_all_is_lost() {
        let mut store = Store::default();
        let first = store.write(0, What::Value(1), 0);
        store.flush();
        assert!(store.write(0, What::Tombstone, 0) > first);
    }
}
