//! Frames there and back, and all that must not come back.

use super::super::keyring::Algorithm;
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::LazyLock;

const KEY: &[u8] = b"app:users:7";
const STAMPS: Stamps =
    Stamps { fresh_until: 2_000_000, expires: 3_000_000, load_start: 900_000, created: 1_000_000, load_time: 41_000 };

fn algorithms() -> impl Iterator<Item = Algorithm> {
    Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.encrypts() || cfg!(feature = "encryption"))
}

fn ring(keys: &[(u32, Algorithm)]) -> KeyRing {
    let bytes: Vec<[u8; 32]> = keys.iter().map(|(id, _)| [*id as u8; 32]).collect();
    KeyRing::new(keys.iter().zip(&bytes).map(|(&(id, algorithm), bytes)| (id, algorithm, &bytes[..]))).unwrap()
}

/// Sealed with key 1.
fn sealing(algorithm: Algorithm) -> Framing {
    Framing::default().sealed(&ring(&[(1, algorithm)]), b"users")
}

fn compressions() -> impl Iterator<Item = Compression> {
    Compressor::ALL.into_iter().filter(|compressor| compressor.is_built()).map(Compression::with)
}

/// Every way to write that this build has, each by a framing of its own.
static FRAMINGS: LazyLock<Vec<Framing>> = LazyLock::new(framings);

fn framings() -> Vec<Framing> {
    let ways = || std::iter::once(None).chain(compressions().map(Some));
    let protections = || std::iter::once(None).chain(algorithms().map(Some));
    let pairs = protections().flat_map(|protection| ways().map(move |way| (protection, way)));
    pairs
        .map(|(protection, way)| {
            let framing = protection.map_or_else(Framing::default, sealing);
            if let Some(way) = way { framing.compressed(way) } else { framing }
        })
        .collect()
}

fn of(raw: &[u8]) -> Content<'_> {
    Content {
        value: Some((Serializer::MSGPACK, raw)),
        stamps: STAMPS,
        tags: &["users", "ü"],
        etag: Some(b"\"v1\""),
        returned: false,
    }
}

fn text() -> Vec<u8> {
    b"{\"name\": \"value\", \"next\": [1, 2, 3]} ".repeat(40)
}

fn refused(framing: &Framing, frame: &[u8]) -> Option<Refusal> {
    framing.unpack(KEY, frame).err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_was_packed_is_unpacked(
        piece in vec(any::<u8>(), 0..200), times in 0_usize..40, missing in any::<bool>(),
        tags in vec(".{0,9}", 0..3), etag in proptest::option::of(vec(any::<u8>(), 0..9)), key in vec(any::<u8>(), 0..50),
    ) {
        let raw = piece.repeat(times);
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let value = (!missing).then_some((Serializer::BYTES, &raw[..]));
        let content = Content { value, stamps: STAMPS, tags: &tags, etag: etag.as_deref(), returned: true };
        for framing in &*FRAMINGS {
            let frame = framing.pack(&key, &content).unwrap();
            let unpacked = framing.unpack(&key, &frame).unwrap();
            prop_assert_eq!(unpacked.header.stamps, STAMPS);
            prop_assert_eq!(unpacked.header.tags.collect::<Vec<_>>(), tags.clone());
            prop_assert_eq!(unpacked.header.etag, etag.as_deref());
            prop_assert_eq!(unpacked.value.as_ref().map(|(serializer, raw)| (*serializer, &raw[..])), value);
            prop_assert!(!unpacked.reseal);
        }
    }

    #[test]
    fn arbitrary_bytes_are_a_value_or_a_refusal(bytes in vec(any::<u8>(), 0..200), whole_header in any::<bool>()) {
        for framing in &*FRAMINGS {
            let mut frame = if whole_header { framing.pack(KEY, &of(&text())).unwrap() } else { Vec::new() };
            frame.truncate(frame::LENGTH + 17);
            frame.extend_from_slice(&bytes);
            if let Ok(unpacked) = framing.unpack(KEY, &frame) {
                prop_assert!(framing.sealer.is_none());
                prop_assert!(unpacked.value.is_none_or(|(_, raw)| raw.len() == unpacked.header.raw_length as usize));
            }
        }
    }

    #[test]
    fn a_change_anywhere_in_a_frame_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        for framing in &*FRAMINGS {
            let mut frame = framing.pack(KEY, &of(&text())).unwrap();
            *at.get_mut(&mut frame) = byte;
            let _ = framing.unpack(KEY, &frame);
        }
    }
}

