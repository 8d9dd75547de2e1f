//! How weights move along their gradients: AdamW, Muon, SGD; and the average of the weights as they go.

mod adamw;
mod average;
mod muon;
mod newton_schulz;
mod sgd;
mod spelling;

use penwright_kernels::{Bf16, chunks, chunks_mut, each, sum_squares, team};
use serde::{Deserialize, Serialize};

use super::TrainOptions;
use crate::model::{Params, Precision};
use crate::tokenizer::Tokenizer;
pub use adamw::AdamW;
use adamw::BETAS;
pub use average::{Average, Averaging, Validations};
pub use muon::Muon;
pub(super) use muon::memory as muon_memory;
pub use sgd::Sgd;
use spelling::Spelled;
pub(super) use spelling::memory as spelling_memory;

/// Iterations of Muon as its authors have it, and the most that may be asked for.
pub const MUON_ITERATIONS: usize = 5;
pub(super) const MOST_ITERATIONS: usize = 10;

/// Numbers that a task of a pass has.
const TASK: usize = 1 << 14;

/// The optimizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// AdamW (Loshchilov and Hutter 2019).
    #[default]
    AdamW,
    /// Muon (Jordan et al. 2024) for the hidden matrices, AdamW for all else.
    Muon,
    /// Stochastic gradient descent, with momentum if asked for.
    Sgd,
}

impl OptimizerKind {
    /// The momentum where none is given; `None` for an optimizer that has no such setting.
    pub fn default_momentum(self) -> Option<f32> {
        match self {
            OptimizerKind::AdamW => None,
            OptimizerKind::Muon => Some(0.95),
            OptimizerKind::Sgd => Some(0.9),
        }
    }
}

impl std::fmt::Display for OptimizerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            OptimizerKind::AdamW => "adamw",
            OptimizerKind::Muon => "muon",
            OptimizerKind::Sgd => "sgd",
        })
    }
}

/// Moves weights by their gradients, and keeps what it remembers of earlier ones.
pub trait Optimizer: Send {
    /// One step at the learning rate `lr`, with the weight decay `decay · lr` on matrices. The gradient is multiplied by
    /// `scale` first and left as it is. Frozen tensors are not touched.
    fn update(&mut self, params: &mut [f32], grads: &[f32], scale: f32, lr: f32, decay: f32);

    /// What an exact resume needs, by name.
    fn state(&self) -> Vec<(&'static str, &[f32])>;

    /// Takes up a state after `step` updates, each array by its name (empty where there is none); false when it belongs
    /// to another arena.
    fn restore(&mut self, state: &mut dyn FnMut(&'static str) -> Vec<f32>, step: u64) -> bool;
}

/// The optimizer that the settings ask for, fresh. What tokens share by their spelling is moved where the tokenizer is known.
pub fn optimizer(params: &Params, options: &TrainOptions, tokenizer: Option<&Tokenizer>) -> Box<dyn Optimizer> {
    let momentum = options.momentum();
    let rate = options.muon_lr.map_or(1.0, |lr| lr / options.lr);
    let betas = (options.beta1.unwrap_or(BETAS.0), options.beta2.unwrap_or(BETAS.1));
    let iterations = options.muon_iterations.unwrap_or(MUON_ITERATIONS);
    let optimizer: Box<dyn Optimizer> = match (options.optimizer, options.precision) {
        (OptimizerKind::AdamW, _) => Box::new(AdamW::with_betas(params, betas)),
        (OptimizerKind::Muon, Precision::F32) => {
            Box::new(Muon::<f32>::new(params, momentum, rate, iterations).with_betas(betas))
        }
        (OptimizerKind::Muon, Precision::Bf16) => {
            Box::new(Muon::<Bf16>::new(params, momentum, rate, iterations).with_betas(betas))
        }
        (OptimizerKind::Sgd, _) => Box::new(Sgd::new(params, momentum)),
    };
    match tokenizer {
        Some(tokenizer) if options.spelling > 0.0 => {
            Spelled::over(optimizer, params, tokenizer, (options.spelling, betas))
        }
        _ => optimizer,
    }
}

/// The Euclidean norm of all gradients, summed in a fixed order.
pub fn global_norm(grads: &[f32]) -> f32 {
    let mut sums = vec![0.0; grads.len().div_ceil(TASK)];
    team(|| each((chunks_mut(&mut sums, 1), chunks(grads, TASK)), |_, (sum, g)| sum[0] = sum_squares(g)));
    sums.iter().sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::random;

    /// Numbers from -1 to below 1.
    pub(super) fn noise(n: usize, key: u64) -> Vec<f32> {
        (0..n as u64).map(|i| (random(key, i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }

    #[test]
    fn the_moments_decay_as_asked_for() {
        let mut params = Params::default();
        params.add("embedding.weight", &[9, 7]);
        let moved = |optimizer: &mut dyn Optimizer| {
            let mut values = vec![0.5; params.data.len()];
            for step in 0..3 {
                let grads = noise(values.len(), step);
                optimizer.update(&mut values, &grads, 1.0, 1e-2, 0.1);
            }
            values
        };
        let expected = moved(&mut AdamW::with_betas(&params, (0.7, 0.95)));
        assert!(expected != moved(&mut AdamW::new(&params)));
        for kind in [OptimizerKind::AdamW, OptimizerKind::Muon] {
            for precision in [Precision::F32, Precision::Bf16] {
                let betas = TrainOptions { beta1: Some(0.7), beta2: Some(0.95), ..TrainOptions::default() };
                let options = TrainOptions { optimizer: kind, precision, ..betas };
                assert_eq!(moved(&mut *optimizer(&params, &options, None)), expected, "{kind}");
            }
        }
    }
}
