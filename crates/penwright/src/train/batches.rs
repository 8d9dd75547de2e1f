//! Which tokens a step trains on: a function of the step alone, so that any step can be repeated.

use crate::layers::random;
use crate::model::ModelKind;
use crate::{Error, Result};

/// Cuts the training tokens into batches.
pub struct Batches<'a> {
    tokens: &'a [u32],
    batch: usize,
    context: usize,
    kind: ModelKind,
    seed: u64,
}

impl<'a> Batches<'a> {
    /// Batches of `batch` windows of `context` tokens.
    ///
    /// # Errors
    /// When the text is too short for one window in each stream.
    pub fn new(tokens: &'a [u32], batch: usize, context: usize, kind: ModelKind, seed: u64) -> Result<Self> {
        for (name, value) in [("batch", batch), ("context", context)] {
            if value == 0 {
                return Err(Error::setting(name, "must be at least 1"));
            }
        }
        let needed = if kind == ModelKind::Lstm { batch.saturating_mul(context) } else { context } + 1;
        if tokens.len() < needed {
            return Err(Error::Text(format!(
                "the training part has {} tokens but needs {needed}; use a longer text, or a smaller --context or --batch",
                tokens.len()
            )));
        }
        Ok(Batches { tokens, batch, context, kind, seed })
    }

    /// Steps in which an LSTM's streams run through the text once.
    fn steps_per_pass(&self) -> u64 {
        ((self.tokens.len() - 1) / self.batch / self.context) as u64
    }

    /// Whether the streams begin anew at this step, counted from zero.
    pub fn begins_pass(&self, step: u64) -> bool {
        self.kind == ModelKind::Lstm && step.is_multiple_of(self.steps_per_pass())
    }

    /// Where the n-th window begins: multiples of the golden ratio, modulo one, from a random start. They spread over
    /// the text more evenly than random numbers do, whenever one stops.
    fn window(&self, n: u64) -> usize {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 / φ
        let places = (self.tokens.len() - self.context) as u128;
        let point = random(self.seed, 0).wrapping_add(n.wrapping_mul(GOLDEN));
        (u128::from(point) * places >> 64) as usize
    }

    /// Inputs and targets of a step, each `[batch · context]`. An LSTM reads `batch` parallel streams on and on;
    /// a GPT-2 reads windows spread over the text.
    pub fn get(&self, step: u64, inputs: &mut Vec<u32>, targets: &mut Vec<u32>) {
        inputs.clear();
        targets.clear();
        for b in 0..self.batch {
            let start = if self.kind == ModelKind::Lstm {
                let stream = (self.tokens.len() - 1) / self.batch;
                b * stream + (step % self.steps_per_pass()) as usize * self.context
            } else {
                self.window(step * self.batch as u64 + b as u64)
            };
            inputs.extend(&self.tokens[start..start + self.context]);
            targets.extend(&self.tokens[start + 1..start + self.context + 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_continue_and_targets_follow() {
        let tokens: Vec<u32> = (0..103).collect();
        let batches = Batches::new(&tokens, 2, 10, ModelKind::Lstm, 1).unwrap();
        let (mut x, mut y) = (vec![], vec![]);
        let mut last = vec![];
        for step in 0..5 {
            batches.get(step, &mut x, &mut y);
            assert!(x.iter().zip(&y).all(|(x, y)| x + 1 == *y));
            if step > 0 {
                assert_eq!(last, [x[0], x[10]], "stream goes on at step {step}");
            }
            last = vec![y[9], y[19]];
        }
        assert!(batches.begins_pass(5) && !batches.begins_pass(4));
    }

    #[test]
    fn windows_reach_both_ends() {
        let tokens: Vec<u32> = (0..12).collect();
        let batches = Batches::new(&tokens, 4, 10, ModelKind::Gpt2, 1).unwrap();
        let (mut x, mut y, mut seen) = (vec![], vec![], [false; 2]);
        for step in 0..20 {
            batches.get(step, &mut x, &mut y);
            x.iter().step_by(10).for_each(|&start| seen[start as usize] = true);
        }
        assert_eq!(seen, [true, true]);
        assert!(Batches::new(&tokens, 4, 12, ModelKind::Gpt2, 1).is_err());
    }
}
