//! llama.cpp's files: GPT-2 with its tokenizer in one GGUF file, read and written.
//!
//! Weights are read as F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K, of which llama.cpp's files of a
//! GPT-2 down to Q4_K_M consist, and become f32. What is written: [`write()`].

mod blocks;
mod header;
mod names;
mod read;
mod vocab;
mod write;

pub(crate) use read::Gguf;
pub use write::Kind;
pub(crate) use write::write;

#[cfg(test)]
mod tests;
