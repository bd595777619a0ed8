//! Where and on whose behalf a caller asks: its runtime, and the load whose code it is; and what a loader may say.
//!
//! Same-key recursion and circles of loads are found by a task-local name of the loads that code runs for. Flights are never
//! numbered twice, so a name that outlives its load means nothing.

use crate::core::flight::{Awaited, FlightId, Home, Life, Load, Place, Refresh, Waits, Who};
use crate::core::policy::Policy;
use parking_lot::Mutex;
use std::any::type_name;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::runtime::Handle;

/// The loads that some code does the work of.
pub(super) type Loading = Arc<[Load]>;

tokio::task_local! {
    /// Those of the code that runs here.
    pub(super) static LOADING: Loading;
}

/// Who waits for whom, of all caches: a circle may go through several.
static WAITS: LazyLock<Mutex<Waits>> = LazyLock::new(Mutex::default);

/// What a loader may say about its load while it runs.
#[derive(Clone, Debug)]
pub struct LoadContext {
    said: Arc<Mutex<Said>>,
    loading: Option<Loading>,
}

/// How what a load brings is to be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub policy: Policy,
    /// How long an error is an answer.
    pub error_ttl: Option<Duration>,
}

impl LoadContext {
    pub(super) fn new(policy: Policy, loading: Option<Loading>) -> Self {
        LoadContext { said: Arc::new(Mutex::new(Said { policy, error_ttl: None })), loading }
    }

    pub(super) fn said(&self) -> Said {
        *self.said.lock()
    }

    /// Has the loaded value kept under another policy than the caller's: for values that bring their own lifetime.
    pub fn keep(&self, policy: Policy) {
        self.said.lock().policy = policy;
    }

    /// Has an error that the loader is about to return kept for so long: whoever asks meanwhile gets it without another
    /// load. Not kept where an old value answers instead.
    ///
    /// ```
    /// # use samovar::{Cache, Policy, minutes};
    /// # use std::io;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let cache: Cache<u64, String> = Cache::builder().build();
    /// for _ in 0..3 {
    ///     let banned = cache.get_or_load(&7, Policy::ttl(minutes(5)), |ctx| async move {
    ///         ctx.keep_error(minutes(1));
    ///         Err(io::Error::other("banned"))
    ///     });
    ///     assert_eq!(banned.await.unwrap_err().to_string(), "banned");
    /// }
    /// assert_eq!(cache.stats().loads, 1);
    /// # });
    /// ```
    pub fn keep_error(&self, ttl: Duration) {
        self.said.lock().error_ttl = Some(ttl).filter(|ttl| !ttl.is_zero());
    }

    /// The policy the loaded value will be kept under.
    pub fn policy(&self) -> Policy {
        self.said.lock().policy
    }

    /// Runs a part of the load that is spawned as a task of its own: there too, what asks for the key that is being loaded
    /// loads it directly, and loads that wait for each other in a circle are told so.
    pub async fn within<F: Future>(&self, part: F) -> F::Output {
        match &self.loading {
            Some(loading) => LOADING.scope(Arc::clone(loading), part).await,
            None => part.await,
        }
    }
}

/// See the module.
pub(super) struct Here {
    pub runtime: Option<Handle>,
    pub home: Home,
    loading: Option<Loading>,
}

/// Why a caller must not wait for a load.
pub(super) enum Circle {
    /// It is part of that load.
    Own,
    /// Other loads would wait in it too.
    Others(Vec<String>),
}

impl Here {
    pub fn now() -> Self {
        let runtime = Handle::try_current().ok();
        // The tasks of one runtime wander between its threads: only without a runtime a thread is a home.
        let home = match &runtime {
            Some(runtime) => Home { thread: 0, event_loop: number(runtime.id()) },
            None => Home { thread: number(std::thread::current().id()), event_loop: 0 },
        };
        Here { runtime, home, loading: LOADING.try_with(Arc::clone).ok() }
    }

    /// The context of a load that runs right here.
    pub fn context(&self, policy: Policy) -> LoadContext {
        LoadContext::new(policy, self.loading.clone())
    }

    pub fn place(&self, refresh: Refresh) -> Place {
        let home = self.runtime.is_some().then_some(self.home);
        Place { home, refresh, life: Life::Shared }
    }

    /// Begins to wait for a load of the cache of this name: noted only where a load waits, for nobody waits for other
    /// callers. `L` is the waiter's own loader, by which errors tell one key from another.
    pub fn wait_for<L>(&self, (cache, load): (&str, Load)) -> Result<Option<Wait>, Circle> {
        let Some(waiting) = &self.loading else { return Ok(None) };
        if waiting.contains(&load) {
            return Err(Circle::Own);
        }
        let name = format!("'{cache}' in {}", type_name::<L>().trim_end_matches("::{{closure}}"));
        let awaited = Awaited { load, thread: 0, name };
        WAITS.lock().begin_loads(waiting, &awaited).map_err(Circle::Others)?;
        Ok(Some(Wait { waiting: Arc::clone(waiting), load }))
    }
}

/// Flights are numbered by shard, which is named by its address; the load keeps it alive.
pub(super) fn load_of(shard: usize, flight: FlightId) -> Load {
    Load { cache: shard as u64, flight }
}

/// A load's wait for another, as long as it lasts.
pub(super) struct Wait {
    waiting: Loading,
    load: Load,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waits = WAITS.lock();
        self.waiting.iter().for_each(|&load| waits.end(Who::Load(load), self.load));
    }
}

fn number(id: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
