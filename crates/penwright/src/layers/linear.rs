//! `y = x W + b`.

use std::ops::Range;

use penwright_kernels::{self as kernels, Init, Matrix, chunks_mut, each, matmul, product};

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

    /// `y = x W + b`; x `[rows, inputs]`, y `[rows, outputs]`.
    pub fn forward(&self, params: &[f32], x: &[f32], y: &mut [f32], rows: usize) {
        let init = self.bias.clone().map_or(Init::Zero, |bias| Init::Bias(&params[bias]));
        product(y, init, Matrix::new(x, rows, self.inputs), self.matrix(params));
    }

    /// `dx = dy Wᵀ`.
    pub fn backward_input(&self, params: &[f32], dy: &[f32], dx: &mut [f32], rows: usize) {
        matmul(dx, false, Matrix::new(dy, rows, self.outputs), self.matrix(params).t());
    }

    /// `dW += xᵀ dy`, `db += Σ_rows dy`.
    pub fn backward_params(&self, grads: &mut [f32], x: &[f32], dy: &[f32], rows: usize) {
        let (x, dym) = (Matrix::new(x, rows, self.inputs), Matrix::new(dy, rows, self.outputs));
        let dw = &mut grads[self.weight.clone()];
        match self.layout {
            Layout::InOut => matmul(dw, true, x.t(), dym),
            Layout::OutIn => matmul(dw, true, dym.t(), x),
        }
        if let Some(bias) = &self.bias {
            add_rows(&mut grads[bias.clone()], &dy[..rows * self.outputs]);
        }
    }
}

/// `sums += Σ_rows x`, for x `[rows, sums.len()]`.
pub(crate) fn add_rows(sums: &mut [f32], x: &[f32]) {
    const COLS: usize = 64;
    let cols = sums.len();
    each(chunks_mut(sums, COLS), |i, sums| kernels::add_columns(sums, x, cols, i * COLS));
}
