//! Who reads a connection: the thread that drives it, or one that is alone in asking there, and sleeps anyway until answers come: an event
//! loop's, or one that is blocked.
//!
//! An answer that another thread reads costs two threads being woken; read by the one that waits for it, one. So a connection that only one
//! has used for a while is offered to it. The loan ends as soon as somebody else asks there, the borrower is slow to read what another would
//! have read by now, or the connection does: then the borrower only has to let go.

use crate::io::inbox::Inbox;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

/// What can be lent.
pub trait Lender: Send + Sync {
    /// Lends the reading, under a number of its own. What is given is readable while there is something to read; `None`: not now.
    fn lend(&self, to: &Arc<Borrower>) -> Option<(OwnedFd, u64)>;

    /// Reads what has come, and tells who waits for it. False: the loan of this number is over.
    fn read(&self, number: u64) -> bool;

    /// The loan of this number is over.
    fn take_back(&self, number: u64);
}

/// An event loop, or a thread, that can watch file descriptors.
#[derive(Default)]
pub struct Borrower {
    offered: Mutex<Vec<Arc<dyn Lender>>>,
}

impl Borrower {
    /// Offers it something to read, while it asks.
    pub fn offer(&self, lender: Arc<dyn Lender>) {
        self.offered.lock().push(lender);
    }

    /// Takes what was offered.
    pub fn accept(self: &Arc<Self>) -> Vec<Loan> {
        let offered = std::mem::take(&mut *self.offered.lock());
        let loan = |lender: Arc<dyn Lender>| {
            let (fd, number) = lender.lend(self)?;
            Some(Loan { lender, number, fd, pid: std::process::id() })
        };
        offered.into_iter().filter_map(loan).collect()
    }
}

/// The right to read a connection. Given back when it is dropped.
pub struct Loan {
    lender: Arc<dyn Lender>,
    number: u64,
    /// One of its own: it stays open until the borrower has let go of it, whatever becomes of the connection.
    fd: OwnedFd,
    /// A forked child has the memory of a loan, and not the loan.
    pid: u32,
}

impl Loan {
    /// Readable while there is something to read, and when the loan is over by the end of the connection.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Reads what has come, and tells who waits for it. False: it is over, and the descriptor needs no watching any more.
    pub fn read(&self) -> bool {
        self.is_own() && self.lender.read(self.number)
    }

    fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // In a child the lender's locks may be held for ever.
        if self.is_own() {
            self.lender.take_back(self.number);
        }
    }
}

impl AsFd for Loan {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a thread that blocks has borrowed, and what wakes it while it sleeps on that.
pub struct Sleeper {
    borrower: Arc<Borrower>,
    loans: Vec<Loan>,
    /// Made with the first loan: most threads never have one.
    bell: Option<Arc<Inbox<()>>>,
    pid: u32,
}

impl Default for Sleeper {
    fn default() -> Self {
        Sleeper { borrower: Arc::default(), loans: Vec::new(), bell: None, pid: std::process::id() }
    }
}

impl Sleeper {
    /// False in a forked child, which has the parent's descriptors.
    pub fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }

    /// As who it borrows.
    pub fn borrower(&self) -> &Arc<Borrower> {
        &self.borrower
    }

    /// Takes what it was offered. Gives what wakes it while it [sleeps](Self::sleep), if there is something to sleep on.
    pub fn accept(&mut self) -> Option<Arc<Inbox<()>>> {
        self.loans.extend(self.borrower.accept());
        if self.loans.is_empty() {
            return None;
        }
        if self.bell.is_none() {
            self.bell = Inbox::new().ok().map(Arc::new);
        }
        if self.bell.is_none() {
            // Without a descriptor to be woken by nothing can be slept on.
            self.loans.clear();
        }
        self.bell.clone()
    }

    /// Sleeps until it is rung for, something is there to be read, or this moment. `awake` is called when it wakes, before it reads.
    pub fn sleep(&mut self, until: Instant, awake: impl FnOnce()) {
        let left = until.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        let loans = self.loans.iter().map(AsFd::as_fd);
        let watched = self.bell.iter().map(|bell| bell.as_fd()).chain(loans);
        let mut watched: Vec<_> = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        // An interrupted sleep is a short one.
        let woken = poll(&mut watched, Some(&limit)).is_ok_and(|woken| woken > 0);
        let ready: Vec<bool> = watched.iter().map(|one| woken && !one.revents().is_empty()).collect();
        awake();
        let mut ready = ready.into_iter();
        if let Some(bell) = &self.bell
            && ready.next() == Some(true)
        {
            bell.take();
        }
        self.loans.retain(|loan| ready.next() != Some(true) || loan.read());
    }
}
