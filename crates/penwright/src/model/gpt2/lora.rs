//! Low-rank adapters (LoRA, Hu et al. 2021): beside a frozen matrix W a product of two narrow ones is trained,
//! `y = x W + b + s (x Aᵀ) Bᵀ`, A `[r, inputs]`, B `[outputs, r]`, s = α / r. B begins as zero, so that training begins
//! with the model as it is. Tensors are named as the library PEFT names them.

use std::ops::Range;

use penwright_kernels::{Factor, Init, Matrix, Output, chunks_mut, each, finish, product, product_into};
use serde::{Deserialize, Serialize};

use super::{Block, Gpt2, Gpt2Config};
use crate::layers::{Layout, Linear};
use crate::model::Params;
use crate::{Error, Result};

/// A matrix of a block that can have an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Qkv,
    AttentionOut,
    Up,
    Down,
}

pub(super) const PARTS: [Part; 4] = [Part::Qkv, Part::AttentionOut, Part::Up, Part::Down];

impl Part {
    /// Hugging Face's name within a block.
    fn name(self) -> &'static str {
        match self {
            Part::Qkv => "attn.c_attn",
            Part::AttentionOut => "attn.c_proj",
            Part::Up => "mlp.c_fc",
            Part::Down => "mlp.c_proj",
        }
    }

    /// Whether a target names this matrix: the whole name or its end, as PEFT has it.
    fn is_named(self, target: &str) -> bool {
        self.name().strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    pub(super) fn of(self, block: &Block) -> &Linear {
        match self {
            Part::Qkv => &block.qkv,
            Part::AttentionOut => &block.attention_out,
            Part::Up => &block.up,
            Part::Down => &block.down,
        }
    }
}

/// What a set of adapters is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// r, the width of the narrow matrices.
    pub rank: usize,
    /// α.
    pub alpha: f32,
    /// The matrices that have an adapter: `c_attn`, `c_proj` (attention's and the wide layer's, or one of them as
    /// `attn.c_proj`, `mlp.c_proj`), `c_fc`.
    pub targets: Vec<String>,
    /// Whether s is α / √r instead of α / r (Kalajdzievski 2023).
    #[serde(default)]
    pub rank_stabilized: bool,
}

impl LoraConfig {
    /// All matrices of the blocks.
    pub const TARGETS: [&str; 3] = ["c_attn", "c_proj", "c_fc"];

    /// s.
    pub fn scale(&self) -> f32 {
        self.alpha / if self.rank_stabilized { (self.rank as f32).sqrt() } else { self.rank as f32 }
    }

    /// Number of parameters of the adapters of a model.
    pub fn num_params(&self, config: &Gpt2Config) -> u64 {
        tensors(self, config).map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
    }

    /// Whether a target names a matrix of a block.
    pub(crate) fn knows(target: &str) -> bool {
        PARTS.iter().any(|part| part.is_named(target))
    }

    /// # Errors
    /// When a value cannot work; the sentence names its flag.
    pub(crate) fn check(&self) -> Result<()> {
        if self.rank == 0 || self.rank > 4096 {
            return Err(Error::setting("lora", format!("{} is not between 1 and 4096; try 8", self.rank)));
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(Error::setting("lora-alpha", format!("{} is not a positive number", self.alpha)));
        }
        if self.targets.is_empty() {
            return Err(Error::setting("lora-targets", "names no matrix; give c_attn, c_proj or c_fc"));
        }
        match self.targets.iter().find(|target| !Self::knows(target)) {
            Some(target) => {
                let known = "c_attn, c_proj, attn.c_proj, mlp.c_proj and c_fc";
                Err(Error::setting("lora-targets", format!("{target:?} is no matrix of a block; there are {known}")))
            }
            None => Ok(()),
        }
    }
}

/// The adapters of a model.
#[derive(Clone, Debug)]
pub struct Lora {
    /// What they are.
    pub config: LoraConfig,
    /// A and B of each, named `base_model.model.transformer.h.0.attn.c_attn.lora_A.weight` and so on.
    pub params: Params,
    blocks: Vec<[Option<Adapter>; 4]>,
}

#[derive(Clone, Debug)]
struct Adapter {
    a: Range<usize>,
    b: Range<usize>,
}

