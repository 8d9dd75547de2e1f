//! Forward and backward through the layers, in f32 or bfloat16 (what products multiply; all sums are f32).

use penwright_kernels::{Element, Factor, Init, Matrix, Output, chunks, chunks_mut, each, masked, product_into};

use super::inputs::Inputs;
use super::regularization::Masks;
use super::{Lstm, State};
use crate::layers::{
    Above, Below, CHUNK, Dropout, Kept, LayerDrop, Lines, LockedRows, OutputLayer, TASK, Work, embed_backward,
};

/// What the backward needs, time-major: row `t · B + b`; and working memory.
pub(super) struct Saved<E: Factor> {
    tokens: Vec<u32>,
    targets: Vec<u32>,
    inputs: Inputs<E>,
    layers: Vec<Kept<E>>,
    /// What is dropped in a step of training; nothing where the model is only asked.
    masks: Masks,
    /// Outputs of each layer after dropout, where there is any.
    dropped: Vec<Lines<E>>,
    work: Work<E>,
    logits: Vec<f32>,
    output: OutputLayer<E>,
    /// Gradient of the last layer's outputs, `[T · B, H]`.
    d: Vec<E>,
}

impl<E: Factor> Default for Saved<E> {
    fn default() -> Self {
        Saved {
            tokens: Vec::new(),
            targets: Vec::new(),
            inputs: Inputs::default(),
            masks: Masks::default(),
            layers: Vec::new(),
            dropped: Vec::new(),
            work: Work::default(),
            logits: Vec::new(),
            output: OutputLayer::default(),
            d: Vec::new(),
        }
    }
}

/// `[B, T]` to `[T, B]`.
fn time_major(tokens: &[u32], batch: usize, out: &mut Vec<u32>) {
    let time = tokens.len() / batch;
    out.clear();
    out.extend((0..tokens.len()).map(|i| tokens[i % batch * time + i / batch]));
}

/// `y = mask ⊙ x` on a matrix whose rows begin `stride` elements apart.
fn masked_copy<E: Element>(x: &[E], y: &mut [E], stride: usize, mask: LockedRows<'_>) {
    each((chunks_mut(y, CHUNK * stride), chunks(x, CHUNK * stride)), |task, (y, x)| {
        for (i, (y, x)) in y.chunks_exact_mut(stride).zip(x.chunks_exact(stride)).enumerate() {
            masked(x, mask.of(task * CHUNK + i), y);
        }
    });
}

impl Lstm {
    /// The layers over time-major tokens, with what `s.masks` drops; `state` moves on to the end.
    pub(super) fn forward<E: Factor>(&self, s: &mut Saved<E>, tokens: &[u32], state: &mut State) {
        let (batch, p) = (state.batch, &self.params.data);
        let time = tokens.len() / batch;
        let table = (&p[self.embedding.clone()], self.config.embed);
        s.inputs.set(tokens, table, &s.masks, self.config.mogrifier > 0);
        s.layers.resize_with(self.layers.len(), Kept::default);
        s.dropped.resize_with(self.layers.len(), Lines::default);
        for (l, layer) in self.layers.iter().enumerate() {
            let (below, kept) = s.layers.split_at_mut(l);
            let below = match l.checked_sub(1) {
                Some(below_l) => Below::Rows(self.shown(below_l, below, &s.dropped, &s.masks, (batch, time))),
                None => s.inputs.below(self.config.embed),
            };
            let states = (&mut state.hidden[l][..], &mut state.cell[l][..]);
            layer.forward(p, &mut kept[0], &mut s.work, below, states, time, self.drop_of(l, &s.masks).weights);
            if let Some(mask) = s.masks.output(l) {
                let (x, stride) = layer.output_rows(&kept[0], batch, time);
                masked_copy(x, s.dropped[l].take(x.len()), stride, mask);
            }
        }
    }

