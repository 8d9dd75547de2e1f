//! Writing with a GPT-2: the keys and values of the past are kept, never computed again.
//!
//! The positional embedding is absolute, so a text longer than the context goes on from a later beginning, with other
//! positions and so other keys and values. They are computed ahead: each stream has a second cache, its *shadow*,
//! whose text begins `D = context − context / 2` tokens later. Every token that lies in both is fed to both, as one
//! more row of the same batch; when the main cache is full, the shadow takes its place. So no step takes longer than
//! another, and where the text begins depends on its length alone.

mod cache;

use std::sync::Arc;

use penwright_kernels::{Matrix, Output, add, dot, exp, matmul};
use rayon::prelude::*;

use super::lora::{LoraMemory, Part};
use super::{Gpt2, Gpt2Config};
use crate::Result;
use crate::model::decode::{PACKED, Places, check_memory, in_pool, linear, log_softmax_rows};
use crate::model::{Session, check_tokens};
use cache::{Cache, Shape};

/// Rows computed at once when a prompt is read.
const CHUNK: usize = 128;
/// Multiplications worth a task of their own.
const TASK: usize = 1 << 15;

/// One text being written.
struct Stream {
    main: Cache,
    shadow: Cache,
    log_probs: Vec<f32>,
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
    up: Vec<f32>,
    active: Vec<f32>,
    scores: Vec<f32>,
    scratch: Vec<f32>,
    lora: LoraMemory,
    logits: Vec<f32>,
}

pub(super) struct Gpt2Session {
    model: Arc<Gpt2>,
    places: Places,
    streams: Vec<Stream>,
    rows: Vec<Row>,
    buffers: Buffers,
    stamp: u64,
}

impl Gpt2Session {
    pub(super) fn new(model: Arc<Gpt2>, streams: usize) -> Self {
        let (places, streams) = (Places::new(streams), Vec::new());
        Gpt2Session { model, places, streams, rows: Vec::new(), buffers: Buffers::default(), stamp: 0 }
    }

    /// Memory for all streams, once, before the first token.
    fn allocate(&mut self) -> Result<()> {
        if self.streams.is_empty() {
            let (config, shape) = (&self.model.config, Shape::of(&self.model.config));
            check_memory([self.places.len(), 2 * shape.len() + config.vocab, 1])?;
            let stream =
                || Stream { main: Cache::new(shape), shadow: Cache::new(shape), log_probs: vec![0.0; config.vocab] };
            self.places.allocate();
            self.streams = (0..self.places.len()).map(|_| stream()).collect();
        }
        Ok(())
    }

    /// Tokens by which the shadow's text begins later.
    fn delay(&self) -> usize {
        self.model.config.context - self.model.config.context / 2
    }

