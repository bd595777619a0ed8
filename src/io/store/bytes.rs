//! A cell as the bytes that a plain store keeps under a key: one that can get, set and delete, and knows nothing of us.
//!
//! Pure. What is there is taken apart, [`core::remote::cell`](crate::core::remote::cell) decides, and what is left is put together again: the
//! same bytes that Redis has from its script, so that either may read what the other wrote. A plain store does not tell for how long it
//! still keeps something. So what stands behind a claim lives on by what it says itself: a frame to its own end, an invalidation for as long
//! as all are known. And what is over by its own word is nothing, though the store may still have it. A cache's clock is bytes too, by
//! [`core::coherence::cell`](crate::core::coherence::cell); a write does not move it, as that would be two steps, and nobody is told.

use super::kept::{Kept, act, tick};
use super::stored::{Stored, token_bytes};
use super::{Action, Reply};
use crate::codec::envelope::{Claim, Envelope, VERSIONS};
use crate::core::coherence::cell::Cell as Clock;
use crate::core::remote::cell::{Cell, Framed};
use crate::core::remote::{TOMBSTONE_LIFE, Token, Version};
use std::time::Duration;

/// What has to be done to what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It becomes this, for so long; `None`: until it is removed.
    Write(Vec<u8>, Option<Duration>),
    /// It goes.
    Remove,
}

/// Does this where these bytes are, at a moment in µs since 1970: the reply, and what becomes of the bytes. A version that is given here is
/// `at_least` this one, and above the one that is there. `None` if what is to be written is no frame.
pub fn step(held: Option<&[u8]>, action: &Action, at_least: Version, now: u64) -> Option<(Reply, Change)> {
    let mut clock = held.and_then(Clock::from_bytes).unwrap_or_default();
    if let Some(reply) = tick(&mut clock, action, at_least.0) {
        return Some((reply, Change::Write(clock.to_bytes(), None)));
    }
    let (mut cell, last) = read(held, now);
    let before = write(cell.clone(), now);
    let reply = act(&mut cell, action, Version(at_least.0.max(last + 1)), now)?;
    let after = write(cell, now);
    let change = match after {
        _ if matches!(action, Action::Delete) && held.is_some() => Change::Remove,
        after if after == before => Change::None,
        Some((bytes, life)) => Change::Write(bytes, life),
        None => Change::Remove,
    };
    Some((reply, change))
}

/// What is there, and the last version that was given there.
fn read(held: Option<&[u8]>, now: u64) -> (Cell<Kept>, u64) {
    let nothing = (Cell::default(), 0);
    let Some((bytes, Ok((envelope, _)))) = held.map(|bytes| (bytes, Envelope::read(bytes))) else { return nothing };
    let last = envelope.version.0;
    if last + 1 >= VERSIONS {
        // Nobody could write after it.
        return nothing;
    }
    let frame = Stored::unwrap(bytes.to_vec()).map(|stored| {
        let expires = stored.expires();
        Kept(stored, expires)
    });
    let life = TOMBSTONE_LIFE.as_micros() as u64;
    let buried = envelope.tombstone.then(|| (envelope.version, last.saturating_add(life)));
    let claim = envelope.claim.map(|claim| (Token::new(u128::from_be_bytes(claim.token)), claim.deadline));
    let cell = Cell::from_parts((frame, buried, claim));
    (if cell.is_over(now) { Cell::default() } else { cell }, last)
}

/// The bytes of it, and for how long they are of any use; `None` if there is nothing to keep.
fn write(cell: Cell<Kept>, now: u64) -> Option<(Vec<u8>, Option<Duration>)> {
    let version = cell.last().unwrap_or(Version(0));
    let (frame, buried, claim) = cell.parts();
    let ends = [frame.as_ref().map(Framed::expires), buried.map(|(_, until)| until), claim.map(|(_, until)| until)];
    let end = ends.into_iter().flatten().max()?;
    let claim = claim.map(|(token, deadline)| Claim { token: token_bytes(token), deadline });
    let frame = frame.as_ref().map(|kept| kept.0.frame());
    let mut bytes = Vec::with_capacity(40 + frame.map_or(0, <[u8]>::len));
    Envelope { version, claim, tombstone: buried.is_some() }.write(frame, &mut bytes);
    let left = Duration::from_micros(end.saturating_sub(now)).max(LEAST);
    Some((bytes, (end < u64::MAX).then_some(left)))
}

