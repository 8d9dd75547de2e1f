//! Prompts being read, a piece a pass.

use std::sync::Arc;

use penwright::model::{Session, keep_likeliest};

use super::task::{Event, Task, Token};

/// Tokens of prompts in a pass beside texts that are being written, and without any: more would make those wait.
const BESIDE: usize = 96;
const ALONE: usize = 512;
/// The least that a prompt gets in a pass.
const LEAST: usize = 16;
/// Tokens of a prompt in a pass when each one's likelihood is wanted.
const SCORED: usize = 32;

/// A task whose prompt is being read.
pub(super) struct Reading {
    pub(super) task: Arc<Task>,
    /// The streams that are its own: the first reads.
    pub(super) streams: Vec<usize>,
    /// What is to be read, end-of-text first, and how much of it has been.
    tokens: Vec<u32>,
    read: usize,
}

impl Reading {
    pub(super) fn new(task: Task, streams: Vec<usize>) -> Self {
        let tokens = task.prompt.context();
        Reading { task: Arc::new(task), streams, tokens, read: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.read == self.tokens.len()
    }

    /// Whether each token's likelihood is wanted.
    pub(super) fn is_scored(&self) -> bool {
        self.task.prompt_top.is_some()
    }

    pub(super) fn stream(&self) -> usize {
        self.streams[0]
    }

    /// Takes the next tokens, at most `most`.
    pub(super) fn take(&mut self, most: usize) -> std::ops::Range<usize> {
        let from = self.read;
        self.read = (from + most).min(self.tokens.len());
        from..self.read
    }

    pub(super) fn tokens(&self, range: std::ops::Range<usize>) -> &[u32] {
        self.tokens.get(range).unwrap_or_default()
    }

    /// Reads a piece and tells how likely each of its tokens was, as far ahead as the session can go in one pass.
    pub(super) fn read_scored(&mut self, session: &mut dyn Session) -> penwright::Result<usize> {
        let (stream, from, top) = (self.stream(), self.read, self.task.prompt_top.unwrap_or_default());
        let room = if from == 0 { 0 } else { session.room_ahead(stream).min(SCORED - 1) };
        self.read = (from + 1 + room).min(self.tokens.len());
        let piece = &self.tokens[from..self.read];
        let mut scored = Vec::with_capacity(piece.len());
        // The first token is end-of-text, before which there is nothing.
        if from > 0 {
            scored.push(token(session.log_probs(stream), piece[0], from - 1, top));
        }
        session.step_ahead(&[stream], &piece[..1], &[&piece[1..]])?;
        for (i, &id) in piece.iter().enumerate().skip(1) {
            scored.push(token(session.log_probs_ahead(stream, i - 1), id, from + i - 1, top));
        }
        session.keep(stream, piece.len() - 1);
        let read = piece.len();
        if !scored.is_empty() {
            self.task.send(Event::Prompt(scored));
        }
        Ok(read)
    }
}

/// Cuts a piece for each of the prompts: about the same for all, of as many tokens together as a pass should have.
pub(super) fn pieces(reading: &mut [Reading], beside: bool) -> Vec<(usize, std::ops::Range<usize>)> {
    let mut budget = if beside { BESIDE } else { ALONE };
    let waiting = reading.iter().filter(|r| !r.is_scored() && !r.is_done()).count();
    let share = (budget / waiting.max(1)).max(LEAST);
    let mut pieces = Vec::new();
    for (i, reading) in reading.iter_mut().enumerate().filter(|(_, r)| !r.is_scored() && !r.is_done()) {
        let piece = reading.take(share.min(budget));
        budget -= piece.len();
        if piece.is_empty() {
            break;
        }
        pieces.push((i, piece));
    }
    pieces
}

/// A token by the log-probabilities in its place.
pub(super) fn token(log_probs: &[f32], id: u32, start: usize, top: usize) -> Token {
    let log_prob = log_probs.get(id as usize).copied().unwrap_or(f32::MIN);
    Token { id, log_prob, start, top: likeliest(log_probs, top) }
}

/// The `count` likeliest ids, likeliest first; of equals the lower id.
pub(super) fn likeliest(log_probs: &[f32], count: usize) -> Vec<(u32, f32)> {
    if count == 0 {
        return Vec::new();
    }
    let mut all: Vec<(u32, f32)> = (0..).zip(log_probs.iter().copied()).collect();
    keep_likeliest(&mut all, count);
    all
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use penwright::generate::{GenerateOptions, Prompt};
    use penwright::model::{LanguageModel, Ngram, NgramConfig};
    use penwright::tokenizer::{Level, Tokenizer};

    use super::*;

    fn reading(tokens: usize, scored: bool) -> Reading {
        let tokenizer = Tokenizer::train(Level::Char, &["abc"], None).unwrap();
        let config = NgramConfig { vocab: tokenizer.vocab_size(), order: 2 };
        let ids = tokenizer.encode(&"abc".repeat(tokens)[..tokens]);
        let model: Arc<dyn LanguageModel> =
            Arc::new(Ngram::train(config, &[&[tokenizer.eot()], &ids[..]].concat(), tokenizer.eot()).unwrap());
        let prompt = Prompt::of_tokens(&model, &tokenizer, &ids, &GenerateOptions::default()).unwrap();
        let task = Task {
            prompt: Arc::new(prompt),
            texts: 1,
            first: 0,
            apart: 1,
            top: None,
            prompt_top: scored.then_some(0),
            next: 0,
            client: 0,
            queued: Instant::now(),
            limit: Duration::from_secs(9),
            events: tokio::sync::mpsc::unbounded_channel().0,
            number: 0,
        };
        Reading::new(task, vec![0])
    }

    /// Lengths of the pieces of each pass until all is read.
    fn passes(reading: &mut [Reading], beside: bool) -> Vec<Vec<(usize, usize)>> {
        let mut passes = Vec::new();
        loop {
            let pass: Vec<_> = pieces(reading, beside).into_iter().map(|(i, piece)| (i, piece.len())).collect();
            if pass.is_empty() {
                return passes;
            }
            passes.push(pass);
        }
    }

    #[test]
    fn pieces_are_fair_and_bounded() {
        // End-of-text comes before the tokens.
        assert_eq!(passes(&mut [reading(599, false)], false), [[(0, 512)], [(0, 88)]]);
        assert_eq!(passes(&mut [reading(99, false)], true), [[(0, 96)], [(0, 4)]]);
        let mut three = [reading(400, false), reading(9, false), reading(40, false)];
        let passes = passes(&mut three, true);
        assert_eq!(passes[0], [(0, 32), (1, 10), (2, 32)]);
        assert_eq!(passes[1], [(0, 48), (2, 9)]);
        assert!(three.iter().all(Reading::is_done));
        assert!(passes.iter().all(|pass| pass.iter().map(|(_, n)| n).sum::<usize>() <= BESIDE));
    }

    #[test]
    fn scored_prompts_are_read_apart_and_many_get_the_least() {
        assert!(pieces(&mut [reading(9, true)], true).is_empty());
        let mut many: Vec<Reading> = (0..20).map(|_| reading(50, false)).collect();
        let pass = pieces(&mut many, true);
        assert_eq!(
            pass.iter().map(|(i, piece)| (*i, piece.len())).collect::<Vec<_>>(),
            (0..6).map(|i| (i, LEAST)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_likeliest_come_in_order() {
        let log_probs = [-3.0, -1.0, -2.0, -1.0, -9.0];
        assert_eq!(likeliest(&log_probs, 3), [(1, -1.0), (3, -1.0), (2, -2.0)]);
        assert_eq!(likeliest(&log_probs, 9).len(), 5);
        assert!(likeliest(&log_probs, 0).is_empty());
        assert_eq!(token(&log_probs, 2, 7, 1), Token { id: 2, log_prob: -2.0, start: 7, top: vec![(1, -1.0)] });
    }
}
