//! Frames by readers that ask for no seal, with a dictionary, and by one that asks for one: a value within its limit, or a refusal; a
//! header that was read is what would be written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar::codec::dictionary::{Dictionaries, Dictionary};
use samovar::codec::frame::Header;
use samovar::codec::framing::Framing;
use samovar::codec::keyring::{Algorithm, KeyRing};
use std::sync::{Arc, LazyLock};

const MOST: usize = 1 << 20;

static OPEN: LazyLock<Framing> = LazyLock::new(|| {
    let dictionaries = Dictionaries::default();
    let bytes = include_bytes!("../../tests/vectors/dictionary.zstd");
    dictionaries.rotate(Arc::new(Dictionary::new(bytes).expect("a trained dictionary")));
    Framing::default().with_max_value_bytes(MOST).with_dictionaries(Arc::new(dictionaries))
});
static SEALED: LazyLock<Framing> = LazyLock::new(|| {
    let keys = [
        (1, Algorithm::XChaCha20Poly1305, &[1; 32][..]),
        (2, Algorithm::Aes256Gcm, &[2; 32]),
        (3, Algorithm::Sign, &[3; 32]),
    ];
    Framing::default().with_max_value_bytes(MOST).sealed(&KeyRing::new(keys).expect("a ring"), b"")
});

fuzz_target!(|frame: &[u8]| {
    if let Ok(header) = Header::read(frame) {
        let mut out = Vec::new();
        header.write(&mut out);
        assert_eq!(out, frame[..header.len()]);
    }
    if let Ok(unpacked) = OPEN.unpack(b"key", frame) {
        assert!(
            unpacked.value.is_none_or(|(_, raw)| raw.len() == unpacked.header.raw_length as usize && raw.len() <= MOST)
        );
    }
    assert!(SEALED.unpack(b"key", frame).is_err(), "nobody who does not have a key can make a frame");
});
