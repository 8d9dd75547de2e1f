//! A GPT-2's attention over a text, and what each of its blocks would say next.

use penwright_kernels::{Matrix, add, chunks_mut, dot, each, team};
use serde::{Deserialize, Serialize};

use super::{Choice, Reading, Token, check_numbers, check_top, choices, chosen, linear, weight};
use crate::model::{Gpt2Config, LanguageModel, Params, Trainable, log_softmax_rows};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Rows of the output layer that are computed at once.
const ROWS: usize = 64;
/// Logits that the lens computes, at most: (blocks + 1) · positions · vocabulary.
const MAX_LOGITS: usize = 1 << 27;

/// What is asked of a GPT-2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gpt2Request {
    /// The model's name on the server; [`gpt2`] takes no notice of it.
    pub model: String,
    /// The text that it reads; with the end-of-text token before it no longer than the context.
    pub text: String,
    /// The blocks whose attention is told, from 0; all where none are named.
    pub layers: Option<Vec<usize>>,
    /// The heads whose attention is told, from 0; all where none are named.
    pub heads: Option<Vec<usize>>,
    /// How many likeliest tokens the logit lens tells of each block and position; 0 leaves it out.
    pub top: usize,
    /// Whether of a text that is too long the beginning is read, instead of refusing it.
    pub beginning: bool,
}

/// What goes on inside a GPT-2 as it reads a text of T tokens, the end-of-text token before the text among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpt2Inside {
    /// Blocks of the model.
    pub layers: usize,
    /// Heads of a block.
    pub heads: usize,
    /// The longest text in tokens.
    pub context: usize,
    /// The tokens, `[T]`; the first is end-of-text, covers nothing and has no probability.
    pub tokens: Vec<Token>,
    /// What every head does on average, `[layers, heads]`.
    pub summary: Vec<Vec<Head>>,
    /// The attention weights of the blocks and heads asked for.
    pub attention: Vec<LayerAttention>,
    /// The logit lens, `[layers + 1, T]`: what stands in the residual stream before the first block and after each,
    /// through the last norm and the output layer (nostalgebraist 2020). Empty where it was not asked for.
    pub lens: Vec<Vec<Lens>>,
}

/// The attention weights of a block's heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerAttention {
    /// The block, from 0.
    pub layer: usize,
    /// The heads, from 0.
    pub heads: Vec<usize>,
    /// The weights `[heads, T, …]`: the row of position t has t + 1, for itself and all before it, that add up to 1.
    pub weights: Vec<Vec<Vec<f32>>>,
}

/// What a head looks at: its weights there, averaged over the positions from the third on, each in 0 … 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The token itself.
    pub itself: f32,
    /// The token before.
    pub previous: f32,
    /// The first position, which says nothing: heads rest there that find nothing to do.
    pub first: f32,
    /// Earlier occurrences of the same token.
    pub same: f32,
    /// Tokens that came after earlier occurrences of the same token: what an induction head looks at (Olsson et al.
    /// 2022). The token itself and the one before count here too where they are such.
    pub after_same: f32,
}

/// What a block would say next at a position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lens {
    /// The likeliest tokens, likeliest first.
    pub top: Vec<Choice>,
    /// The probability of the token that does come next, in 0 … 1; `None` at the last position.
    pub next: Option<f32>,
    /// How many tokens are likelier than it.
    pub rank: Option<usize>,
}

