//! Frames and envelopes against the vectors in tests/vectors, which an independent writer made and Python reads too; and what
//! reading them allocates.
#![cfg(feature = "codecs")]

use proptest::prelude::*;
use samovar::codec::compress::{Compression, Compressor};
use samovar::codec::dictionary::{Dictionaries, Dictionary};
use samovar::codec::envelope::{Claim, Envelope};
use samovar::codec::frame::{Header, Stamps};
use samovar::codec::framing::{Content, Framing};
use samovar::codec::keyring::{Algorithm, KeyRing};
use samovar::codec::refusal::Refusal;
use samovar::codec::serializer::Serializer;
use samovar::core::remote::Version;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Counts what the present thread allocates.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn note(by: isize) {
    // A thread that ends may free after its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + by);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
    if by > 0 {
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    }
}

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait says.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as the trait says.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `work` gives, how often it allocated, and how many bytes it held at most at one time.
fn counted<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let (calls, held) = (CALLS.get(), HELD.get());
    PEAK.set(held);
    let done = work();
    (done, CALLS.get() - calls, usize::try_from(PEAK.get() - held).unwrap_or(0))
}

type Row = HashMap<String, String>;

fn vectors(name: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let columns: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let row = |line: &str| columns.iter().map(|name| (*name).into()).zip(line.split('\t').map(Into::into)).collect();
    lines.map(row).collect()
}

/// The bytes of a cell; `None` if it says that there are none to speak of.
fn bytes(cell: &str) -> Option<Vec<u8>> {
    let byte = |at| u8::from_str_radix(&cell[at..at + 2], 16).unwrap();
    match cell {
        "-" => None,
        "''" => Some(Vec::new()),
        _ => Some((0..cell.len()).step_by(2).map(byte).collect()),
    }
}

fn dictionaries() -> Arc<Dictionaries> {
    let bytes = include_bytes!("vectors/dictionary.zstd");
    let dictionaries = Dictionaries::default();
    dictionaries.rotate(Arc::new(Dictionary::new(bytes).unwrap()));
    Arc::new(dictionaries)
}

/// The reader that a vector names, or the writer of what it is to read.
fn framing(reader: &str, primary: u32) -> Framing {
    let framing = Framing::default().with_dictionaries(dictionaries());
    if reader == "open" {
        return framing;
    }
    let key = |first: u8| (first..first + 32).collect::<Vec<u8>>();
    let keys =
        [(1, Algorithm::XChaCha20Poly1305, key(0)), (2, Algorithm::Aes256Gcm, key(32)), (3, Algorithm::Sign, key(64))];
    let ring = KeyRing::new(keys.iter().map(|(id, algorithm, key)| (*id, *algorithm, &key[..]))).unwrap();
    framing.sealed(&ring.with_primary(primary).unwrap(), b"users")
}

#[test]
fn every_vector_is_read_or_refused_as_it_says() {
    let rows = vectors("frames.tsv");
    assert!(rows.len() > 40);
    for row in rows {
        let (name, entry, frame) = (&row["name"], bytes(&row["entry"]).unwrap(), bytes(&row["frame"]).unwrap());
        let read = framing(&row["reader"], 1).unpack(&entry, &frame).map(|unpacked| {
            let (header, stamps) = (unpacked.header, unpacked.header.stamps);
            let numbers = [
                ("serializer", header.serializer.into()),
                ("compressor", header.compressor.into()),
                ("key_id", header.key_id.into()),
                ("dictionary", header.dictionary.into()),
                ("fresh_until", stamps.fresh_until),
                ("expires", stamps.expires),
                ("load_start", stamps.load_start),
                ("created", stamps.created),
                ("load_time", stamps.load_time.into()),
            ];
            for (column, number) in numbers {
                assert_eq!(row[column], number.to_string(), "{column} of {name}");
            }
            assert_eq!(unpacked.value.map(|(_, raw)| raw.into_owned()), bytes(&row["value"]), "value of {name}");
            assert_eq!(header.etag, bytes(&row["etag"]).as_deref(), "etag of {name}");
            assert_eq!(header.tags.collect::<Vec<_>>(), tags(&row["tags"]), "tags of {name}");
        });
        assert_eq!(read.map_or_else(Refusal::name, |()| "ok"), row["outcome"], "{name}");
    }
}

fn tags(cell: &str) -> Vec<String> {
    cell.split(',').filter_map(bytes).map(|tag| String::from_utf8(tag).unwrap()).collect()
}

#[test]
fn what_has_no_dice_in_it_is_written_byte_for_byte_as_the_vectors_are() {
    let mut same = 0;
    for row in vectors("frames.tsv").iter().filter(|row| row["outcome"] == "ok") {
        let number = |column: &str| row[column].parse::<u64>().unwrap();
        let key_id = number("key_id") as u32;
        if row["compressor"] != "0" || ![0, 3].contains(&key_id) {
            continue;
        }
        let (raw, etag, tags) = (bytes(&row["value"]), bytes(&row["etag"]), tags(&row["tags"]));
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let content = Content {
            value: raw.as_deref().map(|raw| (Serializer::new(number("serializer") as u8).unwrap(), raw)),
            stamps: Stamps {
                fresh_until: number("fresh_until"),
                expires: number("expires"),
                load_start: number("load_start"),
                created: number("created"),
                load_time: number("load_time") as u32,
            },
            tags: &tags,
            etag: etag.as_deref(),
            returned: false,
        };
        let frame = framing(&row["reader"], key_id.max(1)).pack(&bytes(&row["entry"]).unwrap(), &content).unwrap();
        assert_eq!(frame, bytes(&row["frame"]).unwrap(), "{}", row["name"]);
        same += 1;
    }
    assert!(same >= 5);
}

