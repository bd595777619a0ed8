//! From values to bytes and back: the one trait that serializers implement, and those that come with the crate.
//!
//! A serializer knows nothing of frames, compression or keys. What it reads was authenticated before, or has to be harmless
//! whatever it says.

use std::fmt;

/// What could not be written or read, and why. Nothing has been stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError {
    why: String,
}

impl CodecError {
    /// An error that says this.
    pub fn new(why: impl Into<String>) -> Self {
        CodecError { why: why.into() }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for CodecError {}

impl From<super::msgpack::Malformed> for CodecError {
    fn from(malformed: super::msgpack::Malformed) -> Self {
        CodecError::new(format!("no MessagePack of ours: {malformed}"))
    }
}

/// Which serializer wrote a body: one byte of its frame. From [`FIRST_OF_USERS`](Self::FIRST_OF_USERS) on they are the users' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SerializerId(pub u8);

impl SerializerId {
    /// MessagePack with our extension types: the default.
    pub const MSGPACK: SerializerId = SerializerId(1);
    /// JSON.
    pub const JSON: SerializerId = SerializerId(2);
    /// Python's pickle. Whoever reads it runs what it says: only ever from an authenticated frame.
    pub const PICKLE: SerializerId = SerializerId(3);
    /// One byte, 0 for bytes and 1 for text, and then these.
    pub const RAW: SerializerId = SerializerId(4);
    /// The first that a user's own serializer may have.
    pub const FIRST_OF_USERS: SerializerId = SerializerId(128);

    /// The serializer of that name, if it is one that comes with Samovar.
    pub fn of_name(name: &str) -> Option<SerializerId> {
        match name {
            "msgpack" => Some(Self::MSGPACK),
            "json" => Some(Self::JSON),
            "pickle" => Some(Self::PICKLE),
            "raw" => Some(Self::RAW),
            _ => None,
        }
    }

    /// True for bytes that must not be read unless it is certain who wrote them.
    pub fn needs_authentication(self) -> bool {
        self == Self::PICKLE
    }
}

/// Writes values of type `T` as bytes, and reads them.
pub trait Serializer<T> {
    /// What a frame says of who wrote its body.
    fn id(&self) -> SerializerId;

    /// Appends the value to `out`; after an error the end of `out` is undefined.
    ///
    /// # Errors
    /// [`CodecError`] for a value it has no form for.
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads the value that is exactly these bytes. Never panics, and allocates no more than a constant times them.
    ///
    /// # Errors
    /// [`CodecError`] if they are none, or of another type.
    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError>;
}

/// MessagePack: see [`msgpack`](super::msgpack).
#[derive(Clone, Copy, Debug, Default)]
pub struct MsgPack;

#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Serializer<T> for MsgPack {
    fn id(&self) -> SerializerId {
        SerializerId::MSGPACK
    }
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        super::msgpack::write_to(out, value)
    }
    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        super::msgpack::from_slice(bytes)
    }
}

/// JSON, with floats that come back bit by bit; nan and infinities become null, for which it has no other word.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Serializer<T> for Json {
    fn id(&self) -> SerializerId {
        SerializerId::JSON
    }
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(|error| CodecError::new(format!("no JSON for the value: {error}")))
    }
    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes)
            .map_err(|error| CodecError::new(format!("no JSON of the type asked for: {error}")))
    }
}

/// Bytes or text as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
}

/// Bytes or text as they are, behind one byte that says which.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawBytes;

impl Serializer<Raw> for RawBytes {
    fn id(&self) -> SerializerId {
        SerializerId::RAW
    }
    fn encode(&self, value: &Raw, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let (kind, bytes) = match value {
            Raw::Bytes(bytes) => (0, bytes.as_slice()),
            Raw::Text(text) => (1, text.as_bytes()),
        };
        out.push(kind);
        out.extend_from_slice(bytes);
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<Raw, CodecError> {
        let text = |bytes: &[u8]| {
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| CodecError::new("raw text that is not UTF-8"))
        };
        match bytes {
            [0, bytes @ ..] => Ok(Raw::Bytes(bytes.to_vec())),
            [1, bytes @ ..] => Ok(Raw::Text(text(bytes)?)),
            _ => Err(CodecError::new("neither raw bytes nor raw text")),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::ser::Error for CodecError {
    fn custom<T: fmt::Display>(why: T) -> Self {
        CodecError::new(why.to_string())
    }
}

#[cfg(feature = "serde")]
impl serde::de::Error for CodecError {
    fn custom<T: fmt::Display>(why: T) -> Self {
        CodecError::new(why.to_string())
    }
}
