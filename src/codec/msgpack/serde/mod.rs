//! Rust values in and out, through serde, on the wire that Python reads and writes.
//!
//! What Rust has a type for is that type: options, numbers up to 128 bits, text, sequences, tuples, maps. What it has none for
//! is a wrapper of [`types`]. A struct whose name (`#[serde(rename = "app.models.User")]`) has a dot in it is written as an
//! object of that Python class, an enum as a member of it; any other is a map, or the variant's name. Both are read.

mod de;
mod ser;
mod types;

pub use de::{Deserializer, from_slice};
pub use ser::{Serializer, to_vec, write_to};
pub use types::{BigInt, Complex, Decimal, FrozenSet, Set, Uuid};

/// The name of a newtype that is an extension: a pair of its code and its bytes.
const EXT: &str = "samovar::msgpack::Ext";
/// The names of newtypes around a sequence that is written as a set or as a frozenset.
const SET: &str = "samovar::msgpack::Set";
const FROZENSET: &str = "samovar::msgpack::FrozenSet";

/// True for a name that is a Python class's: its module and its qualified name.
fn is_python_class(name: &str) -> bool {
    name.contains('.')
}
