//! Who wrote the bytes of a value: the ids of serializers as frames carry them. What they do is not known here.

/// A serializer, by its id in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serializer(u8);

impl Serializer {
    /// The value is bytes, as they are.
    pub const BYTES: Serializer = Serializer(1);
    /// The value is text, in UTF-8.
    pub const TEXT: Serializer = Serializer(2);
    /// MessagePack with the extension types of docs/frame.md.
    pub const MSGPACK: Serializer = Serializer(3);
    /// JSON (RFC 8259).
    pub const JSON: Serializer = Serializer(4);
    /// Python's pickle, which runs code: never written or read without a seal, and only where it was asked for.
    pub const PICKLE: Serializer = Serializer(5);
    /// The first of the ids that users may give to serializers of their own; those below are ours.
    pub const FIRST_OWN: u8 = 128;

    /// The one with this id; 0 is none.
    pub const fn new(id: u8) -> Option<Self> {
        if id == 0 { None } else { Some(Serializer(id)) }
    }

    /// Its id.
    pub const fn id(self) -> u8 {
        self.0
    }

    /// True if what it wrote may be read only when it is known who wrote it.
    pub const fn needs_seal(self) -> bool {
        self.0 == Serializer::PICKLE.0
    }
}

/// Which serializers somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serializers([u64; 4]);

impl Serializers {
    /// None.
    pub const NONE: Serializers = Serializers([0; 4]);

    /// Those that turn bytes into data and run no code: all of ours but pickle.
    pub const DATA: Serializers = Serializers::NONE
        .with(Serializer::BYTES)
        .with(Serializer::TEXT)
        .with(Serializer::MSGPACK)
        .with(Serializer::JSON);

    /// These and one more.
    pub const fn with(mut self, serializer: Serializer) -> Self {
        self.0[(serializer.0 >> 6) as usize] |= 1 << (serializer.0 & 63);
        self
    }

    /// True if this one is among them.
    pub const fn contains(self, serializer: Serializer) -> bool {
        self.0[(serializer.0 >> 6) as usize] & (1 << (serializer.0 & 63)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_serializers_has_what_was_put_in_and_nothing_else() {
        for id in 1..=u8::MAX {
            let one = Serializer::new(id).unwrap();
            let set = Serializers::NONE.with(one);
            let inside: Vec<u8> = (1..=u8::MAX).filter(|&id| set.contains(Serializer(id))).collect();
            assert_eq!(inside, [id]);
        }
        assert!(Serializer::new(0).is_none());
        assert!(!Serializers::DATA.contains(Serializer::PICKLE), "pickle is for those who ask for it");
    }
}
