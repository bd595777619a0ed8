//! Values as frames, with the life they have in the store, and frames as values.
//!
//! What memory keeps of a value that was offered to the store is what the store was told: both end together.

use super::super::waiting::kept_for;
use super::{Behalf, Tier};
use crate::codec::frame::{self, Stamps};
use crate::codec::framing::{Content, Framing};
use crate::codec::refusal::Refusal;
use crate::codec::values::Codec;
use crate::core::clock::{Clock, Millis, NEVER, deadline};
use crate::core::flight::lifetime;
use crate::core::policy::{Lifetime, Policy};
use crate::error::Error;
use crate::io::store::drive::Frames;
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

/// What a frame holds, and how long that took to load in milliseconds.
///
/// # Errors
///
/// Why it is no frame that this cache reads.
pub(super) fn unpack<V>(
    framing: &Framing,
    codec: &impl Codec<V>,
    name: &[u8],
    frame: &[u8],
) -> Result<Option<(V, u32)>, Refusal> {
    let unpacked = framing.unpack(name, frame)?;
    let Some((serializer, raw)) = unpacked.value else { return Ok(None) };
    if serializer != codec.id() {
        return Err(Refusal::UnknownSerializer);
    }
    let value = codec.decode(&raw).map_err(|_| Refusal::Corrupt)?;
    Ok(Some((value, unpacked.header.stamps.load_time / 1000)))
}

/// What a frame of this life says of its moments, if its value was made now and took so many milliseconds to load.
pub(super) fn stamps(clock: &Clock, life: &Lifetime, load: u32) -> Stamps {
    let micros = |moment: Millis| {
        if moment >= NEVER { frame::NEVER } else { clock.wall(moment).saturating_mul(1000) }
    };
    Stamps {
        fresh_until: micros(life.span.fresh_until),
        expires: micros(life.span.expires),
        load_start: 0,
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
pub(super) struct Parcel<V> {
    pub value: V,
    pub load: u32,
}

/// The frames of one key while it is filled.
pub(super) struct Packing<'a, K, V> {
    pub tier: &'a dyn Tier<K, V>,
    pub name: &'a [u8],
    pub behalf: &'a Behalf,
    pub draw: f64,
    /// The life of what the store was offered.
    pub given: Mutex<Option<Lifetime>>,
}

impl<K, V: Send + Sync> Frames<Arc<Parcel<V>>> for Packing<'_, K, V> {
    fn encode(&self, parcel: Option<&Arc<Parcel<V>>>) -> Option<(Vec<u8>, Option<Duration>)> {
        let Behalf { context, clock } = self.behalf;
        let (said, now, negative) = (context.said(), clock.now(), parcel.is_none());
        let ttl = kept_for(parcel.map(|parcel| &parcel.value), &said.policy)?;
        let load = parcel.map_or(0, |parcel| parcel.load);
        let began = now.saturating_sub(load.into());
        let life = lifetime(&said.policy, (ttl, negative, None), (began, now), || self.draw);
        let frame = self.tier.pack(self.name, parcel.map(|parcel| &parcel.value), stamps(clock, &life, load)).ok()?;
        *self.given.lock() = Some(life);
        Some((frame, kept(&life, now)))
    }

    fn decode(&self, frame: &[u8]) -> Option<Option<Arc<Parcel<V>>>> {
        let found = self.tier.unpack(self.name, frame)?;
        Some(found.map(|(value, load)| Arc::new(Parcel { value, load })))
    }
}
