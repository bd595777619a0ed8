//! Frames that somebody else wrote, as a Rust program reads them through its cache: Python's values as the types that Rust has for them.

use super::World;
use samovar::Cache;
use samovar::codec::frame::Stamps;
use samovar::codec::framing::{Content, Framing};
use samovar::codec::msgpack::{BigInt, Complex, Decimal, FrozenSet, Set, Uuid};
use samovar::codec::serializer::Serializer;
use samovar::core::coherence::Known;
use samovar::io::store::Store;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

fn rows(name: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Whoever writes has asked the cache's clock before: what is older than that is gone.
async fn has_clock(store: &dyn Store) {
    store.registers("app", Known::default()).await.unwrap();
}

/// Puts what Python writes for the value of this name into a store, and reads it as a `V`.
async fn read<V>(name: &str) -> Option<V>
where
    V: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    let World { clock, wire, .. } = World::new();
    let row = rows("msgpack.tsv").into_iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no vector {name}"));
    let raw = bytes(&row[1]);
    let (fresh_until, expires) = (u64::MAX, u64::MAX);
    let stamps = Stamps { fresh_until, expires, ..Stamps::default() };
    let content = Content {
        value: Some((Serializer::MSGPACK, &raw)),
        stamps,
        tags: &["users"],
        etag: Some(b"v1"),
        returned: false,
    };
    let frame = Framing::default().pack(b"app::a", &content).unwrap();
    let store: &dyn Store = &*wire;
    has_clock(store).await;
    store.put("app::a", frame, None).await.unwrap();
    let cache: Cache<String, V> = Cache::builder().name("app").clock(clock).remote(Arc::clone(&wire)).build();
    cache.fetch("a").await.unwrap()
}

