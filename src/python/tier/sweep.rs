//! What the sweeper does for a cache: frees what is over, in short slices. When it comes is `work`'s.

use super::*;

/// The interpreter is held for this long at a stretch; longer while the sweep is behind, since getting it back from a busy
/// thread costs 5 ms each time.
const SLICE: Duration = Duration::from_micros(1000);
const SLICE_WHEN_BEHIND: Duration = Duration::from_micros(3000);

impl Sweep for Tier {
    fn sweep(&self) -> Option<Millis> {
        // Decided without the table's lock: it is only ever taken by threads that hold the interpreter.
        let now = self.clock.now();
        let due = self.appointment.due();
        if due.is_none_or(|due| due > now) {
            return due;
        }
        // What is inserted from now on makes an appointment of its own.
        self.appointment.set(None);
        // At the end of the interpreter there is nothing left to free.
        let due = Python::try_attach(|py| self.sweep_slice(py, now)).flatten();
        if let Some(due) = due {
            self.appointment.note(due);
        }
        self.appointment.due()
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Tier {
    fn sweep_slice(&self, py: Python<'_>, now: Millis) -> Option<Millis> {
        let slice = if self.behind.load(Relaxed) { SLICE_WHEN_BEHIND } else { SLICE };
        let until = Instant::now() + slice;
        loop {
            let (mut gone, mut gone_aliases) = (Gone::default(), Discard::default());
            let mut memory = self.memory.lock();
            let more = memory.entries.tidy(now, 64, &mut gone) | memory.aliases.tidy(now, 64, &mut gone_aliases);
            let due = memory.next_due();
            drop(memory);
            drop(gone_aliases);
            self.release(py, gone, || None);
            if !more {
                self.shrinking.store(false, Relaxed);
                self.behind.store(false, Relaxed);
                return due;
            }
            if Instant::now() >= until {
                self.behind.store(true, Relaxed);
                return Some(0);
            }
        }
    }
}