/// Names and shapes of the adapters' matrices, those of a block in the order of [`PARTS`].
fn tensors(lora: &LoraConfig, config: &Gpt2Config) -> impl Iterator<Item = (String, Vec<usize>)> {
    let (c, inner, rank) = (config.width, config.inner(), lora.rank);
    let parts: Vec<Part> =
        PARTS.into_iter().filter(|part| lora.targets.iter().any(|target| part.is_named(target))).collect();
    (0..config.layers).flat_map(move |layer| parts.clone().into_iter().map(move |part| (layer, part))).flat_map(
        move |(layer, part)| {
            let (inputs, outputs) = match part {
                Part::Qkv => (c, 3 * c),
                Part::AttentionOut => (c, c),
                Part::Up => (c, inner),
                Part::Down => (inner, c),
            };
            let name =
                |which: &str| format!("base_model.model.transformer.h.{layer}.{}.lora_{which}.weight", part.name());
            [(name("A"), vec![rank, inputs]), (name("B"), vec![outputs, rank])]
        },
    )
}

impl Lora {
    /// New adapters: A uniform in ±1/√inputs, B zero.
    ///
    /// # Errors
    /// When a value of the configuration cannot work.
    pub fn new(lora: LoraConfig, config: &Gpt2Config, seed: u64) -> Result<Self> {
        lora.check()?;
        let mut params = Params::zeros(tensors(&lora, config));
        for tensor in params.tensors.clone().iter().filter(|tensor| tensor.name.ends_with("lora_A.weight")) {
            params.fill_uniform(&tensor.range, 1.0 / (tensor.shape[1] as f32).sqrt(), seed);
        }
        Ok(Self::with_params(lora, config, params))
    }

    /// The names and shapes that adapters of a model have.
    pub(crate) fn zeros(lora: LoraConfig, config: &Gpt2Config) -> Result<Self> {
        lora.check()?;
        let params = Params::zeros(tensors(&lora, config));
        Ok(Self::with_params(lora, config, params))
    }

    fn with_params(lora: LoraConfig, config: &Gpt2Config, params: Params) -> Self {
        let find = |layer: usize, part: Part, which: &str| {
            let name = format!("base_model.model.transformer.h.{layer}.{}.lora_{which}.weight", part.name());
            params.find(&name).map(|tensor| tensor.range.clone())
        };
        let adapter = |layer, part| Some(Adapter { a: find(layer, part, "A")?, b: find(layer, part, "B")? });
        let blocks = (0..config.layers).map(|layer| PARTS.map(|part| adapter(layer, part))).collect();
        Lora { config: lora, params, blocks }
    }

    fn adapter(&self, layer: usize, part: Part) -> Option<Narrow<'_>> {
        let adapter = self.blocks.get(layer)?[part as usize].as_ref()?;
        let (rank, data) = (self.config.rank, &self.params.data);
        let (a, b) = (&data[adapter.a.clone()], &data[adapter.b.clone()]);
        Some(Narrow {
            adapter,
            a,
            b,
            rank,
            inputs: a.len() / rank,
            outputs: b.len() / rank,
            scale: self.config.scale(),
        })
    }
}

/// The two matrices of an adapter.
struct Narrow<'a> {
    adapter: &'a Adapter,
    a: &'a [f32],
    b: &'a [f32],
    rank: usize,
    inputs: usize,
    outputs: usize,
    scale: f32,
}

impl Narrow<'_> {
    fn a(&self) -> Matrix<'_> {
        Matrix::new(self.a, self.rank, self.inputs)
    }

    fn b(&self) -> Matrix<'_> {
        Matrix::new(self.b, self.outputs, self.rank)
    }

    /// `W += s (B A)ᵀ`.
    fn add_to(&self, weight: &mut [f32]) {
        let mut a = self.a.to_vec();
        scale(&mut a, self.scale);
        product(weight, Init::Add, Matrix::new(&a, self.rank, self.inputs).t(), self.b().t());
    }

    /// `u = s x Aᵀ`, `[rows, r]`.
    fn narrow<E: Factor>(&self, x: &[E], u: &mut Vec<f32>, rows: usize) {
        u.resize(rows * self.rank, 0.0);
        product_into(Output::<E>::sums(u, Init::Zero), Matrix::new(x, rows, self.inputs), self.a().t());
        scale(u, self.scale);
    }
}

fn scale(x: &mut [f32], factor: f32) {
    each(chunks_mut(x, crate::layers::TASK), |_, x| x.iter_mut().for_each(|x| *x *= factor));
}

/// Working memory of the adapters: `u` and its gradient, and a layer's sums before anything becomes of them.
#[derive(Clone, Default)]
pub(super) struct LoraMemory {
    u: Vec<f32>,
    du: Vec<f32>,
    sums: Vec<f32>,
}

