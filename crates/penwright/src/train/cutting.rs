//! Tokens cut back at random into those that they were merged from, so that each pass reads the text in other pieces: BPE-dropout
//! (Provilkov, Emelianenko and Voita 2020, arXiv 1910.13267), but from the tokens down. There each merge is left out with
//! a chance as a text is encoded; here each merge is undone with that chance as it is read, which needs no text.

use serde::{Deserialize, Serialize};

use crate::layers::random;
use crate::tokenizer::Tokenizer;

/// Knows which two tokens each was merged from.
pub(super) struct Cutter {
    halves: Vec<Option<(u32, u32)>>,
}

/// The draws of one window.
pub(super) struct Draws {
    key: u64,
    drawn: u64,
    /// The chance of a cut, of 2³².
    chance: u64,
    /// What is left of a token that is being cut, the last first.
    pending: Vec<u32>,
}

/// Where a stream is: what an LSTM's batches go on from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Tokens of the stream that were cut so far, the one it begins after not counted.
    read: usize,
    /// The last token read; `None` where the stream begins anew.
    last: Option<u32>,
    /// What the last token cut became beyond that.
    ahead: Vec<u32>,
}

impl Cutter {
    /// `None` for a tokenizer that merges nothing.
    pub(super) fn new(tokenizer: &Tokenizer) -> Option<Self> {
        let halves = tokenizer.halves();
        halves.iter().any(Option::is_some).then_some(Cutter { halves })
    }

    /// Adds tokens, cut, until `to` has so many or there are no more; how many of `tokens` that were.
    fn fill(&self, tokens: &[u32], count: usize, draws: &mut Draws, to: &mut Vec<u32>) -> usize {
        let mut taken = 0;
        while let Some(&token) = tokens.get(taken).filter(|_| to.len() < count) {
            self.cut(token, draws, to);
            taken += 1;
        }
        taken
    }

    /// Adds what a token becomes: itself, or its halves, each of them cut likewise.
    fn cut(&self, token: u32, draws: &mut Draws, to: &mut Vec<u32>) {
        draws.pending.push(token);
        while let Some(token) = draws.pending.pop() {
            match self.halves.get(token as usize) {
                Some(&Some((first, second))) if draws.cuts() => draws.pending.extend([second, first]),
                _ => to.push(token),
            }
        }
    }

    /// Inputs and targets, `length` each, of a window that begins with the first of the tokens, of which there must be more.
    pub(super) fn window(&self, tokens: &[u32], length: usize, mut draws: Draws, to: (&mut Vec<u32>, &mut Vec<u32>)) {
        let mut parts = Vec::with_capacity(length + 1);
        self.fill(tokens, length + 1, &mut draws, &mut parts);
        to.0.extend(&parts[..length]);
        to.1.extend(&parts[1..=length]);
    }
}

impl Draws {
    /// Of the n-th window; `rate` is the chance of a cut.
    pub(super) fn new(seed: u64, n: u64, rate: f64) -> Self {
        let chance = (rate.clamp(0.0, 1.0) * 2f64.powi(32)) as u64;
        Draws { key: random(seed ^ 0xB9E, n), drawn: 0, chance, pending: Vec::new() }
    }

    fn cuts(&mut self) -> bool {
        self.drawn += 1;
        random(self.key, self.drawn) >> 32 < self.chance
    }
}

impl Place {
    /// A stream that begins at one of its tokens.
    pub(super) fn beginning(read: usize) -> Self {
        Place { read, ..Place::default() }
    }

    /// Whether it is one of a stream of so many of the cutter's tokens.
    pub(super) fn is_of(&self, cutter: &Cutter, stream: usize) -> bool {
        let known = |&token: &u32| (token as usize) < cutter.halves.len();
        self.read <= stream && self.last.iter().chain(&self.ahead).all(known)
    }

    /// Whether the stream begins anew with the next window: at first, and where what is left of it may be too short.
    pub(super) fn begins(&self, length: usize, stream: usize) -> bool {
        self.last.is_none() || self.is_at_end(length, stream)
    }

    fn is_at_end(&self, length: usize, stream: usize) -> bool {
        stream.saturating_sub(self.read) + self.ahead.len() < length
    }

