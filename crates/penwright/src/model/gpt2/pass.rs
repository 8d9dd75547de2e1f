//! The forward and backward pass over whole texts.
//!
//! What the backward needs of a block is about 16 numbers a channel and position. With [`Keep::Inputs`] only each
//! block's input is kept and the rest computed once more in the backward (Chen et al. 2016): about a third more work
//! for a small part of the memory.

use penwright_kernels::{add, chunks, chunks_mut, each};

use super::lora::{LoraMemory, Part};
use super::{Block, Gpt2, Gpt2Config};
use crate::layers::{Attention, Dropout, embed_backward};

/// What a forward pass keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// All that the backward needs.
    All,
    /// The input of each block.
    Inputs,
    /// Nothing: there is no backward.
    Nothing,
}

/// What the backward needs, of `rows = B · T` positions, and its working memory. A copy begins empty.
#[derive(Default)]
pub(super) struct Saved {
    rows: usize,
    /// The input of each block, `[rows, C]`; of one when nothing is kept.
    inputs: Vec<Vec<f32>>,
    /// What is inside each block; of one when it is not kept.
    blocks: Vec<Inside>,
    x: Vec<f32>,
    normed: Vec<f32>,
    pub(super) logits: Vec<f32>,
    pub(super) losses: Vec<f64>,
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
    /// Of query, key and value, or of the wide layer, `[rows, max(3C, inner)]`.
    wide: Vec<f32>,
    /// Parts of a norm's parameter gradients.
    sums: Vec<f32>,
    lora: LoraMemory,
}

/// The inside of a block.
#[derive(Clone, Default)]
struct Inside {
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

impl Clone for Saved {
    fn clone(&self) -> Self {
        Saved::default()
    }
}

impl Saved {
    /// Number of positions of the last forward pass.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    fn resize(&mut self, rows: usize, config: &Gpt2Config, keep: Keep) {
        let inputs = if keep == Keep::Nothing { 1 } else { config.layers };
        let blocks = if keep == Keep::All { config.layers } else { 1 };
        if (self.rows, self.inputs.len(), self.blocks.len()) == (rows, inputs, blocks) {
            return;
        }
        let zeros = |width: usize| vec![0.0; rows * width];
        let (c, inner) = (config.width, config.inner());
        self.rows = rows;
        (self.x, self.normed) = (zeros(c), zeros(c));
        self.inputs = (0..inputs).map(|_| zeros(c)).collect();
        let inside = || Inside {
            norm1: zeros(c),
            qkv: zeros(3 * c),
            attended: zeros(c),
            logs: zeros(config.heads),
            middle: zeros(c),
            norm2: zeros(c),
            up: zeros(inner),
            active: zeros(inner),
        };
        self.blocks = (0..blocks).map(|_| inside()).collect();
    }
}

