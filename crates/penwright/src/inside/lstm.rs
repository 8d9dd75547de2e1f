//! An LSTM's gates and cells as a text runs through it, computed one token and one layer at a time.

use penwright_kernels::{Matrix, chunks_mut, dot, each, sigmoid, team};
use serde::{Deserialize, Serialize};

use super::follow::{Correlations, Follows, properties};
use super::{Choice, MAX_TOKENS, Reading, Token, check_numbers, check_top, choices, chosen, linear, weight};
use crate::model::{LanguageModel, LstmConfig, Params, Trainable, log_softmax_rows};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Rows of a product that are computed at once.
const ROWS: usize = 64;

/// What is asked of an LSTM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LstmRequest {
    /// The model's name on the server; [`lstm`] takes no notice of it.
    pub model: String,
    /// The text that runs through it.
    pub text: String,
    /// The layer whose cells are told, from 0; the last where none is named.
    pub layer: Option<usize>,
    /// The cells of that layer that are told, from 0; all where none are named.
    pub cells: Option<Vec<usize>>,
    /// How many cells to find that follow each property of the text; 0 for none.
    pub follow: usize,
    /// How many of the likeliest next tokens to tell after each token; 0 for none.
    pub top: usize,
    /// Whether of a text that is too long the beginning is read, instead of refusing it.
    pub beginning: bool,
}

/// What goes on inside an LSTM as it reads a text. The values are those after each token of the text was read,
/// `[tokens, cells]`; before the first token it has read end-of-text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LstmInside {
    /// Cells of each layer.
    pub widths: Vec<usize>,
    /// Rounds of the Mogrifier before each cell; 0 for a plain LSTM.
    pub mogrifier: usize,
    /// The layer whose cells are told.
    pub layer: usize,
    /// Which of its cells.
    pub cells: Vec<usize>,
    /// The tokens of the text.
    pub tokens: Vec<Token>,
    /// The likeliest next tokens after each, likeliest first; empty where none were asked for.
    pub next: Vec<Vec<Choice>>,
    /// The input gate i, in 0 … 1: how much of the candidate is written.
    pub input: Vec<Vec<f32>>,
    /// The forget gate f, in 0 … 1: how much of the old cell value stays.
    pub forget: Vec<Vec<f32>>,
    /// The candidate g, in −1 … 1.
    pub candidate: Vec<Vec<f32>>,
    /// The output gate o, in 0 … 1: how much of tanh(c) is shown.
    pub output: Vec<Vec<f32>>,
    /// The cell values before the token, c'.
    pub before: Vec<Vec<f32>>,
    /// The cell values c = f c' + i g.
    pub cell: Vec<Vec<f32>>,
    /// The hidden values h = o tanh(c).
    pub hidden: Vec<Vec<f32>>,
    /// The cells that follow each property of the text; empty where none were asked for.
    pub follows: Vec<Follows>,
}

/// Runs a text through an LSTM and tells what its gates and cells did.
///
/// # Errors
/// When the model is no LSTM, the text is empty or too long, the answer would be too large, or there is no such layer
/// or cell.
pub fn lstm(model: &dyn LanguageModel, tokenizer: &Tokenizer, request: &LstmRequest) -> Result<LstmInside> {
    let Some(model) = model.as_lstm() else {
        return Err(Error::Unsupported(format!(
            "the model is of kind {}, not an LSTM; its gates are none",
            model.kind()
        )));
    };
    check_top(request.top)?;
    let config = model.config();
    let widths: Vec<usize> = (0..config.layers).map(|layer| config.layer_width(layer)).collect();
    let layer = request.layer.unwrap_or(config.layers - 1);
    let layer = chosen(Some(&[layer]), config.layers, "layer")?[0];
    let cells = chosen(request.cells.as_deref(), widths[layer], "cell")?;
    let read = Reading::new(tokenizer, &request.text, MAX_TOKENS, request.beginning)?;
    let n = read.texts.len();
    check_numbers(7 * n * cells.len(), "name fewer cells or shorten the text")?;
    check_numbers(n * request.top, "ask for fewer likeliest tokens or shorten the text")?;
    let network = Network::of(config, model.params())?;
    let mut found = LstmInside::new(widths, config.mogrifier, layer, cells);
    let mut follow =
        (request.follow > 0).then(|| Correlations::new(properties(&request.text, &read.ends), &found.widths));
    let mut outputs = Vec::with_capacity((n + 1) * network.last_width());
    team(|| {
        network.run(&read.ids, |time, layer, step| {
            if layer + 1 == network.layers.len() {
                outputs.extend_from_slice(&step.hidden);
            }
            // The first token read is end-of-text, none of the text's.
            let Some(token) = time.checked_sub(1) else { return };
            if layer == found.layer {
                found.push(step);
            }
            if let Some(follow) = &mut follow {
                follow.add(token, &step.cell);
            }
        });
    });
    let mut log_probs = Vec::with_capacity(n);
    for (part, rows) in outputs.chunks(ROWS * network.last_width()).enumerate() {
        let logits = team(|| network.log_probs(rows));
        for (i, row) in logits.chunks_exact(config.vocab).enumerate() {
            let time = part * ROWS + i;
            log_probs.extend(read.ids.get(time + 1).and_then(|&id| row.get(id as usize)));
            if time > 0 && request.top > 0 {
                found.next.push(choices(tokenizer, row, request.top));
            }
        }
    }
    found.tokens = read.tokens(&log_probs);
    found.follows = follow.map_or_else(Vec::new, |follow| follow.best(request.follow));
    Ok(found)
}

