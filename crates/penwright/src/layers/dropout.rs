//! Dropout (Srivastava et al. 2014) with counter-based random numbers: the mask of an element depends on the
//! seed, the step, the place and the index alone, so it is never stored and is the same for any threads.

use rayon::prelude::*;

/// The n-th random number of a key: the output function of SplitMix64 (Steele, Lea and Flood 2014).
#[inline(always)]
pub fn random(key: u64, n: u64) -> u64 {
    let mut z = key.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Dropout for one step of training; a rate of zero (evaluation) does nothing.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    rate: f32,
    key: u64,
}

impl Dropout {
    /// No dropout.
    pub const OFF: Dropout = Dropout { rate: 0.0, key: 0 };

    /// Dropout at `rate` for a step.
    pub fn new(rate: f32, seed: u64, step: u64) -> Self {
        Dropout { rate, key: random(seed ^ 0xD50F, step) }
    }

    /// The same for another place in the model.
    pub fn at(self, place: u64) -> Self {
        Dropout { rate: self.rate, key: random(self.key, place) }
    }

    /// Whether it does anything.
    pub fn is_on(self) -> bool {
        self.rate > 0.0
    }

    /// What element `index` is multiplied by: 0, or 1 / (1 − rate).
    #[inline(always)]
    pub fn factor(self, index: usize) -> f32 {
        let uniform = (random(self.key, index as u64) >> 40) as f32 / (1u64 << 24) as f32;
        if uniform < self.rate { 0.0 } else { 1.0 / (1.0 - self.rate) }
    }

    /// Multiplies every element by its factor: forward and backward alike.
    pub fn apply(self, x: &mut [f32]) {
        const TASK: usize = 4096;
        if !self.is_on() {
            return;
        }
        x.par_chunks_mut(TASK).enumerate().for_each(|(task, x)| {
            for (i, x) in x.iter_mut().enumerate() {
                *x *= self.factor(task * TASK + i);
            }
        });
    }
}
