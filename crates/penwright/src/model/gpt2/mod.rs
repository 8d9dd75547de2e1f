//! GPT-2 (Radford et al. 2019): embeddings, then blocks `x += attention(norm(x)); x += mlp(norm(x))`, a last
//! norm, and the token embedding again as the output layer. Tensors are named as Hugging Face names them.

mod session;

use std::ops::Range;
use std::sync::Arc;

use penwright_kernels::{add, chunks, chunks_mut, each, team};
use serde::{Deserialize, Serialize};

use super::{LanguageModel, ModelKind, Params, Session, TokenScore, Trainable, check_tokens, mean_score, scores_of};
use crate::layers::{
    Attention, Dropout, LayerNorm, Layout, Linear, cross_entropy, embed_backward, gelu, gelu_backward,
};
use crate::{Error, Result};
use session::Gpt2Session;

/// The shape of a GPT-2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpt2Config {
    /// Number of token ids, V.
    pub vocab: usize,
    /// Longest window in tokens.
    pub context: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads a block.
    pub heads: usize,
    /// Width of the embedding, C.
    pub width: usize,
}

impl Gpt2Config {
    /// # Errors
    /// When the shape is impossible.
    pub(crate) fn check(&self) -> Result<()> {
        let Gpt2Config { context, layers, heads, width, .. } = *self;
        for (name, value) in [("context", context), ("layers", layers), ("heads", heads), ("width", width)] {
            if value == 0 {
                return Err(Error::setting(name, "must be at least 1"));
            }
        }
        if !width.is_multiple_of(heads) {
            let problem = format!("{width} is not divisible by --heads {heads}; try {}", width.next_multiple_of(heads));
            return Err(Error::setting("width", problem));
        }
        Ok(())
    }
}

/// Positions that scoring computes at once.
const SCORE_ROWS: usize = 1024;

#[derive(Clone)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    attention_out: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

/// A GPT-2 with its weights.
#[derive(Clone)]
pub struct Gpt2 {
    config: Gpt2Config,
    params: Params,
    token_embedding: Range<usize>,
    position_embedding: Range<usize>,
    blocks: Vec<Block>,
    last_norm: LayerNorm,
    head: Linear,
    saved: Saved,
}

/// What the backward needs, of `rows = B · T` positions, and its working memory.
#[derive(Clone, Default)]
struct Saved {
    rows: usize,
    blocks: Vec<SavedBlock>,
    x: Vec<f32>,
    normed: Vec<f32>,
    logits: Vec<f32>,
    losses: Vec<f64>,
    gradients: Gradients,
}

/// Gradients of activations on their way down.
#[derive(Clone, Default)]
struct Gradients {
    /// Of the residual stream, `[rows, C]`.
    x: Vec<f32>,
    /// Of what a branch adds to it, and of a norm's output, `[rows, C]`.
    branch: Vec<f32>,
    normed: Vec<f32>,
    /// Of query, key and value, or of the wide layer, `[rows, 4C]`.
    wide: Vec<f32>,
    /// Parts of a norm's parameter gradients.
    sums: Vec<f32>,
}

#[derive(Clone, Default)]
struct SavedBlock {
    x: Vec<f32>,
    norm1: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    /// Logarithms of the attention's softmax sums, `[B, heads, T]`.
    logs: Vec<f32>,
    middle: Vec<f32>,
    norm2: Vec<f32>,
    up: Vec<f32>,
    active: Vec<f32>,
}

impl Saved {
    fn resize(&mut self, rows: usize, config: &Gpt2Config) {
        if self.rows == rows {
            return;
        }
        let zeros = |width: usize| vec![0.0; rows * width];
        let c = config.width;
        self.rows = rows;
        (self.x, self.normed, self.logits) = (zeros(c), zeros(c), zeros(config.vocab));
        self.blocks = (0..config.layers)
            .map(|_| SavedBlock {
                x: zeros(c),
                norm1: zeros(c),
                qkv: zeros(3 * c),
                attended: zeros(c),
                logs: zeros(config.heads),
                middle: zeros(c),
                norm2: zeros(c),
                up: zeros(4 * c),
                active: zeros(4 * c),
            })
            .collect();
    }
}

fn linear(params: &mut Params, name: &str, inputs: usize, outputs: usize) -> Linear {
    let weight = params.add(format!("{name}.weight"), &[inputs, outputs]);
    let bias = Some(params.add(format!("{name}.bias"), &[outputs]));
    Linear { weight, bias, inputs, outputs, layout: Layout::InOut }
}

fn norm(params: &mut Params, name: &str, width: usize) -> LayerNorm {
    let gain = params.add(format!("{name}.weight"), &[width]);
    params.data[gain.clone()].fill(1.0);
    LayerNorm { gain, bias: params.add(format!("{name}.bias"), &[width]) }
}

