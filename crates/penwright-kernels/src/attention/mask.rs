//! Dropout of probabilities: the mask is made again wherever it is needed, a quarter of a random number for each.

use crate::isa::dispatched;
use crate::math::random;

/// A mask of dropout for the probabilities of one head of one text of T positions. Sixteen bits decide about each: the
/// q-th quarter of random number `first + key · ⌈T / 4⌉ + n` of the key about query `4 n + q`.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    /// The key of the random numbers.
    pub key: u64,
    /// The number of the first of T · ⌈T / 4⌉.
    pub first: u64,
    /// The probability of zero, taken to the nearest 65536th.
    pub rate: f32,
}

impl Mask {
    /// How many random numbers a mask takes.
    pub fn numbers(positions: usize) -> u64 {
        positions as u64 * positions.div_ceil(4) as u64
    }

    /// What a probability is multiplied by: zero, or as much as keeps the mean.
    pub fn factor(self, positions: usize, query: usize, key: usize) -> f32 {
        let strip = self.strip(positions, query / 4 * 4, key);
        let bits = random(strip.key, strip.first) >> (16 * (query % 4));
        strip.of(bits as u16)
    }

    /// The part for the keys from `key` and the queries from `query` on, a multiple of four.
    pub(super) fn strip(self, positions: usize, query: usize, key: usize) -> Strip {
        let step = positions.div_ceil(4) as u64;
        let threshold = (self.rate * 65536.0).round().clamp(0.0, 65535.0) as u16;
        let factor = 65536.0 / (65536.0 - f32::from(threshold));
        let first = self.first.wrapping_add(key as u64 * step + query as u64 / 4);
        Strip { key: self.key, first, step, threshold, factor }
    }
}

/// A part of a mask: some keys, a panel of queries.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    pub(super) key: u64,
    /// The number of the first key and query, and what lies between keys.
    pub(super) first: u64,
    pub(super) step: u64,
    /// Bits below it mean zero.
    pub(super) threshold: u16,
    pub(super) factor: f32,
}

impl Strip {
    #[inline(always)]
    fn of(self, bits: u16) -> f32 {
        if bits < self.threshold { 0.0 } else { self.factor }
    }
}

dispatched! {
    /// The factors `[keys, width]`.
    pub(super) fn factors(strip: Strip, width: usize, to: &mut [f32]) = factors_body;
}

#[inline(always)]
fn factors_body<const FMA: bool>(strip: Strip, width: usize, to: &mut [f32]) {
    for (key, row) in to.chunks_exact_mut(width).enumerate() {
        let first = strip.first.wrapping_add(key as u64 * strip.step);
        for (n, four) in row.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let bits = random(strip.key, first.wrapping_add(n as u64));
            for (q, x) in four.iter_mut().enumerate() {
                *x = strip.of((bits >> (16 * q)) as u16);
            }
        }
    }
}
