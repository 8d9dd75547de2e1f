//! Forward and backward through the layers, in f32 or bfloat16 (what products multiply; all sums are f32).

use penwright_kernels::{Element, Factor, Init, Matrix, Output, Packable, chunks, chunks_mut, each, product_into};

use super::{Lstm, State};
use crate::layers::{Above, Below, CHUNK, Dropout, Kept, Lines, OutputLayer, TASK, Work, embed_backward, width_of};

/// What the backward needs, time-major: row `t · B + b`; and working memory.
pub(super) struct Saved<E: Factor> {
    tokens: Vec<u32>,
    targets: Vec<u32>,
    inputs: Inputs<E>,
    layers: Vec<Kept<E>>,
    /// Outputs of each layer but the last after dropout, when there is any.
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
            layers: Vec::new(),
            dropped: Vec::new(),
            work: Work::default(),
            logits: Vec::new(),
            output: OutputLayer::default(),
            d: Vec::new(),
        }
    }
}

/// The different tokens of a batch: the first layer multiplies the embedding of each once, not once a place.
struct Inputs<E> {
    /// Each of them, in the order of their first places.
    tokens: Vec<u32>,
    /// Which of them each place has.
    which: Vec<u32>,
    /// By token: which it is, plus one.
    seen: Vec<u32>,
    /// Their embeddings.
    rows: Lines<E>,
}

impl<E> Default for Inputs<E> {
    fn default() -> Self {
        Inputs { tokens: Vec::new(), which: Vec::new(), seen: Vec::new(), rows: Lines::default() }
    }
}

impl<E: Packable> Inputs<E> {
    fn set(&mut self, tokens: &[u32], table: &[f32], width: usize) {
        self.seen.resize(table.len() / width, 0);
        self.tokens.drain(..).for_each(|token| self.seen[token as usize] = 0);
        self.which.clear();
        for &token in tokens {
            let seen = &mut self.seen[token as usize];
            if *seen == 0 {
                self.tokens.push(token);
                *seen = self.tokens.len() as u32;
            }
            self.which.push(*seen - 1);
        }
        let stride = width_of::<E>(width);
        let rows = self.rows.take(self.tokens.len() * stride);
        each((chunks_mut(rows, CHUNK * stride), chunks(&self.tokens, CHUNK)), |_, (rows, tokens)| {
            for (row, &token) in rows.chunks_exact_mut(stride).zip(tokens) {
                let from = &table[token as usize * width..][..width];
                row.iter_mut().zip(from).for_each(|(to, from)| *to = E::of(*from));
            }
        });
    }

    fn below(&self, width: usize) -> Below<'_, E> {
        let (n, stride) = (self.tokens.len(), width_of::<E>(width));
        Below::Table(Matrix::strided(self.rows.get(n * stride), n, width, stride), n, &self.which)
    }
}

/// `[B, T]` to `[T, B]`.
fn time_major(tokens: &[u32], batch: usize, out: &mut Vec<u32>) {
    let time = tokens.len() / batch;
    out.clear();
    out.extend((0..tokens.len()).map(|i| tokens[i % batch * time + i / batch]));
}

/// `y = dropout(x)` on a matrix `[rows, width]`, whose rows begin `stride` elements apart; number i belongs to element i
/// of the matrix.
fn dropped_copy<E: Element>(x: &[E], y: &mut [E], (width, stride): (usize, usize), dropout: Dropout) {
    const COLS: usize = 256;
    each((chunks_mut(y, CHUNK * stride), chunks(x, CHUNK * stride)), |task, (y, x)| {
        let mut part = [0.0; COLS];
        for (i, (y, x)) in y.chunks_exact_mut(stride).zip(x.chunks_exact(stride)).enumerate() {
            for (j, (y, x)) in y[..width].chunks_mut(COLS).zip(x.chunks(COLS)).enumerate() {
                part.iter_mut().zip(x).for_each(|(p, x)| *p = x.get());
                dropout.apply_here(&mut part[..y.len()], (task * CHUNK + i) * width + j * COLS);
                y.iter_mut().zip(&part).for_each(|(y, p)| *y = E::of(*p));
            }
        }
    });
}

