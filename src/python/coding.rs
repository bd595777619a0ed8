//! Between Python's values and the frames that a store keeps: codec, compression and seal of one namespace, as one.
//!
//! A frame that cannot be read is as good as none, and counted; a value that cannot be written is its writer's error.

use super::codec::MessagePack;
use super::framing::{Framing, LONG, unlocked};
use super::recipe::Labels;
use super::tier::Object;
use crate::codec::frame;
use crate::codec::framing::{Content, Unpacked};
use crate::codec::refusal::Refusal;
use crate::codec::serializer::Serializer;
use crate::core::clock::{Clock, Millis, NEVER, later};
use crate::core::coherence::registers::Began;
use crate::core::memory::Span;
use crate::core::policy::{Lifetime, Policy};
use crate::core::remote::Version;
use crate::core::remote::cell::Framed;
use crate::core::remote::ledger::Note;
use crate::io::store::stored::Stored;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::borrow::Cow;
use std::time::Duration;

/// See the module.
#[pyclass(frozen, module = "samovar._core")]
pub struct Coding {
    framing: Py<Framing>,
    wire: Py<MessagePack>,
    /// A `samovar.codecs.Coder`, if values are more than MessagePack of anything.
    coder: Option<Object>,
}

#[pymethods]
impl Coding {
    #[new]
    #[pyo3(signature = (framing, wire, coder = None))]
    fn new(framing: Py<Framing>, wire: Py<MessagePack>, coder: Option<Object>) -> Self {
        Coding { framing, wire, coder }
    }

    /// How its frames are packed, and how many were refused.
    #[getter]
    fn framing(&self, py: Python<'_>) -> Py<Framing> {
        self.framing.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.framing)?;
        visit.call(&self.coder)
    }
}

/// What a store gave, read.
pub struct Fetched {
    /// The value; None says that there is none.
    pub value: Option<Object>,
    /// Fresh before this moment.
    pub fresh_until: Millis,
    /// Of some use before this one.
    pub expires: Millis,
    /// When it was written.
    pub created: Millis,
    /// How long it took to load, in milliseconds.
    pub load: u32,
    /// When it was written, in the store's order.
    pub version: Version,
    /// That there is none was its source's answer, and not an error of it.
    pub returned: bool,
    /// Its tags.
    pub tags: Option<Labels>,
    /// When its load began, as far as that is known.
    pub began: Began,
    /// The same as it would be written now, where that is sealed in another way: with a newer key, mostly.
    pub resealed: Option<Box<Packed>>,
}

impl Fetched {
    /// What memory has, as the store would give it.
    pub fn kept(value: Object, span: &Span, note: &Note) -> Self {
        let version = note.version.unwrap_or(Version(0));
        let tags = note.tags.as_ref().map(|tags| tags.names.clone());
        let Span { fresh_until, expires, load, .. } = *span;
        Fetched { expires, load, version, tags, began: note.began, ..Fetched::here(value, fresh_until) }
    }

    /// What memory has: of no version that the store would know.
    pub fn here(value: Object, fresh_until: Millis) -> Self {
        Fetched {
            value: Some(value),
            fresh_until,
            expires: fresh_until,
            created: 0,
            load: 0,
            version: Version(0),
            returned: false,
            tags: None,
            began: Began { here: None, store: Some(0) },
            resealed: None,
        }
    }

    /// Its life in a memory where nothing stays longer than `most`.
    pub fn lifetime(&self, policy: &Policy, most: Option<Duration>, now: Millis) -> Lifetime {
        let left = policy.lifetime_left(self.value.is_none(), (self.fresh_until, self.expires), self.load);
        clipped(left, most, now, policy)
    }
}

/// A life where nothing lasts longer than `most`.
pub fn clipped(mut lifetime: Lifetime, most: Option<Duration>, now: Millis, policy: &Policy) -> Lifetime {
    if let Some(most) = most {
        let (end, negative) = (later(now, most), lifetime.plain_until == 0);
        lifetime.span.expires = lifetime.span.expires.min(end);
        lifetime.span.fresh_until = lifetime.span.fresh_until.min(end);
        lifetime.plain_until = if negative { 0 } else { policy.early_from(&lifetime.span).min(lifetime.plain_until) };
    }
    lifetime
}

/// The present by the clock of the memory, and by the calendar in milliseconds since 1970: [`Clock::both`].
pub type Present = (Millis, u64);

/// What is packed.
#[derive(Clone, Copy)]
pub enum What<'a, 'py> {
    /// A value.
    Value(&'a Bound<'py, PyAny>),
    /// There is none; and that was its source's answer, rather than an error of it.
    Nothing {
        /// See there.
        returned: bool,
    },
}

/// A frame, and for how long it is kept.
pub type Packed = (Vec<u8>, Option<Duration>);

