//! Values as frames, with the life they have in the store, and frames as values.
//!
//! What memory keeps of a value that was offered to the store is what the store was told: both end together.

use super::super::waiting::kept_for;
use super::filling::Errand;
use super::heeding::began;
use super::{Behalf, Tier, is_out_of_reach};
use crate::codec::frame::{self, Stamps};
use crate::codec::framing::{Content, Framing};
use crate::codec::refusal::Refusal;
use crate::codec::values::Codec;
use crate::core::clock::{Clock, Millis, NEVER, deadline};
use crate::core::coherence::registers::Verdict;
use crate::core::flight::lifetime;
use crate::core::policy::{Lifetime, Policy};
use crate::core::remote::cell::Framed;
use crate::core::remote::ledger::{Note, Tags};
use crate::core::remote::{Frame, Version};
use crate::error::{Error, StoreError};
use crate::io::store::drive::Frames;
use crate::io::store::stored::Stored;
use crate::io::store::{Answer, Reply, Request};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// The frame of a value, or of its absence.
///
/// # Errors
///
/// [`Error::Codec`] for a value that has none.
pub(super) fn pack<V>(
    framing: &Framing,
    codec: &impl Codec<V>,
    name: &[u8],
    value: Option<&V>,
    stamps: Stamps,
) -> Result<Vec<u8>, Error> {
    let refused = |why: String| Error::Codec { key: String::from_utf8_lossy(name).into_owned(), why };
    let mut raw = Vec::new();
    if let Some(value) = value {
        let cure = "give a value that the codec writes, or a codec that writes it";
        codec.encode(value, &mut raw).map_err(|error| refused(format!("{error}; {cure}")))?;
    }
    let content =
        Content { value: value.map(|_| (codec.id(), &raw[..])), stamps, tags: &[], etag: None, returned: false };
    framing.pack(name, &content).map_err(|error| refused(error.to_string()))
}

/// What a frame holds.
pub(in crate::cache) struct Unpacked<V> {
    /// The value, and how long it took to load in milliseconds; `None` says that there is none.
    pub value: Option<(V, u32)>,
    pub tags: Option<Arc<Tags>>,
    /// When its load began, in the store's order; 0: it was written by hand, at its version.
    pub load_start: u64,
}

impl<V> Unpacked<V> {
    /// What is to be noted of it, if this is its version.
    pub fn note(&self, version: Version, key: u64) -> Note {
        Note { version: Some(version), key, tags: self.tags.clone(), began: began(self.load_start, version) }
    }
}

/// What a frame holds; its tags are those of a namespace.
///
/// # Errors
///
/// Why it is no frame that this cache reads.
pub(super) fn unpack<V>(
    framing: &Framing,
    codec: &impl Codec<V>,
    name: &[u8],
    frame: &[u8],
    path: &Arc<str>,
) -> Result<Unpacked<V>, Refusal> {
    let unpacked = framing.unpack(name, frame)?;
    let Stamps { load_start, load_time, .. } = unpacked.header.stamps;
    let names: Box<[Box<str>]> = unpacked.header.tags.map(Box::from).collect();
    let tags = (!names.is_empty()).then(|| Arc::new(Tags { path: Arc::clone(path), names }));
    let Some((serializer, raw)) = unpacked.value else { return Ok(Unpacked { value: None, tags, load_start }) };
    if serializer != codec.id() {
        return Err(Refusal::UnknownSerializer);
    }
    let value = codec.decode(&raw).map_err(|_| Refusal::Corrupt)?;
    Ok(Unpacked { value: Some((value, load_time / 1000)), tags, load_start })
}

/// What a frame of this life says of its moments, if its value was made now and took so many milliseconds to load, and that load began
/// then in the store's order.
pub(super) fn stamps(clock: &Clock, life: &Lifetime, load: u32, load_start: u64) -> Stamps {
    let micros = |moment: Millis| {
        if moment >= NEVER { frame::NEVER } else { clock.wall(moment).saturating_mul(1000) }
    };
    Stamps {
        fresh_until: micros(life.span.fresh_until),
        expires: micros(life.span.expires),
        load_start,
        created: micros(clock.now()),
        load_time: load.saturating_mul(1000),
    }
}

