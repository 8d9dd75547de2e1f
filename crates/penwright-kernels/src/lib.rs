//! The arithmetic of Penwright: matrix products and element-wise functions. The only crate with `unsafe`.

mod decode;
mod math;
mod matmul;

pub use decode::{linear_in_out, linear_out_in};
pub use math::{dot, exp, sigmoid, tanh};
pub use matmul::{Matrix, matmul};
