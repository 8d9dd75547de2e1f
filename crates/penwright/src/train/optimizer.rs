//! AdamW (Loshchilov and Hutter 2019) and clipping by the global norm, one pass each over the arena.

use std::ops::Range;

use rayon::prelude::*;

use crate::model::Params;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99; // as nanoGPT for small batches of characters
const EPSILON: f32 = 1e-8;
const TASK: usize = 1 << 14;

/// The moments and which parameters decay.
pub struct AdamW {
    first: Vec<f32>,
    second: Vec<f32>,
    decaying: Vec<Range<usize>>,
    betas: (f32, f32),
    step: i32,
}

impl AdamW {
    /// Fresh moments for an arena.
    pub fn new(params: &Params) -> Self {
        Self::with_betas(params, (BETA1, BETA2))
    }

    /// The same with other decay rates of the moments.
    pub fn with_betas(params: &Params, betas: (f32, f32)) -> Self {
        let zeros = vec![0.0; params.data.len()];
        let decaying = params.tensors.iter().filter(|t| t.decays()).map(|t| t.range.clone()).collect();
        AdamW { first: zeros.clone(), second: zeros, decaying, betas, step: 0 }
    }

    /// First and second moments, laid out like the arena.
    pub fn moments(&self) -> (&[f32], &[f32]) {
        (&self.first, &self.second)
    }

    /// Takes up moments after `step` updates; false when they belong to another arena.
    pub fn restore(&mut self, first: Vec<f32>, second: Vec<f32>, step: u64) -> bool {
        if first.len() != self.first.len() || second.len() != self.second.len() {
            return false;
        }
        (self.first, self.second, self.step) = (first, second, step as i32);
        true
    }

    /// `p -= lr (m̂ / (√v̂ + ε) + λ p)`, the decay λ on matrices only; the gradient is multiplied by `scale`
    /// first and left as it is.
    pub fn update(&mut self, params: &mut [f32], grads: &[f32], scale: f32, lr: f32, decay: f32) {
        self.step += 1;
        let (beta1, beta2) = self.betas;
        let (unbias1, unbias2) = (1.0 - beta1.powi(self.step), 1.0 - beta2.powi(self.step));
        for range in &self.decaying {
            params[range.clone()].par_chunks_mut(TASK).for_each(|p| p.iter_mut().for_each(|p| *p *= 1.0 - lr * decay));
        }
        let moments = self.first.par_chunks_mut(TASK).zip(self.second.par_chunks_mut(TASK));
        params.par_chunks_mut(TASK).zip(grads.par_chunks(TASK)).zip(moments).for_each(|((p, g), (m, v))| {
            for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * scale;
                *m = beta1 * *m + (1.0 - beta1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *p -= lr * (*m / unbias1) / ((*v / unbias2).sqrt() + EPSILON);
            }
        });
    }
}

/// The Euclidean norm of all gradients, summed in a fixed order.
pub fn global_norm(grads: &[f32]) -> f32 {
    let sums: Vec<f64> =
        grads.par_chunks(TASK).map(|g| g.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()).collect();
    sums.iter().sum::<f64>().sqrt() as f32
}