/// How long a store is to keep what has this life; `None`: until it is removed.
pub(super) fn kept(life: &Lifetime, now: Millis) -> Option<Duration> {
    let expires = life.span.expires;
    (expires < NEVER).then(|| Duration::from_millis(expires.saturating_sub(now).max(1)))
}

/// The life in memory of what has this one in the store.
pub(super) fn in_memory(
    policy: &Policy,
    negative: bool,
    life: Lifetime,
    most: Option<Duration>,
    now: Millis,
) -> Lifetime {
    let Some(most) = most else { return life };
    let (span, end) = (life.span, deadline(now, Some(most)));
    let fresh_until = span.fresh_until.min(end);
    // What is of use after its ttl stays so, should the store be away; what is not is gone.
    let expires = if span.expires > span.fresh_until { span.expires } else { fresh_until };
    policy.lifetime_left(negative, (fresh_until, expires), span.load)
}

/// A value on its way, and how long it took to load, in milliseconds.
pub(in crate::cache) struct Parcel<V> {
    pub value: V,
    pub load: u32,
}

/// The frames of one key while it is filled.
pub(super) struct Packing<'a, K, V> {
    pub tier: &'a dyn Tier<K, V>,
    pub errand: &'a Errand<V>,
    pub behalf: &'a Behalf,
    pub seen: Mutex<Seen>,
}

/// What was seen while a key is filled.
#[derive(Default)]
pub(super) struct Seen {
    /// The life of what the store was offered.
    pub given: Option<Lifetime>,
    /// When the load began, in the store's order.
    pub stamp: Option<u64>,
    /// What is to be noted of what was read.
    pub notes: Vec<Note>,
    /// What was found is what memory has itself: the store could not be asked.
    pub suspect: bool,
    /// The store could not be reached.
    pub away: bool,
}

impl<K, V: Send + Sync> Frames<Arc<Parcel<V>>> for Packing<'_, K, V> {
    fn encode(&self, parcel: Option<&Arc<Parcel<V>>>) -> Option<(Vec<u8>, Option<Duration>)> {
        // Of what nobody knows when its load began, nobody knows what has invalidated it.
        let start = self.seen.lock().stamp?;
        let Behalf { context, clock } = self.behalf;
        let (said, now, negative) = (context.said(), clock.now(), parcel.is_none());
        let ttl = kept_for(parcel.map(|parcel| &parcel.value), &said.policy)?;
        let load = parcel.map_or(0, |parcel| parcel.load);
        let began = now.saturating_sub(load.into());
        let life = lifetime(&said.policy, (ttl, negative, None), (began, now), || self.errand.draw);
        let stamps = stamps(clock, &life, load, start);
        let frame = self.tier.pack(&self.errand.name, parcel.map(|parcel| &parcel.value), stamps).ok()?;
        self.seen.lock().given = Some(life);
        Some((frame, kept(&life, now)))
    }

    fn decode(&self, stored: &Stored) -> Option<(Option<Arc<Parcel<V>>>, Verdict)> {
        self.errand.front.answered(false);
        let found = self.tier.unpack(&self.errand.name, stored.frame())?;
        let note = found.note(stored.version(), self.errand.behind);
        let verdict = self.errand.front.judge(&note);
        self.seen.lock().notes.push(note);
        Some((found.value.map(|(value, load)| Arc::new(Parcel { value, load })), verdict))
    }

    fn clock(&self) -> Option<Request> {
        if self.seen.lock().stamp.is_some() { None } else { self.errand.front.ask_clock() }
    }

    fn told(&self, answer: Answer) {
        if let Ok(Reply::Told(told)) = answer {
            self.errand.front.learn(&told);
            self.seen.lock().stamp = Some(told.stamp);
        }
    }

    fn suspect(&self, error: &StoreError) -> Option<Frame<Arc<Parcel<V>>>> {
        let away = is_out_of_reach(error);
        self.errand.front.answered(away);
        self.seen.lock().away = away;
        let (frame, note) = self.errand.front.suspect()?;
        let mut seen = self.seen.lock();
        seen.notes.push(note);
        seen.suspect = true;
        Some(frame)
    }

    fn refute(&self) {
        self.errand.front.answered(false);
        self.errand.front.refute();
    }
}
