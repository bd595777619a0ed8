//! What every driver does under the lock, for one caller and one key: look it up, take a seat, keep what a load brought.
//!
//! A driver finds the key, locks, takes one of these steps, unlocks, and does what it was told. Between two steps others
//! come and go, so a step takes nothing from the one before but names: of entries, flights and leases.

use super::heed::Settled;
use super::lookup::{Answer, Refresh, answer};
use super::{Begin, Bounds, Due, Effect, Effects, Fallback, Fill, FlightId, Home, Input, Lease, Life, Ticket};
use crate::core::broken::{Rule, broken};
use crate::core::clock::{Millis, NEVER, later};
use crate::core::memory::{Discard, GroupId, Memory, NO_TURN, Placement, Reason, Served, Target, Worth};
use crate::core::policy::{Lifetime, OnRefreshError, Policy};
use crate::core::remote::Version;
use crate::core::remote::ledger::Note;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Where a caller asks from, and what it can do about a load.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// `None` where no loop runs.
    pub home: Option<Home>,
    /// Whether a refresh may run without the caller.
    pub refresh: Refresh,
    /// How long a load lives that the caller waits for.
    pub life: Life,
}

/// What a caller wants of a key.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// How its values are kept.
    pub policy: &'a Policy,
    /// Whose entry it is, and whose counters count.
    pub group: GroupId,
    /// Where from.
    pub place: Place,
    /// Since when a load is wanted even though a value is there; `None` if it is not.
    pub anew: Option<&'a Since>,
}

/// Since when somebody wants a new value: no load that had begun by then is good enough. Set at the first look.
#[derive(Debug)]
pub struct Since(AtomicU64);

impl Default for Since {
    fn default() -> Self {
        Since(AtomicU64::new(u64::MAX))
    }
}

impl Since {
    /// How many flights had begun by then.
    fn begun(&self, so_far: u64) -> u64 {
        match self.0.compare_exchange(u64::MAX, so_far, Relaxed, Relaxed) {
            Ok(_) => so_far,
            Err(first) => first,
        }
    }
}

/// A key's entry and attached flight, as they were when somebody looked.
pub type Located = (Option<Target>, Option<FlightId>);

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The entry in this slot answers.
    Hit(u32, Newer),
    /// Somebody loads it, there.
    Flying(FlightId, Home),
    /// This caller loads it.
    Lead(Lease),
    /// This caller would have to load it, and there is no place to load it on.
    Nowhere,
}

/// What is done about a newer value than the one that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newer {
    /// Nothing.
    No,
    /// This caller has it loaded, behind.
    Lead(Lease),
    /// Somebody loads it.
    Flying(FlightId),
}

/// A loaded value that is to be kept.
#[derive(Clone, Debug)]
pub struct Keep<F> {
    /// Gives the value.
    pub value: F,
    /// The owner's tag.
    pub tag: u32,
    /// True if it says that there is nothing, or why there is not.
    pub negative: bool,
    /// How long.
    pub lasting: Lasting,
    /// What it weighs.
    pub weight: u64,
    /// Where the ttl follows the data: what the next value is compared with.
    pub adapted: Option<Adapted>,
    /// What is to be noted of it, but for its version and when its load began here.
    pub note: Note,
}

/// How long a loaded value is kept.
#[derive(Clone, Copy, Debug)]
pub enum Lasting {
    /// Fresh for this long from now on, as its policy says.
    For(Option<Duration>),
    /// As was settled when a tier behind the memory was given it, or gave it, under this version.
    As(Lifetime, Option<Version>),
    /// The same, of what was here and in doubt, and still is: the tier behind could not be asked.
    Suspect(Lifetime, Option<Version>),
    /// As its policy says, and in doubt: it was loaded without the tier behind, which may know something newer.
    Unasked(Option<Duration>),
}