/// Has a GPT-2 read a text and tells where its heads looked and what its blocks would say next. Adapters are merged
/// into the weights.
///
/// # Errors
/// When the model is no GPT-2, the text is empty or longer than its context, the answer would be too large, or there is
/// no such block or head.
pub fn gpt2(model: &dyn LanguageModel, tokenizer: &Tokenizer, request: &Gpt2Request) -> Result<Gpt2Inside> {
    let Some(model) = model.as_gpt2() else {
        return Err(Error::Unsupported(format!("the model is of kind {}, not a GPT-2; it has no heads", model.kind())));
    };
    check_top(request.top)?;
    let config = model.config();
    let layers = chosen(request.layers.as_deref(), config.layers, "block")?;
    let heads = chosen(request.heads.as_deref(), config.heads, "head")?;
    let lens = if request.top > 0 { MAX_LOGITS / config.vocab.max(1) / (config.layers + 1) } else { usize::MAX };
    let read = Reading::new(tokenizer, &request.text, config.context.min(lens).saturating_sub(1), request.beginning)?;
    let time = read.ids.len();
    check_numbers(layers.len() * heads.len() * (time * (time + 1) / 2), "name one block or head, or shorten the text")?;
    check_numbers((config.layers + 1) * time * request.top, "ask for fewer likeliest tokens or shorten the text")?;
    let params = if model.lora().is_some() { model.merged() } else { model.params().clone() };
    let network = Network { config, params: &params, time };
    let mut found = Gpt2Inside {
        layers: config.layers,
        heads: config.heads,
        context: config.context,
        tokens: Vec::new(),
        summary: Vec::new(),
        attention: Vec::new(),
        lens: Vec::new(),
    };
    let mut streams = Vec::new();
    let last = network.run(&read.ids, |layer, weights, x| {
        if request.top > 0 {
            streams.push(x.to_vec());
        }
        if layer == 0 {
            return;
        }
        found.summary.push(weights.iter().map(|weights| Head::of(weights, &read.ids)).collect());
        if layers.contains(&(layer - 1)) {
            let weights = heads.iter().map(|&head| rows(&weights[head], time)).collect();
            found.attention.push(LayerAttention { layer: layer - 1, heads: heads.clone(), weights });
        }
    })?;
    let mut log_probs = Vec::with_capacity(time);
    network.log_probs(&last, |place, row| {
        log_probs.extend(read.ids.get(place + 1).and_then(|&id| row.get(id as usize)));
    })?;
    found.tokens = vec![Token { id: read.ids[0], text: String::new(), log_prob: None }];
    found.tokens.extend(read.tokens(&log_probs));
    for x in &streams {
        let mut places = Vec::with_capacity(time);
        network.log_probs(x, |place, row| {
            places.push(Lens::of(tokenizer, row, request.top, read.ids.get(place + 1).copied()));
        })?;
        found.lens.push(places);
    }
    Ok(found)
}

impl Lens {
    fn of(tokenizer: &Tokenizer, row: &[f32], top: usize, next: Option<u32>) -> Self {
        let next = next.and_then(|id| row.get(id as usize).copied());
        let rank = next.map(|next| row.iter().filter(|&&x| x > next).count());
        Lens { top: choices(tokenizer, row, top), next: next.map(f32::exp), rank }
    }
}

impl Head {
    /// Of a head's weights `[T, T]` over the tokens.
    fn of(weights: &[f32], ids: &[u32]) -> Self {
        let time = ids.len();
        let (mut sums, mut count) = (Head::default(), 0.0f32);
        for (t, row) in weights.chunks_exact(time).enumerate().skip(2) {
            count += 1.0;
            sums.itself += row[t];
            sums.previous += row[t - 1];
            sums.first += row[0];
            let earlier = (0..t).filter(|&s| ids[s] == ids[t]);
            for s in earlier {
                sums.same += row[s];
                sums.after_same += row[s + 1];
            }
        }
        let mean = |sum: f32| if count > 0.0 { sum / count } else { 0.0 };
        Head {
            itself: mean(sums.itself),
            previous: mean(sums.previous),
            first: mean(sums.first),
            same: mean(sums.same),
            after_same: mean(sums.after_same),
        }
    }
}

/// The rows of weights `[T, T]` up to their diagonal.
fn rows(weights: &[f32], time: usize) -> Vec<Vec<f32>> {
    weights.chunks_exact(time).enumerate().map(|(t, row)| row[..=t].to_vec()).collect()
}

/// A model about to read a text of `time` tokens.
struct Network<'a> {
    config: &'a Gpt2Config,
    params: &'a Params,
    time: usize,
}

