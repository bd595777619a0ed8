//! Many keys at once: each is a key of its own, with a lease and an answer of its own, and one call loads those that this
//! caller leads.
//!
//! All leases are taken, and their load is started, before anything is waited for: no order among keys is needed for that to
//! be free of deadlock. A key whose load is handed over to this caller meanwhile has a call of its own.

use super::context::{Here, LoadContext};
use super::failed::LoadFailed;
use super::held::Held;
use super::loading::{Found, Grant, Grants, Wanted, homeless};
use super::remote::{Behalf, Boxed, Brought, Errand};
use super::shared::Shared;
use super::waiting::{Seat, Signal};
use crate::core::policy::Policy;
use crate::error::Error;
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::Arc;
use std::task::Poll;

/// What is asked for: the same for all keys.
pub(super) struct Bulk<L> {
    pub policy: Policy,
    pub load: Arc<L>,
}

/// One call for many keys, under way.
struct Call<'a, K, V, L> {
    shared: &'a Arc<Shared<K, V>>,
    bulk: &'a Bulk<L>,
    found: HashMap<K, V>,
    waiting: Vec<(K, Seat<'a, K, V>)>,
}

/// What one look at all keys asks for.
struct Round<K, V> {
    leads: Vec<K>,
    grants: Vec<Grant<K, V>>,
    /// Those that this code loads already.
    nested: Vec<K>,
}

impl<K, V> Shared<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// See [`Cache::get_or_load_many`](super::Cache::get_or_load_many).
    pub async fn load_many<L, F, E>(
        self: &Arc<Self>,
        keys: impl IntoIterator<Item = K>,
        bulk: &Bulk<L>,
    ) -> Result<HashMap<K, V>, LoadFailed<E>>
    where
        L: Fn(LoadContext, Vec<K>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<HashMap<K, V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let mut call = Call { shared: self, bulk, found: HashMap::new(), waiting: Vec::new() };
        let (mut missing, mut asked) = (Vec::new(), HashSet::new());
        for key in keys {
            match self.hit(self.hash(&key), &key).as_deref().and_then(Held::value) {
                Some(value) => drop(call.found.insert(key, value.clone())),
                None if asked.insert(key.clone()) => missing.push(key),
                None => {}
            }
        }
        if !missing.is_empty() {
            bulk.policy.check()?;
            self.check_timer(&bulk.policy)?;
            call.complete(missing).await?;
        }
        Ok(call.found)
    }
}

