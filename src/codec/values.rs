//! From values to bytes and back: the one trait that codecs implement, and those that come with the crate.
//!
//! A codec knows nothing of frames, compression or keys. What it reads was authenticated before, or has to be harmless
//! whatever it says.

use super::serializer::Serializer;
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

/// What [`Raw`] values are written by: behind the ids of [`Serializer`] that leave no choice between bytes and text.
pub const RAW: Serializer = Serializer::new(6).unwrap();

/// Writes values of type `T` as bytes, and reads them.
pub trait Codec<T> {
    /// What a frame says of who wrote its value.
    fn id(&self) -> Serializer;

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
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for MsgPack {
    fn id(&self) -> Serializer {
        Serializer::MSGPACK
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
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Json {
    fn id(&self) -> Serializer {
        Serializer::JSON
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

impl Codec<Raw> for RawBytes {
    fn id(&self) -> Serializer {
        RAW
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

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back<T: PartialEq + fmt::Debug>(codec: impl Codec<T>, value: T) -> Vec<u8> {
        let mut out = b"before".to_vec();
        codec.encode(&value, &mut out).unwrap();
        assert!(out.starts_with(b"before"));
        let bytes = out.split_off(6);
        assert_eq!(codec.decode(&bytes).unwrap(), value);
        bytes
    }

    #[test]
    fn raw_values_are_behind_one_byte() {
        assert_eq!(comes_back(RawBytes, Raw::Bytes(vec![255])), [0, 255]);
        assert_eq!(comes_back(RawBytes, Raw::Text("é".into())), [1, 0xc3, 0xa9]);
        for bad in [&[][..], &[2], &[1, 0xff]] {
            assert!(RawBytes.decode(bad).is_err());
        }
    }

    #[cfg(feature = "json")]
    #[test]
    fn each_codec_brings_back_values_of_rust() {
        let value = vec![(1u8, 0.1f64 + 0.2, Some("a".to_owned())), (2, 1e-300, None)];
        assert_eq!(comes_back(Json, value.clone()), br#"[[1,0.30000000000000004,"a"],[2,1e-300,null]]"#);
        assert_eq!(comes_back(MsgPack, value)[0], 0x92);
        let found: Result<Vec<u8>, _> = Json.decode(b"[1,");
        assert!(found.unwrap_err().to_string().starts_with("no JSON of the type asked for: EOF"));
    }
}
