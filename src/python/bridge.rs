//! Between event loops and stores: requests gather during a pass of the loop and go out together; however many answers come, the
//! loop is woken once for them.
//!
//! One a loop, made at its first request and gone with it. The connections belong to the process: loops and threads come and go,
//! and a second `asyncio.run` finds them as they are. The stores' thread takes no interpreter: it puts answers into an inbox. A
//! caller who was cancelled leaves a future behind that nobody resolves, and no trace in the order of the replies. A loop that is alone in
//! asking on a connection reads there itself, and sleeps on it: then one thread is woken by an answer, and not two.

use super::StateHandle;
use super::anchor::Anchor;
use super::errand;
use super::future::Future;
use super::guarded::Guarded;
use super::pending::Holds;
use super::process::is_the_end;
use super::state::State;
use super::store::Reader;
use super::tier::Object;
use crate::error::{StoreError, StoreFailure};
use crate::io::inbox::Inbox;
use crate::io::store::loan::{Borrower, Loan, Sleeper};
use crate::io::store::{Answer, Answers, Cursor, Request, Store, scan_for};
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of what is mostly one.
pub type Few<T> = SmallVec<[T; 1]>;

/// Whom the answers to one call are for, in the order of the requests. They get them in the loop that asked.
pub enum Whom {
    /// An errand that waits for this.
    Errand(Future),
    /// Who waits for what is made of them.
    Reader(Reader),
    /// Somebody who goes on when they are there.
    Other(Box<dyn Caller>),
}

/// See [`Whom::Other`].
pub trait Caller: Holds + Send {
    /// They are there.
    fn answered(self: Box<Self>, py: Python<'_>, answers: Few<Answer>);
}

impl Whom {
    /// They are there. Gives the future that is done by them, if one is.
    fn answered(self, py: Python<'_>, answers: Few<Answer>) -> Option<Future> {
        match self {
            Whom::Errand(future) => {
                errand::lay_down(py, &future, answers);
                Some(future)
            }
            Whom::Reader(reader) => {
                reader.told(py, answers);
                Some(reader.future)
            }
            Whom::Other(caller) => {
                caller.answered(py, answers);
                None
            }
        }
    }
}

impl Holds for Whom {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        match self {
            Whom::Errand(future) => visit(future.object()),
            Whom::Reader(reader) => reader.visit(visit),
            Whom::Other(caller) => caller.visit(visit),
        }
    }
}

/// What somebody waits for.
struct Waiting {
    gathering: Gathering,
    whom: Whom,
}

/// The answers to one call, as they come.
struct Gathering {
    answers: Few<Option<Answer>>,
    left: usize,
}

impl Gathering {
    fn new(count: usize) -> Self {
        Gathering { answers: (0..count).map(|_| None).collect(), left: count }
    }

    /// True with the last one. One that comes when all were taken is nobody's.
    fn add(&mut self, at: usize, answer: Answer) -> bool {
        let Some(place) = self.answers.get_mut(at) else { return false };
        self.left -= usize::from(place.replace(answer).is_none());
        self.left == 0
    }

    fn whole(self) -> Few<Answer> {
        let mut all = Few::with_capacity(self.answers.len());
        all.extend(self.answers.into_iter().flatten());
        all
    }
}

/// Which answer of which call.
type Place = (u64, usize);

/// The call of which these are all answers, of more than one, in their order: then there is nothing to gather.
fn all_of_one(places: &[Place], answers: &[(usize, Answer)]) -> Option<u64> {
    // The places of one call are together.
    let [(call, _), .., (last, _)] = places else { return None };
    let is_whole = call == last && places.len() == answers.len();
    (is_whole && answers.iter().enumerate().all(|(place, (at, _))| *at == place)).then_some(*call)
}

/// Answers that came together, and the places of all that were asked with them.
type Come = (Arc<[Place]>, Vec<(usize, Answer)>);

/// Requests of a pass to one store.
struct Leaving {
    store: Arc<dyn Store>,
    requests: Vec<Request>,
    places: Vec<Place>,
}

