//! Time as the cache counts it: whole milliseconds on a monotonic line. The only file of the core that asks the system.
//!
//! A [`Clock`] is handed to the drivers, which pass plain [`Millis`] to every decision. A frozen clock stands still until
//! [`Clock::advance`] moves it, so tests own the time and never sleep.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds on the monotonic line of this process; meaningless elsewhere.
pub type Millis = u64;

/// The deadline of what never expires: the largest value that fits the 44 bits a slot gives to time (557 years).
pub const NEVER: Millis = (1 << 44) - 1;

/// A source of [`Millis`], shared by cloning.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Frozen>);

#[derive(Debug, Default)]
struct Frozen {
    /// 0 while the system's time is used.
    now: AtomicU64,
    wall_at_zero: AtomicU64,
    watchers: Mutex<Watchers>,
}

/// Who is to be woken when the clock is touched.
#[derive(Debug, Default)]
struct Watchers {
    begun: u64,
    wakers: HashMap<u64, Waker>,
}

/// Somebody who waits for a moment of a clock, and has to look anew when that is stopped, moved or let go.
#[derive(Debug)]
pub struct Watch {
    clock: Clock,
    number: u64,
}

impl Watch {
    /// Has `waker` woken, in the place of the one before, each time somebody touches the clock.
    pub fn wake(&self, waker: &Waker) {
        let before = self.clock.0.watchers.lock().wakers.insert(self.number, waker.clone());
        drop(before);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let waker = self.clock.0.watchers.lock().wakers.remove(&self.number);
        drop(waker);
    }
}

impl Clock {
    /// The system's monotonic time.
    pub fn system() -> Self {
        Self::default()
    }

    /// Stops this clock, and every clone of it, at its present time.
    pub fn freeze(&self) {
        let now = self.now();
        self.0.wall_at_zero.store(wall_now().saturating_sub(now), Relaxed);
        self.0.now.store(now, Relaxed);
        self.tell_watchers();
    }

    /// Lets a frozen clock follow the system's time again.
    pub fn thaw(&self) {
        self.0.now.store(0, Relaxed);
        self.tell_watchers();
    }

    /// For whoever waits for a moment of this clock.
    pub fn watch(&self) -> Watch {
        let mut watchers = self.0.watchers.lock();
        watchers.begun += 1;
        Watch { clock: self.clone(), number: watchers.begun }
    }

    /// Wakers run foreign code: outside the lock.
    fn tell_watchers(&self) {
        let wakers: Vec<Waker> = self.0.watchers.lock().wakers.values().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// True between [`freeze`](Self::freeze) and [`thaw`](Self::thaw).
    pub fn is_frozen(&self) -> bool {
        self.0.now.load(Relaxed) != 0
    }

    /// Moves a frozen clock forward; a running clock is not touched.
    pub fn advance(&self, by: Duration) {
        if self.is_frozen() {
            let by = u64::try_from(by.as_millis()).unwrap_or(NEVER).min(NEVER);
            self.0.now.fetch_add(by, Relaxed);
            self.tell_watchers();
        }
    }

    /// The present.
    #[inline]
    pub fn now(&self) -> Millis {
        match self.0.now.load(Relaxed) {
            0 => system::now(),
            frozen => frozen,
        }
    }

    /// The present to count a ttl from: exact for a short one, up to a tick early, less than a hundredth of it, for one of
    /// seconds or none.
    #[inline]
    pub fn now_for(&self, ttl: Option<Duration>) -> Millis {
        match self.0.now.load(Relaxed) {
            0 if ttl.is_none_or(|ttl| ttl.as_secs() > 0) => system::coarse(),
            0 => system::now(),
            frozen => frozen,
        }
    }

    /// True once a moment has come. Costs little while it is far away, which is the question of nearly every hit.
    #[inline]
    pub fn has_come(&self, moment: Millis) -> bool {
        match self.0.now.load(Relaxed) {
            0 => moment <= system::coarse() + COARSE_LAG && moment <= system::now(),
            frozen => moment <= frozen,
        }
    }

    /// The present, and its calendar time in milliseconds since 1970 (UTC).
    pub fn both(&self) -> (Millis, u64) {
        match self.0.now.load(Relaxed) {
            0 => (system::now(), wall_now()),
            frozen => (frozen, self.0.wall_at_zero.load(Relaxed) + frozen),
        }
    }

    /// The calendar time of a moment, in milliseconds since 1970 (UTC).
    pub fn wall(&self, moment: Millis) -> u64 {
        if self.is_frozen() {
            return self.0.wall_at_zero.load(Relaxed) + moment;
        }
        let now = system::now();
        if moment >= now { wall_now() + (moment - now) } else { wall_now().saturating_sub(now - moment) }
    }
}

/// The coarse time is this far behind at most, with much to spare: it moves with the kernel's tick, every 1 to 10 ms.
const COARSE_LAG: Millis = 100;

/// CLOCK_MONOTONIC, exact (20 ns) or as of the kernel's last tick (3 ns, and nothing waits for it).
///
/// Both are kept by the kernel, so they are right after a process was stopped, frozen or moved; a word that a thread of
/// ours kept up to date would not be. They start at one hour, so that "an hour ago" is a moment too.
#[cfg(target_os = "linux")]
mod system {
    use super::Millis;
    use rustix::time::{ClockId, clock_gettime};

