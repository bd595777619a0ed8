//! Keys by id: one writes, all read, so that keys can be changed while frames of the old ones are about.
//!
//! The algorithm belongs to the key and is never read from a frame. No key protects anything itself: each namespace has a
//! subkey of its own, so that a frame of one is worth nothing in another. Keys are wiped from memory when the ring is dropped,
//! and nothing here shows one.

use crate::error::{Error, Result};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The length of a key, in bytes, whatever its algorithm.
pub const KEY_LENGTH: usize = 32;

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Encrypts and authenticates with XChaCha20-Poly1305 (RFC 8439; draft-irtf-cfrg-xchacha-03). Its random nonces of 24 bytes never run
    /// out.
    XChaCha20Poly1305,
    /// Encrypts and authenticates with AES-256-GCM (NIST SP 800-38D). Its random nonces of 12 bytes are good for 2^32 frames of a
    /// namespace; change the key before.
    Aes256Gcm,
    /// Authenticates with keyed BLAKE3, and leaves the value readable.
    Sign,
}

impl Algorithm {
    /// All there are.
    pub const ALL: [Algorithm; 3] = [Algorithm::XChaCha20Poly1305, Algorithm::Aes256Gcm, Algorithm::Sign];

    /// Its name, as users spell it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::XChaCha20Poly1305 => "xchacha20-poly1305",
            Algorithm::Aes256Gcm => "aes-gcm",
            Algorithm::Sign => "sign",
        }
    }

    /// As users name it; `auto` is XChaCha20-Poly1305.
    pub fn named(name: &str) -> Result<Self> {
        let named = Self::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        named.or((name == "auto").then_some(Algorithm::XChaCha20Poly1305)).ok_or_else(|| {
            let cure = "use 'auto' (that is 'xchacha20-poly1305'), 'aes-gcm' or, to authenticate only, 'sign'";
            Error::config("algorithm", format!("{name:?}"), cure)
        })
    }

    /// True if it hides what it protects.
    pub fn encrypts(self) -> bool {
        self != Algorithm::Sign
    }

    /// What its subkeys are derived for (BLAKE3's `derive_key`); part of the format.
    fn purpose(self) -> &'static str {
        match self {
            Algorithm::XChaCha20Poly1305 => "samovar 2026-11 frame 1 subkey xchacha20-poly1305",
            Algorithm::Aes256Gcm => "samovar 2026-11 frame 1 subkey aes-256-gcm",
            Algorithm::Sign => "samovar 2026-11 frame 1 subkey blake3",
        }
    }
}

/// A key, at one place in memory until it is wiped there.
pub(super) struct Secret(Box<Zeroizing<[u8; KEY_LENGTH]>>);

impl Secret {
    fn copied(bytes: &[u8; KEY_LENGTH]) -> Self {
        let mut secret = Secret(Box::default());
        secret.0.copy_from_slice(bytes);
        secret
    }

    pub fn bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

struct Key {
    id: u32,
    algorithm: Algorithm,
    secret: Secret,
}

/// Keys by id. The primary one writes; all read.
pub struct KeyRing {
    keys: Vec<Key>,
    primary: u32,
}

impl KeyRing {
    /// A ring of these keys: id, algorithm and 32 random bytes each. The first writes until [`with_primary`](Self::with_primary) says
    /// another.
    pub fn new<'a>(keys: impl IntoIterator<Item = (u32, Algorithm, &'a [u8])>) -> Result<Self> {
        let mut ring = KeyRing { keys: Vec::new(), primary: 0 };
        for (id, algorithm, bytes) in keys {
            ring.add(id, algorithm, bytes)?;
        }
        match ring.keys.first() {
            Some(first) => ring.primary = first.id,
            None => return Err(Error::config("key_ring", "no keys", "give at least one: {1: 32 random bytes}")),
        }
        Ok(ring)
    }

    fn add(&mut self, id: u32, algorithm: Algorithm, bytes: &[u8]) -> Result<()> {
        let refuse = |value: String, cure: &str| Err(Error::config("key_ring", value, cure));
        if id == 0 {
            return refuse("key id 0".into(), "number keys from 1 on");
        }
        if self.keys.iter().any(|key| key.id == id) {
            return refuse(format!("key id {id} twice"), "give each key an id of its own, and never use one again");
        }
        let Ok(bytes) = bytes.try_into() else {
            let value = format!("a key of {} bytes under id {id}", bytes.len());
            return refuse(value, "give 32 random bytes, such as secrets.token_bytes(32); a password is no key");
        };
        if algorithm.encrypts() && !cfg!(feature = "encryption") {
            return refuse(
                format!("{} under id {id}", algorithm.name()),
                "build samovar with its feature \"encryption\"",
            );
        }
        self.keys.push(Key { id, algorithm, secret: Secret::copied(bytes) });
        Ok(())
    }

    /// The same ring, where this key writes.
    pub fn with_primary(mut self, id: u32) -> Result<Self> {
        if self.keys.iter().all(|key| key.id != id) {
            let cure = format!("name one of the ring's ids: {:?}", self.ids().collect::<Vec<_>>());
            return Err(Error::config("primary", id.to_string(), cure));
        }
        self.primary = id;
        Ok(self)
    }

    /// The id of the key that writes.
    pub fn primary(&self) -> u32 {
        self.primary
    }

    /// All ids, in the order given.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().map(|key| key.id)
    }

    /// What the key with this id does.
    pub fn algorithm(&self, id: u32) -> Option<Algorithm> {
        self.keys.iter().find(|key| key.id == id).map(|key| key.algorithm)
    }

    /// The subkeys of a namespace: id, algorithm and key each.
    pub(super) fn subkeys(&self, namespace: &[u8]) -> impl Iterator<Item = (u32, Algorithm, Secret)> {
        self.keys.iter().map(move |key| (key.id, key.algorithm, subkey(key, namespace)))
    }
}

