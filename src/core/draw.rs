//! Random draws as decisions take them: numbers in `[0, 1)`, made from 64 random bits that a driver brings.
//!
//! The core has no generator of its own: a decision is a function of what it is given, so a test gives what it likes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The number in `[0, 1)` that 64 random bits stand for, in steps of 2^-53.
#[inline]
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// A source of draws, shared by reference. Not for secrets.
#[derive(Debug)]
pub struct Draws(AtomicU64);

impl Draws {
    /// The draws of a seed, which are always the same.
    pub fn new(seed: u64) -> Self {
        Draws(AtomicU64::new(seed))
    }

    /// The next one.
    #[inline]
    pub fn draw(&self) -> f64 {
        mixed(self.0.fetch_add(STEP, Relaxed))
    }

    /// Goes on with others: parent and child of a fork must not draw the same.
    pub fn disturb(&self, seed: u64) {
        self.0.fetch_xor(seed, Relaxed);
    }
}

/// By how much the counter behind [`mixed`] moves with each draw.
pub const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The draw of a counter that moves by [`STEP`] (SplitMix64: Steele, Lea, Flood, OOPSLA 2014). Not for secrets.
#[inline]
pub fn mixed(counter: u64) -> f64 {
    let mixed = (counter ^ (counter >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    unit(mixed ^ (mixed >> 31))
}

/// Draws for tests, with a seed.
#[cfg(test)]
pub fn draws(seed: u64) -> impl Iterator<Item = f64> {
    (1..).map(move |turn: u64| mixed(seed.wrapping_add(turn.wrapping_mul(STEP))))
}

/// The largest distance between what was seen and the distribution it should have: Kolmogorov's and Smirnov's D.
///
/// With n numbers seen, chance alone makes it larger than `1.95 / sqrt(n)` once in a thousand times.
#[cfg(test)]
pub fn distance(mut seen: Vec<f64>, share_below: impl Fn(f64) -> f64) -> f64 {
    seen.sort_by(f64::total_cmp);
    let n = seen.len() as f64;
    let gaps = seen.iter().enumerate().map(|(at, &number)| {
        let expected = share_below(number);
        (expected - at as f64 / n).abs().max(((at + 1) as f64 / n - expected).abs())
    });
    gaps.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_at_least_zero_and_less_than_one() {
        assert_eq!(unit(0), 0.0);
        assert!(unit(u64::MAX) < 1.0 && unit(u64::MAX) > 1.0 - 1e-15);
    }

    #[test]
    fn draws_are_uniform_and_the_distance_tells_when_they_are_not() {
        let seen: Vec<f64> = draws(2).take(10_000).collect();
        assert!(distance(seen.clone(), |x| x) < 1.95 / 100.0);
        assert!(distance(seen.iter().map(|x| x * x).collect(), |x| x) > 0.2);
        assert!(distance(seen.iter().map(|x| x * 0.9).collect(), |x| x) > 0.05);
    }
}
