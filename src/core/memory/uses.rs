//! Uses of entries that the eviction order and the counters have not heard of yet.
//!
//! A hit only notes a slot number, one store. The order is told a batch at a time, and before anything else is done with
//! it, so it is exact whenever somebody looks. A splice and a count at every hit would cost a third of a lookup, most of
//! it waiting for one another; in a batch the waits overlap (Caffeine keeps such a read buffer, against contention).

const BATCH: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub struct Uses {
    ids: [u32; BATCH],
    len: usize,
}

impl Uses {
    /// So many fit.
    pub const MOST: usize = BATCH;

    /// Notes a use; true when no further one fits.
    #[inline(always)]
    pub fn note(&mut self, id: u32) -> bool {
        self.ids[self.len % BATCH] = id;
        self.len += 1;
        self.len == BATCH
    }

    /// True when there is nothing to tell.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What was noted, in order.
    #[inline]
    pub fn noted(&self) -> &[u32] {
        &self.ids[..self.len.min(BATCH)]
    }

    /// Forgets it.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_kept_in_order_until_they_were_told() {
        let mut uses = Uses::default();
        let full = (0..BATCH as u32).map(|id| uses.note(id)).collect::<Vec<_>>();
        assert_eq!(full.iter().position(|&full| full), Some(BATCH - 1));
        assert!(uses.noted().iter().copied().eq(0..BATCH as u32));
        uses.clear();
        assert!(uses.is_empty());
        uses.note(7);
        assert_eq!(uses.noted(), [7]);
    }
}
