//! Whether anything was missed of what a cache's clock counts as told.
//!
//! Whoever listens counts along. The clock is asked from time to time, and its answer stands behind all that was told before
//! it was given: either the counts agree, or something was missed, or the clock has lost what it knew. Then all is in doubt until
//! somebody starts anew, with what the clock has told by then.

use super::Told;
use crate::core::broken::{Rule, broken};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hearing {
    birth: u64,
    /// The newest message that was heard.
    heard: u64,
    /// How things stood when they agreed last.
    messages: u64,
    moves: u64,
    missed: bool,
}

impl Hearing {
    /// From here on: what was told before is known.
    pub fn start(told: &Told) -> Self {
        let Told { birth, messages, moves, .. } = *told;
        Hearing { birth, heard: messages, messages, moves, missed: false }
    }

    /// A message with this number was heard; false: one before it was missed. 0: nobody counts it. One that was heard before
    /// says nothing new.
    pub fn heard(&mut self, number: u64) -> bool {
        if number > self.heard {
            self.missed |= number - self.heard > 1 && !broken(Rule::GapsAreNoticed);
            self.heard = number;
        }
        !self.missed
    }

    /// The clock was asked, in order behind the messages; false: something was missed or forgotten.
    pub fn confirm(&mut self, birth: u64, messages: u64, moves: u64) -> bool {
        let same = (birth == self.birth || broken(Rule::BirthsAreCompared))
            && (messages == self.heard || broken(Rule::CountsAreCompared));
        // Each move is told in one message.
        let possible = moves >= self.moves && moves - self.moves <= messages.saturating_sub(self.messages);
        self.missed |= !(same && possible);
        if !self.missed {
            (self.messages, self.moves) = (messages, moves);
        }
        !self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start(messages: u64, moves: u64) -> Hearing {
        Hearing::start(&Told { stamp: 9, birth: 5, messages, moves, all: None })
    }

    #[test]
    fn all_is_well_while_the_counts_agree() {
        let mut hearing = start(3, 1);
        assert!(hearing.confirm(5, 3, 1));
        assert!(hearing.heard(4) && hearing.heard(4) && hearing.heard(2) && hearing.heard(0) && hearing.heard(5));
        assert!(hearing.confirm(5, 5, 2) && hearing.confirm(5, 5, 2));
    }

    #[test]
    fn a_gap_is_noticed_by_what_follows_or_by_the_clock_and_stays_one() {
        let mut hearing = start(3, 1);
        assert!(!hearing.heard(5) && !hearing.heard(4) && !hearing.heard(6) && !hearing.confirm(5, 6, 1));
        let mut hearing = start(3, 1);
        assert!(!hearing.confirm(5, 4, 1) && !hearing.heard(4) && !hearing.confirm(5, 4, 1));
    }

    #[test]
    fn a_clock_that_has_lost_what_it_knew_is_noticed() {
        let lost = [(6, 0, 0), (6, 3, 1), (0, 0, 0), (5, 2, 1), (5, 3, 0), (5, 3, 2)];
        for (birth, messages, moves) in lost {
            assert!(!start(3, 1).confirm(birth, messages, moves), "{birth} {messages} {moves}");
        }
    }

    proptest! {
        #[test]
        fn whoever_misses_one_is_never_told_that_all_is_well(
            told in prop::collection::vec((any::<bool>(), any::<bool>()), 1..30), from in 0_u64..9,
        ) {
            let (mut hearing, mut missed) = (start(from, 0), false);
            for (number, (heard, asked)) in (from + 1..).zip(told) {
                missed |= !heard;
                if heard {
                    prop_assert_eq!(hearing.heard(number), !missed);
                }
                if asked {
                    prop_assert_eq!(hearing.confirm(5, number, 0), !missed);
                }
            }
        }
    }
}