impl Gpt2 {
    /// The bias of a block's linear layer.
    pub(super) fn bias(&self, (layer, part): (usize, Part)) -> Option<&[f32]> {
        part.of(&self.blocks[layer]).bias_of(&self.params.data)
    }

    /// `x W` with what an adapter adds, and what becomes of it.
    pub(super) fn linear<E: Factor>(
        &self,
        (layer, part): (usize, Part),
        x: &[E],
        output: Output<'_, E>,
        rows: usize,
        memory: &mut LoraMemory,
    ) {
        let linear = part.of(&self.blocks[layer]);
        let Some(narrow) = self.lora.as_ref().and_then(|lora| lora.adapter(layer, part)) else {
            return linear.product(&self.params.data, x, rows, output);
        };
        narrow.narrow(x, &mut memory.u, rows);
        memory.sums.resize(rows * linear.outputs, 0.0);
        linear.product(&self.params.data, x, rows, Output::sums(&mut memory.sums, Init::Zero));
        let u = Matrix::new(&memory.u, rows, narrow.rank);
        product_into(Output::<E>::sums(&mut memory.sums, Init::Add), u, narrow.b().t());
        finish(output, &mut memory.sums, rows, linear.outputs);
    }

    /// A matrix with its adapter's product added, if it has one.
    pub(super) fn merged_weight(&self, layer: usize, part: Part) -> Option<Vec<f32>> {
        let narrow = self.lora.as_ref()?.adapter(layer, part)?;
        let mut weight = self.params.data[part.of(&self.blocks[layer]).weight.clone()].to_vec();
        narrow.add_to(&mut weight);
        Some(weight)
    }

    /// Adds the gradients of the layer's parameters, or of its adapter alone (the weight's is overwritten where it is
    /// `fresh`); `output` takes the gradient of x.
    pub(super) fn linear_backward<E: Factor>(
        &self,
        (layer, part): (usize, Part),
        (grads, fresh): (&mut [f32], bool),
        (x, dy): (&[E], &[E]),
        output: Output<'_, E>,
        memory: &mut LoraMemory,
    ) {
        let (linear, p) = (part.of(&self.blocks[layer]), &self.params.data);
        let rows = dy.len() / linear.outputs;
        debug_assert_eq!(linear.layout, Layout::InOut);
        let narrow = self.lora.as_ref().and_then(|lora| lora.adapter(layer, part));
        let Some(narrow) = narrow else {
            if self.lora.is_none() && !self.is_frozen(layer) {
                linear.backward_params(grads, x, dy, rows, fresh);
            }
            return linear.product_back(p, dy, rows, output);
        };
        let LoraMemory { u, du, sums: wide } = memory;
        wide.resize(rows * linear.inputs, 0.0);
        linear.product_back(p, dy, rows, Output::<E>::sums(wide, Init::Zero));
        narrow.narrow(x, u, rows);
        let (xm, dym) = (Matrix::new(x, rows, narrow.inputs), Matrix::new(dy, rows, narrow.outputs));
        let db = &mut grads[narrow.adapter.b.clone()];
        product_into(Output::<E>::sums(db, Init::Add), dym.t(), Matrix::new(u, rows, narrow.rank));
        du.resize(rows * narrow.rank, 0.0);
        product_into(Output::<E>::sums(du, Init::Zero), dym, narrow.b());
        scale(du, narrow.scale);
        let dum = Matrix::new(du, rows, narrow.rank);
        product_into(Output::<E>::sums(&mut grads[narrow.adapter.a.clone()], Init::Add), dum.t(), xm);
        product_into(Output::<E>::sums(wide, Init::Add), dum, narrow.a());
        finish(output, wide, rows, linear.inputs);
    }

    /// The adapters, if there are any.
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_deref()
    }

    /// The same model with adapters, which alone are then trained.
    #[must_use]
    pub fn with_lora(mut self, lora: Lora) -> Self {
        self.lora = Some(Box::new(lora));
        self
    }

    /// The weights with the adapters' products added: `W + s (B A)ᵀ`.
    #[must_use]
    pub fn merged(&self) -> Params {
        let mut params = self.params.clone();
        for (layer, block) in self.blocks.iter().enumerate() {
            for part in PARTS {
                let Some(narrow) = self.lora.as_ref().and_then(|lora| lora.adapter(layer, part)) else { continue };
                narrow.add_to(&mut params.data[part.of(block).weight.clone()]);
            }
        }
        params
    }
}
