//! What a cache hears of others who use its store: noted by the store's thread, and told to the memory by whoever comes next.
//!
//! The store's thread takes no interpreter and never touches the table: it notes what it hears and rings. While nothing can be missed
//! unnoticed, memory answers alone. When that is not so, what others may change is looked at in the store once in a while instead.

use super::remote::Remote;
use super::tier::{Gone, Tier};
use super::waiters::Waiters;
use crate::core::clock::{Clock, Millis, NEVER, later};
use crate::core::coherence::{Move, Origin, Told};
use crate::core::memory::Alert;
use crate::io::store::Store;
use crate::io::store::ear::{Ear, Listening, News, PATIENCE};
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// While something could be missed, what is in memory is compared with the store once in so long: half of the bound.
pub const ALONE: Duration = Duration::from_secs(1);
/// What was told of tags and namespaces counts for so long, where nobody tells more.
pub const KNOWN: Duration = Duration::from_secs(1);
/// No more is kept for a memory that nobody asks anything: it is as good as if something was missed.
const MOST: usize = 16_384;

/// What was heard in this process, and how often.
pub struct Inbox {
    /// Who this process is, among those who write.
    pub origin: Origin,
    /// What was heard since somebody looked, in order.
    news: Mutex<Vec<News>>,
    alert: Arc<Alert>,
    clock: Clock,
    /// Nothing can be missed unnoticed before this moment.
    trusted_until: AtomicU64,
    /// What is known of tags and namespaces is known until then.
    known_until: Arc<AtomicU64>,
    /// The messages that the clock had counted when it was first asked since something may have been missed; or none.
    counted: AtomicU64,
    /// A stamp that the clock gave, and a moment before it was asked for one.
    stamped: Mutex<Option<(u64, Instant)>>,
    /// How often the store's time stepped forward.
    steps: AtomicU64,
    /// When the clock was asked first, of those times it has not answered yet.
    asked: Mutex<Option<Instant>>,
    /// Who waits for what another process loads.
    waiters: Arc<Waiters>,
    begun: AtomicBool,
    /// The store has no bus, or is not to be listened to.
    deaf: AtomicBool,
    listening: Mutex<Option<Listening>>,
    counts: Counts,
}

/// What the inboxes of all processes know of their cache.
pub struct Shared {
    /// Rung where there is something to be heard.
    pub alert: Arc<Alert>,
    /// Who waits for what another process loads.
    pub waiters: Arc<Waiters>,
    /// What is known of tags and namespaces is known until then.
    pub known_until: Arc<AtomicU64>,
}

/// How often what was heard.
#[derive(Default)]
struct Counts {
    heard: AtomicU64,
    lost: AtomicU64,
    strange: AtomicU64,
    /// Suspect entries that answered, since the store could not be asked.
    unasked: AtomicU64,
}

/// Stamps are below 2^53: scripts count in floating point.
const NEWEST_STAMP: u64 = (1 << 53) - 2;

/// More than this beyond the time that has passed is a step of the store's time.
const STEP: Duration = Duration::from_secs(1);

/// Of messages, before anybody was asked.
const UNCOUNTED: u64 = u64::MAX;
/// Of messages: since somebody listens, who counts.
const LISTENED: u64 = u64::MAX - 1;

