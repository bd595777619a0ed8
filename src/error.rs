//! The one error enum of the crate. Every message names the thing, the value and the cure.
//!
//! A loader's own error is never wrapped here: it reaches whoever started the load unchanged.

use std::time::Duration;

/// What can go wrong in the cache itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An option has a value it cannot have.
    #[error("invalid {option}: {value}; {cure}")]
    Config {
        /// The option as the user spells it.
        option: String,
        /// The value given.
        value: String,
        /// What to do instead.
        cure: String,
    },
    /// A load ended without a value and without an error of its own, for example because it was cancelled from outside.
    #[error("the load of {key} ended without a result: {reason}; ask again to load it anew")]
    Load {
        /// The key that was loading.
        key: String,
        /// What ended the load.
        reason: String,
    },
    /// A load took longer than its policy allows, and was stopped. Nothing was stored.
    #[error(
        "the load of {key} took longer than its timeout{} and was stopped; give it more time with timeout, or \
         have the old value answer with stale_if_error", shown(.limit)
    )]
    LoadTimeout {
        /// The key that was loading.
        key: String,
        /// How long a load has under the policy of whoever is told this; `None` if only another's ends it.
        limit: Option<Duration>,
    },
    /// Loads that would wait for each other for ever. Nobody waits: the load that would have closed the circle gets this.
    #[error("{} wait for each other; break the circle by loading one of them without the cache", circle(.path))]
    LoadCycle {
        /// Who would wait for whom: the first waits for the second, the last for the first.
        path: Vec<String>,
    },
    /// A value that has no form outside the process. Nothing was stored.
    #[error("cannot store {key}: {why}")]
    Codec {
        /// Its key, as the store would have called it.
        key: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A store behind the memory could not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A store behind the memory could not do what it was asked. The call went on without it unless it was told otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{store}: {what}; {cure}")]
pub struct StoreError {
    /// What kind of failure it is.
    pub kind: StoreFailure,
    /// The store, by its address.
    pub store: String,
    /// What happened.
    pub what: String,
    /// What to do.
    pub cure: String,
    /// True if it is certain that the store has not done it; else nobody knows.
    pub undone: bool,
}

/// What kind of failure a [`StoreError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreFailure {
    /// It did not answer within the time a call has.
    Timeout,
    /// It cannot be reached, or is not ready.
    Unreachable,
    /// It was reached, and will not work before something about its configuration, or ours, is mended.
    Misconfigured,
    /// It refused this one request.
    Refused,
}

fn shown(limit: &Option<Duration>) -> String {
    limit.map_or(String::new(), |limit| format!(" {limit:?}"))
}

fn circle(path: &[String]) -> String {
    path.iter().chain(path.first()).map(String::as_str).collect::<Vec<_>>().join(" -> ")
}

impl Error {
    /// A configuration error about `option`.
    pub fn config(option: impl Into<String>, value: impl Into<String>, cure: impl Into<String>) -> Self {
        Error::Config { option: option.into(), value: value.into(), cure: cure.into() }
    }
}

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
