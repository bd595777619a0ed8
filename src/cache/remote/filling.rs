//! The way of a miss: the store is asked, the load runs only if it has nothing, and what it brings is offered to the store.
//!
//! Runs on the task of the load, in its place.

use super::super::held::{Failure, Held};
use super::super::waiting::kept_for;
use super::packing::{Packing, Parcel, Seen, in_memory};
use super::{Behalf, Boxed, Front, Tier};
use crate::core::clock::Millis;
use crate::core::coherence::registers::Began;
use crate::core::flight::lifetime;
use crate::core::policy::{Lifetime, Policy};
use crate::core::remote::fill::{End, Fill};
use crate::core::remote::ledger::Note;
use crate::core::remote::wait::{Patience, look_again};
use crate::core::remote::{Frame, Others, Sharing, Token, Version, Wanted};
use crate::io::store::Store;
use crate::io::store::drive::Place;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// A load whose loader's types are forgotten.
pub(in crate::cache) type Loading<V> = Boxed<'static, Held<V>>;

/// A key that is to be filled from the store if it has it.
pub(in crate::cache) struct Errand<V> {
    /// What it is called there.
    pub name: Vec<u8>,
    /// The hash by which memory knows that.
    pub behind: u64,
    /// The memory in front.
    pub front: Box<dyn Front<V>>,
    pub wanted: Wanted,
    /// For jitter, in `[0, 1)`.
    pub draw: f64,
}

impl<V> Errand<V> {
    /// What this version has is there already, for who does not want it anew.
    pub fn knows(&mut self, version: Option<Version>) {
        if let Wanted::Newer(known) = &mut self.wanted {
            *known = version;
        }
    }
}

/// What came of a load.
pub(in crate::cache) struct Brought<V> {
    pub held: Held<V>,
    pub ending: Ending,
}

/// How a load ended, and so how what it brought is kept, and what is noted of it.
#[derive(Clone)]
pub(in crate::cache) enum Ending {
    /// As the policy says, and no store was asked.
    Loaded,
    /// In memory alone, and where there is a life not to the end that the policy says: the store is asked again before. `unasked`: it
    /// could not be asked what it knows.
    Alone { life: Option<Lifetime>, note: Note, unasked: bool },
    /// As the store has it, which took it, or something newer.
    Stored(Lifetime, Note),
    /// As the store has it, and nothing was loaded: the store had it before.
    Found(Lifetime, Note),
    /// As memory has it, in doubt: the store could not be asked.
    Suspect(Lifetime, Note),
    /// Nowhere: something has happened to the key meanwhile, or may have.
    Forgone,
    /// The load has failed, and an old value of the store's answers.
    Old(Lifetime, Note),
}

impl<V> Brought<V> {
    pub fn loaded(held: Held<V>) -> Self {
        Brought { held, ending: Ending::Loaded }
    }
}

/// Fills one key.
pub(super) async fn fill<K, V>(
    tier: &dyn Tier<K, V>,
    store: &dyn Store,
    (errand, behalf): (&Errand<V>, &Behalf),
    load: impl Future<Output = Held<V>> + Send,
) -> Brought<V>
where
    V: Clone + Send + Sync,
{
    let Some(token) = token() else { return Brought::loaded(load.await) };
    let clock = &behalf.clock;
    let packing = Packing { tier, errand, behalf, seen: Mutex::default() };
    let timed = async {
        let began = clock.now();
        let value = load.await.into_result()?;
        let load = u32::try_from(clock.now().saturating_sub(began)).unwrap_or(u32::MAX);
        Ok(value.map(|value| Arc::new(Parcel { value, load })))
    };
    let place = Place { store, key: &errand.name, clock, frames: &packing };
    let others = others(&behalf.context.policy(), tier.terms().sharing);
    let (end, failed) = place.fill(Fill::begin(token, errand.wanted, others), timed).await;
    let Packing { seen, .. } = packing;
    let (seen, most) = (seen.into_inner(), tier.terms().memory_ttl);
    end_of((end, failed), &Ends { behalf, token, draw: errand.draw, behind: errand.behind, seen, most })
}

/// Whether other processes' loads are waited for, by what the cache says of all keys and the policy of this one.
fn others(policy: &Policy, all: Sharing) -> Others {
    let sharing = if all == Sharing::Cluster { all } else { policy.single_flight };
    let (wait, stale) = (policy.wait, policy.stale_while_revalidate);
    Others { sharing, patience: Patience { wait, stale, ..Patience::default() } }
}

/// A name that nobody else gives a claim; `None` if the operating system has no random bits.
fn token() -> Option<Token> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).ok()?;
    Some(Token::new(u128::from_be_bytes(bits)))
}

/// By what the end of a fill becomes an entry of the memory.
struct Ends<'a> {
    behalf: &'a Behalf,
    token: Token,
    draw: f64,
    behind: u64,
    seen: Seen,
    most: Option<Duration>,
}