/// Nothing lives for less: stores count in milliseconds.
const LEAST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::remote::Wanted;
    use crate::core::remote::cell::Under;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;
    const LIFE: Duration = Duration::from_secs(10);

    /// A frame that is fresh for some seconds and of use for some more, and for how long to keep it.
    fn frame(text: u8, fresh: u64, more: Option<u64>, now: u64) -> (Vec<u8>, Option<Duration>) {
        let fresh_until = now + fresh * SECOND;
        let expires = more.map_or(u64::MAX, |more| fresh_until + more * SECOND);
        let keep = more.map(|_| Duration::from_micros(expires - now));
        ([&[1, 0, 0, 0], &fresh_until.to_be_bytes()[..], &expires.to_be_bytes(), &[text]].concat(), keep)
    }

    /// One request of a history: what, by whom, of which of the versions seen, with which frame, so much later than the one before.
    type Drawn = (u8, u128, usize, (u8, u64, Option<u64>), u64);

    fn drawn() -> impl Strategy<Value = Drawn> {
        let frame = (any::<u8>(), 0..20_u64, proptest::option::weighted(0.8, 1..20_u64));
        // Mostly soon after, sometimes when claims, frames or tombstones have ended.
        let later = prop_oneof![6 => 1..2 * SECOND, 2 => 1..15 * SECOND, 1 => 1..40 * SECOND];
        (0..16_u8, 0..3_u128, 0..4_usize, frame, later)
    }

    fn action((kind, who, _, (text, fresh, more), _): Drawn, seen: Version, now: u64) -> Action {
        let token = Token::new(who);
        let newer_than = text.is_multiple_of(3).then_some(seen);
        let (frame, keep) = frame(text, fresh, more, now);
        let under = match kind {
            4 | 5 => Under::Claim(token),
            6 => Under::Nothing,
            7 => Under::Something,
            _ => Under::Version(seen),
        };
        match kind {
            0..3 => Action::Claim { token, wanted: Wanted::Newer(newer_than), life: LIFE },
            3 => Action::Claim { token, wanted: Wanted::Anew, life: LIFE },
            4..10 => Action::Fill { under, newer_than, frame, keep, tell: None },
            10 => Action::Put { frame, keep, tell: None },
            11 => Action::Invalidate { keep: TOMBSTONE_LIFE, by: None, tell: None },
            12 => Action::Renew { token, life: LIFE },
            13 => Action::Release { token },
            14 => Action::Delete,
            _ => Action::Read,
        }
    }

    /// A store that keeps its word about lives, or one that has no idea of them.
    struct Plain(Option<(Vec<u8>, Option<u64>)>, bool);

    impl Plain {
        fn step(&mut self, action: &Action, at_least: Version, now: u64) -> Reply {
            if self.1 && self.0.as_ref().is_some_and(|(_, end)| end.is_some_and(|end| end <= now)) {
                self.0 = None;
            }
            let held = self.0.as_ref().map(|(bytes, _)| &bytes[..]);
            let (reply, change) = step(held, action, at_least, now).unwrap();
            match change {
                Change::None => {}
                Change::Write(bytes, life) => self.0 = Some((bytes, life.map(|life| now + life.as_micros() as u64))),
                Change::Remove => self.0 = None,
            }
            reply
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn bytes_in_a_plain_store_do_what_a_cell_does(history in proptest::collection::vec(drawn(), 1..60)) {
            let (mut now, mut cell) = (1_700_000_000 * SECOND, Cell::default());
            let mut stores = [Plain(None, true), Plain(None, false)];
            let mut seen = vec![Version(1)];
            for one in history {
                now += one.4;
                let version = Version(now);
                let action = action(one, seen[seen.len().saturating_sub(1 + one.2)], now);
                if cell.is_over(now) {
                    cell = Cell::default();
                }
                let expected = act(&mut cell, &action, version, now).unwrap();
                for store in &mut stores {
                    prop_assert_eq!(&store.step(&action, version, now), &expected, "{:?}, lives kept: {}", action, store.1);
                }
                if cell.last() == Some(version) {
                    seen.push(version);
                }
            }
        }

        #[test]
        fn whatever_is_there_is_a_cell_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..80), ours: bool, one in drawn()) {
            let (mut bytes, now) = (bytes, 1_700_000_000 * SECOND);
            if ours && bytes.len() > 3 {
                bytes[..3].copy_from_slice(b"SV\x01");
            }
            let action = action(one, Version(1), now);
            let (_, change) = step(Some(&bytes), &action, Version(now), now).unwrap();
            if let Change::Write(written, _) = change {
                prop_assert!(Envelope::read(&written).is_ok());
            }
        }
    }

    #[test]
    fn a_version_is_above_the_one_that_is_there_though_that_is_ahead_of_the_clock() {
        let (now, ahead) = (1_700_000_000 * SECOND, 1_800_000_000 * SECOND);
        let (bytes, keep) = frame(7, 60, Some(60), now);
        let put = Action::Put { frame: bytes, keep, tell: None };
        let Some((_, Change::Write(held, _))) = step(None, &put, Version(ahead), now) else { panic!("it is written") };
        for action in [put, Action::Invalidate { keep: LIFE, by: None, tell: None }] {
            let (reply, _) = step(Some(&held), &action, Version(now), now).unwrap();
            let (Reply::Written(version) | Reply::Buried(version, _)) = reply else { panic!("it is written") };
            assert_eq!(version, Version(ahead + 1));
        }
    }

    #[test]
    fn a_version_that_nothing_could_follow_is_nothing() {
        let mut held = Vec::new();
        let last = Envelope { version: Version(VERSIONS - 1), claim: None, tombstone: true };
        last.write(None, &mut held);
        let (reply, _) =
            step(Some(&held), &Action::Invalidate { keep: LIFE, by: None, tell: None }, Version(9), 9).unwrap();
        assert_eq!(reply, Reply::Buried(Version(9), false));
    }

    #[test]
    fn what_has_a_life_is_kept_for_it_and_what_has_none_for_ever() {
        let now = 1_700_000_000 * SECOND;
        let life = |keep| {
            let frame = frame(7, 60, None, now).0;
            match step(None, &Action::Put { frame, keep, tell: None }, Version(now), now) {
                Some((_, Change::Write(_, life))) => life,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(life(None), None);
        assert_eq!(life(Some(LIFE)), Some(LIFE));
        assert_eq!(life(Some(Duration::from_micros(3))), Some(LEAST));
    }
}