impl Network<'_> {
    /// Reads the tokens; `see` is told the number of blocks done, the attention weights `[heads][T · T]` of the last of
    /// them and the residual stream `[T, C]`. What it returns is the stream at the end.
    fn run(&self, ids: &[u32], mut see: impl FnMut(usize, &[Vec<f32>], &[f32])) -> Result<Vec<f32>> {
        let c = self.config.width;
        let [tokens, positions] =
            [weight(self.params, "transformer.wte.weight")?, weight(self.params, "transformer.wpe.weight")?];
        let mut x = Vec::with_capacity(self.time * c);
        for (t, &id) in ids.iter().enumerate() {
            x.extend_from_slice(&tokens[id as usize * c..][..c]);
            add(&mut x[t * c..], &positions[t * c..][..c]);
        }
        see(0, &[], &x);
        for layer in 0..self.config.layers {
            let weights = team(|| self.block(layer, &mut x))?;
            see(layer + 1, &weights, &x);
        }
        Ok(x)
    }

    /// `x += attention(norm(x)); x += mlp(norm(x))`; the attention's weights, `[heads][T · T]`.
    fn block(&self, layer: usize, x: &mut [f32]) -> Result<Vec<Vec<f32>>> {
        let (c, inner) = (self.config.width, self.config.inner());
        let name = |part: &str| format!("transformer.h.{layer}.{part}");
        let qkv = self.linear(&self.norm(x, &name("ln_1"))?, &name("attn.c_attn"), (c, 3 * c))?;
        let (weights, attended) = self.attention(layer, &qkv);
        add(x, &self.linear(&attended, &name("attn.c_proj"), (c, c))?);
        let up = self.linear(&self.norm(x, &name("ln_2"))?, &name("mlp.c_fc"), (c, inner))?;
        let mut active = vec![0.0; up.len()];
        self.config.activation.forward(&up, &mut active);
        add(x, &self.linear(&active, &name("mlp.c_proj"), (inner, c))?);
        Ok(weights)
    }

    /// Of query, key and value `[T, 3C]`: each head's `softmax(scale · q kᵀ)` over the past, `[heads][T · T]` with zeros
    /// for what is to come, and these weights' sums of the values, `[T, C]`.
    fn attention(&self, layer: usize, qkv: &[f32]) -> (Vec<Vec<f32>>, Vec<f32>) {
        let (c, time, d) = (self.config.width, self.time, self.config.width / self.config.heads);
        let scale = self.config.attention_scale(layer);
        let part = |t: usize, which: usize, head: usize| &qkv[t * 3 * c + which * c + head * d..][..d];
        let mut weights = vec![vec![0.0; time * time]; self.config.heads];
        each(chunks_mut(&mut weights, 1), |head, weights| {
            for (t, row) in weights[0].chunks_exact_mut(time).enumerate() {
                let row = &mut row[..=t];
                row.iter_mut().enumerate().for_each(|(s, x)| *x = scale * dot(part(t, 0, head), part(s, 1, head)));
                softmax(row);
            }
        });
        let mut attended = vec![0.0; time * c];
        for (t, out) in attended.chunks_exact_mut(c).enumerate() {
            for (head, out) in out.chunks_exact_mut(d).enumerate() {
                for (s, &weight) in weights[head][t * time..][..=t].iter().enumerate() {
                    out.iter_mut().zip(part(s, 2, head)).for_each(|(out, value)| *out += weight * value);
                }
            }
        }
        (weights, attended)
    }

    fn linear(&self, x: &[f32], name: &str, (inputs, outputs): (usize, usize)) -> Result<Vec<f32>> {
        let (w, bias) =
            (weight(self.params, &format!("{name}.weight"))?, weight(self.params, &format!("{name}.bias"))?);
        Ok(linear(x, x.len() / inputs, Matrix::new(w, inputs, outputs), (inputs, outputs), Some(bias)))
    }

    /// Layer normalisation of x `[rows, C]`.
    fn norm(&self, x: &[f32], name: &str) -> Result<Vec<f32>> {
        let c = self.config.width;
        let (gain, bias) =
            (weight(self.params, &format!("{name}.weight"))?, weight(self.params, &format!("{name}.bias"))?);
        let mut y = Vec::with_capacity(x.len());
        for row in x.chunks_exact(c) {
            let mean = row.iter().sum::<f32>() / c as f32;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / c as f32;
            let scale = 1.0 / (variance + self.config.epsilon).sqrt();
            y.extend(row.iter().zip(gain).zip(bias).map(|((x, gain), bias)| gain * (x - mean) * scale + bias));
        }
        Ok(y)
    }

    /// The log-probabilities `[V]` of each row of a residual stream `[rows, C]`, through the last norm and the output
    /// layer, some rows at a time.
    fn log_probs(&self, x: &[f32], mut see: impl FnMut(usize, &[f32])) -> Result<()> {
        let (c, vocab) = (self.config.width, self.config.vocab);
        let head = if self.config.tied { "transformer.wte.weight" } else { "lm_head.weight" };
        let head = Matrix::new(weight(self.params, head)?, vocab, c).t();
        let normed = self.norm(x, "transformer.ln_f")?;
        for (part, normed) in normed.chunks(ROWS * c).enumerate() {
            let mut logits = team(|| linear(normed, normed.len() / c, head, (c, vocab), None));
            log_softmax_rows(&mut logits, vocab);
            logits.chunks_exact(vocab).enumerate().for_each(|(i, row)| see(part * ROWS + i, row));
        }
        Ok(())
    }
}

/// In place.
fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}
