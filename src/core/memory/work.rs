//! Counted work: no operation on a table may touch more than a fixed number of entries, and tests look whether one did.

/// How much a single operation has touched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    now: u32,
    /// The most entries one operation has touched so far.
    pub entries_at_most: u32,
    /// The most index numbers one operation has moved so far.
    pub moved_at_most: usize,
}

impl Work {
    /// The most entries one operation may touch.
    pub const LIMIT: u32 = 64;

    pub(super) fn begin(&mut self) {
        self.now = 0;
    }

    pub(super) fn touch(&mut self) {
        self.now += 1;
        self.entries_at_most = self.entries_at_most.max(self.now);
    }
}
