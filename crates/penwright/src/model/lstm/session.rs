//! Writing with an LSTM: the recurrent state is all of the past.
//!
//! A layer is one product: its input and hidden state side by side, times a matrix whose outputs are ordered so that
//! the task which has the sums of some units' gates computes their cells as well.

mod ahead;

use std::sync::{Arc, OnceLock};

use penwright_kernels::decode::{Format, Inputs, Shape, Source, UNITS, Weights, gate_at, lstm_units};
use penwright_kernels::{add, sigmoid, team};

use super::{Layer, Lstm};
use crate::Result;
use crate::model::decode::{DecodePrecision, Places, check_memory, hold, log_softmax_rows};
use crate::model::{LanguageModel, ModelKind, Session, TokenScore, check_tokens};

/// The matrices of a model: those of the layers, then the output layer, then the Mogrifier's rounds; and the layers'
/// biases.
#[derive(Debug)]
struct Decoding {
    weights: Weights,
    format: Format,
    biases: Vec<Vec<f32>>,
}

/// Outputs of a layer's matrix: four gates of each unit, in whole groups.
fn gates(layer: &Layer) -> usize {
    4 * layer.hidden.next_multiple_of(UNITS)
}

impl Decoding {
    fn of(model: &Lstm, precision: DecodePrecision) -> Result<Self> {
        let (format, p) = (precision.format(model.params.count()), &model.params.data);
        let shape = |layer: &Layer| Shape { format, inputs: layer.input.inputs + layer.hidden, outputs: gates(layer) };
        let head = Shape { format, inputs: model.head.inputs, outputs: model.head.outputs };
        let rounds = || model.layers.iter().flat_map(|layer| &layer.rounds);
        let of_rounds = rounds().map(|round| Shape { format, inputs: round.inputs, outputs: round.outputs });
        let mut weights = hold(model.layers.iter().map(shape).chain([head]).chain(of_rounds).collect())?;
        let mut biases = Vec::new();
        for (l, layer) in model.layers.iter().enumerate() {
            let (h, inputs) = (layer.hidden, layer.input.inputs);
            let (w, recurrent) = (&p[layer.input.weight.clone()], &p[layer.recurrent.clone()]);
            let (mut both, mut bias) = (vec![0.0; gates(layer) * (inputs + h)], vec![0.0; gates(layer)]);
            for row in 0..4 * h {
                let at = gate_at(row % h, row / h);
                let (x, hidden) = both[at * (inputs + h)..][..inputs + h].split_at_mut(inputs);
                x.copy_from_slice(&w[row * inputs..][..inputs]);
                hidden.copy_from_slice(&recurrent[row * h..][..h]);
                bias[at] =
                    layer.input.bias.clone().map_or(0.0, |range| p[range][row]) + p[layer.recurrent_bias.clone()][row];
            }
            team(|| weights.set(l, Source::OutIn(&both)));
            biases.push(bias);
        }
        team(|| weights.set(model.layers.len(), Source::OutIn(&p[model.head.weight.clone()])));
        let mut memory = Vec::new();
        for (j, round) in rounds().enumerate() {
            let place = model.layers.len() + 1 + j;
            team(|| weights.set(place, Source::OutIn(round.matrix(p, &mut memory))));
        }
        Ok(Decoding { weights, format, biases })
    }
}

/// The weights of a model's own sessions, made when the first begins. A copy begins without.
#[derive(Debug, Default)]
pub(super) struct OwnDecoding(OnceLock<Arc<Decoding>>);

impl Clone for OwnDecoding {
    fn clone(&self) -> Self {
        OwnDecoding::default()
    }
}

/// A model and its weights for decoding.
struct Decoder {
    model: Arc<Lstm>,
    decoding: Arc<Decoding>,
}

impl Lstm {
    /// A session in [`DecodePrecision::Auto`]; all that a model has share the weights.
    pub(super) fn own_session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>> {
        let decoding = match self.own.0.get() {
            Some(decoding) => decoding.clone(),
            None => {
                let made = Arc::new(Decoding::of(&self, DecodePrecision::Auto)?);
                self.own.0.get_or_init(|| made).clone()
            }
        };
        Arc::new(Decoder { model: self, decoding }).session(streams)
    }

    /// The model with its weights in a precision.
    pub(super) fn decoder(self: Arc<Self>, precision: DecodePrecision) -> Result<Arc<dyn LanguageModel>> {
        let decoding = Arc::new(Decoding::of(&self, precision)?);
        Ok(Arc::new(Decoder { model: self, decoding }))
    }
}

impl LanguageModel for Decoder {
    fn kind(&self) -> ModelKind {
        ModelKind::Lstm
    }

    fn vocab_size(&self) -> usize {
        self.model.config.vocab
    }

    fn context(&self) -> Option<usize> {
        None
    }

    fn num_params(&self) -> u64 {
        self.model.num_params()
    }

    fn as_lstm(&self) -> Option<&Lstm> {
        Some(&self.model)
    }

