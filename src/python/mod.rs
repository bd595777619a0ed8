//! The extension module `samovar._core`: converts, detaches, translates errors. It decides nothing.
//!
//! - the hit path: `args`, `signature`, `given`, `function`, `method`, `reply`, `pending`, `raw`, `anchor`, `state`
//! - keys: `keys`, `encode`, `spot`, `asking`, `instances`, `knots`
//! - loading: `recipe`, `request`, `asyncio`, `task`, `budget`, `refresher`, `alarm`, `blocking`, `many`, `seat`, `effects`, `lease`
//! - the cache: `tier`, `guarded`, `owner`, `cache`, `decorate`, `copy`, `single_use`, `options`, `views`, `errors`, `clock`, `process`
//! - values as bytes: `codec`
//! - stores: `bridge`, `store`; a user's own: `user_store`, `store_call`, `store_steps`
//! - sizes: `weigh`, `layout`
//! - writing behind: `writing`
//! - what leaves the process: `framing`, `keyring`
//! - listeners: `events`
//! - loaders that are protected: `resilience`; policies per key: `rulebook`; a ttl that follows the data: `adaptive`

mod adaptive;
mod alarm;
mod anchor;
mod args;
mod asking;
mod asyncio;
mod blocking;
mod bridge;
mod budget;
mod cache;
mod cache_methods;
mod cache_options;
mod claims;
mod clock;
mod codec;
mod coding;
mod copy;
mod decorate;
mod effects;
mod encode;
mod errand;
mod errands;
mod errors;
mod events;
mod far;
mod filling;
mod framing;
mod function;
mod function_methods;
mod future;
mod given;
mod guarded;
mod hearing;
mod instances;
mod keyring;
mod keys;
mod knots;
mod layout;
mod lease;
mod listing;
mod many;
mod method;
mod moving;
mod options;
mod owner;
mod pending;
mod place;
mod process;
mod raw;
mod recipe;
mod recovery;
mod refresher;
mod remote;
mod reply;
mod request;
mod resilience;
mod rulebook;
mod sealed;
mod seat;
mod signature;
mod single_use;
mod spot;
mod stamp;
mod state;
mod store;
mod store_call;
mod store_steps;
mod task;
mod tier;
mod two_tiers;
mod user_store;
mod views;
mod waiters;
mod weigh;
mod writing;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// The module's state as an object that can be handed to constructors.
#[pyclass(frozen, module = "samovar._core")]
pub struct StateHandle(&'static state::State);

/// PyO3 attaches threads to the main interpreter. Within another one, as mod_wsgi makes them, that would wait for ever; from
/// Python 3.12 on only an interpreter that shares its GIL gets here at all.
fn refuse_other_interpreters() -> PyResult<()> {
    // SAFETY: the interpreter is held; neither call takes or gives a reference.
    if unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() } {
        return Ok(());
    }
    let text = "samovar works in the main interpreter of a process only, not in a subinterpreter; import it there, \
                under mod_wsgi with `WSGIApplicationGroup %{GLOBAL}`";
    Err(PyImportError::new_err(text))
}

/// The compiled part of Samovar. Import `samovar` instead.
#[pymodule(gil_used = true)]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::adaptive::Adaptive;
    #[pymodule_export]
    use super::asyncio::_go_on;
    #[pymodule_export]
    use super::bridge::_ask_together;
    #[pymodule_export]
    use super::budget::{_budget_of, _common_budget, _use_budget, BudgetCore, HeldRoom, RoomQueue};
    #[pymodule_export]
    use super::cache::{CacheCore, SyncCore};
    #[pymodule_export]
    use super::clock::{_advance_clock, _clock_is_frozen, _clock_millis, _clock_time, _freeze_clock};
    #[pymodule_export]
    use super::codec::{JsonText, MessagePack};
    #[pymodule_export]
    use super::coding::Coding;
    #[pymodule_export]
    use super::decorate::{_decorate, _template_fields};
    #[pymodule_export]
    use super::encode::_encoded;
    #[pymodule_export]
    use super::errors::_copy_error;
    #[pymodule_export]
    use super::events::_check_event;
    #[pymodule_export]
    use super::framing::{_train_dictionary, Framing, UnpackedFrame};
    #[pymodule_export]
    use super::keyring::KeyRing;
    #[pymodule_export]
    use super::lease::{_load_together, _loading, Loading};
    #[pymodule_export]
    use super::options::{_check_span, _check_ttl, _seconds};
    #[pymodule_export]
    use super::process::{
        _after_fork_child, _after_fork_parent, _before_fork, _let_sweeper_end, _stop, _sweeper_is_running,
    };
    #[pymodule_export]
    use super::refresher::RefresherCore;
    #[pymodule_export]
    use super::resilience::{
        _duration_millis, BreakerCore, CallPermit, CallSlot, CallTicket, ConcurrencyCore, RateCore, RetryCore,
    };
    #[pymodule_export]
    use super::rulebook::_check_pattern;
    #[pymodule_export]
    use super::stamp::Stamp;
    #[pymodule_export]
    use super::store::StoreCore;
    #[pymodule_export]
    use super::store_call::StoreCall;
    #[pymodule_export]
    use super::store_steps::_ask_store;
    #[pymodule_export]
    use super::task::LoadDone;
    #[pymodule_export]
    use super::tier::_set_steady;
    #[pymodule_export]
    use super::two_tiers::TwoTiers;
    #[pymodule_export]
    use super::user_store::{_end_user_stores, StoreDesk};
    #[pymodule_export]
    use super::weigh::{_weigh, _weigh_visits};
    #[pymodule_export]
    use super::writing::{Turns, WriteQueue};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        refuse_other_interpreters()?;
        // PyO3 looks once, at the first attach, whether there is an interpreter. It must not be the freeing of a function
        // at the interpreter's end, when there is none any more.
        py.detach(|| Python::attach(|_| ()));
        let state = state::State::new(py)?;
        module.add("_state", Bound::new(py, StateHandle(state))?)?;
        module.add("_reuses_stop_iteration", reply::REUSES_STOP_ITERATION)?;
        // SAFETY: the types were just made and are never freed.
        unsafe {
            module.add("CachedFunction", Bound::from_borrowed_ptr(py, state.function_type.cast()))?;
            module.add("Reply", Bound::from_borrowed_ptr(py, state.reply_type.cast()))?;
            module.add("PendingReply", Bound::from_borrowed_ptr(py, state.pending_type.cast()))?;
        }
        cache_methods::add_to_classes(py)?;
        process::register_hooks(module)
    }
}
