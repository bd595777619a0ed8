//! An entry as users look at it.

use crate::core::clock::{Clock, Millis, NEVER};
use crate::core::flight::{Sight, Standing};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is held under a key, given by [`Cache::peek`](super::Cache::peek).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry<V> {
    /// A copy of the value; `None` if there is known to be nothing, or an error is kept.
    pub value: Option<V>,
    /// [`Fresh`](Standing::Fresh), [`Stale`](Standing::Stale) or [`Missing`](Standing::Missing).
    pub state: Standing,
    /// When it was stored.
    pub created: SystemTime,
    /// When it stops being fresh; `None` = never.
    pub fresh_until: Option<SystemTime>,
    /// When it is of no use any more, whatever happens; `None` = never.
    pub expires: Option<SystemTime>,
}

impl<V> Entry<V> {
    pub(super) fn of(state: Standing, sight: &Sight, value: Option<V>, clock: &Clock) -> Self {
        let at = |moment: Millis| UNIX_EPOCH + Duration::from_millis(clock.wall(moment));
        let end = |moment| (moment < NEVER).then(|| at(moment));
        let Sight { span, created, .. } = sight;
        Entry { value, state, created: at(*created), fresh_until: end(span.fresh_until), expires: end(span.expires) }
    }
}
