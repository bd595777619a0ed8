//! A key that is kept behind the memory too, in a store that other processes share: what is asked of the store, in which
//! order, and what becomes of the answer.
//!
//! Pure, as all of the core: [`fill`] and [`write`](mod@write) are state machines whose effects a driver runs, one request at a time. The
//! memory's own rules stay where they are: a fill has a lease of [`flight`](super::flight) and stores nothing there once that was detached.
//!
//! Without a remote tier nothing here is asked.

pub mod cell;
pub mod fill;
pub mod ledger;
#[cfg(test)]
mod sim;
pub mod wait;
pub mod write;

use super::broken::{Rule, broken};
use super::clock::Millis;
use std::time::Duration;

/// How long a claim lives unless it is renewed: long enough for a slow round trip, short enough to be forgotten soon after its
/// process has died.
pub const CLAIM_LIFE: Duration = Duration::from_secs(10);

/// A claim is renewed this often while its load runs: two renewals may fail.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);

/// The same where others wait for the load: so long one that has died keeps them waiting. Seconds, since a process may stand still
/// for one (a collection, a slow disk, a store that fails over) and still be loading.
const AWAITED_CLAIM_LIFE: Duration = Duration::from_secs(3);

/// And this often it is renewed then: two renewals may fail here too.
const RENEW_AWAITED_EVERY: Duration = Duration::from_millis(900);

/// For so long it is known that a key was invalidated: longer than a claim can be forgotten.
pub const TOMBSTONE_LIFE: Duration = Duration::from_secs(30);

/// The order of what was written under a key, given by the store: `max(last + 1, its time in µs)`, so that it grows even when
/// the store has lost everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// True if what has this version takes the place of what is in memory, which has one too if the store gave it one.
    pub fn replaces(self, there: Option<Version>) -> bool {
        there.is_none_or(|there| there < self)
    }
}

/// The name of a claim: random, so that no claim is taken for an earlier one of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u128);

impl Token {
    /// Of 128 random bits from the operating system.
    pub fn new(bits: u128) -> Self {
        Token(if broken(Rule::TokensDiffer) { 0 } else { bits })
    }

    /// The bits it was made of.
    pub fn bits(self) -> u128 {
        self.0
    }
}

/// Who loads where somebody loads already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Every process once: another's claim is adopted.
    #[default]
    Process,
    /// Nobody else: another's claim is waited for.
    Cluster,
}

impl Sharing {
    /// How long a claim lives unless it is renewed.
    pub const fn claim_life(self) -> Duration {
        match self {
            Sharing::Process => CLAIM_LIFE,
            Sharing::Cluster => AWAITED_CLAIM_LIFE,
        }
    }

    /// How often it is, while its load runs.
    pub const fn renew_every(self) -> Duration {
        match self {
            Sharing::Process => RENEW_EVERY,
            Sharing::Cluster => RENEW_AWAITED_EVERY,
        }
    }
}

/// Who loads where somebody loads already, and what somebody does who would have to wait for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Others {
    /// Who loads.
    pub sharing: Sharing,
    /// Who waits, and how.
    pub patience: wait::Patience,
}

impl From<Sharing> for Others {
    fn from(sharing: Sharing) -> Self {
        Others { sharing, ..Others::default() }
    }
}

/// What a caller is content with, and nobody has to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// Something fresh; newer than this version, if one is known already.
    Newer(Option<Version>),
    /// Nothing that is there, nor what somebody is loading: that has begun before it was asked for.
    Anew,
}

impl Wanted {
    /// The version that is known already.
    pub fn known(self) -> Option<Version> {
        if let Wanted::Newer(known) = self { known } else { None }
    }
}

/// What a store keeps of a value, or of its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame<V> {
    /// When it was written, in the store's order.
    pub version: Version,
    /// The value; `None` says that there is none.
    pub value: Option<V>,
    /// Fresh before this moment.
    pub fresh_until: Millis,
    /// Of some use, should a load fail, before this one.
    pub expires: Millis,
}

impl<V> cell::Framed for Frame<V> {
    fn version(&self) -> Version {
        self.version
    }

    fn fresh_until(&self) -> Millis {
        self.fresh_until
    }

    fn expires(&self) -> Millis {
        self.expires
    }

    fn has_value(&self) -> bool {
        self.value.is_some()
    }
}

/// What the store found where a value is wanted: frames of type `F`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found<F> {
    /// A frame that is fresh, and newer than what is known.
    Fresh(F),
    /// No such frame. The key is claimed under this token: the caller's own, or that of somebody who loads it already. An old
    /// frame may still be of use if the load fails.
    Claimed(Token, Option<F>),
}

/// What the store did with a loaded value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filled<F> {
    /// Wrote it; the claim is gone with that.
    Written(Version),
    /// Nothing: somebody else was first, with this.
    Lost(F),
    /// Nothing: the claim is gone, and nothing has come in its place.
    Gone,
}
