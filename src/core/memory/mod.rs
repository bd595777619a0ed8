//! The memory tier: a table of entries, a table of aliases, and the flights of keys that are being loaded.
//!
//! One lock, the owner's, guards all three, so "is it there, is it coming, or do I fetch it" is one question. The lock is
//! never held while foreign code runs: keys are compared by a closure the caller vouches for, and what leaves the tables
//! goes into a [`Discard`] that the caller drops after unlocking.

pub mod chunks;
mod discard;
mod doubt;
pub mod eviction;
mod groups;
mod index;
pub mod lists;
mod nodes;
mod span;
mod table;
#[cfg(test)]
mod tests;
mod uses;
mod wheel;
mod work;
mod worth;

pub use chunks::Chunks;
pub use discard::{Discard, Left, Reason};
pub use doubt::{Alert, NO_TURN, Turn};
pub use eviction::{Capacity, Eviction, Insight, Steering};
pub use groups::{GroupId, RegionId};
pub use index::SEGMENT;
pub use nodes::{Nodes, Stamp};
pub use span::Span;
pub use table::{Found, New, Served, Table};
pub use work::Work;
pub use worth::Worth;

use super::broken::{Rule, broken};
use super::clock::{Millis, NEVER, later};
use super::flight::{Fallback, Fill, Flights};
use super::policy::Lifetime;
use super::refresher::Refresher;
use super::remote::ledger::Ledger;

/// A slot number together with the stamp it had: a weak pointer to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The slot.
    pub id: u32,
    /// Its stamp when the pointer was made.
    pub stamp: Stamp,
}

/// What a store of a value needs to know beside key and value.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// The group the entry belongs to.
    pub group: GroupId,
    /// Until when, and what the owner notes.
    pub terms: Terms,
    /// What it is worth keeping for.
    pub worth: Worth,
    /// True if it says that there is nothing, or why: such entries may have a bound of their own.
    pub negative: bool,
}

impl Placement {
    /// In a group, served until `deadline`; `tag` is seventeen bits of the owner's, kept beside the value.
    #[inline]
    pub fn new(group: GroupId, deadline: Millis, tag: u32) -> Self {
        Placement { group, terms: Terms::new(deadline, tag), worth: Worth::default(), negative: false }
    }

    /// Worth so much.
    #[inline]
    pub fn worth(self, worth: Worth) -> Self {
        Placement { worth, ..self }
    }

    /// For an entry that may say that there is nothing.
    #[inline]
    pub fn negative(self, negative: bool) -> Self {
        Placement { negative, ..self }
    }
}

/// Until when a hit needs no second thought (44 bits), what it is served as (3), and the owner's tag (17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms(u64);

impl Terms {
    const TAG: u64 = (1 << 17) - 1;
    /// It says that there is nothing, or why.
    const NEGATIVE: u64 = 1 << 17;
    /// Its life has more borders: a [`Span`] says which.
    const SPANNED: u64 = 1 << 18;
    /// It is past its freshness and served nevertheless.
    const STALE: u64 = 1 << 19;

    #[inline]
    fn new(deadline: Millis, tag: u32) -> Self {
        Terms(deadline.min(NEVER) << 20 | (u64::from(tag) & Self::TAG))
    }

    fn spanned(self, plain_until: Millis, how: Served) -> Self {
        let how = match how {
            Served::Fresh => 0,
            Served::Stale => Self::STALE,
            Served::Negative => Self::NEGATIVE,
        };
        Terms(plain_until.min(NEVER) << 20 | self.0 & Self::TAG | Self::SPANNED | how)
    }

    /// Until when a hit needs no second thought. Where there is no span, the entry ends then.
    #[inline]
    pub fn deadline(self) -> Millis {
        self.0 >> 20
    }

    /// The owner's tag.
    #[inline]
    pub fn tag(self) -> u32 {
        (self.0 & Self::TAG) as u32
    }

    fn has_span(self) -> bool {
        self.0 & Self::SPANNED != 0
    }

    fn is_stale(self) -> bool {
        self.0 & Self::STALE != 0
    }

    fn is_negative(self) -> bool {
        self.0 & Self::NEGATIVE != 0
    }
}

