//! Passes over rows and blocks of values, each on one thread: the callers cut the work. Compiled for each
//! instruction set ([`crate::isa`]).

use crate::bf16::Element;
use crate::isa::dispatched;
use crate::math::{SUMS, exp_by, fma, random, sum_of, tanh_by};

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

/// The largest value, NaN not counted.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let (groups, rest) = x.as_chunks::<SUMS>();
    let mut most = [f32::NEG_INFINITY; SUMS];
    for group in groups {
        for i in 0..SUMS {
            most[i] = if group[i] > most[i] { group[i] } else { most[i] };
        }
    }
    most.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m })
}

dispatched! {
    /// Turns a row of logits into natural-log probabilities: `x − max − ln Σ exp(x − max)`.
    pub fn log_softmax(row: &mut [f32]) = log_softmax_body;
}

#[inline(always)]
fn log_softmax_body<const FMA: bool>(row: &mut [f32]) {
    let max = largest(row);
    let sum = sum_of!(|x| exp_by::<FMA>(x - max), row);
    let shift = max + sum.ln();
    row.iter_mut().for_each(|x| *x -= shift);
}

dispatched! {
    /// Of rows of logits, as many as targets, the gradient `(softmax − onehot) · scale` to rows of `d`, which may be
    /// longer and are filled up with zeros; returns the sum of `−ln softmax[target]` in nats. The logits are used up.
    pub fn cross_entropy<E: Element>(rows: &mut [f32], targets: &[u32], scale: f32, d: &mut [E]) -> f64
        = cross_entropy_body;
}

#[inline(always)]
fn cross_entropy_body<E: Element, const FMA: bool>(rows: &mut [f32], targets: &[u32], scale: f32, d: &mut [E]) -> f64 {
    let (vocab, width) = (rows.len() / targets.len().max(1), d.len() / targets.len().max(1));
    let mut loss = 0.0;
    for ((row, &target), d) in rows.chunks_exact_mut(vocab.max(1)).zip(targets).zip(d.chunks_exact_mut(width.max(1))) {
        let (max, logit) = (largest(row), row[target as usize]);
        row.iter_mut().for_each(|x| *x = exp_by::<FMA>(*x - max));
        let sum = sum_of!(|x| x, row);
        loss += f64::from(max - logit) + f64::from(sum).ln();
        let factor = scale / sum;
        d.iter_mut().zip(&*row).for_each(|(d, x)| *d = E::of(*x * factor));
        d[vocab..].fill(E::default());
        d[target as usize] = E::of(row[target as usize] * factor - scale);
    }
    loss
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
    /// Attention's probabilities in place of scores: row i of the strip belongs to position `first + i`, sees keys
    /// up to itself, and becomes `softmax(scale · scores)`, zero beyond. `logs[i]` gets `max + ln Σ`, for
    /// [`causal_probabilities`].
    pub fn causal_softmax(strip: &mut [f32], width: usize, first: usize, scale: f32, logs: &mut [f32])
        = causal_softmax_body;
}

#[inline(always)]
fn causal_softmax_body<const FMA: bool>(strip: &mut [f32], width: usize, first: usize, scale: f32, logs: &mut [f32]) {
    for (i, (row, log)) in strip.chunks_exact_mut(width).zip(logs).enumerate() {
        let (seen, future) = row.split_at_mut(first + i + 1);
        let max = scale * largest(seen);
        seen.iter_mut().for_each(|x| *x = exp_by::<FMA>(fma::<FMA>(*x, scale, -max)));
        let sum = sum_of!(|x| x, seen);
        let factor = 1.0 / sum;
        seen.iter_mut().for_each(|x| *x *= factor);
        future.fill(0.0);
        *log = max + sum.ln();
    }
}

dispatched! {
    /// The same probabilities again, from scores and `logs`.
    pub fn causal_probabilities(strip: &mut [f32], width: usize, first: usize, scale: f32, logs: &[f32])
        = causal_probabilities_body;
}

#[inline(always)]
fn causal_probabilities_body<const FMA: bool>(strip: &mut [f32], width: usize, first: usize, scale: f32, logs: &[f32]) {
    for (i, (row, log)) in strip.chunks_exact_mut(width).zip(logs).enumerate() {
        let (seen, future) = row.split_at_mut(first + i + 1);
        seen.iter_mut().for_each(|x| *x = exp_by::<FMA>(fma::<FMA>(*x, scale, -log)));
        future.fill(0.0);
    }
}

