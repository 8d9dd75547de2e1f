//! The forward and backward pass over whole texts.
//!
//! What products multiply is of the kind E, f32 or bfloat16; the residual stream and its gradient, norms, softmax and
//! all sums are f32.
//!
//! What the backward needs of a block is about 16 numbers a channel and position. With [`Keep::Inputs`] only each
//! block's input is kept and the rest computed once more in the backward (Chen et al. 2016): about a third more work
//! for a small part of the memory.

use penwright_kernels::{Factor, Init, Matrix, Output, Packed, add, chunks, chunks_mut, each, product_packed};

use super::lora::{LoraMemory, Part};
use super::{Block, Gpt2, Gpt2Config};
use crate::layers::{Activation, Attention, Dropout, OutputLayer, embed_backward};

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

/// What the backward needs, of `rows = B · T` positions, and its working memory.
pub(super) struct Saved<E: Factor> {
    rows: usize,
    /// The input of each block, `[rows, C]`; of one when nothing is kept.
    inputs: Vec<Vec<f32>>,
    /// What is inside each block; of one when it is not kept.
    blocks: Vec<Inside<E>>,
    x: Vec<f32>,
    normed: Vec<E>,
    /// The output layer's weight, for scoring.
    head: Packed<E>,
    logits: Vec<f32>,
    output: OutputLayer<E>,
    gradients: Gradients<E>,
}

impl<E: Factor> Default for Saved<E> {
    fn default() -> Self {
        Saved {
            rows: 0,
            inputs: Vec::new(),
            blocks: Vec::new(),
            x: Vec::new(),
            normed: Vec::new(),
            head: Packed::default(),
            logits: Vec::new(),
            output: OutputLayer::default(),
            gradients: Gradients::default(),
        }
    }
}

/// Gradients of activations on their way down.
#[derive(Default)]
struct Gradients<E> {
    /// Of the residual stream, `[rows, C]`.
    x: Vec<f32>,
    /// Of what a branch adds to it, and of a norm's output, `[rows, C]`.
    branch: Vec<E>,
    normed: Vec<E>,
    /// Of query, key and value, or of the wide layer, `[rows, max(3C, inner)]`.
    wide: Vec<E>,
    /// Parts of a norm's parameter gradients.
    sums: Vec<f32>,
    lora: LoraMemory,
}

/// The inside of a block.
struct Inside<E> {
    norm1: Vec<E>,
    qkv: Vec<E>,
    attended: Vec<E>,
    /// Logarithms of the attention's softmax sums, `[B, heads, T]`.
    logs: Vec<f32>,
    middle: Vec<f32>,
    norm2: Vec<E>,
    up: Vec<E>,
    active: Vec<E>,
}

impl<E: Factor> Saved<E> {
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
        let empty = |width: usize| vec![E::default(); rows * width];
        let (c, inner) = (config.width, config.inner());
        self.rows = rows;
        (self.x, self.normed) = (zeros(c), empty(c));
        self.inputs = (0..inputs).map(|_| zeros(c)).collect();
        let inside = || Inside {
            norm1: empty(c),
            qkv: empty(3 * c),
            attended: empty(c),
            logs: zeros(config.heads),
            middle: zeros(c),
            norm2: empty(c),
            up: empty(inner),
            active: empty(inner),
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
    pub(super) fn forward<E: Factor>(
        &self,
        s: &mut Saved<E>,
        tokens: &[u32],
        batch: usize,
        dropout: Dropout,
        keep: Keep,
    ) {
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
            let output = self.residual((l, Part::Down), &mut s.x, &inside.middle, place.at(3));
            self.linear((l, Part::Down), &inside.active, output, rows, memory);
        }
        self.last_norm.forward(p, &s.x, &mut s.normed);
    }