    fn session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(LstmSession::new(self, streams)))
    }

    fn with_precision(self: Arc<Self>, precision: DecodePrecision) -> Result<Arc<dyn LanguageModel>> {
        self.model.clone().decoder(precision)
    }

    fn score(
        &self,
        tokens: &[u32],
        _stride: Option<usize>,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        const PART: usize = 1024;
        let decoder = Decoder { model: self.model.clone(), decoding: self.decoding.clone() };
        let mut session = LstmSession::new(Arc::new(decoder), 1);
        check_tokens(tokens, self.model.config.vocab)?;
        session.allocate()?;
        let Some((_, targets)) = tokens.split_first() else { return Ok(()) };
        for (tokens, targets) in tokens.chunks(PART).zip(targets.chunks(PART)) {
            let scores = team(|| {
                let score = |(token, target): (&u32, &u32)| {
                    session.decoder.step(&mut session.streams, &[0], &[*token], &mut session.buffers, true);
                    let row = &session.streams[0].log_probs;
                    let log_prob = row[*target as usize];
                    TokenScore { log_prob, top1: row.iter().all(|&x| x <= log_prob) }
                };
                tokens.iter().zip(targets).map(score).collect::<Vec<_>>()
            });
            sink(&scores)?;
        }
        Ok(())
    }
}

/// The state of one text: each layer's hidden state, one after another, and so the cells, filled up to whole groups.
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
    h: Vec<f32>,
    /// Of a Mogrifier's round.
    gates: Vec<f32>,
    /// The input beside the hidden state, and the cells before.
    both: Vec<f32>,
    cell: Vec<f32>,
    /// What `lstm_units` gives.
    units: Vec<f32>,
    inputs: Inputs,
    logits: Vec<f32>,
}

struct LstmSession {
    decoder: Arc<Decoder>,
    places: Places,
    streams: Vec<Stream>,
    /// The places of the streams of a step.
    rows: Vec<usize>,
    buffers: Buffers,
    /// What each stream has read ahead: states from a place on, behind those of the streams, and their number.
    ahead: Vec<(usize, usize)>,
}

impl LstmSession {
    fn new(decoder: Arc<Decoder>, streams: usize) -> Self {
        let places = Places::new(streams);
        let (rows, buffers, ahead) = (Vec::new(), Buffers::default(), Vec::new());
        LstmSession { decoder, places, streams: Vec::new(), rows, buffers, ahead }
    }

    /// Cells of all layers.
    fn state(&self) -> usize {
        self.decoder.model.layers.iter().map(|layer| gates(layer) / 4).sum()
    }

    /// Memory for all streams, once, before the first token.
    fn allocate(&mut self) -> Result<()> {
        if self.streams.is_empty() {
            let (state, vocab) = (self.state(), self.decoder.model.config.vocab);
            check_memory(self.places.len(), self.stream_bytes())?;
            self.places.allocate();
            let (hidden, cell) = (vec![0.0; state], vec![0.0; state]);
            self.ahead = vec![(0, 0); self.places.len()];
            self.streams = vec![Stream { hidden, cell, log_probs: vec![0.0; vocab] }; self.places.len()];
        }
        Ok(())
    }
}

impl Decoder {
    /// One token for each of the streams at the places `rows`; `predicts`: and the log-probabilities after it.
    fn step(&self, streams: &mut [Stream], rows: &[usize], tokens: &[u32], b: &mut Buffers, predicts: bool) {
        let Decoding { weights, format, biases } = &*self.decoding;
        let (p, n, e) = (&self.model.params.data[..], rows.len(), self.model.config.embed);
        let table = &p[self.model.embedding.clone()];
        b.x.clear();
        for &token in tokens {
            b.x.extend_from_slice(&table[token as usize * e..][..e]);
        }
        let mut first = 0;
        let mut rounds = self.model.layers.len() + 1;
        for (l, layer) in self.model.layers.iter().enumerate() {
            let (h, inputs, states) = (layer.hidden, layer.input.inputs, gates(layer) / 4);
            b.h.clear();
            b.cell.clear();
            for &row in rows {
                b.h.extend_from_slice(&streams[row].hidden[first..][..h]);
                b.cell.extend_from_slice(&streams[row].cell[first..][..states]);
            }
            self.mogrify(layer, rounds, n, b);
            rounds += layer.rounds.len();
            b.both.clear();
            for (x, h) in b.x.chunks_exact(inputs).zip(b.h.chunks_exact(h)) {
                b.both.extend_from_slice(x);
                b.both.extend_from_slice(h);
            }
            b.inputs.set(*format, &b.both, n, inputs + h);
            b.units.resize(n * 4 * states, 0.0);
            let (bias, cell) = (&biases[l], &b.cell);
            weights.multiply(l, &b.inputs, &mut b.units, |row, at, sums, y| {
                lstm_units(sums, &bias[at..], &cell[row * states + at / 4..], y);
            });
            b.x.clear();
            for (i, &row) in rows.iter().enumerate() {
                let stream = &mut streams[row];
                let states = stream.hidden[first..][..states].as_chunks_mut::<UNITS>().0.iter_mut();
                let states = states.zip(stream.cell[first..].as_chunks_mut::<UNITS>().0);
                let units = b.units[i * gates(layer)..].chunks_exact(4 * UNITS);
                for ((hidden, cell), units) in states.zip(units) {
                    hidden.copy_from_slice(&units[..UNITS]);
                    cell.copy_from_slice(&units[UNITS..2 * UNITS]);
                }
                b.x.extend_from_slice(&stream.hidden[first..][..h]);
            }
            first += states;
        }
        if predicts {
            self.predict(streams, rows, b);
        }
    }

