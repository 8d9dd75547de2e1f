//! The arithmetic of Penwright: matrix products and element-wise functions. The only crate with `unsafe`.

mod activation;
mod attention;
mod bf16;
pub mod decode;
mod isa;
mod lstm;
mod mapped;
mod masks;
mod math;
mod matmul;
mod mogrify;
mod parts;
pub mod peak;
mod ranges;
mod rows;
mod team;
mod tile;
mod updates;

pub use activation::{
    gelu_exact, gelu_exact_backward, gelu_quick, gelu_quick_backward, relu, relu_backward, silu, silu_backward,
    tanh_of, tanh_of_backward,
};
pub use attention::{CausalHead, Mask};
pub use bf16::{Bf16, Element, same_kind};
pub use isa::{Isa, fast_bf16, isa};
pub use lstm::{LSTM_UNITS, LstmGradients, LstmSums, lstm_backward, lstm_forward};
pub use mapped::Mapped;
pub use masks::{Neighbours, masked, multiply, outputs_backward};
pub use math::{dot, exp, random, sigmoid, tanh};
pub use matmul::{
    Factor, Init, Matrix, Output, Packable, Packed, PackedLeft, finish, matmul, product, product_and_sums,
    product_here, product_into, product_of_packed, product_packed, symmetric_product,
};
pub use mogrify::{mogrify, mogrify_backward};
pub use parts::{BlockMut, Cut, Parts, blocks_mut, chunks, chunks_mut, each, strided_blocks_mut};
pub use ranges::{RangesMut, ranges_mut};
pub use rows::{
    AdamStep, adamw, add, add_columns, cross_entropy, dropout, gelu, gelu_backward, layer_norm, layer_norm_backward,
    log_softmax, narrow, sum_squares, temper, tempered_losses, widen,
};
pub use team::{run, team};
pub use updates::{approach, descend, momentum, nesterov, polynomial, scaled};
