//! A tier behind the memory that other processes share: what it can be asked, and what it answers.
//!
//! One door: [`Store::submit`] takes any number of requests, which go out together, and gives each its answer as soon as it is
//! there, within one time budget. So asking for many keys is one round trip, and whoever gathers the requests of a moment (an event
//! loop's pass) pays for one. What a request means is [`core::remote::cell`](crate::core::remote::cell)'s: each is one step on one
//! key, so that every store does the same, whatever it is made of. What is stored is bytes; a store reads two moments of them.
//!
//! A store never blocks who submits, and always answers: with an error, if it is slow, wrong or gone.
//!
//! A store that has a bus tells others of a write in the same step, if the write says whose it is ([`Tell`]); [`Store::listen`] hears of it.
//! Tags and namespaces are invalidated in the cache's *clock*, which is kept under the escaped name of the cache: no entry is called so.

#[cfg(feature = "tokio")]
mod ask;
pub mod bytes;
#[cfg(feature = "tokio")]
pub mod drive;
pub mod ear;
#[cfg(feature = "tokio")]
pub(crate) mod gather;
pub mod heard;
mod kept;
pub mod keys;
#[cfg(feature = "redis")]
pub mod loan;
pub mod local;
pub mod plain;
#[cfg(feature = "redis")]
pub mod redis;
pub mod stored;
mod tally;

#[cfg(feature = "tokio")]
pub(crate) use ask::unanswered;

use crate::core::coherence::{How, Known, Name, Origin, Told};
use crate::core::remote::cell::Under;
use crate::core::remote::{Filled, Found, Token, Version, Wanted};
use crate::error::StoreError;
use ::bytes::Bytes;
use ear::{Ear, Listening};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use stored::Stored;

/// One thing to do with one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The full key, without the store's own prefix; perhaps a slice of a buffer with those that are asked with it.
    pub key: Bytes,
    /// What to do.
    pub action: Action,
}

/// Whom a write is told: those who listen to this cache, but for whoever writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tell {
    /// The escaped name of the cache.
    pub cache: Vec<u8>,
    /// Who writes.
    pub origin: Origin,
}

/// What can be done with a key. Lives are counted from when the store does it, in its own time.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Give the frame that is there, fresh or not. Answered with [`Reply::Read`].
    Read,
    /// Give what is wanted, or leave a claim. [`Reply::Claimed`].
    Claim {
        /// The claim's name, should none be alive there.
        token: Token,
        /// What would do.
        wanted: Wanted,
        /// How long a new claim lives.
        life: Duration,
    },
    /// Write, if something is so: what was loaded, if nothing has happened to the key since. [`Reply::Filled`].
    Fill {
        /// What has to be so.
        under: Under,
        /// What was there when it was claimed: only what is newer was first.
        newer_than: Option<Version>,
        /// What to keep.
        frame: Vec<u8>,
        /// For how long; `None`: until it is removed.
        keep: Option<Duration>,
        /// Who is told of it; `None`: nobody, as of what was loaded.
        tell: Option<Arc<Tell>>,
    },
    /// Write, whatever is there. [`Reply::Written`].
    Put {
        /// What to keep.
        frame: Vec<u8>,
        /// For how long; `None`: until it is removed.
        keep: Option<Duration>,
        /// Who is told of it; `None`: nobody, as of what was loaded.
        tell: Option<Arc<Tell>>,
    },
    /// What is there is no more, nor is what is being loaded. [`Reply::Buried`].
    Invalidate {
        /// For how long that is known.
        keep: Duration,
        /// Late: it was meant for this stamp, and a store that can tell leaves what began to load later.
        by: Option<u64>,
        /// Who is told of it; `None`: nobody.
        tell: Option<Arc<Tell>>,
    },
    /// Forget the key, its claim and its versions; for cleaning up. [`Reply::Done`] tells whether there was anything.
    Delete,
    /// Let a claim live for so long from now on. [`Reply::Done`] tells whether it is still there.
    Renew {
        /// The claim.
        token: Token,
        /// Its new life.
        life: Duration,
    },
    /// Take a claim away. [`Reply::Done`] tells whether it was still there.
    Release {
        /// The claim.
        token: Token,
    },
    /// Invalidate or expire all that has one of these names; the key is the escaped name of the cache. [`Reply::Moved`].
    Move {
        /// Tags and namespaces.
        names: Vec<Name>,
        /// Whether that is gone, or stale.
        how: How,
        /// Late: it was meant for this stamp, and a store that can leaves what began to load later.
        by: Option<u64>,
        /// Who does it: all others are told.
        origin: Origin,
    },
    /// Give a stamp of now, and what has moved; the key is the escaped name of the cache. [`Reply::Told`].
    Registers {
        /// What need not be told again.
        known: Known,
    },
}

