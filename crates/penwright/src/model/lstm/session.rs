//! Writing with an LSTM: the recurrent state is all of the past.

use std::sync::Arc;

use super::{Layer, Lstm};
use crate::Result;
use crate::layers::{Linear, lstm_cell};
use crate::model::decode::{PACKED, Places, check_memory, in_pool, linear, log_softmax_rows};
use crate::model::{Session, check_tokens};

/// Tokens of a prompt whose input products are computed at once.
const CHUNK: usize = 256;

/// The state of one text: each layer's hidden state, one after another, and so the cells.
#[derive(Clone)]
struct Stream {
    hidden: Vec<f32>,
    cell: Vec<f32>,
    log_probs: Vec<f32>,
}

/// What a step computes, `[rows, …]`; kept, so that a step allocates nothing.
#[derive(Default)]
struct Buffers {
    x: Vec<f32>,
    /// The layer's input sums, then its gates.
    gates: Vec<f32>,
    recurrent: Vec<f32>,
    hidden: Vec<f32>,
    cell: Vec<f32>,
    new_cell: Vec<f32>,
    logits: Vec<f32>,
    scratch: Vec<f32>,
}

pub(super) struct LstmSession {
    model: Arc<Lstm>,
    places: Places,
    streams: Vec<Stream>,
    /// The places of the streams of a step.
    rows: Vec<usize>,
    buffers: Buffers,
}

impl LstmSession {
    pub(super) fn new(model: Arc<Lstm>, streams: usize) -> Self {
        let places = Places::new(streams);
        LstmSession { model, places, streams: Vec::new(), rows: Vec::new(), buffers: Buffers::default() }
    }

    /// Memory for all streams, once, before the first token.
    fn allocate(&mut self) -> Result<()> {
        if self.streams.is_empty() {
            let (state, vocab) = (self.model.layers.iter().map(|l| l.hidden).sum(), self.model.config.vocab);
            check_memory([self.places.len(), 2 * state + vocab, 1])?;
            self.places.allocate();
            let (hidden, cell) = (vec![0.0; state], vec![0.0; state]);
            self.streams = vec![Stream { hidden, cell, log_probs: vec![0.0; vocab] }; self.places.len()];
        }
        Ok(())
    }
}

impl Lstm {
    fn look_up(&self, tokens: &[u32], x: &mut Vec<f32>) {
        let (table, e) = (&self.params.data[self.embedding.clone()], self.config.embed);
        x.clear();
        for &token in tokens {
            x.extend_from_slice(&table[token as usize * e..][..e]);
        }
    }

    /// The recurrent weight, `[4H, H]`, as a linear layer.
    fn recurrence(layer: &Layer) -> Linear {
        let (weight, bias) = (layer.recurrent.clone(), Some(layer.recurrent_bias.clone()));
        Linear { weight, bias, inputs: layer.hidden, outputs: 4 * layer.hidden, layout: layer.input.layout }
    }

    /// One token for each of the streams at the places `rows`.
    fn step(&self, streams: &mut [Stream], rows: &[usize], tokens: &[u32], b: &mut Buffers) {
        let (p, n) = (&self.params.data[..], rows.len());
        self.look_up(tokens, &mut b.x);
        let mut first = 0;
        for layer in &self.layers {
            let h = layer.hidden;
            b.gates.resize(n * 4 * h, 0.0);
            linear(&layer.input, p, &b.x, &mut b.gates, n, &mut b.scratch);
            b.hidden.clear();
            b.cell.clear();
            for &row in rows {
                b.hidden.extend_from_slice(&streams[row].hidden[first..][..h]);
                b.cell.extend_from_slice(&streams[row].cell[first..][..h]);
            }
            self.recur(layer, b, 0, n);
            b.x.clear();
            b.x.extend_from_slice(&b.hidden);
            for (i, &row) in rows.iter().enumerate() {
                streams[row].hidden[first..][..h].copy_from_slice(&b.hidden[i * h..][..h]);
                streams[row].cell[first..][..h].copy_from_slice(&b.new_cell[i * h..][..h]);
            }
            first += h;
        }
        self.predict(streams, rows, b);
    }

    /// `a += W_hh h + b_hh` and the cell, on the gates of `n` rows beginning at `first`: `hidden` becomes the new
    /// hidden state, `new_cell` the new cell.
    fn recur(&self, layer: &Layer, b: &mut Buffers, first: usize, n: usize) {
        let h = layer.hidden;
        b.recurrent.resize(n * 4 * h, 0.0);
        b.new_cell.resize(n * h, 0.0);
        let weight = Lstm::recurrence(layer);
        linear(&weight, &self.params.data, &b.hidden, &mut b.recurrent, n, &mut b.scratch);
        let gates = &mut b.gates[first * 4 * h..][..n * 4 * h];
        gates.iter_mut().zip(&b.recurrent).for_each(|(a, r)| *a += r);
        lstm_cell(gates, &b.cell, &mut b.new_cell, &mut b.hidden, h);
    }

    /// From the last layer's hidden states, in `b.x`, to the log-probabilities of the streams at the places `rows`.
    fn predict(&self, streams: &mut [Stream], rows: &[usize], b: &mut Buffers) {
        let vocab = self.config.vocab;
        b.logits.resize(rows.len() * vocab, 0.0);
        linear(&self.head, &self.params.data, &b.x, &mut b.logits, rows.len(), &mut b.scratch);
        log_softmax_rows(&mut b.logits, vocab);
        for (&row, logits) in rows.iter().zip(b.logits.chunks_exact(vocab)) {
            streams[row].log_probs.copy_from_slice(logits);
        }
    }

