//! The layers of the models, one a file: `forward` beside `backward`, equations and shapes in the comments.
//!
//! Shapes: `B` texts side by side, `T` time steps, `C` channels (width), `V` vocabulary. All matrices are
//! row-major. A backward function *adds* to the gradients of parameters and *sets* those of its input.

mod attention;
mod cross_entropy;
mod dropout;
mod gelu;
mod layer_norm;
mod linear;
mod lstm_cell;

pub use attention::Attention;
pub use cross_entropy::{cross_entropy, log_softmax};
pub use dropout::{Dropout, random};
pub use gelu::{gelu, gelu_backward};
pub use layer_norm::LayerNorm;
pub use linear::{Layout, Linear};
pub use lstm_cell::{lstm_cell, lstm_cell_backward};

/// Rows of an element-wise pass that one task takes.
pub(crate) const CHUNK: usize = 16;
