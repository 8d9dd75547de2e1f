//! Softmax over rows of logits.

use crate::bf16::Element;
use crate::isa::dispatched;
use crate::math::{SUMS, exp_by, sum_of};

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
    /// `to = exp(max((x − best) / temperature, −87))` of log-probabilities, of which `best` is the greatest: below that no
    /// weight is left. As far as both reach.
    pub fn temper(x: &[f32], best: f32, temperature: f32, to: &mut [f32]) = temper_body;
}

#[inline(always)]
fn temper_body<const FMA: bool>(x: &[f32], best: f32, temperature: f32, to: &mut [f32]) {
    for (to, x) in to.iter_mut().zip(x) {
        let x = (x - best) / temperature;
        *to = exp_by::<FMA>(if x > -87.0 { x } else { -87.0 });
    }
}

dispatched! {
    /// `−ln softmax(row / temperature)[target]` in nats for each of the temperatures; at 1 to the bit what [`log_softmax`] has.
    /// As far as `temperatures` and `losses` both reach.
    pub fn tempered_losses(row: &[f32], target: usize, temperatures: &[f32], losses: &mut [f32]) = tempered_losses_body;
}

#[inline(always)]
fn tempered_losses_body<const FMA: bool>(row: &[f32], target: usize, temperatures: &[f32], losses: &mut [f32]) {
    let max = largest(row);
    for (loss, temperature) in losses.iter_mut().zip(temperatures) {
        let factor = 1.0 / temperature;
        let sum = sum_of!(|x| exp_by::<FMA>((x - max) * factor), row);
        *loss = max * factor + sum.ln() - row[target] * factor;
    }
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