    /// Logits `[T · B, V]` of the last forward pass.
    pub(super) fn logits<'a, E: Factor>(&self, s: &'a mut Saved<E>, batch: usize) -> &'a mut [f32] {
        let (p, rows) = (&self.params.data, s.inputs.len());
        s.logits.resize(rows * self.config.vocab, 0.0);
        let init = self.head.bias_of(p).map_or(Init::Zero, Init::Bias);
        let outputs = self.shown(self.layers.len() - 1, &s.layers, &s.dropped, &s.masks, (batch, rows / batch));
        product_into::<E, _, _>(Output::Sums { c: &mut s.logits, init }, outputs, self.head.matrix(p));
        &mut s.logits
    }

    /// The logits as they are, and what the last layer put out for them: rows, their width and how far apart they
    /// begin.
    pub(super) fn logits_and_outputs<'a, E: Factor>(
        &self,
        s: &'a mut Saved<E>,
    ) -> (&'a mut [f32], (&'a [E], usize, usize)) {
        let last = self.layers.len() - 1;
        let (outputs, stride) = self.layers[last].output_rows(&s.layers[last], 1, s.inputs.len());
        (&mut s.logits, (outputs, self.layers[last].hidden, stride))
    }

    /// The gradient of one text's mean loss after a forward pass.
    pub(super) fn gradient<E: Factor>(&self, s: &mut Saved<E>, targets: &[u32], grads: &mut [f32]) {
        let x = self.shown(self.layers.len() - 1, &s.layers, &s.dropped, &s.masks, (1, targets.len()));
        s.output.loss(&self.head, &self.params.data, x, targets, 1.0 / targets.len() as f32);
        self.backward(s, 1, (grads, true));
    }

    /// What layer `l` shows to the one above it, `[T · B, H]`.
    fn shown<'a, E: Factor>(
        &self,
        l: usize,
        layers: &'a [Kept<E>],
        dropped: &'a [Lines<E>],
        masks: &Masks,
        (batch, time): (usize, usize),
    ) -> Matrix<'a, E> {
        let (layer, kept) = (&self.layers[l], &layers[l]);
        if masks.output(l).is_none() {
            return layer.outputs(kept, batch, time, false);
        }
        let (x, stride) = layer.output_rows(kept, batch, time);
        Matrix::strided(dropped[l].get(x.len()), batch * time, layer.hidden, stride)
    }

    /// What is dropped within layer `l`. The last layer's outputs are [`Masks::outputs_back`]'s.
    fn drop_of<'a>(&self, l: usize, masks: &'a Masks) -> LayerDrop<'a> {
        let outputs = if l + 1 < self.layers.len() { masks.output(l) } else { None };
        LayerDrop { outputs, weights: masks.weights(l) }
    }

    /// After the loss: adds the gradients of all parameters, or overwrites what was there where they are `fresh`.
    fn backward<E: Factor>(&self, s: &mut Saved<E>, batch: usize, (grads, fresh): (&mut [f32], bool)) {
        let (rows, last) = (s.inputs.len(), self.layers.len() - 1);
        let time = rows / batch;
        let (p, head) = (&self.params.data, &self.head);
        if fresh {
            self.clear_sums(grads);
        }
        s.d.resize(rows * head.inputs, E::default());
        let x = self.shown(last, &s.layers, &s.dropped, &s.masks, (batch, time));
        s.output.backward(head, p, Some((&mut *grads, fresh)), x, &mut s.d);
        let h = self.layers[last].output_rows(&s.layers[last], batch, time);
        s.masks.outputs_back(&mut s.d, h, (batch, head.inputs));
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let (kept, upper) = s.layers.split_at_mut(l + 1);
            let (lower, kept) = kept.split_at_mut(l);
            let below = match l.checked_sub(1) {
                Some(below) => Below::Rows(self.shown(below, lower, &s.dropped, &s.masks, (batch, time))),
                None => s.inputs.below(self.config.embed),
            };
            let above = upper.first().map_or(Above::Ready(&s.d), |upper| self.layers[l + 1].above(upper, rows));
            let memory = (&mut kept[0], &mut s.work);
            let drop = self.drop_of(l, &s.masks);
            layer.backward(p, (&mut *grads, fresh), memory, (below, above), (batch, time), drop);
        }
        if !s.inputs.is_table() {
            self.layers[0].rows_back(&s.layers[0], &mut s.work, rows);
        }
        let dinputs = s.work.dinputs();
        let tokens = s.inputs.mask_back(dinputs, self.config.embed, &s.masks);
        embed_backward(&mut grads[self.embedding.clone()], tokens, dinputs, self.config.embed);
    }

    /// Sets to zero the gradients that several parts are added to; the others are written by one product.
    fn clear_sums(&self, grads: &mut [f32]) {
        let biases = self.layers.iter().flat_map(|layer| layer.input.bias.iter().chain([&layer.recurrent_bias]));
        biases.chain(&self.head.bias).for_each(|bias| grads[bias.clone()].fill(0.0));
        if self.head.weight != self.embedding {
            each(chunks_mut(&mut grads[self.embedding.clone()], TASK), |_, g| g.fill(0.0));
        }
    }

    /// Forward and backward of a step; the sum of the losses, without what regularisation adds to it.
    pub(super) fn learn<E: Factor>(
        &self,
        s: &mut Saved<E>,
        (tokens, targets): (&[u32], &[u32]),
        state: &mut State,
        grads: (&mut [f32], bool),
        dropout: Dropout,
    ) -> f64 {
        let (mut inputs, mut outputs) = (std::mem::take(&mut s.tokens), std::mem::take(&mut s.targets));
        let batch = state.batch;
        time_major(tokens, batch, &mut inputs);
        time_major(targets, batch, &mut outputs);
        s.masks.draw(&self.config, batch, &self.regularization, dropout);
        self.forward(s, &inputs, state);
        let last = self.layers.len() - 1;
        let x = self.shown(last, &s.layers, &s.dropped, &s.masks, (batch, tokens.len() / batch));
        let scale = 1.0 / tokens.len() as f32;
        let loss = s.output.loss(&self.head, &self.params.data, x, &outputs, scale);
        self.backward(s, batch, grads);
        (s.tokens, s.targets) = (inputs, outputs);
        loss
    }
}
