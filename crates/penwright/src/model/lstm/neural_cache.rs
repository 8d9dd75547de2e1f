//! The neural cache: [`NeuralCache`].

use penwright_kernels::{Factor, Matrix, Output, chunks, chunks_mut, each, product_into, widen};

use crate::layers::log_softmax;
use crate::model::{NeuralCache, TokenScore};

/// Outputs of the last layer, and the token that followed each.
pub(super) struct Cache {
    options: NeuralCache,
    /// `[pairs, H]`, the oldest first.
    keys: Vec<f32>,
    followed: Vec<u32>,
    sums: Vec<f32>,
}

impl Cache {
    pub(super) fn new(options: NeuralCache) -> Self {
        Cache { options, keys: Vec::new(), followed: Vec::new(), sums: Vec::new() }
    }

    /// Scores `targets` by the model's `logits`, which become log-probabilities, and the cache; each target is in the
    /// cache for those after it. `outputs` are rows `[T, H]` of the last layer's, `stride` elements apart.
    pub(super) fn score<E: Factor>(
        &mut self,
        logits: &mut [f32],
        (outputs, width, stride): (&[E], usize, usize),
        targets: &[u32],
    ) -> Vec<TokenScore> {
        const ROWS: usize = 8;
        let NeuralCache { size, theta, lambda } = self.options;
        let (rows, vocab) = (targets.len(), logits.len() / targets.len().max(1));
        let old = self.followed.len();
        self.keys.resize((old + rows) * width, 0.0);
        for (key, output) in self.keys[old * width..].chunks_exact_mut(width).zip(outputs.chunks(stride)) {
            widen(&output[..width], key);
        }
        self.followed.extend_from_slice(targets);
        let pairs = old + rows;
        self.sums.resize(rows * pairs, 0.0);
        let now = Matrix::new(&self.keys[old * width..], rows, width);
        let to: Output<'_, f32> = Output::sums(&mut self.sums, penwright_kernels::Init::Zero);
        product_into::<f32, _, _>(to, now, Matrix::new(&self.keys, pairs, width).t());
        let mut scores = vec![TokenScore { log_prob: 0.0, top1: false }; rows];
        let followed = &self.followed;
        let parts = (
            chunks_mut(logits, ROWS * vocab),
            chunks_mut(&mut self.sums, ROWS * pairs),
            chunks(targets, ROWS),
            chunks_mut(&mut scores, ROWS),
        );
        each(parts, |task, (logits, sums, targets, scores)| {
            let lines = logits.chunks_exact_mut(vocab).zip(sums.chunks_exact_mut(pairs)).zip(targets).zip(scores);
            for (i, (((logits, sums), &target), score)) in lines.enumerate() {
                let end = old + task * ROWS + i;
                let range = end.saturating_sub(size)..end;
                log_softmax(logits);
                *score = mixed(logits, &mut sums[range.clone()], &followed[range], (theta, lambda), target);
            }
        });
        let surplus = pairs.saturating_sub(size);
        self.keys.drain(..surplus * width);
        self.followed.drain(..surplus);
        scores
    }
}

/// The score of a token by the model's log-probabilities and the cache's `h_t · h_i`; both are used up.
fn mixed(
    log_probs: &mut [f32],
    sums: &mut [f32],
    followed: &[u32],
    (theta, lambda): (f32, f32),
    target: u32,
) -> TokenScore {
    let target = target as usize;
    if sums.is_empty() {
        let log_prob = log_probs[target];
        return TokenScore { log_prob, top1: log_probs.iter().all(|&x| x <= log_prob) };
    }
    let most = sums.iter().fold(f32::NEG_INFINITY, |most, &x| most.max(theta * x));
    sums.iter_mut().for_each(|x| *x = (theta * *x - most).exp());
    let total: f64 = sums.iter().map(|&x| f64::from(x)).sum();
    let hits = sums.iter().zip(followed).filter(|(_, token)| **token as usize == target);
    let hit = hits.map(|(x, _)| f64::from(*x)).sum::<f64>() / total;
    // In logarithms, so that it is finite however unlikely the model finds the token.
    let model = f64::from(1.0 - lambda).ln() + f64::from(log_probs[target]);
    let cache = (f64::from(lambda) * hit).ln();
    let log_prob = model.max(cache) + (-(model - cache).abs()).exp().ln_1p();
    log_probs.iter_mut().for_each(|x| *x = (1.0 - lambda) * x.exp());
    let part = (f64::from(lambda) / total) as f32;
    followed.iter().zip(&*sums).for_each(|(&token, x)| log_probs[token as usize] += part * x);
    let probability = log_probs[target];
    TokenScore { log_prob: log_prob as f32, top1: log_probs.iter().all(|&x| x <= probability) }
}