#[test]
fn a_frame_with_any_bit_changed_is_refused_if_it_is_authenticated() {
    for framing in FRAMINGS.iter().filter(|framing| framing.seals) {
        let frame = framing.pack(KEY, &of(&text()[..300])).unwrap();
        for at in 0..frame.len() {
            for bit in 0..8 {
                let mut changed = frame.clone();
                changed[at] ^= 1 << bit;
                assert!(refused(framing, &changed).is_some(), "bit {bit} of byte {at} of {}", frame.len());
            }
        }
    }
}

#[test]
fn a_frame_that_ends_early_or_goes_on_is_refused() {
    for framing in &*FRAMINGS {
        let mut frame = framing.pack(KEY, &of(&text())).unwrap();
        for end in 0..frame.len() {
            assert!(refused(framing, &frame[..end]).is_some(), "{end} of {}: {framing:?}", frame.len());
        }
        frame.push(0);
        assert!(refused(framing, &frame).is_some(), "one more: {framing:?}");
    }
}

#[test]
fn a_sealed_frame_is_worth_nothing_under_another_key_namespace_or_ring() {
    for algorithm in algorithms() {
        let framing = sealing(algorithm);
        let frame = framing.pack(KEY, &of(b"mine")).unwrap();
        for key in [&b""[..], b"app:users:8", b"app:users:77", b"pp:users:7"] {
            assert_eq!(framing.unpack(key, &frame).unwrap_err(), Refusal::NotAuthentic);
        }
        let elsewhere = Framing::default().sealed(&ring(&[(1, algorithm)]), b"products");
        assert_eq!(refused(&elsewhere, &frame), Some(Refusal::NotAuthentic));
        let other_key = KeyRing::new([(1, algorithm, &[9; 32][..])]).unwrap();
        assert_eq!(refused(&Framing::default().sealed(&other_key, b"users"), &frame), Some(Refusal::NotAuthentic));
        let without = Framing::default().sealed(&ring(&[(2, algorithm)]), b"users");
        assert_eq!(refused(&without, &frame), Some(Refusal::UnknownKey));
        assert_eq!(refused(&Framing::default(), &frame), Some(Refusal::UnknownKey));
    }
}

#[test]
fn the_algorithm_is_that_of_the_key_whatever_the_frame_says() {
    for written in algorithms() {
        let frame = sealing(written).pack(KEY, &of(b"mine")).unwrap();
        for read in algorithms().filter(|read| *read != written) {
            for flags in 0..=u8::MAX {
                let mut frame = frame.clone();
                frame[1] = flags;
                assert!(refused(&sealing(read), &frame).is_some());
            }
        }
    }
}

#[test]
fn whoever_asks_for_a_seal_reads_nothing_without_one() {
    let frame = Framing::default().pack(KEY, &of(b"forged")).unwrap();
    for algorithm in algorithms() {
        assert_eq!(refused(&sealing(algorithm), &frame), Some(Refusal::Unsealed));
        let sealed = sealing(algorithm).pack(KEY, &of(b"mine")).unwrap();
        let way_back = Framing::default().unsealing(&ring(&[(1, algorithm)]), b"users");
        assert!(way_back.unpack(KEY, &sealed).unwrap().reseal);
        assert!(!way_back.unpack(KEY, &frame).unwrap().reseal);
        assert_eq!(way_back.pack(KEY, &of(b"forged")).unwrap(), frame);
    }
}

