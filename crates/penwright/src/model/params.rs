//! One flat arena of parameters with named views.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use penwright_kernels::Mapped;

use crate::layers::random;

/// Values on a line of 64 bytes.
const LINE: usize = 16;

/// A named view into the arena.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in the safetensors file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it lies in the arena.
    pub range: Range<usize>,
    /// Whether training leaves it as it is.
    pub frozen: bool,
}

impl Tensor {
    /// Whether weight decay applies: matrices only.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// Numbers that are read as a slice wherever they lie: in memory, or in a mapped file of weights. Copies share them
/// until one is written to.
#[derive(Clone, Debug)]
pub struct Values(Store);

#[derive(Clone, Debug)]
enum Store {
    Memory(Arc<Vec<f32>>),
    File(Arc<Mapped>),
}

impl Values {
    /// The numbers of a mapped file, from its first byte on.
    pub(crate) fn mapped(file: Arc<Mapped>) -> Self {
        Values(Store::File(file))
    }

    fn vec(&mut self) -> &mut Vec<f32> {
        if let Store::File(file) = &self.0 {
            self.0 = Store::Memory(Arc::new(file.floats().to_vec()));
        }
        match &mut self.0 {
            Store::Memory(values) => Arc::make_mut(values),
            Store::File(_) => unreachable!("it was just copied to memory"),
        }
    }
}

impl Default for Values {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Values(Store::Memory(Arc::new(values)))
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Store::Memory(values) => values,
            Store::File(file) => file.floats(),
        }
    }
}

impl DerefMut for Values {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.vec()
    }
}

/// All parameters of a model in one buffer. Gradients and moments have the same layout.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// The views, in order.
    pub tensors: Vec<Tensor>,
    /// The values.
    pub data: Values,
}

impl Params {
    /// Tensors of zeros with these names and shapes, one after another.
    pub fn zeros(tensors: impl IntoIterator<Item = (String, Vec<usize>)>) -> Self {
        let mut params = Params::default();
        let mut end = 0;
        for (name, shape) in tensors {
            end = params.place(name, shape, end).end.next_multiple_of(LINE);
        }
        params.data = vec![0.0; end].into();
        params
    }

    /// Adds a tensor of zeros and returns where it lies. Every tensor begins on a line of 16 values.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize]) -> Range<usize> {
        let range = self.place(name.into(), shape.to_vec(), self.data.len());
        self.data.vec().resize(range.end.next_multiple_of(LINE), 0.0);
        range
    }

    fn place(&mut self, name: String, shape: Vec<usize>, start: usize) -> Range<usize> {
        let range = start..start + shape.iter().product::<usize>();
        self.tensors.push(Tensor { name, shape, range: range.clone(), frozen: false });
        range
    }

    /// The same tensors in memory of their own, without what else a file may hold, each on its line.
    pub(crate) fn compact(&self) -> Params {
        let mut params = Params::zeros(self.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())));
        for (to, from) in params.tensors.clone().iter().zip(&self.tensors) {
            params.data[to.range.clone()].copy_from_slice(&self.data[from.range.clone()]);
        }
        params
    }

    /// The parts of the arena that are trained, in order, those side by side as one.
    pub fn trained(&self) -> Vec<Range<usize>> {
        let mut parts: Vec<Range<usize>> = Vec::new();
        for tensor in self.tensors.iter().filter(|tensor| !tensor.frozen) {
            match parts.last_mut().filter(|part| part.end.next_multiple_of(LINE) == tensor.range.start) {
                Some(part) => part.end = tensor.range.end,
                None => parts.push(tensor.range.clone()),
            }
        }
        parts
    }

    /// Number of parameters that are trained.
    pub fn count_trained(&self) -> u64 {
        self.tensors.iter().filter(|tensor| !tensor.frozen).map(|tensor| tensor.range.len() as u64).sum()
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
