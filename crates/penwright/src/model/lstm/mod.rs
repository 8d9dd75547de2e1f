//! An LSTM language model: embedding, stacked LSTM layers, output layer. Tensors are named as
//! `torch.nn.Embedding`, `torch.nn.LSTM` and `torch.nn.Linear` name them.

mod adaptation;
mod inputs;
mod neural_cache;
mod pass;
mod regularization;
mod session;
mod validation;

use std::ops::Range;
use std::sync::Arc;

use penwright_kernels::{Bf16, Factor, team};
use serde::{Deserialize, Serialize};

use super::{
    Adaptation, DecodePrecision, LanguageModel, Memory, ModelKind, Params, Precision, Session, TokenScore, Trainable,
    check_tokens, scores_of,
};
use crate::layers::{Dropout, Layout, Linear, LstmLayer as Layer, Round};
use crate::{Error, Result};
use pass::Saved;
pub use regularization::Regularization;
use session::OwnDecoding;

/// Bias of a new model's forget gates: it begins by remembering (Jozefowicz, Zaremba and Sutskever 2015).
pub const FORGET_BIAS: f32 = 1.0;

/// Rows of logits at once where a text is scored.
const WINDOW: usize = 1024;

/// The shape of an LSTM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LstmConfig {
    /// Number of token ids, V.
    pub vocab: usize,
    /// Width of the embedding, E.
    pub embed: usize,
    /// Width of hidden and cell state, H.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Whether the output layer uses the embedding (Press and Wolf 2017; Inan et al. 2017); the last layer is then
    /// as wide as the embedding.
    #[serde(default)]
    pub tied: bool,
    /// Rounds in which a layer's input and hidden state gate each other before the cell (the Mogrifier; Melis, Kočiský
    /// and Blunsom 2020); 0 for a plain LSTM.
    #[serde(default)]
    pub mogrifier: usize,
    /// Rank of the rounds' matrices, each then the product of two; 0 for whole matrices.
    #[serde(default)]
    pub mogrifier_rank: usize,
}

impl LstmConfig {
    /// The most rounds of the Mogrifier; the paper finds five to be enough.
    pub const MOST_ROUNDS: usize = 16;

    /// # Errors
    /// When the shape is impossible.
    pub(crate) fn check(&self) -> Result<()> {
        let LstmConfig { layers, embed, hidden: width, .. } = *self;
        for (name, value) in [("layers", layers), ("width", width), ("embed", embed)] {
            if value == 0 {
                return Err(Error::setting(name, "must be at least 1"));
            }
        }
        if self.mogrifier > Self::MOST_ROUNDS {
            let problem = format!("{} rounds are more than {}", self.mogrifier, Self::MOST_ROUNDS);
            return Err(Error::setting("mogrifier", problem));
        }
        if self.mogrifier == 0 && self.mogrifier_rank > 0 {
            return Err(Error::setting("mogrifier-rank", "needs --mogrifier ROUNDS"));
        }
        Ok(())
    }

    /// Numbers of the matrices of one layer's rounds, given the widths of its input and its state.
    pub(crate) fn mogrifier_params(&self, inputs: f64, hidden: f64) -> f64 {
        let one = match self.mogrifier_rank {
            0 => inputs * hidden,
            rank => rank as f64 * (inputs + hidden),
        };
        self.mogrifier as f64 * one
    }

    /// Width of a layer's state.
    pub fn layer_width(&self, layer: usize) -> usize {
        if self.tied && layer + 1 == self.layers { self.embed } else { self.hidden }
    }
}

/// An LSTM with its weights and the carried state of its training streams.
#[derive(Clone)]
pub struct Lstm {
    config: LstmConfig,
    params: Params,
    embedding: Range<usize>,
    layers: Vec<Layer>,
    head: Linear,
    carried: State,
    precision: Precision,
    regularization: Regularization,
    saved: Memory,
    own: OwnDecoding,
}

/// Hidden and cell state of each layer, `[B, H]`.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    batch: usize,
    hidden: Vec<Vec<f32>>,
    cell: Vec<Vec<f32>>,
}

impl State {
    fn new(config: &LstmConfig, batch: usize) -> Self {
        let zeros: Vec<_> = (0..config.layers).map(|l| vec![0.0; batch * config.layer_width(l)]).collect();
        State { batch, hidden: zeros.clone(), cell: zeros }
    }
}

