//! Layer normalisation (Ba, Kiros and Hinton 2016): `y = γ (x − mean) / √(var + ε) + β` over the channels.

use std::ops::Range;

use penwright_kernels::{self as kernels, Factor, chunks, chunks_mut, each};

use super::CHUNK;

/// A layer norm: where its gain and bias lie in the arena.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// γ, `[C]`.
    pub gain: Range<usize>,
    /// β, `[C]`.
    pub bias: Range<usize>,
    /// ε.
    pub epsilon: f32,
}

impl LayerNorm {
    /// x, y: `[rows, C]`.
    pub fn forward<E: Factor>(&self, params: &[f32], x: &[f32], y: &mut [E]) {
        let (gain, bias) = (&params[self.gain.clone()], &params[self.bias.clone()]);
        let task = gain.len() * CHUNK;
        each((chunks_mut(y, task), chunks(x, task)), |_, (y, x)| kernels::layer_norm(x, gain, bias, self.epsilon, y));
    }

    /// Adds to `dx` (the residual path already lies there) and to the gradients, where there are any; statistics are
    /// recomputed. `sums` is working memory: each task's part of dγ and dβ, added up in the order of the rows.
    pub fn backward_add<E: Factor>(
        &self,
        params: &[f32],
        grads: Option<&mut [f32]>,
        x: &[f32],
        dy: &[E],
        dx: &mut [f32],
        sums: &mut Vec<f32>,
    ) {
        let gain = &params[self.gain.clone()];
        let c = gain.len();
        let task = c * CHUNK;
        sums.resize(x.len().div_ceil(task) * 2 * c, 0.0);
        let parts = (chunks_mut(dx, task), chunks_mut(sums, 2 * c), chunks(x, task), chunks(dy, task));
        each(parts, |_, (dx, sums, x, dy)| {
            sums.fill(0.0);
            kernels::layer_norm_backward(x, gain, self.epsilon, dy, dx, sums);
        });
        if let Some(grads) = grads {
            kernels::add_columns(&mut grads[self.gain.clone()], sums, 2 * c, 0);
            kernels::add_columns(&mut grads[self.bias.clone()], sums, 2 * c, c);
        }
    }
}
