//! What an entry is worth keeping for, in two bytes: its weight, and what it cost to load.
//!
//! The weight is a small floating-point number (5 bits exponent, 7 bits fraction): exact up to 255, within 0.4 % above.
//! All sums are sums of rounded weights, so what is added is what is taken away. The cost is the load time in steps of
//! four: 0 is "not known, or under 16 µs", 11 is over 16 seconds.

use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worth(u16);

impl Default for Worth {
    /// Weight 1, cost unknown: where entries are counted.
    fn default() -> Self {
        Worth(1 << 4)
    }
}

const FRACTION: u32 = 7;
/// What 12 bits can say: nearly 256 GiB.
const HEAVIEST: u64 = 0xFF << 30;

impl Worth {
    /// Of an entry of `weight` (bytes, or 1 where entries are counted) that took `load` to load.
    #[inline]
    pub fn new(weight: u64, load: Duration) -> Self {
        Worth(rounded(weight) << 4 | cost_of(load))
    }

    /// Of the same cost, and another weight.
    pub fn weighing(self, weight: u64) -> Self {
        Worth(rounded(weight) << 4 | self.0 & 15)
    }

    /// The weight, rounded.
    #[inline]
    pub fn weight(self) -> u64 {
        let (exponent, fraction) = (u32::from(self.0 >> (FRACTION + 4)), u64::from(self.0 >> 4 & 0x7F));
        if exponent == 0 { fraction } else { (fraction | 0x80) << (exponent - 1) }
    }

    /// How much an entry used `frequency` times deserves its place, as a logarithm in sixteenths of an octave.
    ///
    /// Frequency × load time ÷ weight^0.35: as GreedyDual-Size-Frequency (Cherkasova, HPL-98-69R1) rates entries, but with
    /// less weight on the weight, which serves bytes better and hits nearly as well (docs/decisions.md).
    #[inline]
    pub fn rank(self, frequency: u8) -> i32 {
        /// 16 × log2 of 1 to 15; never used counts as used once.
        const LOG: [i32; 16] = [0, 0, 16, 25, 32, 37, 41, 45, 48, 51, 53, 55, 57, 59, 61, 63];
        let weight = i32::from(self.0 >> 4);
        // Exponent and fraction read as one number are nearly the logarithm.
        let log_weight = if weight < 0x80 { small_log(weight) } else { (weight - 0x80) / 8 + 16 * 7 };
        LOG[usize::from(frequency & 15)] + 32 * i32::from(self.0 & 15) - log_weight * 7 / 20
    }
}

fn small_log(weight: i32) -> i32 {
    let bits = 31 - (weight.max(1) as u32).leading_zeros() as i32;
    16 * bits + ((16 * weight) >> bits) - 16
}

fn rounded(weight: u64) -> u16 {
    let weight = weight.clamp(1, HEAVIEST);
    if weight < 0x100 {
        return if weight < 0x80 { weight as u16 } else { weight as u16 & 0x7F | 0x80 };
    }
    let shift = 56 - weight.leading_zeros();
    // Half of the last place is added first; a carry makes the next exponent, as it should.
    let weight = weight + (1 << (shift - 1));
    let shift = 56 - weight.leading_zeros();
    ((shift + 1) << FRACTION) as u16 | (weight >> shift) as u16 & 0x7F
}

fn cost_of(load: Duration) -> u16 {
    let micros = u64::try_from(load.as_micros()).unwrap_or(u64::MAX).max(1);
    (micros.ilog2() / 2).saturating_sub(1).min(11) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_weights_are_exact_and_large_ones_within_half_a_percent() {
        for weight in 1..256 {
            assert_eq!(Worth::new(weight, Duration::ZERO).weight(), weight);
        }
        for bits in 8..38 {
            for weight in [1_u64 << bits, (1 << bits) + 1, (3 << bits) / 2, (2 << bits) - 1] {
                let rounded = Worth::new(weight, Duration::ZERO).weight();
                assert!(rounded.abs_diff(weight) as f64 <= 0.004 * weight as f64, "{weight} became {rounded}");
            }
        }
        assert!(Worth::new(u64::MAX, Duration::MAX).weight() > 1 << 37);
    }

    #[test]
    fn rank_rises_with_use_and_cost_and_falls_with_weight() {
        let rank = |frequency, millis, weight| Worth::new(weight, Duration::from_millis(millis)).rank(frequency);
        for frequency in 1..15 {
            assert!(rank(frequency, 1, 100) < rank(frequency + 1, 1, 100));
        }
        for exponent in 0..36 {
            assert!(rank(3, 1, 1 << exponent) > rank(3, 1, 2 << exponent), "{exponent}");
        }
        assert!(rank(1, 1, 100) < rank(1, 10, 100) && rank(1, 10, 100) < rank(1, 10_000, 100));
        assert!(rank(2, 1, 1) == rank(2, 1, 1) && rank(4, 1, 1 << 10) < rank(4, 1, 1000));
    }
}