impl Lstm {
    /// The layers over time-major tokens; `state` moves on to the end.
    pub(super) fn forward<E: Factor>(&self, s: &mut Saved<E>, tokens: &[u32], state: &mut State, dropout: Dropout) {
        let (rows, batch, e) = (tokens.len(), state.batch, self.config.embed);
        let time = rows / batch;
        let p = &self.params.data;
        s.inputs.set(tokens, &p[self.embedding.clone()], e);
        s.layers.resize_with(self.layers.len(), Kept::default);
        s.dropped.resize_with(self.layers.len(), Lines::default);
        for (l, layer) in self.layers.iter().enumerate() {
            let (below, kept) = s.layers.split_at_mut(l);
            if let (Some(below), true) = (below.last(), dropout.is_on()) {
                let layer = &self.layers[l - 1];
                let (x, stride) = layer.output_rows(below, batch, time);
                dropped_copy(x, s.dropped[l - 1].take(x.len()), (layer.hidden, stride), dropout.at(l as u64 - 1));
            }
            let below = self.below(l, &s.inputs, below, &s.dropped, (batch, time), dropout);
            let state = (&mut state.hidden[l][..], &mut state.cell[l][..]);
            layer.forward(p, &mut kept[0], &mut s.work, below, state, time);
        }
    }

    /// Logits `[T · B, V]` of the last forward pass of one text.
    pub(super) fn logits<'a, E: Factor>(&self, s: &'a mut Saved<E>) -> &'a mut [f32] {
        let (p, time) = (&self.params.data, s.inputs.which.len());
        s.logits.resize(time * self.config.vocab, 0.0);
        let init = self.head.bias_of(p).map_or(Init::Zero, Init::Bias);
        let outputs = self.outputs(&s.layers, 1, time);
        product_into::<E, _, _>(Output::Sums { c: &mut s.logits, init }, outputs, self.head.matrix(p));
        &mut s.logits
    }

    /// What layer `l` reads; `layers` are those below it, at least.
    fn below<'a, E: Factor>(
        &self,
        l: usize,
        inputs: &'a Inputs<E>,
        layers: &'a [Kept<E>],
        dropped: &'a [Lines<E>],
        (batch, time): (usize, usize),
        dropout: Dropout,
    ) -> Below<'a, E> {
        let Some(below) = l.checked_sub(1) else { return inputs.below(self.config.embed) };
        let layer = &self.layers[below];
        if dropout.is_on() {
            let (x, stride) = layer.output_rows(&layers[below], batch, time);
            return Below::Rows(Matrix::strided(dropped[below].get(x.len()), batch * time, layer.hidden, stride));
        }
        Below::Rows(layer.outputs(&layers[below], batch, time, false))
    }

    /// What the last layer puts out.
    fn outputs<'a, E: Factor>(&self, layers: &'a [Kept<E>], batch: usize, time: usize) -> Matrix<'a, E> {
        let last = self.layers.len() - 1;
        self.layers[last].outputs(&layers[last], batch, time, false)
    }

    /// After the loss: adds the gradients of all parameters, or overwrites what was there where they are `fresh`.
    fn backward<E: Factor>(
        &self,
        s: &mut Saved<E>,
        batch: usize,
        (grads, fresh): (&mut [f32], bool),
        dropout: Dropout,
    ) {
        let rows = s.inputs.which.len();
        let time = rows / batch;
        let (p, head) = (&self.params.data, &self.head);
        if fresh {
            self.clear_sums(grads);
        }
        s.d.resize(rows * head.inputs, E::default());
        let x = self.outputs(&s.layers, batch, time);
        s.output.backward(head, p, Some((&mut *grads, fresh)), x, &mut s.d);
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let (kept, upper) = s.layers.split_at_mut(l + 1);
            let (lower, kept) = kept.split_at_mut(l);
            let below = self.below(l, &s.inputs, lower, &s.dropped, (batch, time), dropout);
            let (above, mask) = match upper.first() {
                Some(upper) => (self.layers[l + 1].above(upper, rows), dropout.at(l as u64)),
                None => (Above::Ready(&s.d), Dropout::OFF),
            };
            let memory = (&mut kept[0], &mut s.work);
            layer.backward(p, (&mut *grads, fresh), memory, (below, above), (batch, time), mask);
        }
        embed_backward(&mut grads[self.embedding.clone()], &s.inputs.tokens, s.work.dtable(), self.config.embed);
    }

    /// Sets to zero the gradients that several parts are added to; the others are written by one product.
    fn clear_sums(&self, grads: &mut [f32]) {
        let biases = self.layers.iter().flat_map(|layer| layer.input.bias.iter().chain([&layer.recurrent_bias]));
        biases.chain(&self.head.bias).for_each(|bias| grads[bias.clone()].fill(0.0));
        if self.head.weight != self.embedding {
            each(chunks_mut(&mut grads[self.embedding.clone()], TASK), |_, g| g.fill(0.0));
        }
    }

    /// Forward and backward of a step; the sum of the losses.
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
        self.forward(s, &inputs, state, dropout);
        let x = self.outputs(&s.layers, batch, tokens.len() / batch);
        let scale = 1.0 / tokens.len() as f32;
        let loss = s.output.loss(&self.head, &self.params.data, x, &outputs, scale);
        self.backward(s, batch, grads, dropout);
        (s.tokens, s.targets) = (inputs, outputs);
        loss
    }
}
