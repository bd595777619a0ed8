//! Tags and namespaces that are invalidated or expired, as an errand: in this process at once, in the store, and with that for all others.

use super::bridge::Few;
use super::errand::{Errand, Turn};
use super::pending::Holds;
use super::remote::Remote;
use super::stamp::Stamp;
use super::tier::{Object, Tier};
use crate::core::coherence::{How, Move, Name};
use crate::core::remote::Version;
use crate::io::store::heard::whole_namespaces;
use crate::io::store::{Action, Answer, Reply, Request};
use pyo3::prelude::*;
use smallvec::smallvec;
use std::sync::Arc;

/// See the module.
pub struct Moving {
    tier: Arc<Tier>,
    remote: Arc<Remote>,
    names: Vec<Name>,
    how: How,
    name: &'static str,
}

impl Moving {
    /// These; called so in messages.
    pub fn new(tier: &Arc<Tier>, remote: &Arc<Remote>, names: Vec<Name>, how: How, name: &'static str) -> Self {
        Moving { tier: Arc::clone(tier), remote: Arc::clone(remote), names, how, name }
    }

    fn moved(&self, at: u64) -> Move {
        Move { names: self.names.clone(), how: self.how, at }
    }

    /// Whole namespaces leave memory; what of them is being loaded is not stored.
    fn clear(&self) {
        whole_namespaces(&self.moved(0)).for_each(|path| self.tier.forget_behind(&path));
    }
}

impl Holds for Moving {
    fn visit(&self, _visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        true
    }
}

impl Errand for Moving {
    fn begin(&mut self, _py: Python<'_>) -> PyResult<Turn> {
        self.tier.memory.lock().move_here(&self.names, self.how);
        self.clear();
        let action = Action::Move {
            names: self.names.clone(),
            how: self.how,
            by: None,
            origin: self.remote.inbox().heard.origin,
        };
        Ok(Turn::Ask(smallvec![Request { key: self.remote.clock_key().to_vec().into(), action }]))
    }

    fn told(&mut self, py: Python<'_>, mut answers: Few<Answer>) -> PyResult<Turn> {
        let version = match answers.pop() {
            Some(Ok(Reply::Moved(at))) => {
                self.tier.memory.lock().hear_moved(&self.moved(at));
                Some(Version(at))
            }
            answer => {
                let undone = matches!(&answer, Some(Err(error)) if error.undone);
                self.remote.recover_move(&self.moved(0), undone);
                self.tier.memory.lock().move_again(&self.names, self.how);
                if let Some(Err(error)) = answer {
                    self.clear();
                    self.remote.failed(py, &error)?;
                }
                None
            }
        };
        // What was loaded while the store was asked may have begun before it knew.
        self.clear();
        self.remote.note_written(version);
        Ok(Turn::Done(Bound::new(py, Stamp::of(version))?.into_any().unbind()))
    }

    fn name(&self) -> String {
        format!("{}()", self.name)
    }
}
