//! Writing with a GPT-2: the keys and values of the past are kept, never computed again.
//!
//! The positional embedding is absolute, so a text longer than the context goes on from a later beginning, with other
//! positions and so other keys and values. They are computed ahead: each stream has a second cache, its *shadow*,
//! whose text begins `D = context − context / 2` tokens later. Every token that lies in both is fed to both, as one
//! more row of the same batch; when the main cache is full, the shadow takes its place. So no step takes longer than
//! another, and where the text begins depends on its length alone.
//!
//! A prompt is many rows at once. Every row is computed as if it were alone, in the same order of sums.

mod ahead;
mod attention;
mod cache;
mod decoder;

use std::sync::Arc;

use penwright_kernels::decode::Inputs;
use penwright_kernels::{Element, add, chunks, chunks_mut, each, layer_norm, team};

use super::Gpt2Config;
use super::lora::PARTS;
use crate::Result;
use crate::layers::{LayerNorm, log_softmax};
use crate::model::decode::{Places, check_memory};
use crate::model::{Session, TokenScore, check_tokens};
use ahead::Ahead;
use attention::Heads;
use cache::{Cache, Shape};
use decoder::Decoder;
pub(super) use decoder::OwnDecoding;

/// Rows computed at once when a prompt is read, and when a text is scored, where each has logits.
const CHUNK: usize = 512;
const SCORE_CHUNK: usize = 64;

/// One text being written.
struct Stream<T> {
    main: Cache<T>,
    shadow: Cache<T>,
    log_probs: Vec<f32>,
    ahead: Ahead,
}

/// One token at one position of one of the two caches of a stream.
#[derive(Clone, Copy)]
struct Row {
    place: usize,
    shadow: bool,
    position: usize,
    token: u32,
    /// Whether the next token's probabilities are wanted.
    predicts: bool,
}

/// What a step computes, `[rows, …]`; kept, so that a step allocates nothing.
#[derive(Default)]
struct Buffers {
    x: Vec<f32>,
    y: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    active: Vec<f32>,
    scores: Vec<f32>,
    inputs: Inputs,
    /// Log-probabilities of the rows that predict.
    logits: Vec<f32>,
}

/// Keys and values are kept as `T`.
struct Gpt2Session<T> {
    decoder: Arc<Decoder>,
    places: Places,
    streams: Vec<Stream<T>>,
    rows: Vec<Row>,
    buffers: Buffers,
    stamp: u64,
}

impl<T: Element> Gpt2Session<T> {
    fn new(decoder: Arc<Decoder>, streams: usize) -> Self {
        let (places, streams) = (Places::new(streams), Vec::new());
        Gpt2Session { decoder, places, streams, rows: Vec::new(), buffers: Buffers::default(), stamp: 0 }
    }

    fn config(&self) -> &Gpt2Config {
        &self.decoder.model.config
    }

    /// Memory for all streams, once, before the first token.
    fn allocate(&mut self) -> Result<()> {
        if self.streams.is_empty() {
            let (shape, vocab) = (Shape::of(self.config()), self.config().vocab);
            check_memory(self.places.len(), self.stream_bytes())?;
            let stream = || Stream {
                main: Cache::new(shape),
                shadow: Cache::new(shape),
                log_probs: vec![0.0; vocab],
                ahead: Ahead::default(),
            };
            self.places.allocate();
            self.streams = (0..self.places.len()).map(|_| stream()).collect();
        }
        Ok(())
    }

    /// Tokens by which the shadow's text begins later.
    fn delay(&self) -> usize {
        self.config().context - self.config().context / 2
    }

    /// Adds a token's rows: one, or two where it lies in the shadow as well.
    fn push(&mut self, place: usize, token: u32, predicts: bool) {
        let (delay, context) = (self.delay(), self.config().context);
        let stream = &mut self.streams[place];
        if stream.main.len() == context {
            std::mem::swap(&mut stream.main, &mut stream.shadow);
            stream.shadow.clear();
        }
        let position = stream.main.len();
        stream.main.push(self.stamp);
        self.rows.push(Row { place, shadow: false, position, token, predicts });
        if let Some(position) = position.checked_sub(delay) {
            stream.shadow.push(self.stamp + 1);
            self.rows.push(Row { place, shadow: true, position, token, predicts: false });
        }
        self.stamp += 2;
    }

    /// Computes the rows and hands each stream its log-probabilities.
    fn run(&mut self) {
        let Gpt2Session { decoder, streams, rows, buffers, .. } = self;
        team(|| {
            decoder.decode(streams, rows, buffers);
            let (rows, logits) = (&*rows, &buffers.logits);
            each(chunks_mut(streams, 1), |place, stream| {
                let mut predicting = rows.iter().filter(|row| row.predicts);
                if let Some(n) = predicting.position(|row| row.place == place) {
                    let log_probs = &mut stream[0].log_probs;
                    let vocab = log_probs.len();
                    log_probs.copy_from_slice(&logits[n * vocab..][..vocab]);
                }
            });
        });
        rows.clear();
    }