impl Gpt2 {
    /// A new model with GPT-2's initialisation: normal of 0.02, residual projections by 1/√(2 · layers) less. GPT-2 is
    /// at least 768 wide; the matrices of a narrower model begin larger by √(768 / C), so that the sums over C inputs
    /// keep their size. (At width 128 this lowers the loss after 2,000 steps by 0.09 nats; see docs/training-notes.md.)
    ///
    /// # Errors
    /// When the shape is impossible.
    pub fn new(config: Gpt2Config, seed: u64) -> Result<Self> {
        config.check()?;
        let Gpt2Config { vocab, context, layers, width, .. } = config;
        let mut p = Params::default();
        let token_embedding = p.add("transformer.wte.weight", &[vocab, width]);
        let position_embedding = p.add("transformer.wpe.weight", &[context, width]);
        let mut blocks = Vec::new();
        for l in 0..layers {
            let name = |part: &str| format!("transformer.h.{l}.{part}");
            blocks.push(Block {
                norm1: norm(&mut p, &name("ln_1"), width),
                qkv: linear(&mut p, &name("attn.c_attn"), width, 3 * width),
                attention_out: linear(&mut p, &name("attn.c_proj"), width, width),
                norm2: norm(&mut p, &name("ln_2"), width),
                up: linear(&mut p, &name("mlp.c_fc"), width, 4 * width),
                down: linear(&mut p, &name("mlp.c_proj"), 4 * width, width),
            });
        }
        let last_norm = norm(&mut p, "transformer.ln_f", width);
        let head = Linear {
            weight: token_embedding.clone(),
            bias: None,
            inputs: width,
            outputs: vocab,
            layout: Layout::OutIn,
        };
        let std = 0.02 * (768.0 / width as f32).max(1.0).sqrt();
        let residual = std / (2.0 * layers as f32).sqrt();
        p.fill_normal(&token_embedding, 0.02, seed);
        p.fill_normal(&position_embedding, 0.02, seed);
        for block in &blocks {
            p.fill_normal(&block.qkv.weight, std, seed);
            p.fill_normal(&block.attention_out.weight, residual, seed);
            p.fill_normal(&block.up.weight, std, seed);
            p.fill_normal(&block.down.weight, residual, seed);
        }
        Ok(Gpt2 {
            config,
            params: p,
            token_embedding,
            position_embedding,
            blocks,
            last_norm,
            head,
            saved: Saved::default(),
        })
    }

    /// The shape.
    pub fn config(&self) -> &Gpt2Config {
        &self.config
    }

    fn attention(&self, time: usize) -> Attention {
        Attention { time, heads: self.config.heads, head_width: self.config.width / self.config.heads }
    }

    /// x = token embedding + position embedding, `[rows, C]`; positions start anew in each text of `time`.
    fn embed(&self, tokens: &[u32], time: usize, x: &mut [f32]) {
        let c = self.config.width;
        let wte = &self.params.data[self.token_embedding.clone()];
        let wpe = &self.params.data[self.position_embedding.clone()];
        each((chunks_mut(x, c), chunks(tokens, 1)), |row, (x, token)| {
            x.copy_from_slice(&wte[token[0] as usize * c..][..c]);
            add(x, &wpe[row % time * c..][..c]);
        });
    }

    /// Logits `[B · T, V]` into `s.logits`, keeping what the backward needs.
    fn forward(&self, s: &mut Saved, tokens: &[u32], batch: usize, dropout: Dropout) {
        let rows = tokens.len();
        let time = rows / batch;
        let p = &self.params.data;
        s.resize(rows, &self.config);
        self.embed(tokens, time, &mut s.x);
        dropout.at(0).apply(&mut s.x);
        for (l, (block, kept)) in self.blocks.iter().zip(&mut s.blocks).enumerate() {
            let place = dropout.at(l as u64 + 1);
            std::mem::swap(&mut kept.x, &mut s.x);
            block.norm1.forward(p, &kept.x, &mut kept.norm1);
            block.qkv.forward(p, &kept.norm1, &mut kept.qkv, rows);
            self.attention(time).forward(&kept.qkv, &mut kept.attended, &mut kept.logs, place.at(1));
            block.attention_out.forward(p, &kept.attended, &mut kept.middle, rows);
            place.at(2).residual(&mut kept.middle, &kept.x);
            block.norm2.forward(p, &kept.middle, &mut kept.norm2);
            block.up.forward(p, &kept.norm2, &mut kept.up, rows);
            gelu(&kept.up, &mut kept.active);
            block.down.forward(p, &kept.active, &mut s.x, rows);
            place.at(3).residual(&mut s.x, &kept.middle);
        }
        self.last_norm.forward(p, &s.x, &mut s.normed);
        self.head.forward(p, &s.normed, &mut s.logits, rows);
    }

