//! Any bytes are a value that is written and read again as it is, or an error; to serde they are either too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use samovar::codec::msgpack::{BigInt, DateTime, Decimal, Set, Value, from_slice};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[expect(dead_code, reason = "read, and dropped")]
enum Shape {
    Empty,
    Round(f64),
    Square(f64, f64),
    Named { name: String, inner: Option<Box<Shape>> },
}

#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "read, and dropped")]
enum Anything {
    Nil(()),
    Bool(bool),
    Int(i64),
    Wide(i128),
    Float(f64),
    Text(String),
    List(Vec<Anything>),
    Map(BTreeMap<String, Anything>),
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = Value::read(bytes) {
        let mut written = Vec::new();
        assert!(value.write(&mut written));
        let again = Value::read(&written).expect("what was written is read");
        // nan equals nothing, but is shown.
        assert_eq!(format!("{value:?}"), format!("{again:?}"));
    }
    let _ = from_slice::<Anything>(bytes);
    let _ = from_slice::<Vec<Shape>>(bytes);
    let _ = from_slice::<Vec<(DateTime<'static>, Decimal, Set<Vec<i64>>, BigInt, u128)>>(bytes);
});