impl<K, V, L, F, E> Call<'_, K, V, L>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: Fn(LoadContext, Vec<K>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<HashMap<K, V>, E>> + Send + 'static,
    E: Send + Sync + 'static,
{
    /// Finds out about all that is missing.
    async fn complete(&mut self, mut missing: Vec<K>) -> Result<(), LoadFailed<E>> {
        while !missing.is_empty() {
            let here = Here::now();
            let mut round = Round { leads: Vec::new(), grants: Vec::new(), nested: Vec::new() };
            let looked = std::mem::take(&mut missing).into_iter().map(|key| self.look(key, &here, &mut round));
            // One that fails stops the call, but not before the others, which somebody may wait for by now, have begun.
            let failed = looked.fold(Ok(()), Result::and);
            if !round.leads.is_empty() {
                self.start(&here, round.leads, round.grants);
            }
            failed?;
            if !round.nested.is_empty() {
                self.load_directly(&here, round.nested).await?;
            }
            while missing.is_empty()
                && let Some((at, signal)) = self.news().await
            {
                missing.extend(self.hear(at, signal)?);
            }
        }
        Ok(())
    }

    /// What is to be done about a key.
    fn look(&mut self, key: K, here: &Here, round: &mut Round<K, V>) -> Result<(), LoadFailed<E>> {
        let wanted = Wanted { along: !round.leads.is_empty(), ..self.wanted(&key) };
        match self.shared.find::<_, L>(&wanted, key.clone(), here) {
            Found::Ready(held) => return self.settle(key, Signal::Answer(held)),
            Found::Refreshes(held, grant) => {
                round.leads.push(key.clone());
                round.grants.push(*grant);
                return self.settle(key, Signal::Answer(held));
            }
            Found::Homeless => return Err(homeless().into()),
            Found::Circle(path) => return Err(Error::LoadCycle { path }.into()),
            Found::Nested => round.nested.push(key),
            Found::Waits(seat) => self.waiting.push((key, seat)),
            Found::Leads(seat, grant) => {
                round.leads.push(key.clone());
                round.grants.push(*grant);
                self.waiting.push((key, seat));
            }
        }
        Ok(())
    }

    fn wanted<'k>(&self, key: &'k K) -> Wanted<'k, K> {
        Wanted { hash: self.shared.hash(key), key, policy: self.bulk.policy, anew: None, along: false }
    }

    /// Starts one call for these keys, whose leases are taken.
    fn start(&self, here: &Here, keys: Vec<K>, mut grants: Vec<Grant<K, V>>) {
        let (shared, load) = (Arc::clone(self.shared), Arc::clone(&self.bulk.load));
        let errands: Option<Vec<Errand<V>>> = grants.iter_mut().map(Grant::take_errand).collect();
        let behind = shared.back().map(|back| Arc::clone(&back.tier)).zip(errands);
        Grants(grants).start(here, self.bulk.policy, move |context| async move {
            let Some((tier, errands)) = behind else {
                return call(shared, load, context, keys).await.into_iter().map(Brought::loaded).collect();
            };
            let behalf = Behalf { context: context.clone(), clock: shared.clock().clone() };
            let missing = move |numbers: Vec<usize>| -> Boxed<'static, Vec<Held<V>>> {
                let keys = numbers.into_iter().map(|at| keys[at].clone()).collect();
                Box::pin(call(Arc::clone(&shared), Arc::clone(&load), context.clone(), keys))
            };
            tier.fill_many((errands, behalf), Box::new(missing)).await
        });
    }

    /// For a loader that asks for what it is loading: without leases, and nothing is stored.
    async fn load_directly(&mut self, here: &Here, keys: Vec<K>) -> Result<(), LoadFailed<E>> {
        let context = here.context(self.bulk.policy);
        let brought = Box::pin((self.bulk.load)(context, keys.clone())).await;
        let mut brought = brought.map_err(|error| LoadFailed::Loader(Arc::new(error)))?;
        self.found.extend(keys.into_iter().filter_map(|key| brought.remove_entry(&key)));
        Ok(())
    }

    /// The next of those who wait that is told something; `None` if nobody waits.
    async fn news(&mut self) -> Option<(usize, Signal<V>)> {
        if self.waiting.is_empty() {
            return None;
        }
        let told = poll_fn(|context| {
            for (at, (_, seat)) in self.waiting.iter_mut().enumerate() {
                if let Poll::Ready(signal) = seat.poll_news(context) {
                    return Poll::Ready((at, signal));
                }
            }
            Poll::Pending
        });
        Some(told.await)
    }

    /// Does what one of those who wait is told; gives its key if that has to be looked up again.
    fn hear(&mut self, at: usize, signal: Signal<V>) -> Result<Option<K>, LoadFailed<E>> {
        let (key, mut seat) = self.waiting.swap_remove(at);
        match signal {
            Signal::Lead => {
                let here = Here::now();
                if here.runtime.is_none() {
                    return Err(homeless().into());
                }
                let (wanted, errand) = (self.wanted(&key), self.shared.errand(&self.wanted(&key), &key));
                let Some(grant) = seat.lead(&wanted, &here, errand) else { return Ok(Some(key)) };
                self.start(&here, vec![key.clone()], vec![grant]);
                self.waiting.push((key, seat));
                Ok(None)
            }
            Signal::Again => Ok(Some(key)),
            answer => self.settle(key, answer).map(|()| None),
        }
    }

    /// A key is answered. What is known not to be there is left out.
    fn settle(&mut self, key: K, answer: Signal<V>) -> Result<(), LoadFailed<E>> {
        if let Some(value) = self.shared.outcome(answer, &self.bulk.policy)? {
            self.found.insert(key, value);
        }
        Ok(())
    }
}

/// One call of a loader of many: what is held of each of these keys.
async fn call<K, V, L, F, E>(
    shared: Arc<Shared<K, V>>,
    load: Arc<L>,
    context: LoadContext,
    keys: Vec<K>,
) -> Vec<Held<V>>
where
    K: Eq + Hash + Clone,
    L: Fn(LoadContext, Vec<K>) -> F,
    F: Future<Output = Result<HashMap<K, V>, E>>,
    E: Send + Sync + 'static,
{
    match load(context, keys.clone()).await {
        Ok(mut brought) => {
            let held = keys.iter().map(|key| Held::found(brought.remove(key))).collect();
            shared.count_unasked(brought.len());
            held
        }
        Err(error) => Held::failed(error, keys.len()),
    }
}