/// What is kept of a value whose ttl follows the data.
#[derive(Clone, Copy, Debug)]
pub struct Adapted {
    /// Since when loads bring it, in seconds.
    pub since: u32,
    /// How long it is kept, so that the next one can be compared.
    pub until_compared: Duration,
}

/// A load that is over.
#[derive(Clone, Debug)]
pub struct Ended<'a, F> {
    /// Its lease.
    pub lease: Lease,
    /// How it ended.
    pub input: Input,
    /// What is kept of it; `None` for a value that is answered and not stored, and for an error.
    pub keep: Option<Keep<F>>,
    /// How its values are kept.
    pub policy: &'a Policy,
    /// Whose counters count.
    pub group: GroupId,
}

/// What the end of a load, or of somebody's time, leads to.
#[derive(Debug)]
pub struct Done<K, W> {
    /// What else is to be done.
    pub effects: Effects<K, W>,
    /// False if nothing has ended: the lease was void, or it was not time.
    pub counts: bool,
    /// When what was stored ends, if anything was.
    pub stored: Option<Millis>,
    /// True for a load of the refresher's, which wants to be asked what is next.
    pub turn: bool,
    /// The old value that answers in the place of the load: its slot, before anything else is done.
    pub old: Option<u32>,
}

/// Whether a load counts as one that replaces a value.
pub(super) fn replaces(anew: bool, old: Option<&Fallback>) -> bool {
    anew || old.is_some()
}

/// The life of a value that was loaded from `began` to `now`: its ttl, whether it says that there is nothing, and what the next one
/// is compared with. `draw` is in `[0, 1)`.
pub fn lifetime(
    policy: &Policy,
    (ttl, negative, adapted): (Option<Duration>, bool, Option<Adapted>),
    (began, now): (Millis, Millis),
    draw: impl FnOnce() -> f64,
) -> Lifetime {
    let draw = if policy.jitter > 0.0 && !negative { draw() } else { 0.0 };
    let mut lifetime = policy.lifetime(ttl, negative, (began, now), draw);
    if let Some(Adapted { since, until_compared }) = adapted.filter(|_| !negative) {
        lifetime.span.since = since;
        lifetime.span.expires = lifetime.span.expires.max(later(now, until_compared));
    }
    lifetime
}

impl<K, V, W> Memory<K, V, W> {
    /// Looks up and counts: what is there answers, what is not decides who loads. A lease is taken here, so that nobody
    /// comes between. `draw` is in `[0, 1)`.
    pub fn look_up(
        &mut self,
        wish: &Wish<'_>,
        (hash, key): (u64, impl FnOnce() -> K),
        (entry, flight): Located,
        now: Millis,
        draw: impl FnOnce() -> f64,
    ) -> Lookup {
        let Wish { policy, group, place, .. } = *wish;
        let anew = wish.anew.map(|since| since.begun(self.flights.begun())).is_some();
        let flight = flight.filter(|&flight| self.flights.is_flying(flight) && !broken(Rule::OneLease));
        let id = entry.and_then(|entry| self.entries.resolve(entry));
        let plain = id.filter(|&id| self.settle(id, now) == Settled::Plain);
        let sight = plain.and_then(|id| Some((id, self.entries.sight(id)?)));
        if let Some((id, mut sight)) = sight.filter(|_| !anew) {
            sight.flying = flight.is_some();
            if let Answer::Serve { how, refresh, plain_until } = answer(policy, &sight, place.refresh, now, draw) {
                let newer = match (place.home.filter(|_| refresh), flight) {
                    (Some(home), _) => {
                        Newer::Lead(self.begin(wish, (hash, key()), Some(id), (home, Life::Steady), now))
                    }
                    (None, Some(flight)) => Newer::Flying(flight),
                    (None, None) => Newer::No,
                };
                if plain_until > 0 {
                    self.entries.set_span(id, sight.span, plain_until, how);
                }
                self.entries.serve(id, how);
                return Lookup::Hit(id, newer);
            }
        }
        self.entries.stats_mut(group).misses += u64::from(!anew);
        if let Some(flight) = flight {
            match self.flights.home(flight) {
                Some((home, group))
                    if (self.entries.is_alive(group) || broken(Rule::ClearedIsNotJoined))
                        && !(anew && self.flights.is_late(flight, now)) =>
                {
                    return Lookup::Flying(flight, home);
                }
                // Loading for a group that was cleared: not ours to join. Nor is one that cannot be stopped, and has had its
                // time, worth waiting for by somebody who wants a newer value than that.
                _ => self.flights.detach(flight),
            }
        }
        match place.home {
            Some(home) => Lookup::Lead(self.begin(wish, (hash, key()), id, (home, place.life), now)),
            None => Lookup::Nowhere,
        }
    }