impl LstmInside {
    fn new(widths: Vec<usize>, mogrifier: usize, layer: usize, cells: Vec<usize>) -> Self {
        let empty = Vec::new;
        LstmInside {
            widths,
            mogrifier,
            layer,
            cells,
            tokens: Vec::new(),
            next: Vec::new(),
            input: empty(),
            forget: empty(),
            candidate: empty(),
            output: empty(),
            before: empty(),
            cell: empty(),
            hidden: empty(),
            follows: Vec::new(),
        }
    }

    /// The values of the cells that are told, after one more token.
    fn push(&mut self, step: &Step) {
        let pick = |values: &[f32]| self.cells.iter().map(|&cell| values[cell]).collect::<Vec<_>>();
        let [input, forget, candidate, output] = &step.gates;
        let (before, cell, hidden) = (pick(&step.before), pick(&step.cell), pick(&step.hidden));
        let [input, forget, candidate, output] = [input, forget, candidate, output].map(|gate| pick(gate));
        self.input.push(input);
        self.forget.push(forget);
        self.candidate.push(candidate);
        self.output.push(output);
        self.before.push(before);
        self.cell.push(cell);
        self.hidden.push(hidden);
    }
}

/// The state of a layer, and what its last step computed; all `[H]`.
#[derive(Default)]
struct Step {
    /// Input gate, forget gate, candidate, output gate, as PyTorch orders them.
    gates: [Vec<f32>; 4],
    before: Vec<f32>,
    cell: Vec<f32>,
    hidden: Vec<f32>,
}

/// The weights of a layer.
struct Layer<'a> {
    /// `[4H, inputs]`.
    input: &'a [f32],
    /// `[4H, H]`.
    recurrent: &'a [f32],
    /// Both biases, `[4H]`.
    bias: Vec<f32>,
    /// The matrices of the Mogrifier's rounds, `[inputs, H]` and `[H, inputs]` in turn.
    rounds: Vec<Vec<f32>>,
    hidden: usize,
}

/// The weights of a model.
struct Network<'a> {
    /// `[V, E]`.
    embedding: &'a [f32],
    layers: Vec<Layer<'a>>,
    /// `[V, H]`.
    head: &'a [f32],
    head_bias: &'a [f32],
    embed: usize,
    vocab: usize,
}

