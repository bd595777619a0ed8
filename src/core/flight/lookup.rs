//! What a caller does about what it finds: answer with it, answer and have it loaded anew, or load.
//!
//! Pure: of a policy, an entry's life, the time and a draw. Who else loads the key is the only thing it is told of others.

use super::RECHECK;
use crate::core::broken::{Rule, broken};
use crate::core::clock::{Millis, NEVER, later};
use crate::core::memory::{Served, Span};
use crate::core::policy::{Policy, State};

/// Whether a caller's load may run without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// In the background: the caller has its answer and goes on.
    Behind,
    /// In the background, but not now: as many loads run there as may. Who comes a moment later may have it loaded.
    Later,
    /// Only by a caller who waits for it: there is no loop to run it on, or it uses what is the caller's.
    InPerson,
}

/// An entry, as far as a lookup has to know it.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// The borders of its life.
    pub span: Span,
    /// When it was stored.
    pub created: Millis,
    /// True if it says that there is nothing, or why there is not.
    pub negative: bool,
    /// True if somebody loads its key.
    pub flying: bool,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With what is there.
    Serve {
        /// What it counts as.
        how: Served,
        /// The caller has it loaded anew, behind.
        refresh: bool,
        /// Hits need no second thought until then.
        plain_until: Millis,
    },
    /// With what a load brings.
    Load,
}

