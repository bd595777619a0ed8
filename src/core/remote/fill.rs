//! How a key is filled that the memory does not have: from the store if it is there, else by a load that the store is told of
//! before it starts and that it takes a value from only if nothing has happened to the key since.
//!
//! Who only wants what is there takes a lease too, so that many ask the store once; nothing is claimed and nothing loaded then.
//!
//! One machine a lease. It says what is next; the driver does that, and says what came of it. What ends it decides what goes into
//! memory, where the lease's flight must still be attached, and what the callers get, who are always answered.

use super::wait::{Verdict, Waiting};
use super::{Filled, Found, Frame, Others, Sharing, Token, Version, Wanted};
use crate::core::broken::{Rule, broken};
use crate::core::clock::{Millis, NEVER, later};
use std::time::Duration;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Next<V> {
    /// Ask the store for what is wanted, and leave a claim there if it has none.
    Claim {
        /// The claim's name, should none be alive there.
        token: Token,
        /// What would do.
        wanted: Wanted,
    },
    /// Ask the store for a fresh frame, and leave it at that.
    Read,
    /// Wait for so long, or until the key is known to have changed: another process loads it, under this claim.
    Await(Token, Duration),
    /// Call the loader, whether or not the store could be asked.
    Load,
    /// Offer the value to the store, that takes it if its claim is the one it was loaded under.
    Write {
        /// That claim; `None` while a test breaks the rule.
        claim: Option<Token>,
        /// The value; `None` says that there is none.
        value: Option<V>,
        /// What was there when it was claimed: somebody was first only with what is newer.
        newer_than: Option<Version>,
    },
    /// The load has failed: take its claim away, since others wait for it.
    Release(Token),
    /// It is over.
    End(End<V>),
}

/// How it ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum End<V> {
    /// The store had it. It goes into memory, for as long as the frame says, and answers.
    Found(Frame<V>),
    /// Somebody else was first: the store's frame goes into memory and answers, so that nobody sees the two in turn.
    Lost(Frame<V>),
    /// It was loaded. It goes into memory and answers; the version is `None` if the store does not have it.
    Loaded(Option<V>, Option<Version>),
    /// It was loaded and answers, and is stored nowhere: something happened to the key meanwhile, or may have.
    Forgone(Option<V>),
    /// There is none, as far as the store can tell, and nobody was to load it.
    Absent,
    /// The load failed, and an old frame answers.
    Old(Frame<V>),
    /// The load failed.
    Failed,
    /// Another process loads it, and an old value answers meanwhile: this frame, or what is at hand.
    Meanwhile(Option<Frame<V>>),
    /// Another process loads it, and nobody here has the time to wait any longer.
    TooLate,
}

/// What came of what was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<V> {
    /// The store has answered a claim.
    Claimed(Found<Frame<V>>),
    /// The store has answered a read.
    Read(Option<Frame<V>>),
    /// What was awaited may have come.
    Awaited,
    /// The load has brought this; `None` says that there is no value.
    Loaded(Option<V>),
    /// The load has failed.
    Failed,
    /// The store has answered a write.
    Filled(Filled<Frame<V>>),
    /// The store has taken the claim away.
    Released,
    /// The store was not asked, or never answered in time: it is not known what it did.
    Unknown,
}

/// Under what a value is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Claim {
    /// It has not been asked for.
    Wanted,
    /// It will not be: there is nothing to load.
    Needless,
    /// The store knows of the load under this name.
    Held(Token),
    /// The store does not know of it.
    None,
    /// It was held, and is gone.
    Gone,
    /// It was held for a load that has failed, and is being taken away.
    Released,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fill<V> {
    claim: Claim,
    /// What the store was asked with, and is asked again.
    token: Token,
    wanted: Wanted,
    others: Others,
    /// Set once another process was seen to load it.
    waiting: Option<Waiting>,
    /// When the claim is renewed.
    renew_at: Millis,
    old: Option<Frame<V>>,
    /// What was loaded and offered to the store.
    offered: Option<Option<V>>,
}

impl<V: Clone> Fill<V> {
    /// A lease was taken, by a caller who knows what is in memory. `token` is new.
    ///
    /// Who wants it [anew](Wanted::Anew) takes the key from whoever loads it: their values are older than the question. That is
    /// also why none of theirs is waited for then, and no old frame answers.
    pub fn begin(token: Token, wanted: Wanted, others: impl Into<Others>) -> (Self, Next<V>) {
        let (claim, others, renew_at) = (Claim::Wanted, others.into(), Millis::MAX);
        let fill = Fill { claim, token, wanted, others, waiting: None, renew_at, old: None, offered: None };
        (fill, Next::Claim { token, wanted })
    }

