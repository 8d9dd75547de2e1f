//! The settings of a training run beside the model's shape.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::optimizer::MOST_ITERATIONS;
use super::{Averaging, OptimizerKind, Schedule, lengths};
use crate::model::{Precision, Regularization, Trainable};
use crate::{Error, Result};

/// What calibrating tries to divide the logits by.
const TEMPERATURES: [f32; 10] = [0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35, 1.4];

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// A number of optimizer steps.
    Steps(u64),
    /// A number of passes over the training text.
    Epochs(f64),
    /// A time: the speed is measured in the first steps and the schedule laid to end in time.
    Budget(Duration),
}

impl Length {
    /// The number of optimizer steps, where no clock decides.
    pub(super) fn steps(self, train_tokens: u64, options: &TrainOptions) -> Option<u64> {
        match self {
            Length::Steps(steps) => Some(steps),
            Length::Epochs(epochs) => {
                let mean = if options.random_length { lengths::MEAN } else { 1.0 };
                Some((epochs * train_tokens as f64 / (mean * options.step_tokens() as f64)).ceil() as u64)
            }
            Length::Budget(_) => None,
        }
    }
}

/// The settings of a training run beside the model's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainOptions {
    /// How long.
    pub length: Length,
    /// Texts side by side.
    pub batch: usize,
    /// Tokens of each text a step.
    pub context: usize,
    /// Batches whose gradients are averaged for one step.
    pub accumulate: usize,
    /// Whether an LSTM's windows are of random length around [`context`](Self::context), the learning rate of a step
    /// rising and falling with it.
    #[serde(default)]
    pub random_length: bool,
    /// Peak learning rate.
    pub lr: f32,
    /// The optimizer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optimizer: OptimizerKind,
    /// Momentum of Muon or SGD; `None` for the optimizer's default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub momentum: Option<f32>,
    /// AdamW's decay rates of the first and second moment; `None` for 0.9 and 0.99.
    #[serde(default, skip_serializing_if = "is_default")]
    pub beta1: Option<f32>,
    /// See [`beta1`](Self::beta1).
    #[serde(default, skip_serializing_if = "is_default")]
    pub beta2: Option<f32>,
    /// Peak learning rate of Muon's matrices; `None` for that of all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub muon_lr: Option<f32>,
    /// Iterations that bring Muon's step near an orthogonal matrix; `None` for [`super::MUON_ITERATIONS`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub muon_iterations: Option<usize>,
    /// Learning rate of what tokens share by their spelling, beside that of all; zero where they share nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spelling: f32,
    /// The average of the weights that is validated and saved in their place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub average: Averaging,
    /// Whether the model is validated and saved with its logits divided by what suits the validation text best.
    #[serde(default, skip_serializing_if = "is_default")]
    pub calibrate: bool,
    /// Form of the learning rate.
    pub schedule: Schedule,
    /// The part of the training over which the learning rate of [`Schedule::Wsd`] falls; `None` for the last fifth.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lr_decay: Option<f32>,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Weight decay on matrices.
    pub weight_decay: f32,
    /// Largest global norm of the gradient.
    pub clip: f32,
    /// Dropout rate.
    pub dropout: f32,
    /// Chance that a merge of the tokens read is undone, at first; it falls linearly to nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bpe_dropout: f32,
    /// What else an LSTM is regularised by.
    #[serde(default)]
    pub regularization: Regularization,
    /// What products multiply.
    #[serde(default)]
    pub precision: Precision,
    /// Seed of weights, batches and dropout.
    pub seed: u64,
    /// Steps between validations; `None` leaves it to the length and [`evals`](Self::evals).
    pub eval_every: Option<u64>,
    /// Validations in all where `eval_every` does not say.
    pub evals: u64,
    /// Steps between samples; `None` for a sample at each validation, zero for none.
    pub sample_every: Option<u64>,
    /// Validations without improvement after which training stops.
    pub patience: Option<u64>,
    /// Whether a step keeps little of what it computes for the backward and computes the rest once more: less memory,
    /// more time, the same bits.
    #[serde(skip)]
    pub checkpoint_activations: bool,
    /// Time between checkpoints for [`resume`](Self::resume); it changes no result.
    #[serde(skip, default = "checkpoint_every")]
    pub checkpoint_every: Duration,
    /// What of a budget is spent before training begins, on reading texts and making ready; of other lengths it says nothing.
    #[serde(skip)]
    pub spent: Duration,
    /// Why the settings are what they are, for the record.
    #[serde(skip)]
    pub reasons: Vec<String>,
    /// Goes on from the last checkpoint in the run directory, if there is one.
    #[serde(skip)]
    pub resume: bool,
}

/// What is left out of a fingerprint, so that runs that were started before there was a choice can be resumed.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn checkpoint_every() -> Duration {
    Duration::from_secs(60)
}

/// The logits of a model are divided by way of weights that nothing else uses.
pub(super) fn cannot_calibrate() -> Error {
    let problem = "needs weights of the output layer's own; leave it out of an LSTM with --tied and with --lora";
    Error::setting("calibrate", problem)
}