    /// Scores windows as [`super::Gpt2`] does, in stream 0.
    fn score(
        &mut self,
        tokens: &[u32],
        stride: Option<usize>,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        self.allocate()?;
        let (context, vocab) = (self.config().context, self.config().vocab);
        let stride = stride.unwrap_or(context).clamp(1, context);
        let (mut done, n) = (0, tokens.len().saturating_sub(1));
        while done < n {
            let end = if done == 0 { context.min(n) } else { (done + stride).min(n) };
            let start = end.saturating_sub(context).min(done);
            self.reset(0);
            for first in (start..end).step_by(SCORE_CHUNK) {
                let last = (first + SCORE_CHUNK).min(end);
                let stream = &mut self.streams[0];
                for (i, &token) in (first..last).zip(&tokens[first..last]) {
                    let (position, predicts) = (stream.main.len(), i >= done);
                    stream.main.push(self.stamp);
                    self.stamp += 1;
                    self.rows.push(Row { place: 0, shadow: false, position, token, predicts });
                }
                let Gpt2Session { decoder, streams, rows, buffers, .. } = self;
                team(|| decoder.decode(streams, rows, buffers));
                let targets = &tokens[first.max(done).min(last) + 1..=last];
                let scores = buffers.logits.chunks_exact(vocab).zip(targets).map(|(row, &target)| {
                    let log_prob = row[target as usize];
                    TokenScore { log_prob, top1: row.iter().all(|&x| x <= log_prob) }
                });
                sink(&scores.collect::<Vec<_>>())?;
                rows.clear();
            }
            done = end;
        }
        Ok(())
    }
}

impl Decoder {
    /// Appends the rows to their caches and sets `b.logits` to the log-probabilities of those that predict.
    fn decode<T: Element>(&self, streams: &mut [Stream<T>], rows: &[Row], b: &mut Buffers) {
        let (model, n) = (&*self.model, rows.len());
        let Gpt2Config { width: c, vocab, .. } = model.config;
        let (weights, format, inner) = (&self.decoding.weights, self.decoding.format, model.config.inner());
        let (p, shape) = (&model.params.data[..], Shape::of(&model.config));
        b.resize(n, &model.config);
        let Buffers { x, y, qkv, attended, active, scores, inputs, logits } = b;
        let (wte, wpe) = (&p[model.token_embedding.clone()], &p[model.position_embedding.clone()]);
        for (x, row) in x.chunks_exact_mut(c).zip(rows) {
            x.copy_from_slice(&wte[row.token as usize * c..][..c]);
            add(x, &wpe[row.position * c..][..c]);
        }
        let biased = |sums: &mut [f32], bias: Option<&[f32]>, first: usize| {
            if let Some(bias) = bias {
                add(sums, &bias[first..][..sums.len()]);
            }
        };
        for (l, block) in model.blocks.iter().enumerate() {
            let [qkv_matrix, attention_matrix, up_matrix, down_matrix] =
                PARTS.map(|part| l * PARTS.len() + part as usize);
            let bias = PARTS.map(|part| part.of(block).bias.clone().map(|range| &p[range]));
            norm(&block.norm1, p, x, y);
            inputs.set(format, y, n, c);
            weights.multiply(qkv_matrix, inputs, qkv, |_, first, sums, y| {
                biased(sums, bias[0], first);
                y.copy_from_slice(sums);
            });
            Heads::of(&model.config, shape, l).attend(streams, rows, qkv, attended, scores);
            inputs.set(format, attended, n, c);
            weights.multiply(attention_matrix, inputs, x, |_, first, sums, x| {
                biased(sums, bias[1], first);
                add(x, sums);
            });
            norm(&block.norm2, p, x, y);
            inputs.set(format, y, n, c);
            weights.multiply(up_matrix, inputs, active, |_, first, sums, y| {
                biased(sums, bias[2], first);
                model.config.activation.forward(sums, y);
            });
            inputs.set(format, active, n, inner);
            weights.multiply(down_matrix, inputs, x, |_, first, sums, x| {
                biased(sums, bias[3], first);
                add(x, sums);
            });
        }
        // Only the rows that predict go on to the output layer.
        let mut predicting = 0;
        for i in (0..n).filter(|&i| rows[i].predicts) {
            x.copy_within(i * c..(i + 1) * c, predicting * c);
            predicting += 1;
        }
        logits.resize(predicting * vocab, 0.0);
        norm(&model.last_norm, p, &x[..predicting * c], &mut y[..predicting * c]);
        inputs.set(format, y, predicting, c);
        weights.multiply(model.blocks.len() * PARTS.len(), inputs, logits, |_, _, sums, y| y.copy_from_slice(sums));
        each(chunks_mut(logits, vocab), |_, row| log_softmax(row));
    }
}

