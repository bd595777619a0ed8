//! A user's store in Python behind the same door as Redis: `samovar.Store`, whose methods run on a thread of their own.
//!
//! A store belongs to the process and its coroutines to one event loop, so they get one: a thread a store and process, begun at the first use. It
//! sleeps on an [`Inbox`], into which any thread puts what is asked, with the interpreter or without. What takes too long is answered by the
//! clock of [`io::runtime`](crate::io::runtime), which needs no interpreter. An idle thread holds no reference to the user's store, and ends
//! when nobody else does. After a fork the child begins a thread of its own, and leaks what the parent's was about.

use super::anchor::Anchor;
use super::errors;
use super::options::shown;
use super::store_call::{Call, StoreCall, Work};
use crate::core::clock::Clock;
use crate::error::{StoreError, StoreFailure};
use crate::io::inbox::Inbox;
use crate::io::process::PerProcess;
use crate::io::runtime;
use crate::io::store::plain::{Gate, NodeClock, Plain};
use crate::io::store::{Answer, Answers, Cursor, Paging, Reply, Request, Store, Tally};
use parking_lot::{Condvar, Mutex};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// What does not change.
pub struct Shared {
    name: String,
    pub timeout: Duration,
    /// Whether it has `swap`.
    pub swaps: bool,
    clock: Clock,
}

/// See the module. Clones are handles to the same.
#[derive(Clone)]
pub struct UserStore(Arc<Opened>);

struct Opened {
    /// `None` once the collector has found that only garbage refers to it.
    object: Mutex<Option<Py<PyAny>>>,
    shared: Arc<Shared>,
    worker: PerProcess<Arc<Worker>>,
    closed: AtomicBool,
}

enum Job {
    Do(Arc<Call>),
    Cancel(u64),
    /// Ends the thread; with `true` the user's `close` is called first.
    End(bool),
}

/// What this process has of it: the thread, and what it shares with others.
pub struct Worker {
    store: Weak<Opened>,
    inbox: Inbox<Job>,
    gate: Mutex<Gate<Arc<Call>>>,
    pub clock: NodeClock,
    pub tally: Mutex<Tally>,
    is_down: AtomicBool,
    calls: AtomicU64,
    /// The interpreter ends: no thread begins any more.
    is_last: AtomicBool,
    runs: Mutex<bool>,
    ended: Condvar,
}

/// Those of this process, to be ended before the interpreter does.
static WORKERS: PerProcess<Mutex<Vec<Weak<Worker>>>> = PerProcess::new();

/// No call waits longer.
const LONGEST: Duration = Duration::from_secs(3600);

impl Shared {
    /// An error of this store's, with nothing done.
    pub fn error(&self, what: &str, cure: &str) -> StoreError {
        let (kind, store) = (StoreFailure::Unreachable, self.name.clone());
        StoreError { kind, store, what: what.to_owned(), cure: cure.to_owned(), undone: true }
    }
}

impl UserStore {
    /// Over this object, if it can be one.
    pub fn new(object: &Bound<'_, PyAny>, timeout: Duration, clock: Clock) -> PyResult<Self> {
        let py = object.py();
        let _anchor = Anchor::hold();
        if object.is_instance_of::<PyType>() {
            let what = format!("invalid store: {} is a class; give an instance of it", shown(object));
            return Err(errors::config(py, what));
        }
        for method in ["get_many", "set_many", "delete_many", "scan", "close"] {
            if !object.getattr(method).is_ok_and(|found| found.is_callable()) {
                let cure = "give an object with the async methods that samovar.Store names";
                let what = format!("invalid store: {} has no method {method}; {cure}", shown(object));
                return Err(errors::config(py, what));
            }
        }
        let swap = object.getattr("swap").ok().filter(|swap| !swap.is_none());
        if let Some(swap) = swap.as_ref().filter(|swap| !swap.is_callable()) {
            let what = format!("invalid store: swap of {} is {}, no method; leave it out", shown(object), shown(swap));
            return Err(errors::config(py, what));
        }
        if timeout > LONGEST {
            let what = format!("invalid timeout: {timeout:?}; give more than zero and at most an hour");
            return Err(errors::config(py, what));
        }
        py.import("samovar._user_store")?;
        let shared = Arc::new(Shared { name: shown(object), timeout, swaps: swap.is_some(), clock });
        let object = Mutex::new(Some(object.clone().unbind()));
        Ok(UserStore(Arc::new(Opened { object, shared, worker: PerProcess::new(), closed: AtomicBool::new(false) })))
    }

    /// How it is named in errors.
    pub fn name(&self) -> &str {
        &self.0.shared.name
    }

