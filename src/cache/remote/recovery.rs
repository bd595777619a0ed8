//! What the store could not be told when it happened: keys that are no more. They are told as soon as it answers again.

use super::super::shared::Shared;
use crate::core::clock::{Millis, later};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// Between two tries while the store does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// So many are told at once.
const SLICE: usize = 1_000;

/// So many are remembered: some 20 MB. A write that finds no place here fails.
const MOST: usize = 100_000;

/// See the module.
pub(in crate::cache) struct Recovery<K> {
    queue: Mutex<Queue<K>>,
    /// Tells the store. Set once there is somebody to do it.
    tell: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

struct Queue<K> {
    /// By the name that the store knows.
    keys: HashMap<Vec<u8>, K>,
    /// How many were taken from here, and the store has not answered yet.
    telling: usize,
    due: Millis,
}

impl<K> Default for Recovery<K> {
    fn default() -> Self {
        Recovery { queue: Mutex::new(Queue { keys: HashMap::new(), telling: 0, due: 0 }), tell: OnceLock::new() }
    }
}

impl<K> Recovery<K> {
    /// One more key; gives when the store is asked next. `None` if there is no room.
    pub fn add(&self, name: Vec<u8>, key: K, now: Millis) -> Option<Millis> {
        let mut queue = self.queue.lock();
        if queue.keys.len() >= MOST && !queue.keys.contains_key(&name) {
            return None;
        }
        queue.due = later(now, RETRY);
        let (due, before) = (queue.due, queue.keys.insert(name, key));
        drop(queue);
        drop(before);
        Some(due)
    }

    /// How many the store has yet to be told.
    pub fn len(&self) -> usize {
        let queue = self.queue.lock();
        queue.keys.len() + queue.telling
    }

    /// Some that are due.
    fn take(&self, now: Option<Millis>) -> Vec<(Vec<u8>, K)> {
        let mut queue = self.queue.lock();
        if now.is_some_and(|now| now < queue.due) {
            return Vec::new();
        }
        let names: Vec<_> = queue.keys.keys().take(SLICE).cloned().collect();
        let taken: Vec<_> = names.into_iter().filter_map(|name| queue.keys.remove_entry(&name)).collect();
        queue.telling += taken.len();
        taken
    }

    /// The store has answered for one of those, or will not.
    pub fn answered(&self) {
        self.queue.lock().telling -= 1;
    }

    /// The sweeper comes by; gives when it is to come again.
    pub fn sweep(&self, now: Millis) -> Option<Millis> {
        if self.due().is_some_and(|due| due <= now)
            && let Some(tell) = self.tell.get()
        {
            tell();
        }
        self.due()
    }

    fn due(&self) -> Option<Millis> {
        let queue = self.queue.lock();
        (!queue.keys.is_empty()).then_some(queue.due)
    }
}

impl<K, V> Shared<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Has the sweeper tell the store what it has not been told.
    pub fn have_recovered(this: &Arc<Self>) {
        let Some(back) = this.back() else { return };
        let shared: Weak<Self> = Arc::downgrade(this);
        let tell = move || {
            if let Some(shared) = shared.upgrade() {
                shared.recover(false);
            }
        };
        // It is built once.
        let _ = back.recovery.tell.set(Box::new(tell));
    }

    /// Tells the store some of what it has not been told, if that is due, or `now` that it answers.
    pub fn recover(self: &Arc<Self>, now: bool) {
        let Some(back) = self.back() else { return };
        let keys = back.recovery.take((!now).then(|| self.clock().now()));
        self.bury_again(back, keys);
    }
}