impl<'a> Network<'a> {
    fn of(config: &LstmConfig, params: &'a Params) -> Result<Self> {
        let layer = |l: usize| -> Result<Layer<'a>> {
            let hidden = config.layer_width(l);
            let inputs = if l == 0 { config.embed } else { config.layer_width(l - 1) };
            let get = |name: &str| weight(params, &format!("lstm.{name}_l{l}"));
            let bias = get("bias_ih")?.iter().zip(get("bias_hh")?).map(|(a, b)| a + b).collect();
            let rounds = (0..config.mogrifier).map(|j| round(config, params, (l, j), (inputs, hidden)));
            let rounds = rounds.collect::<Result<_>>()?;
            Ok(Layer { input: get("weight_ih")?, recurrent: get("weight_hh")?, bias, rounds, hidden })
        };
        let embedding = weight(params, "embedding.weight")?;
        Ok(Network {
            embedding,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            head: if config.tied { embedding } else { weight(params, "head.weight")? },
            head_bias: weight(params, "head.bias")?,
            embed: config.embed,
            vocab: config.vocab,
        })
    }

    fn last_width(&self) -> usize {
        self.layers.last().map_or(1, |layer| layer.hidden)
    }

    /// Reads tokens from an empty state; `see` is told the time, the layer and its step, in that order.
    fn run(&self, tokens: &[u32], mut see: impl FnMut(usize, usize, &Step)) {
        let zeros = |layer: &Layer<'_>| vec![0.0; layer.hidden];
        let state = |layer| Step { cell: zeros(layer), hidden: zeros(layer), ..Step::default() };
        let mut states: Vec<Step> = self.layers.iter().map(state).collect();
        for (time, &token) in tokens.iter().enumerate() {
            let mut x = self.embedding[token as usize * self.embed..][..self.embed].to_vec();
            for (l, (layer, state)) in self.layers.iter().zip(&mut states).enumerate() {
                layer.step(x, state);
                see(time, l, state);
                x = state.hidden.clone();
            }
        }
    }

    /// Log-probabilities `[rows, V]` after the last layer's hidden values `[rows, H]`.
    fn log_probs(&self, hidden: &[f32]) -> Vec<f32> {
        let (h, vocab) = (self.last_width(), self.vocab);
        let head = Matrix::new(self.head, vocab, h).t();
        let mut logits = linear(hidden, hidden.len() / h, head, (h, vocab), Some(self.head_bias));
        log_softmax_rows(&mut logits, vocab);
        logits
    }
}

impl Layer<'_> {
    /// One token: x `[inputs]` in, the state one step on.
    ///
    /// ```text
    /// a = W_ih x + W_hh h' + b      i, f, o = σ(a_i), σ(a_f), σ(a_o)      g = tanh(a_g)
    /// c = f c' + i g                h = o tanh(c)
    /// ```
    fn step(&self, mut x: Vec<f32>, state: &mut Step) {
        let mut hidden = state.hidden.clone();
        for (j, round) in self.rounds.iter().enumerate() {
            let (gated, by) = if j.is_multiple_of(2) { (&mut x, &hidden) } else { (&mut hidden, &x) };
            let gate = product(round, by);
            gated.iter_mut().zip(gate).for_each(|(x, gate)| *x *= 2.0 * sigmoid(gate));
        }
        let (from_x, from_h) = (product(self.input, &x), product(self.recurrent, &hidden));
        let sum = |gate: usize, cell: usize| {
            let row = gate * self.hidden + cell;
            from_x[row] + from_h[row] + self.bias[row]
        };
        let gate = |gate: usize, f: fn(f32) -> f32| (0..self.hidden).map(|cell| f(sum(gate, cell))).collect::<Vec<_>>();
        state.gates = [gate(0, sigmoid), gate(1, sigmoid), gate(2, f32::tanh), gate(3, sigmoid)];
        state.before.clone_from(&state.cell);
        let [input, forget, candidate, output] = &state.gates;
        for i in 0..self.hidden {
            state.cell[i] = forget[i] * state.before[i] + input[i] * candidate[i];
            state.hidden[i] = output[i] * state.cell[i].tanh();
        }
    }
}

/// `w x` of w `[rows, x.len()]`, on all threads.
fn product(w: &[f32], x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; w.len() / x.len()];
    each(chunks_mut(&mut y, ROWS), |part, y| {
        let rows = w.chunks_exact(x.len()).skip(part * ROWS);
        y.iter_mut().zip(rows).for_each(|(y, row)| *y = dot(row, x));
    });
    y
}

/// The matrix of round `j` of layer `l`, multiplied out where it is a product of two.
fn round(
    config: &LstmConfig,
    params: &Params,
    (l, j): (usize, usize),
    (input, hidden): (usize, usize),
) -> Result<Vec<f32>> {
    let (outputs, inputs) = if j.is_multiple_of(2) { (input, hidden) } else { (hidden, input) };
    let get = |name: &str| weight(params, &format!("mogrifier.{l}.{j}.{name}"));
    match config.mogrifier_rank {
        0 => Ok(get("weight")?.to_vec()),
        rank => {
            let right = Matrix::new(get("right")?, rank, inputs);
            Ok(linear(get("left")?, outputs, right, (rank, inputs), None))
        }
    }
}
