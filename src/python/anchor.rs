//! What keeps a daemon thread whole that the interpreter ends while it is in Python code below our frames.
//!
//! Until 3.13 a thread that wants the interpreter back while that is finalizing is ended by `pthread_exit`, wherever it
//! is. glibc does so by unwinding the stack without an exception, which Rust allows only through frames that have nothing
//! to drop and catch nothing (RFC 2945); ours ran destructors without the interpreter, or aborted the process. From 3.14 on
//! such a thread hangs for ever (python/cpython#87135), and PyO3 has it hang where it takes the interpreter back itself.
//! Where Python code that we call takes it back, an [`Anchor`] does: a cleanup handler of the thread that never returns.
//!
//! `pthread_exit` runs the handlers of a thread. glibc runs each when the unwinding leaves the frame that its record lies
//! in, and takes a record that lies outside of the stack for one whose frame has been left: so ours are on the heap, and the
//! handler runs before any frame is unwound. musl runs all handlers first. Other systems unwind nothing.
//!
//! Whoever calls Python code of the user's holds an anchor; hits call none.

#[cfg(all(target_os = "linux", not(Py_3_14)))]
pub use held::Anchor;

/// Nothing has to be held here.
#[cfg(not(all(target_os = "linux", not(Py_3_14))))]
pub struct Anchor;

#[cfg(not(all(target_os = "linux", not(Py_3_14))))]
impl Anchor {
    /// Holds the thread.
    pub fn hold() -> Anchor {
        Anchor
    }
}

#[cfg(all(target_os = "linux", not(Py_3_14)))]
mod held {
    use std::cell::{Cell, UnsafeCell};
    use std::ffi::{c_int, c_void};
    use std::ptr::null_mut;

    /// The C library's record of a handler: four words in glibc, three in musl.
    type Record = UnsafeCell<[usize; 4]>;

    // SAFETY: as both C libraries declare them; see `Held` for what they are given.
    unsafe extern "C" {
        fn _pthread_cleanup_push(record: *mut [usize; 4], routine: extern "C" fn(*mut c_void), argument: *mut c_void);
        fn _pthread_cleanup_pop(record: *mut [usize; 4], execute: c_int);
    }

    /// The anchors of a thread. Counted, not nested: a greenlet may be switched away from below one, and end after those
    /// that were taken later.
    struct Held {
        count: Cell<usize>,
        /// On the thread's list while the count is not 0.
        record: Box<Record>,
    }

    thread_local! {
        static HELD: Held = Held { count: Cell::new(0), record: Box::default() };
    }

    /// Held while Python code may run; see the module. Stays on its thread.
    pub struct Anchor(*const Held);

    impl Anchor {
        /// Holds the thread.
        pub fn hold() -> Anchor {
            // A thread that has freed what is its own is past the end of any interpreter.
            Anchor(HELD.try_with(Held::hold).unwrap_or(null_mut()))
        }
    }

    impl Drop for Anchor {
        fn drop(&mut self) {
            // SAFETY: null, or what belongs to this thread as long as it runs anything.
            if let Some(held) = unsafe { self.0.as_ref() } {
                held.let_go();
            }
        }
    }

    impl Held {
        #[inline]
        fn hold(&self) -> *const Held {
            if self.count.replace(self.count.get() + 1) == 0 {
                // SAFETY: the record is large enough, and stays where it is until it is off the list.
                unsafe { _pthread_cleanup_push(self.record.get(), hang, null_mut()) };
            }
            self
        }

        #[inline]
        fn let_go(&self) {
            if self.count.replace(self.count.get() - 1) == 1 {
                // SAFETY: the record is on the list of this thread.
                unsafe { _pthread_cleanup_pop(self.record.get(), 0) };
            }
        }
    }

    extern "C" fn hang(_: *mut c_void) {
        loop {
            std::thread::park();
        }
    }
}