    /// This process's worker, without a thread yet.
    fn worker(&self) -> io::Result<&Arc<Worker>> {
        let opened = &self.0;
        opened.worker.get_or_make(|| {
            let worker = Arc::new(Worker {
                store: Arc::downgrade(opened),
                inbox: Inbox::new()?,
                gate: Mutex::default(),
                clock: NodeClock::new(opened.shared.clock.clone()),
                tally: Mutex::default(),
                is_down: AtomicBool::new(false),
                calls: AtomicU64::new(1),
                is_last: AtomicBool::new(false),
                runs: Mutex::new(false),
                ended: Condvar::new(),
            });
            let Ok(workers) = WORKERS.get_or_make(|| Ok::<_, Infallible>(Mutex::default()));
            let mut workers = workers.lock();
            workers.retain(|worker| worker.strong_count() > 0);
            workers.push(Arc::downgrade(&worker));
            Ok(worker)
        })
    }

    fn ask(&self, work: Work, answers: Answers) {
        let shared = &self.0.shared;
        let count = if let Work::Requests(plain) = &work { plain.len() } else { 1 };
        let fail = |what: String, cure: &str| {
            let error = shared.error(&what, cure);
            answers.give((0..count).map(|at| (at, Err(error.clone()))).collect());
        };
        if self.0.closed.load(SeqCst) {
            return fail("the store was closed".into(), "ask before it is closed");
        }
        let (worker, clock) = match (self.worker(), runtime::handle()) {
            (Ok(worker), Ok(clock)) => (worker, clock),
            (Err(error), _) | (_, Err(error)) => {
                return fail(format!("no thread for it: {error}"), "let the process have more threads and files");
            }
        };
        let call = Arc::new(Call::new(worker.calls.fetch_add(1, SeqCst), shared, worker, work, answers.clone()));
        call.refuse_no_text();
        let (late, until) = (Arc::downgrade(&call), Instant::now() + shared.timeout);
        clock.spawn(async move {
            tokio::time::sleep_until(until.into()).await;
            if let Some(call) = late.upgrade() {
                call.time_out();
            }
        });
        worker.inbox.put([Job::Do(Arc::clone(&call))]);
        if let Err(error) = worker.run() {
            call.fail(&format!("no thread for it: {error}"), "let the process have more threads");
        }
    }

    /// Waits until its thread has ended, for so long at most; true if it has.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        self.0.worker.get().is_none_or(|worker| worker.wait_for_end(Instant::now() + limit))
    }

    /// Shows the collector the user's store, if whoever asks has the only two handles there are.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let alone = Arc::strong_count(&self.0) == 2;
        self.0.object.lock().as_ref().filter(|_| alone).map_or(Ok(()), |object| visit.call(object))
    }

    /// Lets go of the user's store.
    pub fn clear(&self) {
        let object = self.0.object.lock().take();
        drop(object);
    }
}

impl Store for UserStore {
    fn submit(&self, requests: Vec<Request>, answers: Answers) {
        if let Ok(worker) = self.worker() {
            let mut tally = worker.tally.lock();
            requests.iter().for_each(|request| tally.ask(&request.action));
        }
        self.ask(Work::Requests(Plain::new(self.name(), requests)), answers);
    }

    fn scan(&self, prefix: &[u8], from: Cursor) -> Paging {
        let Ok(prefix) = std::str::from_utf8(prefix) else {
            return Box::pin(std::future::ready(Err(self.0.shared.error("a prefix that is no text", "give UTF-8"))));
        };
        let (sent, page) = tokio::sync::oneshot::channel();
        let sent = Mutex::new(Some(sent));
        let answers = Answers::new(move |answers| {
            if let (Some(sent), Some((_, answer))) = (sent.lock().take(), answers.into_iter().next()) {
                // Who asked may have gone.
                let _ = sent.send(answer);
            }
        });
        self.ask(Work::Page(prefix.to_owned(), from), answers);
        let ended = self.0.shared.error("the store was closed", "scan before it is closed");
        Box::pin(async move {
            match page.await {
                Ok(Ok(Reply::Scanned(page))) => Ok(page),
                Ok(Err(error)) => Err(error),
                _ => Err(ended),
            }
        })
    }

    fn tally(&self) -> Tally {
        self.0.worker.get().map_or_else(Tally::default, |worker| *worker.tally.lock())
    }

    fn close(&self) {
        if self.0.closed.swap(true, SeqCst) {
            return;
        }
        if let Ok(worker) = self.worker() {
            worker.inbox.put([Job::End(true)]);
            // Without a thread there is nothing that could await the user's `close`.
            let _ = worker.run();
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.get() {
            worker.inbox.put([Job::End(false)]);
        }
    }
}

impl Worker {
    /// Begins the thread if there is none.
    fn run(self: &Arc<Self>) -> io::Result<()> {
        let mut runs = self.runs.lock();
        if *runs || self.is_last() {
            return Ok(());
        }
        let worker = Arc::clone(self);
        std::thread::Builder::new().name("samovar-store".to_owned()).spawn(move || worker.serve())?;
        *runs = true;
        Ok(())
    }