async fn is<V>(name: &str, value: V)
where
    V: Serialize + DeserializeOwned + Clone + Send + Sync + PartialEq + Debug + 'static,
{
    assert_eq!(read(name).await, Some(value), "{name}");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bytes(#[serde(with = "raw")] Vec<u8>);

mod raw {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Raw;
        impl Visitor<'_> for Raw {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Raw)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "travellers.Colour")]
enum Colour {
    #[serde(rename = "RED")]
    Red,
    #[serde(rename = "BLUE")]
    Blue,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "travellers.Point")]
struct Point {
    x: i64,
    y: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "travellers.Pair")]
struct Pair {
    key: String,
    values: Vec<i64>,
}

#[tokio::test]
async fn numbers_text_and_bytes_that_python_wrote_are_those_of_rust() {
    is("nil", None::<u64>).await;
    is("true", true).await;
    is("one byte more", 128_u8).await;
    is("largest without a sign", u64::MAX).await;
    is("smallest of 64 bits", i64::MIN).await;
    is("beyond 64 bits", 1_u128 << 64).await;
    is("beyond 64 bits", BigInt(vec![1, 0, 0, 0, 0, 0, 0, 0, 0])).await;
    is("below 64 bits", i128::from(i64::MIN) - 1).await;
    is("one and a half", 1.5_f64).await;
    is("infinity", f64::INFINITY).await;
    assert!(read::<f64>("nan").await.unwrap().is_nan());
    is("text beyond ascii", "чай 🫖".to_owned()).await;
    is("bytes", Bytes(vec![0, 255])).await;
    assert_eq!(read::<u8>("two bytes").await, None, "what does not fit is no value, and no panic");
}

#[tokio::test]
async fn containers_that_python_wrote_are_those_of_rust() {
    is("list of 16", vec![0_u8; 16]).await;
    is("tuple", (1_u8, "a".to_owned())).await;
    is("tuple of tuples", ((1_u8,), [0_u8; 0])).await;
    is("set", BTreeSet::from([7_u8])).await;
    is("set", Set(vec![7_u8])).await;
    is("frozenset", FrozenSet(vec!["a".to_owned()])).await;
    is("empty dict", BTreeMap::<String, u8>::new()).await;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Two {
        a: u8,
        b: Vec<u8>,
    }
    is("dict", Two { a: 1, b: vec![2] }).await;
}

#[tokio::test]
async fn what_rust_has_no_type_for_is_a_wrapper_or_a_struct() {
    is("decimal", Decimal("-1.50".into())).await;
    is("uuid", Uuid([18, 52, 86, 120, 18, 52, 86, 120, 18, 52, 86, 120, 18, 52, 86, 120])).await;
    is("complex", Complex(1.5, 0.0)).await;
    is("enum", Colour::Red).await;
    is("dataclass", Point { x: 1, y: 2.5 }).await;
    is("named tuple", Pair { key: "a".into(), values: vec![1] }).await;
}

/// The frames of tests/vectors, in a store as they are. Some end on a day of their own; a sealed one cannot be given another.
#[cfg(feature = "codecs")]
#[tokio::test]
async fn whole_frames_of_another_writer_are_read_packed_and_sealed() {
    use super::wire::Wire;
    use samovar::codec::keyring::{Algorithm, KeyRing};
    use samovar::{Clock, Remote};
    let all = rows("frames.tsv");
    let column = |name: &str| all[0].iter().position(|other| other == name).unwrap();
    let (clock, mut read) = (Clock::system(), 0);
    clock.freeze();
    for row in &all[1..] {
        let cell = |name: &str| row[column(name)].as_str();
        let (serializer, dictionary, key_id) = (cell("serializer"), cell("dictionary"), cell("key_id"));
        if (cell("outcome"), serializer, dictionary) != ("ok", "3", "0") {
            continue;
        }
        let (mut frame, sealed) = (bytes(cell("frame")), key_id != "0");
        if !sealed {
            frame[4..20].fill(0xff);
        }
        let wire = Wire::new(clock.clone());
        let store: &dyn Store = &*wire;
        has_clock(store).await;
        store.put(bytes(cell("entry")), frame.clone(), None).await.unwrap();
        let mut remote = Remote::over(Arc::clone(&wire)).namespace("users").codec(Anything);
        if sealed {
            let key = |first: u8| (first..first + 32).collect::<Vec<u8>>();
            let keys = [
                (1, Algorithm::XChaCha20Poly1305, key(0)),
                (2, Algorithm::Aes256Gcm, key(32)),
                (3, Algorithm::Sign, key(64)),
            ];
            remote = remote.sealed(KeyRing::new(keys.iter().map(|(id, how, key)| (*id, *how, &key[..]))).unwrap());
        }
        let cache: Cache<String, Vec<u8>> = Cache::builder().name("app").clock(clock.clone()).remote(remote).build();
        let fresh_until = u64::from_be_bytes(frame[4..12].try_into().unwrap());
        let over = fresh_until <= clock.wall(clock.now()) * 1000;
        let expected = (!over).then(|| bytes(cell("value")));
        assert_eq!(cache.fetch("user%3A7").await, Ok(expected), "{}", cell("name"));
        read += 1;
    }
    assert!(read >= 8, "{read}");
}

/// The bytes of what says that it is MessagePack.
#[cfg(feature = "codecs")]
struct Anything;

#[cfg(feature = "codecs")]
impl samovar::codec::values::Codec<Vec<u8>> for Anything {
    fn id(&self) -> Serializer {
        Serializer::MSGPACK
    }
    fn encode(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), samovar::codec::values::CodecError> {
        out.extend_from_slice(value);
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, samovar::codec::values::CodecError> {
        Ok(bytes.to_vec())
    }
}

/// A key ring hides values from whoever looks into the store, and from caches without it.
#[cfg(feature = "encryption")]
#[tokio::test]
async fn sealed_values_are_for_those_who_have_the_key() {
    use super::TTL;
    use samovar::Remote;
    use samovar::codec::keyring::{Algorithm, KeyRing};
    let World { clock, wire, .. } = World::new();
    let ring = |first: u8| {
        let key: Vec<u8> = (first..first + 32).collect();
        KeyRing::new([(1, Algorithm::XChaCha20Poly1305, &key[..])]).unwrap()
    };
    let cache = |ring: Option<KeyRing>| -> Cache<String, String> {
        let remote = Remote::over(Arc::clone(&wire));
        let remote = ring.into_iter().fold(remote, Remote::sealed);
        Cache::builder().name("app").clock(clock.clone()).remote(remote).build()
    };
    cache(Some(ring(0))).set("a".into(), "a secret".into(), TTL).await.unwrap();
    let seen = super::wire::stored(&wire, "a").await.unwrap();
    assert!(!seen.windows(6).any(|part| part == b"secret"));
    assert_eq!(cache(Some(ring(0))).fetch("a").await, Ok(Some("a secret".into())));
    assert_eq!((cache(Some(ring(1))).fetch("a").await, cache(None).fetch("a").await), (Ok(None), Ok(None)));
}
