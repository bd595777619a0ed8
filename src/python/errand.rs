//! Something that takes a store's answers to be done: on an event loop or on a blocked thread, by the same steps.
//!
//! An [`Errand`] says what it asks, is told the answers, and asks again or is done. It never waits itself.

use super::anchor::Anchor;
use super::bridge::{self, Caller};
use super::pending::{self, Holds, Pending, Step, Todo};
use super::remote::Remote;
use super::state::State;
use super::tier::Object;
use crate::io::store::{Answer, Cursor, Request};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::Arc;

/// What an errand does next.
pub enum Turn {
    /// It wants these answers, at least one.
    Ask(Vec<Request>),
    /// It wants a page of the keys that begin so.
    Scan(Vec<u8>, Cursor),
    /// It is done, with this.
    Done(Object),
}

/// See the module.
pub trait Errand: Holds + Send {
    /// Its first step: at the first await, not before.
    fn begin(&mut self, py: Python<'_>) -> PyResult<Turn>;
    /// The answers are there, in the order of the requests.
    fn told(&mut self, py: Python<'_>, answers: Vec<Answer>) -> PyResult<Turn>;
    /// Its caller has left while the store was asked. Whether that has done it is not known here until the answers come, which it
    /// is told of then: meanwhile what it changes counts as invalidated.
    fn left(&mut self, _py: Python<'_>) {}
    /// What to call it in a warning.
    fn name(&self) -> String;
}

/// Does an errand: gives an awaitable of its outcome (`waits`), or the outcome itself.
pub fn run(
    py: Python<'_>,
    state: &'static State,
    remote: &Arc<Remote>,
    mut errand: Box<dyn Errand>,
    waits: bool,
) -> PyResult<Object> {
    if waits {
        let errand = Awaited { state, remote: Arc::clone(remote), errand: Some(errand), stage: Stage::Fresh };
        return pending::pending(py, state, Todo::Deed(Box::new(errand)));
    }
    let _anchor = Anchor::hold();
    let mut turn = errand.begin(py)?;
    loop {
        let answers = match turn {
            Turn::Ask(requests) => bridge::ask_blocking(py, &remote.store, requests)?,
            Turn::Scan(prefix, from) => bridge::scan_blocking(py, &remote.store, (&prefix, from))?,
            Turn::Done(value) => return Ok(value),
        };
        turn = errand.told(py, answers)?;
    }
}

enum Stage {
    Fresh,
    /// For this future, until there are answers.
    Waiting(Object, Arc<Mutex<Answered>>),
    Over,
}

/// Where an errand and the answers to it meet.
enum Answered {
    NotYet,
    With(Vec<Answer>),
    /// Not yet, and nobody awaits them: they are told to the errand all the same.
    Left(Box<dyn Errand>),
}

/// An errand that is awaited.
struct Awaited {
    state: &'static State,
    remote: Arc<Remote>,
    /// Until its caller leaves.
    errand: Option<Box<dyn Errand>>,
    stage: Stage,
}

/// Wakes whoever awaits.
struct Woken {
    state: &'static State,
    future: Object,
    answers: Arc<Mutex<Answered>>,
}

impl Holds for Woken {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        visit(&self.future)
            && match &*self.answers.lock() {
                Answered::Left(errand) => errand.visit(visit),
                _ => true,
            }
    }
}

impl Caller for Woken {
    fn answered(self: Box<Self>, py: Python<'_>, answers: Vec<Answer>) {
        let before = std::mem::replace(&mut *self.answers.lock(), Answered::NotYet);
        if let Answered::Left(mut errand) = before {
            // What it would do next, or raise, is nobody's.
            return drop(errand.told(py, answers));
        }
        *self.answers.lock() = Answered::With(answers);
        // A future that was cancelled, or whose loop is closed, wakes nobody.
        drop(self.future.bind(py).call_method1(&self.state.names.set_result, (py.None(),)));
    }
}

impl Awaited {
    fn go(&mut self, py: Python<'_>, turn: Turn) -> PyResult<Step> {
        if let Turn::Done(value) = turn {
            return Ok(Step::Return(value));
        }
        let state = self.state;
        let here = bridge::here(py, state)?;
        let future = state.new_future(&here)?;
        let answers = Arc::new(Mutex::new(Answered::NotYet));
        let woken = Woken { state, future: future.clone().unbind(), answers: Arc::clone(&answers) };
        match turn {
            Turn::Ask(requests) => bridge::ask(state, &here, &self.remote.store, requests, Box::new(woken)),
            Turn::Scan(prefix, from) => {
                bridge::scan(state, &here, &self.remote.store, (&prefix, from), Box::new(woken))?
            }
            Turn::Done(_) => {}
        }
        let future = future.unbind();
        self.wait(py, future, answers)
    }

    fn wait(&mut self, py: Python<'_>, future: Object, answers: Arc<Mutex<Answered>>) -> PyResult<Step> {
        // What `await future` does first: the task checks this flag on whatever is yielded to it.
        future.bind(py).setattr(&self.state.names._asyncio_future_blocking, true)?;
        self.stage = Stage::Waiting(future.clone_ref(py), answers);
        Ok(Step::Yield(future))
    }

    /// The caller is gone. What the store was asked it may have done, so the errand hears of it.
    fn leave(&mut self, py: Python<'_>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let (Stage::Waiting(_, answered), Some(mut errand)) = (stage, self.errand.take()) else { return };
        let came = std::mem::replace(&mut *answered.lock(), Answered::NotYet);
        if let Answered::With(answers) = came {
            return drop(errand.told(py, answers));
        }
        errand.left(py);
        *answered.lock() = Answered::Left(errand);
    }
}

impl Holds for Awaited {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let future = if let Stage::Waiting(future, _) = &self.stage { Some(future) } else { None };
        future.is_none_or(&mut *visit) && self.errand.as_ref().is_none_or(|errand| errand.visit(visit))
    }
}

impl Pending for Awaited {
    fn resume(&mut self, py: Python<'_>) -> PyResult<Step> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Some(errand) = &mut self.errand else { return Err(PyRuntimeError::new_err("already awaited")) };
        let turn = match stage {
            Stage::Fresh => errand.begin(py)?,
            Stage::Waiting(future, answered) => {
                let came = std::mem::replace(&mut *answered.lock(), Answered::NotYet);
                match came {
                    Answered::With(answers) => errand.told(py, answers)?,
                    _ => return self.wait(py, future, answered),
                }
            }
            Stage::Over => return Err(PyRuntimeError::new_err("already awaited")),
        };
        self.go(py, turn)
    }

    fn throw(&mut self, py: Python<'_>, error: PyErr) -> PyResult<Step> {
        self.leave(py);
        Err(error)
    }

    fn abandon(&mut self, py: Python<'_>) {
        self.leave(py);
    }

    fn is_untouched(&self) -> bool {
        matches!(self.stage, Stage::Fresh)
    }

    fn name(&self) -> String {
        self.errand.as_ref().map_or_else(String::new, |errand| errand.name())
    }
}
