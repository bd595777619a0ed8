//! Things on their way to a thread that sleeps on a file descriptor, such as an event loop.
//!
//! Any thread puts them in; the first one into an empty box wakes the sleeper, and those that follow ride along. So however much
//! comes while it is busy costs one wake.

use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// See the module.
pub struct Inbox<T> {
    inside: Mutex<Inside<T>>,
    bell: Bell,
}

struct Inside<T> {
    things: Vec<T>,
    /// True while whoever takes is awake, and will look before it sleeps.
    attended: bool,
}

impl<T> AsFd for Inbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl<T> Inbox<T> {
    /// Empty.
    ///
    /// # Errors
    ///
    /// The system's, if it gives no file descriptor.
    pub fn new() -> io::Result<Self> {
        let inside = Inside { things: Vec::new(), attended: false };
        Ok(Inbox { inside: Mutex::new(inside), bell: Bell::new()? })
    }

    /// Readable as long as there is something to take.
    pub fn fd(&self) -> RawFd {
        self.bell.as_fd().as_raw_fd()
    }

    /// Puts something in. Never waits for whoever takes it.
    pub fn put(&self, things: impl IntoIterator<Item = T>) {
        let mut inside = self.inside.lock();
        let was_empty = inside.things.is_empty();
        inside.things.extend(things);
        let first = was_empty && !inside.things.is_empty() && !inside.attended;
        drop(inside);
        if first {
            self.bell.ring();
        }
    }

    /// Takes everything out, in the order it came.
    pub fn take(&self) -> Vec<T> {
        // Silenced first: what comes in between rings once too often, and never once too seldom.
        self.bell.silence();
        std::mem::take(&mut self.inside.lock().things)
    }

    /// Takes everything out after this was done, which may put things in: nobody has to be woken for them.
    pub fn take_after(&self, work: impl FnOnce()) -> Vec<T> {
        self.inside.lock().attended = true;
        let _attending = Attending(self);
        work();
        std::mem::take(&mut self.inside.lock().things)
    }
}

/// Until this is dropped, whoever takes is awake.
struct Attending<'a, T>(&'a Inbox<T>);

impl<T> Drop for Attending<'_, T> {
    fn drop(&mut self) {
        let mut inside = self.0.inside.lock();
        inside.attended = false;
        let is_left = !inside.things.is_empty();
        drop(inside);
        if is_left {
            // What has come since, or if the work came to a bad end: nobody was woken for it.
            self.0.bell.ring();
        }
    }
}

#[cfg(target_os = "linux")]
struct Bell(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Bell {
    fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Bell(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn ring(&self) {
        // Full after 2^64 rings only.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

#[cfg(not(target_os = "linux"))]
struct Bell {
    ringing: std::os::unix::net::UnixStream,
    heard: std::os::unix::net::UnixStream,
}

#[cfg(not(target_os = "linux"))]
impl Bell {
    fn new() -> io::Result<Self> {
        let (ringing, heard) = std::os::unix::net::UnixStream::pair()?;
        ringing.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Bell { ringing, heard })
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }

    fn ring(&self) {
        // One that does not fit any more is not needed.
        let _ = io::Write::write(&mut &self.ringing, &[1]);
    }

    fn silence(&self) {
        while io::Read::read(&mut &self.heard, &mut [0; 64]).is_ok_and(|read| read == 64) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn rings<T>(inbox: &Inbox<T>) -> bool {
        let mut fds = [rustix::event::PollFd::new(inbox, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    #[test]
    fn it_rings_while_there_is_something_in_it() {
        let inbox = Inbox::new().unwrap();
        assert!(!rings(&inbox));
        inbox.put([]);
        assert!(!rings(&inbox));
        inbox.put([1, 2]);
        inbox.put([3]);
        assert!(rings(&inbox));
        assert_eq!(inbox.take(), [1, 2, 3]);
        assert!(!rings(&inbox));
        assert!(inbox.take().is_empty());
    }

    #[test]
    fn what_is_put_in_by_who_takes_it_rings_nobody() {
        let inbox = Inbox::new().unwrap();
        inbox.put([1]);
        assert_eq!(inbox.take_after(|| inbox.put([2])), [1, 2]);
        assert!(rings(&inbox), "for what was there before");
        assert!(inbox.take().is_empty());
        assert_eq!(inbox.take_after(|| inbox.put([3])), [3]);
        assert!(!rings(&inbox));
        inbox.put([4]);
        assert!(rings(&inbox));
    }

    #[test]
    fn work_that_panics_leaves_what_it_has_put_in_with_a_ring() {
        let inbox = Inbox::new().unwrap();
        let work = || {
            inbox.put([1]);
            panic!("of the work");
        };
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| inbox.take_after(work)));
        assert!(worked.is_err() && rings(&inbox));
        assert_eq!(inbox.take(), [1]);
        inbox.put([2]);
        assert!(rings(&inbox));
    }

    #[test]
    fn nothing_put_in_by_any_thread_is_left_without_a_ring() {
        let inbox = Arc::new(Inbox::new().unwrap());
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let inbox = Arc::clone(&inbox);
                scope.spawn(move || (0..10_000).for_each(|n| inbox.put([(thread, n)])));
            }
            let (mut seen, mut next) = (0, [0; 4]);
            while seen < 40_000 {
                let mut fds = [rustix::event::PollFd::new(&*inbox, rustix::event::PollFlags::IN)];
                let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
                assert!(rustix::event::poll(&mut fds, Some(&limit)).unwrap() > 0, "no ring after {seen}");
                for (thread, n) in inbox.take() {
                    assert_eq!(n, std::mem::replace(&mut next[thread as usize], n + 1));
                    seen += 1;
                }
            }
        });
    }
}