#[derive(Default)]
struct Inside {
    leaving: Vec<Leaving>,
    /// How many the last pass had for one store: the next is taken to have as many.
    usual: usize,
    /// True from a request that waits for the end of the pass until then.
    flushing: bool,
    /// True if the last answers were more than one call's: then more than one goes on in this pass, and asks again. So it is at
    /// the first of all, and where somebody says so.
    many: bool,
    waiting: HashMap<u64, Waiting>,
    calls: u64,
    /// Those that are done and whose waiters have not been called yet.
    done: VecDeque<Future>,
}

/// See the module.
#[pyclass(frozen, module = "samovar._core")]
pub struct Bridge {
    state: &'static State,
    /// A forked child has a loop's memory and not its file descriptors.
    pid: u32,
    /// A weak reference.
    event_loop: Object,
    inbox: Arc<Inbox<Come>>,
    /// As who it reads what is lent to it.
    borrower: Arc<Borrower>,
    inside: Guarded<Inside>,
}

#[pymethods]
impl Bridge {
    /// What the loop calls at the end of a pass in which something was asked.
    fn _flush(this: &Bound<'_, Self>) {
        let leaving = {
            let mut inside = this.get().inside.lock();
            inside.flushing = false;
            let leaving = std::mem::take(&mut inside.leaving);
            inside.usual = leaving.iter().map(|leaving| leaving.requests.len()).max().unwrap_or(0);
            leaving
        };
        leaving.into_iter().for_each(|leaving| Bridge::send(this, leaving));
    }

    /// What the loop calls to have those called who wait for what is done.
    fn _wake(this: &Bound<'_, Self>) -> PyResult<()> {
        let _anchor = Anchor::hold();
        let (py, inside) = (this.py(), &this.get().inside);
        if inside.lock().done.len() > 1 {
            // Whom this call does not come to, since one of them raises or runs the loop itself, has another.
            this.get().call_soon(this, "_wake")?;
        }
        let _known = Waking::begin(py, this.get().state);
        while let Some(future) = { inside.lock().done.pop_front() } {
            future.wake(py)?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let inside = self.inside.lock();
        let mut result = Ok(());
        let mut see = |object: &Object| {
            result = visit.call(object);
            result.is_ok()
        };
        let _ = inside.waiting.values().all(|waiting| waiting.whom.visit(&mut see))
            && inside.done.iter().all(|future| see(future.object()));
        result
    }

    fn __clear__(&self) {
        self.end();
    }
}

/// What the loop calls when answers have come. A loop that is closed lets go of it.
#[pyclass(frozen, module = "samovar._core")]
struct Doorbell(Py<Bridge>);

#[pymethods]
impl Doorbell {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let bridge = self.0.bind(py);
        Bridge::take_in(bridge, bridge.get().inbox.take())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        if !is_the_end() {
            self.0.get().end();
        }
    }
}

/// A connection that a loop reads itself: what it calls when there is something.
#[pyclass(frozen, module = "samovar._core")]
struct Reading {
    bridge: Py<Bridge>,
    loan: Loan,
}

impl Reading {
    fn begin(bridge: &Bound<'_, Bridge>, loan: Loan) -> PyResult<()> {
        let (py, fd) = (bridge.py(), loan.fd());
        let reading = Bound::new(py, Reading { bridge: bridge.clone().unbind(), loan })?;
        bridge.get().event_loop(py)?.call_method1("add_reader", (fd, reading)).map(drop)
    }
}

#[pymethods]
impl Reading {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let (bridge, mut goes_on) = (self.bridge.bind(py), false);
        let come = bridge.get().inbox.take_after(|| goes_on = self.loan.read());
        if !goes_on {
            bridge.get().event_loop(py)?.call_method1("remove_reader", (self.loan.fd(),))?;
        }
        if come.is_empty() { Ok(()) } else { Bridge::take_in(bridge, come) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.bridge)
    }
}

/// While the waiters of a loop are woken, which loop runs here is known, so that those who ask again need not ask asyncio.
struct Waking<'py>(&'static State, PhantomData<Python<'py>>);