    /// The thread's life.
    fn serve(self: Arc<Self>) {
        // At the interpreter's end this thread hangs in Python code, below frames of ours.
        let _anchor = Anchor::hold();
        let served = Python::try_attach(|py| {
            let desk = Bound::new(py, StoreDesk(Arc::clone(&self)));
            let served = desk.and_then(|desk| py.import("samovar._user_store")?.call_method1("serve", (desk,)));
            if let Err(error) = served {
                error.write_unraisable(py, None);
            }
        });
        let mut left: Vec<Arc<Call>> = self.gate.lock().close();
        {
            let mut runs = self.runs.lock();
            left.extend(self.inbox.take().into_iter().filter_map(Job::call));
            *runs = false;
            self.ended.notify_all();
        }
        left.into_iter().for_each(Call::leave_behind);
        // `None`: there is no interpreter any more, and nobody to tell.
        let _ = served;
    }

    /// True at the end of the interpreter.
    pub fn is_last(&self) -> bool {
        self.is_last.load(SeqCst)
    }

    fn wait_for_end(&self, until: Instant) -> bool {
        let mut runs = self.runs.lock();
        while *runs && !self.ended.wait_until(&mut runs, until).timed_out() {}
        !*runs
    }

    /// Takes notice of what was answered.
    pub fn count(&self, answers: &[(usize, Answer)]) {
        let mut tally = self.tally.lock();
        for (_, answer) in answers {
            tally.answer(answer);
            match answer {
                Ok(_) => self.is_down.store(false, SeqCst),
                Err(error) if matches!(error.kind, StoreFailure::Timeout | StoreFailure::Unreachable) => {
                    tally.outages += u64::from(!self.is_down.swap(true, SeqCst));
                }
                Err(_) => {}
            }
        }
    }

    /// The call with this number is of no use to anybody any more.
    pub fn cancel(&self, call: u64) {
        self.inbox.put([Job::Cancel(call)]);
    }
}

impl Job {
    fn call(self) -> Option<Arc<Call>> {
        if let Job::Do(call) = self { Some(call) } else { None }
    }
}

/// Where the thread of a store finds what it is to do.
#[pyclass(frozen, module = "samovar._core")]
pub struct StoreDesk(Arc<Worker>);

#[pymethods]
impl StoreDesk {
    /// Readable as long as there is something to take.
    #[getter]
    fn fd(&self) -> i32 {
        self.0.inbox.fd()
    }

    /// What is to be done, in this order: `("do", call)`, `("cancel", number)`, `("close", store)`, `("end", None)`.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Vec<(&'static str, Bound<'py, PyAny>)>> {
        let mut all = Vec::new();
        for job in self.0.inbox.take() {
            match job {
                Job::Do(call) if call.is_over() => {}
                Job::Do(call) => {
                    let keys = call.changing();
                    let call = if keys.is_empty() { Some(call) } else { self.0.gate.lock().enter(keys, call) };
                    self.hand_out(py, call, &mut all)?;
                }
                Job::Cancel(number) => {
                    let next = self.0.gate.lock().give_up(|call| call.id == number);
                    self.hand_out(py, next, &mut all)?;
                    all.push(("cancel", number.into_pyobject(py)?.into_any()));
                }
                Job::End(close) => {
                    let store = self.object(py).filter(|_| close);
                    let what = if store.is_some() { "close" } else { "end" };
                    all.push((what, store.into_pyobject(py)?));
                }
            }
        }
        Ok(all)
    }

    /// A call is at its end: those that waited for its keys.
    fn leave<'py>(&self, py: Python<'py>, call: &StoreCall) -> PyResult<Vec<(&'static str, Bound<'py, PyAny>)>> {
        let (keys, mut all) = (call.0.changing(), Vec::new());
        if !keys.is_empty() {
            let next = self.0.gate.lock().leave(&keys);
            self.hand_out(py, next, &mut all)?;
        }
        Ok(all)
    }
}

impl StoreDesk {
    /// The user's store, if anybody has it still.
    fn object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let opened = self.0.store.upgrade()?;
        let object = opened.object.lock();
        object.as_ref().map(|object| object.bind(py).clone())
    }

    fn hand_out<'py>(
        &self,
        py: Python<'py>,
        calls: impl IntoIterator<Item = Arc<Call>>,
        all: &mut Vec<(&'static str, Bound<'py, PyAny>)>,
    ) -> PyResult<()> {
        for call in calls {
            match self.object(py) {
                Some(object) => all.push(("do", Bound::new(py, StoreCall(call, object.unbind()))?.into_any())),
                None => call.close(),
            }
        }
        Ok(())
    }
}

/// How long the end of the interpreter waits for the threads of stores.
const LAST: Duration = Duration::from_secs(1);

/// Ends the threads of all stores, without a hang should one be stuck.
#[pyfunction]
pub fn _end_user_stores(py: Python<'_>) {
    let _anchor = Anchor::hold();
    let Some(workers) = WORKERS.get() else { return };
    let workers: Vec<_> = workers.lock().drain(..).filter_map(|worker| worker.upgrade()).collect();
    for worker in &workers {
        worker.is_last.store(true, SeqCst);
        worker.inbox.put([Job::End(false)]);
    }
    py.detach(|| {
        let until = Instant::now() + LAST;
        workers.iter().for_each(|worker| _ = worker.wait_for_end(until));
    });
}
