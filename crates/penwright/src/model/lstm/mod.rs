//! An LSTM language model: embedding, stacked LSTM layers, output layer. Tensors are named as
//! `torch.nn.Embedding`, `torch.nn.LSTM` and `torch.nn.Linear` name them.

mod session;

use std::ops::Range;
use std::sync::Arc;

use penwright_kernels::{Init, Matrix, Output, add, chunks_mut, each, matmul, product, team};
use serde::{Deserialize, Serialize};

use super::{
    DecodePrecision, LanguageModel, ModelKind, Params, Precision, Session, TokenScore, Trainable, check_tokens,
    mean_score, scores_of,
};
use crate::layers::{Dropout, Layout, Linear, OutputLayer, Recurrent, add_rows, embed, embed_backward};
use crate::{Error, Result};
use session::OwnDecoding;

/// The shape of an LSTM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
}

impl LstmConfig {
    /// # Errors
    /// When the shape is impossible.
    pub(crate) fn check(&self) -> Result<()> {
        let LstmConfig { layers, embed, hidden: width, .. } = *self;
        for (name, value) in [("layers", layers), ("width", width), ("embed", embed)] {
            if value == 0 {
                return Err(Error::setting(name, "must be at least 1"));
            }
        }
        Ok(())
    }

    /// Width of a layer's state.
    pub fn layer_width(&self, layer: usize) -> usize {
        if self.tied && layer + 1 == self.layers { self.embed } else { self.hidden }
    }
}

#[derive(Clone)]
struct Layer {
    input: Linear,
    recurrent: Range<usize>,
    recurrent_bias: Range<usize>,
    hidden: usize,
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
    saved: Saved,
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

/// What the backward needs, time-major: row `t · B + b`; and working memory.
#[derive(Clone, Default)]
struct Saved {
    tokens: Vec<u32>,
    targets: Vec<u32>,
    layers: Vec<SavedLayer>,
    logits: Vec<f32>,
    output: OutputLayer<f32>,
    /// Gradient of the last layer's outputs, `[T · B, H]`.
    d: Vec<f32>,
}

#[derive(Clone, Default)]
struct SavedLayer {
    /// The layer's input, `[T · B, inputs]`.
    x: Vec<f32>,
    /// Activated gates i, f, g, o, `[T · B, 4H]`.
    gates: Vec<f32>,
    /// Hidden and cell state before the first step and after each, `[(T + 1) · B, H]`.
    hidden: Vec<f32>,
    cell: Vec<f32>,
    /// Gradient of the cell state, `[B, H]`.
    dcell: Vec<f32>,
    /// Gradient of x.
    dx: Vec<f32>,
    /// `b_ih + b_hh`, and the gradient of both.
    bias: Vec<f32>,
    recurrent: Recurrent,
}

impl Lstm {
    /// A new model: all weights uniform in ±1/√H as in PyTorch, the forget gate's bias at one.
    ///
    /// # Errors
    /// When the shape is impossible.
    pub fn new(config: LstmConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let LstmConfig { vocab, embed, hidden: width, layers, tied } = config;
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
            p.data[bias.start + hidden..bias.start + 2 * hidden].fill(1.0);
            let input = Linear { weight, bias: Some(bias), inputs, outputs: 4 * hidden, layout: Layout::OutIn };
            stack.push(Layer { input, recurrent, recurrent_bias, hidden });
        }
        let inputs = config.layer_width(layers - 1);
        let weight = if tied { embedding.clone() } else { p.add("head.weight", &[vocab, inputs]) };
        let bias = Some(p.add("head.bias", &[vocab]));
        if !tied {
            p.fill_uniform(&weight, 1.0 / (inputs as f32).sqrt(), seed);
        }
        let head = Linear { weight, bias, inputs, outputs: vocab, layout: Layout::OutIn };
        Ok(Lstm {
            config,
            params: p,
            embedding,
            layers: stack,
            head,
            carried: State::default(),
            saved: Saved::default(),
            own: OwnDecoding::default(),
        })
    }

    /// The shape.
    pub fn config(&self) -> &LstmConfig {
        &self.config
    }