impl<'py> Waking<'py> {
    fn begin(py: Python<'py>, state: &'static State) -> Self {
        let known = state.running_loop(py).and_then(|here| {
            // SAFETY: borrowed from this thread's dict, and held from here on: no other comes to have its address.
            let mark = unsafe { Bound::from_borrowed_ptr_or_opt(py, state.mark_of_loop(py))? };
            Some((mark.unbind(), here.unbind()))
        });
        let before = std::mem::replace(&mut *state.waking.lock(), known);
        drop(before);
        Waking(state, PhantomData)
    }
}

impl Drop for Waking<'_> {
    fn drop(&mut self) {
        // Another loop's, maybe, of a thread that has begun meanwhile: it asks asyncio then.
        let known = self.0.waking.lock().take();
        drop(known);
    }
}

impl Bridge {
    /// That of the loop that runs here.
    fn here<'py>(py: Python<'py>, state: &'static State, here: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Bridge>> {
        let last = state.bridge.lock().as_ref().map(|last| last.clone_ref(py));
        if let Some(bridge) = last.filter(|last| last.get().is_of(here)) {
            return Ok(bridge.into_bound(py));
        }
        let bridge = Bridge::find(py, state, here)?;
        let before = state.bridge.lock().replace(bridge.clone().unbind());
        drop(before);
        Ok(bridge)
    }

    /// True if it is this loop's: the loop is asked for, since another may have its place by now.
    fn is_of(&self, here: &Bound<'_, PyAny>) -> bool {
        // SAFETY: a weak reference, and what it gives is only compared.
        unsafe { ffi::PyWeakref_GetObject(self.event_loop.as_ptr()) == here.as_ptr() }
    }

    fn find<'py>(py: Python<'py>, state: &'static State, here: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Bridge>> {
        let bridges = state.bridges(py)?;
        if let Ok(bridge) = bridges.call_method1("get", (here,))?.cast_into::<Bridge>() {
            if bridge.get().pid == std::process::id() {
                return Ok(bridge);
            }
            // A fork within a loop: what it watches wakes the parent too.
            here.call_method1("remove_reader", (bridge.get().inbox.fd(),))?;
        }
        let inbox = Inbox::new().map_err(|error| {
            PyRuntimeError::new_err(format!(
                "no file descriptor to be woken by: {error}; let the process have more of them"
            ))
        })?;
        let event_loop = PyWeakrefReference::new(here)?.into_any().unbind();
        let (pid, inbox) = (std::process::id(), Arc::new(inbox));
        let inside = Guarded::new(Inside { many: true, ..Inside::default() });
        let bridge = Bridge { state, pid, event_loop, inbox, borrower: Arc::default(), inside };
        let bridge = Bound::new(py, bridge)?;
        here.call_method1("add_reader", (bridge.get().inbox.fd(), Doorbell(bridge.clone().unbind())))?;
        forget_closed(state, bridges)?;
        bridges.set_item(here, &bridge)?;
        Ok(bridge)
    }

    fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop.bind(py).call0()
    }

    /// The loop is closed: nobody there goes on.
    fn end(&self) {
        let mut inside = self.inside.lock();
        let (leaving, waiting) = (std::mem::take(&mut inside.leaving), std::mem::take(&mut inside.waiting));
        let done = std::mem::take(&mut inside.done);
        drop(inside);
        drop((leaving, waiting, done));
    }

    fn call_soon(&self, this: &Bound<'_, Self>, what: &str) -> PyResult<()> {
        let here = self.event_loop(this.py())?;
        here.call_method1(&self.state.names.call_soon, (this.getattr(what)?,)).map(drop)
    }

    /// Calls those who wait for these, in this pass: the loop has called us, as it would call them. One that is to say who is slow calls
    /// each by itself.
    fn wake_all(&self, this: &Bound<'_, Self>, done: Vec<Future>) -> PyResult<()> {
        let py = this.py();
        let debug = self.event_loop(py)?.call_method0(&self.state.names.get_debug);
        if debug.is_ok_and(|debug| debug.is_truthy().unwrap_or(false)) {
            done.iter().for_each(|future| future.wake_later(py));
            return Ok(());
        }
        self.inside.lock().done.extend(done);
        Self::_wake(this)
    }

    /// Gives those their answers whose are complete, and calls who waits for that.
    fn take_in(this: &Bound<'_, Self>, come: Vec<Come>) -> PyResult<()> {
        let _anchor = Anchor::hold();
        let (py, bridge) = (this.py(), this.get());
        let mut whole = Vec::new();
        {
            let mut inside = bridge.inside.lock();
            for (places, answers) in come {
                if let Some(call) = all_of_one(&places, &answers) {
                    let answers = answers.into_iter().map(|(_, answer)| answer).collect();
                    whole.extend(inside.waiting.remove(&call).map(|waiting| (waiting.whom, Few::from_vec(answers))));
                    continue;
                }
                let mut answers = answers.into_iter().map(|(at, answer)| (places[at], answer)).peekable();
                while let Some(&((call, _), _)) = answers.peek() {
                    // Those of one call mostly come one after the other.
                    let own = std::iter::from_fn(|| answers.next_if(|((of, _), _)| *of == call));
                    let Some(waiting) = inside.waiting.get_mut(&call) else {
                        own.for_each(drop);
                        continue;
                    };
                    if own.fold(false, |_, ((_, at), answer)| waiting.gathering.add(at, answer)) {
                        let waiting = inside.waiting.remove(&call);
                        whole.extend(waiting.map(|waiting| (waiting.whom, waiting.gathering.whole())));
                    }
                }
            }
            inside.many = whole.len() > 1;
        }
        let done = whole.into_iter().filter_map(|(whom, answers)| whom.answered(py, answers));
        let done = done.filter(Future::is_awaited).collect::<Vec<_>>();
        if !done.is_empty() { bridge.wake_all(this, done) } else { Ok(()) }
    }

    fn answers(&self, places: Vec<Place>) -> Answers {
        let (inbox, places) = (Arc::clone(&self.inbox), Arc::<[Place]>::from(places));
        Answers::new(move |answers| inbox.put([(Arc::clone(&places), answers)]))
    }

    fn send(this: &Bound<'_, Self>, Leaving { store, requests, places }: Leaving) {
        let bridge = this.get();
        store.submit(requests, bridge.answers(places).read_by(&bridge.borrower));
        for loan in bridge.borrower.accept() {
            // A loop that cannot watch it gives it back.
            drop(Reading::begin(this, loan));
        }
    }

    /// Notes a call whose only answer comes by another way than [`Store::submit`].
    fn expect(&self, whom: Whom) -> Answers {
        let call = self.inside.lock().note(1, whom);
        self.answers(vec![(call, 0)])
    }

    /// Notes a call, and sends what it asks at once or with the rest of this pass. True if the pass has to be told of its end.
    fn ask(this: &Bound<'_, Self>, store: &Arc<dyn Store>, requests: Few<Request>, whom: Whom) -> bool {
        let mut inside = this.get().inside.lock();
        // Alone, it need not wait for others.
        let alone = inside.waiting.is_empty() && !inside.many;
        let call = inside.note(requests.len(), whom);
        let places = (0..requests.len()).map(|at| (call, at));
        if alone {
            let places = places.collect();
            drop(inside);
            Bridge::send(this, Leaving { store: Arc::clone(store), requests: requests.into_vec(), places });
            return false;
        }
        let known = inside.leaving.iter().position(|leaving| Arc::ptr_eq(&leaving.store, store));
        let known = known.unwrap_or_else(|| {
            let (store, usual) = (Arc::clone(store), inside.usual);
            let (requests, places) = (Vec::with_capacity(usual), Vec::with_capacity(usual));
            inside.leaving.push(Leaving { store, requests, places });
            inside.leaving.len() - 1
        });
        let leaving = &mut inside.leaving[known];
        leaving.requests.extend(requests);
        leaving.places.extend(places);
        !std::mem::replace(&mut inside.flushing, true)
    }
}

