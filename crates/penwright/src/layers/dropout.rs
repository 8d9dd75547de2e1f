//! Dropout (Srivastava et al. 2014) with counter-based random numbers: the mask of an element depends on the
//! seed, the step, the place and the index alone, so it is never stored and is the same for any threads.

use penwright_kernels::{self as kernels, Factor, chunks, chunks_mut, each};

use super::TASK;

pub use penwright_kernels::random;

/// Dropout for one step of training; a rate of zero (evaluation) does nothing.
#[derive(Clone, Copy, Debug, Default)]
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

    /// The same mask's numbers at another rate.
    #[must_use]
    pub fn with_rate(self, rate: f32) -> Self {
        Dropout { rate, ..self }
    }

    /// The probability that an element is dropped.
    pub fn rate(self) -> f32 {
        self.rate
    }

    /// What element `index` is multiplied by: 0 or 1 / (1 − rate).
    pub fn factor(self, index: usize) -> f32 {
        let mut factor = [1.0];
        self.apply_here(&mut factor, index);
        factor[0]
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

    /// Key and rate, for passes that apply the mask themselves; none when dropout is off.
    pub(crate) fn mask(self) -> Option<(u64, f32)> {
        self.is_on().then_some((self.key, self.rate))
    }

    /// The gradient `d` with the mask applied, in the kind of number E: `d` itself when it is that already and dropout
    /// is off, else a copy in `memory`, which is as long.
    pub(crate) fn masked<'a, E: Factor>(self, d: &'a [f32], memory: &'a mut Vec<E>) -> &'a [E] {
        if let Some(same) = kernels::same_kind(d).filter(|_| !self.is_on()) {
            return same;
        }
        memory.resize(d.len(), E::default());
        each((chunks_mut(memory, TASK), chunks(d, TASK)), |task, (memory, d)| {
            if !self.is_on() {
                return kernels::narrow(d, memory);
            }
            let mut part = [0.0; PART];
            for (i, (memory, d)) in memory.chunks_mut(PART).zip(d.chunks(PART)).enumerate() {
                let part = &mut part[..d.len()];
                part.copy_from_slice(d);
                self.apply_here(part, task * TASK + i * PART);
                kernels::narrow(part, memory);
            }
        });
        memory
    }
}

/// Values that are copied at once.
const PART: usize = 512;

/// A mask for all time steps of a window (Gal and Ghahramani 2016), one row a text.
#[derive(Default)]
pub(crate) struct Locked {
    factors: Vec<f32>,
    width: usize,
}

impl Locked {
    /// Draws the mask `[rows, width]`: element i of `dropout`'s numbers is element i of the matrix.
    pub(crate) fn draw(&mut self, dropout: Dropout, rows: usize, width: usize) {
        self.factors.clear();
        self.width = width;
        if dropout.is_on() {
            self.factors.resize(rows * width, 1.0);
            dropout.apply(&mut self.factors);
        }
    }

    /// The rows, `[rows, width]`; none where nothing is dropped.
    pub(crate) fn get(&self) -> Option<LockedRows<'_>> {
        (!self.factors.is_empty()).then_some(LockedRows { factors: &self.factors, width: self.width })
    }
}

/// A mask to read. Row `t · rows + b` of time-major values has row b.
#[derive(Clone, Copy)]
pub(crate) struct LockedRows<'a> {
    factors: &'a [f32],
    width: usize,
}

impl<'a> LockedRows<'a> {
    /// The factors of a row of time-major values.
    pub(crate) fn of(self, row: usize) -> &'a [f32] {
        &self.factors[row % (self.factors.len() / self.width) * self.width..][..self.width]
    }
}
