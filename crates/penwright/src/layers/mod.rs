//! The layers of the models, one a file: `forward` beside `backward`, equations and shapes in the comments.
//!
//! Shapes: `B` texts side by side, `T` time steps, `C` channels (width), `V` vocabulary. All matrices are
//! row-major. A backward function *adds* to the gradients of parameters and *sets* those of its input. Work is cut
//! into parts by shape alone (`each`), the arithmetic of a part is in `penwright-kernels`.

mod activation;
mod attention;
mod cross_entropy;
mod dropout;
mod embedding;
mod layer_norm;
mod linear;
mod lstm_cell;

pub use activation::Activation;
pub use attention::Attention;
pub(crate) use cross_entropy::OutputLayer;
pub use cross_entropy::log_softmax;
pub use dropout::{Dropout, random};
pub(crate) use dropout::{Locked, LockedRows};
pub(crate) use embedding::embed_backward;
pub use layer_norm::LayerNorm;
pub(crate) use linear::add_rows;
pub use linear::{Layout, Linear};
pub(crate) use lstm_cell::{Above, Below, Kept, LayerDrop, Lines, LstmLayer, Round, Work, width_of};
pub use penwright_kernels::{Isa, isa};

/// Rows of an element-wise pass that one task takes.
pub(crate) const CHUNK: usize = 32;
/// Elements of an element-wise pass that one task takes.
pub(crate) const TASK: usize = 1 << 13;
