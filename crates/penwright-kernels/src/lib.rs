//! The arithmetic of Penwright: matrix products and element-wise functions. The only crate with `unsafe`.

mod math;
mod matmul;

pub use math::{dot, exp, sigmoid, tanh};
pub use matmul::{Matrix, matmul};
