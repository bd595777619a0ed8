//! What is held under a key: a value, a note that there is nothing, or the error that a loader said to keep.
//!
//! It lies in an `Arc`, which is what a load tells everyone who waits for it.

use super::failed::LoadFailed;
use std::any::{Any, type_name};
use std::sync::Arc;

/// See the module.
pub(super) enum Held<V> {
    Value(V),
    Nothing,
    Failed(Box<Failure>),
}

/// A loader's error, of whatever type, and the name of that.
#[derive(Clone)]
pub(super) struct Failure {
    error: Arc<dyn Any + Send + Sync>,
    of: &'static str,
}

impl<V> Held<V> {
    /// The error of a loader of many: it answers for each of so many keys.
    pub fn failed<E: Send + Sync + 'static>(error: E, keys: usize) -> Vec<Self> {
        let failure = Failure::new(error);
        (0..keys).map(|_| Held::Failed(Box::new(failure.clone()))).collect()
    }

    /// What a loader brings.
    pub fn of<E: Send + Sync + 'static>(result: Result<Option<V>, E>) -> Self {
        result.map_or_else(|error| Held::Failed(Box::new(Failure::new(error))), Held::found)
    }

    /// What is there.
    pub fn found(value: Option<V>) -> Self {
        value.map_or(Held::Nothing, Held::Value)
    }

    /// What a loader brought, as it said it.
    pub fn into_result(self) -> Result<Option<V>, Box<Failure>> {
        match self {
            Held::Value(value) => Ok(Some(value)),
            Held::Nothing => Ok(None),
            Held::Failed(failure) => Err(failure),
        }
    }

    /// The value, if it is one.
    pub fn value(&self) -> Option<&V> {
        match self {
            Held::Value(value) => Some(value),
            Held::Nothing | Held::Failed(_) => None,
        }
    }
}

impl<V: Clone> Held<V> {
    /// What it means to a caller whose loader fails with `E`; the failure of another's loader, if its error is no `E`.
    pub fn open<E: Send + Sync + 'static>(self: Arc<Self>) -> Result<Result<Option<V>, LoadFailed<E>>, Failure> {
        let failure = match Arc::try_unwrap(self) {
            Ok(Held::Value(value)) => return Ok(Ok(Some(value))),
            Ok(Held::Nothing) => return Ok(Ok(None)),
            Ok(Held::Failed(failure)) => *failure,
            Err(shared) => match &*shared {
                Held::Value(value) => return Ok(Ok(Some(value.clone()))),
                Held::Nothing => return Ok(Ok(None)),
                Held::Failed(failure) => Failure::clone(failure),
            },
        };
        let Failure { error, of } = failure;
        match error.downcast() {
            Ok(error) => Ok(Err(LoadFailed::Loader(error))),
            Err(error) => Err(Failure { error, of }),
        }
    }
}

impl Failure {
    fn new<E: Send + Sync + 'static>(error: E) -> Self {
        Failure { error: Arc::new(error), of: type_name::<E>() }
    }

    /// Why a caller who expects an `E` does not get the error itself.
    pub fn mismatch<E>(&self) -> String {
        format!("the caller who loaded it got a {}, this one expects a {}", self.of, type_name::<E>())
    }
}