    /// The rounds of a layer on its inputs `b.x` and hidden states `b.h`; their matrices are those from `matrix` on.
    fn mogrify(&self, layer: &Layer, matrix: usize, rows: usize, b: &mut Buffers) {
        let Decoding { weights, format, .. } = &*self.decoding;
        for (j, round) in layer.rounds.iter().enumerate() {
            let (gated, by) = if j.is_multiple_of(2) { (&mut b.x, &b.h) } else { (&mut b.h, &b.x) };
            b.inputs.set(*format, by, rows, round.inputs);
            b.gates.resize(rows * round.outputs, 0.0);
            weights.multiply(matrix + j, &b.inputs, &mut b.gates, |_, _, sums, y| y.copy_from_slice(sums));
            gated.iter_mut().zip(&b.gates).for_each(|(x, gate)| *x *= 2.0 * sigmoid(*gate));
        }
    }

    /// From the last layer's hidden states, in `b.x`, to the log-probabilities of the streams at the places `rows`.
    fn predict(&self, streams: &mut [Stream], rows: &[usize], b: &mut Buffers) {
        let (model, vocab) = (&*self.model, self.model.config.vocab);
        let bias = model.head.bias.clone().map(|range| &model.params.data[range]);
        b.logits.resize(rows.len() * vocab, 0.0);
        b.inputs.set(self.decoding.format, &b.x, rows.len(), model.head.inputs);
        self.decoding.weights.multiply(model.layers.len(), &b.inputs, &mut b.logits, |_, first, sums, y| {
            if let Some(bias) = bias {
                add(sums, &bias[first..][..sums.len()]);
            }
            y.copy_from_slice(sums);
        });
        log_softmax_rows(&mut b.logits, vocab);
        for (&row, logits) in rows.iter().zip(b.logits.chunks_exact(vocab)) {
            streams[row].log_probs.copy_from_slice(logits);
        }
    }
}

impl Session for LstmSession {
    fn streams(&self) -> usize {
        self.places.len()
    }

    fn stream_bytes(&self) -> u64 {
        ((2 * self.state() + self.decoder.model.config.vocab) * size_of::<f32>()) as u64
    }

    fn feed(&mut self, stream: usize, tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.decoder.model.config.vocab)?;
        self.allocate()?;
        let LstmSession { decoder, streams, buffers, .. } = self;
        let row = self.places.of(stream);
        team(|| {
            for (i, &token) in tokens.iter().enumerate() {
                decoder.step(streams, &[row], &[token], buffers, i + 1 == tokens.len());
            }
        });
        Ok(())
    }

    fn feed_together(&mut self, streams: &[usize], tokens: &[&[u32]]) -> Result<()> {
        tokens.iter().try_for_each(|tokens| check_tokens(tokens, self.decoder.model.config.vocab))?;
        self.allocate()?;
        let LstmSession { decoder, places, streams: states, rows, buffers, .. } = self;
        let longest = tokens.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let mut read = Vec::with_capacity(streams.len());
        team(|| {
            for n in 0..longest {
                rows.clear();
                read.clear();
                let mut predicts = false;
                for (&stream, part) in streams.iter().zip(tokens).filter(|(_, part)| n < part.len()) {
                    rows.push(places.of(stream));
                    read.push(part[n]);
                    predicts |= n + 1 == part.len();
                }
                decoder.step(states, rows, &read, buffers, predicts);
            }
        });
        Ok(())
    }

    fn step(&mut self, streams: &[usize], tokens: &[u32]) -> Result<()> {
        check_tokens(tokens, self.decoder.model.config.vocab)?;
        self.allocate()?;
        self.rows.clear();
        self.rows.extend(streams.iter().map(|&stream| self.places.of(stream)));
        let LstmSession { decoder, streams, rows, buffers, .. } = self;
        team(|| decoder.step(streams, rows, tokens, buffers, true));
        Ok(())
    }

    fn log_probs(&self, stream: usize) -> &[f32] {
        self.streams.get(self.places.of(stream)).map_or(&[], |stream| &stream.log_probs)
    }

    fn room_ahead(&self, _: usize) -> usize {
        usize::MAX
    }

    fn cost_ahead(&self) -> f32 {
        self.cost()
    }

    fn step_ahead(&mut self, streams: &[usize], tokens: &[u32], drafts: &[&[u32]]) -> Result<()> {
        [tokens].iter().chain(drafts).try_for_each(|tokens| check_tokens(tokens, self.decoder.model.config.vocab))?;
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
mod tests;
