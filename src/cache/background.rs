//! How many refreshes run behind at once: a budget that caches share. The counting is `core::budget`.

use crate::core::budget::{Budget, Need, ROOMS, Room};
use crate::core::flight::Refresh;
use std::sync::{Arc, LazyLock};

static PROCESS: LazyLock<Background> = LazyLock::new(|| Background::new(ROOMS));

/// How many refreshes of stale values run behind at once, in all caches that share it. Cloning gives another handle to the same.
///
/// Where there is no room for a refresh, callers get the old value all the same, and whoever asks for that key a second later
/// starts it if there is room then. Loads that somebody waits for are not counted.
///
/// ```
/// # use samovar::{Background, Cache};
/// let background = Background::new(8);
/// let users: Cache<u64, String> = Cache::builder().name("users").background(&background).build();
/// let orders: Cache<u64, String> = Cache::builder().name("orders").background(&background).build();
/// background.resize(16);
/// assert_eq!((background.loads(), background.running()), (16, 0));
/// ```
#[derive(Clone, Debug)]
pub struct Background(Arc<Budget<()>>);

impl Default for Background {
    /// The one of all caches in this process that are given no other.
    fn default() -> Self {
        PROCESS.clone()
    }
}

impl Background {
    /// One of its own, for so many refreshes at once; 0 counts as 1.
    pub fn new(loads: u32) -> Self {
        Background(Budget::new(loads))
    }

    /// So many from now on; those that run go on.
    pub fn resize(&self, loads: u32) {
        self.0.set_rooms(loads);
    }

    /// How many may run at once.
    pub fn loads(&self) -> u32 {
        self.0.rooms()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.0.taken()
    }

    /// Where a refresh of a stale value would run now.
    pub(super) fn refresh(&self) -> Refresh {
        if self.0.has_room(Need::Met) { Refresh::Behind } else { Refresh::Later }
    }

    pub(super) fn room(&self) -> Option<Room<()>> {
        self.0.room(Need::Met, ())
    }
}
