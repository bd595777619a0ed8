//! Who reads a connection: the thread that drives it, or an event loop that is alone in asking there, and sleeps anyway until answers come.
//!
//! An answer that another thread reads costs two threads being woken; read by the loop that waits for it, one. So a connection that only one
//! loop has used for a while is offered to it. The loan ends as soon as somebody else asks there, the loop is slow to read what another would
//! have read by now, or the connection does: then the loop only has to let go.

use parking_lot::Mutex;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

/// What can be lent.
pub trait Lender: Send + Sync {
    /// Lends the reading, under a number of its own. What is given is readable while there is something to read; `None`: not now.
    fn lend(&self, to: &Arc<Borrower>) -> Option<(OwnedFd, u64)>;

    /// Reads what has come, and tells who waits for it. False: the loan of this number is over.
    fn read(&self, number: u64) -> bool;

    /// The loan of this number is over.
    fn take_back(&self, number: u64);
}

/// An event loop that can watch file descriptors.
#[derive(Default)]
pub struct Borrower {
    offered: Mutex<Vec<Arc<dyn Lender>>>,
    any: AtomicBool,
}

impl Borrower {
    /// Offers it something to read, while it asks.
    pub fn offer(&self, lender: Arc<dyn Lender>) {
        self.offered.lock().push(lender);
        self.any.store(true, Release);
    }

    /// Takes what was offered.
    pub fn accept(self: &Arc<Self>) -> Vec<Loan> {
        if !self.any.load(Relaxed) || !self.any.swap(false, AcqRel) {
            return Vec::new();
        }
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
    /// One of its own: it stays open until the loop has let go of it, whatever becomes of the connection.
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