/// Spreads a hash and folds a space's salt into it. A bijection of `hash ^ salt`: two equal keys whose results are equal
/// have equal salts, so keys of different spaces never meet though they share one table.
#[inline]
pub fn mix(hash: u64, salt: u64) -> u64 {
    let x = (hash ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^ (x >> 32)
}

/// All of one cache that lives in this process, under one lock. `W` is what the driver of the flights wakes.
#[derive(Debug)]
pub struct Memory<K, V, W> {
    /// The entries, by canonical key or by call.
    pub entries: Table<K, V>,
    /// Call arguments that lead to an entry with a canonical key.
    pub aliases: Table<K, Target>,
    /// The loads that are under way.
    pub flights: Flights<K, W>,
    /// Who loads hot keys ahead of time, where somebody asked for that.
    pub refresher: Option<Box<Refresher>>,
    /// What is noted of a tier behind, where there is one.
    pub ledger: Option<Box<Ledger>>,
    /// So many loads had begun when tags or namespaces were invalidated last.
    pub(super) moved: u64,
}

impl<K, V, W> Memory<K, V, W> {
    /// A tier bounded so, where `eviction` chooses who leaves; and as many aliases, the least recently used leaving.
    pub fn new(bound: Capacity, eviction: Eviction) -> Self {
        let aliases = Table::new(Capacity::entries(bound.entries), Eviction::Lru);
        Memory {
            entries: Table::new(bound, eviction),
            aliases,
            flights: Flights::default(),
            refresher: None,
            ledger: None,
            moved: 0,
        }
    }

    /// When there is something to tidy in either table: 0 for at once, `None` for never.
    pub fn next_due(&self) -> Option<Millis> {
        match (self.entries.next_due(), self.aliases.next_due()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Stores what a flight has loaded, and tells where.
    pub fn fill(
        &mut self,
        fill: Fill<K>,
        value: V,
        placement: Placement,
        now: Millis,
        out: &mut Discard<K, V>,
    ) -> Option<u32> {
        let Fill { hash, key, group, seen, began: _, sequence: _, turn: _ } = fill;
        if !self.entries.is_alive(group) {
            out.keep(Some(key), Some(value));
            return None;
        }
        match seen.and_then(|seen| self.entries.resolve(seen)).filter(|_| !broken(Rule::LoadedReplaces)) {
            Some(id) => self.entries.replace(id, Some(key), value, placement, now, out).then_some(id),
            None => self.entries.insert(New { hash, key, value, placement }, now, out),
        }
    }

    /// Gives an entry that was just stored a life beyond what its slot's deadline says, if it has one.
    pub fn give_lifetime(&mut self, id: u32, lifetime: Lifetime) {
        let Lifetime { span, plain_until, how } = lifetime;
        if plain_until != span.expires || span.since > 0 {
            self.entries.set_span(id, span, plain_until, how);
        }
    }

    /// Where an old value is, while it is of use and nobody has replaced, removed or cleared it.
    pub fn old(&self, fallback: &Fallback, now: Millis) -> Option<u32> {
        let id = self.entries.resolve(fallback.target)?;
        let cleared = self.entries.sight(id).is_none() && !broken(Rule::ClearedIsNotOld);
        let over = now >= fallback.until.min(self.entries.span(id).expires) && !broken(Rule::OldHasAnEnd);
        (!cleared && !over).then_some(id)
    }

    /// After a load that failed: the old value, if it is still of use, answers until the next try is due.
    pub fn relent(&mut self, fallback: &Fallback, now: Millis) -> Option<u32> {
        let id = self.old(fallback, now)?;
        let mut span = Span { retry_at: later(now, fallback.retry_after), ..self.entries.span(id) };
        if broken(Rule::FailureFreshensNothing) {
            span.fresh_until = span.fresh_until.max(span.retry_at);
        }
        if broken(Rule::FailureIsNoted) {
            span.retry_at = 0;
        }
        let (end, how) =
            if now < span.fresh_until { (span.fresh_until, Served::Fresh) } else { (fallback.until, Served::Stale) };
        let plain_until = span.retry_at.min(if broken(Rule::PlainHasAnEnd) { NEVER } else { end.min(span.expires) });
        self.entries.set_span(id, span, plain_until, how);
        Some(id)
    }
}