    /// The layers over time-major tokens; `state` moves on to the end.
    fn forward(&self, s: &mut Saved, tokens: &[u32], state: &mut State, dropout: Dropout) {
        let (rows, batch, e) = (tokens.len(), state.batch, self.config.embed);
        let p = &self.params.data;
        s.layers.resize_with(self.layers.len(), SavedLayer::default);
        for (l, layer) in self.layers.iter().enumerate() {
            let (below, kept) = s.layers.split_at_mut(l);
            let kept = &mut kept[0];
            kept.x.resize(rows * layer.input.inputs, 0.0);
            match below.last() {
                None => embed(&p[self.embedding.clone()], tokens, &mut kept.x, e),
                Some(below) => {
                    dropout.at(l as u64 - 1).copy(&below.hidden[batch * self.layers[l - 1].hidden..], &mut kept.x)
                }
            }
            layer.forward(p, kept, rows, batch, &mut state.hidden[l], &mut state.cell[l]);
        }
    }

    /// Logits `[T · B, V]` of the last forward pass.
    fn logits(&self, s: &mut Saved, rows: usize, batch: usize) {
        s.logits.resize(rows * self.config.vocab, 0.0);
        self.head.forward(&self.params.data, outputs(&s.layers, batch * self.head.inputs), &mut s.logits, rows);
    }

    /// After the loss: adds the gradients of all parameters.
    fn backward(&self, s: &mut Saved, tokens: &[u32], batch: usize, grads: &mut [f32], dropout: Dropout) {
        let rows = tokens.len();
        let p = &self.params.data;
        s.d.resize(rows * self.head.inputs, 0.0);
        let x = outputs(&s.layers, batch * self.head.inputs);
        s.output.backward(&self.head, p, Some((&mut *grads, false)), x, &mut s.d);
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let (kept, above) = s.layers.split_at_mut(l + 1);
            let d = above.first_mut().map_or(&mut s.d, |above| &mut above.dx);
            if l + 1 < self.layers.len() {
                dropout.at(l as u64).apply(d);
            }
            layer.backward(p, grads, &mut kept[l], d, batch);
        }
        embed_backward(&mut grads[self.embedding.clone()], tokens, &s.layers[0].dx, self.config.embed);
    }
}

/// What the last layer puts out, which follows its state before the first step.
fn outputs(layers: &[SavedLayer], before: usize) -> &[f32] {
    layers.last().map_or(&[], |layer| &layer.hidden[before..])
}

impl Layer {
    /// All input products at once, then step by step the recurrent product and the cell.
    fn forward(
        &self,
        p: &[f32],
        kept: &mut SavedLayer,
        rows: usize,
        batch: usize,
        hidden: &mut [f32],
        cell: &mut [f32],
    ) {
        let (h, step) = (self.hidden, batch * self.hidden);
        kept.gates.resize(rows * 4 * h, 0.0);
        kept.hidden.resize((rows + batch) * h, 0.0);
        kept.cell.resize((rows + batch) * h, 0.0);
        kept.hidden[..step].copy_from_slice(hidden);
        kept.cell[..step].copy_from_slice(cell);
        kept.bias.clear();
        let bias = self.input.bias.clone().map_or(&[][..], |bias| &p[bias]);
        kept.bias.extend(bias.iter().zip(&p[self.recurrent_bias.clone()]).map(|(a, b)| a + b));
        let x = Matrix::new(&kept.x, rows, self.input.inputs);
        product(&mut kept.gates, Init::Bias(&kept.bias), x, self.input.matrix(p));
        let weight = &p[self.recurrent.clone()];
        kept.recurrent.pack_forward(weight, h, rows / batch);
        for (t, gates) in kept.gates.chunks_exact_mut(4 * step).enumerate() {
            let (hidden_past, hidden_now) = kept.hidden.split_at_mut((t + 1) * step);
            let (cell_past, cell_now) = kept.cell.split_at_mut((t + 1) * step);
            let before = (&hidden_past[t * step..], &cell_past[t * step..]);
            kept.recurrent.step(weight, gates, before, (&mut hidden_now[..step], &mut cell_now[..step]), h);
        }
        hidden.copy_from_slice(&kept.hidden[rows * h..]);
        cell.copy_from_slice(&kept.cell[rows * h..]);
    }