    /// Many tokens of the stream at the place `row`: the input products of all of them at once.
    fn read(&self, streams: &mut [Stream], row: usize, tokens: &[u32], b: &mut Buffers) {
        let (p, n) = (&self.params.data[..], tokens.len());
        self.look_up(tokens, &mut b.x);
        let mut first = 0;
        for layer in &self.layers {
            let h = layer.hidden;
            b.gates.resize(n * 4 * h, 0.0);
            layer.input.forward(p, &b.x, &mut b.gates, n);
            b.hidden.clear();
            b.cell.clear();
            b.x.clear();
            b.hidden.extend_from_slice(&streams[row].hidden[first..][..h]);
            b.cell.extend_from_slice(&streams[row].cell[first..][..h]);
            for t in 0..n {
                self.recur(layer, b, t, 1);
                std::mem::swap(&mut b.cell, &mut b.new_cell);
                b.x.extend_from_slice(&b.hidden);
            }
            streams[row].hidden[first..][..h].copy_from_slice(&b.hidden);
            streams[row].cell[first..][..h].copy_from_slice(&b.cell);
            first += h;
        }
        b.x.drain(..(n - 1) * self.head.inputs);
        self.predict(streams, &[row], b);
    }
}

impl Session for LstmSession {
    fn streams(&self) -> usize {
        self.places.len()
    }

    fn feed(&mut self, stream: usize, tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.model.config.vocab)?;
        self.allocate()?;
        let LstmSession { model, streams, buffers, .. } = self;
        let row = self.places.of(stream);
        in_pool(|| {
            if tokens.len() >= PACKED {
                tokens.chunks(CHUNK).for_each(|tokens| model.read(streams, row, tokens, buffers));
            } else {
                tokens.iter().for_each(|&token| model.step(streams, &[row], &[token], buffers));
            }
        });
        Ok(())
    }

    fn step(&mut self, streams: &[usize], tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.model.config.vocab)?;
        self.allocate()?;
        self.rows.clear();
        self.rows.extend(streams.iter().map(|&stream| self.places.of(stream)));
        let LstmSession { model, streams, rows, buffers, .. } = self;
        in_pool(|| model.step(streams, rows, tokens, buffers));
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
            stream.hidden.fill(0.0);
            stream.cell.fill(0.0);
        }
    }
}

fn copy(streams: &mut [Stream], from: usize, to: usize) {
    if let Ok([from, to]) = streams.get_disjoint_mut([from, to]) {
        to.hidden.copy_from_slice(&from.hidden);
        to.cell.copy_from_slice(&from.cell);
        to.log_probs.copy_from_slice(&from.log_probs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LanguageModel, LstmConfig};

    fn token(i: usize) -> u32 {
        (i * i % 7 + i % 5) as u32
    }

    fn alone(model: &Arc<Lstm>, text: &[u32]) -> Vec<f32> {
        let mut session = model.clone().session(1).unwrap();
        text.iter().for_each(|&t| session.step(&[0], &[t]).unwrap());
        session.log_probs(0).to_vec()
    }

    #[test]
    fn neither_other_streams_nor_copies_change_a_bit() {
        for tied in [false, true] {
            let model =
                Arc::new(Lstm::new(LstmConfig { vocab: 11, embed: 9, hidden: 14, layers: 2, tied }, 4).unwrap());
            let mut session = model.clone().session(4).unwrap();
            let mut texts: Vec<Vec<u32>> = vec![vec![1]; 4];
            session.feed(0, &[1]).unwrap();
            (1..4).for_each(|to| session.copy(0, to));
            for round in 0..20 {
                if round % 5 == 4 {
                    let parents = [[3, 1, 1, 0], [0, 0, 0, 0], [2, 1, 0, 3]][round / 5 % 3];
                    session.select(&parents);
                    texts = parents.iter().map(|&p| texts[p].clone()).collect();
                }
                let active: Vec<usize> = (0..4).filter(|s| (round + s) % 3 > 0).collect();
                let tokens: Vec<u32> = active.iter().map(|s| token(round + 2 * s)).collect();
                session.step(&active, &tokens).unwrap();
                active.iter().zip(&tokens).for_each(|(&s, &t)| texts[s].push(t));
                for (s, text) in texts.iter().enumerate() {
                    assert_eq!(session.log_probs(s), alone(&model, text), "round {round}, stream {s}");
                }
            }
        }
    }

    #[test]
    fn prompts_equal_single_steps() {
        let model =
            Arc::new(Lstm::new(LstmConfig { vocab: 11, embed: 9, hidden: 14, layers: 2, tied: true }, 4).unwrap());
        let mut session = model.clone().session(2).unwrap();
        let mut text = Vec::new();
        for n in [3, 300, 9, 1] {
            let part: Vec<u32> = (0..n).map(|i| token(i + text.len())).collect();
            session.feed(1, &part).unwrap();
            text.extend(part);
            let expected = alone(&model, &text);
            assert!(session.log_probs(1).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4));
        }
        session.reset(1);
        session.feed(1, &[5, 6]).unwrap();
        assert_eq!(session.log_probs(1), alone(&model, &[5, 6]));
    }
}
