//! What leaves a table under its lock, and why: it is dropped after unlocking, since dropping it may run foreign code.

/// Why an entry left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// To make room.
    Evicted,
    /// Its deadline passed, or its group was cleared.
    Expired,
    /// Somebody removed or replaced it.
    Removed,
}

/// Keys and values that left a table, to be dropped after unlocking. One is kept without allocating.
#[derive(Debug)]
pub struct Discard<K, V> {
    first: Option<(Option<K>, Option<V>)>,
    rest: Vec<(Option<K>, Option<V>)>,
}

impl<K, V> Default for Discard<K, V> {
    fn default() -> Self {
        Discard { first: None, rest: Vec::new() }
    }
}

impl<K, V> Discard<K, V> {
    pub(super) fn push(&mut self, key: Option<K>, value: Option<V>) {
        if self.first.is_none() {
            self.first = Some((key, value));
        } else {
            self.rest.push((key, value));
        }
    }

    /// Keeps a pair that never entered.
    pub fn keep(&mut self, key: K, value: V) {
        self.push(Some(key), Some(value));
    }

    /// Keeps a key that was not needed.
    pub fn keep_key(&mut self, key: K) {
        self.push(Some(key), None);
    }

    /// Gives every pair away, one after the other.
    pub fn take(&mut self) -> Option<(Option<K>, Option<V>)> {
        self.rest.pop().or_else(|| self.first.take())
    }

    /// Pairs held.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// True when nothing left.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}