    /// The same, where nothing is to be loaded.
    pub fn read() -> (Self, Next<V>) {
        let (fill, _) = Fill::begin(Token(0), Wanted::Newer(None), Sharing::Process);
        (Fill { claim: Claim::Needless, ..fill }, Next::Read)
    }

    /// What came of the last thing that was to be done, and what is next. What makes no sense any more changes nothing.
    pub fn step(&mut self, input: Input<V>, now: Millis) -> Option<Next<V>> {
        match (self.claim, self.offered.take(), input) {
            (Claim::Wanted, None, Input::Claimed(found)) => Some(self.claimed(found, now)),
            (Claim::Wanted, None, Input::Unknown) => {
                self.claim = Claim::None;
                Some(Next::Load)
            }
            (Claim::Wanted, None, Input::Awaited) => Some(Next::Claim { token: self.token, wanted: self.wanted }),
            (Claim::Needless, _, Input::Read(frame)) => Some(Next::End(frame.map_or(End::Absent, End::Found))),
            (Claim::Needless, _, Input::Unknown) => Some(Next::End(End::Absent)),
            (Claim::Wanted | Claim::Needless, ..) => None,
            (Claim::Released, _, Input::Released | Input::Unknown) => Some(Next::End(self.failed(now))),
            (Claim::Released, ..) => None,
            (Claim::Held(token), None, Input::Failed) if self.keeps_others(token) => {
                (self.claim, self.renew_at) = (Claim::Released, Millis::MAX);
                Some(Next::Release(token))
            }
            (_, None, Input::Loaded(value)) => Some(self.loaded(value)),
            (_, None, Input::Failed) => Some(Next::End(self.failed(now))),
            (_, Some(value), Input::Filled(filled)) => Some(Next::End(end_of(filled, value))),
            // The store may have refused it: then something has happened to the key that this process has not heard of yet.
            (_, Some(value), Input::Unknown) => Some(Next::End(End::Forgone(value))),
            (_, offered, _) => {
                self.offered = offered;
                None
            }
        }
    }

    fn claimed(&mut self, found: Found<Frame<V>>, now: Millis) -> Next<V> {
        match found {
            Found::Fresh(frame) => Next::End(End::Found(frame)),
            Found::Claimed(token, old) if self.awaits(token) => self.awaited(token, old, now),
            Found::Claimed(token, old) => self.held(token, old, now),
        }
    }

    fn held(&mut self, token: Token, old: Option<Frame<V>>, now: Millis) -> Next<V> {
        (self.claim, self.old) = (Claim::Held(token), old);
        self.renew_at = later(now, self.others.sharing.renew_every());
        Next::Load
    }

    /// Another process loads it.
    fn awaited(&mut self, token: Token, old: Option<Frame<V>>, now: Millis) -> Next<V> {
        let waiting = *self.waiting.insert(Waiting::sees(self.waiting, token, now));
        let usable = old.as_ref().filter(|old| old.value.is_some()).map(|old| (old.fresh_until, old.expires));
        match waiting.verdict(self.token, &self.others.patience, usable, now) {
            Verdict::Frame => Next::End(End::Meanwhile(old)),
            Verdict::AtHand => Next::End(End::Meanwhile(None)),
            Verdict::Ask(pause) => Next::Await(token, pause),
            // The claim is adopted: the first to end is what all have.
            Verdict::Load => self.held(token, old, now),
            Verdict::TooLate => Next::End(End::TooLate),
        }
    }

    /// True if it has waited for another process.
    pub fn has_waited(&self) -> bool {
        self.waiting.is_some()
    }

    /// When it will wait no longer, if it waits.
    pub fn waits_until(&self) -> Millis {
        self.waiting.map_or(NEVER, |waiting| waiting.until(&self.others.patience))
    }

    /// Nothing old is at hand any more: it waits after all.
    pub fn has_nothing_at_hand(&mut self) -> Next<V> {
        self.others.patience.at_hand = (0, 0);
        Next::Claim { token: self.token, wanted: self.wanted }
    }

    /// Who else loads, and who waits.
    pub fn sharing(&self) -> Sharing {
        self.others.sharing
    }

    /// How long its claim lives unless it is renewed.
    pub fn claim_life(&self) -> Duration {
        self.others.sharing.claim_life()
    }