    pub fn now() -> Millis {
        read(ClockId::Monotonic)
    }

    #[inline]
    pub fn coarse() -> Millis {
        read(ClockId::MonotonicCoarse)
    }

    #[inline]
    fn read(clock: ClockId) -> Millis {
        let time = clock_gettime(clock);
        3_600_000 + time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Millis;
    use std::sync::OnceLock;
    use std::time::Instant;

    pub fn now() -> Millis {
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        3_600_000 + elapsed.as_secs() * 1000 + u64::from(elapsed.subsec_millis())
    }

    pub fn coarse() -> Millis {
        now()
    }
}

fn wall_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * 1000 + u64::from(since.subsec_millis())
}

/// A moment that much later.
pub fn later(moment: Millis, by: Duration) -> Millis {
    moment.saturating_add(u64::try_from(by.as_millis()).unwrap_or(NEVER)).min(NEVER)
}

/// `now + ttl`, where nothing reaches beyond [`NEVER`] and a ttl shorter than a millisecond still lives for one.
pub fn deadline(now: Millis, ttl: Option<Duration>) -> Millis {
    match ttl {
        None => NEVER,
        Some(ttl) => {
            let ttl = u64::try_from(ttl.as_millis()).unwrap_or(NEVER).max(1);
            now.saturating_add(ttl).min(NEVER)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_moves_only_when_told() {
        let clock = Clock::system();
        clock.freeze();
        let before = clock.now();
        clock.advance(Duration::from_secs(300));
        assert_eq!(clock.now(), before + 300_000);
        assert_eq!(clock.wall(clock.now()) - clock.wall(before), 300_000);
        clock.thaw();
        assert!(clock.now() < before + 300_000);
    }

    #[test]
    fn whoever_watches_a_clock_is_woken_when_it_is_touched_and_not_after() {
        struct Count(AtomicU64);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let (clock, count) = (Clock::system(), Arc::new(Count(AtomicU64::new(0))));
        let watch = clock.clone().watch();
        watch.wake(&Waker::from(Arc::clone(&count)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(count.0.load(Relaxed), 0, "a running clock cannot be moved");
        clock.freeze();
        clock.advance(Duration::from_secs(1));
        clock.thaw();
        assert_eq!(count.0.load(Relaxed), 3);
        drop(watch);
        clock.freeze();
        assert_eq!(count.0.load(Relaxed), 3);
        assert_eq!(Arc::strong_count(&count), 1, "its waker is gone");
    }

    #[test]
    fn the_coarse_time_is_never_ahead_and_never_far_behind() {
        let clock = Clock::system();
        for _ in 0..1_000 {
            let (coarse, exact) = (system::coarse(), system::now());
            assert!(coarse <= exact && exact <= coarse + COARSE_LAG, "{coarse} against {exact}");
            let now = clock.now();
            assert!(clock.has_come(now) && clock.has_come(now - 1) && !clock.has_come(now + 10_000));
        }
    }

    #[test]
    fn no_deadline_lies_beyond_never() {
        assert_eq!(deadline(5, None), NEVER);
        assert_eq!(deadline(5, Some(Duration::MAX)), NEVER);
        assert_eq!(deadline(5, Some(Duration::from_nanos(1))), 6);
    }
}