impl Lstm {
    /// A new model: the embedding normal of 0.1, all other weights uniform in ±1/√H as in PyTorch, biases zero, but
    /// [`FORGET_BIAS`] of the forget gates.
    ///
    /// # Errors
    /// When the shape is impossible.
    pub fn new(config: LstmConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let LstmConfig { vocab, embed, hidden: width, layers, tied, .. } = config;
        let mut p = Params::default();
        let embedding = p.add("embedding.weight", &[vocab, embed]);
        p.fill_normal(&embedding, 0.1, seed);
        let mut stack = Vec::new();
        for l in 0..layers {
            let inputs = if l == 0 { embed } else { width };
            let hidden = config.layer_width(l);
            let bound = 1.0 / (hidden as f32).sqrt();
            let weight = p.add(format!("lstm.weight_ih_l{l}"), &[4 * hidden, inputs]);
            let recurrent = p.add(format!("lstm.weight_hh_l{l}"), &[4 * hidden, hidden]);
            let bias = p.add(format!("lstm.bias_ih_l{l}"), &[4 * hidden]);
            let recurrent_bias = p.add(format!("lstm.bias_hh_l{l}"), &[4 * hidden]);
            p.fill_uniform(&weight, bound, seed);
            p.fill_uniform(&recurrent, bound, seed);
            let input = Linear { weight, bias: Some(bias), inputs, outputs: 4 * hidden, layout: Layout::OutIn };
            let rounds = add_rounds(&mut p, &config, (l, inputs, hidden), seed);
            stack.push(Layer { input, recurrent, recurrent_bias, hidden, rounds });
        }
        let inputs = config.layer_width(layers - 1);
        let weight = if tied { embedding.clone() } else { p.add("head.weight", &[vocab, inputs]) };
        let bias = Some(p.add("head.bias", &[vocab]));
        if !tied {
            p.fill_uniform(&weight, 1.0 / (inputs as f32).sqrt(), seed);
        }
        let head = Linear { weight, bias, inputs, outputs: vocab, layout: Layout::OutIn };
        let model = Lstm {
            config,
            params: p,
            embedding,
            layers: stack,
            head,
            carried: State::default(),
            precision: Precision::F32,
            regularization: Regularization::default(),
            saved: Memory::default(),
            own: OwnDecoding::default(),
        };
        Ok(model.with_forget_bias(FORGET_BIAS))
    }

    /// The model with this bias of the forget gates of all layers, from which training begins.
    #[must_use]
    pub fn with_forget_bias(mut self, bias: f32) -> Self {
        for layer in &self.layers {
            if let Some(gates) = &layer.input.bias {
                let start = gates.start + layer.hidden;
                self.params.data[start..start + layer.hidden].fill(bias);
            }
        }
        self
    }

    /// The model with these biases of the output layer, one for each token, from which training begins.
    #[must_use]
    pub fn with_output_bias(mut self, biases: &[f32]) -> Self {
        if let Some(range) = &self.head.bias {
            self.params.data[range.clone()].copy_from_slice(biases);
        }
        self
    }

    /// The shape.
    pub fn config(&self) -> &LstmConfig {
        &self.config
    }

    /// [`LanguageModel::score`] in the kind of number E.
    fn score_in<E: Factor>(&self, tokens: &[u32], sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>) -> Result<()> {
        check_tokens(tokens, self.config.vocab)?;
        let (mut saved, mut state) = (Saved::<E>::default(), State::new(&self.config, 1));
        let n = tokens.len().saturating_sub(1);
        for start in (0..n).step_by(WINDOW) {
            let end = (start + WINDOW).min(n);
            let scores = team(|| {
                self.forward(&mut saved, &tokens[start..end], &mut state);
                scores_of(self.logits(&mut saved, 1), &tokens[start + 1..=end], self.config.vocab)
            });
            sink(&scores)?;
        }
        Ok(())
    }

    fn step_in<E: Factor>(
        &mut self,
        texts: (&[u32], &[u32]),
        batch: usize,
        grads: (&mut [f32], bool),
        dropout: Dropout,
    ) -> f64 {
        if self.carried.batch != batch {
            self.carried = State::new(&self.config, batch);
        }
        let mut saved: Box<Saved<E>> = self.saved.take();
        let mut state = std::mem::take(&mut self.carried);
        let loss = team(|| self.learn(&mut saved, texts, &mut state, grads, dropout));
        self.carried = state;
        self.saved.keep(saved);
        loss / texts.0.len() as f64
    }
}