#[test]
fn envelopes_are_read_and_written_as_the_vectors_say() {
    for row in vectors("envelopes.tsv") {
        let (name, stored) = (&row["name"], bytes(&row["stored"]).unwrap());
        let read = Envelope::read(&stored);
        assert_eq!(read.map_or_else(Refusal::name, |_| "ok"), row["outcome"], "{name}");
        let Ok((envelope, frame)) = read else { continue };
        let token = bytes(&row["token"]);
        let expected = Envelope {
            version: Version(row["version"].parse().unwrap()),
            claim: token
                .map(|token| Claim { token: token.try_into().unwrap(), deadline: row["deadline"].parse().unwrap() }),
            tombstone: row["tombstone"] == "1",
        };
        assert_eq!((envelope, frame), (expected, bytes(&row["frame"]).as_deref()), "{name}");
        let mut out = Vec::new();
        envelope.write(frame, &mut out);
        assert_eq!(out, stored, "{name}");
    }
}

#[test]
fn reading_a_header_allocates_nothing() {
    let content = Content {
        value: Some((Serializer::MSGPACK, &[1; 1000])),
        stamps: Stamps::default(),
        tags: &["users", "user:7"],
        etag: Some(b"v1"),
        returned: false,
    };
    let frame = framing("sealed", 1).pack(b"key", &content).unwrap();
    let (tags, calls, _) = counted(|| {
        let header = Header::read(&frame).unwrap();
        header.tags.map(str::len).sum::<usize>() + header.etag.map_or(0, <[u8]>::len)
    });
    assert_eq!((tags, calls), (5 + 6 + 2, 0));
    let (_, calls, _) = counted(|| frame.to_vec());
    assert_eq!(calls, 1, "the allocator counts");
}

#[test]
fn a_plain_value_is_read_where_it_stands() {
    let framing = Framing::default();
    let content = Content {
        value: Some((Serializer::BYTES, &[1; 1000])),
        stamps: Stamps::default(),
        tags: &[],
        etag: None,
        returned: false,
    };
    let frame = framing.pack(b"key", &content).unwrap();
    let (length, calls, _) = counted(|| framing.unpack(b"key", &frame).unwrap().value.unwrap().1.len());
    assert_eq!((length, calls), (1000, 0));
}

/// What may be held beside the value itself: gzip's state has 48 kB.
const SLACK: usize = 64 << 10;

#[test]
fn a_bomb_is_refused_before_there_is_room_made_for_it() {
    let reader = framing("open", 1);
    for row in vectors("frames.tsv").iter().filter(|row| row["reader"] == "open") {
        let frame = bytes(&row["frame"]).unwrap();
        let _ = reader.unpack(b"key", &frame);
        let (_, _, peak) = counted(|| reader.unpack(b"key", &frame).map(|_| ()));
        assert!(peak <= SLACK, "{}: {peak} bytes", row["name"]);
        if row["outcome"] == "ok" && row["compressor"] != "0" {
            let mut lie = frame;
            lie[40..44].copy_from_slice(&(60_u32 << 20).to_be_bytes());
            let (read, _, peak) = counted(|| reader.unpack(b"key", &lie).map(|_| ()));
            assert_eq!((read, peak <= SLACK), (Err(Refusal::Corrupt), true), "{}: {peak} bytes", row["name"]);
        }
    }
}

#[test]
fn no_frame_has_more_allocated_for_it_than_its_reader_allows() {
    const MOST: usize = 1 << 16;
    let reader = || framing("open", 1).with_max_value_bytes(MOST);
    // What a thread keeps to use again is there from the first use on.
    let text = b"over and over ".repeat(MOST / 14);
    let content = Content {
        value: Some((Serializer::BYTES, &text)),
        stamps: Stamps::default(),
        tags: &[],
        etag: None,
        returned: false,
    };
    let frames = Compressor::ALL.map(|compressor| {
        let writer = Framing::default().compressed(Compression::with(compressor));
        let frame = writer.pack(b"key", &content).unwrap();
        reader().unpack(b"key", &frame).unwrap();
        frame
    });
    for frame in &frames {
        let reader = reader();
        let (_, _, peak) = counted(|| reader.unpack(b"key", frame).map(|_| ()).unwrap());
        assert!(peak <= text.len() + SLACK, "{peak}");
    }
    let reader = reader();
    proptest!(|(which in 0..frames.len(), length in any::<u32>(), cut in any::<prop::sample::Index>(), junk in any::<[u8; 4]>())| {
        let mut frame = frames[which].clone();
        frame[40..44].copy_from_slice(&length.to_be_bytes());
        let at = 52 + cut.index(frame.len() - 56);
        frame[at..at + 4].copy_from_slice(&junk);
        let (read, _, peak) = counted(|| reader.unpack(b"key", &frame).map(|_| ()));
        prop_assert!(peak <= MOST + SLACK, "{peak}");
        prop_assert!(read.is_err() || length as usize == text.len());
    });
}
