//! What the wire promises: the vectors shared with Python, and what arbitrary bytes can do to a reader.

use super::*;
use proptest::prelude::*;
use std::borrow::Cow;

/// Name, bytes, and how Rust shows the value.
fn vectors() -> impl Iterator<Item = (&'static str, Vec<u8>, &'static str)> {
    let file = include_str!("../../../tests/vectors/msgpack.tsv");
    file.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut cells = line.split('\t');
        let (name, hex) = (cells.next().unwrap(), cells.next().unwrap());
        (name, unhex(hex), cells.nth(1).unwrap())
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[cfg(feature = "serde")]
fn vector(name: &str) -> Vec<u8> {
    vectors().find(|(known, ..)| *known == name).unwrap_or_else(|| panic!("no vector named {name}")).1
}

fn written(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(value.write(&mut out));
    out
}

#[test]
fn every_vector_reads_as_its_value_and_writes_as_its_bytes() {
    for (name, bytes, shown) in vectors() {
        let value = Value::read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(format!("{value:?}"), shown, "{name}");
        assert_eq!(written(&value), bytes, "{name}");
    }
}

#[test]
fn a_vector_cut_short_anywhere_is_no_value() {
    for (name, bytes, _) in vectors() {
        for length in 0..bytes.len() {
            assert!(Value::read(&bytes[..length]).is_err(), "{name}, {length} bytes of {}", bytes.len());
        }
        let longer = [&bytes[..], &[0xc0]].concat();
        assert!(Value::read(&longer).is_err(), "{name} and a byte more");
    }
}

#[test]
fn containers_are_refused_beyond_the_depth_and_not_before() {
    let lists = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    assert!(Value::read(&lists(MAX_DEPTH)).is_ok());
    let refused = Value::read(&lists(MAX_DEPTH + 1)).unwrap_err();
    assert_eq!(refused, Malformed { problem: Problem::TooDeep, at: MAX_DEPTH + 1 });
    assert!(Value::read(&vec![0x91; 1 << 20]).is_err());
    let mut tuples = vec![0xc0];
    for _ in 0..=MAX_DEPTH {
        let mut outer = Vec::new();
        let mut writer = Writer::new(&mut outer);
        writer.ext(ext::TUPLE, &[&[0x91], &tuples[..]].concat());
        tuples = outer;
    }
    assert_eq!(Value::read(&tuples).unwrap_err().problem, Problem::TooDeep);
}

#[test]
fn lengths_that_lie_are_refused_before_anything_is_allocated() {
    for head in [&[0xdc, 0xff, 0xff][..], &[0xdd, 0xff, 0xff, 0xff, 0xff], &[0xdf, 0x80, 0, 0, 0], &[0x9f, 0xc0]] {
        assert_eq!(Value::read(head).unwrap_err().problem, Problem::TooMany, "{head:x?}");
    }
    for head in
        [&[0xdb, 0xff, 0xff, 0xff, 0xff][..], &[0xc6, 0xff, 0xff, 0xff, 0xff], &[0xc9, 0xff, 0xff, 0xff, 0xff, 2]]
    {
        assert_eq!(Value::read(head).unwrap_err().problem, Problem::Truncated, "{head:x?}");
    }
}

#[test]
fn what_is_announced_together_is_never_more_than_the_bytes_there_are() {
    // Each level announces all that is left of 1000 bytes: the second has no byte to stand on.
    let mut bytes = Vec::new();
    for _ in 0..100 {
        bytes.extend_from_slice(&[0xdc, 0x03, 0x00]);
    }
    bytes.resize(1000, 0xc0);
    assert_eq!(Value::read(&bytes).unwrap_err(), Malformed { problem: Problem::TooMany, at: 6 });
    // The same with extensions around the levels, whose own bytes are all there.
    let inner = [&[0xdc, 0x03, 0x00][..], &[0xc0; 0x300]].concat();
    let mut outer = vec![0xdc, 0x03, 0x00];
    Writer::new(&mut outer).ext(ext::TUPLE, &inner);
    assert_eq!(Value::read(&outer).unwrap_err().problem, Problem::TooMany);
}

#[test]
fn extensions_that_are_not_spelled_as_they_have_to_be_are_refused() {
    let cases: &[(i8, &[u8])] = &[
        (ext::TIMESTAMP, &[0; 5]),
        (ext::TIMESTAMP, &[0xff; 8]),
        (ext::TIMESTAMP, &[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (ext::TIMESTAMP, &[0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        (ext::INT, &[]),
        (ext::INT, &[0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (ext::INT, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (ext::TUPLE, &[0xc0]),
        (ext::TUPLE, &[0x90, 0xc0]),
        (ext::DATETIME, &[7, 232, 10, 27, 2, 30, 0, 0, 0, 0, 0, 0]),
        (ext::DATETIME, &[7, 232, 2, 30, 2, 30, 0, 0, 0, 0, 0]),
        (ext::DATE, &[0, 0, 1, 1]),
        (ext::DATE, &[7, 231, 2, 29]),
        (ext::TIME, &[24, 0, 0, 0, 0, 0, 0]),
        (ext::TIME, &[0, 0, 0, 15, 66, 64, 0]),
        (ext::TIME, &[0, 0, 0, 0, 0, 0, 2]),
        (ext::TIME, &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        (ext::TIME, &[0, 0, 0, 0, 0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        (ext::TIME, b"\0\0\0\0\0\0\0\x03../../etc/passwd"),
        (ext::DELTA, &[0; 11]),
        (ext::DELTA, &[0, 0, 0, 0, 0, 1, 0x51, 0x80, 0, 0, 0, 0]),
        (ext::DELTA, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (ext::DECIMAL, b"1_000"),
        (ext::DECIMAL, b" 1"),
        (ext::DECIMAL, b"1e5"),
        (ext::DECIMAL, b"-"),
        (ext::DECIMAL, b"inf"),
        (ext::UUID, &[0; 15]),
        (ext::COMPLEX, &[0; 15]),
        (ext::ENUM, &[0x91, 0xa1, b'C']),
        (ext::ENUM, &[0x92, 0xa1, b'C', 1]),
        (ext::RECORD, &[0x91, 0xa1, b'C']),
        (ext::RECORD, &[0x92, 0xa1, b'C', 0x81, 1, 1]),
        (ext::RECORD, &[0x94, 0xa1, b'C', 0x80, 0xc0, 0xc0]),
    ];
    for (code, bytes) in cases {
        let mut out = Vec::new();
        Writer::new(&mut out).ext(*code, bytes);
        let refused = Value::read(&out).unwrap_err().problem;
        assert!(matches!(refused, Problem::BadExt(_) | Problem::Trailing), "{code}, {bytes:x?}: {refused:?}");
    }
    assert_eq!(Value::read(&[0xd4, 99, 0]).unwrap_err().problem, Problem::UnknownExt(99));
}

#[test]
fn days_and_dates_agree_over_all_years() {
    let mut days = Date::new(1, 1, 1).unwrap().days();
    for year in 1..=9999 {
        for month in 1..=12 {
            for day in (1..=31).filter_map(|day| Date::new(year, month, day)) {
                assert_eq!((day.days(), Date::from_days(days)), (days, Some(day)));
                days += 1;
            }
        }
    }
    assert_eq!((Date::from_days(days), days), (None, 2_932_897));
}

#[cfg(feature = "serde")]
mod through_serde {
    use super::*;
    use ::serde::{Deserialize, Serialize};
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Debug;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "travellers.Point")]
    struct Point {
        x: i64,
        y: f64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "travellers.Pair")]
    struct Pair {
        key: String,
        values: Vec<i64>,
    }

    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename = "travellers.Colour")]
    enum Colour {
        #[serde(rename = "RED")]
        Red,
        #[serde(rename = "BLUE")]
        Blue,
    }

    /// The vector reads as this, and this writes as the vector.
    fn agrees<T: Serialize + for<'a> Deserialize<'a> + PartialEq + Debug>(name: &str, value: T) {
        let bytes = vector(name);
        assert_eq!(from_slice::<T>(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")), value, "{name}");
        assert_eq!(to_vec(&value).unwrap(), bytes, "{name}");
    }

    #[test]
    fn rust_reads_and_writes_what_python_does() {
        agrees("nil", ());
        agrees("nil", None::<u8>);
        agrees("true", Some(true));
        agrees("largest of one byte", 127u8);
        agrees("largest without a sign", u64::MAX);
        agrees("beyond 64 bits", 1u128 << 64);
        agrees("beyond 64 bits", 1i128 << 64);
        agrees("smallest of 64 bits", i64::MIN);
        agrees("below 64 bits", i128::from(i64::MIN) - 1);
        agrees("a large number", 1u128 << 100);
        let below = [vec![0xff, 0x7f], vec![0xff; 15]].concat();
        agrees("a large number below", BigInt(below));
        agrees("largest of one byte", BigInt(vec![127]));
        agrees("one and a half", 1.5);
        agrees("infinity", f64::INFINITY);
        agrees("text beyond ascii", "чай 🫖".to_owned());
        agrees("list of 16", vec![0; 16]);
        agrees("dict", BTreeMap::from([("a".to_owned(), Mixed::One(1)), ("b".to_owned(), Mixed::Many(vec![2]))]));
        agrees("tuple", (1, "a".to_owned()));
        agrees("set", Set(BTreeSet::from([7])));
        agrees("frozenset", FrozenSet(vec!["a".to_owned()]));
        agrees("decimal", Decimal("-1.50".into()));
        agrees("uuid", Uuid(0x12345678_1234_5678_1234_567812345678_u128.to_be_bytes()));
        agrees("complex", Complex(1.5, -0.0));
        agrees("enum", Colour::Red);
        agrees("dataclass", Point { x: 1, y: 2.5 });
        agrees("named tuple", Pair { key: "a".into(), values: vec![1] });
        agrees("nested", Nested { points: vec![Point { x: 1, y: 2.0 }], by: BTreeMap::from([(Colour::Blue, (1,))]) });
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Mixed {
        One(i64),
        Many(Vec<i64>),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nested {
        points: Vec<Point>,
        by: BTreeMap<Colour, (i64,)>,
    }

    #[test]
    fn rust_reads_and_writes_pythons_moments() {
        let date = |year, month, day| Date::new(year, month, day).unwrap();
        let time = |hour, minute, second, micro, fold, zone| Time { hour, minute, second, micro, fold, zone };
        agrees("date", date(2024, 2, 29));
        agrees("time", time(23, 59, 59, 999_999, false, Zone::None));
        agrees("time in a zone", time(1, 2, 0, 0, true, Zone::Named(Cow::Borrowed("America/Sao_Paulo"))));
        agrees("timedelta below zero", Delta::new(-1, 86_399, 999_999).unwrap());
        agrees("datetime in utc", DateTime::from_timestamp(1_729_996_200, 0).unwrap());
        let berlin = Zone::Named(Cow::Borrowed("Europe/Berlin"));
        agrees("datetime in its fold", DateTime { date: date(2024, 10, 27), time: time(2, 30, 0, 0, true, berlin) });
        let west = Zone::Fixed { micros: -5 * 3_600_000_000, name: None };
        agrees("datetime with an offset", DateTime { date: date(2024, 2, 29), time: time(23, 59, 59, 0, false, west) });
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Plain {
        x: i64,
        y: f64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Empty,
        Round(f64),
        Square(f64, f64),
        Named { name: String },
    }

    #[test]
    fn a_plain_struct_is_a_map_and_reads_an_object_too() {
        let bytes = to_vec(&Plain { x: 1, y: 2.5 }).unwrap();
        assert_eq!(bytes, unhex("82a17801a179cb4004000000000000"));
        assert_eq!(from_slice::<Plain>(&bytes).unwrap(), Plain { x: 1, y: 2.5 });
        assert_eq!(from_slice::<Plain>(&vector("dataclass")).unwrap(), Plain { x: 1, y: 2.5 });
    }

    #[test]
    fn variants_come_back() {
        let shapes =
            vec![Shape::Empty, Shape::Round(1.0), Shape::Square(1.0, 2.0), Shape::Named { name: "star".into() }];
        let bytes = to_vec(&shapes).unwrap();
        assert_eq!(from_slice::<Vec<Shape>>(&bytes).unwrap(), shapes);
    }

    #[test]
    fn a_sequence_that_cannot_tell_its_length_has_the_same_bytes() {
        struct Unsure;
        impl Serialize for Unsure {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq((0..300).filter(|number| number % 2 == 0))
            }
        }
        let sure: Vec<i32> = (0..300).filter(|number| number % 2 == 0).collect();
        assert_eq!(to_vec(&Unsure).unwrap(), to_vec(&sure).unwrap());
    }

    #[test]
    fn a_value_of_another_type_is_an_error_that_says_so() {
        let error = from_slice::<Point>(&vector("text")).unwrap_err().to_string();
        assert!(error.contains("expected struct"), "{error}");
        assert!(from_slice::<(i64,)>(&vector("tuple")).is_err());
        assert!(from_slice::<Set<Vec<i64>>>(&vector("list")).is_err());
        assert!(from_slice::<Decimal>(&vector("uuid")).is_err());
        assert!(from_slice::<u64>(&vector("a large number")).is_err());
    }

    #[test]
    fn depth_is_refused_on_both_ways() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Deep(Vec<Deep>);
        let mut deep = Deep(vec![]);
        for _ in 1..MAX_DEPTH {
            deep = Deep(vec![deep]);
        }
        let bytes = to_vec(&deep).unwrap();
        assert!(from_slice::<Deep>(&bytes).is_ok());
        assert!(to_vec(&Deep(vec![deep])).unwrap_err().to_string().contains("deeper than 128"));
        assert!(from_slice::<Deep>(&[&[0x91], &bytes[..]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_value_or_an_error_to_serde(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_slice::<Vec<Mixed>>(&bytes);
            let _ = from_slice::<BTreeMap<String, Option<Point>>>(&bytes);
            let _ = from_slice::<(DateTime<'static>, Decimal, Set<Vec<Colour>>, BigInt, u128)>(&bytes);
            let _ = from_slice::<Shape>(&bytes);
        }
    }
}

/// Any value that Python or Rust could have written.
fn values() -> impl Strategy<Value = Value> {
    let moment = (1u16..=9999, 1u8..=12, 1u8..=28, 0u8..24, 0u8..60, 0u8..60, 0u32..1_000_000, any::<bool>(), zones());
    let moment = moment.prop_map(|(year, month, day, hour, minute, second, micro, fold, zone)| DateTime {
        date: Date::new(year, month, day).unwrap(),
        time: Time { hour, minute, second, micro, fold, zone },
    });
    let moment = moment.boxed();
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (1u64 << 63..).prop_map(Value::UInt),
        (1u8..=127, proptest::collection::vec(any::<u8>(), 8..20))
            .prop_map(|(first, rest)| Value::BigInt([&[first], &rest[..]].concat())),
        // nan equals nothing; the vectors have one.
        any::<f64>().prop_filter("nan", |number| !number.is_nan()).prop_map(Value::Float),
        any::<String>().prop_map(Value::Str),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        moment.clone().prop_map(Value::DateTime),
        moment.clone().prop_map(|moment| Value::Date(moment.date)),
        moment.prop_map(|moment| Value::Time(moment.time)),
        (-999_999_999i32..=999_999_999, 0u32..86_400, 0u32..1_000_000)
            .prop_map(|(days, seconds, micros)| Value::Delta(Delta::new(days, seconds, micros).unwrap())),
        "-?[0-9]{1,20}(\\.[0-9]{1,20})?(E[+-][0-9]{1,5})?".prop_map(Value::Decimal),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        (any::<String>(), any::<String>()).prop_map(|(class, name)| Value::Member(Box::new(Member {
            class,
            name: Some(name),
            value: Value::Nil
        }))),
    ];
    leaf.prop_recursive(5, 64, 20, |inner| {
        let items = proptest::collection::vec(inner.clone(), 0..20);
        let pairs = proptest::collection::vec((inner.clone(), inner.clone()), 0..9);
        let fields = proptest::collection::vec((any::<String>().prop_map(Value::Str), inner.clone()), 0..9);
        let rest = proptest::option::of(inner.prop_map(Box::new));
        prop_oneof![
            items.clone().prop_map(Value::List),
            items.clone().prop_map(Value::Tuple),
            items.clone().prop_map(Value::Set),
            items.prop_map(Value::FrozenSet),
            pairs.prop_map(Value::Map),
            (any::<String>(), fields, rest).prop_map(|(class, fields, rest)| Value::Record(Record {
                class,
                fields,
                rest
            })),
        ]
    })
}

fn zones() -> impl Strategy<Value = Zone<'static>> {
    let day = 86_400_000_000i64;
    prop_oneof![
        Just(Zone::None),
        Just(Zone::Utc),
        (1 - day..day).prop_filter("utc", |micros| *micros != 0).prop_map(|micros| Zone::Fixed { micros, name: None }),
        (1 - day..day, any::<String>()).prop_map(|(micros, name)| Zone::Fixed { micros, name: Some(Cow::Owned(name)) }),
        "[A-Za-z_]{1,10}(/[A-Za-z_+-]{1,10})?".prop_map(|key| Zone::Named(Cow::Owned(key))),
    ]
}

proptest! {
    #[test]
    fn any_value_comes_back_and_has_one_spelling(value in values()) {
        let bytes = written(&value);
        let back = Value::read(&bytes).unwrap();
        prop_assert_eq!(&back, &value);
        prop_assert_eq!(written(&back), bytes);
    }

    #[test]
    fn arbitrary_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(value) = Value::read(&bytes) {
            // nan equals nothing, but is shown.
            let back = Value::read(&written(&value)).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{value:?}"));
        }
    }

    #[test]
    fn a_value_with_a_byte_changed_or_cut_is_a_value_or_an_error(
        value in values(), at in any::<proptest::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = written(&value);
        let at = at.index(bytes.len());
        prop_assert!(Value::read(&bytes[..at]).is_err());
        bytes[at] = byte;
        let _ = Value::read(&bytes);
    }
}
