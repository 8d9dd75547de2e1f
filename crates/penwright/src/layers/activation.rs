//! The non-linearity of GPT-2's wide layer: GELU in its tanh form (Hendrycks and Gimpel 2016),
//! `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, and what other configurations name instead.

use penwright_kernels::{self as kernels, Factor, chunks, chunks_mut, each};
use serde::{Deserialize, Serialize};

use super::TASK;

/// A non-linearity, element by element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// GPT-2's own: GELU in its tanh form.
    #[default]
    GeluNew,
    /// GELU exactly, by the normal distribution function.
    Gelu,
    /// GELU in its sigmoid form.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x σ(x)`, also called swish.
    Silu,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// By the name that Hugging Face's configurations have for it; of the several forms of one function each is known.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" => Activation::GeluNew,
            "gelu" | "gelu_python" => Activation::Gelu,
            "quick_gelu" => Activation::QuickGelu,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            "tanh" => Activation::Tanh,
            _ => return None,
        })
    }

    /// Hugging Face's name.
    pub fn name(self) -> &'static str {
        match self {
            Activation::GeluNew => "gelu_new",
            Activation::Gelu => "gelu",
            Activation::QuickGelu => "quick_gelu",
            Activation::Relu => "relu",
            Activation::Silu => "silu",
            Activation::Tanh => "tanh",
        }
    }

    /// y = f(x).
    pub fn forward<E: Factor>(self, x: &[E], y: &mut [E]) {
        let pass = match self {
            Activation::GeluNew => kernels::gelu,
            Activation::Gelu => kernels::gelu_exact,
            Activation::QuickGelu => kernels::gelu_quick,
            Activation::Relu => kernels::relu,
            Activation::Silu => kernels::silu,
            Activation::Tanh => kernels::tanh_of,
        };
        each((chunks_mut(y, TASK), chunks(x, TASK)), |_, (y, x)| {
            let (mut wide, mut out) = ([0.0; PART], [0.0; PART]);
            for (x, y) in x.chunks(PART).zip(y.chunks_mut(PART)) {
                let (wide, out) = (&mut wide[..x.len()], &mut out[..x.len()]);
                kernels::widen(x, wide);
                pass(wide, out);
                kernels::narrow(out, y);
            }
        });
    }

    /// `d` holds dy and becomes dx.
    pub fn backward<E: Factor>(self, x: &[E], d: &mut [E]) {
        let pass = match self {
            Activation::GeluNew => kernels::gelu_backward,
            Activation::Gelu => kernels::gelu_exact_backward,
            Activation::QuickGelu => kernels::gelu_quick_backward,
            Activation::Relu => kernels::relu_backward,
            Activation::Silu => kernels::silu_backward,
            Activation::Tanh => kernels::tanh_of_backward,
        };
        each((chunks_mut(d, TASK), chunks(x, TASK)), |_, (d, x)| {
            let (mut wide, mut slope) = ([0.0; PART], [0.0; PART]);
            for (x, d) in x.chunks(PART).zip(d.chunks_mut(PART)) {
                let (wide, slope) = (&mut wide[..x.len()], &mut slope[..x.len()]);
                kernels::widen(x, wide);
                kernels::widen(d, slope);
                pass(wide, slope);
                kernels::narrow(slope, d);
            }
        });
    }
}

/// Values that are f32 at once.
const PART: usize = 512;
