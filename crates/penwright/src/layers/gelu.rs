//! GELU in its tanh form (Hendrycks and Gimpel 2016): `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.

use penwright_kernels::{self as kernels, chunks, chunks_mut, each};

use super::TASK;

/// y = gelu(x).
pub fn gelu(x: &[f32], y: &mut [f32]) {
    each((chunks_mut(y, TASK), chunks(x, TASK)), |_, (y, x)| kernels::gelu(x, y));
}

/// `d` holds dy and becomes dx.
pub fn gelu_backward(x: &[f32], d: &mut [f32]) {
    each((chunks_mut(d, TASK), chunks(x, TASK)), |_, (d, x)| kernels::gelu_backward(x, d));
}
