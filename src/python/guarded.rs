//! The lock around everything Python caches share: the interpreter itself.
//!
//! All table work is done by threads that hold the interpreter, so that the cycle collector always sees a whole table and
//! a fork never finds one half changed. Then an atomic lock would guard nothing, and cost a sync hit a sixth of its time
//! (docs/decisions.md). What remains to be caught is the same thread coming back while it is inside, which would mean
//! that Python ran under the lock: that panics, and a panic is raised in the caller as a RuntimeError.
//!
//! On a free-threaded interpreter there is no such guard, and this is a real lock.

#[cfg(not(Py_GIL_DISABLED))]
pub use held::Guarded;
#[cfg(Py_GIL_DISABLED)]
pub use parking_lot::Mutex as Guarded;

#[cfg(not(Py_GIL_DISABLED))]
mod held {
    use pyo3::ffi;
    use std::cell::{Cell, UnsafeCell};
    use std::ops::{Deref, DerefMut};

    /// See the module.
    #[derive(Default)]
    pub struct Guarded<T> {
        inside: Cell<bool>,
        value: UnsafeCell<T>,
    }

    // SAFETY: the value moves with its owner.
    unsafe impl<T: Send> Send for Guarded<T> {}
    // SAFETY: `lock` is called by threads that hold the interpreter only, one at a time; debug builds assert it.
    unsafe impl<T: Send> Sync for Guarded<T> {}

    /// The way to the value; ends with itself.
    pub struct Guard<'a, T>(&'a Guarded<T>);

    impl<T> Guarded<T> {
        /// Guards a value.
        pub fn new(value: T) -> Self {
            Guarded { inside: Cell::new(false), value: UnsafeCell::new(value) }
        }

        /// The way to the value. The caller holds the interpreter.
        #[inline]
        pub fn lock(&self) -> Guard<'_, T> {
            // SAFETY: always callable.
            debug_assert_eq!(unsafe { ffi::PyGILState_Check() }, 1, "the interpreter is not held");
            assert!(!self.inside.replace(true), "Python code ran while a cache's table was being changed");
            Guard(self)
        }
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;
        #[inline]
        fn deref(&self) -> &T {
            // SAFETY: this guard is the only one, `inside` says so.
            unsafe { &*self.0.value.get() }
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        #[inline]
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: as in `deref`.
            unsafe { &mut *self.0.value.get() }
        }
    }

    impl<T> Drop for Guard<'_, T> {
        #[inline]
        fn drop(&mut self) {
            self.0.inside.set(false);
        }
    }
}