impl Coding {
    /// The frame of a value, or of a note that there is none, under this name; `None` if it is too large, and such values are skipped. `began`
    /// is when its load did.
    ///
    /// # Errors
    ///
    /// CodecError: it cannot be one.
    pub fn pack(
        &self,
        py: Python<'_>,
        name: &[u8],
        what: What<'_, '_>,
        (lifetime, began): (&Lifetime, Millis),
        (labels, load_start): (Option<&Labels>, u64),
        clock: &Clock,
    ) -> PyResult<Option<Packed>> {
        let written = match what {
            What::Nothing { .. } => None,
            What::Value(value) => match self.encode(value)? {
                None => return Ok(None),
                written => written,
            },
        };
        let (now, span) = (clock.now(), &lifetime.span);
        let (at, wall) = (clock.wall(now), |moment: Millis| clock.wall(moment).saturating_mul(1000));
        let ends = |moment: Millis| if moment >= NEVER { frame::NEVER } else { (at + moment - now.min(moment)) * 1000 };
        let stamps = frame::Stamps {
            fresh_until: ends(span.fresh_until),
            expires: ends(span.expires),
            load_start,
            created: wall(now),
            load_time: u32::try_from(now.saturating_sub(began).saturating_mul(1000)).unwrap_or(u32::MAX),
        };
        let value = written.as_ref().map(|(serializer, bytes)| (*serializer, &bytes[..]));
        let returned = matches!(what, What::Nothing { returned: true });
        let tags: Vec<&str> = labels.into_iter().flatten().map(|tag| &**tag).collect();
        let content = Content { value, stamps, tags: &tags, etag: None, returned };
        let (length, framing) = (value.map_or(0, |(_, bytes)| bytes.len()), &self.framing.get().framing);
        let packed = unlocked(py, length, || framing.pack(name, &content))?;
        let left = Duration::from_millis(span.expires.saturating_sub(now).max(1));
        Ok(Some((packed, (span.expires < NEVER).then_some(left))))
    }

    /// What was stored under this name, read; `None` if it cannot be.
    #[inline]
    pub fn read(&self, py: Python<'_>, name: &[u8], stored: &Stored, (now, wall): Present) -> Option<Fetched> {
        let (bytes, framing) = (stored.frame(), self.framing.get());
        let unpacked = match bytes.len() {
            // Here, and not as work that is handed on: what is unpacked is moved nowhere then.
            ..LONG => framing.framing.unpack(name, bytes),
            _ => unlocked(py, bytes.len(), || framing.framing.unpack(name, bytes)),
        };
        let unpacked = unpacked.map_err(|refusal| framing.refusals.count(refusal)).ok()?;
        let value = match &unpacked.value {
            None => None,
            Some((serializer, bytes)) => match self.decode(py, *serializer, bytes) {
                Ok(value) => Some(value.unbind()),
                Err(_) => {
                    framing.refusals.count(Refusal::Corrupt);
                    return None;
                }
            },
        };
        let moment = |micros: u64| -> Millis {
            let millis = micros / 1000;
            if micros == frame::NEVER { NEVER } else { (now + millis).saturating_sub(wall).min(NEVER - 1) }
        };
        let stamps = &unpacked.header.stamps;
        let (fresh_until, expires) = (moment(stamps.fresh_until), moment(stamps.expires));
        let (created, load, version) = (moment(stamps.created), stamps.load_time / 1000, stored.version());
        let resealed =
            if unpacked.reseal { self.pack_again(name, &unpacked, expires.saturating_sub(now)) } else { None };
        // What was written by hand began at its version.
        let start = if stamps.load_start > 0 { stamps.load_start } else { version.0 };
        let (returned, began) = (unpacked.header.returned, Began { here: None, store: Some(start) });
        let tags = unpacked.header.tags;
        let tags = (!tags.is_empty()).then(|| tags.map(Into::into).collect());
        Some(Fetched { value, fresh_until, expires, created, load, version, returned, tags, began, resealed })
    }

    /// What was unpacked, sealed as it would be now, to be kept for what is left of its life.
    fn pack_again(&self, name: &[u8], unpacked: &Unpacked<'_>, left: Millis) -> Option<Box<Packed>> {
        let Unpacked { header, value, .. } = unpacked;
        let tags: Vec<&str> = header.tags.collect();
        let value = value.as_ref().map(|(serializer, bytes)| (*serializer, &bytes[..]));
        let content =
            Content { value, stamps: header.stamps, tags: &tags, etag: header.etag, returned: header.returned };
        let frame = self.framing.get().framing.pack(name, &content).ok()?;
        let ends = header.stamps.expires != frame::NEVER;
        Some(Box::new((frame, ends.then(|| Duration::from_millis(left.max(1))))))
    }

    fn encode(&self, value: &Bound<'_, PyAny>) -> PyResult<Option<(Serializer, Cow<'static, [u8]>)>> {
        let py = value.py();
        let Some(coder) = &self.coder else {
            let mut bytes = Vec::new();
            self.wire.get().write(value, "value", &mut bytes)?;
            return Ok(Some((Serializer::MSGPACK, bytes.into())));
        };
        let written = coder.bind(py).call_method1("_write", (value,))?;
        let Some((id, bytes)) = written.extract::<Option<(u8, Bound<'_, PyBytes>)>>()? else { return Ok(None) };
        Ok(Serializer::new(id).map(|id| (id, bytes.as_bytes().to_vec().into())))
    }

    #[inline]
    fn decode<'py>(&self, py: Python<'py>, serializer: Serializer, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        match &self.coder {
            None if serializer == Serializer::MSGPACK => self.wire.get().read(py, bytes),
            None if serializer == Serializer::BYTES => Ok(PyBytes::new(py, bytes).into_any()),
            None if serializer == Serializer::TEXT => Ok(PyString::from_bytes(py, bytes)?.into_any()),
            Some(coder) => coder.bind(py).call_method1("_read", (serializer.id(), PyBytes::new(py, bytes))),
            None => {
                let codecs = py.import("samovar.codecs._coder")?;
                codecs.call_method1("read", (serializer.id(), PyBytes::new(py, bytes)))
            }
        }
    }
}
