//! The arithmetic of Penwright: matrix products and element-wise functions. The only crate with `unsafe`.

mod mapped;
mod math;
mod matmul;

pub use mapped::Mapped;
pub use math::{dot, exp, sigmoid, tanh};
pub use matmul::{Matrix, matmul};