    /// `s.logits` holds the gradient of the logits; adds the gradients of all parameters.
    fn backward(&self, s: &mut Saved, tokens: &[u32], batch: usize, grads: &mut [f32], dropout: Dropout) {
        let (rows, c) = (tokens.len(), self.config.width);
        let time = rows / batch;
        let p = &self.params.data;
        let Gradients { x: dx, branch, normed: d, wide, sums } = &mut s.gradients;
        for (buffer, width) in [(&mut *dx, c), (&mut *branch, c), (&mut *d, c), (&mut *wide, 4 * c)] {
            buffer.resize(rows * width, 0.0);
        }
        self.head.backward_params(grads, &s.normed, &s.logits, rows);
        self.head.backward_input(p, &s.logits, d, rows);
        dx.fill(0.0);
        self.last_norm.backward_add(p, grads, &s.x, d, dx, sums);
        for (l, (block, kept)) in self.blocks.iter().zip(&s.blocks).enumerate().rev() {
            let place = dropout.at(l as u64 + 1);
            let dy = place.at(3).masked(dx, branch);
            block.down.backward_params(grads, &kept.active, dy, rows);
            block.down.backward_input(p, dy, wide, rows);
            gelu_backward(&kept.up, wide);
            block.up.backward_params(grads, &kept.norm2, wide, rows);
            block.up.backward_input(p, wide, d, rows);
            block.norm2.backward_add(p, grads, &kept.middle, d, dx, sums);

            let dy = place.at(2).masked(dx, branch);
            block.attention_out.backward_params(grads, &kept.attended, dy, rows);
            block.attention_out.backward_input(p, dy, d, rows);
            let dqkv = &mut wide[..rows * 3 * c];
            self.attention(time).backward(&kept.qkv, &kept.logs, d, dqkv, place.at(1));
            block.qkv.backward_params(grads, &kept.norm1, dqkv, rows);
            block.qkv.backward_input(p, dqkv, d, rows);
            block.norm1.backward_add(p, grads, &kept.x, d, dx, sums);
        }
        dropout.at(0).apply(dx);
        embed_backward(&mut grads[self.token_embedding.clone()], tokens, dx, c);
        let dwpe = &mut grads[self.position_embedding.clone()][..time * c];
        each(chunks_mut(dwpe, c), |t, dwpe| {
            for dx in dx.chunks_exact(time * c) {
                add(dwpe, &dx[t * c..][..c]);
            }
        });
    }
}

impl LanguageModel for Gpt2 {
    fn kind(&self) -> ModelKind {
        ModelKind::Gpt2
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab
    }

    fn context(&self) -> Option<usize> {
        Some(self.config.context)
    }

    fn num_params(&self) -> u64 {
        self.params.count()
    }

    fn session(self: Arc<Self>, streams: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(Gpt2Session::new(self, streams)))
    }

    fn score(
        &self,
        tokens: &[u32],
        stride: Option<usize>,
        sink: &mut dyn FnMut(&[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        check_tokens(tokens, self.config.vocab)?;
        let context = self.config.context;
        let stride = stride.unwrap_or(context).clamp(1, context);
        let (mut saved, mut done, n) = (Saved::default(), 0, tokens.len().saturating_sub(1));
        let side_by_side = (SCORE_ROWS / context).max(1) * context;
        // Windows that do not overlap are texts of one batch.
        while stride == context && done + side_by_side <= n {
            let end = done + side_by_side;
            team(|| self.forward(&mut saved, &tokens[done..end], side_by_side / context, Dropout::OFF));
            sink(&scores_of(&mut saved.logits, &tokens[done + 1..=end], self.config.vocab))?;
            done = end;
        }
        while done < n {
            // The window ends `stride` new tokens on and reaches back as far as the context allows.
            let end = if done == 0 { context.min(n) } else { (done + stride).min(n) };
            let start = end.saturating_sub(context).min(done);
            team(|| self.forward(&mut saved, &tokens[start..end], 1, Dropout::OFF));
            let new = &mut saved.logits[(done - start) * self.config.vocab..];
            sink(&scores_of(new, &tokens[done + 1..=end], self.config.vocab))?;
            done = end;
        }
        Ok(())
    }
}

impl Trainable for Gpt2 {
    fn params(&self) -> &Params {
        &self.params
    }

    fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    fn train_step(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        batch: usize,
        grads: &mut [f32],
        dropout: Dropout,
    ) -> f64 {
        let (mut saved, vocab) = (std::mem::take(&mut self.saved), self.config.vocab);
        let scale = 1.0 / tokens.len() as f32;
        let loss = team(|| {
            self.forward(&mut saved, tokens, batch, dropout);
            let loss = cross_entropy(&mut saved.logits, targets, vocab, scale, &mut saved.losses);
            self.backward(&mut saved, tokens, batch, grads, dropout);
            loss
        });
        self.saved = saved;
        loss / tokens.len() as f64
    }

    fn reset_stream(&mut self, _stream: usize) {}

    fn validate(&self, tokens: &[u32]) -> Result<f64> {
        Ok(mean_score(self, tokens, None)?.0)
    }

    fn snapshot(&self) -> Arc<dyn LanguageModel> {
        Arc::new(Gpt2 { saved: Saved::default(), ..self.clone() })
    }

    fn into_model(mut self: Box<Self>) -> Arc<dyn LanguageModel> {
        self.saved = Saved::default();
        Arc::new(*self)
    }
}
