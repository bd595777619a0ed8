//! How long a process waits for what another one loads: when it asks the store again, and when it waits no longer.
//!
//! Pure: moments are arguments, and what is drawn are bits of the name that its own claim would have. Whoever waits asks the store for
//! what it wants, as it did before. So it sees at once that the value has come, or that the claim has gone: with a process that has
//! died, by an invalidation, or after a load that has failed. Being told that the key has changed only makes it ask earlier.

use super::Token;
use crate::core::clock::{Millis, NEVER, later};
use std::time::Duration;

/// How long somebody waits who does not say: longer than nearly all loads take, shorter than those who ask wait for a page.
pub const WAIT: Duration = Duration::from_secs(10);

/// The first pause before the store is asked again; each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(10);

/// No pause is longer: what this adds to a load is felt, and an ask costs the store a few µs.
const MOST: Duration = Duration::from_millis(250);

/// After so many loads of others that have brought nothing the next one is here. A load that fails, or whose result is not to be
/// kept, keeps the others waiting for nothing: one after the other, they would wait for the sum of all.
const LOADS: u8 = 2;

/// With what somebody is content who would have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Patience {
    /// After so long it loads itself; `None`: it waits as long as somebody loads.
    pub wait: Option<Duration>,
    /// An old frame of the store answers for so long after its ttl, and nobody waits.
    pub stale: Duration,
    /// From the first of these moments to the second an old value that is at hand answers, and nobody waits.
    pub at_hand: (Millis, Millis),
    /// From this moment on nobody is there any more who waits.
    pub ends: Millis,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { wait: Some(WAIT), stale: Duration::ZERO, at_hand: (0, 0), ends: NEVER }
    }
}

/// What is done about a key that another process loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The old frame answers.
    Frame,
    /// The old value that is at hand answers.
    AtHand,
    /// It is asked for again after this pause, or as soon as the key is known to have changed.
    Ask(Duration),
    /// It is loaded here too.
    Load,
    /// Nobody waits for it any more.
    TooLate,
}

/// Somebody who waits, since it has first seen that another process loads the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    since: Millis,
    asked: u32,
    /// The claim it waits for, and how many it has waited for.
    claim: Token,
    claims: u8,
}

impl Waiting {
    /// The store was asked by somebody who would claim the key under `own`, and has told of `claim`.
    pub fn sees(before: Option<Waiting>, claim: Token, now: Millis) -> Self {
        let Some(Waiting { since, asked, claim: last, claims }) = before else {
            return Waiting { since: now, asked: 0, claim, claims: 1 };
        };
        let claims = claims.saturating_add(u8::from(claim != last));
        Waiting { since, asked: asked.saturating_add(1), claim, claims }
    }

    /// When it waits no longer, whatever comes.
    pub fn until(&self, patience: &Patience) -> Millis {
        patience.wait.map_or(NEVER, |wait| later(self.since, wait))
    }

    /// What is to be done. `old` is when the frame that the store has was fresh last, and when it is of no use any more.
    pub fn verdict(&self, own: Token, patience: &Patience, old: Option<(Millis, Millis)>, now: Millis) -> Verdict {
        let Patience { stale, at_hand: (from, to), ends, .. } = *patience;
        let until = self.until(patience);
        if old.is_some_and(|(fresh_until, expires)| now < later(fresh_until, stale).min(expires)) {
            return Verdict::Frame;
        }
        if (from..to).contains(&now) {
            return Verdict::AtHand;
        }
        if now >= ends {
            return Verdict::TooLate;
        }
        if now >= until || self.claims > LOADS {
            return Verdict::Load;
        }
        // What ends the wait is not to be overslept.
        let next = [from, ends, until].into_iter().filter(|&moment| now < moment).min().unwrap_or(NEVER);
        let left = Duration::from_millis(next - now);
        Verdict::Ask(pause(own, self.asked).min(left))
    }
}

/// The pause before the store is asked once more: growing, and between a half and the whole of what it would be, so that those who
/// began to wait together do not ask together.
fn pause(own: Token, asked: u32) -> Duration {
    let whole = FIRST.saturating_mul(1 << asked.min(10)).min(MOST);
    let draw = own.bits().rotate_right(8 * (asked % 16)) as u8;
    whole.mul_f64(0.5 + f64::from(draw) / 512.0)
}

