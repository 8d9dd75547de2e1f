//! AdamW (Loshchilov and Hutter 2019), one pass over the arena.

use std::ops::Range;

use penwright_kernels::{AdamStep, adamw, chunks, chunks_mut, each, team};

use super::{Optimizer, TASK};
use crate::model::{Params, Tensor};

/// Decay rates of the first and second moment, where none are given.
pub(super) const BETAS: (f32, f32) = (0.9, 0.99); // the second as nanoGPT for small batches of characters
const EPSILON: f32 = 1e-8;

/// The constants of step `n`, counted from one.
pub(super) fn step_of(betas: (f32, f32), n: i32, scale: f32, lr: f32) -> AdamStep {
    let unbias = (1.0 - betas.0.powi(n), 1.0 - betas.1.powi(n));
    AdamStep { betas, unbias, lr, epsilon: EPSILON, scale }
}

/// The moments and which parameters decay.
pub struct AdamW {
    first: Vec<f32>,
    second: Vec<f32>,
    /// The tensors that are trained, in order.
    places: Vec<Place>,
    /// Whether the moments are laid out like the arena; else they are those of the tensors, one after another.
    whole: bool,
    pub(super) betas: (f32, f32),
    step: i32,
}

/// A tensor in the arena.
struct Place {
    range: Range<usize>,
    /// Where its moments begin.
    at: usize,
    decays: bool,
}

impl AdamW {
    /// Fresh moments for an arena.
    pub fn new(params: &Params) -> Self {
        Self::with_betas(params, BETAS)
    }

    /// The same with other decay rates of the moments.
    pub fn with_betas(params: &Params, betas: (f32, f32)) -> Self {
        let mut all = Self::of(params, |_| true);
        all.places.iter_mut().for_each(|place| place.at = place.range.start);
        let len = params.data.len();
        AdamW { first: vec![0.0; len], second: vec![0.0; len], whole: true, betas, ..all }
    }

    /// Of some tensors only, with moments for no others.
    pub(super) fn of(params: &Params, which: impl Fn(&Tensor) -> bool) -> Self {
        let mut tensors: Vec<&Tensor> = params.tensors.iter().filter(|t| !t.frozen && which(t)).collect();
        tensors.sort_by_key(|tensor| tensor.range.start);
        let mut end = 0;
        let mut places = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            places.push(Place { range: tensor.range.clone(), at: end, decays: tensor.decays() });
            end += tensor.range.len();
        }
        let (first, second) = (vec![0.0; end], vec![0.0; end]);
        AdamW { first, second, places, whole: false, betas: BETAS, step: 0 }
    }

    /// `p -= lr (m̂ / (√v̂ + ε) + λ p)`, the decay λ on matrices only; the gradient is multiplied by `scale`
    /// first and left as it is. Frozen tensors are not touched, nor are their moments.
    pub fn update(&mut self, params: &mut [f32], grads: &[f32], scale: f32, lr: f32, decay: f32) {
        self.step += 1;
        let step = step_of(self.betas, self.step, scale, lr);
        let keep = 1.0 - lr * decay;
        let keep = |place: &Place| if place.decays { keep } else { 1.0 };
        if !self.whole {
            return self.update_each(params, grads, step, keep);
        }
        let moments = (chunks_mut(&mut self.first, TASK), chunks_mut(&mut self.second, TASK));
        let places = &self.places;
        team(|| {
            each((chunks_mut(params, TASK), chunks(grads, TASK), moments.0, moments.1), |task, (p, g, m, v)| {
                // The task's part of the arena, tensor by tensor.
                let (start, end) = (task * TASK, task * TASK + p.len());
                let from = places.partition_point(|place| place.range.end <= start);
                for place in places[from..].iter().take_while(|place| place.range.start < end) {
                    let at = place.range.start.max(start) - start..place.range.end.min(end) - start;
                    let (p, g, m, v) = (&mut p[at.clone()], &g[at.clone()], &mut m[at.clone()], &mut v[at]);
                    begin(self.step, m, v);
                    adamw(p, g, m, v, step, keep(place));
                }
            });
        });
    }

    /// Tensor by tensor, where the moments are only theirs.
    fn update_each(&mut self, params: &mut [f32], grads: &[f32], step: AdamStep, keep: impl Fn(&Place) -> f32) {
        for place in &self.places {
            let (range, moments) = (place.range.clone(), place.at..place.at + place.range.len());
            let keep = keep(place);
            let parts = (
                chunks_mut(&mut params[range.clone()], TASK),
                chunks(&grads[range], TASK),
                chunks_mut(&mut self.first[moments.clone()], TASK),
                chunks_mut(&mut self.second[moments], TASK),
            );
            each(parts, |_, (p, g, m, v)| {
                begin(self.step, m, v);
                adamw(p, g, m, v, step, keep);
            });
        }
    }
}

/// Before the first step, writes the zeros that the moments are: memory that is read before it is written costs the
/// system two faults a page, of which the second interrupts all cores.
fn begin(step: i32, first: &mut [f32], second: &mut [f32]) {
    if step == 1 {
        first.fill(0.0);
        second.fill(0.0);
    }
}

impl Optimizer for AdamW {
    fn update(&mut self, params: &mut [f32], grads: &[f32], scale: f32, lr: f32, decay: f32) {
        AdamW::update(self, params, grads, scale, lr, decay);
    }

    fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![("first", &self.first), ("second", &self.second)]
    }

    fn restore(&mut self, state: &mut dyn FnMut(&'static str) -> Vec<f32>, step: u64) -> bool {
        let (first, second) = (state("first"), state("second"));
        if first.len() != self.first.len() || second.len() != self.second.len() {
            return false;
        }
        (self.first, self.second, self.step) = (first, second, step as i32);
        true
    }
}