/// A loop that was closed with callers who wait never comes back; what they hold holds it.
fn forget_closed(state: &State, bridges: &Bound<'_, PyAny>) -> PyResult<()> {
    for known in bridges.call_method0("keys")?.try_iter()?.collect::<PyResult<Vec<_>>>()? {
        if known.call_method0(&state.names.is_closed)?.is_truthy()? {
            bridges.call_method1("pop", (known, Option::<()>::None))?;
        }
    }
    Ok(())
}

impl Inside {
    /// The number of a call that waits for so many answers.
    fn note(&mut self, count: usize, whom: Whom) -> u64 {
        self.calls += 1;
        self.waiting.insert(self.calls, Waiting { gathering: Gathering::new(count), whom });
        self.calls
    }
}

/// The loop that runs here.
pub fn here<'py>(py: Python<'py>, state: &State) -> PyResult<Bound<'py, PyAny>> {
    state.asyncio(py)?;
    state.running_loop(py).ok_or_else(|| {
        PyRuntimeError::new_err(
            "asking a store needs a running asyncio event loop; in a thread without one use the blocking face",
        )
    })
}

/// More than one call of this loop's pass will ask: they go out together, and their answers come together.
#[pyfunction]
pub fn _ask_together(py: Python<'_>, state: &StateHandle) -> PyResult<()> {
    // Where no loop runs nobody asks.
    let (Some(bridges), Some(here)) = (state.0.bridges_made(py), state.0.running_loop(py)) else { return Ok(()) };
    if let Ok(bridge) = bridges.call_method1("get", (here,))?.cast_into::<Bridge>() {
        bridge.get().inside.lock().many = true;
    }
    Ok(())
}

