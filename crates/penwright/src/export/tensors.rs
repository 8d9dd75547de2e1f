//! Weights as safetensors in any floating-point type, as other tools name them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype as Stored, SafeTensorError, View, serialize_to_file};

use crate::files::little_endian;
use crate::model::{Params, Tensor};
use crate::{Error, Result};

/// The type of the numbers in a safetensors file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floating point: the weights as they are.
    #[default]
    F32,
    /// 16-bit floating point: half the size, 11 bits of precision, nothing beyond 65504.
    F16,
    /// Floating point of f32's range: half the size, 8 bits of precision.
    Bf16,
}

impl Dtype {
    /// PyTorch's name, as `config.json` has it.
    pub(super) fn torch(self) -> &'static str {
        match self {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
        }
    }

    fn holds(self, x: f32) -> bool {
        match self {
            Dtype::F32 => x.is_finite(),
            Dtype::F16 => f16::from_f32(x).is_finite(),
            Dtype::Bf16 => bf16::from_f32(x).is_finite(),
        }
    }
}

/// A tensor whose bytes are made when they are written, so that no second copy of all weights is needed.
struct Values<'a> {
    tensor: &'a Tensor,
    data: &'a [f32],
    dtype: Dtype,
}

impl View for Values<'_> {
    fn dtype(&self) -> Stored {
        match self.dtype {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::Bf16 => Stored::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.dtype {
            Dtype::F32 => little_endian(self.data),
            Dtype::F16 => self.data.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect::<Vec<_>>().into(),
            Dtype::Bf16 => self.data.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect::<Vec<_>>().into(),
        }
    }

    fn data_len(&self) -> usize {
        self.data.len() * if self.dtype == Dtype::F32 { 4 } else { 2 }
    }
}

/// Writes all tensors, each under the name that `rename` makes of its own. Equal weights make equal files.
///
/// # Errors
/// When a number is too large for the type, or the disk does not take the file.
pub(super) fn write(path: &Path, params: &Params, dtype: Dtype, rename: impl Fn(&str) -> String) -> Result<()> {
    let mut views = Vec::with_capacity(params.tensors.len());
    for tensor in &params.tensors {
        let data = params.data.get(tensor.range.clone()).unwrap_or_default();
        if let Some(x) = data.iter().find(|&&x| !dtype.holds(x)) {
            let problem = format!("{} has the weight {x}, which {} cannot hold; use f32", tensor.name, dtype.torch());
            return Err(Error::setting("dtype", problem));
        }
        views.push((rename(&tensor.name), Values { tensor, data, dtype }));
    }
    // One entry alone: the library writes several in a random order.
    let metadata = HashMap::from([("format".into(), "pt".into())]);
    serialize_to_file(views, Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(source) => Error::io("write", path)(source),
        error => Error::damaged(path, format!("cannot be written ({error})")),
    })
}