    /// Inputs and targets, `length` each, of the next window of a stream: its tokens are those after `tokens[0]`, at least
    /// `length`. One that begins anew begins with `first`.
    pub(super) fn window(
        &mut self,
        cutter: &Cutter,
        (first, tokens): (u32, &[u32]),
        length: usize,
        mut draws: Draws,
        to: (&mut Vec<u32>, &mut Vec<u32>),
    ) {
        if self.is_at_end(length, tokens.len() - 1) {
            *self = Place::default();
        }
        let mut parts = std::mem::take(&mut self.ahead);
        self.read += cutter.fill(&tokens[1 + self.read..], length, &mut draws, &mut parts);
        self.ahead = parts.split_off(length);
        to.0.push(self.last.unwrap_or(first));
        to.0.extend(&parts[..length - 1]);
        to.1.extend(&parts);
        self.last = parts.last().copied();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelKind;
    use crate::tokenizer::Level;
    use crate::train::{Batches, token_stream};

    const TEXT: &str =
        "the miller and the miller's daughter went to the mill, and the daughter's daughter to the miller. ";

    fn encoded() -> (Tokenizer, Vec<u32>, String) {
        let text = TEXT.repeat(40);
        let tokenizer = Tokenizer::train(Level::Bpe, &[&text], Some(290)).unwrap();
        let tokens = token_stream(&tokenizer, &[&text]);
        (tokenizer, tokens, text)
    }

    fn batches<'a>(kind: ModelKind, tokens: &'a [u32], tokenizer: &Tokenizer) -> Batches<'a> {
        Batches::new(tokens, 3, 17, kind, 5).unwrap().with_cuts(tokenizer).unwrap()
    }

    #[test]
    fn cut_tokens_are_the_same_text() {
        let (tokenizer, tokens, text) = encoded();
        let cutter = Cutter::new(&tokenizer).unwrap();
        let cut = |rate| {
            let mut parts = Vec::new();
            assert_eq!(cutter.fill(&tokens, usize::MAX, &mut Draws::new(1, 2, rate), &mut parts), tokens.len());
            parts
        };
        assert_eq!(cut(0.0), tokens);
        assert_eq!(tokenizer.decode(&cut(1.0)[1..]), text);
        assert_eq!(cut(1.0).len(), 1 + text.len(), "down to the bytes");
        let (some, merged) = (cut(0.3), |token: &&u32| cutter.halves[**token as usize].is_some());
        assert_eq!(tokenizer.decode(&some[1..]), text);
        assert_eq!(some, cut(0.3));
        // A token stays whole with a chance of 0.7, and halves that were merged may stay too.
        let (before, after) = (tokens.iter().filter(merged).count() as f64, some.iter().filter(merged).count() as f64);
        assert!(after > 0.65 * before && after < 1.2 * before && some.len() > tokens.len(), "{before} {after}");
    }

    #[test]
    fn streams_of_cut_tokens_continue() {
        let (tokenizer, tokens, text) = encoded();
        let mut whole = batches(ModelKind::Lstm, &tokens, &tokenizer);
        let (mut x, mut y, mut read) = (vec![], vec![], vec![String::new(); 3]);
        let (mut last, mut begun, mut steps) = ([0; 3], [0; 3], vec![]);
        for step in 0..60 {
            let begin: Vec<bool> = (0..3).map(|b| whole.begins(step, b)).collect();
            whole.get(step, 0.2, &mut x, &mut y);
            assert_eq!((x.len(), y.len()), (51, 51));
            for b in 0..3 {
                let (x, y) = (&x[b * 17..][..17], &y[b * 17..][..17]);
                assert!(x[1..] == y[..16] && x[0] == if begin[b] { tokenizer.eot() } else { last[b] });
                if begin[b] {
                    begun[b] += 1;
                    read[b].clear();
                }
                read[b] += &tokenizer.decode(y);
                assert!(text.contains(&read[b]), "stream {b} at step {step} leaves the text");
                last[b] = y[16];
            }
            steps.push((x.clone(), y.clone()));
        }
        assert!(begun.iter().all(|begun| (2..6).contains(begun)), "{begun:?}");
        // From any step on as if it had not stopped; never from places that are none.
        let mut stopped = batches(ModelKind::Lstm, &tokens, &tokenizer);
        (0..23).for_each(|step| stopped.get(step, 0.2, &mut x, &mut y));
        let places = stopped.places().to_vec();
        let mut resumed = batches(ModelKind::Lstm, &tokens, &tokenizer);
        let nowhere = [
            Place::beginning(tokens.len()),
            Place { last: Some(290), ..Place::default() },
            Place { ahead: vec![u32::MAX], ..Place::default() },
        ];
        assert!(!resumed.go_on(vec![]));
        nowhere.into_iter().for_each(|place| assert!(!resumed.go_on(vec![Place::default(), place, Place::default()])));
        assert!(resumed.go_on(places));
        for step in 23..60 {
            resumed.get(step, 0.2, &mut x, &mut y);
            assert_eq!((&x, &y), (&steps[step as usize].0, &steps[step as usize].1), "step {step}");
        }
    }

    #[test]
    fn windows_of_cut_tokens_are_text() {
        let (tokenizer, tokens, text) = encoded();
        let mut batches = batches(ModelKind::Gpt2, &tokens, &tokenizer);
        let (mut x, mut y, mut again) = (vec![], vec![], (vec![], vec![]));
        for step in 0..40 {
            batches.get(step, 0.3, &mut x, &mut y);
            for (x, y) in x.chunks(17).zip(y.chunks(17)) {
                assert!(x.len() == 17 && x[1..] == y[..16] && text.contains(&tokenizer.decode(y)));
            }
            batches.get(step, 0.3, &mut again.0, &mut again.1);
            assert_eq!((&again.0, &again.1), (&x, &y), "a step's windows are those of the step alone");
        }
    }

    #[test]
    fn characters_and_words_are_not_cut() {
        for level in [Level::Char, Level::Word] {
            assert!(Cutter::new(&Tokenizer::train(level, &[TEXT], None).unwrap()).is_none());
        }
    }
}
