//! What a store keeps under one key, and what each request does to it at one moment: the meaning of the scripts of a real store.
//!
//! Pure. Moments are numbers on the store's own clock, in whatever unit it counts. Versions come from the store too.

use super::{Filled, Found, Token, Version, Wanted};
use crate::core::broken::{Rule, broken};

/// What a cell has to know of a frame.
pub trait Framed {
    /// When it was written, in the store's order.
    fn version(&self) -> Version;
    /// Fresh before this moment.
    fn fresh_until(&self) -> u64;
    /// Of some use before this one.
    fn expires(&self) -> u64;
    /// It has a value, and is no note that there is none.
    fn has_value(&self) -> bool;
}

/// What has to be so for a value to be written: of one that was loaded, that nothing has happened to the key since, which shows in the
/// claim or the version; of one that is written by hand, whatever its writer makes a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Under {
    /// This claim is still there.
    Claim(Token),
    /// This is still the version of what was written last.
    Version(Version),
    /// There is no fresh value. Never for what was loaded: an invalidation may have been forgotten.
    Nothing,
    /// There is a fresh value.
    Something,
}

/// See the module.
#[derive(Clone, Debug, Hash)]
pub struct Cell<F> {
    frame: Option<F>,
    /// What was written last, if that was an invalidation, and until when this is known.
    buried: Option<(Version, u64)>,
    claim: Option<(Token, u64)>,
}

impl<F> Default for Cell<F> {
    fn default() -> Self {
        Cell { frame: None, buried: None, claim: None }
    }
}

/// All that a cell is: the frame; what was invalidated last and until when this is known; the claim and its end.
pub type Parts<F> = (Option<F>, Option<(Version, u64)>, Option<(Token, u64)>);

impl<F> Cell<F> {
    /// One that is kept outside as these; a frame and an invalidation exclude each other.
    pub fn from_parts((frame, buried, claim): Parts<F>) -> Self {
        let buried = buried.filter(|_| frame.is_none());
        Cell { frame, buried, claim }
    }

    /// What has to be kept of it.
    pub fn parts(self) -> Parts<F> {
        (self.frame, self.buried, self.claim)
    }
}

impl<F: Framed + Clone> Cell<F> {
    /// The version of what was written last.
    pub fn last(&self) -> Option<Version> {
        self.frame.as_ref().map(Framed::version).or(self.buried.map(|(version, _)| version))
    }

    /// True when nothing of it matters any more.
    pub fn is_over(&self, now: u64) -> bool {
        let claimed = self.claim.is_some_and(|(_, until)| now < until);
        let kept = self.frame.as_ref().is_some_and(|frame| now < frame.expires());
        !claimed && !kept && self.buried.is_none_or(|(_, until)| now >= until)
    }

    /// What is there, fresh or not.
    pub fn frame(&self) -> Option<&F> {
        self.frame.as_ref()
    }

    /// What is there, if it is fresh and newer than that.
    pub fn fresh(&self, newer_than: Option<Version>, now: u64) -> Option<&F> {
        self.frame.as_ref().filter(|frame| now < frame.fresh_until() && frame.version().replaces(newer_than))
    }

    /// True if a fresh value is there; a note that there is none is no value.
    pub fn has_value(&self, now: u64) -> bool {
        self.fresh(None, now).is_some_and(Framed::has_value)
    }

    /// What is wanted, or a claim: the one that is alive, else this one until that moment.
    pub fn claim(&mut self, token: Token, wanted: Wanted, until: u64, now: u64) -> Found<F> {
        let (found, live) = match wanted {
            Wanted::Newer(known) => (self.fresh(known, now), self.claim.filter(|(_, until)| now < *until)),
            Wanted::Anew => (None, None),
        };
        if let Some(frame) = found {
            return Found::Fresh(frame.clone());
        }
        let (live, _) = *self.claim.insert(live.unwrap_or((token, until)));
        Found::Claimed(live, self.frame.clone())
    }

    /// True if this claim is still there, now until that moment.
    pub fn renew(&mut self, token: Token, until: u64) -> bool {
        let claim = self.claim.as_mut().filter(|(live, _)| *live == token);
        claim.map(|(_, end)| *end = until).is_some()
    }

    /// Takes the claim away; false if it is not there.
    pub fn release(&mut self, token: Token) -> bool {
        self.claim.take_if(|(live, _)| *live == token).is_some()
    }

    /// True while this claim is alive.
    pub fn is_claimed(&self, token: Token, now: u64) -> bool {
        self.claim.is_some_and(|(live, until)| live == token && now < until)
    }

    /// Writes it if that is so; else tells of what is fresh and newer than what was known.
    pub fn fill(&mut self, under: Under, newer_than: Option<Version>, frame: F, now: u64) -> Filled<F> {
        let held = match under {
            Under::Claim(token) => self.claim.is_some_and(|(live, _)| live == token),
            Under::Version(version) => self.last() == Some(version),
            Under::Nothing => !self.has_value(now),
            Under::Something => self.has_value(now),
        };
        if held || (broken(Rule::AbsenceIsNoClaim) && self.is_over(now)) {
            return Filled::Written(self.put(frame));
        }
        self.fresh(newer_than, now).map_or(Filled::Gone, |frame| Filled::Lost(frame.clone()))
    }

    /// Writes, whatever is there.
    pub fn put(&mut self, frame: F) -> Version {
        let version = frame.version();
        *self = Cell { frame: Some(frame), ..Cell::default() };
        version
    }

    /// Notes until that moment that what was there is no more, nor what is being loaded.
    pub fn bury(&mut self, version: Version, until: u64) -> Version {
        *self = Cell { buried: Some((version, until)), ..Cell::default() };
        version
    }
}
