//! Who hears of the entries that left. What leaves is gathered under a shard's lock and told after it, on the thread
//! whose operation let it go.
//!
//! A listener may use the cache, which may let more go: that waits until its call is over, so calls never nest, however
//! long a chain they make.

use super::held::Held;
use crate::core::memory::{Discard, Left, Reason};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, ThreadId};

type Call<K, V> = dyn Fn(&K, &V, Reason) + Send + Sync;
/// What calls have let go, in order, and on which thread.
type Waiting<K, V> = Vec<(ThreadId, Discard<K, Arc<Held<V>>>)>;

/// See the module.
pub(super) struct Listener<K, V> {
    call: Box<Call<K, V>>,
    waiting: Mutex<Waiting<K, V>>,
}

thread_local! {
    /// The listeners that this thread is in a call of, by address.
    static CALLING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// True for an entry that left; what was not let in did not.
fn was_here<K, V>(left: &Left<K, V>) -> bool {
    !matches!(left.reason, Reason::Unused | Reason::Refused)
}

impl<K, V> Listener<K, V> {
    pub fn new(call: impl Fn(&K, &V, Reason) + Send + Sync + 'static) -> Self {
        Listener { call: Box::new(call), waiting: Mutex::default() }
    }

    #[inline(never)]
    fn tell(&self, left: Discard<K, Arc<Held<V>>>) {
        if !left.iter().any(was_here) {
            return;
        }
        if !self.begin() {
            self.waiting.lock().push((thread::current().id(), left));
            return;
        }
        let mut next = Some(left);
        while let Some(left) = next {
            left.iter().for_each(|left| self.call(left));
            // A value that panics when it is dropped has been reported by the panic hook; there are others to tell of.
            drop(catch_unwind(AssertUnwindSafe(|| drop(left))));
            next = self.next_of(thread::current().id());
        }
        self.end();
    }

    /// True unless this thread is in a call of it already. A thread that is about to end no longer knows.
    fn begin(&self) -> bool {
        let me = std::ptr::from_ref(self) as usize;
        let begins = CALLING.try_with(|calling| {
            let mut calling = calling.borrow_mut();
            let begins = !calling.contains(&me);
            calling.extend(begins.then_some(me));
            begins
        });
        begins.unwrap_or(true)
    }

    fn end(&self) {
        let me = std::ptr::from_ref(self) as usize;
        // A thread that is about to end has forgotten it.
        let _ = CALLING.try_with(|calling| calling.borrow_mut().retain(|&other| other != me));
    }

    fn call(&self, left: &Left<K, Arc<Held<V>>>) {
        if let (Left { key: Some(key), value: Some(held), reason, .. }, true) = (left, was_here(left))
            && let Some(value) = held.value()
        {
            // The panic hook has reported it. What let the entry go is done, and the others have to be told too.
            drop(catch_unwind(AssertUnwindSafe(|| (self.call)(key, value, *reason))));
        }
    }

    fn next_of(&self, thread: ThreadId) -> Option<Discard<K, Arc<Held<V>>>> {
        let mut waiting = self.waiting.lock();
        let at = waiting.iter().position(|(owner, _)| *owner == thread)?;
        Some(waiting.remove(at).1)
    }
}

/// What left. To be declared before a shard is locked: it is told, and freed, when it is dropped.
pub(super) struct Gone<'a, K, V> {
    pub left: Discard<K, Arc<Held<V>>>,
    listener: Option<&'a Listener<K, V>>,
}

impl<'a, K, V> Gone<'a, K, V> {
    pub fn new(listener: Option<&'a Listener<K, V>>) -> Self {
        Gone { left: Discard::default(), listener }
    }
}

impl<K, V> Drop for Gone<'_, K, V> {
    #[inline]
    fn drop(&mut self) {
        if let Some(listener) = self.listener {
            listener.tell(std::mem::take(&mut self.left));
        }
    }
}