    /// The end of a branch: `c = x + dropout(sums + bias)`.
    fn residual<'a, E: Factor>(
        &'a self,
        part: (usize, Part),
        c: &'a mut [f32],
        x: &'a [f32],
        dropout: Dropout,
    ) -> Output<'a, E> {
        Output::Residual { c, x, bias: self.bias(part), dropout: dropout.mask() }
    }

    /// A block up to its last product.
    fn block<E: Factor>(
        &self,
        layer: usize,
        x: &[f32],
        inside: &mut Inside<E>,
        time: usize,
        place: Dropout,
        memory: &mut LoraMemory,
    ) {
        let (p, rows) = (&self.params.data, x.len() / self.config.width);
        let Block { norm1, norm2, .. } = &self.blocks[layer];
        let [qkv, out, up] = [Part::Qkv, Part::AttentionOut, Part::Up].map(|part| (layer, part));
        norm1.forward(p, x, &mut inside.norm1);
        let output = Output::Rounded { c: &mut inside.qkv, bias: self.bias(qkv) };
        self.linear(qkv, &inside.norm1, output, rows, memory);
        self.attention(layer, time).forward(&inside.qkv, &mut inside.attended, &mut inside.logs, place.at(1));
        let output = self.residual(out, &mut inside.middle, x, place.at(2));
        self.linear(out, &inside.attended, output, rows, memory);
        norm2.forward(p, &inside.middle, &mut inside.norm2);
        if self.config.activation == Activation::GeluNew {
            let output = Output::Gelu { before: &mut inside.up, after: &mut inside.active, bias: self.bias(up) };
            return self.linear(up, &inside.norm2, output, rows, memory);
        }
        let output = Output::Rounded { c: &mut inside.up, bias: self.bias(up) };
        self.linear(up, &inside.norm2, output, rows, memory);
        self.config.activation.forward(&inside.up, &mut inside.active);
    }

    /// Takes up the output layer's weight for [`Gpt2::logits`].
    pub(super) fn pack_head<E: Factor>(&self, s: &mut Saved<E>) {
        s.head.pack(self.head.matrix(&self.params.data));
    }

    /// The logits `[rows, V]` of some of the positions of the last forward pass.
    pub(super) fn logits<'a, E: Factor>(&self, s: &'a mut Saved<E>, first: usize, rows: usize) -> &'a mut [f32] {
        let c = self.config.width;
        s.logits.resize(rows * self.config.vocab, 0.0);
        let x = Matrix::new(&s.normed[first * c..], rows, c);
        product_packed(Output::Sums { c: &mut s.logits, init: Init::Zero }, x, &s.head);
        &mut s.logits
    }

    /// The loss of all positions of the last forward pass, summed, in nats; keeps what [`Gpt2::backward`] needs.
    pub(super) fn loss<E: Factor>(&self, s: &mut Saved<E>, targets: &[u32]) -> f64 {
        let scale = 1.0 / targets.len() as f32;
        s.output.loss(&self.head, &self.params.data, &s.normed, targets, scale)
    }

    /// Adds the gradients of all parameters that are trained, or overwrites what was there where they are `fresh`.
    pub(super) fn backward<E: Factor>(
        &self,
        s: &mut Saved<E>,
        tokens: &[u32],
        batch: usize,
        (grads, fresh): (&mut [f32], bool),
        dropout: Dropout,
    ) {
        let (rows, c) = (tokens.len(), self.config.width);
        let (time, wide_width) = (rows / batch, self.config.inner().max(3 * c));
        if fresh {
            self.clear_sums(grads);
        }
        let g = &mut s.gradients;
        g.x.resize(rows * c, 0.0);
        g.normed.resize(rows * c, E::default());
        g.wide.resize(rows * wide_width, E::default());
        let head_grads = self.trains_head().then_some((&mut *grads, fresh));
        s.output.backward(&self.head, &self.params.data, head_grads, &s.normed, &mut g.normed);
        each(chunks_mut(&mut g.x, c), |_, x| x.fill(0.0));
        let norm_grads = self.lora.is_none().then_some(&mut *grads);
        self.last_norm.backward_add(&self.params.data, norm_grads, &s.x, &g.normed, &mut g.x, &mut g.sums);
        let kept = s.blocks.len() == self.blocks.len();
        for l in (self.first_trained()..self.blocks.len()).rev() {
            let (place, input) = (dropout.at(l as u64 + 1), &s.inputs[l]);
            let inside = &mut s.blocks[if kept { l } else { 0 }];
            if !kept {
                self.block(l, input, inside, time, place, &mut g.lora);
            }
            self.block_backward(l, (input, inside), time, (grads, fresh), g, place);
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

    /// Sets to zero the gradients that are sums of several parts; those of matrices are written by one product.
    fn clear_sums(&self, grads: &mut [f32]) {
        let mut written: Vec<usize> = Vec::new();
        if self.lora.is_none() {
            let blocks = self.blocks.iter().enumerate().filter(|(l, _)| !self.is_frozen(*l));
            let matrices = |block: &Block| {
                [&block.qkv, &block.attention_out, &block.up, &block.down].map(|linear| linear.weight.start)
            };
            written.extend(blocks.flat_map(|(_, block)| matrices(block)));
            written.extend(self.trains_head().then_some(self.head.weight.start));
        }
        let params = self.lora.as_ref().map_or(&self.params, |lora| &lora.params);
        for tensor in params.tensors.iter().filter(|t| !t.frozen && !written.contains(&t.range.start)) {
            each(chunks_mut(&mut grads[tensor.range.clone()], TASK), |_, g| g.fill(0.0));
        }
    }

    /// `g.x` holds the gradient of the block's output and becomes that of its input `x`.
    fn block_backward<E: Factor>(
        &self,
        l: usize,
        (x, inside): (&[f32], &Inside<E>),
        time: usize,
        (grads, fresh): (&mut [f32], bool),
        g: &mut Gradients<E>,
        place: Dropout,
    ) {
        let (p, c, rows) = (&self.params.data, self.config.width, x.len() / self.config.width);
        let Gradients { x: dx, branch, normed: d, wide, sums, lora } = g;
        let Block { norm1, norm2, .. } = &self.blocks[l];
        let norms = self.lora.is_none() && !self.is_frozen(l);
        let activation = self.config.activation;

        let dy = place.at(3).masked(dx, branch);
        let dup = &mut wide[..rows * self.config.inner()];
        let fused = activation == Activation::GeluNew;
        let output = match fused {
            true => Output::GeluBackward { d: dup, before: &inside.up },
            false => Output::Rounded { c: dup, bias: None },
        };
        self.linear_backward((l, Part::Down), (grads, fresh), (&inside.active, dy), output, lora);
        let dup = &mut wide[..rows * self.config.inner()];
        if !fused {
            activation.backward(&inside.up, dup);
        }
        let output = Output::Rounded { c: d, bias: None };
        self.linear_backward((l, Part::Up), (grads, fresh), (&inside.norm2, dup), output, lora);
        norm2.backward_add(p, norms.then_some(&mut *grads), &inside.middle, d, dx, sums);

        let dy = place.at(2).masked(dx, branch);
        let output = Output::Rounded { c: d, bias: None };
        self.linear_backward((l, Part::AttentionOut), (grads, fresh), (&inside.attended, dy), output, lora);
        let dqkv = &mut wide[..rows * 3 * c];
        self.attention(l, time).backward(&inside.qkv, &inside.attended, &inside.logs, d, dqkv, place.at(1));
        let output = Output::Rounded { c: d, bias: None };
        self.linear_backward((l, Part::Qkv), (grads, fresh), (&inside.norm1, dqkv), output, lora);
        norm1.backward_add(p, norms.then_some(&mut *grads), x, d, dx, sums);
    }
}

/// Elements of a pass that one task takes.
const TASK: usize = 1 << 14;
