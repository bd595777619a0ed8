//! What happens to the process as a whole: forks, and its end.
//!
//! A forked child keeps the entries and nothing in motion. At the end the sweeper is stopped while Python still stands.

use super::{budget, resilience, tier};
use crate::work::{self, ForkGuard};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::cell::RefCell;

thread_local! {
    /// Locked by the thread that forks, from before the fork until after it, in parent and child alike.
    static FORKING: RefCell<Option<ForkGuard>> = const { RefCell::new(None) };
}

/// Keeps the sweeper out, so that the child finds everything whole.
#[pyfunction]
pub fn _before_fork() {
    FORKING.with_borrow_mut(|forking| *forking = Some(work::forking()));
}

/// Unlocks in the parent.
#[pyfunction]
pub fn _after_fork_parent() {
    if let Some(sweeper) = FORKING.take() {
        sweeper.parent();
    }
}

/// Unlocks in the child and forgets what was in motion.
#[pyfunction]
pub fn _after_fork_child(py: Python<'_>) {
    tier::forget_motion();
    let state =
        py.import("samovar._core").and_then(|core| Ok(core.getattr("_state")?.cast_into::<super::StateHandle>()?));
    if let Ok(state) = state {
        *state.get().0.waits.lock() = Default::default();
        drop(state.get().0.bridge.lock().take());
        let waking = state.get().0.waking.lock().take();
        drop(waking);
        budget::forget_motion(state.get().0);
    }
    resilience::forget_motion();
    if let Some(sweeper) = FORKING.take() {
        sweeper.child();
    }
}

/// Ends the sweeper and waits for it.
#[pyfunction]
pub fn _stop(py: Python<'_>) {
    py.detach(work::stop);
}

/// A cache is closed: the sweeper may end as soon as no other has work for it.
#[pyfunction]
pub fn _let_sweeper_end() {
    work::let_end();
}

/// True while the background thread runs; importing starts none.
#[pyfunction]
pub fn _sweeper_is_running() -> bool {
    work::is_running()
}

/// True when the interpreter is ending: no other thread will run Python code any more.
pub fn is_the_end() -> bool {
    #[cfg(not(Py_3_13))]
    use _Py_IsFinalizing as is_finalizing;
    #[cfg(Py_3_13)]
    use pyo3::ffi::Py_IsFinalizing as is_finalizing;

    // SAFETY: always callable.
    unsafe { is_finalizing() != 0 }
}

// SAFETY: as CPython declares it.
#[cfg(not(Py_3_13))]
unsafe extern "C" {
    fn _Py_IsFinalizing() -> std::ffi::c_int;
}

/// Has Python call the functions above.
pub fn register_hooks(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let hooks = PyDict::new(py);
    hooks.set_item("before", module.getattr("_before_fork")?)?;
    hooks.set_item("after_in_parent", module.getattr("_after_fork_parent")?)?;
    hooks.set_item("after_in_child", module.getattr("_after_fork_child")?)?;
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        os.call_method("register_at_fork", (), Some(&hooks))?;
    }
    py.import("atexit")?.call_method1("register", (module.getattr("_stop")?,))?;
    Ok(())
}