/// Asks a store from the loop that runs here. Something has to be asked. Where there is no way to it, that is the answer.
pub fn ask(state: &'static State, here: &Bound<'_, PyAny>, store: &Arc<dyn Store>, requests: Few<Request>, whom: Whom) {
    let py = here.py();
    let bridge = match Bridge::here(py, state, here) {
        Ok(bridge) => bridge,
        Err(error) => {
            // Nobody waits for it yet.
            drop(whom.answered(py, requests.iter().map(|_| Err(no_way(py, &error))).collect()));
            return;
        }
    };
    if Bridge::ask(&bridge, store, requests, whom) {
        // A closed loop runs nothing any more.
        drop(bridge.get().call_soon(&bridge, "_flush"));
    }
}

fn no_way(py: Python<'_>, error: &PyErr) -> StoreError {
    let (kind, store, cure) = (StoreFailure::Unreachable, "the store".into(), "see there".into());
    StoreError { kind, store, what: error.value(py).to_string(), cure, undone: true }
}

/// Has a page of keys scanned, as [`ask`] does with requests.
pub fn scan(
    state: &'static State,
    here: &Bound<'_, PyAny>,
    store: &Arc<dyn Store>,
    (prefix, from): (&[u8], Cursor),
    whom: Whom,
) -> PyResult<()> {
    let bridge = Bridge::here(here.py(), state, here)?;
    Ok(scan_for(&**store, prefix, from, bridge.get().expect(whom))?)
}

/// Has a caller called in its loop's next pass once these answers are given one, by whoever and from wherever.
///
/// # Errors
///
/// The loop cannot be woken; the caller is gone.
pub fn expect(state: &'static State, here: &Bound<'_, PyAny>, caller: Box<dyn Caller>) -> PyResult<Answers> {
    Ok(Bridge::here(here.py(), state, here)?.get().expect(Whom::Other(caller)))
}

/// How long a blocked thread sleeps before it looks for a signal of Python's.
const NAP: Duration = Duration::from_millis(50);

/// Asks a store and waits for the answers, without the interpreter.
///
/// # Errors
///
/// What a signal raised meanwhile.
pub fn ask_blocking(
    py: Python<'_>,
    store: &Arc<dyn Store>,
    requests: impl IntoIterator<Item = Request>,
) -> PyResult<Few<Answer>> {
    let requests = requests.into_iter().collect::<Vec<_>>();
    if requests.is_empty() {
        return Ok(Few::new());
    }
    let _anchor = Anchor::hold();
    let desk = Desk::new(requests.len());
    let answers = with_sleeper(|sleeper| desk.answers().read_by(sleeper.borrower()));
    let answers = answers.unwrap_or_else(|| desk.answers());
    py.detach(|| store.submit(requests, answers));
    desk.wait(py)
}