    /// Adds a token's rows: one, or two where it lies in the shadow as well.
    fn push(&mut self, place: usize, token: u32, predicts: bool) {
        let (delay, stream) = (self.delay(), &mut self.streams[place]);
        if stream.main.len() == self.model.config.context {
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

    /// Computes the rows.
    fn run(&mut self, packed: bool) {
        let Gpt2Session { model, streams, rows, buffers, .. } = self;
        model.decode(streams, rows, buffers, packed);
        rows.clear();
    }
}

impl Gpt2 {
    /// Appends the rows to their caches and sets the log-probabilities of the streams that want them. `packed`: a
    /// prompt, whose products go through `matmul`; else each row is computed as if it were alone.
    fn decode(&self, streams: &mut [Stream], rows: &[Row], b: &mut Buffers, packed: bool) {
        let Gpt2Config { width: c, vocab, .. } = self.config;
        let (p, n) = (&self.params.data[..], rows.len());
        b.resize(n, &self.config);
        let Buffers { x, y, qkv, attended, up, active, scores, scratch, lora, logits } = b;
        let (wte, wpe) = (&p[self.token_embedding.clone()], &p[self.position_embedding.clone()]);
        for (x, row) in x.chunks_exact_mut(c).zip(rows) {
            x.copy_from_slice(&wte[row.token as usize * c..][..c]);
            add(x, &wpe[row.position * c..][..c]);
        }
        let mut product = |layer: usize, part: Part, x: &[f32], y: &mut [f32]| match packed {
            true => {
                let output = Output::Rounded { c: y, bias: self.bias((layer, part)) };
                self.linear::<f32>((layer, part), x, output, n, lora);
            }
            false => self.linear_alone((layer, part), x, y, n, scratch, lora),
        };
        for (l, block) in self.blocks.iter().enumerate() {
            block.norm1.forward(p, x, y);
            product(l, Part::Qkv, y, qkv);
            for (qkv, row) in qkv.chunks_exact(3 * c).zip(rows) {
                cache_of(&mut streams[row.place], row).store(l, row.position, &qkv[c..2 * c], &qkv[2 * c..]);
            }
            if packed {
                self.attend_together(l, streams, rows, qkv, attended, scores);
            } else {
                self.attend_alone(l, streams, rows, qkv, attended, scores);
            }
            product(l, Part::AttentionOut, attended, y);
            add(x, y);
            block.norm2.forward(p, x, y);
            product(l, Part::Up, y, up);
            self.config.activation.forward(up, active);
            product(l, Part::Down, active, y);
            add(x, y);
        }
        // Only the rows that predict go on to the output layer.
        let mut predicting = 0;
        for i in (0..n).filter(|&i| rows[i].predicts) {
            x.copy_within(i * c..(i + 1) * c, predicting * c);
            predicting += 1;
        }
        if predicting > 0 {
            logits.resize(predicting * vocab, 0.0);
            self.last_norm.forward(p, &x[..predicting * c], &mut y[..predicting * c]);
            linear(&self.head, p, y, logits, predicting, scratch);
            log_softmax_rows(logits, vocab);
            for (row, logits) in rows.iter().filter(|row| row.predicts).zip(logits.chunks_exact(vocab)) {
                streams[row.place].log_probs.copy_from_slice(logits);
            }
        }
    }

    /// Attention of single rows, each over its own cache up to its position.
    fn attend_alone(
        &self,
        layer: usize,
        streams: &[Stream],
        rows: &[Row],
        qkv: &[f32],
        attended: &mut [f32],
        scores: &mut [f32],
    ) {
        let Gpt2Config { width: c, heads, context, .. } = self.config;
        let (d, scale) = (c / heads, self.config.attention_scale(layer));
        let longest = rows.iter().map(|row| row.position + 1).max().unwrap_or(1);
        let tasks = attended.par_chunks_mut(d).zip(scores.par_chunks_mut(context));
        tasks.with_min_len((TASK / (2 * d * longest)).max(1)).enumerate().for_each(|(i, (out, scores))| {
            let (row, head) = (&rows[i / heads], i % heads);
            let cache = if row.shadow { &streams[row.place].shadow } else { &streams[row.place].main };
            let (keys, values) = cache.head(layer, head, row.position + 1);
            let q = &qkv[i / heads * 3 * c + head * d..][..d];
            let scores = &mut scores[..=row.position];
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(d)) {
                *score = scale * dot(q, key);
            }
            let sum = exponentials(scores);
            out.fill(0.0);
            for (score, value) in scores.iter().zip(values.chunks_exact(d)) {
                out.iter_mut().zip(value).for_each(|(o, v)| *o += score * v);
            }
            out.iter_mut().for_each(|o| *o /= sum);
        });
    }

    /// Attention of the many rows of a prompt, which continue one cache or two: products of whole matrices.
    fn attend_together(
        &self,
        layer: usize,
        streams: &[Stream],
        rows: &[Row],
        qkv: &[f32],
        attended: &mut [f32],
        scores: &mut Vec<f32>,
    ) {
        let Gpt2Config { width: c, heads, .. } = self.config;
        let (d, scale) = (c / heads, self.config.attention_scale(layer));
        let mut begin = 0;
        for rows in rows.chunk_by(|a, b| a.shadow == b.shadow) {
            let (n, first) = (rows.len(), rows[0].position);
            let cache = if rows[0].shadow { &streams[rows[0].place].shadow } else { &streams[rows[0].place].main };
            let (end, qkv) = (first + n, &qkv[begin * 3 * c..]);
            // Per head: scores [n, end], then the weighted values [n, d].
            scores.resize(scores.len().max(heads * n * (end + d)), 0.0);
            scores.par_chunks_mut(n * (end + d)).take(heads).enumerate().for_each(|(head, part)| {
                let (scores, out) = part.split_at_mut(n * end);
                let (keys, values) = cache.head(layer, head, end);
                let queries = Matrix::strided(&qkv[head * d..], n, d, 3 * c);
                matmul(scores, false, queries, Matrix::new(keys, end, d).t());
                for (i, scores) in scores.chunks_exact_mut(end).enumerate() {
                    let (past, future) = scores.split_at_mut(first + i + 1);
                    past.iter_mut().for_each(|score| *score *= scale);
                    let sum = exponentials(past);
                    past.iter_mut().for_each(|score| *score /= sum);
                    future.fill(0.0);
                }
                matmul(out, false, Matrix::new(scores, n, end), Matrix::new(values, end, d));
            });
            for (i, out) in attended[begin * c..][..n * c].chunks_exact_mut(c).enumerate() {
                for (head, out) in out.chunks_exact_mut(d).enumerate() {
                    out.copy_from_slice(&scores[head * n * (end + d) + n * end + i * d..][..d]);
                }
            }
            begin += n;
        }
    }
}

fn cache_of<'a>(stream: &'a mut Stream, row: &Row) -> &'a mut Cache {
    if row.shadow { &mut stream.shadow } else { &mut stream.main }
}

