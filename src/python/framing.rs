//! Frames as bytes, for what is written in Python: a thin face of `codec::framing`.

use super::errors;
use super::keyring;
use crate::codec::compress::Compression;
use crate::codec::dictionary::{self, Dictionaries, Dictionary};
use crate::codec::frame::{NEVER, Stamps};
use crate::codec::framing::{self, Content, MAX_VALUE_BYTES, Unpackable, Unpacked};
use crate::codec::refusal::Refusals;
use crate::codec::serializer::{Serializer, Serializers};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::sync::Arc;

/// From so many bytes on, others may run while a value is packed or unpacked.
pub const LONG: usize = 64 << 10;

/// How the values of a namespace become frames, and frames values; counts what it refuses to read.
///
/// Args:
///     compress: None, ``"auto"``, ``"zstd"``, ``"lz4"``, ``"gzip"`` or ``"snappy"``.
///     key_ring: A ``KeyRing``, or its keys.
///     encrypt: ``"auto"``, ``"aes-gcm"``, ``"sign"`` or False.
///     namespace: Whose subkeys seal.
///     dictionaries: Trained zstd dictionaries; the first writes, all read.
///     serializers: The ids that are packed and unpacked; None: all of ours but pickle.
///     max_value_bytes: No larger value is packed or unpacked.
///     counted_with: Another, whose refusals are counted together with this one's.
///
/// Raises:
///     ConfigError: An option that cannot be.
#[pyclass(frozen, module = "samovar._core")]
pub struct Framing {
    pub(super) framing: framing::Framing,
    dictionaries: Arc<Dictionaries>,
    pub(super) refusals: Arc<Refusals>,
}

#[pymethods]
impl Framing {
    #[new]
    #[pyo3(signature = (*, compress = None, key_ring = None, encrypt = None, namespace = "", dictionaries = Vec::new(),
                        serializers = None, max_value_bytes = MAX_VALUE_BYTES, counted_with = None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of its own in Python")]
    fn new(
        py: Python<'_>,
        compress: Option<&str>,
        key_ring: Option<&Bound<'_, PyAny>>,
        encrypt: Option<&Bound<'_, PyAny>>,
        namespace: &str,
        dictionaries: Vec<Vec<u8>>,
        serializers: Option<Vec<u8>>,
        max_value_bytes: usize,
        counted_with: Option<&Bound<'_, Framing>>,
    ) -> PyResult<Self> {
        let all = Arc::new(Dictionaries::default());
        for bytes in &dictionaries {
            all.add(Arc::new(Dictionary::new(bytes)?));
        }
        let mut framing =
            framing::Framing::default().with_dictionaries(Arc::clone(&all)).with_max_value_bytes(max_value_bytes);
        if let Some(name) = compress {
            framing = framing.compressed(Compression::named(name)?);
        }
        if let Some(ids) = serializers {
            let known = ids.into_iter().filter_map(Serializer::new).fold(Serializers::NONE, Serializers::with);
            framing = framing.with_serializers(known);
        }
        let encrypt = encrypt.cloned().unwrap_or_else(|| PyString::new(py, "auto").into_any());
        framing = match keyring::sealing(key_ring, &encrypt)? {
            None => framing,
            Some((ring, true)) => framing.sealed(&ring, namespace.as_bytes()),
            Some((ring, false)) => framing.unsealing(&ring, namespace.as_bytes()),
        };
        Ok(Framing {
            framing,
            dictionaries: all,
            refusals: counted_with.map_or_else(Arc::default, |other| Arc::clone(&other.get().refusals)),
        })
    }