impl Gpt2 {
    fn attention(&self, layer: usize, time: usize) -> Attention {
        let Gpt2Config { width, heads, .. } = self.config;
        Attention { time, heads, head_width: width / heads, scale: self.config.attention_scale(layer) }
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

    /// The normed output of the last block, `[B · T, C]`, of B texts; [`Gpt2::logits`] makes logits of it.
    pub(super) fn forward(&self, s: &mut Saved, tokens: &[u32], batch: usize, dropout: Dropout, keep: Keep) {
        let rows = tokens.len();
        let time = rows / batch;
        let p = &self.params.data;
        s.resize(rows, &self.config, keep);
        self.embed(tokens, time, &mut s.x);
        dropout.at(0).apply(&mut s.x);
        for l in 0..self.blocks.len() {
            let input = if keep == Keep::Nothing { 0 } else { l };
            let inside = &mut s.blocks[if keep == Keep::All { l } else { 0 }];
            std::mem::swap(&mut s.inputs[input], &mut s.x);
            let place = dropout.at(l as u64 + 1);
            let memory = &mut s.gradients.lora;
            self.block(l, &s.inputs[input], inside, time, place, memory);
            self.linear((l, Part::Down), &inside.active, &mut s.x, rows, memory);
            place.at(3).residual(&mut s.x, &inside.middle);
        }
        self.last_norm.forward(p, &s.x, &mut s.normed);
    }

    /// A block up to its last product.
    fn block(
        &self,
        layer: usize,
        x: &[f32],
        inside: &mut Inside,
        time: usize,
        place: Dropout,
        memory: &mut LoraMemory,
    ) {
        let (p, rows) = (&self.params.data, x.len() / self.config.width);
        let Block { norm1, norm2, .. } = &self.blocks[layer];
        norm1.forward(p, x, &mut inside.norm1);
        self.linear((layer, Part::Qkv), &inside.norm1, &mut inside.qkv, rows, memory);
        self.attention(layer, time).forward(&inside.qkv, &mut inside.attended, &mut inside.logs, place.at(1));
        self.linear((layer, Part::AttentionOut), &inside.attended, &mut inside.middle, rows, memory);
        place.at(2).residual(&mut inside.middle, x);
        norm2.forward(p, &inside.middle, &mut inside.norm2);
        self.linear((layer, Part::Up), &inside.norm2, &mut inside.up, rows, memory);
        self.config.activation.forward(&inside.up, &mut inside.active);
    }

    /// The logits `[rows, V]` of some of the positions of the last forward pass.
    pub(super) fn logits<'a>(&self, s: &'a mut Saved, first: usize, rows: usize) -> &'a mut [f32] {
        let c = self.config.width;
        s.logits.resize(rows * self.config.vocab, 0.0);
        self.head.forward(&self.params.data, &s.normed[first * c..][..rows * c], &mut s.logits, rows);
        &mut s.logits
    }

    /// `s.logits` holds the gradient of the logits; adds the gradients of all parameters that are trained.
    pub(super) fn backward(&self, s: &mut Saved, tokens: &[u32], batch: usize, grads: &mut [f32], dropout: Dropout) {
        let (rows, c) = (tokens.len(), self.config.width);
        let (time, wide_width) = (rows / batch, self.config.inner().max(3 * c));
        let g = &mut s.gradients;
        for (buffer, width) in [(&mut g.x, c), (&mut g.branch, c), (&mut g.normed, c), (&mut g.wide, wide_width)] {
            buffer.resize(rows * width, 0.0);
        }
        if self.trains_head() {
            self.head.backward_params(grads, &s.normed, &s.logits, rows);
        }
        self.head.backward_input(&self.params.data, &s.logits, &mut g.normed, rows);
        g.x.fill(0.0);
        let norm_grads = self.lora.is_none().then_some(&mut *grads);
        self.last_norm.backward_add(&self.params.data, norm_grads, &s.x, &g.normed, &mut g.x, &mut g.sums);
        let kept = s.blocks.len() == self.blocks.len();
        for l in (self.first_trained()..self.blocks.len()).rev() {
            let (place, input) = (dropout.at(l as u64 + 1), &s.inputs[l]);
            let inside = &mut s.blocks[if kept { l } else { 0 }];
            if !kept {
                self.block(l, input, inside, time, place, &mut g.lora);
            }
            self.block_backward(l, (input, inside), time, grads, g, place);
        }
        if self.trains_embeddings() {
            dropout.at(0).apply(&mut g.x);
            embed_backward(&mut grads[self.token_embedding.clone()], tokens, &g.x, c);
            let dwpe = &mut grads[self.position_embedding.clone()][..time * c];
            each(chunks_mut(dwpe, c), |t, dwpe| {
                for dx in g.x.chunks_exact(time * c) {
                    add(dwpe, &dx[t * c..][..c]);
                }
            });
        }
    }

    /// `g.x` holds the gradient of the block's output and becomes that of its input `x`.
    fn block_backward(
        &self,
        l: usize,
        (x, inside): (&[f32], &Inside),
        time: usize,
        grads: &mut [f32],
        g: &mut Gradients,
        place: Dropout,
    ) {
        let (p, c, rows) = (&self.params.data, self.config.width, x.len() / self.config.width);
        let Gradients { x: dx, branch, normed: d, wide, sums, lora } = g;
        let Block { norm1, norm2, .. } = &self.blocks[l];
        let norms = self.lora.is_none() && !self.is_frozen(l);

        let dy = place.at(3).masked(dx, branch);
        let dup = &mut wide[..rows * self.config.inner()];
        self.linear_backward((l, Part::Down), grads, (&inside.active, dy), dup, lora);
        self.config.activation.backward(&inside.up, dup);
        self.linear_backward((l, Part::Up), grads, (&inside.norm2, dup), d, lora);
        norm2.backward_add(p, norms.then_some(&mut *grads), &inside.middle, d, dx, sums);

        let dy = place.at(2).masked(dx, branch);
        self.linear_backward((l, Part::AttentionOut), grads, (&inside.attended, dy), d, lora);
        let dqkv = &mut wide[..rows * 3 * c];
        self.attention(l, time).backward(&inside.qkv, &inside.attended, &inside.logs, d, dqkv, place.at(1));
        self.linear_backward((l, Part::Qkv), grads, (&inside.norm1, dqkv), d, lora);
        norm1.backward_add(p, norms.then_some(&mut *grads), x, d, dx, sums);
    }
}