    /// Takes the lease of a key that nobody loads.
    pub(super) fn begin(
        &mut self,
        wish: &Wish<'_>,
        (hash, key): (u64, K),
        id: Option<u32>,
        (home, life): (Home, Life),
        began: Millis,
    ) -> Lease {
        let group = wish.group;
        // What is in doubt is no good either when its load fails.
        let sure = id.filter(|&id| self.entries.doubted_since(id).is_none());
        let fallback = sure.and_then(|id| self.fallback(wish, id, began));
        let stats = self.entries.stats_mut(group);
        stats.loads += 1;
        let anew = wish.anew.is_some();
        stats.refreshes += u64::from(replaces(anew, fallback.as_ref()));
        let seen = id.map(|id| self.entries.target(id));
        let forget = seen.filter(|_| wish.policy.on_refresh_error == OnRefreshError::Drop && !anew);
        let bounds = Bounds { timeout: wish.policy.timeout, fallback, forget };
        let (sequence, turn) = (self.sequence(), self.entries.turn());
        self.flights.begin(Begin { hash, key, group, seen, home, life, bounds, anew, began, sequence, turn })
    }

    /// What the old value is still good for if its load fails. Whoever wants a new one wants to hear of its error.
    fn fallback(&self, wish: &Wish<'_>, id: u32, now: Millis) -> Option<Fallback> {
        let (policy, sight) = (wish.policy, self.entries.sight(id)?);
        let until = policy.useful_until(sight.span.fresh_until).min(sight.span.expires);
        let keeps = policy.on_refresh_error == OnRefreshError::Keep && !sight.negative && wish.anew.is_none();
        let target = self.entries.target(id);
        (keeps && now < until).then_some(Fallback { target, until, retry_after: policy.retry_after })
    }

    /// When a caller who joins now would rather have the old value.
    fn patience(&self, policy: &Policy, flight: FlightId, now: Millis) -> Millis {
        let Some(soft) = policy.soft_timeout else { return NEVER };
        self.flights.fallback(flight, now).map_or(NEVER, |_| later(now, soft))
    }

    /// Waits for a load of somebody else's; `None` if it is over. Who wants a newer value than that brings is told to look
    /// again when it has ended: all who come meanwhile share the load that one of them then begins.
    pub fn wait(&mut self, wish: &Wish<'_>, flight: FlightId, home: Home, now: Millis, wake: W) -> Option<Ticket> {
        let begun = wish.anew.map(|since| since.begun(self.flights.begun()));
        let older = begun.is_some_and(|begun| !self.flights.is_newer(flight, begun)) && !broken(Rule::AnewIsNew);
        // What it brings may have been invalidated since it began, and nobody knows its tags before it ends.
        let moved = self.flights.is_among(flight, self.moved) && !broken(Rule::InvalidatedLoadsAreNotJoined);
        let follows = older || moved;
        let patience = if follows { NEVER } else { self.patience(wish.policy, flight, now) };
        let ticket = self.flights.join(flight, home, patience, wake)?;
        if follows {
            self.flights.follow(ticket);
        } else {
            self.entries.stats_mut(wish.group).coalesced += 1;
        }
        Some(ticket)
    }