impl Default for TrainOptions {
    fn default() -> Self {
        TrainOptions {
            length: Length::Steps(2000),
            batch: 12,
            context: 64,
            accumulate: 1,
            random_length: false,
            lr: 1e-3,
            optimizer: OptimizerKind::default(),
            momentum: None,
            beta1: None,
            beta2: None,
            muon_lr: None,
            muon_iterations: None,
            spelling: 0.0,
            average: Averaging::default(),
            calibrate: false,
            schedule: Schedule::default(),
            lr_decay: None,
            warmup: 100,
            weight_decay: 0.1,
            clip: 1.0,
            dropout: 0.0,
            bpe_dropout: 0.0,
            regularization: Regularization::default(),
            seed: 0,
            eval_every: None,
            evals: 20,
            sample_every: Some(0),
            patience: None,
            precision: Precision::F32,
            checkpoint_activations: false,
            checkpoint_every: checkpoint_every(),
            spent: Duration::ZERO,
            reasons: Vec::new(),
            resume: false,
        }
    }
}

impl TrainOptions {
    /// Tokens that one optimizer step reads; where windows are of random length, about as many.
    pub fn step_tokens(&self) -> u64 {
        (self.batch * self.context * self.accumulate) as u64
    }

    /// Readies a model for being trained so.
    pub(super) fn apply(&self, model: &mut dyn Trainable) {
        model.checkpoint_activations(self.checkpoint_activations);
        model.set_precision(self.precision);
        model.regularize(&self.regularization);
    }

    /// The momentum that the optimizer has; zero without.
    pub(super) fn momentum(&self) -> f32 {
        self.momentum.or(self.optimizer.default_momentum()).unwrap_or(0.0)
    }

    /// The temperatures at which a validation scores.
    pub(super) fn temperatures(&self) -> &'static [f32] {
        if self.calibrate { &TEMPERATURES } else { &[1.0] }
    }

    /// The most tokens of each text that a step reads.
    pub(super) fn longest(&self) -> usize {
        self.context + if self.random_length { lengths::BEYOND } else { 0 }
    }

    /// # Errors
    /// When a value cannot work; the sentence names its flag.
    pub(super) fn check(&self) -> Result<()> {
        for (name, value) in [("batch", self.batch), ("context", self.context), ("accumulate", self.accumulate)] {
            if value == 0 || value > 1 << 24 {
                return Err(Error::setting(name, format!("{value} is not between 1 and {}", 1 << 24)));
            }
        }
        for (name, value) in [("lr", self.lr), ("clip", self.clip)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::setting(name, format!("{value} is not a positive number")));
            }
        }
        if let Some(decay) = self.lr_decay {
            if self.schedule != Schedule::Wsd {
                return Err(Error::setting("lr-decay", "needs --schedule wsd"));
            }
            if !(decay > 0.0 && decay <= 1.0) {
                return Err(Error::setting("lr-decay", format!("{decay} is not above 0 and at most 1")));
            }
        }
        self.check_optimizer()?;
        Error::check_rate("dropout", self.dropout)?;
        Error::check_rate("bpe-dropout", self.bpe_dropout)?;
        self.regularization.check()?;
        if !self.weight_decay.is_finite() || self.weight_decay < 0.0 {
            return Err(Error::setting("weight-decay", format!("{} is not a number from 0 up", self.weight_decay)));
        }
        if self.eval_every == Some(0) {
            return Err(Error::setting("eval-every", "must be at least 1"));
        }
        match self.length {
            Length::Epochs(epochs) if !(epochs > 0.0 && epochs.is_finite()) => {
                Err(Error::setting("epochs", format!("{epochs} is not a positive number")))
            }
            _ => Ok(()),
        }
    }

    fn check_optimizer(&self) -> Result<()> {
        if let Some(momentum) = self.momentum {
            if self.optimizer.default_momentum().is_none() {
                return Err(Error::setting("momentum", format!("is not for {}; leave it out", self.optimizer)));
            }
            Error::check_rate("momentum", momentum)?;
        }
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            let Some(beta) = beta else { continue };
            if self.optimizer == OptimizerKind::Sgd {
                return Err(Error::setting(name, "needs --optimizer adamw or muon"));
            }
            Error::check_rate(name, beta)?;
        }
        for (name, given) in [("muon-lr", self.muon_lr.is_some()), ("muon-iterations", self.muon_iterations.is_some())]
        {
            if given && self.optimizer != OptimizerKind::Muon {
                return Err(Error::setting(name, "needs --optimizer muon"));
            }
        }
        if let Some(lr) = self.muon_lr.filter(|&lr| !(lr > 0.0 && lr.is_finite())) {
            return Err(Error::setting("muon-lr", format!("{lr} is not a positive number")));
        }
        if !(self.spelling >= 0.0 && self.spelling.is_finite()) {
            return Err(Error::setting("spelling", format!("{} is not a number from 0 up", self.spelling)));
        }
        if self.spelling > 0.0 && self.optimizer == OptimizerKind::Sgd {
            return Err(Error::setting("spelling", "needs --optimizer adamw or muon"));
        }
        match self.muon_iterations {
            Some(n) if !(1..=MOST_ITERATIONS).contains(&n) => {
                Err(Error::setting("muon-iterations", format!("{n} is not from 1 to {MOST_ITERATIONS}")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn diverged(&self, what: &'static str, value: f32, step: u64, run: &Path) -> Error {
        Error::Diverged { what, value, step, run: run.to_path_buf() }
    }
}