impl Action {
    /// True if doing it twice is as good as once, also when the first time nobody heard what came of it.
    pub fn may_be_repeated(&self) -> bool {
        // A fill that is repeated finds its own frame, and takes it for another's: the value is the same. Who writes by hand wants
        // to know whether it was theirs. A claim may have been taken by another load, and have gone by an invalidation: laid
        // again under its name, it would let that load's value in.
        match self {
            Action::Put { .. } | Action::Claim { .. } => false,
            Action::Fill { under, .. } => !matches!(under, Under::Nothing | Under::Something),
            _ => true,
        }
    }

    /// True if what it writes is no frame, and would never be found again.
    pub fn is_short(&self) -> bool {
        self.frame().is_some_and(|frame| frame.len() < stored::SHORTEST)
    }

    /// Who is told of it.
    pub fn tell(&self) -> Option<&Tell> {
        match self {
            Action::Fill { tell, .. } | Action::Put { tell, .. } | Action::Invalidate { tell, .. } => tell.as_deref(),
            _ => None,
        }
    }

    /// What it writes.
    pub fn frame(&self) -> Option<&[u8]> {
        match self {
            Action::Fill { frame, .. } | Action::Put { frame, .. } => Some(frame),
            _ => None,
        }
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// What is there.
    Read(Option<Stored>),
    /// What was found, or under what the key is claimed.
    Claimed(Found<Stored>),
    /// Whether it was written.
    Filled(Filled<Stored>),
    /// It was written under this version.
    Written(Version),
    /// It is no more from this version on; whether a fresh value was there.
    Buried(Version, bool),
    /// Whether it was as the request took it to be.
    Done(bool),
    /// It took effect at this stamp.
    Moved(u64),
    /// What the cache's clock says.
    Told(Told),
    /// A page of a [`scan`](Store::scan).
    Scanned(Page),
}

/// An answer, or why there is none.
pub type Answer = Result<Reply, StoreError>;

/// Where answers go: each request's, by its place among those submitted together, once. Called from a thread of the store's, which
/// it must not keep waiting, or from one that reads in its place.
#[derive(Clone)]
pub struct Answers {
    give: Arc<Give>,
    #[cfg(feature = "redis")]
    reader: Option<Arc<loan::Borrower>>,
}

type Give = dyn Fn(Vec<(usize, Answer)>) + Send + Sync;

impl Answers {
    /// To this function, with as many at a time as there are.
    pub fn new(give: impl Fn(Vec<(usize, Answer)>) + Send + Sync + 'static) -> Self {
        Answers {
            give: Arc::new(give),
            #[cfg(feature = "redis")]
            reader: None,
        }
    }

    /// To the same, who may read them from the store's connection by himself.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn read_by(self, reader: &Arc<loan::Borrower>) -> Self {
        Answers { reader: Some(Arc::clone(reader)), ..self }
    }

    /// Who may read them by himself.
    #[cfg(feature = "redis")]
    pub fn reader(&self) -> Option<&Arc<loan::Borrower>> {
        self.reader.as_ref()
    }

    /// True if what is given to one goes where the other's goes.
    pub fn is(&self, other: &Answers) -> bool {
        Arc::ptr_eq(&self.give, &other.give)
    }

