//! One flat arena of parameters with named views.

use std::ops::Range;

use crate::layers::random;

/// A named view into the arena.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in the safetensors file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it lies in the arena.
    pub range: Range<usize>,
}

impl Tensor {
    /// Whether weight decay applies: matrices only.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// All parameters of a model in one buffer. Gradients and moments have the same layout.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// The views, in order.
    pub tensors: Vec<Tensor>,
    /// The values.
    pub data: Vec<f32>,
}

impl Params {
    /// Adds a tensor of zeros and returns where it lies. Every tensor begins on a line of 16 values.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize]) -> Range<usize> {
        let start = self.data.len();
        let range = start..start + shape.iter().product::<usize>();
        self.data.resize(range.end.next_multiple_of(16), 0.0);
        self.tensors.push(Tensor { name: name.into(), shape: shape.to_vec(), range: range.clone() });
        range
    }

    /// Number of parameters, padding not counted.
    pub fn count(&self) -> u64 {
        self.tensors.iter().map(|t| t.range.len() as u64).sum()
    }

    /// The view of a name.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// Fills a range with normal numbers of the given standard deviation (Box and Muller 1958).
    pub(crate) fn fill_normal(&mut self, range: &Range<usize>, std: f32, seed: u64) {
        let key = random(seed, range.start as u64);
        for (i, x) in self.data[range.clone()].iter_mut().enumerate() {
            let a = (random(key, 2 * i as u64) >> 11) as f64 / (1u64 << 53) as f64;
            let b = (random(key, 2 * i as u64 + 1) >> 11) as f64 / (1u64 << 53) as f64;
            let radius = (-2.0 * (1.0 - a).ln()).sqrt();
            *x = std * (radius * (std::f64::consts::TAU * b).cos()) as f32;
        }
    }

    /// Fills a range with numbers uniform in ±`bound`.
    pub(crate) fn fill_uniform(&mut self, range: &Range<usize>, bound: f32, seed: u64) {
        let key = random(seed, range.start as u64);
        for (i, x) in self.data[range.clone()].iter_mut().enumerate() {
            *x = bound * ((random(key, i as u64) >> 40) as f32 / (1u64 << 23) as f32 - 1.0);
        }
    }
}
