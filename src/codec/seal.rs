//! Sealing a frame: nobody without the key can change it or make one and, if the key encrypts, nobody can read its value.
//!
//! A frame is *header ‖ nonce ‖ body ‖ tag*. What is authenticated beside the body is *header ‖ key of the entry*, so that a frame
//! is worth nothing under another key, and none of its stamps can be moved. The header's own lengths end it, so no two pairs of
//! header and key give the same bytes. Tags are compared in constant time.
//!
//! Nonces are random and come from the operating system each time: a generator of ours would be copied by a fork, and its
//! nonces used twice.

use super::frame::Protection;
use super::keyring::{Algorithm, KeyRing, Secret};
use super::refusal::Refusal;
use std::borrow::Cow;
use std::fmt;
use zeroize::Zeroize;

/// The subkeys of a namespace, ready for use.
pub struct Sealer {
    keys: Vec<(u32, Cipher)>,
    primary: usize,
}

impl Sealer {
    /// The keys of a ring, for the frames of this namespace.
    pub fn new(ring: &KeyRing, namespace: &[u8]) -> Self {
        let keys = ring.subkeys(namespace).map(|(id, algorithm, key)| (id, Cipher::new(algorithm, key))).collect();
        let primary = ring.ids().position(|id| id == ring.primary()).unwrap_or(0);
        Sealer { keys, primary }
    }

    /// The id of the key that seals, and what its seal does.
    pub fn primary(&self) -> (u32, Protection) {
        let (id, cipher) = &self.keys[self.primary];
        (*id, cipher.protection())
    }

    /// How many bytes of nonce stand between header and body, and how many of tag behind it.
    pub fn around(&self) -> (usize, usize) {
        let cipher = &self.keys[self.primary].1;
        (cipher.nonce_length(), cipher.tag_length())
    }

    /// Seals a frame for an entry's key. Its header, which names the primary key, has `header` bytes; room for the nonce and
    /// the body follow. False if the operating system has no random bytes to give.
    #[must_use]
    pub fn seal(&self, frame: &mut Vec<u8>, header: usize, key: &[u8]) -> bool {
        let cipher = &self.keys[self.primary].1;
        let (head, rest) = frame.split_at_mut(header);
        let (nonce, body) = rest.split_at_mut(cipher.nonce_length());
        if !nonce.is_empty() && getrandom::fill(nonce).is_err() {
            return false;
        }
        let tag = cipher.seal(nonce, &[head, key].concat(), body);
        frame.extend_from_slice(&tag);
        true
    }

    /// The body of a frame for an entry's key, if it is as it was sealed. Its header has `header` bytes.
    pub fn open<'a>(
        &self,
        key_id: u32,
        protection: Protection,
        frame: &'a [u8],
        header: usize,
        key: &[u8],
    ) -> Result<Cow<'a, [u8]>, Refusal> {
        let (_, cipher) = self.keys.iter().find(|(id, _)| *id == key_id).ok_or(Refusal::UnknownKey)?;
        // What the frame says of itself decides nothing; it may only be wrong.
        if protection != cipher.protection() {
            return Err(Refusal::NotAuthentic);
        }
        let (head, rest) = frame.split_at_checked(header).ok_or(Refusal::Truncated)?;
        let (nonce, rest) = rest.split_at_checked(cipher.nonce_length()).ok_or(Refusal::Truncated)?;
        let end = rest.len().checked_sub(cipher.tag_length()).ok_or(Refusal::Truncated)?;
        let (body, tag) = rest.split_at(end);
        cipher.open(nonce, &[head, key].concat(), body, tag).ok_or(Refusal::NotAuthentic)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u32> = self.keys.iter().map(|(id, _)| *id).collect();
        f.debug_struct("Sealer").field("ids", &ids).field("primary", &self.primary().0).finish()
    }
}

/// A subkey, as its algorithm wants it.
enum Cipher {
    #[cfg(feature = "encryption")]
    XChaCha(Box<chacha20poly1305::XChaCha20Poly1305>),
    #[cfg(feature = "encryption")]
    AesGcm(Box<aes_gcm::Aes256Gcm>),
    Sign(Secret),
}

impl Cipher {
    fn new(algorithm: Algorithm, key: Secret) -> Self {
        #[cfg(feature = "encryption")]
        use aes_gcm::KeyInit;
        match algorithm {
            #[cfg(feature = "encryption")]
            Algorithm::XChaCha20Poly1305 => {
                Cipher::XChaCha(Box::new(chacha20poly1305::XChaCha20Poly1305::new(key.bytes().into())))
            }
            #[cfg(feature = "encryption")]
            Algorithm::Aes256Gcm => Cipher::AesGcm(Box::new(aes_gcm::Aes256Gcm::new(key.bytes().into()))),
            #[cfg(not(feature = "encryption"))]
            Algorithm::XChaCha20Poly1305 | Algorithm::Aes256Gcm => {
                unreachable!("a key ring has no such key without the feature")
            }
            Algorithm::Sign => Cipher::Sign(key),
        }
    }