#[test]
fn pickle_is_written_and_read_only_on_request_and_under_a_seal() {
    let with_pickle = Serializers::DATA.with(Serializer::PICKLE);
    let pickled = Content { value: Some((Serializer::PICKLE, b"\x80\x05N.")), ..of(b"") };
    let open = Framing::default().with_serializers(with_pickle);
    assert_eq!(open.pack(KEY, &pickled), Err(Unpackable::NeedsSeal));
    let sealed = sealing(Algorithm::Sign).with_serializers(with_pickle);
    let frame = sealed.pack(KEY, &pickled).unwrap();
    assert!(sealed.unpack(KEY, &frame).is_ok());
    assert_eq!(refused(&sealing(Algorithm::Sign), &frame), Some(Refusal::UnknownSerializer));
    assert_eq!(sealing(Algorithm::Sign).pack(KEY, &pickled), Err(Unpackable::UnknownSerializer { id: 5 }));
    let mut forged = Framing::default().pack(KEY, &of(b"\x80\x05N.")).unwrap();
    forged[2] = Serializer::PICKLE.id();
    assert_eq!(refused(&open, &forged), Some(Refusal::Unsealed));
}

#[test]
fn after_a_change_of_keys_old_frames_are_read_and_worth_writing_again() {
    let ids = |primary| ring(&[(1, Algorithm::Sign), (2, Algorithm::Sign)]).with_primary(primary).unwrap();
    let before = Framing::default().sealed(&ids(1), b"");
    let after = Framing::default().sealed(&ids(2), b"");
    let (old, new) = (before.pack(KEY, &of(b"mine")).unwrap(), after.pack(KEY, &of(b"mine")).unwrap());
    assert_eq!(after.unpack(KEY, &old).unwrap().header.key_id, 1);
    let reseal = |framing: &Framing, frame: &[u8]| framing.unpack(KEY, frame).unwrap().reseal;
    assert!(reseal(&after, &old) && !reseal(&after, &new) && !reseal(&before, &old) && reseal(&before, &new));
}

#[cfg(feature = "encryption")]
#[test]
fn no_nonce_is_used_twice_and_nothing_of_the_value_shows() {
    for algorithm in [Algorithm::XChaCha20Poly1305, Algorithm::Aes256Gcm] {
        let framing = sealing(algorithm);
        let frames: std::collections::HashSet<_> =
            (0..1000).map(|_| framing.pack(KEY, &of(b"correct horse battery staple")).unwrap()).collect();
        assert_eq!(frames.len(), 1000);
        assert!(frames.iter().all(|frame| !frame.windows(5).any(|window| window == b"horse")));
    }
}

#[test]
fn a_value_larger_than_allowed_is_neither_written_nor_read() {
    let small = Framing::default().with_max_value_bytes(100);
    assert!(small.pack(KEY, &of(&[0; 100])).is_ok());
    assert_eq!(small.pack(KEY, &of(&[0; 101])), Err(Unpackable::TooLarge { bytes: 101, most: 100 }));
    let frame = Framing::default().pack(KEY, &of(&[0; 101])).unwrap();
    assert_eq!(refused(&small, &frame), Some(Refusal::TooLarge));
    for compression in compressions() {
        let frame = Framing::default().compressed(compression).pack(KEY, &of(&[0; 100_000])).unwrap();
        assert_eq!(refused(&small, &frame), Some(Refusal::TooLarge));
    }
}

#[test]
fn what_does_not_fit_a_header_is_refused_when_it_is_written() {
    let long = "t".repeat(frame::LONGEST + 1);
    let framing = Framing::default();
    assert_eq!(framing.pack(KEY, &Content { tags: &[&long], ..of(b"") }), Err(Unpackable::TooManyTags));
    let many = vec!["t"; frame::LONGEST + 1];
    assert_eq!(framing.pack(KEY, &Content { tags: &many, ..of(b"") }), Err(Unpackable::TooManyTags));
    assert_eq!(framing.pack(KEY, &Content { etag: Some(long.as_bytes()), ..of(b"") }), Err(Unpackable::TooManyTags));
    let (most, longest) = (&many[1..], &long[1..]);
    let frame = framing.pack(KEY, &Content { tags: most, etag: Some(longest.as_bytes()), ..of(b"") }).unwrap();
    assert_eq!(framing.unpack(KEY, &frame).unwrap().header.tags.count(), most.len());
}

#[test]
fn lengths_that_lie_are_refused() {
    for framing in FRAMINGS.iter().filter(|framing| !framing.seals) {
        let frame = framing.pack(KEY, &of(&text())).unwrap();
        for length in [0, 1, 1_439, 1_441, 60 << 20, u32::MAX] {
            let mut lie = frame.clone();
            lie[40..44].copy_from_slice(&length.to_be_bytes());
            assert!(refused(framing, &lie).is_some(), "{length}: {framing:?}");
        }
    }
}