    /// Takes the gradient of the outputs `[T · B, H]` (and uses it up) and sets that of the inputs.
    fn backward(&self, p: &[f32], grads: &mut [f32], kept: &mut SavedLayer, d: &mut [f32], batch: usize) {
        let (h, step, rows) = (self.hidden, batch * self.hidden, d.len() / self.hidden);
        kept.dcell.clear();
        kept.dcell.resize(step, 0.0);
        kept.recurrent.pack_backward(&p[self.recurrent.clone()], h);
        for (t, dh) in d.chunks_exact_mut(step).enumerate().rev() {
            let (gates, after) = kept.gates.split_at_mut((t + 1) * 4 * step);
            let after = &after[..after.len().min(4 * step)];
            let (before, cell) = kept.cell[t * step..][..2 * step].split_at(step);
            kept.recurrent.step_back(&mut gates[t * 4 * step..], after, (before, cell), dh, &mut kept.dcell, h);
        }
        let past = Matrix::new(&kept.hidden, rows, h);
        matmul(&mut grads[self.recurrent.clone()], true, Matrix::new(&kept.gates, rows, 4 * h).t(), past);
        let x = Matrix::new(&kept.x, rows, self.input.inputs);
        matmul(&mut grads[self.input.weight.clone()], true, Matrix::new(&kept.gates, rows, 4 * h).t(), x);
        kept.bias.fill(0.0);
        add_rows(&mut kept.bias, &kept.gates, 4 * h);
        for bias in self.input.bias.iter().chain([&self.recurrent_bias]) {
            add(&mut grads[bias.clone()], &kept.bias);
        }
        kept.dx.resize(rows * self.input.inputs, 0.0);
        let output = Output::Rounded { c: &mut kept.dx, bias: None };
        self.input.product_back::<f32>(p, &kept.gates, rows, output);
    }
}

/// `[B, T]` to `[T, B]`.
fn time_major(tokens: &[u32], batch: usize, out: &mut Vec<u32>) {
    let time = tokens.len() / batch;
    out.clear();
    out.extend((0..tokens.len()).map(|i| tokens[i % batch * time + i / batch]));
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
        const WINDOW: usize = 1024;
        check_tokens(tokens, self.config.vocab)?;
        let (mut saved, mut state) = (Saved::default(), State::new(&self.config, 1));
        let n = tokens.len().saturating_sub(1);
        for start in (0..n).step_by(WINDOW) {
            let end = (start + WINDOW).min(n);
            team(|| {
                self.forward(&mut saved, &tokens[start..end], &mut state, Dropout::OFF);
                self.logits(&mut saved, end - start, 1);
            });
            sink(&scores_of(&mut saved.logits, &tokens[start + 1..=end], self.config.vocab))?;
        }
        Ok(())
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
        if fresh {
            team(|| each(chunks_mut(grads, 1 << 14), |_, g| g.fill(0.0)));
        }
        if self.carried.batch != batch {
            self.carried = State::new(&self.config, batch);
        }
        let (mut saved, mut state) = (std::mem::take(&mut self.saved), std::mem::take(&mut self.carried));
        let (mut inputs, mut outputs) = (std::mem::take(&mut saved.tokens), std::mem::take(&mut saved.targets));
        time_major(tokens, batch, &mut inputs);
        time_major(targets, batch, &mut outputs);
        let scale = 1.0 / tokens.len() as f32;
        let loss = team(|| {
            self.forward(&mut saved, &inputs, &mut state, dropout);
            let x = self::outputs(&saved.layers, batch * self.head.inputs);
            let loss = saved.output.loss(&self.head, &self.params.data, x, &outputs, scale);
            self.backward(&mut saved, &inputs, batch, grads, dropout);
            loss
        });
        (saved.tokens, saved.targets) = (inputs, outputs);
        (self.saved, self.carried) = (saved, state);
        loss / tokens.len() as f64
    }

    fn set_precision(&mut self, _precision: Precision) {}

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

    fn validate(&self, tokens: &[u32]) -> Result<f64> {
        Ok(mean_score(self, tokens, None)?.0)
    }

    fn snapshot(&self) -> Arc<dyn LanguageModel> {
        Arc::new(Lstm { saved: Saved::default(), carried: State::default(), ..self.clone() })
    }

    fn into_model(mut self: Box<Self>) -> Arc<dyn LanguageModel> {
        self.saved = Saved::default();
        Arc::new(*self)
    }
}
