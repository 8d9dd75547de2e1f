//! Softmax and cross-entropy.

use penwright_kernels::{self as kernels, chunks, chunks_mut, each};

use super::CHUNK;

pub use penwright_kernels::log_softmax;

/// Replaces logits `[rows, V]` by their gradient `(softmax − onehot) · scale` and returns the sum over the rows
/// of `−ln softmax[target]`, in nats. `losses` is working memory.
pub fn cross_entropy(logits: &mut [f32], targets: &[u32], vocab: usize, scale: f32, losses: &mut Vec<f64>) -> f64 {
    losses.resize(targets.len().div_ceil(CHUNK), 0.0);
    let parts = (chunks_mut(logits, vocab * CHUNK), chunks(targets, CHUNK), chunks_mut(losses, 1));
    each(parts, |_, (rows, targets, loss)| loss[0] = kernels::cross_entropy(rows, targets, scale));
    losses.iter().sum() // in the order of the rows, whichever thread computed them
}
