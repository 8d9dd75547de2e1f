//! A file that llama.cpp opens.

use std::path::Path;

use crate::model::{Gpt2Config, Params};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// The type of the numbers in a GGUF file; vectors are f32 in any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GgufType {
    /// 32-bit floating point: the weights as they are.
    F32,
    /// 16-bit floating point.
    #[default]
    F16,
    /// Floating point of f32's range with 8 bits of precision.
    Bf16,
    /// Blocks of 32 numbers of 8 bits with a scale.
    Q8_0,
    /// Blocks of 32 numbers of 4 bits with a scale.
    Q4_0,
}

/// Writes the model into the file `path`.
pub(super) fn write(
    _path: &Path,
    _shape: &Gpt2Config,
    _params: &Params,
    _tokenizer: &Tokenizer,
    kind: GgufType,
) -> Result<()> {
    match kind {
        GgufType::F32 | GgufType::F16 | GgufType::Bf16 | GgufType::Q8_0 | GgufType::Q4_0 => {
            Err(Error::Unsupported("GGUF files are not built yet; use --to hf".into()))
        }
    }
}