/// Layer normalisation, a row a task.
fn norm(norm: &LayerNorm, p: &[f32], x: &[f32], y: &mut [f32]) {
    let (gain, bias) = (&p[norm.gain.clone()], &p[norm.bias.clone()]);
    let c = gain.len();
    each((chunks_mut(y, c), chunks(x, c)), |_, (y, x)| layer_norm(x, gain, bias, norm.epsilon, y));
}

impl Buffers {
    fn resize(&mut self, rows: usize, config: &Gpt2Config) {
        let c = config.width;
        for (buffer, width) in [
            (&mut self.x, c),
            (&mut self.y, c),
            (&mut self.qkv, 3 * c),
            (&mut self.attended, c),
            (&mut self.active, config.inner()),
        ] {
            buffer.resize(rows * width, 0.0);
        }
    }
}

impl<T: Element> Session for Gpt2Session<T> {
    fn streams(&self) -> usize {
        self.places.len()
    }

    fn stream_bytes(&self) -> u64 {
        let (shape, vocab) = (Shape::of(self.config()), self.config().vocab);
        (2 * shape.len() * size_of::<T>() + vocab * size_of::<f32>()) as u64
    }

    fn feed(&mut self, stream: usize, mut tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.config().vocab)?;
        self.allocate()?;
        let (place, context, delay) = (self.places.of(stream), self.config().context, self.delay());
        let start = &mut self.streams[place];
        let (before, total) = (start.main.len(), start.main.len() + tokens.len());
        // The text's beginning after the last token, as single steps would move it; what lies before is not read.
        let begins = total.saturating_sub(context).div_ceil(delay) * delay;
        if begins == delay && begins <= before {
            std::mem::swap(&mut start.main, &mut start.shadow);
            start.shadow.clear();
        } else if begins > 0 {
            start.main.clear();
            start.shadow.clear();
            tokens = &tokens[begins - before..];
        }
        for (i, part) in tokens.chunks(CHUNK).enumerate() {
            let last = (i + 1) * CHUNK >= tokens.len();
            for (j, &token) in part.iter().enumerate() {
                self.push(place, token, last && j + 1 == part.len());
            }
            self.run();
        }
        Ok(())
    }

    fn feed_together(&mut self, streams: &[usize], tokens: &[&[u32]]) -> Result<()> {
        tokens.iter().try_for_each(|tokens| check_tokens(tokens, self.config().vocab))?;
        self.allocate()?;
        let mut sliding = Vec::new();
        for (&stream, &part) in streams.iter().zip(tokens) {
            let place = self.places.of(stream);
            // A text that slides amid its tokens is read by itself.
            if part.len() > self.room(place) + 1 {
                sliding.push((stream, part));
                continue;
            }
            for (i, &token) in part.iter().enumerate() {
                self.push(place, token, i + 1 == part.len());
            }
        }
        self.run();
        sliding.into_iter().try_for_each(|(stream, part)| self.feed(stream, part))
    }

    fn step(&mut self, streams: &[usize], tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.config().vocab)?;
        self.allocate()?;
        for (&stream, &token) in streams.iter().zip(tokens) {
            self.push(self.places.of(stream), token, true);
        }
        self.run();
        Ok(())
    }

    fn log_probs(&self, stream: usize) -> &[f32] {
        self.streams.get(self.places.of(stream)).map_or(&[], |stream| &stream.log_probs)
    }

    fn room_ahead(&self, stream: usize) -> usize {
        self.room(self.places.of(stream))
    }

    fn cost_ahead(&self) -> f32 {
        self.cost()
    }

    fn step_ahead(&mut self, streams: &[usize], tokens: &[u32], drafts: &[&[u32]]) -> Result<()> {
        [tokens].iter().chain(drafts).try_for_each(|tokens| check_tokens(tokens, self.config().vocab))?;
        self.allocate()?;
        self.read_ahead(streams, tokens, drafts);
        Ok(())
    }

    fn log_probs_ahead(&self, stream: usize, n: usize) -> &[f32] {
        self.ahead(self.places.of(stream), n).unwrap_or(self.log_probs(stream))
    }

    fn keep(&mut self, stream: usize, n: usize) {
        self.keep_ahead(self.places.of(stream), n);
    }

    fn copy(&mut self, from: usize, to: usize) {
        copy(&mut self.streams, self.places.of(from), self.places.of(to));
    }

    fn select(&mut self, parents: &[usize]) {
        let streams = &mut self.streams;
        self.places.select(parents, |from, to| copy(streams, from, to));
    }

    fn reset(&mut self, stream: usize) {
        if let Some(stream) = self.streams.get_mut(self.places.of(stream)) {
            stream.main.clear();
            stream.shadow.clear();
        }
    }
}

fn copy<T: Element>(streams: &mut [Stream<T>], from: usize, to: usize) {
    if let Ok([from, to]) = streams.get_disjoint_mut([from, to]) {
        to.main.copy_from(&from.main);
        to.shadow.copy_from(&from.shadow);
        to.log_probs.copy_from_slice(&from.log_probs);
    }
}

#[cfg(test)]
mod tests;
