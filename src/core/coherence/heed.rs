//! What a process believes of what it has in memory, and what becomes of that when it hears something.
//!
//! All that is in memory is trusted while it is proven that nothing was missed, and [`PATIENCE`] longer at most: that is by how much
//! others may be behind a change that the store has. What is not trusted is asked for by its version before it is served. What was
//! noted before something was missed is never trusted again unasked, however much is heard from then on.

use super::registers::Verdict;
use crate::core::broken::{Rule, broken};
use crate::core::remote::Version;
use crate::core::remote::cell::Framed;
use std::time::Duration;

/// How often it is asked whether anything was missed.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// An answer that takes longer is none.
pub const TIME_OUT: Duration = Duration::from_secs(1);

/// For so long after a question whose answer was that nothing was missed that holds: the bound B.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A time in which nothing was missed: what was noted in it is as good as what was heard since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    /// Never trusted: something was touched, and nobody said how.
    pub const DOUBT: Span = Span(0);
}

/// When a load began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark<T> {
    /// What it brings is noted in this one, whenever it ends.
    pub span: Span,
    /// Anybody may wait for it until then.
    until: T,
}

/// Whether anything was missed. `T` is a moment of whatever clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trust<T> {
    span: Span,
    until: Option<T>,
}

impl<T> Default for Trust<T> {
    fn default() -> Self {
        Trust { span: Span(1), until: None }
    }
}

impl<T: Copy + Ord> Trust<T> {
    /// Somebody listens from here on, and has learnt what was said until then; that holds until that moment. What was noted before,
    /// also while nobody listened, is in doubt.
    pub fn begin(&mut self, until: T) {
        if !broken(Rule::LossIsDoubt) {
            self.span = Span(self.span.0 + 1);
        }
        self.until = Some(until);
    }

    /// Nothing was missed since it began; that holds until then. Not while something was.
    pub fn prove(&mut self, until: T) {
        self.until = self.until.map(|before| before.max(until));
    }

    /// Something may have been missed, and all is in doubt until it begins anew.
    pub fn lose(&mut self) {
        self.until = None;
    }

    /// What is asked of the store now may be noted in this one when it answers.
    pub fn span(&self) -> Span {
        self.span
    }

    /// True if nothing can have been missed that happened [`PATIENCE`] ago.
    pub fn holds(&self, now: T) -> bool {
        self.until.is_some_and(|until| now < until || broken(Rule::TrustEnds))
    }

    /// True if what was noted then may be served without a question.
    pub fn covers(&self, noted: Span, now: T) -> bool {
        noted == self.span && self.holds(now)
    }

    /// A load begins; `until` is [`PATIENCE`] from now.
    pub fn mark(&self, until: T) -> Mark<T> {
        Mark { span: self.span, until }
    }

    /// True if who comes now may wait for a load that began then: an invalidation since that he may not be behind would have been heard of,
    /// and nobody waits for the load any more then.
    pub fn lets_wait(&self, begun: Mark<T>, now: T) -> bool {
        begun.span == self.span && (now < begun.until || self.holds(now)) || broken(Rule::OldLoadsAreNotJoined)
    }
}

/// True if an entry of this version is no more after something of that version was written under its key, or it was invalidated.
///
/// Not only if that is newer: a store that has lost the key may have begun below. Who hears it late loses an entry, and asks for it.
pub fn is_over(there: Option<Version>, changed: Version) -> bool {
    there != Some(changed) && !broken(Rule::ChangesDrop)
}

/// What becomes of an entry that the store was asked for, since it is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked<F> {
    /// It is what the store has: it is served, and noted as of when the question was asked.
    Keep,
    /// The store has something else: that takes its place, and is served.
    Take(F),
    /// The store has nothing: it is no more, and is to be loaded.
    Drop,
    /// The store does not answer: it is served to the end of its life, remains in doubt, and is counted.
    Serve,
}

/// The store was asked for an entry of this version; `None`: it did not answer. A frame that was judged and is not
/// good is none.
pub fn asked<F: Framed>(there: Option<Version>, answer: Option<Option<F>>) -> Asked<F> {
    match answer {
        None => Asked::Serve,
        Some(Some(frame)) if there == Some(frame.version()) || broken(Rule::VersionsAreCompared) => Asked::Keep,
        Some(Some(frame)) => Asked::Take(frame),
        Some(None) => Asked::Drop,
    }
}

/// True if a value answers somebody who waited for it since the process's [sequence](super::registers::Registers::sequence) was
/// `joined`, by what the registers say of it at its end, if its load began at `began`. Who came after something had moved looks again.
pub fn answers(verdict: Verdict, began: u64, joined: u64) -> bool {
    verdict == Verdict::Good || joined <= began || broken(Rule::WaitersLookAgain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::remote::Frame;

    #[test]
    fn trust_ends_and_what_was_noted_before_it_began_never_has_it() {
        let mut trust = Trust::default();
        let early = trust.span();
        trust.prove(9);
        assert!(!trust.covers(early, 0), "it has not begun");
        trust.begin(10);
        let noted = trust.span();
        trust.prove(20);
        trust.prove(15);
        assert!(trust.covers(noted, 19) && !trust.covers(noted, 20));
        assert!(!trust.covers(early, 0) && !trust.covers(Span::DOUBT, 0));
        trust.lose();
        trust.prove(30);
        let missed = trust.span();
        assert!(!trust.holds(0));
        trust.begin(30);
        assert!(trust.covers(trust.span(), 0) && !trust.covers(noted, 0) && !trust.covers(missed, 0));
    }

    #[test]
    fn a_load_is_waited_for_while_what_has_come_between_would_be_known() {
        let mut trust = Trust::default();
        trust.begin(5);
        let mark = trust.mark(20);
        assert!(trust.lets_wait(mark, 19) && !trust.lets_wait(mark, 20));
        trust.prove(30);
        assert!(trust.lets_wait(mark, 29) && !trust.lets_wait(mark, 30));
        trust.lose();
        assert!(trust.lets_wait(mark, 19) && !trust.lets_wait(mark, 29));
        trust.begin(40);
        assert!(!trust.lets_wait(mark, 0));
    }

    #[test]
    fn an_entry_is_over_after_anything_but_itself() {
        let five = Some(Version(5));
        assert_eq!([4, 5, 6].map(|version| is_over(five, Version(version))), [true, false, true]);
        assert!(is_over(None, Version(1)));
    }

    #[test]
    fn what_is_asked_for_is_kept_taken_dropped_or_served_for_want_of_an_answer() {
        let frame = |version| Frame { version: Version(version), value: Some(()), fresh_until: 1, expires: 1 };
        let five = Some(Version(5));
        assert_eq!(asked(five, Some(Some(frame(5)))), Asked::Keep);
        assert_eq!(asked(five, Some(Some(frame(4)))), Asked::Take(frame(4)));
        assert_eq!(asked(None, Some(Some(frame(6)))), Asked::Take(frame(6)));
        assert_eq!(asked::<Frame<()>>(five, Some(None)), Asked::Drop);
        assert_eq!(asked::<Frame<()>>(None, None), Asked::Serve);
    }

    #[test]
    fn who_came_after_a_move_looks_again_and_who_came_before_is_answered() {
        assert!(answers(Verdict::Good, 1, 9));
        for verdict in [Verdict::Stale, Verdict::Gone] {
            assert!(answers(verdict, 5, 5) && answers(verdict, 5, 4) && !answers(verdict, 5, 6));
        }
    }
}
