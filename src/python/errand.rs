//! Something that takes a store's answers to be done: on an event loop or on a blocked thread, by the same steps.
//!
//! An [`Errand`] says what it asks, is told the answers, and asks again or is done. It never waits itself.

use super::anchor::Anchor;
use super::bridge::{self, Few, Whom};
use super::future::Future;
use super::pending::{self, Holds, Pending, Step, Todo};
use super::remote::Remote;
use super::state::State;
use super::tier::Object;
use crate::io::store::{Answer, Cursor, Request};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::Arc;

/// What an errand does next.
pub enum Turn {
    /// It wants these answers, at least one.
    Ask(Few<Request>),
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
    fn told(&mut self, py: Python<'_>, answers: Few<Answer>) -> PyResult<Turn>;
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
    mut errand: impl Errand + 'static,
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
    /// For this, until there are answers.
    Waiting(Future),
    Over,
}

/// Where an errand and the answers to it meet.
pub enum Answered {
    NotYet,
    With(Few<Answer>),
    /// Not yet, and nobody awaits them: they are told to the errand all the same.
    Left(Box<dyn Errand>),
}

impl Holds for Answered {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        if let Answered::Left(errand) = self { errand.visit(visit) } else { true }
    }
}

/// An errand that is awaited.
struct Awaited<E> {
    state: &'static State,
    remote: Arc<Remote>,
    /// Until its caller leaves.
    errand: Option<E>,
    stage: Stage,
}

/// Lays the answers down for who awaits them, or tells them to an errand that nobody awaits any more.
pub fn lay_down(py: Python<'_>, future: &Future, answers: Few<Answer>) {
    if let Answered::Left(mut errand) = future.replace(Answered::NotYet) {
        // What it would do next, or raise, is nobody's.
        return drop(errand.told(py, answers));
    }
    drop(future.replace(Answered::With(answers)));
    future.settle(py, Ok(py.None()));
}

impl<E: Errand + 'static> Awaited<E> {
    fn go(&mut self, py: Python<'_>, turn: Turn) -> PyResult<Step> {
        if let Turn::Done(value) = turn {
            return Ok(Step::Return(value));
        }
        let state = self.state;
        let here = bridge::here(py, state)?;
        let future = Future::new(state, &here)?;
        let whom = Whom::Errand(future.clone_ref(py));
        match turn {
            Turn::Ask(requests) => bridge::ask(state, &here, &self.remote.store, requests, whom),
            Turn::Scan(prefix, from) => bridge::scan(state, &here, &self.remote.store, (&prefix, from), whom)?,
            Turn::Done(_) => {}
        }
        Ok(self.wait(py, future))
    }

    fn wait(&mut self, py: Python<'_>, future: Future) -> Step {
        let yielded = future.to_be_awaited(py);
        self.stage = Stage::Waiting(future);
        Step::Yield(yielded)
    }

    /// The caller is gone. What the store was asked it may have done, so the errand hears of it.
    fn leave(&mut self, py: Python<'_>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let (Stage::Waiting(future), Some(mut errand)) = (stage, self.errand.take()) else { return };
        if let Answered::With(answers) = future.replace(Answered::NotYet) {
            return drop(errand.told(py, answers));
        }
        errand.left(py);
        drop(future.replace(Answered::Left(Box::new(errand))));
    }
}

impl<E: Errand> Holds for Awaited<E> {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let future = if let Stage::Waiting(future) = &self.stage { Some(future.object()) } else { None };
        future.is_none_or(&mut *visit) && self.errand.as_ref().is_none_or(|errand| errand.visit(visit))
    }
}

impl<E: Errand + 'static> Pending for Awaited<E> {
    fn resume(&mut self, py: Python<'_>) -> PyResult<Step> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Some(errand) = &mut self.errand else { return Err(PyRuntimeError::new_err("already awaited")) };
        let turn = match stage {
            Stage::Fresh => errand.begin(py)?,
            Stage::Waiting(future) => match future.replace(Answered::NotYet) {
                Answered::With(answers) => errand.told(py, answers)?,
                _ => return Ok(self.wait(py, future)),
            },
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
