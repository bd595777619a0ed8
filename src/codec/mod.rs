//! What leaves the process: bytes in, bytes out.
//!
//! A value that is stored outside is one *frame*, which [`Framing`](framing::Framing) packs and unpacks for every tier: a plain
//! header ([`frame`]), then the value as a serializer wrote it, perhaps compressed ([`compress`], [`dictionary`]), perhaps sealed
//! ([`seal`], under a key of a [`keyring`]). A store puts an [`envelope`] around it. docs/frame.md has every byte.
//!
//! Whatever comes from outside is untrusted: reading ends with the value or with a [`Refusal`](refusal::Refusal), never with a panic,
//! and never allocates more than the caller has allowed. Nothing here does I/O but ask the operating system for nonces, and
//! nothing asks for the time. What the bytes of a value mean is the business of the serializers: [`msgpack`], the default, and
//! others of [`values`].

mod bytes;
pub mod compress;
#[cfg(feature = "zstd")]
pub mod dictionary;
pub mod envelope;
pub mod frame;
pub mod framing;
pub mod keyring;
pub mod msgpack;
pub mod refusal;
pub mod seal;
pub mod serializer;
pub mod values;
