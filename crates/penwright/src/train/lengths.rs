//! Windows of random length for an LSTM's streams (Merity, Keskar and Socher 2018): were all windows equally long, the
//! same tokens would always stand at a window's first places, where little is propagated back to them.

use std::cell::RefCell;

use crate::layers::random;

/// How often the base length is halved, as a chance.
const HALVED: f64 = 0.05;
/// Standard deviation of a length, in tokens.
const DEVIATION: f64 = 5.0;
/// The fewest tokens of a window, and the most beyond the base: four standard deviations.
const FEWEST: usize = 5;
pub(super) const BEYOND: usize = 20;
/// A window's length on average, as a part of the base.
pub(super) const MEAN: f64 = 1.0 - HALVED / 2.0;

/// Window lengths by step, and where they bring the streams.
pub(super) struct RandomLengths {
    seed: u64,
    base: usize,
    /// Tokens of a stream.
    stream: usize,
    streams: usize,
    /// The step that was asked for last: those after it are found by going on.
    at: RefCell<Places>,
}

/// Where the streams are at a step.
#[derive(Clone, Default)]
struct Places {
    step: u64,
    /// Tokens that each stream has read before the step.
    before: u64,
    /// Places in the streams.
    offsets: Vec<usize>,
    /// Which begin anew.
    begin: Vec<bool>,
}

impl RandomLengths {
    pub(super) fn new(base: usize, (streams, stream): (usize, usize), seed: u64) -> Self {
        let lengths = RandomLengths { seed, base, stream, streams, at: RefCell::default() };
        let first = lengths.first();
        lengths.at.replace(first);
        lengths
    }

    /// Tokens of a step's windows: normal around the base, or with a chance of 5 % around half of it.
    pub(super) fn length(&self, step: u64) -> usize {
        let key = random(self.seed ^ 0x1E46, step);
        let uniform = |n| (random(key, n) >> 11) as f64 / (1u64 << 53) as f64;
        let base = self.base as f64 * if uniform(0) < HALVED { 0.5 } else { 1.0 };
        let normal = (-2.0 * (1.0 - uniform(1)).ln()).sqrt() * (std::f64::consts::TAU * uniform(2)).cos();
        let length = (base + DEVIATION * normal).round().max(0.0) as usize;
        length.clamp(FEWEST.min(self.base), self.base + BEYOND).min(self.stream)
    }

    /// Where stream `b` is at a step, and whether it begins anew there.
    pub(super) fn place(&self, step: u64, b: usize) -> (usize, bool) {
        self.seek(step);
        let at = self.at.borrow();
        (at.offsets[b], at.begin[b])
    }

    /// Tokens that each stream has read before a step.
    pub(super) fn before(&self, step: u64) -> u64 {
        self.seek(step);
        self.at.borrow().before
    }

    /// The beginnings of the streams are spread over a pass.
    fn first(&self) -> Places {
        let offsets = (0..self.streams).map(|b| b * self.stream / self.streams);
        let offsets = offsets.map(|offset| if offset + self.length(0) > self.stream { 0 } else { offset }).collect();
        Places { step: 0, before: 0, offsets, begin: vec![true; self.streams] }
    }

    fn seek(&self, step: u64) {
        let mut at = self.at.borrow_mut();
        if step < at.step {
            *at = self.first();
        }
        while at.step < step {
            let (now, next) = (self.length(at.step), self.length(at.step + 1));
            let Places { offsets, begin, .. } = &mut *at;
            for (offset, begin) in offsets.iter_mut().zip(begin) {
                *offset += now;
                *begin = *offset + next > self.stream;
                if *begin {
                    *offset = 0;
                }
            }
            (at.step, at.before) = (at.step + 1, at.before + now as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_the_paper_has_them() {
        let lengths = RandomLengths::new(70, (2, 10_000), 1);
        let drawn: Vec<f64> = (0..20_000).map(|step| lengths.length(step) as f64).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean(&drawn) - 70.0 * MEAN).abs() < 0.3, "{}", mean(&drawn));
        let (short, long): (Vec<f64>, Vec<f64>) = drawn.iter().partition(|length| **length < 52.0);
        assert!((0.045..0.055).contains(&(short.len() as f64 / drawn.len() as f64)));
        for (part, base) in [(short, 35.0), (long, 70.0)] {
            let squares: Vec<f64> = part.iter().map(|length| (length - mean(&part)).powi(2)).collect();
            assert!((mean(&part) - base).abs() < 0.6 && (mean(&squares).sqrt() - DEVIATION).abs() < 0.4);
        }
        assert!(drawn.iter().all(|&length| (5.0..=90.0).contains(&length)));
    }

    #[test]
    fn a_step_is_the_same_wherever_one_comes_from() {
        let lengths = || RandomLengths::new(12, (3, 101), 4);
        let there = |lengths: &RandomLengths, step| {
            ((0..3).map(|b| lengths.place(step, b)).collect::<Vec<_>>(), lengths.before(step))
        };
        let whole = lengths();
        let in_order: Vec<_> = (0..50).map(|step| there(&whole, step)).collect();
        for step in [49, 0, 13, 12, 30] {
            assert_eq!(there(&lengths(), step), in_order[step as usize]);
            assert_eq!(there(&whole, step), in_order[step as usize]);
        }
        assert_eq!(in_order[49].1, (0..49).map(|step| whole.length(step) as u64).sum::<u64>());
    }
}
