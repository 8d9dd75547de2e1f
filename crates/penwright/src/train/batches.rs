//! Which tokens a step trains on: a function of the step alone, so that any step can be repeated; of an LSTM whose tokens are cut,
//! of the step and of where its streams are.

use super::cutting::{Cutter, Draws, Place};
use super::lengths::RandomLengths;
use crate::layers::random;
use crate::model::ModelKind;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Cuts the training tokens into batches.
pub struct Batches<'a> {
    tokens: &'a [u32],
    batch: usize,
    context: usize,
    kind: ModelKind,
    seed: u64,
    random: Option<RandomLengths>,
    cutter: Option<Cutter>,
    /// Where an LSTM's streams are, if tokens are cut.
    places: Vec<Place>,
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
        Ok(Batches { tokens, batch, context, kind, seed, random: None, cutter: None, places: Vec::new() })
    }

    /// The same with windows of random length: around `context`, or one time in twenty around half of it. Where a
    /// stream's next window would reach over its end, the stream begins anew.
    ///
    /// # Errors
    /// When they are not for an LSTM.
    pub fn with_random_lengths(self) -> Result<Self> {
        if self.kind != ModelKind::Lstm {
            return Err(Error::setting("random-length", "is for an LSTM; leave it out"));
        }
        let random = Some(RandomLengths::new(self.context, (self.batch, self.stream()), self.seed));
        Ok(Batches { random, ..self })
    }

    /// The same with tokens that are cut at the rate that [`get`](Self::get) is told. An LSTM's steps must be asked for in their
    /// order then. Where a stream's next window might reach over its end, the stream begins anew.
    ///
    /// # Errors
    /// When the tokenizer merges nothing.
    pub fn with_cuts(self, tokenizer: &Tokenizer) -> Result<Self> {
        let Some(cutter) = Cutter::new(tokenizer) else {
            return Err(Error::setting("bpe-dropout", "is for tokens that were merged from others; leave it out"));
        };
        let streams = if self.kind == ModelKind::Lstm { self.batch } else { 0 };
        // Spread over a pass, as uncut.
        let places = (0..streams).map(|b| Place::beginning(b * self.stream() / self.batch)).collect();
        Ok(Batches { cutter: Some(cutter), places, ..self })
    }

    /// Where the streams are, to go on from there.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Goes on from there, if they are places of such batches.
    pub(super) fn go_on(&mut self, places: Vec<Place>) -> bool {
        let is_place = |place: &Place| self.cutter.as_ref().is_some_and(|cutter| place.is_of(cutter, self.stream()));
        let fits = places.len() == self.places.len() && places.iter().all(is_place);
        if fits {
            self.places = places;
        }
        fits
    }

    /// Tokens of each window of a step.
    pub fn length(&self, step: u64) -> usize {
        self.random.as_ref().map_or(self.context, |random| random.length(step))
    }

    /// Tokens of all steps before one.
    pub fn tokens_before(&self, step: u64) -> u64 {
        let each = self.random.as_ref().map_or(step * self.context as u64, |random| random.before(step));
        each * self.batch as u64
    }

    /// Tokens of an LSTM's stream, targets counted.
    fn stream(&self) -> usize {
        (self.tokens.len() - 1) / self.batch
    }

    /// Steps in which an LSTM's streams run through the text once.
    fn steps_per_pass(&self) -> u64 {
        (self.stream() / self.context) as u64
    }

    /// The step of its pass at which stream `b` of an LSTM is. The streams' beginnings are spread evenly over a pass,
    /// so that what follows an empty state is learned all the time and not once a pass.
    fn step_of_stream(&self, step: u64, b: usize) -> u64 {
        let steps = self.steps_per_pass();
        (step + b as u64 * steps / self.batch as u64) % steps
    }

    /// Whether stream `b` begins anew at this step, counted from zero, with an empty state.
    pub fn begins(&self, step: u64, b: usize) -> bool {
        if let Some(place) = self.places.get(b) {
            return place.begins(self.length(step), self.stream());
        }
        if let Some(random) = &self.random {
            return random.place(step, b).1;
        }
        self.kind == ModelKind::Lstm && (step == 0 || self.step_of_stream(step, b) == 0)
    }

    /// Where the n-th window begins: multiples of the golden ratio, modulo one, from a random start. They spread over
    /// the text more evenly than random numbers do, whenever one stops.
    fn window(&self, n: u64) -> usize {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 / φ
        let places = (self.tokens.len() - self.context) as u128;
        let point = random(self.seed, 0).wrapping_add(n.wrapping_mul(GOLDEN));
        ((u128::from(point) * places) >> 64) as usize
    }

    /// Inputs and targets of a step, each `[batch · length]`. An LSTM reads `batch` parallel streams on and on, each
    /// begun by the end-of-text token wherever in the text it begins; a GPT-2 reads windows spread over the text. `cut` is the
    /// chance that a token is cut, where any are ([`with_cuts`](Self::with_cuts)).
    pub fn get(&mut self, step: u64, cut: f64, inputs: &mut Vec<u32>, targets: &mut Vec<u32>) {
        inputs.clear();
        targets.clear();
        let (length, stream, tokens) = (self.length(step), self.stream(), self.tokens);
        for b in 0..self.batch {
            let n = step * self.batch as u64 + b as u64;
            if let Some(cutter) = &self.cutter {
                let draws = Draws::new(self.seed, n, cut);
                match self.places.get_mut(b) {
                    Some(place) => {
                        let stream = (tokens[0], &tokens[b * stream..=(b + 1) * stream]);
                        place.window(cutter, stream, length, draws, (inputs, targets));
                    }
                    None => cutter.window(&tokens[self.window(n)..], length, draws, (inputs, targets)),
                }
                continue;
            }
            let start = if let Some(random) = &self.random {
                b * stream + random.place(step, b).0
            } else if self.kind == ModelKind::Lstm {
                b * stream + self.step_of_stream(step, b) as usize * self.context
            } else {
                self.window(n)
            };
            let first = if self.begins(step, b) { 0 } else { start };
            inputs.push(tokens[first]);
            inputs.extend(&tokens[start + 1..start + length]);
            targets.extend(&tokens[start + 1..start + length + 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_continue_and_targets_follow() {
        const END: u32 = 999;
        let tokens: Vec<u32> = std::iter::once(END).chain(1..103).collect();
        let mut batches = Batches::new(&tokens, 2, 10, ModelKind::Lstm, 1).unwrap();
        let (mut x, mut y) = (vec![], vec![]);
        let (mut last, mut begun) = ([0; 2], [vec![], vec![]]);
        for step in 0..10 {
            batches.get(step, 0.0, &mut x, &mut y);
            for b in 0..2 {
                let (x, y) = (&x[b * 10..][..10], &y[b * 10..][..10]);
                assert!(x[1..] == y[..9] && y.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                if batches.begins(step, b) {
                    assert_eq!(x[0], END);
                    begun[b].push(step);
                } else {
                    assert_eq!(x[0], last[b], "stream {b} goes on at step {step}");
                }
                last[b] = y[9];
            }
        }
        assert_eq!(begun, [vec![0, 5], vec![0, 3, 8]]);
    }

    #[test]
    fn streams_of_random_lengths_continue_too() {
        const END: u32 = 9999;
        let tokens: Vec<u32> = std::iter::once(END).chain(1..1003).collect();
        let mut batches = Batches::new(&tokens, 2, 20, ModelKind::Lstm, 3).unwrap().with_random_lengths().unwrap();
        let (mut x, mut y) = (vec![], vec![]);
        let (mut last, mut begun, mut seen) = ([0; 2], [0; 2], 0);
        for step in 0..200 {
            batches.get(step, 0.0, &mut x, &mut y);
            let length = batches.length(step);
            assert_eq!((x.len(), y.len(), batches.tokens_before(step)), (2 * length, 2 * length, seen));
            seen += 2 * length as u64;
            for b in 0..2 {
                let (x, y) = (&x[b * length..][..length], &y[b * length..][..length]);
                assert!(x[1..] == y[..length - 1] && y.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                let stream = b as u32 * 501;
                assert!(y[0] > stream && y[length - 1] <= stream + 501, "leaves stream {b} at step {step}");
                assert_eq!(x[0], if batches.begins(step, b) { END } else { last[b] }, "stream {b} at step {step}");
                begun[b] += usize::from(batches.begins(step, b));
                last[b] = y[length - 1];
            }
        }
        assert!(begun.iter().all(|begun| (6..12).contains(begun)), "{begun:?}");
        assert!(Batches::new(&tokens, 2, 20, ModelKind::Gpt2, 3).unwrap().with_random_lengths().is_err());
    }

    #[test]
    fn windows_reach_both_ends() {
        let tokens: Vec<u32> = (0..12).collect();
        let mut batches = Batches::new(&tokens, 4, 10, ModelKind::Gpt2, 1).unwrap();
        let (mut x, mut y, mut seen) = (vec![], vec![], [false; 2]);
        for step in 0..20 {
            batches.get(step, 0.0, &mut x, &mut y);
            x.iter().step_by(10).for_each(|&start| seen[start as usize] = true);
        }
        assert_eq!(seen, [true, true]);
        assert!(Batches::new(&tokens, 4, 12, ModelKind::Gpt2, 1).is_err());
    }
}