/// `derive_key(purpose of the algorithm, key ‖ namespace)`, as BLAKE3 has it (section 2.3 of its specification).
fn subkey(key: &Key, namespace: &[u8]) -> Secret {
    let mut hasher = blake3::Hasher::new_derive_key(key.algorithm.purpose());
    hasher.update(key.secret.bytes());
    hasher.update(namespace);
    let mut subkey = Secret(Box::default());
    let mut output = hasher.finalize_xof();
    output.fill(&mut subkey.0[..]);
    output.zeroize();
    hasher.zeroize();
    subkey
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.keys.iter().map(|key| (key.id, key.algorithm.name()));
        write!(f, "KeyRing {{ primary: {}, keys: ", self.primary)?;
        f.debug_map().entries(named).finish()?;
        f.write_str(" }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 32] = [0xA7; 32];
    const B: [u8; 32] = [0xB9; 32];

    #[test]
    fn the_first_key_writes_unless_another_is_named() {
        let ring = || KeyRing::new([(2, Algorithm::Sign, &B[..]), (1, Algorithm::Sign, &A[..])]).unwrap();
        assert_eq!((ring().primary(), ring().with_primary(1).unwrap().primary()), (2, 1));
        assert_eq!(ring().ids().collect::<Vec<_>>(), [2, 1]);
        assert_eq!((ring().algorithm(2), ring().algorithm(3)), (Some(Algorithm::Sign), None));
    }

    #[test]
    fn what_cannot_be_a_ring_is_refused_without_showing_a_key() {
        let refused = |keys: &[(u32, &[u8])]| {
            let keys = keys.iter().map(|&(id, bytes)| (id, Algorithm::Sign, bytes));
            KeyRing::new(keys).unwrap_err().to_string()
        };
        let short = b"correct horse battery staple";
        assert!(refused(&[]).contains("no keys"));
        assert!(refused(&[(0, &A)]).contains("key id 0"));
        assert!(refused(&[(1, &A), (1, &B)]).contains("key id 1 twice"));
        let error = refused(&[(7, short)]);
        assert!(error.contains("28 bytes under id 7") && !error.contains("horse"), "{error}");
        let error = KeyRing::new([(1, Algorithm::Sign, &A[..])]).unwrap().with_primary(5).unwrap_err().to_string();
        assert!(error.contains("primary: 5") && error.contains("[1]"), "{error}");
        let error = Algorithm::named("rot13").unwrap_err().to_string();
        assert!(error.contains("rot13") && error.contains("aes-gcm"), "{error}");
        let encrypting = KeyRing::new([(1, Algorithm::Aes256Gcm, &A[..])]);
        assert_eq!(encrypting.is_ok(), cfg!(feature = "encryption"));
    }

    #[test]
    fn a_ring_never_shows_its_keys() {
        let ring = KeyRing::new([(1, Algorithm::Sign, &A[..])]).unwrap();
        assert_eq!(format!("{ring:?}"), "KeyRing { primary: 1, keys: {1: \"sign\"} }");
    }

    #[test]
    fn subkeys_differ_by_key_namespace_and_algorithm() {
        let all = Algorithm::ALL.map(|algorithm| Key { id: 1, algorithm, secret: Secret::copied(&A) });
        let other = Key { id: 1, algorithm: Algorithm::Sign, secret: Secret::copied(&B) };
        let keys = all.iter().chain([&other]);
        let mut subkeys: Vec<_> =
            keys.flat_map(|key| [&b""[..], b"app", b"app:"].map(|namespace| *subkey(key, namespace).bytes())).collect();
        subkeys.sort_unstable();
        subkeys.dedup();
        assert_eq!(subkeys.len(), 4 * 3);
        assert!(!subkeys.contains(&A));
    }
}
