//! What a request does to a cell, for stores that have cells of their own: [`local`](super::local) and [`bytes`](super::bytes).
//!
//! The steps are [`core::remote::cell`](crate::core::remote::cell)'s; here they are called by their names as requests. Moments are µs since
//! 1970, and the caller brings the present one and the version of what is written.

use super::stored::{SHORTEST, Stored};
use super::{Action, Reply};
use crate::core::coherence::cell::Cell as Clock;
use crate::core::remote::cell::{Cell, Framed};
use crate::core::remote::{Filled, Found, Version};
use crate::error::{StoreError, StoreFailure};
use std::time::Duration;

/// A frame, and until when it is kept, whatever it says itself.
#[derive(Clone, Debug)]
pub struct Kept(pub Stored, pub u64);

impl Framed for Kept {
    fn version(&self) -> Version {
        self.0.version()
    }

    fn fresh_until(&self) -> u64 {
        self.0.fresh_until()
    }

    fn expires(&self) -> u64 {
        self.1
    }

    fn has_value(&self) -> bool {
        self.0.has_value()
    }
}

/// So much later, or never.
pub fn later(now: u64, by: Option<Duration>) -> u64 {
    by.map_or(u64::MAX, |by| now.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
}

/// Why something is not written: no frame is so short.
pub fn no_frame(store: &str) -> StoreError {
    let (what, cure) =
        ("that is no frame".into(), format!("give one that the codec made, of {SHORTEST} bytes or more"));
    StoreError { kind: StoreFailure::Refused, store: store.into(), what, cure, undone: true }
}

/// Does this to a cell; `None` if what it is to write is no frame. What it writes has this version.
pub fn act(cell: &mut Cell<Kept>, action: &Action, version: Version, now: u64) -> Option<Reply> {
    let kept = |frame: &Vec<u8>, keep| Some(Kept(Stored::new(version, frame.clone())?, later(now, keep)));
    Some(match action {
        Action::Read => Reply::Read(cell.frame().map(|kept| kept.0.clone())),
        Action::Claim { token, wanted, life } => {
            Reply::Claimed(match cell.claim(*token, *wanted, later(now, Some(*life)), now) {
                Found::Fresh(kept) => Found::Fresh(kept.0),
                Found::Claimed(token, old) => Found::Claimed(token, old.map(|kept| kept.0)),
            })
        }
        Action::Fill { under, newer_than, frame, keep, .. } => {
            Reply::Filled(match cell.fill(*under, *newer_than, kept(frame, *keep)?, now) {
                Filled::Written(version) => Filled::Written(version),
                Filled::Lost(kept) => Filled::Lost(kept.0),
                Filled::Gone => Filled::Gone,
            })
        }
        Action::Put { frame, keep, .. } => Reply::Written(cell.put(kept(frame, *keep)?)),
        Action::Invalidate { keep, .. } => {
            let there = cell.has_value(now);
            Reply::Buried(cell.bury(version, later(now, Some(*keep))), there)
        }
        Action::Delete => Reply::Done(!std::mem::take(cell).is_over(now)),
        Action::Renew { token, life } => Reply::Done(cell.renew(*token, later(now, Some(*life)))),
        Action::Release { token } => Reply::Done(cell.release(*token)),
        // These are about a clock.
        Action::Move { .. } | Action::Registers { .. } => return None,
    })
}

/// Does this to the clock of a cache, if that is what it is about. Stamps are no earlier than that moment.
pub fn tick(clock: &mut Clock, action: &Action, now: u64) -> Option<Reply> {
    match action {
        Action::Move { names, how, .. } => Some(Reply::Moved(clock.moved(names, *how, now))),
        Action::Registers { known } => Some(Reply::Told(clock.told(*known, now))),
        _ => None,
    }
}