impl Inbox {
    /// An empty one, of a process.
    pub fn new(origin: Origin, shared: Shared, clock: Clock, deaf: bool) -> Self {
        let Shared { alert, waiters, known_until } = shared;
        Inbox {
            origin,
            news: Mutex::default(),
            alert,
            clock,
            trusted_until: AtomicU64::new(0),
            known_until,
            counted: AtomicU64::new(UNCOUNTED),
            stamped: Mutex::default(),
            steps: AtomicU64::new(0),
            asked: Mutex::default(),
            waiters,
            begun: AtomicBool::new(false),
            deaf: AtomicBool::new(deaf),
            listening: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Nothing is heard from now on.
    pub fn stop(&self) {
        let listening = self.listening.lock().take();
        drop(listening);
    }

    /// True if nobody is heard.
    pub fn is_deaf(&self) -> bool {
        self.deaf.load(Acquire)
    }

    /// The clock is asked now.
    pub fn asks(&self) {
        self.asked.lock().get_or_insert_with(Instant::now);
    }

    /// The clock gave this stamp, having been asked no earlier than that.
    fn stamped(&self, stamp: u64, asked: Option<Instant>) {
        let before = std::mem::replace(&mut *self.stamped.lock(), asked.map(|asked| (stamp, asked)));
        let steps = before.zip(asked).is_some_and(|((then, at), asked)| {
            let passed = asked.saturating_duration_since(at) + STEP;
            u128::from(stamp.saturating_sub(then)) > passed.as_micros()
        });
        if steps {
            self.steps.fetch_add(1, AcqRel);
        }
    }

    /// How often the store's time was seen to step forward, and when it was last seen.
    pub fn seen(&self) -> (u64, Option<Instant>) {
        let seen = self.stamped.lock().map(|(_, asked)| asked);
        (self.steps.load(Acquire), seen)
    }

    /// The clock has given a stamp, to whoever asked.
    pub fn saw(&self, stamp: u64) {
        let asked = self.asked.lock().take();
        if asked.is_some() {
            self.stamped(stamp, asked);
        }
    }

    /// No stamp that the store has given by now is later, as far as is known.
    pub fn stamp_by_now(&self) -> Option<u64> {
        let (stamp, before) = (*self.stamped.lock())?;
        let passed = u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX);
        Some(stamp.saturating_add(passed).saturating_add(1).min(NEWEST_STAMP))
    }

    /// The clock has told. It was asked less than a time-out ago. True if it is the first time since something may have been missed: what
    /// was said before that nobody has counted.
    pub fn told(&self, told: &Told) -> bool {
        self.saw(told.stamp);
        let first = self.counted.compare_exchange(UNCOUNTED, told.messages, AcqRel, Acquire).is_ok();
        self.known_until.fetch_max(later(self.clock.now(), KNOWN), AcqRel);
        first
    }

    /// What this process has moved itself, late.
    pub fn moved(&self, moved: Move) {
        self.push(News::Moved(moved));
    }

    /// A suspect entry has answered.
    pub fn note_unasked(&self) {
        self.counts.unasked.fetch_add(1, Relaxed);
    }

    /// Messages heard; how often something may have been missed; what was no message of ours; suspect entries that answered.
    pub fn counts(&self) -> [u64; 4] {
        let Counts { heard, lost, strange, unasked } = &self.counts;
        [heard, lost, strange, unasked].map(|count| count.load(Relaxed))
    }

    fn push(&self, one: News) {
        let mut news = self.news.lock();
        if news.len() >= MOST {
            news.retain(|one| matches!(one, News::Moved(_) | News::Lost));
            if !news.contains(&News::Lost) {
                news.push(News::Lost);
            }
        }
        news.push(one);
        drop(news);
        self.alert.ring();
    }

    fn proven(&self, until: Instant) -> Millis {
        let left = until.saturating_duration_since(Instant::now());
        let until = later(self.clock.now(), left);
        self.trusted_until.fetch_max(until, AcqRel);
        self.known_until.fetch_max(until, AcqRel);
        until
    }
}

impl Ear for Inbox {
    fn hear(&self, news: News) {
        match news {
            News::Strange => {
                self.counts.strange.fetch_add(1, Relaxed);
            }
            News::Proven { until, told: None } => self.alert.extend(self.proven(until)),
            News::Proven { until, told: Some(told) } => {
                self.proven(until);
                self.stamped(told.stamp, until.checked_sub(PATIENCE));
                self.push(News::Proven { until, told: Some(told) });
            }
            News::Lost => {
                self.counts.lost.fetch_add(1, Relaxed);
                self.trusted_until.store(0, Release);
                self.known_until.store(0, Release);
                self.push(News::Lost);
            }
            other => {
                self.counts.heard.fetch_add(1, Relaxed);
                if let News::Changed { key, .. } = &other {
                    self.waiters.changed(key);
                }
                self.push(other);
            }
        }
    }
}

/// Tells the memory what was heard, before it answers anything else. Nearly always there is nothing, which one number says.
#[inline]
pub fn heed(py: Python<'_>, tier: &Tier) {
    if let Some(remote) = tier.remote() {
        let now = tier.clock.now();
        if now >= remote.alert().limit() {
            heed_now(py, tier, remote, now);
        }
    }
}

#[cold]
fn heed_now(py: Python<'_>, tier: &Tier, remote: &Remote, now: Millis) {
    let (inbox, alert) = (remote.inbox(), remote.alert());
    if !inbox.is_deaf() && !inbox.begun.swap(true, AcqRel) {
        // A forked child has entries of which it has heard nothing yet.
        tier.memory.lock().hear_nothing();
        listen(remote, inbox);
    }
    if inbox.is_deaf() {
        if let Some(ledger) = &mut tier.memory.lock().ledger {
            ledger.hears = false;
        }
        return alert.set(NEVER);
    }
    let trusted = inbox.trusted_until.load(Acquire);
    // To be said before anything is taken: who says something meanwhile rings again.
    alert.set(if now < trusted { trusted } else { later(now, ALONE) });
    let news = std::mem::take(&mut *inbox.news.lock());
    let (mut gone, mut cleared) = (Gone::default(), Vec::new());
    let mut memory = tier.memory.lock();
    if now >= trusted {
        memory.hear_nothing();
    }
    for one in news {
        match one {
            News::Changed { key, version } => memory.hear_changed(remote.hash(&key), version, &mut gone),
            News::Touched { key } => memory.hear_touched(remote.hash(&key)),
            News::Moved(moved) => {
                memory.hear_moved(&moved);
                cleared.extend(whole_namespaces(moved));
            }
            News::Lost => {
                memory.hear_nothing();
                inbox.counted.store(UNCOUNTED, Release);
            }
            News::Proven { told: Some(told), .. } => {
                let knows = memory.learn(&told);
                cleared.extend((!knows).then(|| "".into()));
                let counted = inbox.counted.swap(LISTENED, AcqRel);
                // Before the clock has been asked nothing has begun to be loaded.
                let blank = counted == UNCOUNTED && memory.ledger.as_ref().is_none_or(|ledger| ledger.is_blank());
                if !blank && (counted != told.messages || !remote.store.counts_messages()) {
                    // Between what was loaded first and this nobody listened, and something was said.
                    memory.hear_nothing();
                }
            }
            News::Proven { .. } | News::Strange => {}
        }
    }
    drop(memory);
    cleared.iter().for_each(|path| tier.forget_behind(path));
    tier.release(py, gone, || None);
}

/// The namespaces that are invalidated as a whole: memory clears those at once.
pub fn whole_namespaces(moved: Move) -> impl Iterator<Item = Box<str>> {
    let gone = moved.how == crate::core::coherence::How::Gone;
    moved.names.into_iter().filter(move |name| gone && name.tag.is_empty()).map(|name| name.path)
}

fn listen(remote: &Remote, inbox: &Arc<Inbox>) {
    let ear: Arc<dyn Ear> = Arc::clone(inbox) as Arc<dyn Ear>;
    match remote.store.listen(remote.clock_key(), inbox.origin, remote.external, ear) {
        Some(listening) => *inbox.listening.lock() = Some(listening),
        None => inbox.deaf.store(true, Release),
    }
}