    /// True if this claim keeps others from loading, and is its own: they wait for it, or had one.
    fn keeps_others(&self, token: Token) -> bool {
        token == self.token && (self.others.sharing == Sharing::Cluster || self.wanted == Wanted::Anew)
    }

    /// The claim that others wait for, or that was theirs: to be taken away should the load end without a word.
    pub fn kept_from_others(&self) -> Option<Token> {
        if let Claim::Held(token) = self.claim { Some(token).filter(|&token| self.keeps_others(token)) } else { None }
    }

    fn awaits(&self, token: Token) -> bool {
        self.others.sharing == Sharing::Cluster && token != self.token && !broken(Rule::ClaimsAreAwaited)
    }

    fn loaded(&mut self, value: Option<V>) -> Next<V> {
        let claim = match self.claim {
            Claim::Held(token) => Some(token).filter(|_| !broken(Rule::FillsAreConditional)),
            // Nobody is told what the store does not know of: it is for this process, until the store is back.
            Claim::None | Claim::Wanted | Claim::Needless => return Next::End(End::Loaded(value, None)),
            Claim::Gone | Claim::Released => return Next::End(End::Forgone(value)),
        };
        self.offered = Some(value.clone());
        Next::Write { claim, value, newer_than: self.newer_than() }
    }

    /// What is there, as far as it is known: in memory, or in the store when it was asked.
    fn newer_than(&self) -> Option<Version> {
        self.wanted.known().max(self.old.as_ref().map(|old| old.version))
    }

    fn failed(&mut self, now: Millis) -> End<V> {
        let old = self.old.take().filter(|old| now < old.expires && self.wanted != Wanted::Anew);
        old.map_or(End::Failed, End::Old)
    }

    /// The claim that is to be renewed for its [life](Self::claim_life), if one is.
    pub fn renew(&mut self, now: Millis) -> Option<Token> {
        let Claim::Held(token) = self.claim else { return None };
        if now < self.renew_at || self.offered.is_some() {
            return None;
        }
        self.renew_at = later(now, self.others.sharing.renew_every());
        Some(token)
    }

    /// When there is something to renew.
    pub fn renew_at(&self) -> Millis {
        self.renew_at
    }

    /// The store knows the claim no more: what is being loaded will be stored nowhere.
    pub fn claim_is_gone(&mut self, token: Token) {
        if self.claim == Claim::Held(token) {
            (self.claim, self.renew_at) = (Claim::Gone, Millis::MAX);
        }
    }
}

fn end_of<V>(filled: Filled<Frame<V>>, value: Option<V>) -> End<V> {
    match filled {
        Filled::Written(version) => End::Loaded(value, Some(version)),
        Filled::Lost(frame) if broken(Rule::WinnersAreTaken) => End::Loaded(value, Some(frame.version)),
        Filled::Lost(frame) => End::Lost(frame),
        Filled::Gone => End::Forgone(value),
    }
}

const fn two_renewals_may_fail(sharing: Sharing) -> bool {
    sharing.renew_every().as_millis() * 3 < sharing.claim_life().as_millis()
}

