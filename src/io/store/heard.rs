//! What this process hears of others who use a cache: noted by the store's thread, and told to the memory by whoever comes next.
//!
//! The store's thread never touches a table: it notes what it hears and rings. A memory may have several parts, each with a lock of its own,
//! and each is told all: keys are called behind as no part knows them, so nobody can say whose a key is. While nothing can be
//! missed unnoticed, memory answers alone. When that is not so, what others may change is looked at in the store once in a while instead.

use super::Store;
use super::ear::{Ear, Listening, News};
use crate::core::clock::{Clock, Millis, NEVER, later};
use crate::core::coherence::{How, Move, Origin, Told};
use crate::core::memory::{Alert, Discard, Memory};
use crate::core::remote::Version;
use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

/// While something could be missed, what is in memory is compared with the store once in so long: half of the bound.
const ALONE: Duration = Duration::from_secs(1);
/// What was told of tags and namespaces counts for so long, where nobody tells more.
const KNOWN: Duration = Duration::from_secs(1);
/// No more is kept for a memory that nobody asks anything: it is as good as if something was missed.
const MOST: usize = 16_384;
/// Of messages, before anybody was asked.
const UNCOUNTED: u64 = u64::MAX;

/// See the module.
pub struct Heard {
    /// Who this process is, among those who write.
    pub origin: Origin,
    parts: Box<[Part]>,
    clock: Clock,
    /// Nothing can be missed unnoticed before this moment.
    trusted_until: AtomicU64,
    begun: AtomicBool,
    /// The store has no bus, or is not to be listened to.
    deaf: AtomicBool,
    listening: Mutex<Option<Listening>>,
    hasher: DefaultHashBuilder,
    counts: Counts,
}

/// What a part of the memory looks at to know whether it is to be told something.
pub struct Signs {
    /// Rung where it is.
    pub alert: Arc<Alert>,
    /// What this part knows of tags and namespaces it knows until then.
    pub known_until: Arc<AtomicU64>,
}

/// What one part of the memory is to be told.
struct Part {
    /// What was heard since somebody looked, in order.
    words: Mutex<Vec<Word>>,
    alert: Arc<Alert>,
    known_until: Arc<AtomicU64>,
    /// The messages that the clock had counted when it was first asked since something may have been missed; or none.
    counted: AtomicU64,
    /// Before that something was kept.
    unasked: AtomicBool,
}

/// One of the news; keys by their hashes.
#[derive(Clone, Debug)]
enum Word {
    Changed { key: u64, version: Version },
    Touched { key: u64 },
    Moved(Arc<Move>),
    Lost,
    Proven(Arc<Told>),
}

/// What was taken for a part, and until when it may trust that this is all.
#[derive(Debug)]
pub struct Words {
    part: usize,
    trusted: bool,
    words: Vec<Word>,
}

/// How often what was heard.
#[derive(Default)]
struct Counts {
    heard: AtomicU64,
    lost: AtomicU64,
    strange: AtomicU64,
    unasked: AtomicU64,
}

impl Heard {
    /// Nothing yet, by this process, for a memory of these parts. `hears`: it is to listen, which the first who [attends](Self::attends)
    /// begins.
    pub fn new(
        origin: Origin,
        parts: impl IntoIterator<Item = Signs>,
        (clock, hasher): (&Clock, &DefaultHashBuilder),
        hears: bool,
    ) -> Self {
        let part = |Signs { alert, known_until }| Part {
            words: Mutex::default(),
            alert,
            known_until,
            counted: AtomicU64::new(UNCOUNTED),
            unasked: AtomicBool::new(false),
        };
        let parts: Box<[Part]> = parts.into_iter().map(part).collect();
        if hears {
            parts.iter().for_each(|part| part.alert.ring());
        }
        Heard {
            origin,
            parts,
            clock: clock.clone(),
            trusted_until: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            deaf: AtomicBool::new(!hears),
            listening: Mutex::default(),
            hasher: hasher.clone(),
            counts: Counts::default(),
        }
    }

