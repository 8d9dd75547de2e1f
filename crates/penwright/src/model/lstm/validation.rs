//! The loss over a text that training looks at now and then, faster than by one token after another: parts of the
//! text are read side by side, each after some of what is before it, so that all but nothing of the state is missing.

use penwright_kernels::{Factor, team};

use super::pass::Saved;
use super::{Lstm, State, WINDOW};
use crate::Result;
use crate::model::{add_losses, check_tokens, losses_of};

/// Parts at most, each of so many tokens at least.
pub(super) const PARTS: usize = 16;
pub(super) const LEAST: usize = 2048;
/// Tokens before a part that it is read after.
const WARM_UP: usize = 256;

impl Lstm {
    /// Nats a token at each of the temperatures. A text too short for parts is read as a whole.
    pub(super) fn validate_in<E: Factor>(&self, tokens: &[u32], temperatures: &[f32]) -> Result<Vec<f64>> {
        check_tokens(tokens, self.config.vocab)?;
        let n = tokens.len().saturating_sub(1);
        let count = PARTS.min(n / LEAST).max(1);
        let len = n.div_ceil(count);
        // All parts are equally long: the last begins within the one before it, and what it shares is not counted.
        let starts: Vec<usize> = (0..count).map(|part| (part * len).min(n - len)).collect();
        let at = |first: &[usize], t: usize, time: usize| -> Vec<u32> {
            (0..time * count).map(|i| tokens[first[i % count] + t + i / count]).collect()
        };
        let (mut saved, mut state) = (Saved::<E>::default(), State::new(&self.config, count));
        let before: Vec<usize> = starts.iter().map(|start| start.saturating_sub(WARM_UP)).collect();
        let next: Vec<usize> = starts.iter().map(|start| start + 1).collect();
        let mut nats = vec![0.0; temperatures.len()];
        team(|| {
            if count > 1 {
                self.forward(&mut saved, &at(&before, 0, WARM_UP), &mut state);
                self.forget(&mut state, 0); // the text's beginning has nothing before it
            }
            for t in (0..len).step_by(WINDOW / count) {
                let time = (len - t).min(WINDOW / count);
                self.forward(&mut saved, &at(&starts, t, time), &mut state);
                let logits = self.logits(&mut saved, count);
                let losses = losses_of(logits, &at(&next, t, time), self.config.vocab, temperatures);
                for (i, losses) in losses.chunks_exact(temperatures.len()).enumerate() {
                    let (part, place) = (i % count, t + i / count);
                    if starts[part] + place >= part * len {
                        add_losses(&mut nats, losses);
                    }
                }
            }
        });
        Ok(nats.iter().map(|nats| nats / n.max(1) as f64).collect())
    }

    /// Sets one text's state to that of a beginning.
    fn forget(&self, state: &mut State, text: usize) {
        for (l, (hidden, cell)) in state.hidden.iter_mut().zip(&mut state.cell).enumerate() {
            let width = self.config.layer_width(l);
            for rows in [hidden, cell] {
                rows[text * width..][..width].fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::random;
    use crate::model::{LstmConfig, Precision, Trainable, mean_score};

    #[test]
    fn parts_side_by_side_have_the_loss_of_the_whole() {
        for (tied, mogrifier) in [(false, 0), (true, 2)] {
            let config = LstmConfig { vocab: 23, embed: 12, hidden: 20, layers: 2, tied, mogrifier, mogrifier_rank: 0 };
            let mut model = Lstm::new(config, 3).unwrap();
            // Chances far from even, so that each token's place counts.
            let head = model.head.weight.clone();
            model.params.data[head].iter_mut().for_each(|x| *x *= 3.0);
            for (n, parts) in [(0, 0), (1, 0), (2 * LEAST, 2), (3 * LEAST + 1001, 3), (PARTS * LEAST + 5, PARTS)] {
                let tokens: Vec<u32> = (0..=n as u64).map(|i| (random(7, i / 3) % 23) as u32).collect();
                let whole = mean_score(&model, &tokens, None).unwrap().0;
                let ours = model.validate(&tokens).unwrap();
                assert!((ours - whole).abs() <= 1e-5 * whole.abs(), "{n} tokens, {parts} parts: {ours} and {whole}");
            }
            model.set_precision(Precision::Bf16);
            let tokens: Vec<u32> = (0..3 * LEAST as u64).map(|i| (random(7, i / 3) % 23) as u32).collect();
            let of_threads = [1, 2, 3].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| model.validate(&tokens).unwrap().to_bits())
            });
            assert!(of_threads.iter().all(|bits| *bits == of_threads[0]));
            assert!(model.validate(&vec![23; 3 * LEAST]).is_err());
        }
    }
}