/// When somebody who was given an old value, since another process loads, is to look again.
pub fn look_again(own: Token, now: Millis) -> Millis {
    later(now, pause(own, u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Token = Token(0x9d_3c_71_0f);
    const ONE: Token = Token(1);
    const PLAIN: Patience = Patience { wait: Some(WAIT), stale: Duration::ZERO, at_hand: (0, 0), ends: NEVER };
    const TEN_SECONDS: Millis = 10_000;

    fn seen(now: Millis) -> Waiting {
        Waiting::sees(None, ONE, now)
    }

    fn verdict(patience: &Patience, now: Millis) -> Verdict {
        seen(0).verdict(OWN, patience, None, now)
    }

    #[test]
    fn pauses_grow_from_some_milliseconds_to_a_quarter_of_a_second_and_differ_from_one_process_to_the_next() {
        let millis = |token, asked| pause(token, asked).as_millis();
        for (asked, whole) in [(0, 10), (1, 20), (3, 80), (5, 250), (40, 250), (u32::MAX, 250)] {
            for bits in [0, 0x80_80_80_80, u128::MAX, 0x1234_5678_9abc] {
                let found = millis(Token(bits), asked);
                assert!(whole / 2 <= found && found <= whole, "{found} ms after {asked}");
            }
        }
        assert_ne!(pause(Token(3), 0), pause(Token(200), 0));
    }

    #[test]
    fn whoever_waits_asks_again_until_its_time_is_over_and_then_loads() {
        assert!(matches!(verdict(&PLAIN, 0), Verdict::Ask(pause) if pause <= FIRST));
        assert_eq!(verdict(&PLAIN, TEN_SECONDS - 1), Verdict::Ask(Duration::from_millis(1)), "and not later");
        assert_eq!(verdict(&PLAIN, TEN_SECONDS), Verdict::Load);
        let forever = Patience { wait: None, ..PLAIN };
        assert!(matches!(verdict(&forever, NEVER - 1_000), Verdict::Ask(_)));
    }

    #[test]
    fn the_time_runs_from_the_first_claim_that_was_seen_whoever_loads_later() {
        let later = Waiting::sees(Some(seen(0)), Token(2), 9_000);
        assert_eq!(later.until(&PLAIN), TEN_SECONDS);
        assert_eq!(later.verdict(OWN, &PLAIN, None, TEN_SECONDS), Verdict::Load);
    }

    #[test]
    fn after_two_loads_that_brought_nothing_the_next_one_is_here() {
        let mut waiting = seen(0);
        for claim in [1, 1, 2, 2] {
            waiting = Waiting::sees(Some(waiting), Token(claim), 5);
            assert!(matches!(waiting.verdict(OWN, &PLAIN, None, 5), Verdict::Ask(_)), "{waiting:?}");
        }
        waiting = Waiting::sees(Some(waiting), Token(3), 5);
        assert_eq!(waiting.verdict(OWN, &PLAIN, None, 5), Verdict::Load);
    }

    #[test]
    fn an_old_frame_answers_at_once_while_it_may_be_served() {
        let patience = Patience { stale: Duration::from_secs(5), ..PLAIN };
        let old = |fresh_until, expires, now| seen(0).verdict(OWN, &patience, Some((fresh_until, expires)), now);
        assert_eq!(old(1_000, 90_000, 5_999), Verdict::Frame);
        for (fresh_until, expires, now) in [(1_000, 90_000, 6_000), (1_000, 3_000, 3_000)] {
            assert!(matches!(old(fresh_until, expires, now), Verdict::Ask(_)));
        }
        assert!(matches!(seen(0).verdict(OWN, &PLAIN, Some((1_000, 90_000)), 1_000), Verdict::Ask(_)));
    }

    #[test]
    fn what_is_at_hand_answers_from_its_moment_on_which_is_not_overslept() {
        let soft = Patience { at_hand: (3, 50), ..PLAIN };
        assert_eq!(verdict(&soft, 0), Verdict::Ask(Duration::from_millis(3)));
        assert_eq!((verdict(&soft, 3), verdict(&soft, 49)), (Verdict::AtHand, Verdict::AtHand));
        assert!(matches!(verdict(&soft, 50), Verdict::Ask(_)));
    }

    #[test]
    fn whoever_has_no_more_time_neither_waits_nor_loads() {
        let patience = Patience { ends: 4, ..PLAIN };
        assert_eq!(
            (verdict(&patience, 0), verdict(&patience, 4)),
            (Verdict::Ask(Duration::from_millis(4)), Verdict::TooLate)
        );
    }

    #[test]
    fn who_was_given_what_is_old_looks_again_within_a_quarter_of_a_second() {
        let at = look_again(OWN, 1_000);
        assert!((1_125..=1_250).contains(&at), "{at}");
    }
}
