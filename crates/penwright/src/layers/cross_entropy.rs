//! The output layer with softmax and cross-entropy. Logits are there for some rows at a time; what is kept of all is
//! their gradient, in the kind of number that products multiply.

use penwright_kernels::{self as kernels, Factor, Init, Matrix, Output, Packed, chunks, chunks_mut, each};
use penwright_kernels::{finish, product_into, product_packed};

use super::{CHUNK, Layout, Linear, add_rows};

pub use penwright_kernels::log_softmax;

/// Logits that are there at once, at least for [`ROWS`] rows.
const LOGITS: usize = 1 << 22;
const ROWS: usize = 128;
/// A vocabulary that is more than a few parts of an inner dimension.
const LONG: usize = 4096;

/// Working memory of the output layer, and the gradient of the logits between its two halves.
pub(crate) struct OutputLayer<E: Factor> {
    /// The weight, for the logits.
    packed: Packed<E>,
    logits: Vec<f32>,
    /// `[rows, V]`, each row filled up with zeros to whole groups of the inner product.
    d: Vec<E>,
    losses: Vec<f64>,
}

impl<E: Factor> Default for OutputLayer<E> {
    fn default() -> Self {
        OutputLayer { packed: Packed::default(), logits: Vec::new(), d: Vec::new(), losses: Vec::new() }
    }
}

/// A copy begins empty.
impl<E: Factor> Clone for OutputLayer<E> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<E: Factor> OutputLayer<E> {
    /// The sum over the rows of `−ln softmax(x W + b)[target]`, in nats; keeps the gradient `(softmax − onehot) · scale`
    /// of the logits. x is `[rows, inputs]`, as many rows as targets.
    pub(crate) fn loss(
        &mut self,
        layer: &Linear,
        params: &[f32],
        x: Matrix<'_, E>,
        targets: &[u32],
        scale: f32,
    ) -> f64 {
        let vocab = layer.outputs;
        let (width, rows) = (vocab.next_multiple_of(E::GROUP), targets.len());
        let at_once = (LOGITS / vocab).max(ROWS).next_multiple_of(CHUNK).min(rows);
        self.packed.pack(layer.matrix(params));
        self.d.resize(rows * width, E::default());
        self.logits.resize(at_once * vocab, 0.0);
        self.losses.resize(rows.div_ceil(CHUNK), 0.0);
        for first in (0..rows).step_by(at_once.max(1)) {
            let n = at_once.min(rows - first);
            let logits = &mut self.logits[..n * vocab];
            let init = layer.bias_of(params).map_or(Init::Zero, Init::Bias);
            product_packed(Output::Sums { c: logits, init }, x.rows(first, n), &self.packed);
            let parts = (
                chunks_mut(logits, CHUNK * vocab),
                chunks_mut(&mut self.d[first * width..], CHUNK * width),
                chunks(&targets[first..first + n], CHUNK),
                chunks_mut(&mut self.losses[first / CHUNK..], 1),
            );
            each(parts, |_, (logits, d, targets, loss)| loss[0] = kernels::cross_entropy(logits, targets, scale, d));
        }
        self.losses.iter().sum() // in the order of the rows, whichever thread computed them
    }

    /// The gradient of the input; and those of the weight and bias where they are trained, the weight's overwritten
    /// where it is `fresh`.
    pub(crate) fn backward(
        &mut self,
        layer: &Linear,
        params: &[f32],
        grads: Option<(&mut [f32], bool)>,
        x: Matrix<'_, E>,
        dx: &mut [E],
    ) {
        let (vocab, width) = (layer.outputs, layer.outputs.next_multiple_of(E::GROUP));
        let rows = self.d.len() / width;
        let (d, weight) = (Matrix::new(&self.d, rows, width), layer.matrix(params).t());
        if vocab <= LONG {
            product_into(Output::Rounded { c: dx, bias: None }, d, weight);
        } else {
            // Sums, of which `product_into` makes a part of the vocabulary after the other: each is packed and used up
            // while it is in the caches.
            let len = rows * layer.inputs;
            self.logits.resize(self.logits.len().max(len), 0.0);
            let sums = &mut self.logits[..len];
            product_into(Output::<E>::sums(sums, Init::Zero), d, weight);
            finish(Output::Rounded { c: dx, bias: None }, sums, rows, layer.inputs);
        }
        let Some((grads, fresh)) = grads else { return };
        let d = Matrix::strided(&self.d, rows, vocab, width);
        let init = if fresh { Init::Zero } else { Init::Add };
        let output = Output::<E>::sums(&mut grads[layer.weight.clone()], init);
        match layer.layout {
            Layout::InOut => product_into(output, x.t(), d),
            Layout::OutIn => product_into(output, d.t(), x),
        }
        if let Some(bias) = &layer.bias {
            add_rows(&mut grads[bias.clone()], &self.d, width);
        }
    }
}