/// The matrices of the Mogrifier's rounds of a layer.
fn add_rounds(
    p: &mut Params,
    config: &LstmConfig,
    (layer, input, hidden): (usize, usize, usize),
    seed: u64,
) -> Vec<Round> {
    let round = |j: usize| {
        let (outputs, inputs) = if j.is_multiple_of(2) { (input, hidden) } else { (hidden, input) };
        let mut matrix = |name: &str, rows: usize, cols: usize| {
            let range = p.add(format!("mogrifier.{layer}.{j}.{name}"), &[rows, cols]);
            p.fill_uniform(&range, 1.0 / (cols as f32).sqrt(), seed);
            range
        };
        let (weight, right) = match config.mogrifier_rank {
            0 => (matrix("weight", outputs, inputs), None),
            rank => (matrix("left", outputs, rank), Some((rank, matrix("right", rank, inputs)))),
        };
        Round { outputs, inputs, weight, right }
    };
    (0..config.mogrifier).map(round).collect()
}

impl LanguageModel for Lstm {
    fn kind(&self) -> ModelKind {
        ModelKind::Lstm
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab
    }

    fn context(&self) -> Option<usize> {
        None
    }

    fn num_params(&self) -> u64 {
        self.params.count()
    }

    fn as_lstm(&self) -> Option<&Lstm> {
        Some(self)
    }

    fn session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>> {
        self.own_session(streams)
    }

    fn with_precision(self: Arc<Self>, precision: DecodePrecision) -> Result<Arc<dyn LanguageModel>> {
        self.decoder(precision)
    }

    fn score(
        &self,
        tokens: &[u32],
        _stride: Option<usize>,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        self.score_in::<f32>(tokens, sink)
    }

    fn score_adapting(
        &self,
        tokens: &[u32],
        adaptation: &Adaptation,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        self.score_adapted(tokens, adaptation, sink)
    }
}

impl Trainable for Lstm {
    fn params(&self) -> &Params {
        &self.params
    }

    fn params_mut(&mut self) -> &mut Params {
        self.own = OwnDecoding::default();
        &mut self.params
    }

    fn train_step(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        batch: usize,
        grads: &mut [f32],
        fresh: bool,
        dropout: Dropout,
    ) -> f64 {
        match self.precision {
            Precision::F32 => self.step_in::<f32>((tokens, targets), batch, (grads, fresh), dropout),
            Precision::Bf16 => self.step_in::<Bf16>((tokens, targets), batch, (grads, fresh), dropout),
        }
    }

    fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    fn regularize(&mut self, regularization: &Regularization) {
        self.regularization = *regularization;
    }

    fn reset_stream(&mut self, stream: usize) {
        let batch = self.carried.batch;
        for part in self.carried.hidden.iter_mut().chain(&mut self.carried.cell) {
            if stream < batch {
                let width = part.len() / batch;
                part[stream * width..][..width].fill(0.0);
            }
        }
    }

    fn carried(&self) -> Vec<f32> {
        self.carried.hidden.iter().chain(&self.carried.cell).flatten().copied().collect()
    }

    fn set_carried(&mut self, mut carried: &[f32]) -> bool {
        let row: usize = 2 * (0..self.config.layers).map(|l| self.config.layer_width(l)).sum::<usize>();
        if carried.is_empty() {
            self.carried = State::default();
        } else {
            self.carried = State::new(&self.config, carried.len() / row);
            for part in self.carried.hidden.iter_mut().chain(&mut self.carried.cell) {
                let Some((values, rest)) = carried.split_at_checked(part.len()) else { return false };
                part.copy_from_slice(values);
                carried = rest;
            }
        }
        carried.is_empty()
    }

    fn validate_at(&self, tokens: &[u32], temperatures: &[f32]) -> Result<Vec<f64>> {
        match self.precision {
            Precision::F32 => self.validate_in::<f32>(tokens, temperatures),
            Precision::Bf16 => self.validate_in::<Bf16>(tokens, temperatures),
        }
    }

    fn logit_scales(&self) -> Vec<Range<usize>> {
        if self.config.tied {
            return Vec::new();
        }
        [Some(self.head.weight.clone()), self.head.bias.clone()].into_iter().flatten().collect()
    }

    fn evenly_validated_from(&self) -> usize {
        validation::PARTS * validation::LEAST
    }

    fn snapshot(&self) -> Arc<dyn LanguageModel> {
        Arc::new(Lstm { saved: Memory::default(), carried: State::default(), ..self.clone() })
    }

    fn into_model(mut self: Box<Self>) -> Arc<dyn LanguageModel> {
        self.saved = Memory::default();
        Arc::new(*self)
    }
}

#[cfg(test)]
mod tests;
