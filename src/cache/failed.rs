//! Why there is no value: the loader's own error, or what befell its load.

use crate::error::Error;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// A load that gave no value. The next call loads anew, unless the answer is one to be remembered.
#[derive(Debug)]
pub enum LoadFailed<E> {
    /// The loader's own error: the same object for whoever started the load and for everyone who waited for it.
    Loader(Arc<E>),
    /// There is nothing under this key: a loader found none, or somebody [said so](super::Cache::set_missing).
    NotFound,
    /// The load ended without a result of its own.
    Cache(Error),
}

impl<E> LoadFailed<E> {
    /// The loader's error, if that is what it was.
    pub fn loader(&self) -> Option<&E> {
        match self {
            LoadFailed::Loader(error) => Some(error),
            LoadFailed::NotFound | LoadFailed::Cache(_) => None,
        }
    }

    /// The loader's error by value, if nobody else holds it any more.
    pub fn into_loader(self) -> Result<E, Self> {
        match self {
            LoadFailed::Loader(error) => Arc::try_unwrap(error).map_err(LoadFailed::Loader),
            other => Err(other),
        }
    }
}

impl<E> Clone for LoadFailed<E> {
    fn clone(&self) -> Self {
        match self {
            LoadFailed::Loader(error) => LoadFailed::Loader(Arc::clone(error)),
            LoadFailed::NotFound => LoadFailed::NotFound,
            LoadFailed::Cache(error) => LoadFailed::Cache(error.clone()),
        }
    }
}

impl<E> From<Error> for LoadFailed<E> {
    fn from(error: Error) -> Self {
        LoadFailed::Cache(error)
    }
}

/// Says what the loader said, and nothing else.
impl<E: fmt::Display> fmt::Display for LoadFailed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadFailed::Loader(error) => error.fmt(f),
            LoadFailed::NotFound => f.write_str("there is nothing under this key"),
            LoadFailed::Cache(error) => error.fmt(f),
        }
    }
}

impl<E: StdError> StdError for LoadFailed<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            LoadFailed::Loader(error) => error.source(),
            LoadFailed::NotFound => None,
            LoadFailed::Cache(error) => error.source(),
        }
    }
}
