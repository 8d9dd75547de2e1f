//! Layer normalisation, row by row: one pass forward, one backward.

use crate::bf16::Element;
use crate::isa::dispatched;
use crate::math::{SUMS, fma, sum_of};

/// Mean and `1 / √(variance + ε)`.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum_of!(|v| v, x) / n;
    let var = sum_of!(|v| (v - mean) * (v - mean), x) / n;
    (mean, 1.0 / (var + epsilon).sqrt())
}

dispatched! {
    /// Layer normalisation of rows as wide as `gain`: `y = γ (x − mean) / √(var + ε) + β`.
    pub fn layer_norm<E: Element>(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32, y: &mut [E]) = layer_norm_body;
}

#[inline(always)]
fn layer_norm_body<E: Element, const FMA: bool>(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32, y: &mut [E]) {
    let c = gain.len();
    for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
        let (mean, scale) = moments(x, epsilon);
        for (((y, x), gain), bias) in y.iter_mut().zip(x).zip(gain).zip(bias) {
            *y = E::of(fma::<FMA>((x - mean) * scale, *gain, *bias));
        }
    }
}

dispatched! {
    /// Backward of [`layer_norm`]: adds to `dx`, and to `sums`, the gradients of γ and β, `[2, C]`.
    pub fn layer_norm_backward<E: Element>(
        x: &[f32],
        gain: &[f32],
        epsilon: f32,
        dy: &[E],
        dx: &mut [f32],
        sums: &mut [f32],
    ) = layer_norm_backward_body;
}

#[inline(always)]
fn layer_norm_backward_body<E: Element, const FMA: bool>(
    x: &[f32],
    gain: &[f32],
    epsilon: f32,
    dy: &[E],
    dx: &mut [f32],
    sums: &mut [f32],
) {
    let c = gain.len();
    let (dgain, dbias) = sums.split_at_mut(c);
    for ((dx, x), dy) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(dy.chunks_exact(c)) {
        let (mean, scale) = moments(x, epsilon);
        let (sum, dot) = norm_sums(x, gain, dy, mean, scale);
        let (sum, dot) = (sum / c as f32, dot / c as f32);
        let values = dx.iter_mut().zip(x).zip(dy).zip(gain).zip(&mut *dgain).zip(&mut *dbias);
        for (((((dx, x), dy), gain), dgain), dbias) in values {
            let (normed, dy) = ((x - mean) * scale, dy.get());
            *dgain = fma::<FMA>(dy, normed, *dgain);
            *dbias += dy;
            *dx = fma::<FMA>(scale, fma::<FMA>(dy, *gain, -sum) - normed * dot, *dx);
        }
    }
}

/// `Σ dy γ` and `Σ dy γ x̂` over a row, each in partial sums of a fixed order.
#[inline(always)]
fn norm_sums<E: Element>(x: &[f32], gain: &[f32], dy: &[E], mean: f32, scale: f32) -> (f32, f32) {
    let (mut sums, mut dots) = ([0.0f32; SUMS], [0.0f32; SUMS]);
    let (xs, x_rest) = x.as_chunks::<SUMS>();
    let (gains, gain_rest) = gain.as_chunks::<SUMS>();
    let (dys, dy_rest) = dy.as_chunks::<SUMS>();
    for ((x, gain), dy) in xs.iter().zip(gains).zip(dys) {
        for i in 0..SUMS {
            let d = dy[i].get() * gain[i];
            sums[i] += d;
            dots[i] += d * ((x[i] - mean) * scale);
        }
    }
    let (mut sum, mut dot) = (sums.iter().sum::<f32>(), dots.iter().sum::<f32>());
    for ((x, gain), dy) in x_rest.iter().zip(gain_rest).zip(dy_rest) {
        let d = dy.get() * gain;
        sum += d;
        dot += d * ((x - mean) * scale);
    }
    (sum, dot)
}