    /// The frame of a value, or of "not found" for None, to be stored under `key`. Moments are µs since 1970, `load_time` is µs.
    #[pyo3(signature = (key, value, *, serializer = 1, fresh_until = NEVER, expires = NEVER, load_start = 0, created = 0,
                        load_time = 0, tags = Vec::new(), etag = None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of its own in Python")]
    fn pack<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
        value: Option<&[u8]>,
        serializer: u8,
        fresh_until: u64,
        expires: u64,
        load_start: u64,
        created: u64,
        load_time: u32,
        tags: Vec<String>,
        etag: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let serializer = Serializer::new(serializer).ok_or(Unpackable::UnknownSerializer { id: serializer });
        let value = value.map(|raw| Ok::<_, Unpackable>((serializer?, raw))).transpose()?;
        let stamps = Stamps { fresh_until, expires, load_start, created, load_time };
        let content = Content { value, stamps, tags: &tags, etag, returned: false };
        let length = value.map_or(0, |(_, raw)| raw.len());
        let frame = unlocked(py, length, || self.framing.pack(key, &content))?;
        Ok(PyBytes::new(py, &frame))
    }

    /// What a frame that was stored under `key` says; None, and counted, if it is refused.
    fn unpack(&self, py: Python<'_>, key: &[u8], frame: &[u8]) -> Option<UnpackedFrame> {
        match unlocked(py, frame.len(), || self.framing.unpack(key, frame)) {
            Ok(unpacked) => Some(UnpackedFrame::new(py, &unpacked)),
            Err(refusal) => {
                self.refusals.count(refusal);
                None
            }
        }
    }

    /// From now on this dictionary writes, and those before it read. Returns its id.
    fn rotate(&self, dictionary: &[u8]) -> PyResult<u32> {
        let dictionary = Arc::new(Dictionary::new(dictionary)?);
        let id = dictionary.id();
        self.dictionaries.rotate(dictionary);
        Ok(id)
    }

    /// The ids of the dictionaries, the one that writes first.
    #[getter]
    fn dictionaries(&self) -> Vec<u32> {
        self.dictionaries.ids()
    }

    /// How many frames were refused, by reason.
    #[getter]
    fn refusals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = PyDict::new(py);
        for (refusal, count) in self.refusals.counts() {
            counts.set_item(refusal.name(), count)?;
        }
        Ok(counts)
    }
}

/// Does it, and lets others run meanwhile if it takes long.
pub fn unlocked<T: Send>(py: Python<'_>, length: usize, work: impl FnOnce() -> T + Send) -> T {
    if length < LONG { work() } else { py.detach(work) }
}

/// What a frame said.
#[pyclass(frozen, get_all, module = "samovar._core")]
pub struct UnpackedFrame {
    /// None: there is no value.
    value: Option<Py<PyBytes>>,
    serializer: u8,
    compressor: u8,
    dictionary: u32,
    key_id: u32,
    fresh_until: u64,
    expires: u64,
    load_start: u64,
    created: u64,
    load_time: u32,
    tags: Vec<String>,
    etag: Option<Py<PyBytes>>,
    /// It is worth writing again.
    reseal: bool,
}

impl UnpackedFrame {
    fn new(py: Python<'_>, unpacked: &Unpacked<'_>) -> Self {
        let (header, stamps) = (&unpacked.header, &unpacked.header.stamps);
        UnpackedFrame {
            value: unpacked.value.as_ref().map(|(_, raw)| PyBytes::new(py, raw).unbind()),
            serializer: header.serializer,
            compressor: header.compressor,
            dictionary: header.dictionary,
            key_id: header.key_id,
            fresh_until: stamps.fresh_until,
            expires: stamps.expires,
            load_start: stamps.load_start,
            created: stamps.created,
            load_time: stamps.load_time,
            tags: header.tags.map(str::to_owned).collect(),
            etag: header.etag.map(|etag| PyBytes::new(py, etag).unbind()),
            reseal: unpacked.reseal,
        }
    }
}

/// A zstd dictionary of at most `size` bytes, trained on values such as it is to compress.
///
/// Raises:
///     ConfigError: There is too little to learn from, or `size` cannot be.
#[pyfunction]
#[pyo3(signature = (samples, size = 16384))]
pub fn _train_dictionary<'py>(py: Python<'py>, samples: Vec<Vec<u8>>, size: usize) -> PyResult<Bound<'py, PyBytes>> {
    let trained = py.detach(|| dictionary::train(&samples, size))?;
    Ok(PyBytes::new(py, &trained))
}

impl From<Unpackable> for PyErr {
    fn from(error: Unpackable) -> PyErr {
        Python::attach(|py| errors::codec(py, error.to_string()))
    }
}
