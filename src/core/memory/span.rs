//! The life of an entry that is of use beyond its freshness: fresh until, kept until, not to be refreshed before.
//!
//! Most entries need none of this: their slot says when they end, and nothing here is allocated for them.

use crate::core::clock::Millis;

/// See the module. All moments are absolute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// It is fresh before this moment.
    pub fresh_until: Millis,
    /// It is gone from this moment on, whatever anybody would do with it.
    pub expires: Millis,
    /// After a refresh that failed: no other before this moment.
    pub retry_at: Millis,
    /// How long its value took to load, in milliseconds.
    pub load: u32,
    /// Since when loads have brought this same value, in whole seconds; 0 where nobody has asked.
    pub since: u32,
}

impl Span {
    /// Fresh to its end.
    pub const fn until(end: Millis) -> Self {
        Span { fresh_until: end, expires: end, retry_at: 0, load: 0, since: 0 }
    }
}

const BITS: u32 = 8;
const SIZE: usize = 1 << BITS;

/// Spans by slot number, allocated where they are needed, 256 at a time.
#[derive(Debug, Default)]
pub struct Spans(Vec<Option<Box<[Span; SIZE]>>>);

impl Spans {
    /// The span of a slot that has been given one.
    pub fn get(&self, id: u32) -> Span {
        let chunk = self.0.get((id >> BITS) as usize).and_then(Option::as_ref);
        chunk.map_or_else(Span::default, |chunk| chunk[id as usize & (SIZE - 1)])
    }

    /// Gives a slot one.
    pub fn set(&mut self, id: u32, span: Span) {
        let at = (id >> BITS) as usize;
        if at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at].get_or_insert_with(|| Box::new([Span::default(); SIZE]))[id as usize & (SIZE - 1)] = span;
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        let chunks = self.0.iter().flatten().count();
        chunks * size_of::<[Span; SIZE]>() + self.0.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_takes_half_a_cache_line() {
        assert_eq!(size_of::<Span>(), 32);
    }
}
