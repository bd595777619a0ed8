//! Keys of requests that go together, in one buffer: none of them takes memory of its own.

use bytes::Bytes;

/// See the module.
#[derive(Default)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    /// Adds the one that this writes behind those before it.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// All of them, in the order they were added.
    pub fn into_slices(self) -> impl Iterator<Item = Bytes> {
        let (bytes, mut from) = (Bytes::from(self.bytes), 0);
        self.ends.into_iter().map(move |end| bytes.slice(std::mem::replace(&mut from, end)..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_out_as_they_went_in() {
        let mut keys = Keys::default();
        ["one", "", "three"].into_iter().for_each(|key| keys.add(|out| out.extend_from_slice(key.as_bytes())));
        assert_eq!(keys.into_slices().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        assert_eq!(Keys::default().into_slices().count(), 0);
    }
}
