//! Passes over rows and blocks of values, each on one thread: the callers cut the work. Compiled for each
//! instruction set ([`crate::isa`]).

mod norm;
mod softmax;

use crate::bf16::Element;
use crate::isa::dispatched;
use crate::math::{SUMS, fma, random, tanh_by};
pub use norm::{layer_norm, layer_norm_backward};
pub use softmax::{cross_entropy, log_softmax, temper, tempered_losses};

dispatched! {
    /// `x += y`.
    pub fn add(x: &mut [f32], y: &[f32]) = add_body;
}

#[inline(always)]
fn add_body<const FMA: bool>(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

dispatched! {
    /// `sums[j] += Σ_rows x[row, first + j]` for a row-major matrix of `cols` columns.
    pub fn add_columns<E: Element>(sums: &mut [f32], x: &[E], cols: usize, first: usize) = add_columns_body;
}

#[inline(always)]
fn add_columns_body<E: Element, const FMA: bool>(sums: &mut [f32], x: &[E], cols: usize, first: usize) {
    for (block, sums) in sums.chunks_mut(SUMS).enumerate() {
        let mut block_sums = [0.0; SUMS];
        for row in x.chunks_exact(cols) {
            let values = &row[first + block * SUMS..][..sums.len()];
            if let Ok(values) = <&[E; SUMS]>::try_from(values) {
                for i in 0..SUMS {
                    block_sums[i] += values[i].get();
                }
            } else {
                block_sums.iter_mut().zip(values).for_each(|(s, x)| *s += x.get());
            }
        }
        sums.iter_mut().zip(block_sums).for_each(|(s, x)| *s += x);
    }
}

dispatched! {
    /// GELU in its tanh form (Hendrycks and Gimpel 2016): `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    pub fn gelu(x: &[f32], y: &mut [f32]) = gelu_body;
}

const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBIC: f32 = 0.044_715;

#[inline(always)]
fn gelu_body<const FMA: bool>(x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = gelu_of::<FMA>(x));
}

#[inline(always)]
pub(crate) fn gelu_of<const FMA: bool>(x: f32) -> f32 {
    let t = tanh_by::<FMA>(GELU_SCALE * fma::<FMA>(GELU_CUBIC * x * x, x, x));
    fma::<FMA>(0.5 * x, t, 0.5 * x)
}

/// The derivative of GELU.
#[inline(always)]
pub(crate) fn gelu_slope<const FMA: bool>(x: f32) -> f32 {
    let square = x * x;
    let t = tanh_by::<FMA>(GELU_SCALE * fma::<FMA>(GELU_CUBIC * square, x, x));
    let slope = GELU_SCALE * fma::<FMA>(3.0 * GELU_CUBIC, square, 1.0);
    fma::<FMA>(0.5 * x * slope, fma::<FMA>(-t, t, 1.0), fma::<FMA>(0.5, t, 0.5))
}

dispatched! {
    /// `d` holds the gradient of `gelu(x)` and becomes that of x.
    pub fn gelu_backward(x: &[f32], d: &mut [f32]) = gelu_backward_body;
}

#[inline(always)]
fn gelu_backward_body<const FMA: bool>(x: &[f32], d: &mut [f32]) {
    d.iter_mut().zip(x).for_each(|(d, &x)| *d *= gelu_slope::<FMA>(x));
}

dispatched! {
    /// To the nearest values of another kind.
    pub fn narrow<E: Element>(from: &[f32], to: &mut [E]) = narrow_body;
}

#[inline(always)]
fn narrow_body<E: Element, const FMA: bool>(from: &[f32], to: &mut [E]) {
    from.iter().zip(to).for_each(|(from, to)| *to = E::of(*from));
}

dispatched! {
    /// To f32, exactly.
    pub fn widen<E: Element>(from: &[E], to: &mut [f32]) = widen_body;
}

#[inline(always)]
fn widen_body<E: Element, const FMA: bool>(from: &[E], to: &mut [f32]) {
    from.iter().zip(to).for_each(|(from, to)| *to = from.get());
}

dispatched! {
    /// Dropout: value i is multiplied by 0 with probability `rate`, else by `1 / (1 − rate)`, as random number
    /// `first + i` of the key decides.
    pub fn dropout(x: &mut [f32], key: u64, first: u64, rate: f32) = dropout_body;
}

#[inline(always)]
fn dropout_body<const FMA: bool>(x: &mut [f32], key: u64, first: u64, rate: f32) {
    for (i, x) in x.iter_mut().enumerate() {
        *x *= kept(random(key, first + i as u64), rate);
    }
}

/// The factor of dropout by a random number.
#[inline(always)]
pub(crate) fn kept(random: u64, rate: f32) -> f32 {
    let uniform = (random >> 40) as i32 as f32 / (1u64 << 24) as f32;
    if uniform < rate { 0.0 } else { 1.0 / (1.0 - rate) }
}

/// The constants of one AdamW step.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Decay rates of the first and second moment.
    pub betas: (f32, f32),
    /// `1 − βᵗ` of both.
    pub unbias: (f32, f32),
    /// Learning rate.
    pub lr: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// The gradient is multiplied by it first.
    pub scale: f32,
}

dispatched! {
    /// AdamW: `p ← keep · p − lr · m̂ / (√v̂ + ε)` with the moments m, v of `scale · g`; `keep` is 1 − lr · decay.
    pub fn adamw(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], step: AdamStep, keep: f32) = adamw_body;
}

#[inline(always)]
fn adamw_body<const FMA: bool>(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], step: AdamStep, keep: f32) {
    let AdamStep { betas: (beta1, beta2), unbias, lr, epsilon, scale } = step;
    let (rate, root) = (lr / unbias.0, 1.0 / unbias.1);
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * scale;
        *m = fma::<FMA>(beta1, *m, (1.0 - beta1) * g);
        *v = fma::<FMA>(beta2, *v, (1.0 - beta2) * g * g);
        *p = fma::<FMA>(keep, *p, -rate * *m / ((*v * root).sqrt() + epsilon));
    }
}

dispatched! {
    /// `Σ x²`, in double precision.
    pub fn sum_squares(x: &[f32]) -> f64 = sum_squares_body;
}

#[inline(always)]
fn sum_squares_body<const FMA: bool>(x: &[f32]) -> f64 {
    let (groups, rest) = x.as_chunks::<32>();
    let mut sums = [0.0f64; 32];
    for group in groups {
        for i in 0..32 {
            sums[i] += f64::from(group[i]) * f64::from(group[i]);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
}

#[cfg(test)]
mod tests;
