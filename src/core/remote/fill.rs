//! How a key is filled that the memory does not have: from the store if it is there, else by a load that the store is told of
//! before it starts and that it takes a value from only if nothing has happened to the key since.
//!
//! Who only wants what is there takes a lease too, so that many ask the store once; nothing is claimed and nothing loaded then.
//!
//! One machine a lease. It says what is next; the driver does that, and says what came of it. What ends it decides what goes into
//! memory, where the lease's flight must still be attached, and what the callers get, who are always answered.

use super::{CLAIM_LIFE, Filled, Found, Frame, RENEW_EVERY, Sharing, Token, Version, Wanted};
use crate::core::broken::{Rule, broken};
use crate::core::clock::{Millis, later};

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
    /// Wait until this claim of another process may be gone.
    Await(Token),
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
    sharing: Sharing,
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
    pub fn begin(token: Token, wanted: Wanted, sharing: Sharing) -> (Self, Next<V>) {
        let (claim, renew_at) = (Claim::Wanted, Millis::MAX);
        let fill = Fill { claim, token, wanted, sharing, renew_at, old: None, offered: None };
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
            (Claim::Held(token), None, Input::Failed) if self.keeps_others() => {
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
            Found::Claimed(token, _) if self.awaits(token) => Next::Await(token),
            Found::Claimed(token, old) => {
                (self.claim, self.old) = (Claim::Held(token), old);
                self.renew_at = later(now, RENEW_EVERY);
                Next::Load
            }
        }
    }

    /// True if its claim keeps others from loading: they wait for it, or it was theirs.
    fn keeps_others(&self) -> bool {
        self.sharing == Sharing::Cluster || self.wanted == Wanted::Anew
    }

    /// The claim that others wait for, or that was theirs: to be taken away should the load end without a word.
    pub fn kept_from_others(&self) -> Option<Token> {
        if let Claim::Held(token) = self.claim { Some(token).filter(|_| self.keeps_others()) } else { None }
    }

    fn awaits(&self, token: Token) -> bool {
        self.sharing == Sharing::Cluster && token != self.token && !broken(Rule::ClaimsAreAwaited)
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

    /// The claim that is to be renewed for [`CLAIM_LIFE`], if one is.
    pub fn renew(&mut self, now: Millis) -> Option<Token> {
        let Claim::Held(token) = self.claim else { return None };
        if now < self.renew_at || self.offered.is_some() {
            return None;
        }
        self.renew_at = later(now, RENEW_EVERY);
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

const _: () = assert!(RENEW_EVERY.as_millis() * 3 < CLAIM_LIFE.as_millis());

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(fill.step(Input::Claimed(Found::Claimed(other, None)), 0), Some(Next::Await(other)));
        assert_eq!(fill.step(Input::Awaited, 1), Some(claim));
        assert_eq!(fill.step(Input::Claimed(Found::Claimed(TOKEN, Some(frame(1)))), 2), Some(Next::Load));
        assert_eq!(fill.step(Input::Failed, 3), Some(Next::Release(TOKEN)));
        assert_eq!(fill.step(Input::Released, 4), Some(Next::End(End::Old(frame(1)))));
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
