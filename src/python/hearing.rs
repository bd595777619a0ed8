//! What a cache hears of others who use its store: noted by the store's thread, and told to the memory by whoever comes next.
//!
//! `io::store::heard` keeps what is heard; here it is told to the memory, with the interpreter held, and beside it stands what has been seen of
//! the store's time.

use super::remote::Remote;
use super::tier::{Gone, Tier};
use super::waiters::Waiters;
use crate::core::clock::Millis;
use crate::io::store::ear::{Ear, News, PATIENCE};
use crate::io::store::heard::Heard;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::{Duration, Instant};

/// What was heard in this process, and what time the store has.
pub struct Inbox {
    /// What the memory is to be told.
    pub heard: Heard,
    /// A stamp that the clock gave, and a moment before it was asked for one.
    stamped: Mutex<Option<(u64, Instant)>>,
    /// How often the store's time stepped forward.
    steps: AtomicU64,
    /// When the clock was asked first, of those times it has not answered yet.
    asked: Mutex<Option<Instant>>,
    /// Who waits for what another process loads.
    waiters: Arc<Waiters>,
}

/// Stamps are below 2^53: scripts count in floating point.
const NEWEST_STAMP: u64 = (1 << 53) - 2;

/// More than this beyond the time that has passed is a step of the store's time.
const STEP: Duration = Duration::from_secs(1);

impl Inbox {
    /// One in which nothing is yet; `waiters` are told earlier.
    pub fn new(heard: Heard, waiters: Arc<Waiters>) -> Self {
        let (stamped, steps, asked) = (Mutex::default(), AtomicU64::new(0), Mutex::default());
        Inbox { heard, stamped, steps, asked, waiters }
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
}

impl Ear for Inbox {
    fn hear(&self, news: News) {
        match &news {
            News::Proven { until, told: Some(told) } => self.stamped(told.stamp, until.checked_sub(PATIENCE)),
            News::Changed { key, .. } => self.waiters.changed(key),
            _ => {}
        }
        self.heard.hear(news);
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
    let inbox = remote.inbox();
    if inbox.heard.attends() {
        // A forked child has entries of which it has heard nothing yet.
        tier.memory.lock().hear_nothing();
        let ear = Arc::clone(inbox) as Arc<dyn Ear>;
        inbox.heard.listen(&*remote.store, remote.clock_key(), remote.external, ear);
    }
    let (mut gone, mut memory) = (Gone::default(), tier.memory.lock());
    let Some(words) = inbox.heard.take(0, now) else {
        memory.ledger.iter_mut().for_each(|ledger| ledger.hears = false);
        return;
    };
    let cleared = inbox.heard.tell(words, &mut memory, remote.store.counts_messages(), &mut gone);
    drop(memory);
    cleared.iter().for_each(|path| tier.forget_behind(path));
    tier.release(py, gone, || None);
}