impl Ends<'_> {
    fn policy(&self) -> Policy {
        self.behalf.context.policy()
    }

    fn now(&self) -> Millis {
        self.behalf.clock.now()
    }

    /// The life in memory of what has this one in the store.
    fn here(&self, negative: bool, life: Lifetime) -> Lifetime {
        in_memory(&self.policy(), negative, life, self.most, self.now())
    }

    /// What is to be noted of what was loaded.
    fn note(&self, version: Option<Version>) -> Note {
        let began = Began { here: None, store: self.seen.stamp };
        Note { version, key: self.behind, tags: None, began }
    }

    /// And of what was read.
    fn note_read(&self, version: Version) -> Note {
        let read = self.seen.notes.iter().rev().find(|note| note.version.unwrap_or(Version(0)) == version);
        read.cloned().unwrap_or_else(|| self.note(Some(version)))
    }

    /// How a value is kept that the store does not have.
    fn alone<V>(&self, value: Option<&Parcel<V>>) -> Ending {
        let (policy, now, load) = (self.policy(), self.now(), value.map_or(0, |parcel| parcel.load));
        let ttl = kept_for(value.map(|parcel| &parcel.value), &policy);
        let life = ttl.filter(|_| self.most.is_some()).map(|ttl| {
            let began = now.saturating_sub(load.into());
            let life = lifetime(&policy, (ttl, value.is_none(), None), (began, now), || self.draw);
            self.here(value.is_none(), life)
        });
        let unasked = self.seen.away && self.seen.stamp.is_none() && value.is_some();
        Ending::Alone { life, note: self.note(None), unasked }
    }

    fn of_frame<V>(&self, frame: &Frame<Arc<Parcel<V>>>) -> Lifetime {
        let (negative, load) = (frame.value.is_none(), frame.value.as_ref().map_or(0, |parcel| parcel.load));
        let left = self.policy().lifetime_left(negative, (frame.fresh_until, frame.expires), load);
        self.here(negative, left)
    }
}

fn end_of<V: Clone>((end, failed): (End<Arc<Parcel<V>>>, Option<Box<Failure>>), ends: &Ends<'_>) -> Brought<V> {
    match (end, failed) {
        (End::Found(frame), _) => {
            let (life, note) = (ends.of_frame(&frame), ends.note_read(frame.version));
            let ending = if ends.seen.suspect { Ending::Suspect(life, note) } else { Ending::Found(life, note) };
            Brought { held: held(frame.value), ending }
        }
        (End::Meanwhile(Some(frame)), _) => {
            let (span, load, now) =
                ((frame.fresh_until, frame.expires), frame.value.as_ref().map_or(0, |parcel| parcel.load), ends.now());
            let life = ends.policy().lifetime_meanwhile(span, load, (now, look_again(ends.token, now)));
            Brought { held: held(frame.value), ending: Ending::Found(life, ends.note_read(frame.version)) }
        }
        (End::Lost(frame), _) => {
            let (life, note) = (ends.of_frame(&frame), ends.note_read(frame.version));
            Brought { held: held(frame.value), ending: Ending::Stored(life, note) }
        }
        (End::Loaded(value, version), _) => {
            let ending = match ends.seen.given.filter(|_| version.is_some()) {
                Some(life) => Ending::Stored(ends.here(value.is_none(), life), ends.note(version)),
                None => ends.alone(value.as_deref()),
            };
            Brought { held: held(value), ending }
        }
        (End::Forgone(value), _) => Brought { held: held(value), ending: Ending::Forgone },
        (End::Old(Frame { version, value: Some(parcel), fresh_until, expires }), failed) => {
            let old = ends.policy().lifetime_of_old((fresh_until, expires), parcel.load, ends.now());
            match (old, failed) {
                (None, Some(failed)) => Brought::loaded(Held::Failed(failed)),
                (None, None) => Brought::loaded(Held::Nothing),
                (Some(life), _) => {
                    Brought { held: held(Some(parcel)), ending: Ending::Old(life, ends.note_read(version)) }
                }
            }
        }
        // What says that there is nothing is no last resort.
        (End::Old(_) | End::Failed, Some(failed)) => Brought::loaded(Held::Failed(failed)),
        (End::Old(_) | End::Failed | End::Absent | End::Meanwhile(None) | End::TooLate, _) => {
            Brought::loaded(Held::Nothing)
        }
    }
}

/// A parcel is opened by the last who holds it, which is nearly always this one.
fn held<V: Clone>(parcel: Option<Arc<Parcel<V>>>) -> Held<V> {
    Held::found(
        parcel.map(|parcel| Arc::try_unwrap(parcel).map_or_else(|shared| shared.value.clone(), |parcel| parcel.value)),
    )
}