dispatched! {
    /// Backward of a softmax with a scale before it: `dp ← p ⊙ (dp − Σ p dp) · scale`, row by row.
    pub fn softmax_backward(p: &[f32], dp: &mut [f32], width: usize, scale: f32) = softmax_backward_body;
}

#[inline(always)]
fn softmax_backward_body<const FMA: bool>(p: &[f32], dp: &mut [f32], width: usize, scale: f32) {
    for (p, dp) in p.chunks_exact(width).zip(dp.chunks_exact_mut(width)) {
        let mean = sum_of!(|p, dp| p * dp, p, dp);
        dp.iter_mut().zip(p).for_each(|(dp, p)| *dp = p * (*dp - mean) * scale);
    }
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
mod tests {
    use super::*;
    use crate::isa::with_each;
    use crate::lstm::{lstm_cell, lstm_cell_backward};
    use crate::parts::BlockMut;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn values(len: usize) -> impl Strategy<Value = Vec<f32>> {
        vec(-3.0f32..3.0, len)
    }

    fn close(what: &str, ours: &[f32], exact: impl IntoIterator<Item = f64>) {
        let exact: Vec<f64> = exact.into_iter().collect();
        assert_eq!(ours.len(), exact.len(), "{what}");
        for (i, (x, y)) in ours.iter().zip(&exact).enumerate() {
            assert!((f64::from(*x) - y).abs() < 2e-4 * (1.0 + y.abs()), "{what}[{i}]: {x} for {y}");
        }
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| f64::from(x)).collect()
    }

    fn gelu_exactly(x: f64) -> f64 {
        0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044715 * x * x * x)).tanh())
    }

    fn softmax_exactly(x: &[f64]) -> Vec<f64> {
        let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
        x.iter().map(|x| (x - max).exp() / sum).collect()
    }

    fn norm_exactly(x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        x.iter().map(|x| (x - mean) / (var + 1e-5).sqrt()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn element_wise(x in (1usize..200).prop_flat_map(values)) {
            with_each(|isa| {
                let mut y = vec![0.0; x.len()];
                gelu(&x, &mut y);
                close(&format!("gelu {isa:?}"), &y, wide(&x).into_iter().map(gelu_exactly));
                let mut d = vec![2.0; x.len()];
                gelu_backward(&x, &mut d);
                let slope = |x: f64| (gelu_exactly(x + 1e-5) - gelu_exactly(x - 1e-5)) / 1e-5;
                close("gelu_backward", &d, wide(&x).into_iter().map(slope));
                add(&mut y, &x);
                close("add", &y, wide(&x).into_iter().map(|x| gelu_exactly(x) + x));
                let sum: f64 = wide(&x).iter().map(|x| x * x).sum();
                prop_assert_close(sum_squares(&x), sum);
                prop_assert_close(f64::from(crate::dot(&x, &x)), sum);
            });
        }

        #[test]
        fn layer_norms((x, dy, gain) in (2usize..90).prop_flat_map(|c| (values(3 * c), values(3 * c), values(c)))) {
            let c = gain.len();
            let forward = |x: &[f64]| -> Vec<f64> {
                let rows = x.chunks(c).flat_map(norm_exactly);
                rows.enumerate().map(|(i, n)| n * f64::from(gain[i % c]) + 0.5).collect()
            };
            let loss = |x: &[f64]| -> f64 { forward(x).iter().zip(wide(&dy)).map(|(y, d)| y * d).sum() };
            with_each(|_| {
                let (mut y, mut dx, mut sums) = (vec![0.0; 3 * c], vec![1.0; 3 * c], vec![0.0; 2 * c]);
                layer_norm(&x, &gain, &vec![0.5; c], 1e-5, &mut y);
                close("layer_norm", &y, forward(&wide(&x)));
                layer_norm_backward(&x, &gain, 1e-5, &dy, &mut dx, &mut sums);
                let normed: Vec<f64> = wide(&x).chunks(c).flat_map(norm_exactly).collect();
                let column = |f: &dyn Fn(usize) -> f64| (0..c).map(|j| (0..3).map(|r| f(r * c + j)).sum()).collect::<Vec<f64>>();
                close("gain", &sums[..c], column(&|i| normed[i] * f64::from(dy[i])));
                close("bias", &sums[c..], column(&|i| f64::from(dy[i])));
                let mut bias = vec![0.0; c];
                add_columns(&mut bias, &dy, c, 0);
                close("add_columns", &bias, column(&|i| f64::from(dy[i])));
                if c > 3 {
                    let mut some = vec![0.0; c - 3];
                    add_columns(&mut some, &dy, c, 2);
                    assert_eq!(some, bias[2..c - 1]);
                }
                // Rows that are almost constant have derivatives too steep to compare.
                let steep = wide(&x).chunks(c).any(|x| norm_exactly(x).iter().zip(x).any(|(n, x)| n.abs() > 4.0 * (1.0 + x.abs())));
                if c > 8 && !steep {
                    let mut moved = wide(&x);
                    for i in 0..3 * c {
                        let middle = moved[i];
                        moved[i] = middle + 1e-5;
                        let more = loss(&moved);
                        moved[i] = middle - 1e-5;
                        let slope = 1.0 + (more - loss(&moved)) / 2e-5;
                        moved[i] = middle;
                        assert!((f64::from(dx[i]) - slope).abs() < 1e-2 * (1.0 + slope.abs()), "dx {} for {slope}", dx[i]);
                    }
                }
            });
        }

        #[test]
        fn softmaxes(x in (2usize..100).prop_flat_map(|v| values(3 * v)), first in 0usize..40) {
            let v = x.len() / 3;
            let targets = [0, (v - 1) as u32, (v / 2) as u32];
            with_each(|_| {
                let exact: Vec<f64> = wide(&x).chunks(v).flat_map(softmax_exactly).collect();
                let mut y = x.clone();
                let mut d = vec![9.0; 3 * (v + 1)];
                let loss = cross_entropy(&mut y, &targets, 0.25, &mut d);
                let at = |row: usize| row * v + targets[row] as usize;
                prop_assert_close(loss, (0..3).map(|row| -exact[at(row)].ln()).sum());
                let hit = |i: usize| f64::from(u8::from(i == at(i / v)));
                assert!(d.chunks(v + 1).all(|d| d[v] == 0.0));
                let d: Vec<f32> = d.chunks(v + 1).flat_map(|d| &d[..v]).copied().collect();
                close("cross_entropy", &d, exact.iter().enumerate().map(|(i, p)| (p - hit(i)) * 0.25));
                let mut y = x[..v].to_vec();
                log_softmax(&mut y);
                close("log_softmax", &y, exact[..v].iter().map(|p| p.ln()));
                // Three queries of which the first sees `first + 1` keys.
                let first = first.min(v.saturating_sub(3));
                if v >= 3 {
                    let (mut p, mut logs) = (x.clone(), [0.0; 3]);
                    causal_softmax(&mut p, v, first, 0.5, &mut logs);
                    let mut again = x.clone();
                    causal_probabilities(&mut again, v, first, 0.5, &logs);
                    for row in 0..3 {
                        let half: Vec<f64> = x[row * v..][..first + row + 1].iter().map(|x| f64::from(x * 0.5)).collect();
                        let exact = softmax_exactly(&half).into_iter().chain(std::iter::repeat(0.0)).take(v).collect::<Vec<_>>();
                        close("causal_softmax", &p[row * v..][..v], exact.iter().copied());
                        close("causal_probabilities", &again[row * v..][..v], exact);
                    }
                    let mut dp = x.clone();
                    softmax_backward(&p, &mut dp, v, 0.5);
                    for row in 0..3 {
                        let (p, x) = (wide(&p[row * v..][..v]), wide(&x[row * v..][..v]));
                        let mean: f64 = p.iter().zip(&x).map(|(p, x)| p * x).sum();
                        close("softmax_backward", &dp[row * v..][..v], p.iter().zip(&x).map(|(p, x)| p * (x - mean) * 0.5));
                    }
                }
            });
        }

        #[test]
        fn adam_and_dropout((p, g, m) in (1usize..100).prop_flat_map(|n| (values(n), values(n), values(n))), key: u64) {
            with_each(|_| {
                let v: Vec<f32> = m.iter().map(|x| x * x).collect();
                let (mut p2, mut m2, mut v2) = (p.clone(), m.clone(), v.clone());
                let step = AdamStep { betas: (0.9, 0.99), unbias: (0.3, 0.2), lr: 0.01, epsilon: 1e-8, scale: 0.5 };
                adamw(&mut p2, &g, &mut m2, &mut v2, step, 0.97);
                let exact = (0..p.len()).map(|i| {
                    let (p, g, m, v) = (f64::from(p[i]), f64::from(g[i]) * 0.5, f64::from(m[i]), f64::from(v[i]));
                    let (m, v) = (0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g);
                    0.97 * p - 0.01 * (m / 0.3) / ((v / 0.2).sqrt() + 1e-8)
                });
                close("adamw", &p2, exact.collect::<Vec<_>>());
                let mut dropped = p.clone();
                dropout(&mut dropped, key, 5, 0.3);
                let kept = |i: usize| (random(key, 5 + i as u64) >> 40) as f64 / f64::from(1u32 << 24) >= f64::from(0.3f32);
                close("dropout", &dropped, (0..p.len()).map(|i| if kept(i) { f64::from(p[i]) / 0.7 } else { 0.0 }));
            });
        }

        #[test]
        fn lstm_cells((gates, before, dh) in (1usize..50).prop_flat_map(|h| (values(8 * h), values(2 * h), values(2 * h)))) {
            let h = before.len() / 2;
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            // Two rows; (activated gates, cell, hidden) of unit n in a row.
            let exact = |row: usize, n: usize, a: [f64; 4], before: f64| {
                let _ = (row, n);
                let (i, f, g, o) = (sigmoid(a[0]), sigmoid(a[1]), a[2].tanh(), sigmoid(a[3]));
                let cell = f * before + i * g;
                (cell, o * cell.tanh())
            };
            let sums = |row: usize, n: usize| [0, 1, 2, 3].map(|gate| f64::from(gates[row * 4 * h + gate * h + n]));
            with_each(|_| {
                let (mut a, mut cell, mut hidden) = (gates.clone(), vec![0.0; 2 * h], vec![0.0; 2 * h]);
                let mut block = BlockMut::grouped(&mut a, 2, 4 * h, 4);
                lstm_cell(&mut block, &before, 0, &mut BlockMut::whole(&mut cell, 2, h), &mut BlockMut::whole(&mut hidden, 2, h));
                let all = (0..2 * h).map(|i| exact(i / h, i % h, sums(i / h, i % h), f64::from(before[i])));
                close("cell", &cell, all.clone().map(|x| x.0));
                close("hidden", &hidden, all.map(|x| x.1));
                let (mut d, mut dcell) = (dh.clone(), vec![0.5; 2 * h]);
                let mut block = BlockMut::grouped(&mut a, 2, 4 * h, 4);
                let (dh_block, dcell_block) = (&mut BlockMut::whole(&mut d, 2, h), &mut BlockMut::whole(&mut dcell, 2, h));
                lstm_cell_backward(&mut block, &before, &cell, 0, dh_block, dcell_block);
                for row in 0..2 { for n in 0..h {
                    let at = row * h + n;
                    let loss = |a: [f64; 4], before: f64| {
                        let (cell, hidden) = exact(row, n, a, before);
                        0.5 * cell + f64::from(dh[at]) * hidden
                    };
                    let middle = sums(row, n);
                    for gate in 0..4 {
                        let (mut more, mut less) = (middle, middle);
                        more[gate] += 1e-5;
                        less[gate] -= 1e-5;
                        let slope = (loss(more, f64::from(before[at])) - loss(less, f64::from(before[at]))) / 2e-5;
                        close("gate", &[a[row * 4 * h + gate * h + n]], [slope]);
                    }
                    let b = f64::from(before[at]);
                    close("dcell", &[dcell[at]], [(loss(middle, b + 1e-5) - loss(middle, b - 1e-5)) / 2e-5]);
                }}
            });
        }
    }

    fn prop_assert_close(x: f64, y: f64) {
        assert!((x - y).abs() < 1e-4 * (1.0 + y.abs()), "{x} for {y}");
    }
}
