//! What tests load from, the cache in front of it, and the time they give to what runs behind. No tests here.
#![allow(dead_code, reason = "each test file uses a part of it")]

use samovar::{Cache, Clock, LoadContext, LoadFailed, Policy, minutes};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = minutes(1);
pub const HOUR: Duration = minutes(60);
/// What a loaded value is fresh for in most tests.
pub const FRESH: Policy = Policy::ttl(MINUTE);

pub type Numbers = Cache<String, u64>;
pub type Answer = Result<u64, LoadFailed<io::Error>>;
type Loading = Pin<Box<dyn Future<Output = io::Result<u64>> + Send>>;

/// Lets what runs behind go on, on the one thread of the test's runtime.
pub async fn turns() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// A broken promise fails after a minute instead of hanging.
pub async fn soon<T>(promise: impl Future<Output = T>) -> T {
    tokio::time::timeout(MINUTE, promise).await.expect("it should have happened by now")
}

/// What is loaded from: it counts, it can fail, and it can be made to wait.
#[derive(Clone, Default)]
pub struct Origin(Arc<Inner>);

#[derive(Default)]
struct Inner {
    calls: AtomicU64,
    cancelled: AtomicU64,
    error: Mutex<Option<&'static str>>,
    gate: Mutex<Option<Arc<Semaphore>>>,
}

/// Counts the load that it is a part of as cancelled, unless that came to its end.
struct Counted(Origin, bool);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.cancelled.fetch_add(u64::from(!self.1), SeqCst);
    }
}

impl Origin {
    pub fn calls(&self) -> u64 {
        self.0.calls.load(SeqCst)
    }

    pub fn cancelled(&self) -> u64 {
        self.0.cancelled.load(SeqCst)
    }

    /// From now on loads fail with this, or no longer.
    pub fn fail(&self, error: Option<&'static str>) {
        *self.0.error.lock().unwrap() = error;
    }

    /// From now on loads wait.
    pub fn close(&self) {
        *self.0.gate.lock().unwrap() = Some(Arc::new(Semaphore::new(0)));
    }

    /// Those that wait go on, and no other waits.
    pub fn open(&self) {
        self.0.gate.lock().unwrap().take().expect("it was closed").close();
    }

    /// A loader: it gives the number of its call.
    pub fn load(&self) -> impl FnOnce(LoadContext) -> Loading + Send + use<> {
        let origin = self.clone();
        move |_| Box::pin(async move { origin.call().await })
    }

    pub async fn call(&self) -> io::Result<u64> {
        let number = self.0.calls.fetch_add(1, SeqCst) + 1;
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            let mut counted = Counted(self.clone(), false);
            gate.acquire().await.expect_err("nobody is let through one by one");
            counted.1 = true;
        }
        self.0.error.lock().unwrap().map_or(Ok(number), |error| Err(io::Error::other(error)))
    }
}

/// A cache whose time stands still, in front of an origin. Nothing may be left behind of a test.
pub struct World {
    pub clock: Clock,
    pub cache: Numbers,
    pub origin: Origin,
}

impl World {
    pub fn new() -> Self {
        let clock = Clock::system();
        clock.freeze();
        World { cache: Cache::builder().name("numbers").clock(clock.clone()).build(), clock, origin: Origin::default() }
    }

    pub async fn ask(&self, policy: Policy) -> Answer {
        self.cache.get_or_load("k", policy, self.origin.load()).await
    }

    /// A caller on a task of its own.
    pub fn asking(&self, policy: Policy) -> JoinHandle<Answer> {
        let (cache, load) = (self.cache.clone(), self.origin.load());
        tokio::spawn(async move { cache.get_or_load("k", policy, load).await })
    }

    /// Loads and stores the first value, and lets its ttl of a minute pass.
    pub async fn stale(policy: Policy) -> Self {
        let world = World::new();
        assert_eq!(world.ask(policy).await.unwrap(), 1);
        world.clock.advance(MINUTE + SECOND);
        world
    }

    pub fn waiting(&self) -> Option<usize> {
        self.cache.explain("k", &FRESH).waiting
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.waiting(), None, "a load is left behind");
            self.cache.validate().unwrap();
        }
    }
}

/// The text of the loader's own error.
pub fn error_of<T: std::fmt::Debug>(answer: Result<T, LoadFailed<io::Error>>) -> String {
    answer.unwrap_err().loader().expect("the loader's own error").to_string()
}

/// The answers of many callers, in order.
pub async fn all<T>(asking: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut answers = Vec::new();
    for caller in asking {
        answers.push(soon(caller).await.unwrap());
    }
    answers
}
