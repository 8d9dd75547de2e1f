//! Stochastic gradient descent (Robbins and Monro 1951), with momentum (Polyak 1964) if asked for.

use std::ops::Range;

use penwright_kernels::{chunks, chunks_mut, descend, each, momentum, team};

use super::{Optimizer, TASK};
use crate::model::Params;

/// Plain descent; the velocity where there is momentum.
pub struct Sgd {
    /// Laid out like the arena; empty without momentum.
    velocity: Vec<f32>,
    beta: f32,
    /// The tensors that are trained, and whether they decay.
    tensors: Vec<(Range<usize>, bool)>,
}

impl Sgd {
    /// At rest. Without momentum (`beta` of zero) it remembers nothing.
    pub fn new(params: &Params, beta: f32) -> Self {
        let trained = params.tensors.iter().filter(|tensor| !tensor.frozen);
        let tensors = trained.map(|tensor| (tensor.range.clone(), tensor.decays())).collect();
        let velocity = if beta > 0.0 { vec![0.0; params.data.len()] } else { Vec::new() };
        Sgd { velocity, beta, tensors }
    }
}

impl Optimizer for Sgd {
    /// `v ← β v + g; p ← (1 − lr λ) p − lr v`.
    fn update(&mut self, params: &mut [f32], grads: &[f32], scale: f32, lr: f32, decay: f32) {
        let beta = self.beta;
        team(|| {
            for (range, decays) in &self.tensors {
                let keep = if *decays { 1.0 - lr * decay } else { 1.0 };
                let (p, g) = (chunks_mut(&mut params[range.clone()], TASK), chunks(&grads[range.clone()], TASK));
                if beta > 0.0 {
                    let v = chunks_mut(&mut self.velocity[range.clone()], TASK);
                    each((p, g, v), |_, (p, g, v)| {
                        momentum(g, v, scale, beta);
                        descend(p, v, lr, keep);
                    });
                } else {
                    each((p, g), |_, (p, g)| descend(p, g, lr * scale, keep));
                }
            }
        });
    }

    fn state(&self) -> Vec<(&'static str, &[f32])> {
        if self.beta > 0.0 { vec![("momentum", &self.velocity)] } else { Vec::new() }
    }

    fn restore(&mut self, state: &mut dyn FnMut(&'static str) -> Vec<f32>, _step: u64) -> bool {
        let velocity = state("momentum");
        let fits = velocity.len() == self.velocity.len();
        if fits {
            self.velocity = velocity;
        }
        fits
    }
}
