//! `y = x W + b`.

use std::ops::Range;

use penwright_kernels::{Matrix, matmul};

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
    fn matrix<'a>(&self, params: &'a [f32]) -> Matrix<'a> {
        let w = &params[self.weight.clone()];
        match self.layout {
            Layout::InOut => Matrix::new(w, self.inputs, self.outputs),
            Layout::OutIn => Matrix::new(w, self.outputs, self.inputs).t(),
        }
    }

    /// `y = x W + b`; x `[rows, inputs]`, y `[rows, outputs]`.
    pub fn forward(&self, params: &[f32], x: &[f32], y: &mut [f32], rows: usize) {
        if let Some(bias) = &self.bias {
            for row in y[..rows * self.outputs].chunks_exact_mut(self.outputs) {
                row.copy_from_slice(&params[bias.clone()]);
            }
        }
        matmul(y, self.bias.is_some(), Matrix::new(x, rows, self.inputs), self.matrix(params));
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
            let db = &mut grads[bias.clone()];
            for row in dy[..rows * self.outputs].chunks_exact(self.outputs) {
                db.iter_mut().zip(row).for_each(|(d, g)| *d += g);
            }
        }
    }
}
