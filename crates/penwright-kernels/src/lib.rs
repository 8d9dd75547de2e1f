//! The arithmetic of Penwright: matrix products and element-wise functions. The only crate with `unsafe`.

mod activation;
mod decode;
mod isa;
mod lstm;
mod mapped;
mod math;
mod matmul;
mod parts;
pub mod peak;
mod rows;
mod team;
mod tile;

pub use activation::{
    gelu_exact, gelu_exact_backward, gelu_quick, gelu_quick_backward, relu, relu_backward, silu, silu_backward,
    tanh_of, tanh_of_backward,
};
pub use decode::{linear_in_out, linear_out_in};
pub use isa::{Isa, isa};
pub use lstm::{lstm_cell, lstm_cell_backward};
pub use mapped::Mapped;
pub use math::{dot, exp, random, sigmoid, tanh};
pub use matmul::{Init, Matrix, Packed, matmul, product, product_here};
pub use parts::{BlockMut, Cut, Parts, blocks_mut, chunks, chunks_mut, each};
pub use rows::{
    AdamStep, adamw, add, add_columns, causal_probabilities, causal_softmax, cross_entropy, dropout, gelu,
    gelu_backward, layer_norm, layer_norm_backward, log_softmax, softmax_backward, sum_squares,
};
pub use team::{run, team};
