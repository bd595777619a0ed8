//! A value of which each process has its own, though fork copies everything.
//!
//! What lives on threads is dead in a forked child: threads are not copied, and what they share with the kernel (an epoll set,
//! sockets) still belongs to the parent, whose wake-ups a child that touches it would eat. So the child makes a value of its own
//! at the first use, and leaks the copy. No lock is taken: one that another thread held at the fork would be held for ever.

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// See the module.
pub struct PerProcess<T> {
    own: AtomicPtr<Own<T>>,
    holds: PhantomData<Box<Own<T>>>,
}

struct Own<T> {
    pid: u32,
    value: T,
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> PerProcess<T> {
    /// Nothing yet, in any process.
    pub const fn new() -> Self {
        PerProcess { own: AtomicPtr::new(ptr::null_mut()), holds: PhantomData }
    }

    /// This process's value, if it has one.
    pub fn get(&self) -> Option<&T> {
        // SAFETY: the pointer is null or came from `Box::into_raw`, and what it names is freed by `drop` alone.
        let own = unsafe { self.own.load(Acquire).as_ref() }?;
        (own.pid == std::process::id()).then_some(&own.value)
    }

    /// This process's value, made now if there is none. Of two threads that make one at once, one makes it in vain.
    pub fn get_or_make<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let there = self.own.load(Acquire);
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let new = Box::into_raw(Box::new(Own { pid: std::process::id(), value: make()? }));
        match self.own.compare_exchange(there, new, AcqRel, Acquire) {
            // SAFETY: as in `get`. What was there is another process's, and is leaked.
            Ok(_) => Ok(unsafe { &(*new).value }),
            Err(other) => {
                // SAFETY: `new` came from `Box::into_raw` just now, and nobody has seen it.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: as in `get`; another thread of this process has put it there.
                Ok(unsafe { &(*other).value })
            }
        }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        if self.get().is_some() {
            // SAFETY: it came from `Box::into_raw`, and nobody borrows it: there is no other reference to self.
            drop(unsafe { Box::from_raw(*self.own.get_mut()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::Arc;

    #[test]
    fn a_value_is_made_once_and_freed_with_its_owner() {
        let (shared, own) = (Arc::new(7), PerProcess::new());
        assert!(own.get().is_none());
        assert_eq!(own.get_or_make(|| Err("no")).err(), Some("no"));
        own.get_or_make(|| Ok::<_, Infallible>(Arc::clone(&shared))).unwrap();
        let again = own.get_or_make(|| -> Result<_, Infallible> { panic!("it is there") });
        assert_eq!((**again.unwrap(), Arc::strong_count(&shared)), (7, 2));
        drop(own);
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    #[test]
    fn of_many_threads_that_make_one_all_get_the_same() {
        let (own, begin) = (PerProcess::new(), std::sync::Barrier::new(8));
        std::thread::scope(|scope| {
            let get = || {
                begin.wait();
                *own.get_or_make(|| Ok::<_, Infallible>(Box::new(std::thread::current().id()))).unwrap().clone()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(get)).collect();
            let mut seen: Vec<_> = threads.into_iter().map(|thread| format!("{:?}", thread.join().unwrap())).collect();
            seen.dedup();
            assert_eq!(seen.len(), 1);
        });
    }
}
