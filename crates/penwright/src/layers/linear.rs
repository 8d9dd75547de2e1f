//! `y = x W + b`.

use std::ops::Range;

use penwright_kernels::{
    self as kernels, Factor, Init, Matrix, Output, chunks_mut, each, product_and_sums, product_into,
};

/// How a weight matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[inputs, outputs]`, as GPT-2's published files have it.
    InOut,
    /// `[outputs, inputs]`, as PyTorch's `Linear` and `LSTM` have it.
    OutIn,
}

/// A linear layer: where its weight and bias lie in the arena.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Weight, `inputs · outputs` elements.
    pub weight: Range<usize>,
    /// Bias, `[outputs]`, or none.
    pub bias: Option<Range<usize>>,
    /// Input width.
    pub inputs: usize,
    /// Output width.
    pub outputs: usize,
    /// Layout of the weight.
    pub layout: Layout,
}

impl Linear {
    /// The weight as an `[inputs, outputs]` matrix.
    pub(crate) fn matrix<'a>(&self, params: &'a [f32]) -> Matrix<'a> {
        let w = &params[self.weight.clone()];
        match self.layout {
            Layout::InOut => Matrix::new(w, self.inputs, self.outputs),
            Layout::OutIn => Matrix::new(w, self.outputs, self.inputs).t(),
        }
    }

    /// The bias, if there is one.
    pub(crate) fn bias_of<'a>(&self, params: &'a [f32]) -> Option<&'a [f32]> {
        self.bias.clone().map(|bias| &params[bias])
    }

    /// `x W` in the kind of number E, and what becomes of it; x `[rows, inputs]`.
    pub(crate) fn product<E: Factor>(&self, params: &[f32], x: &[E], rows: usize, output: Output<'_, E>) {
        product_into(output, Matrix::new(x, rows, self.inputs), self.matrix(params));
    }

    /// `y = x W + b`; x `[rows, inputs]`, y `[rows, outputs]`.
    pub fn forward<E: Factor>(&self, params: &[f32], x: &[E], y: &mut [E], rows: usize) {
        self.product(params, x, rows, Output::Rounded { c: y, bias: self.bias_of(params) });
    }

    /// `dy Wᵀ`, and what becomes of it; dy `[rows, outputs]`.
    pub(crate) fn product_back<E: Factor>(&self, params: &[f32], dy: &[E], rows: usize, output: Output<'_, E>) {
        product_into(output, Matrix::new(dy, rows, self.outputs), self.matrix(params).t());
    }

    /// `dW += xᵀ dy`, `db += Σ_rows dy`; the weight's gradient is overwritten where it is `fresh`, and so may be the
    /// bias's, of which nothing may be there yet.
    pub fn backward_params<E: Factor>(&self, grads: &mut [f32], x: &[E], dy: &[E], rows: usize, fresh: bool) {
        let (x, dym) = (Matrix::new(x, rows, self.inputs), Matrix::new(dy, rows, self.outputs));
        let init = if fresh { Init::Zero } else { Init::Add };
        // A bias that lies behind its weight is one more row of it.
        let joined = self.bias.clone().filter(|bias| bias.start == self.weight.end && self.layout == Layout::InOut);
        if let Some(bias) = joined {
            let output = Output::<E>::sums(&mut grads[self.weight.start..bias.end], init);
            return product_and_sums(output, x.t(), dym);
        }
        let output = Output::<E>::sums(&mut grads[self.weight.clone()], init);
        match self.layout {
            Layout::InOut => product_into(output, x.t(), dym),
            Layout::OutIn => product_into(output, dym.t(), x),
        }
        if let Some(bias) = &self.bias {
            add_rows(&mut grads[bias.clone()], &dy[..rows * self.outputs], self.outputs);
        }
    }
}

/// `sums += Σ_rows x`, for x of rows `width` long, of which the first `sums.len()` count.
pub(crate) fn add_rows<E: Factor>(sums: &mut [f32], x: &[E], width: usize) {
    const COLS: usize = 64;
    each(chunks_mut(sums, COLS), |i, sums| kernels::add_columns(sums, x, width, i * COLS));
}
