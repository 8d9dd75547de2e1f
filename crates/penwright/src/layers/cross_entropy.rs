//! Softmax and cross-entropy.

use penwright_kernels::exp;
use rayon::prelude::*;

use super::CHUNK;

/// Turns a row of logits into natural-log probabilities: `x − max − ln Σ exp(x − max)`.
pub fn log_softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (groups, rest) = row.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for group in groups {
        for i in 0..16 {
            sums[i] += exp(group[i] - max);
        }
    }
    let sum = sums.iter().sum::<f32>() + rest.iter().map(|&x| exp(x - max)).sum::<f32>();
    let shift = max + sum.ln();
    row.iter_mut().for_each(|x| *x -= shift);
}

/// Replaces logits `[rows, V]` by their gradient `(softmax − onehot) · scale` and returns the sum over the rows
/// of `−ln softmax[target]`, in nats.
pub fn cross_entropy(logits: &mut [f32], targets: &[u32], vocab: usize, scale: f32) -> f64 {
    let losses: Vec<f64> = logits
        .par_chunks_mut(vocab * CHUNK)
        .zip(targets.par_chunks(CHUNK))
        .map(|(rows, targets)| {
            let mut loss = 0.0;
            for (row, &target) in rows.chunks_exact_mut(vocab).zip(targets) {
                log_softmax(row);
                loss -= f64::from(row[target as usize]);
                row.iter_mut().for_each(|x| *x = exp(*x) * scale);
                row[target as usize] -= scale;
            }
            loss
        })
        .collect();
    losses.iter().sum() // in the order of the rows, whichever thread computed them
}