    fn protection(&self) -> Protection {
        match self {
            Cipher::Sign(_) => Protection::Signed,
            #[cfg(feature = "encryption")]
            _ => Protection::Encrypted,
        }
    }

    fn nonce_length(&self) -> usize {
        match self {
            #[cfg(feature = "encryption")]
            Cipher::XChaCha(_) => 24,
            #[cfg(feature = "encryption")]
            Cipher::AesGcm(_) => 12,
            Cipher::Sign(_) => 0,
        }
    }

    fn tag_length(&self) -> usize {
        match self {
            Cipher::Sign(_) => blake3::OUT_LEN,
            #[cfg(feature = "encryption")]
            _ => 16,
        }
    }

    /// Encrypts the body where it stands, and gives its tag.
    #[cfg_attr(not(feature = "encryption"), expect(unused_variables, reason = "what signs takes no nonce"))]
    fn seal(&self, nonce: &[u8], associated: &[u8], body: &mut [u8]) -> Vec<u8> {
        match self {
            #[cfg(feature = "encryption")]
            Cipher::XChaCha(cipher) => encrypt(&**cipher, nonce, associated, body),
            #[cfg(feature = "encryption")]
            Cipher::AesGcm(cipher) => encrypt(&**cipher, nonce, associated, body),
            Cipher::Sign(key) => signature(key, associated, body).as_bytes().to_vec(),
        }
    }

    #[cfg_attr(not(feature = "encryption"), expect(unused_variables, reason = "what signs takes no nonce"))]
    fn open<'a>(&self, nonce: &[u8], associated: &[u8], body: &'a [u8], tag: &[u8]) -> Option<Cow<'a, [u8]>> {
        match self {
            #[cfg(feature = "encryption")]
            Cipher::XChaCha(cipher) => decrypt(&**cipher, nonce, associated, body, tag),
            #[cfg(feature = "encryption")]
            Cipher::AesGcm(cipher) => decrypt(&**cipher, nonce, associated, body, tag),
            Cipher::Sign(key) => {
                let expected = signature(key, associated, body);
                // BLAKE3's own comparison, in constant time.
                (expected == blake3::Hash::from_bytes(tag.try_into().ok()?)).then_some(Cow::Borrowed(body))
            }
        }
    }
}

/// Keyed BLAKE3 over the length of the associated data, in 8 bytes, the data and the body.
fn signature(key: &Secret, associated: &[u8], body: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key.bytes());
    hasher.update(&(associated.len() as u64).to_be_bytes()).update(associated).update(body);
    let signature = hasher.finalize();
    hasher.zeroize();
    signature
}

#[cfg(feature = "encryption")]
fn encrypt<C: aes_gcm::AeadInOut>(cipher: &C, nonce: &[u8], associated: &[u8], body: &mut [u8]) -> Vec<u8> {
    let nonce = nonce.try_into().expect("a nonce of the cipher's own length");
    let sealed = cipher.encrypt_inout_detached(nonce, associated, body.into());
    sealed.expect("a frame is shorter than a cipher's limit").to_vec()
}

#[cfg(feature = "encryption")]
fn decrypt<'a, C: aes_gcm::AeadInOut>(
    cipher: &C,
    nonce: &[u8],
    associated: &[u8],
    body: &[u8],
    tag: &[u8],
) -> Option<Cow<'a, [u8]>> {
    let mut plain = body.to_vec();
    let (nonce, tag) = (nonce.try_into().ok()?, tag.try_into().ok()?);
    cipher.decrypt_inout_detached(nonce, associated, plain.as_mut_slice().into(), tag).ok()?;
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealer_never_shows_its_keys() {
        let ring = KeyRing::new([(9, Algorithm::Sign, &[0xA7; 32][..])]).unwrap();
        assert_eq!(format!("{:?}", Sealer::new(&ring, b"")), "Sealer { ids: [9], primary: 9 }");
    }

    #[test]
    fn data_and_body_cannot_be_told_apart_wrongly() {
        let ring = KeyRing::new([(1, Algorithm::Sign, &[0xA7; 32][..])]).unwrap();
        let (_, _, key) = ring.subkeys(b"").next().unwrap();
        assert_ne!(signature(&key, b"ab", b"c"), signature(&key, b"a", b"bc"));
    }
}