/// See the module. `draw` is in `[0, 1)`.
pub fn answer(policy: &Policy, sight: &Sight, refresh: Refresh, now: Millis, draw: impl FnOnce() -> f64) -> Answer {
    let Sight { span, created, negative, flying } = sight;
    if *negative && !broken(Rule::NegativeIsTold) {
        let fresh = now < span.fresh_until;
        return if fresh {
            Answer::Serve { how: Served::Negative, refresh: false, plain_until: 0 }
        } else {
            Answer::Load
        };
    }
    let state = policy.state(span, *created, now, draw);
    let retry_at = if broken(Rule::RetriesWait) { 0 } else { span.retry_at };
    let no_room = refresh == Refresh::Later && !broken(Rule::LaterIsNotNow);
    let gated = now < retry_at || policy.is_too_soon(*created, now) || no_room;
    let useful_until = policy.useful_until(span.fresh_until).min(span.expires);
    let useful_until = if broken(Rule::PlainHasAnEnd) { NEVER } else { useful_until };
    let behind = refresh != Refresh::InPerson;
    let stale =
        |refresh, until: Millis| Answer::Serve { how: Served::Stale, refresh, plain_until: until.min(useful_until) };
    let soon = if broken(Rule::PlainIsLookedAt) { NEVER } else { later(now, RECHECK) };
    match state {
        State::Fresh if broken(Rule::FreshIsServed) => Answer::Load,
        State::Fresh => Answer::Serve { how: Served::Fresh, refresh: false, plain_until: 0 },
        State::Early => Answer::Serve {
            how: Served::Fresh,
            refresh: behind && (!flying || broken(Rule::OneEarlyRefresh)) && !gated,
            plain_until: if behind { soon.min(span.fresh_until) } else { 0 },
        },
        State::Stale | State::Grace if now < retry_at => stale(false, retry_at),
        State::Grace if broken(Rule::LastResortIsLast) => stale(false, soon),
        // In the last resort's time an answer is worth waiting for.
        State::Stale if (*flying && !broken(Rule::OneRefresh)) || gated || broken(Rule::StaleIsLoaded) => {
            stale(false, soon.min(later(span.fresh_until, policy.stale_while_revalidate)))
        }
        State::Stale if behind || broken(Rule::StaleIsLoadedInPerson) => {
            stale(behind, soon.min(later(span.fresh_until, policy.stale_while_revalidate)))
        }
        State::Stale | State::Grace | State::Dead => Answer::Load,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const FRESH: Millis = 60_000;

    fn policy() -> Policy {
        Policy {
            stale_while_revalidate: Duration::from_secs(10),
            stale_if_error: Duration::from_secs(100),
            ..Policy::ttl(Duration::from_secs(60))
        }
    }

    fn sight(flying: bool, retry_at: Millis) -> Sight {
        let span = Span { fresh_until: FRESH, expires: FRESH + 100_000, retry_at, load: 10, since: 0 };
        Sight { span, created: 0, negative: false, flying }
    }

    fn asked(flying: bool, retry_at: Millis, refresh: Refresh, now: Millis) -> Answer {
        answer(&policy(), &sight(flying, retry_at), refresh, now, || 0.5)
    }

    fn stale(refresh: bool, plain_until: Millis) -> Answer {
        Answer::Serve { how: Served::Stale, refresh, plain_until }
    }

    #[test]
    fn a_stale_value_answers_and_one_caller_has_it_loaded_behind() {
        assert_eq!(asked(false, 0, Refresh::Behind, FRESH), stale(true, FRESH + 1_000));
        assert_eq!(asked(true, 0, Refresh::Behind, FRESH), stale(false, FRESH + 1_000));
        assert_eq!(
            asked(true, 0, Refresh::Behind, FRESH + 9_500),
            stale(false, FRESH + 10_000),
            "not beyond its window"
        );
    }

    #[test]
    fn where_nothing_may_run_behind_the_first_caller_loads_and_the_others_get_the_old_value() {
        assert_eq!(asked(false, 0, Refresh::InPerson, FRESH), Answer::Load);
        assert_eq!(asked(true, 0, Refresh::InPerson, FRESH), stale(false, FRESH + 1_000));
    }

    #[test]
    fn where_there_is_no_room_behind_a_stale_value_answers_and_the_next_look_comes_soon() {
        for flying in [false, true] {
            assert_eq!(asked(flying, 0, Refresh::Later, FRESH), stale(false, FRESH + 1_000));
            assert_eq!(asked(flying, 0, Refresh::Later, FRESH + 9_500), stale(false, FRESH + 10_000));
        }
        assert_eq!(asked(false, FRESH + 30_000, Refresh::Later, FRESH), stale(false, FRESH + 30_000), "it has failed");
        assert_eq!(asked(false, 0, Refresh::Later, FRESH + 10_000), Answer::Load, "nothing else would answer");
    }

    #[test]
    fn where_there_is_no_room_behind_nothing_is_refreshed_early() {
        let policy = Policy { early: 1_000.0, ..policy() };
        for (refresh, starts) in [(Refresh::Behind, true), (Refresh::Later, false)] {
            let expected = Answer::Serve { how: Served::Fresh, refresh: starts, plain_until: FRESH - 1_001 + 1_000 };
            assert_eq!(answer(&policy, &sight(false, 0), refresh, FRESH - 1_001, || 0.999), expected);
        }
    }

    #[test]
    fn after_a_failed_load_the_old_value_answers_until_the_next_try_is_due() {
        for at in [FRESH, FRESH + 20_000] {
            let until = at + 30_000;
            assert_eq!(asked(false, until, Refresh::Behind, at), stale(false, until));
            assert_eq!(asked(false, until, Refresh::InPerson, at), stale(false, until));
        }
        assert_eq!(asked(false, FRESH + 130_000, Refresh::Behind, FRESH + 99_000), stale(false, FRESH + 100_000));
    }

    #[test]
    fn an_early_refresh_that_failed_is_not_tried_again_before_it_is_time() {
        let policy = Policy { early: 1_000.0, ..policy() };
        for (retry_at, refresh) in [(0, true), (FRESH - 1, false)] {
            let sight = sight(false, retry_at);
            let expected = Answer::Serve { how: Served::Fresh, refresh, plain_until: FRESH - 1_001 + 1_000 };
            assert_eq!(answer(&policy, &sight, Refresh::Behind, FRESH - 1_001, || 0.999), expected);
        }
    }

    #[test]
    fn a_last_resort_answers_only_after_a_failure() {
        assert_eq!(asked(false, 0, Refresh::Behind, FRESH + 10_000), Answer::Load);
        assert_eq!(asked(true, 0, Refresh::Behind, FRESH + 10_000), Answer::Load);
        assert_eq!(asked(false, FRESH + 200_000, Refresh::Behind, FRESH + 100_000), Answer::Load, "it is dead");
    }

    #[test]
    fn what_is_not_there_is_remembered_to_its_end_and_never_stale() {
        let sight = Sight { negative: true, ..sight(false, 0) };
        let at = |now| answer(&policy(), &sight, Refresh::Behind, now, || 0.5);
        assert_eq!(at(FRESH - 1), Answer::Serve { how: Served::Negative, refresh: false, plain_until: 0 });
        assert_eq!(at(FRESH), Answer::Load);
    }
}
