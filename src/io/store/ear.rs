//! What a store says without being asked: that others have changed something, and how far that can be relied upon.

use crate::core::coherence::{Move, Told};
use crate::core::remote::Version;
use std::any::Any;
use std::fmt;
use std::time::Instant;

pub use crate::core::coherence::heed::PATIENCE;

/// Who hears of it. What is said comes in order, from a thread of the store's or of whoever writes; it must not be kept waiting.
pub trait Ear: Send + Sync {
    /// This has happened. It may be said while `listen` has not returned yet.
    fn hear(&self, news: News);
}

/// What is heard of one cache. All of it is of others: what a cache has done itself it knows.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Somebody has written or invalidated this key, without the store's prefix.
    Changed {
        /// The key.
        key: Vec<u8>,
        /// What is there now has this version.
        version: Version,
    },
    /// Something has happened to this key, perhaps by the cache itself or by who knows nothing of caches.
    Touched {
        /// The key.
        key: Vec<u8>,
    },
    /// Tags or namespaces were invalidated or expired.
    Moved(Move),
    /// Something may have been missed from the last [`Proven`](Self::Proven) on, and may be until the next. Said once.
    Lost,
    /// Nothing was missed before this.
    Proven {
        /// Until then nothing could be missed without being noticed.
        until: Instant,
        /// What the cache's clock says, once after each time that something may have been missed.
        told: Option<Told>,
    },
    /// What came is no message of ours, or none that can be read. To be counted.
    Strange,
}

/// Somebody hears. When it is dropped, the ear is let go of, and hears at most what was under way.
pub struct Listening {
    _guard: Box<dyn Any + Send + Sync>,
}

impl Listening {
    /// Until this is dropped.
    pub fn until_dropped(guard: impl Any + Send + Sync) -> Self {
        Listening { _guard: Box::new(guard) }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