    /// Waits for a load whose lease this caller has just taken; `None` if it is over already.
    pub fn wait_for_own(
        &mut self,
        policy: &Policy,
        lease: Lease,
        home: Home,
        now: Millis,
        wake: W,
    ) -> Option<(Ticket, Lease)> {
        let patience = self.patience(policy, lease.flight, now);
        let ticket = self.flights.join(lease.flight, home, patience, wake)?;
        Some((ticket, self.flights.lead(ticket, home, None, now)?))
    }

    /// Takes the lead as [`Effect::Lead`] said; `None` if the flight is over by now.
    pub fn take_over(&mut self, wish: &Wish<'_>, ticket: Ticket, home: Home, wake: W, now: Millis) -> Option<Lease> {
        let lease = self.flights.lead(ticket, home, Some(wake), now)?;
        self.flights.live(lease, wish.place.life);
        self.entries.stats_mut(wish.group).loads += u64::from(!broken(Rule::TakeoversCount));
        Some(lease)
    }

    /// A load is over: stores what is kept of it if that may be stored, and tells what else is to be done.
    pub fn finish<F: FnOnce() -> V>(
        &mut self,
        ended: Ended<'_, F>,
        now: Millis,
        draw: impl FnOnce() -> f64,
        out: &mut Discard<K, V>,
    ) -> Done<K, W> {
        let Ended { lease, input, keep, policy, group } = ended;
        let refreshes = self.flights.refreshes(lease);
        let mut effects = self.flights.step(lease, input, now);
        let counts = !effects.is_empty();
        if matches!(input, Input::Failed | Input::Aborted) && counts {
            self.entries.stats_mut(group).load_errors += 1;
        }
        if input == Input::Found && counts {
            self.note_found(&effects, refreshes, group);
        }
        let mut stored = None;
        if matches!(effects.first(), Some(Effect::Store(_)))
            && let Effect::Store(fill) = effects.remove(0)
        {
            self.note_change(fill.hash);
            match keep {
                Some(mut keep) => {
                    // What was found elsewhere was asked for no earlier: what was moved here since counts, whatever the stamps say.
                    let here = &mut keep.note.began.here;
                    *here = Some(here.map_or(fill.sequence, |noted| noted.min(fill.sequence)));
                    stored = self.keep(fill, keep, policy, now, draw, out);
                }
                None => self.forgo(fill, out),
            }
        }
        let old = self.settle_old(&effects, now, out);
        let turn = self.note_end(lease, (input, stored.is_some()), policy, now);
        Done { effects, counts, stored, turn, old }
    }

    /// What began as a load was none: those who are told now were answered by the tier behind.
    fn note_found(&mut self, effects: &Effects<K, W>, refreshes: bool, group: GroupId) {
        let told = |effect: &Effect<K, W>| if let Effect::Wake(waiters) = effect { waiters.len() } else { 0 };
        let stats = self.entries.stats_mut(group);
        stats.note_remote_hits(effects.iter().map(told).sum::<usize>() as u64);
        stats.loads = stats.loads.saturating_sub(1);
        stats.refreshes = stats.refreshes.saturating_sub(refreshes.into());
    }

    /// Does what effects say about an old value, in the same step, so that nobody finds it half settled; gives its slot if
    /// it answers.
    fn settle_old(&mut self, effects: &Effects<K, W>, now: Millis, out: &mut Discard<K, V>) -> Option<u32> {
        let mut old = None;
        for effect in effects {
            match effect {
                Effect::Relent(fallback) => old = self.relent(fallback, now),
                Effect::Give(fallback, _) => old = self.old(fallback, now),
                Effect::Forget(target) => {
                    if let Some(id) = self.entries.resolve(*target) {
                        self.entries.remove(id, Reason::Removed, out);
                    }
                }
                _ => {}
            }
        }
        if let Some(id) = old {
            self.entries.serve(id, Served::Stale);
        }
        old
    }