/// Has a page of keys scanned, and waits for it so.
pub fn scan_blocking(py: Python<'_>, store: &Arc<dyn Store>, (prefix, from): (&[u8], Cursor)) -> PyResult<Few<Answer>> {
    let _anchor = Anchor::hold();
    let desk = Desk::new(1);
    scan_for(&**store, prefix, from, desk.answers())?;
    desk.wait(py)
}

/// Blocks this thread for so long, or until the answers that `told` is given are given one. What it gives is dropped then.
///
/// # Errors
///
/// What a signal raised meanwhile.
pub fn rest_blocking<T>(py: Python<'_>, most: Duration, told: impl FnOnce(Answers) -> T) -> PyResult<()> {
    let _anchor = Anchor::hold();
    let desk = Desk::new(1);
    let _told = told(desk.answers());
    desk.wait_until(py, Some(Instant::now() + most)).map(drop)
}

thread_local! {
    /// As who this thread borrows what it reads while it is blocked.
    static SLEEPER: RefCell<Sleeper> = RefCell::default();
}

/// Does this with the thread's own; not while that is in use, or the thread ends.
fn with_sleeper<T>(work: impl FnOnce(&mut Sleeper) -> T) -> Option<T> {
    let with = |slot: &RefCell<Sleeper>| {
        let mut slot = slot.try_borrow_mut().ok()?;
        if !slot.is_own() {
            *slot = Sleeper::default();
        }
        Some(work(&mut slot))
    };
    SLEEPER.try_with(with).ok().flatten()
}

/// Where a blocked thread gets its answers.
struct Desk(Arc<(Mutex<Waited>, Condvar)>);

/// What it waits for.
struct Waited {
    gathering: Gathering,
    /// Rung when that is there, while the thread sleeps on a connection.
    bell: Option<Arc<Inbox<()>>>,
}

impl Desk {
    fn new(count: usize) -> Self {
        let waited = Waited { gathering: Gathering::new(count), bell: None };
        Desk(Arc::new((Mutex::new(waited), Condvar::new())))
    }

    fn answers(&self) -> Answers {
        let there = Arc::clone(&self.0);
        Answers::new(move |answers| {
            let mut waited = there.0.lock();
            answers.into_iter().for_each(|(at, answer)| _ = waited.gathering.add(at, answer));
            if waited.gathering.left == 0 {
                waited.bell.take().into_iter().for_each(|bell| bell.put([()]));
                there.1.notify_one();
            }
        })
    }

    fn wait(self, py: Python<'_>) -> PyResult<Few<Answer>> {
        self.wait_until(py, None)
    }

    /// Nothing if the moment comes first.
    fn wait_until(self, py: Python<'_>, end: Option<Instant>) -> PyResult<Few<Answer>> {
        while end.is_none_or(|end| Instant::now() < end) {
            let nap = Instant::now() + NAP;
            let until = end.map_or(nap, |end| end.min(nap));
            let done = py.detach(|| {
                if with_sleeper(|sleeper| self.sleep(sleeper, until)) != Some(true) {
                    self.block(until);
                }
                let waited = &mut self.0.0.lock().gathering;
                (waited.left == 0).then(|| std::mem::replace(waited, Gathering::new(0)))
            });
            if let Some(gathering) = done {
                return Ok(gathering.whole());
            }
            py.check_signals()?;
        }
        Ok(Few::new())
    }

    /// Until all is there or the moment has come.
    fn block(&self, until: Instant) {
        let (waited, bell) = &*self.0;
        let mut waited = waited.lock();
        while waited.gathering.left > 0 && !bell.wait_until(&mut waited, until).timed_out() {}
    }

    /// The same, reading what was lent to this thread; false once nothing is.
    fn sleep(&self, sleeper: &mut Sleeper, until: Instant) -> bool {
        while let Some(bell) = sleeper.accept() {
            {
                let mut waited = self.0.0.lock();
                if waited.gathering.left == 0 || Instant::now() >= until {
                    return true;
                }
                waited.bell = Some(bell);
            }
            sleeper.sleep(until, || self.0.0.lock().bell = None);
        }
        false
    }
}
