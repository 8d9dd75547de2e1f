//! AdamW (Loshchilov and Hutter 2019) and clipping by the global norm, one pass each over the arena.

use std::ops::Range;

use penwright_kernels::{AdamStep, adamw, chunks, chunks_mut, each, sum_squares, team};

use crate::model::Params;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99; // as nanoGPT for small batches of characters
const EPSILON: f32 = 1e-8;
const TASK: usize = 1 << 14;

/// The moments and which parameters decay.
pub struct AdamW {
    first: Vec<f32>,
    second: Vec<f32>,
    /// The tensors that are trained, in order, and whether they decay.
    tensors: Vec<(Range<usize>, bool)>,
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
        let trained = params.tensors.iter().filter(|t| !t.frozen);
        let mut tensors: Vec<_> = trained.map(|t| (t.range.clone(), t.decays())).collect();
        tensors.sort_by_key(|(range, _)| range.start);
        AdamW { first: vec![0.0; zeros.len()], second: zeros, tensors, betas, step: 0 }
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
    /// first and left as it is. Frozen tensors are not touched, nor are their moments.
    pub fn update(&mut self, params: &mut [f32], grads: &[f32], scale: f32, lr: f32, decay: f32) {
        self.step += 1;
        let (beta1, beta2) = self.betas;
        let unbias = (1.0 - beta1.powi(self.step), 1.0 - beta2.powi(self.step));
        let step = AdamStep { betas: self.betas, unbias, lr, epsilon: EPSILON, scale };
        let keep = 1.0 - lr * decay;
        let moments = (chunks_mut(&mut self.first, TASK), chunks_mut(&mut self.second, TASK));
        let tensors = &self.tensors;
        team(|| {
            each((chunks_mut(params, TASK), chunks(grads, TASK), moments.0, moments.1), |task, (p, g, m, v)| {
                // The task's part of the arena, tensor by tensor.
                let (start, end) = (task * TASK, task * TASK + p.len());
                let from = tensors.partition_point(|(range, _)| range.end <= start);
                for (range, decays) in tensors[from..].iter().take_while(|(range, _)| range.start < end) {
                    let at = range.start.max(start) - start..range.end.min(end) - start;
                    let keep = if *decays { keep } else { 1.0 };
                    adamw(&mut p[at.clone()], &g[at.clone()], &mut m[at.clone()], &mut v[at], step, keep);
                }
            });
        });
    }
}

/// The Euclidean norm of all gradients, summed in a fixed order.
pub fn global_norm(grads: &[f32]) -> f32 {
    let mut sums = vec![0.0; grads.len().div_ceil(TASK)];
    team(|| each((chunks_mut(&mut sums, 1), chunks(grads, TASK)), |_, (sum, g)| sum[0] = sum_squares(g)));
    sums.iter().sum::<f64>().sqrt() as f32
}
