//! How many loads run behind at once, as caches of Python objects share it. The counting is `core::budget`.
//!
//! A room is held by a loop. One that was closed, or stands still, cannot give its rooms back: they are taken from it when
//! somebody else finds no room.

use super::StateHandle;
use super::anchor::Anchor;
use super::cache::CacheCore;
use super::guarded::Guarded;
use super::state::State;
use super::task;
use super::tier::{self, Object, Tier};
use crate::core::budget::{self, Bell, Need};
use pyo3::prelude::*;
use std::sync::Arc;

/// Rooms are held by event loops.
pub type Budget = budget::Budget<Object>;
/// See [`budget::Room`].
pub type Room = budget::Room<Object>;

/// Room for a load on the loop that runs here, if there is some.
pub fn room(state: &State, tier: &Tier, here: &Bound<'_, PyAny>, need: Need) -> Option<Room> {
    let budget = tier.budget();
    try_for(state, &budget, here, |holder| budget.room(need, holder))
}

/// Asks for room, and once more if others who cannot use theirs any more have been relieved of it.
fn try_for(
    state: &State,
    budget: &Budget,
    here: &Bound<'_, PyAny>,
    mut ask: impl FnMut(Object) -> Option<Room>,
) -> Option<Room> {
    let room = ask(here.clone().unbind());
    if room.is_some() || !relieve(state, budget, here) {
        return room;
    }
    ask(here.clone().unbind())
}

/// Takes the rooms of loops that are closed or stand still; true if there were any.
fn relieve(state: &State, budget: &Budget, here: &Bound<'_, PyAny>) -> bool {
    let py = here.py();
    let other = |holder: &Object| (!holder.is(here)).then(|| holder.clone_ref(py));
    let mut others: Vec<Object> = budget.holders(other).into_iter().flatten().collect();
    others.sort_by_key(|holder| holder.as_ptr());
    others.dedup_by(|one, other| one.is(&*other));
    others.retain(|holder| task::is_stranded(holder.bind(py), state));
    !others.is_empty() && budget.evict(|holder| others.iter().any(|gone| gone.is(holder)))
}

/// Calls something on a loop; false if that loop will not do so at once.
fn bell(state: &'static State, event_loop: Object, call: Object) -> Bell {
    Arc::new(move || {
        Python::attach(|py| {
            let _anchor = Anchor::hold();
            // Rooms may come back while an exception is on its way.
            let raised = PyErr::take(py);
            let event_loop = event_loop.bind(py);
            let called = event_loop.call_method1(&state.names.call_soon_threadsafe, (&call,)).is_ok();
            let comes = called && !task::is_stranded(event_loop, state);
            if let Some(raised) = raised {
                raised.restore(py);
            }
            comes
        })
    })
}

/// A budget, as `samovar.CacheManager` sets it and warming asks it.
#[pyclass(frozen, module = "samovar._core")]
pub struct BudgetCore {
    budget: Arc<Budget>,
    state: &'static State,
}

#[pymethods]
impl BudgetCore {
    #[new]
    fn new(state: &StateHandle, rooms: u32) -> Self {
        BudgetCore { budget: Budget::new(rooms), state: state.0 }
    }

    /// How many loads may run behind at once.
    #[getter]
    fn rooms(&self) -> u32 {
        self.budget.rooms()
    }

    /// How many run.
    #[getter]
    fn taken(&self) -> usize {
        self.budget.taken()
    }

    /// Another number, from now on.
    fn resize(&self, rooms: u32) {
        let _anchor = Anchor::hold();
        self.budget.set_rooms(rooms);
    }

    /// Joins the line of those who can wait; `call` is called on the loop when it is time to ask.
    fn line_up(&self, event_loop: Object, call: Object) -> RoomQueue {
        let py_loop = Python::attach(|py| event_loop.clone_ref(py));
        let queued = self.budget.line_up(bell(self.state, event_loop, call));
        let (budget, state) = (self.budget.clone(), self.state);
        RoomQueue { queued: Guarded::new(Some(queued)), event_loop: py_loop, budget, state }
    }
}

/// A stand in line.
#[pyclass(frozen, module = "samovar._core")]
pub struct RoomQueue {
    queued: Guarded<Option<budget::Queued<Object>>>,
    event_loop: Object,
    budget: Arc<Budget>,
    state: &'static State,
}

#[pymethods]
impl RoomQueue {
    /// A room, if it is this one's turn and there is one.
    fn take(&self, py: Python<'_>) -> Option<HeldRoom> {
        let _anchor = Anchor::hold();
        // Not under the lock: others may be called.
        let mut queued = self.queued.lock().take()?;
        let room = try_for(self.state, &self.budget, self.event_loop.bind(py), |holder| queued.take(holder));
        if room.is_none() {
            *self.queued.lock() = Some(queued);
        }
        room.map(HeldRoom::new)
    }

    /// Out of the line.
    fn leave(&self) {
        let _anchor = Anchor::hold();
        let queued = self.queued.lock().take();
        drop(queued);
    }
}

/// Room for a load that Python code does.
#[pyclass(frozen, module = "samovar._core")]
pub struct HeldRoom(Guarded<Option<Room>>);

impl HeldRoom {
    /// In Python's hands.
    pub fn new(room: Room) -> Self {
        HeldRoom(Guarded::new(Some(room)))
    }
}

#[pymethods]
impl HeldRoom {
    /// Gives it back; doing so twice is once.
    fn leave(&self) {
        let _anchor = Anchor::hold();
        let room = self.0.lock().take();
        drop(room);
    }
}

/// The budget of a cache.
#[pyfunction]
pub fn _budget_of(cache: &CacheCore) -> BudgetCore {
    BudgetCore { budget: cache.tier.budget(), state: cache.state }
}

/// Gives a cache another one, from now on.
#[pyfunction]
pub fn _use_budget(cache: &CacheCore, budget: &BudgetCore) {
    cache.tier.set_budget(budget.budget.clone());
}

/// The budget of all caches that were given no other.
#[pyfunction]
pub fn _common_budget(state: &StateHandle) -> BudgetCore {
    BudgetCore { budget: state.0.budget.clone(), state: state.0 }
}

/// In a forked child nothing runs. What did belongs to the parent's loops.
pub fn forget_motion(state: &State) {
    std::mem::forget(state.budget.forget());
    tier::all().iter().for_each(|tier| std::mem::forget(tier.budget().forget()));
}
