//! Time as the cache counts it: whole milliseconds on a monotonic line. The only file of the core that asks the system.
//!
//! A [`Clock`] is handed to the drivers, which pass plain [`Millis`] to every decision. A frozen clock stands still until
//! [`Clock::advance`] moves it, so tests own the time and never sleep.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    recent: Recent,
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
    }

    /// Lets a frozen clock follow the system's time again.
    pub fn thaw(&self) {
        self.0.now.store(0, Relaxed);
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
        }
    }

    /// The present.
    #[inline]
    pub fn now(&self) -> Millis {
        match self.0.now.load(Relaxed) {
            0 => self.0.recent.now(),
            frozen => frozen,
        }
    }

    /// The calendar time of a moment, in milliseconds since 1970 (UTC).
    pub fn wall(&self, moment: Millis) -> u64 {
        if self.is_frozen() {
            return self.0.wall_at_zero.load(Relaxed) + moment;
        }
        let now = system_now();
        if moment >= now { wall_now() + (moment - now) } else { wall_now().saturating_sub(now - moment) }
    }
}

/// The last reading of the system's time, good for a twentieth to a fifth of a millisecond.
///
/// Reading the time is the dearest part of a hit. The processor's cycle counter costs a third of it, and suffices to tell
/// that hardly any time has passed since the last reading. A counter that is not invariant, or goes backwards when a
/// virtual machine moves, only leads to a new reading.
#[derive(Debug, Default)]
struct Recent {
    millis: AtomicU64,
    cycles: AtomicU64,
}

/// At 1 to 4 cycles a nanosecond this is 0.05 to 0.2 ms.
const FRESH_CYCLES: u64 = 200_000;

impl Recent {
    #[inline]
    fn now(&self) -> Millis {
        let Some(cycles) = cycles::read() else { return system_now() };
        // `cycles` is stored after `millis`: whoever sees the new one sees the other too.
        if cycles.wrapping_sub(self.cycles.load(Acquire)) < FRESH_CYCLES {
            return self.millis.load(Relaxed);
        }
        self.read(cycles)
    }

    #[cold]
    fn read(&self, cycles: u64) -> Millis {
        // A thread that was held up here must not bring back an older time.
        let now = system_now();
        let now = self.millis.fetch_max(now, Relaxed).max(now);
        self.cycles.store(cycles, Release);
        now
    }
}

/// The processor's cycle counter, where it runs at a constant rate whatever the processor does.
#[cfg(target_arch = "x86_64")]
mod cycles {
    use std::arch::x86_64::{__cpuid, _rdtsc};
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    static INVARIANT: AtomicU8 = AtomicU8::new(UNKNOWN);
    const UNKNOWN: u8 = 2;

    #[inline]
    pub fn read() -> Option<u64> {
        match INVARIANT.load(Relaxed) {
            // SAFETY: every x86-64 processor has the instruction.
            1 => Some(unsafe { _rdtsc() }),
            0 => None,
            _ => {
                INVARIANT.store(is_invariant(), Relaxed);
                None
            }
        }
    }

    /// CPUID leaf 0x80000007, EDX bit 8 (Intel SDM 3B, 18.17.1; AMD APM 3, appendix E).
    #[cold]
    fn is_invariant() -> u8 {
        let known = __cpuid(0x8000_0000).eax >= 0x8000_0007;
        u8::from(known && __cpuid(0x8000_0007).edx >> 8 & 1 == 1)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod cycles {
    pub fn read() -> Option<u64> {
        None
    }
}

/// Starts at one hour, so that "an hour ago" is a moment too.
fn system_now() -> Millis {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    3_600_000 + elapsed.as_secs() * 1000 + u64::from(elapsed.subsec_millis())
}

fn wall_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * 1000 + u64::from(since.subsec_millis())
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
    fn no_deadline_lies_beyond_never() {
        assert_eq!(deadline(5, None), NEVER);
        assert_eq!(deadline(5, Some(Duration::MAX)), NEVER);
        assert_eq!(deadline(5, Some(Duration::from_nanos(1))), 6);
    }
}