#[test]
fn compression_never_makes_a_value_longer_and_leaves_short_ones_alone() {
    let mut noise = vec![0; 5000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let plain = Framing::default().pack(KEY, &of(&noise)).unwrap();
    for compression in compressions() {
        assert_eq!(Framing::default().compressed(compression).pack(KEY, &of(&noise)).unwrap(), plain);
    }
    let Ok(auto) = Compression::named("auto") else { return };
    let auto = Framing::default().compressed(auto);
    let compressed = |length: usize| {
        let frame = auto.pack(KEY, &of(&b"x".repeat(length))).unwrap();
        auto.unpack(KEY, &frame).unwrap().header.compressor
    };
    assert_eq!((compressed(1023), compressed(1024)), (0, Compressor::Zstd.id()));
}

#[cfg(feature = "zstd")]
mod with_dictionaries {
    use super::super::super::dictionary::{Dictionary, train};
    use super::*;

    fn record(kind: &str, n: usize) -> Vec<u8> {
        format!(
            "{{\"{kind}\": {n}, \"name\": \"{kind} number {n}\", \"of\": [\"what there is of {kind}\", {}]}}",
            n * n % 97
        )
        .repeat(2)
        .into_bytes()
    }

    fn dictionary(kind: &str) -> Arc<Dictionary> {
        let samples: Vec<_> = (0..1000).map(|n| record(kind, n)).collect();
        Arc::new(Dictionary::new(&train(&samples, 2048).unwrap()).unwrap())
    }

    #[test]
    fn a_dictionary_is_named_in_the_frame_and_old_ones_stay_readable() {
        let dictionaries = Arc::new(Dictionaries::default());
        let framing = Framing::default().compressed(Compression::auto()).with_dictionaries(Arc::clone(&dictionaries));
        let raw = record("user", 1100);
        assert!(raw.len() < 1024, "too short to be compressed without one");
        let without = framing.pack(KEY, &of(&raw)).unwrap();
        let users = dictionary("user");
        dictionaries.rotate(Arc::clone(&users));
        let with = framing.pack(KEY, &of(&raw)).unwrap();
        assert!(with.len() * 2 < without.len(), "{} against {}", with.len(), without.len());
        dictionaries.rotate(dictionary("product"));
        for frame in [&without, &with] {
            assert_eq!(framing.unpack(KEY, frame).unwrap().value.unwrap().1, raw);
        }
        assert_eq!(framing.unpack(KEY, &with).unwrap().header.dictionary, users.id());
        let stranger = Framing::default();
        assert_eq!(stranger.unpack(KEY, &with).unwrap_err(), Refusal::UnknownDictionary);
        assert!(stranger.unpack(KEY, &without).is_ok());
    }

    #[test]
    fn a_dictionary_is_for_zstd_and_for_nothing_shorter_than_it_is_worth() {
        let dictionaries = Arc::new(Dictionaries::default());
        dictionaries.rotate(dictionary("user"));
        let with =
            |compression| Framing::default().compressed(compression).with_dictionaries(Arc::clone(&dictionaries));
        let auto = with(Compression::auto());
        let header = |framing: &Framing, raw: &[u8]| {
            let frame = framing.pack(KEY, &of(raw)).unwrap();
            let header = framing.unpack(KEY, &frame).unwrap().header;
            (header.compressor, header.dictionary != 0)
        };
        let raw = record("user", 1100);
        assert_eq!(header(&auto, &raw[..127]), (0, false));
        assert_eq!(header(&auto, &raw[..128]), (1, true));
        #[cfg(feature = "lz4")]
        assert_eq!(header(&with(Compression::with(Compressor::Lz4)), &text()), (2, false));
        let mut frame = auto.pack(KEY, &of(&raw)).unwrap();
        frame[3] = Compressor::Lz4.id();
        let expected = if Compressor::Lz4.is_built() { Refusal::Malformed } else { Refusal::UnknownCompressor };
        assert_eq!(refused(&auto, &frame), Some(expected), "lz4 with a dictionary");
    }
}
