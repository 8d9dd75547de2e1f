//! Dropout (Srivastava et al. 2014) with counter-based random numbers: the mask of an element depends on the
//! seed, the step, the place and the index alone, so it is never stored and is the same for any threads.

use penwright_kernels::{self as kernels, chunks, chunks_mut, each};

use super::TASK;

pub use penwright_kernels::random;

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

    /// Multiplies every element by 0 or 1 / (1 − rate): forward and backward alike.
    pub fn apply(self, x: &mut [f32]) {
        if self.is_on() {
            each(chunks_mut(x, TASK), |task, x| self.apply_here(x, task * TASK));
        }
    }

    /// The same on this thread, to elements of which the first has the index `first`.
    pub(crate) fn apply_here(self, x: &mut [f32], first: usize) {
        if self.is_on() {
            kernels::dropout(x, self.key, first as u64, self.rate);
        }
    }

    /// The mask of elements of which the first has the index `first`, or none.
    pub(crate) fn mask(self, first: usize) -> Option<kernels::Mask> {
        self.is_on().then_some(kernels::Mask { key: self.key, first: first as u64, rate: self.rate })
    }

    /// `y ← dropout(y) + x`: the end of a residual branch.
    pub(crate) fn residual(self, y: &mut [f32], x: &[f32]) {
        each((chunks_mut(y, TASK), chunks(x, TASK)), |task, (y, x)| {
            self.apply_here(y, task * TASK);
            kernels::add(y, x);
        });
    }

    /// The gradient `d` with the mask applied: `d` itself when dropout is off, else a copy in `memory`.
    pub(crate) fn masked<'a>(self, d: &'a [f32], memory: &'a mut [f32]) -> &'a [f32] {
        if !self.is_on() {
            return d;
        }
        self.copy(d, memory);
        memory
    }

    /// `y = dropout(x)`.
    pub(crate) fn copy(self, x: &[f32], y: &mut [f32]) {
        each((chunks_mut(y, TASK), chunks(x, TASK)), |task, (y, x)| {
            y.copy_from_slice(x);
            self.apply_here(y, task * TASK);
        });
    }
}