/// Replaces scores by `exp(score − max)` and returns their sum.
fn exponentials(scores: &mut [f32]) -> f32 {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = exp(*score - max));
    scores.iter().sum()
}

impl Buffers {
    fn resize(&mut self, rows: usize, config: &Gpt2Config) {
        let c = config.width;
        for (buffer, width) in [
            (&mut self.x, c),
            (&mut self.y, c),
            (&mut self.qkv, 3 * c),
            (&mut self.attended, c),
            (&mut self.up, config.inner()),
            (&mut self.active, config.inner()),
            (&mut self.scores, config.heads * config.context),
        ] {
            buffer.resize(rows * width, 0.0);
        }
    }
}

impl Session for Gpt2Session {
    fn streams(&self) -> usize {
        self.places.len()
    }

    fn feed(&mut self, stream: usize, mut tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.model.config.vocab)?;
        self.allocate()?;
        let (place, context, delay) = (self.places.of(stream), self.model.config.context, self.delay());
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
        let packed = tokens.len() >= PACKED;
        for (i, part) in tokens.chunks(CHUNK).enumerate() {
            let last = (i + 1) * CHUNK >= tokens.len();
            for (j, &token) in part.iter().enumerate() {
                self.push(place, token, last && j + 1 == part.len());
            }
            self.rows.sort_by_key(|row| row.shadow); // stable: each cache's rows together, in order
            in_pool(|| self.run(packed));
        }
        Ok(())
    }

    fn step(&mut self, streams: &[usize], tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.model.config.vocab)?;
        self.allocate()?;
        for (&stream, &token) in streams.iter().zip(tokens) {
            self.push(self.places.of(stream), token, true);
        }
        in_pool(|| self.run(false));
        Ok(())
    }

    fn log_probs(&self, stream: usize) -> &[f32] {
        self.streams.get(self.places.of(stream)).map_or(&[], |stream| &stream.log_probs)
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

fn copy(streams: &mut [Stream], from: usize, to: usize) {
    if let Ok([from, to]) = streams.get_disjoint_mut([from, to]) {
        to.main.copy_from(&from.main);
        to.shadow.copy_from(&from.shadow);
        to.log_probs.copy_from_slice(&from.log_probs);
    }
}

#[cfg(test)]
mod tests;
