//! Counting what a store is asked and answers.

use super::{Action, Answer, Reply, Tally};
use crate::core::remote::Found;
use crate::error::StoreFailure;

impl Tally {
    /// It is asked this.
    pub fn ask(&mut self, action: &Action) {
        *match action {
            Action::Read => &mut self.reads,
            Action::Claim { .. } => &mut self.claims,
            Action::Fill { .. } | Action::Put { .. } => &mut self.writes,
            _ => &mut self.others,
        } += 1;
    }

    /// It has answered this.
    pub fn answer(&mut self, answer: &Answer) {
        match answer {
            Ok(Reply::Read(Some(_)) | Reply::Claimed(Found::Fresh(_))) => self.found += 1,
            Ok(_) => {}
            Err(error) => {
                *match error.kind {
                    StoreFailure::Timeout => &mut self.timeouts,
                    StoreFailure::Unreachable | StoreFailure::Misconfigured => &mut self.unreachable,
                    StoreFailure::Refused => &mut self.refused,
                } += 1;
            }
        }
    }
}