    /// Puts what was loaded into the table; tells when it ends there, if it was let in.
    fn keep<F: FnOnce() -> V>(
        &mut self,
        fill: Fill<K>,
        keep: Keep<F>,
        policy: &Policy,
        now: Millis,
        draw: impl FnOnce() -> f64,
        out: &mut Discard<K, V>,
    ) -> Option<Millis> {
        let Keep { value, tag, negative, lasting, weight, adapted, note } = keep;
        let took = Duration::from_millis(now.saturating_sub(fill.began));
        let (lifetime, version, took) = match lasting {
            Lasting::For(ttl) | Lasting::Unasked(ttl) => {
                (lifetime(policy, (ttl, negative, adapted), (fill.began, now), draw), None, took)
            }
            // What it took to be asked for is not what it took to load.
            Lasting::As(lifetime, version) | Lasting::Suspect(lifetime, version) => {
                (lifetime, version, Duration::from_millis(lifetime.span.load.into()))
            }
        };
        let worth = Worth::new(weight, took);
        let placement = Placement::new(fill.group, lifetime.span.expires, tag).worth(worth).negative(negative);
        // What nobody could say more of is in doubt.
        let turn = if matches!(lasting, Lasting::Suspect(..) | Lasting::Unasked(_)) { NO_TURN } else { fill.turn };
        let stored = self.fill(fill, value(), placement, now, out);
        if let Some(id) = stored {
            self.give_lifetime(id, lifetime);
            self.note_stored(id, lifetime.span, negative, now);
            self.note(id, Note { version, ..note }, turn);
        }
        stored.map(|_| lifetime.span.expires)
    }

    /// A value is answered and not kept: one that is past its time must not come back either.
    fn forgo(&mut self, fill: Fill<K>, out: &mut Discard<K, V>) {
        if let Some(id) =
            fill.seen.and_then(|seen| self.entries.resolve(seen)).filter(|_| !broken(Rule::UnkeptReplaces))
        {
            self.entries.remove(id, Reason::Removed, out);
        }
        out.keep(Some(fill.key), None);
    }

    /// True if an old value answers should this load fail now.
    pub fn has_old(&self, lease: Lease, now: Millis) -> bool {
        self.old_of(lease, now).is_some()
    }

    /// Where the old value is that answers should this load fail now.
    pub fn old_of(&self, lease: Lease, now: Millis) -> Option<u32> {
        self.flights.fallback(lease.flight, now).and_then(|fallback| self.old(&fallback, now))
    }

    /// From when to when the old value answers a caller who would load in person, and now would have to wait for another process
    /// to do so: at once while it may be served and loaded anew, else when the caller's patience is over.
    pub fn at_hand(&self, policy: &Policy, lease: Lease, now: Millis) -> (Millis, Millis) {
        let Some(id) = self.old_of(lease, now) else { return (0, 0) };
        let span = self.entries.span(id);
        let until = policy.useful_until(span.fresh_until).min(span.expires);
        if now < later(span.fresh_until, policy.stale_while_revalidate) {
            return (now, until);
        }
        (policy.soft_timeout.map_or(NEVER, |soft| later(now, soft)), until)
    }

    /// Somebody's time may be up: a waiter's, or a load's own.
    pub fn expire(&mut self, due: Due, now: Millis, out: &mut Discard<K, V>) -> Done<K, W> {
        if let Due::Waiter(ticket) = due
            && let Some(fallback) = self.flights.fallback(ticket.flight, now)
            && self.old(&fallback, now).is_none()
        {
            self.flights.resign(ticket);
        }
        let effects = self.flights.expire(due, now);
        let counts = !effects.is_empty();
        let old = self.settle_old(&effects, now, out);
        Done { effects, counts, stored: None, turn: false, old }
    }
}