const _: () = assert!(two_renewals_may_fail(Sharing::Process) && two_renewals_may_fail(Sharing::Cluster));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::remote::wait::Patience;

    #[test]
    fn a_claim_is_in_the_way_of_others_only_where_they_wait_for_it_or_had_one() {
        let begun = |wanted, sharing| {
            let (mut fill, _) = Fill::<u32>::begin(TOKEN, wanted, sharing);
            assert_eq!(fill.kept_from_others(), None, "it has none so far");
            fill.step(Input::Claimed(Found::Claimed(TOKEN, None)), 0);
            fill.kept_from_others()
        };
        assert_eq!(begun(ANY, Sharing::Process), None);
        assert_eq!((begun(ANY, Sharing::Cluster), begun(Wanted::Anew, Sharing::Process)), (Some(TOKEN), Some(TOKEN)));
    }

    const TOKEN: Token = Token(7);
    const LATE: Millis = 20_000;
    const ANY: Wanted = Wanted::Newer(None);

    fn frame(value: u32) -> Frame<u32> {
        Frame { version: Version(5), value: Some(value), fresh_until: 10_000, expires: LATE }
    }

    /// A fill whose load runs, under a claim unless the store could not be reached.
    fn loading(claimed: Option<Found<Frame<u32>>>) -> Fill<u32> {
        let (mut fill, next) = Fill::begin(TOKEN, ANY, Sharing::Process);
        assert_eq!(next, Next::Claim { token: TOKEN, wanted: ANY });
        assert_eq!(fill.step(claimed.map_or(Input::Unknown, Input::Claimed), 0), Some(Next::Load));
        fill
    }

    #[test]
    fn what_the_store_has_is_not_loaded() {
        let (mut fill, _) = Fill::begin(TOKEN, ANY, Sharing::Process);
        let next = fill.step(Input::Claimed(Found::Fresh(frame(1))), 0);
        assert_eq!(next, Some(Next::End(End::Found(frame(1)))));
    }

    #[test]
    fn who_only_reads_claims_and_loads_nothing() {
        let ends = [
            (Input::Read(Some(frame(1))), Some(Next::End(End::Found(frame(1))))),
            (Input::Read(None), Some(Next::End(End::Absent))),
            (Input::Unknown, Some(Next::End(End::Absent))),
            (Input::Loaded(Some(1)), None),
        ];
        for (input, end) in ends {
            let (mut fill, next) = Fill::read();
            assert_eq!((next, fill.step(input, 0)), (Next::Read, end));
        }
    }

    #[test]
    fn a_value_is_offered_under_the_claim_it_was_loaded_under_and_kept_as_the_store_says() {
        let adopted = Token(8);
        let ends = [
            (Input::Filled(Filled::Written(Version(6))), End::Loaded(Some(1), Some(Version(6)))),
            (Input::Filled(Filled::Lost(frame(2))), End::Lost(frame(2))),
            (Input::Filled(Filled::Gone), End::Forgone(Some(1))),
            (Input::Unknown, End::Forgone(Some(1))),
        ];
        for (input, end) in ends {
            let mut fill = loading(Some(Found::Claimed(adopted, None)));
            let offer = Next::Write { claim: Some(adopted), value: Some(1), newer_than: None };
            assert_eq!(fill.step(Input::Loaded(Some(1)), 0), Some(offer));
            assert_eq!(fill.step(input, 0), Some(Next::End(end)));
        }
    }

    #[test]
    fn without_the_store_the_loader_is_called_and_the_memory_alone_keeps_what_it_brings() {
        let mut fill = loading(None);
        assert_eq!(fill.step(Input::Loaded(None), 0), Some(Next::End(End::Loaded(None, None))));
    }

    #[test]
    fn an_old_frame_answers_for_a_load_that_failed_while_it_is_of_use() {
        for (now, end) in [(LATE - 1, End::Old(frame(1))), (LATE, End::Failed)] {
            let mut fill = loading(Some(Found::Claimed(TOKEN, Some(frame(1)))));
            assert_eq!(fill.step(Input::Failed, now), Some(Next::End(end)));
        }
        assert_eq!(loading(None).step(Input::Failed, 0), Some(Next::End(End::Failed)));
    }

    #[test]
    fn a_claim_is_renewed_while_the_load_runs_and_its_loss_forgoes_the_value() {
        let mut fill = loading(Some(Found::Claimed(TOKEN, None)));
        let due = fill.renew_at();
        assert_eq!((fill.renew(due - 1), fill.renew(due), fill.renew(due)), (None, Some(TOKEN), None));
        fill.claim_is_gone(Token(8));
        assert_eq!(fill.renew(fill.renew_at()), Some(TOKEN), "it was another claim");
        fill.claim_is_gone(TOKEN);
        assert_eq!(fill.renew(Millis::MAX), None);
        assert_eq!(fill.step(Input::Loaded(Some(1)), 0), Some(Next::End(End::Forgone(Some(1)))));
    }

    #[test]
    fn where_one_load_is_to_be_enough_another_claim_is_waited_for_and_a_failed_load_takes_its_own_away() {
        let (mut fill, claim) = Fill::begin(TOKEN, ANY, Sharing::Cluster);
        let other = Token(8);
        let Some(Next::Await(awaited, _)) = fill.step(Input::Claimed(Found::Claimed(other, None)), 0) else {
            panic!("it is another's")
        };
        assert_eq!((awaited, fill.has_waited(), fill.waits_until()), (other, true, 10_000));
        assert_eq!(fill.step(Input::Awaited, 1), Some(claim));
        assert_eq!(fill.step(Input::Claimed(Found::Claimed(TOKEN, Some(frame(1)))), 2), Some(Next::Load));
        assert_eq!(fill.step(Input::Failed, 3), Some(Next::Release(TOKEN)));
        assert_eq!(fill.step(Input::Released, 4), Some(Next::End(End::Old(frame(1)))));
    }

    /// A fill that has seen another process load the key, and what it does then.
    fn awaiting(patience: Patience, old: Option<Frame<u32>>) -> (Fill<u32>, Option<Next<u32>>) {
        let (mut fill, _) = Fill::begin(TOKEN, ANY, Others { sharing: Sharing::Cluster, patience });
        let next = fill.step(Input::Claimed(Found::Claimed(Token(8), old)), 0);
        (fill, next)
    }

    #[test]
    fn whoever_has_waited_long_enough_loads_under_the_claim_that_is_there_and_never_takes_it_away() {
        let (mut fill, _) = awaiting(Patience::default(), None);
        assert!(matches!(fill.step(Input::Awaited, 10_000), Some(Next::Claim { token: TOKEN, .. })));
        assert_eq!(fill.step(Input::Claimed(Found::Claimed(Token(8), Some(frame(1)))), 10_000), Some(Next::Load));
        assert_eq!((fill.kept_from_others(), fill.renew_at()), (None, 10_900), "it is another's, and is renewed");
        assert_eq!(fill.step(Input::Failed, 10_001), Some(Next::End(End::Old(frame(1)))));
    }

    #[test]
    fn a_store_that_goes_away_keeps_nobody_waiting() {
        let (mut fill, _) = awaiting(Patience::default(), None);
        fill.step(Input::Awaited, 10);
        assert_eq!(fill.step(Input::Unknown, 10), Some(Next::Load));
        assert_eq!(fill.step(Input::Loaded(Some(1)), 11), Some(Next::End(End::Loaded(Some(1), None))));
    }

    #[test]
    fn an_old_value_that_may_be_served_answers_at_once_and_a_note_that_there_is_none_does_not() {
        let (stale, at_hand) = (Duration::from_secs(60), (0, 1));
        let frame = Frame { fresh_until: 0, ..frame(1) };
        let next = |patience, old| awaiting(patience, old).1;
        let serves = Patience { stale, ..Patience::default() };
        assert_eq!(next(serves, Some(frame)), Some(Next::End(End::Meanwhile(Some(frame)))));
        assert!(matches!(next(serves, Some(Frame { value: None, ..frame })), Some(Next::Await(..))));
        assert!(matches!(next(Patience::default(), Some(frame)), Some(Next::Await(..))));
        let at_hand = Patience { at_hand, ..Patience::default() };
        assert_eq!(next(at_hand, None), Some(Next::End(End::Meanwhile(None))));
        let late = Patience { ends: 0, ..Patience::default() };
        assert_eq!(next(late, Some(frame)), Some(Next::End(End::TooLate)));
    }

    #[test]
    fn who_is_first_only_with_what_was_there_before_is_not_first() {
        for (known, newer_than) in [(None, Some(Version(5))), (Some(Version(7)), Some(Version(7)))] {
            let (mut fill, _) = Fill::begin(TOKEN, Wanted::Newer(known), Sharing::Process);
            fill.step(Input::Claimed(Found::Claimed(TOKEN, Some(frame(1)))), 0);
            let offer = Next::Write { claim: Some(TOKEN), value: Some(2), newer_than };
            assert_eq!(fill.step(Input::Loaded(Some(2)), 0), Some(offer));
        }
    }

    #[test]
    fn who_wants_it_anew_waits_for_nobody_and_leaves_no_claim_and_no_old_answer_behind() {
        let (mut fill, next) = Fill::begin(TOKEN, Wanted::Anew, Sharing::Process);
        assert_eq!(next, Next::Claim { token: TOKEN, wanted: Wanted::Anew });
        assert_eq!(fill.step(Input::Claimed(Found::Claimed(TOKEN, Some(frame(1)))), 0), Some(Next::Load));
        assert_eq!(fill.step(Input::Failed, 1), Some(Next::Release(TOKEN)));
        assert_eq!(fill.step(Input::Released, 2), Some(Next::End(End::Failed)));
    }

    #[test]
    fn answers_that_nobody_waits_for_change_nothing() {
        let mut fill = loading(Some(Found::Claimed(TOKEN, None)));
        let before = fill.clone();
        for input in [Input::Claimed(Found::Fresh(frame(1))), Input::Filled(Filled::Gone), Input::Unknown] {
            assert_eq!((fill.step(input, 0), &fill), (None, &before));
        }
    }
}
