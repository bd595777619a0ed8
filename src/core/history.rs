//! Random histories, for tests: dice that come from one number, and the shortest part of a history that still shows what is wrong.

use super::draw::{STEP, mixed};
use std::ops::Range;

/// Random choices, all from one number.
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// In `[0, 1)`.
    pub fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// Less than `sides`.
    pub fn below(&mut self, sides: usize) -> usize {
        (self.share() * sides as f64) as usize
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// True once in so many throws.
    pub fn once_in(&mut self, throws: usize) -> bool {
        self.below(throws) == 0
    }

    /// Dice of their own for something.
    pub fn another(&mut self) -> Dice {
        Dice((self.share() * (1_u64 << 53) as f64) as u64)
    }
}

/// The shortest history found by leaving out steps of a failing one, ever fewer at a time, that still fails.
pub fn shrunk<S: Copy>(mut steps: Vec<S>, fails: impl Fn(&[S]) -> bool) -> Vec<S> {
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        let mut left_out = false;
        while at < steps.len() {
            let end = (at + size).min(steps.len());
            let rest: Vec<S> = steps[..at].iter().chain(&steps[end..]).copied().collect();
            if fails(&rest) {
                (steps, left_out) = (rest, true);
            } else {
                at = end;
            }
        }
        if !left_out || size > 1 {
            size /= 2;
        }
    }
    steps
}

/// The seeds of the histories that a test plays: so many, or what `SAMOVAR_SIM_SEEDS` says, or the one of `SAMOVAR_SIM_SEED`.
pub fn seeds(usually: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    match number("SAMOVAR_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SAMOVAR_SIM_SEEDS").unwrap_or(usually),
    }
}
