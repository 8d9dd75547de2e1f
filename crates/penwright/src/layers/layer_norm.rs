//! Layer normalisation (Ba, Kiros and Hinton 2016): `y = γ (x − mean) / √(var + ε) + β` over the channels.

use std::ops::Range;

use rayon::prelude::*;

use super::CHUNK;

const EPSILON: f32 = 1e-5;

/// A layer norm: where its gain and bias lie in the arena.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// γ, `[C]`.
    pub gain: Range<usize>,
    /// β, `[C]`.
    pub bias: Range<usize>,
}

fn moments(x: &[f32]) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = x.iter().sum::<f32>() / n;
    let var = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
    (mean, 1.0 / (var + EPSILON).sqrt())
}

impl LayerNorm {
    /// x, y: `[rows, C]`.
    pub fn forward(&self, params: &[f32], x: &[f32], y: &mut [f32]) {
        let (gain, bias) = (&params[self.gain.clone()], &params[self.bias.clone()]);
        let c = gain.len();
        y.par_chunks_mut(c * CHUNK).zip(x.par_chunks(c * CHUNK)).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                let (mean, scale) = moments(x);
                for i in 0..c {
                    y[i] = (x[i] - mean) * scale * gain[i] + bias[i];
                }
            }
        });
    }

    /// Adds to `dx` (the residual path already lies there) and to the gradients; statistics are recomputed.
    pub fn backward_add(&self, params: &[f32], grads: &mut [f32], x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let gain = &params[self.gain.clone()];
        let c = gain.len();
        for (dy, x) in dy.chunks_exact(c).zip(x.chunks_exact(c)) {
            let (mean, scale) = moments(x);
            let dgain = &mut grads[self.gain.clone()];
            for i in 0..c {
                dgain[i] += dy[i] * (x[i] - mean) * scale;
            }
            let dbias = &mut grads[self.bias.clone()];
            dbias.iter_mut().zip(dy).for_each(|(d, g)| *d += g);
        }
        dx.par_chunks_mut(c * CHUNK).zip(x.par_chunks(c * CHUNK)).zip(dy.par_chunks(c * CHUNK)).for_each(
            |((dx, x), dy)| {
                for ((dx, x), dy) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(dy.chunks_exact(c)) {
                    let (mean, scale) = moments(x);
                    let (mut sum, mut dot) = (0.0, 0.0);
                    for i in 0..c {
                        let g = dy[i] * gain[i];
                        sum += g;
                        dot += g * (x[i] - mean) * scale;
                    }
                    let (sum, dot) = (sum / c as f32, dot / c as f32);
                    for i in 0..c {
                        dx[i] += scale * (dy[i] * gain[i] - sum - (x[i] - mean) * scale * dot);
                    }
                }
            },
        );
    }
}