    /// The hash by which memories know what is called so behind.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key).max(1)
    }

    /// True if a part of the memory is to be told something before it answers.
    #[inline]
    pub fn calls(&self, part: usize, now: Millis) -> bool {
        now >= self.parts[part].alert.limit()
    }

    /// True for the first who attends, who is to [listen](Self::listen) then.
    pub fn attends(&self) -> bool {
        !self.is_deaf() && !self.begun.swap(true, AcqRel)
    }

    /// An ear that has this hear hears from now on what the store says of the cache of this escaped name, if it has a bus; `external`: of what
    /// is written by who tells nobody, too.
    pub fn listen(&self, store: &dyn Store, cache: &[u8], external: bool, ear: Arc<dyn Ear>) {
        match store.listen(cache, self.origin, external, ear) {
            Some(listening) => *self.listening.lock() = Some(listening),
            None => self.deaf.store(true, Release),
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

    /// What is to be told to a part of the memory that [calls](Self::calls); `None` where nobody is heard.
    pub fn take(&self, part: usize, now: Millis) -> Option<Words> {
        let Part { alert, words, .. } = &self.parts[part];
        if self.is_deaf() {
            alert.set(NEVER);
            return None;
        }
        let trusted = self.trusted_until.load(Acquire);
        // To be said before anything is taken: who says something meanwhile rings again.
        alert.set(if now < trusted { trusted } else { later(now, ALONE) });
        let words = std::mem::take(&mut *words.lock());
        Some(Words { part, trusted: now < trusted, words })
    }

    /// Tells it to that part. Gives the namespaces of which all has gone. `counts`: the clock counts every message.
    pub fn tell<K, V, W>(
        &self,
        Words { part, trusted, words }: Words,
        memory: &mut Memory<K, V, W>,
        counts: bool,
        out: &mut Discard<K, V>,
    ) -> Vec<Box<str>> {
        let mut cleared = Vec::new();
        if !trusted {
            memory.hear_nothing();
        }
        for word in words {
            match word {
                Word::Changed { key, version } => memory.hear_changed(key, version, out),
                Word::Touched { key } => memory.hear_touched(key),
                Word::Moved(moved) => {
                    memory.hear_moved(&moved);
                    cleared.extend(whole_namespaces(&moved));
                }
                Word::Lost => {
                    memory.hear_nothing();
                    self.parts[part].counted.store(UNCOUNTED, Release);
                }
                Word::Proven(told) => {
                    let knows = memory.learn(&told);
                    cleared.extend((!knows).then(|| "".into()));
                    let Part { counted, unasked, .. } = &self.parts[part];
                    let (counted, unasked) = (counted.load(Acquire), unasked.swap(false, AcqRel));
                    // Before the clock has been asked nothing has begun to be loaded.
                    let blank = counted == UNCOUNTED && memory.ledger.as_ref().is_none_or(|ledger| ledger.is_blank());
                    if !blank && (unasked || counted != told.messages || !counts) {
                        // Between what was loaded first and this nobody listened, and something was said.
                        memory.hear_nothing();
                    }
                }
            }
        }
        cleared
    }

    /// The clock has told a part, which had it asked less than a time-out ago. False if what that has in memory can no longer be compared
    /// with what is told.
    pub fn learn<K, V, W>(&self, part: usize, told: &Told, memory: &mut Memory<K, V, W>) -> bool {
        let part = &self.parts[part];
        let _ = part.counted.compare_exchange(UNCOUNTED, told.messages, AcqRel, Acquire);
        part.known_until.fetch_max(later(self.clock.now(), KNOWN), AcqRel);
        memory.learn(told)
    }

    /// Something goes into memory from now on of which the store knows nothing yet, or was not asked. Where nobody would notice what
    /// others say of it, it is looked at again when somebody does.
    pub fn keeps_unasked(&self, part: usize, now: Millis) {
        let part = &self.parts[part];
        if part.counted.load(Acquire) == UNCOUNTED && !self.trusts(now) {
            part.unasked.store(true, Release);
        }
    }

    /// True if nothing can be missed unnoticed.
    pub fn trusts(&self, now: Millis) -> bool {
        now < self.trusted_until.load(Acquire)
    }

    /// True if the clock is to be asked what has moved before a part judges something by that: also where it has been told since, and has not
    /// listened yet.
    pub fn has_to_ask(&self, part: usize, now: Millis) -> bool {
        now >= self.parts[part].known_until.load(Acquire) || self.calls(part, now)
    }

    /// What this process has moved itself, late.
    pub fn moved(&self, moved: Move) {
        self.push(&Word::Moved(Arc::new(moved)));
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

    fn push(&self, word: &Word) {
        for part in &self.parts {
            part.push(word.clone());
        }
    }

    fn proven(&self, until: Instant) -> Millis {
        let left = until.saturating_duration_since(Instant::now());
        let until = later(self.clock.now(), left);
        self.trusted_until.fetch_max(until, AcqRel);
        self.parts.iter().for_each(|part| _ = part.known_until.fetch_max(until, AcqRel));
        until
    }
}

impl Part {
    fn push(&self, word: Word) {
        let mut words = self.words.lock();
        if words.len() >= MOST {
            words.retain(|word| matches!(word, Word::Moved(_) | Word::Lost));
            if !words.iter().any(|word| matches!(word, Word::Lost)) {
                words.push(Word::Lost);
            }
        }
        words.push(word);
        drop(words);
        self.alert.ring();
    }
}

impl Ear for Heard {
    fn hear(&self, news: News) {
        match news {
            News::Strange => drop(self.counts.strange.fetch_add(1, Relaxed)),
            News::Proven { until, told: None } => {
                let until = self.proven(until);
                self.parts.iter().for_each(|part| part.alert.extend(until));
            }
            News::Proven { until, told: Some(told) } => {
                self.proven(until);
                self.push(&Word::Proven(Arc::new(told)));
            }
            News::Lost => {
                self.counts.lost.fetch_add(1, Relaxed);
                self.trusted_until.store(0, Release);
                self.parts.iter().for_each(|part| part.known_until.store(0, Release));
                self.push(&Word::Lost);
            }
            News::Changed { key, version } => self.heard(&Word::Changed { key: self.hash(&key), version }),
            News::Touched { key } => self.heard(&Word::Touched { key: self.hash(&key) }),
            News::Moved(moved) => self.heard(&Word::Moved(Arc::new(moved))),
        }
    }
}

impl Heard {
    fn heard(&self, word: &Word) {
        self.counts.heard.fetch_add(1, Relaxed);
        self.push(word);
    }
}

/// The namespaces that are invalidated as a whole: memory clears those at once.
pub fn whole_namespaces(moved: &Move) -> impl Iterator<Item = Box<str>> {
    let gone = moved.how == How::Gone;
    moved.names.iter().filter(move |name| gone && name.tag.is_empty()).map(|name| name.path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::flight::{Settled, Written};
    use crate::core::memory::{Capacity, Eviction, New, Placement, RegionId, Span};
    use crate::core::policy::Lifetime;
    use crate::core::remote::ledger::Note;

    const TOLD: Told = Told { stamp: 9, birth: 1, messages: 2, moves: 0, all: None };

    /// What becomes of an entry that was kept before the clock had counted two messages, as many as there are when somebody listens.
    fn kept(unasked: bool) -> Settled {
        let (clock, signs) = (Clock::system(), Signs { alert: Arc::default(), known_until: Arc::default() });
        let heard = Heard::new(Origin(1), [signs], (&clock, &DefaultHashBuilder::default()), true);
        let mut memory = Memory::<&str, u32, u32>::new(Capacity::entries(9), Eviction::Lru);
        memory.ledger.get_or_insert_default().hears = true;
        let group = memory.entries.add_group(RegionId(0));
        let tell = |memory: &mut Memory<_, _, _>| {
            let words = heard.take(0, clock.now()).expect("it hears");
            heard.tell(words, memory, true, &mut Discard::default());
        };
        tell(&mut memory);
        if unasked {
            heard.keeps_unasked(0, clock.now());
        }
        let new = New { hash: 1, key: "k", value: 1, placement: Placement::new(group, NEVER, 0) };
        let lifetime = Lifetime { span: Span::until(NEVER), ..Lifetime::plain(NEVER) };
        let id = memory.write(Written { new, lifetime }, (None, None), 0, &mut Discard::default()).unwrap();
        let turn = memory.entries.turn();
        memory.note(id, Note { key: heard.hash(b"k"), ..Note::of(Some(Version(3))) }, turn);
        assert!(heard.learn(0, &TOLD, &mut memory));
        heard.hear(News::Proven { until: Instant::now() + Duration::from_secs(2), told: Some(TOLD) });
        tell(&mut memory);
        memory.settle(id, 0)
    }

    #[test]
    fn what_was_kept_when_nobody_counted_is_looked_at_again_when_somebody_listens() {
        assert_eq!(kept(true), Settled::Suspect);
        assert_eq!(kept(false), Settled::Plain);
    }

    #[test]
    fn who_was_told_and_has_not_listened_yet_asks() {
        let (clock, signs) = (Clock::system(), Signs { alert: Arc::default(), known_until: Arc::default() });
        let heard = Heard::new(Origin(1), [signs], (&clock, &DefaultHashBuilder::default()), true);
        heard.take(0, clock.now());
        heard.hear(News::Proven { until: Instant::now() + Duration::from_secs(2), told: Some(TOLD) });
        assert!(heard.has_to_ask(0, clock.now()));
        heard.take(0, clock.now());
        assert!(!heard.has_to_ask(0, clock.now()));
    }
}