    /// Gives some.
    pub fn give(&self, answers: Vec<(usize, Answer)>) {
        if !answers.is_empty() {
            (self.give)(answers);
        }
    }
}

/// Where a scan goes on. The default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Which of the store's servers.
    pub(crate) server: usize,
    /// Where there.
    pub(crate) at: u64,
}

/// Some of the keys that were scanned for, and where to go on; `None` when that was all.
pub type Page = (Vec<Vec<u8>>, Option<Cursor>);

/// A page that is on its way.
pub type Paging = Pin<Box<dyn Future<Output = Result<Page, StoreError>> + Send>>;

/// What a store has been asked and has answered since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests, by what they asked for.
    pub reads: u64,
    /// [`Action::Claim`].
    pub claims: u64,
    /// [`Action::Fill`] and [`Action::Put`].
    pub writes: u64,
    /// All others.
    pub others: u64,
    /// Reads and claims that found a frame.
    pub found: u64,
    /// Requests that were asked again, since what became of them could not be known or might have changed.
    pub retries: u64,
    /// Requests without an answer in time.
    pub timeouts: u64,
    /// Requests that did not reach it, and those not sent since it was known to be out of reach.
    pub unreachable: u64,
    /// Requests it refused.
    pub refused: u64,
    /// Connections that were opened.
    pub connects: u64,
    /// How often it was given up, until it answers again.
    pub outages: u64,
    /// Writes of which it would tell nobody: its ACL forbids to publish.
    pub untold: u64,
    /// How often somebody who listened could not be sure of having heard all.
    pub lost: u64,
    /// How often it refused to be listened to.
    pub unheard: u64,
}

/// Has a page scanned for whoever takes answers: this one's place is 0.
#[cfg(feature = "redis")]
pub fn scan_for(store: &dyn Store, prefix: &[u8], from: Cursor, answers: Answers) -> std::io::Result<()> {
    let paging = store.scan(prefix, from);
    let answer = async move { answers.give(vec![(0, paging.await.map(Reply::Scanned))]) };
    crate::io::runtime::handle()?.spawn(answer);
    Ok(())
}

/// A tier behind the memory. A handle that is shared is a store too: `Arc<Redis>`, `Arc<dyn Store>`.
pub trait Store: Send + Sync {
    /// Has these done, each key's in no promised order, and all answered within the store's time budget.
    fn submit(&self, requests: Vec<Request>, answers: Answers);

    /// Some of the keys that begin so. What is written or removed meanwhile may be missed or be there twice.
    fn scan(&self, prefix: &[u8], from: Cursor) -> Paging;

    /// What it has done.
    fn tally(&self) -> Tally;

    /// Lets this ear hear of the cache of this escaped name, but for what this origin does. `external`: also of what is written by who
    /// tells nobody. An ear whose process has forked listens again, in the child. `None`: this store has no bus.
    fn listen(&self, _cache: &[u8], _origin: Origin, _external: bool, _ear: Arc<dyn Ear>) -> Option<Listening> {
        None
    }

    /// True if the clock of a cache counts every message that is published about it, so that whoever sees it count none has missed none.
    fn counts_messages(&self) -> bool {
        false
    }

    /// Gives back its connections. What is under way, and what is asked from now on, is answered with an error; who listens has lost it.
    fn close(&self);
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn submit(&self, requests: Vec<Request>, answers: Answers) {
        (**self).submit(requests, answers);
    }

    fn scan(&self, prefix: &[u8], from: Cursor) -> Paging {
        (**self).scan(prefix, from)
    }

    fn tally(&self) -> Tally {
        (**self).tally()
    }

    fn listen(&self, cache: &[u8], origin: Origin, external: bool, ear: Arc<dyn Ear>) -> Option<Listening> {
        (**self).listen(cache, origin, external, ear)
    }

    fn counts_messages(&self) -> bool {
        (**self).counts_messages()
    }

    fn close(&self) {
        (**self).close();
    }
}
