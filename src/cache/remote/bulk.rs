//! Filling many keys on one task: what they ask of the store at one moment goes out together, and one call loads those that it
//! does not have.
//!
//! Each key is filled as one alone is. A call begins when nothing is being asked any more, so that it has all that are missing by
//! then; a key that waits for another process's load, and is missing later, has a later call.

use super::super::held::Held;
use super::filling::{Brought, Errand, fill};
use super::{Behalf, Boxed, Tier};
use crate::io::store::gather::Gathered;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};
use tokio::task::unconstrained;

/// Loads those of many keys that have these numbers, and brings what is held of each.
pub(in crate::cache) type LoadMany<V> = Box<dyn Fn(Vec<usize>) -> Boxed<'static, Vec<Held<V>>> + Send + Sync>;

/// Where the load of a key stands.
enum Stand<V> {
    /// Nobody wants it so far.
    Quiet,
    /// The store does not have it.
    Wanted,
    /// A call has it.
    Called,
    Brought(Held<V>),
}

type Desk<V> = Mutex<Vec<Stand<V>>>;

/// The load of one key, as its fill sees it: it is wanted from the first poll on, and brought by a call.
fn load_of<V>(desk: &Desk<V>, at: usize) -> Poll<Held<V>> {
    let stand = &mut desk.lock()[at];
    match std::mem::replace(stand, Stand::Called) {
        Stand::Brought(held) => Poll::Ready(held),
        Stand::Quiet | Stand::Wanted => {
            *stand = Stand::Wanted;
            Poll::Pending
        }
        Stand::Called => Poll::Pending,
    }
}

/// The numbers of keys, and what loads them.
type Call<V> = (Vec<usize>, Boxed<'static, Vec<Held<V>>>);

/// A key that is being filled, and what came of that.
type Filling<'a, V> = Result<Boxed<'a, Brought<V>>, Box<Brought<V>>>;

/// What is under way.
struct Work<'a, V> {
    store: &'a Gathered<'a>,
    desk: &'a Desk<V>,
    load: &'a LoadMany<V>,
    fills: Vec<Filling<'a, V>>,
    calls: Vec<Call<V>>,
}

/// Fills many keys, in their order.
pub(super) async fn fill_many<K, V>(
    tier: &dyn Tier<K, V>,
    (errands, behalf): (&[Errand<V>], &Behalf),
    load: LoadMany<V>,
) -> Vec<Brought<V>>
where
    V: Clone + Send + Sync,
{
    let store = &Gathered::over(tier.store());
    let desk = &Mutex::new(errands.iter().map(|_| Stand::Quiet).collect());
    let fill = |(at, errand)| -> Filling<'_, V> {
        let load = poll_fn(move |_| load_of(desk, at));
        Ok(Box::pin(fill(tier, store, (errand, behalf), load)))
    };
    let fills = errands.iter().enumerate().map(fill).collect();
    let mut work = Work { store, desk, load: &load, fills, calls: Vec::new() };
    poll_fn(|context| work.poll(context)).await;
    work.fills.into_iter().filter_map(Result::err).map(|brought| *brought).collect()
}

impl<V: Send> Work<'_, V> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            self.poll_fills(context);
            self.store.flush();
            if self.fills.iter().all(Result::is_err) {
                return Poll::Ready(());
            }
            if self.store.is_quiet() {
                self.call();
            }
            if !self.poll_calls(context) {
                return Poll::Pending;
            }
        }
    }

    fn poll_fills(&mut self, context: &mut Context<'_>) {
        for slot in &mut self.fills {
            // All of them at once: a few that are left for later would have a call of their own.
            if let Ok(fill) = slot
                && let Poll::Ready(brought) = pin!(unconstrained(fill.as_mut())).poll(context)
            {
                *slot = Err(Box::new(brought));
            }
        }
    }

    /// Begins a call for those that are wanted, if there are any.
    fn call(&mut self) {
        let mut wanted = Vec::new();
        for (at, stand) in self.desk.lock().iter_mut().enumerate() {
            if matches!(stand, Stand::Wanted) {
                *stand = Stand::Called;
                wanted.push(at);
            }
        }
        if !wanted.is_empty() {
            let call = (self.load)(wanted.clone());
            self.calls.push((wanted, call));
        }
    }

    /// True if a call has brought something.
    fn poll_calls(&mut self, context: &mut Context<'_>) -> bool {
        let mut brought = false;
        self.calls.retain_mut(|(keys, call)| match call.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(all) => {
                let mut desk = self.desk.lock();
                keys.iter().zip(all).for_each(|(&at, held)| desk[at] = Stand::Brought(held));
                brought = true;
                false
            }
        });
        brought
    }
}
