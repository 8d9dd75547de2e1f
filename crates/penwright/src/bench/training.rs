//! A training step: forward, loss, backward, clipping, AdamW.

use std::time::{Duration, Instant};

use super::clock::{Effort, Times};
use super::machine::{Arithmetic, Machine};
use super::{Case, Figure, draw};
use crate::layers::{Dropout, random};
use crate::memory::free_memory;
use crate::model::{self, Gpt2, Gpt2Config, Lstm, LstmConfig, Params, Trainable};
use crate::run::ModelConfig;
use crate::train::{Optimizer, TrainOptions, global_norm, optimizer};
use crate::{Error, Result};
use penwright_kernels::{chunks_mut, each, team};

/// A precision in which steps are measured.
#[derive(Clone, Copy)]
pub(super) struct Precision {
    pub(super) name: &'static str,
    model: model::Precision,
    arithmetic: Arithmetic,
    /// Bytes of a weight in the products.
    weight: f64,
}

pub(super) const PRECISIONS: &[Precision] = &[
    Precision { name: "f32", model: model::Precision::F32, arithmetic: Arithmetic::F32, weight: 4.0 },
    Precision { name: "bf16", model: model::Precision::Bf16, arithmetic: Arithmetic::Bf16, weight: 2.0 },
];

/// What is trained, and on how much at once.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) model: ModelConfig,
    pub(super) batch: usize,
    pub(super) context: usize,
    /// Whether it is quick enough to be measured when nothing is named.
    short: bool,
}

/// The published GPT-2, nanoGPT's two settings, a character LSTM, and AWD-LSTM's settings (Merity et al. 2018).
pub(super) fn shapes() -> [Shape; 6] {
    let gpt2 = |name, [layers, heads, width, vocab]: [usize; 4], [batch, context]: [usize; 2], short| {
        let model = ModelConfig::Gpt2(Gpt2Config { vocab, context, layers, heads, width, ..Gpt2Config::default() });
        Shape { name, model, batch, context, short }
    };
    let lstm = |name, [layers, hidden, embed, vocab]: [usize; 4], [batch, context]: [usize; 2], short| {
        let model =
            ModelConfig::Lstm(LstmConfig { vocab, embed, hidden, layers, tied: false, ..LstmConfig::default() });
        Shape { name, model, batch, context, short }
    };
    [
        gpt2("gpt2-124m-4x64", [12, 12, 768, 50257], [4, 64], true),
        gpt2("gpt2-124m-4x256", [12, 12, 768, 50257], [4, 256], false),
        gpt2("gpt2-4x128-12x64", [4, 4, 128, 65], [12, 64], true),
        gpt2("gpt2-6x384-64x256", [6, 6, 384, 65], [64, 256], false),
        lstm("lstm-2x512-64x128", [2, 512, 512, 65], [64, 128], true),
        lstm("lstm-3x1150-20x70", [3, 1150, 400, 10_000], [20, 70], false),
    ]
}

/// A GPT-2 of random weights, quickly made: uniform in ±0.035, which has GPT-2's standard deviation of 0.02.
pub(super) fn gpt2(config: &Gpt2Config) -> Result<Gpt2> {
    const TASK: usize = 1 << 14;
    let mut params = Params::zeros(config.tensors());
    for tensor in params.tensors.clone() {
        let matrix = tensor.shape.len() > 1;
        let gain = !matrix && tensor.name.contains("ln_") && tensor.name.ends_with("weight");
        let value = |n: u64| match matrix {
            true => 0.035 * ((random(tensor.range.start as u64, n) >> 40) as f32 / (1u64 << 23) as f32 - 1.0),
            false => f32::from(u8::from(gain)),
        };
        let fill = |task: usize, values: &mut [f32]| {
            values.iter_mut().enumerate().for_each(|(i, x)| *x = value((task * TASK + i) as u64));
        };
        team(|| each(chunks_mut(&mut params.data[tensor.range.clone()], TASK), fill));
    }
    Gpt2::with_params(config.clone(), params)
}

/// A model in training, as the trainer has it, on tokens drawn at random.
pub(super) struct Training {
    model: Box<dyn Trainable>,
    optimizer: Box<dyn Optimizer>,
    grads: Vec<f32>,
    batch: usize,
    context: usize,
    step: u64,
}

impl Training {
    pub(super) fn new(shape: &Shape, precision: Precision) -> Result<Self> {
        let (needed, free) = (shape.model.memory(shape.batch, shape.context, None, false), free_memory());
        if needed > free {
            return Err(Error::Unsupported(format!(
                "its training step needs {} of memory but {} is free",
                crate::error::bytes(needed),
                crate::error::bytes(free)
            )));
        }
        let mut model: Box<dyn Trainable> = match &shape.model {
            ModelConfig::Gpt2(config) => Box::new(gpt2(config)?),
            ModelConfig::Lstm(config) => Box::new(Lstm::new(config.clone(), 0)?),
            config => config.build(0)?,
        };
        model.set_precision(precision.model);
        let options = TrainOptions { precision: precision.model, ..TrainOptions::default() };
        let (optimizer, grads) = (optimizer(model.params(), &options, None), vec![0.0; model.params().data.len()]);
        Ok(Training { model, optimizer, grads, batch: shape.batch, context: shape.context, step: 0 })
    }

    /// One optimizer step; the time of drawing tokens is not in it.
    pub(super) fn step(&mut self) -> Duration {
        let (rows, vocab) = (self.batch * self.context, self.model.vocab_size());
        let token = |n| draw(self.step, n, vocab);
        let (inputs, targets): (Vec<u32>, Vec<u32>) = (0..rows).map(|n| (token(n), token(rows + n))).unzip();
        let start = Instant::now();
        let loss = self.model.train_step(&inputs, &targets, self.batch, &mut self.grads, true, Dropout::OFF);
        let norm = global_norm(&self.grads);
        let scale = if norm > 1.0 { 1.0 / norm } else { 1.0 };
        self.optimizer.update(&mut self.model.params_mut().data, &self.grads, scale, 1e-4, 0.1);
        let time = start.elapsed();
        debug_assert!(loss.is_finite());
        self.step += 1;
        time
    }

    pub(super) fn times(&mut self, effort: Effort) -> Times {
        self.step();
        Times::measured(effort, || self.step())
    }
}

/// Bytes of parameters, gradients and moments that a step moves at least, where they do not stay in caches: the
/// optimizer reads four numbers a parameter and writes three; the backward writes the gradients; the forward and the
/// backward read the weights as the products have them.
fn bytes_of_a_step(shape: &Shape, weight: f64) -> f64 {
    shape.model.num_params() as f64 * (4.0 * 8.0 + 2.0 * weight)
}

fn train(name: &str, machine: &mut Machine, shape: &Shape, precision: Precision) -> Result<Figure> {
    let times = Training::new(shape, precision)?.times(machine.effort);
    let flops = shape.model.flops_per_token() * (shape.batch * shape.context) as f64;
    let (least, by) = machine.least_moved(flops, precision.arithmetic, bytes_of_a_step(shape, precision.weight));
    Ok(Figure::new(name, "ms", 1e3 * times.median(), &times).within(1e3 * least, by))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in shapes() {
        for &precision in PRECISIONS {
            let (name, short, shape) = (format!("train.{}.{}", shape.name, precision.name), shape.short, shape.clone());
            let work = move |name: &str, machine: &mut Machine| train(name, machine, &shape, precision);
            cases.push(Case::new("train", name, short, work));
        }
    }
    cases
}
