//! Loads ahead of time: what the refresher learns of a memory tier, and how its loads begin there. Under the lock.

use super::drive::{Located, Wish};
use super::{Input, Lease, Life};
use crate::core::clock::{Millis, NEVER, later};
use crate::core::memory::{Memory, Served, Span};
use crate::core::policy::Policy;
use crate::core::refresher::{End, Read, Seen, Value};

impl<K, V, W> Memory<K, V, W> {
    /// A value has answered a lookup that was no plain hit; the refresher, if there is one, may make something of it. It
    /// may if `repeatable`: the load does not need this caller.
    pub fn note_read(&mut self, wish: &Wish<'_>, id: u32, repeatable: bool, now: Millis) -> Seen {
        let Some(refresher) = &mut self.refresher else { return Seen::default() };
        let Some(sight) = self.entries.sight(id).filter(|sight| !sight.negative && now < sight.span.fresh_until) else {
            return Seen::default();
        };
        let (span, (hash, plain_until)) = (sight.span, self.entries.plain(id));
        if now < plain_until {
            // A plain hit that came this way because somebody listens to hits.
            return Seen::default();
        }
        let read = Read {
            hash,
            target: self.entries.target(id),
            span,
            created: sight.created,
            plain_until,
            // Where dice are thrown for an early refresh no hit is plain.
            plain_at_most: wish.policy.early_from(&span).max(now),
            repeatable: repeatable && wish.place.home == Some(refresher.home()),
        };
        let seen = refresher.read(&read, now);
        self.let_be_plain(id, seen);
        seen
    }

    /// The same of a lookup by name, which knows nothing of loads: it counts for a key that is tracked.
    pub(super) fn note_look(&mut self, id: u32, now: Millis) {
        let (Some(refresher), Some(sight)) = (&mut self.refresher, self.entries.sight(id)) else { return };
        let (hash, plain_until) = self.entries.plain(id);
        if !refresher.tracks(hash) || now < plain_until {
            return;
        }
        let (target, span, created) = (self.entries.target(id), sight.span, sight.created);
        let plain_at_most = NEVER;
        let read = Read { hash, target, span, created, plain_until, plain_at_most, repeatable: false };
        let seen = refresher.read(&read, now);
        self.let_be_plain(id, seen);
    }

    fn let_be_plain(&mut self, id: u32, seen: Seen) {
        let (_, before) = self.entries.plain(id);
        if let Some(plain_until) = seen.plain_until.filter(|&until| until > before) {
            self.entries.set_span(id, self.entries.span(id), plain_until, Served::Fresh);
        }
    }

    /// A load's value was stored, with this life, for the refresher to know of.
    pub(super) fn note_stored(&mut self, id: u32, span: Span, negative: bool, now: Millis) {
        let Some(refresher) = &mut self.refresher else { return };
        let (hash, plain_until) = self.entries.plain(id);
        if negative {
            return refresher.forget(hash);
        }
        let plain = refresher.stored(hash, self.entries.target(id), &span, now).min(plain_until);
        if plain < plain_until {
            self.entries.set_span(id, span, plain, Served::Fresh);
        }
    }

    /// A load is over; true if it was the refresher's.
    pub(super) fn note_end(
        &mut self,
        lease: Lease,
        (input, stored): (Input, bool),
        policy: &Policy,
        now: Millis,
    ) -> bool {
        let Some(refresher) = &mut self.refresher else { return false };
        let end = match input {
            _ if stored => End::Stored,
            Input::Loaded | Input::Found | Input::Absent => End::Refused,
            Input::Failed | Input::Aborted => {
                End::Failed { pause: policy.retry_after.max(policy.min_refresh_interval) }
            }
        };
        refresher.ended(lease, end, now)
    }

    /// Takes the lease of a key that the refresher's turn has named; `None` if it is not to be loaded, or not now. Where a
    /// value was removed or written by hand, the key is left alone from now on.
    pub fn refresh(
        &mut self,
        wish: &Wish<'_>,
        (hash, key): (u64, impl FnOnce() -> K),
        (entry, flight): Located,
        now: Millis,
    ) -> Option<Lease> {
        let refresher = self.refresher.as_mut()?;
        let value = refresher.value(hash)?;
        if flight.is_some_and(|flight| self.flights.is_flying(flight)) {
            refresher.postpone(hash, None, now);
            return None;
        }
        let id = entry.and_then(|entry| self.entries.resolve(entry));
        let same = id.filter(|&id| Value::new(self.entries.target(id), &self.entries.span(id)) == value);
        let gate = match same.and_then(|id| self.entries.sight(id)) {
            Some(sight) => sight.span.retry_at.max(later(sight.created, wish.policy.min_refresh_interval)),
            None if id.is_none() && now >= value.expires => 0,
            None => NEVER,
        };
        let home = wish.place.home.filter(|_| gate < NEVER && self.entries.is_alive(wish.group));
        let Some(home) = home else {
            refresher.forget(hash);
            return None;
        };
        if now < gate {
            refresher.postpone(hash, Some(gate), now);
            return None;
        }
        let lease = self.begin(wish, (hash, key()), id, (home, Life::Steady), now);
        self.refresher.as_mut()?.begun(hash, lease, now);
        Some(lease)
    }
}
