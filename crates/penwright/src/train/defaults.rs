//! What settings are where a person gives none. Of a budget's best model more is to be said than here.

use super::{OptimizerKind, Precision, Settings, TrainOptions};
use crate::model::{FORGET_BIAS, ModelKind, NgramConfig};
use crate::run::ModelConfig;
use crate::tokenizer::Level;

/// Validations in all when a model that is there is trained on: each costs as much as many of its few steps.
pub(super) const TUNING_EVALS: u64 = 12;

/// The defaults of a family. With SGD's large steps an LSTM that begins by remembering is slow to recover
/// (docs/lstm.md).
pub(super) fn of(kind: ModelKind, level: Level, optimizer: OptimizerKind) -> Settings {
    let (lr, decay, clip) = rates(kind, optimizer);
    let common = Settings {
        steps: Some(2000),
        context: Some(TrainOptions::default().context),
        lr: Some(lr),
        weight_decay: Some(decay),
        clip: Some(clip),
        ..common(optimizer)
    };
    match kind {
        ModelKind::Ngram => Settings { order: Some(NgramConfig::default_order(level)), ..Settings::default() },
        ModelKind::Lstm => Settings {
            batch: Some(32),
            layers: Some(2),
            width: Some(256),
            embed: Some(64),
            tied: Some(false),
            forget_bias: Some(if optimizer == OptimizerKind::Sgd { 0.0 } else { FORGET_BIAS }),
            dropout: Some(0.0),
            dropout_hidden: Some(0.2),
            ..common
        },
        ModelKind::Gpt2 => Settings {
            batch: Some(12),
            layers: Some(4),
            heads: Some(4),
            width: Some(128),
            dropout: Some(0.0),
            ..common
        },
    }
}

/// Peak learning rate, weight decay and the largest norm of the gradient of a new model (docs/optimizers.md). SGD's decay
/// and norm are those of Merity, Keskar and Socher (2018).
fn rates(kind: ModelKind, optimizer: OptimizerKind) -> (f32, f32, f32) {
    match (kind, optimizer) {
        (ModelKind::Lstm, OptimizerKind::AdamW) => (3e-3, 0.01, 1.0),
        (ModelKind::Lstm, OptimizerKind::Muon) => (8e-3, 0.01, 1.0),
        (ModelKind::Lstm, OptimizerKind::Sgd) => (3.0, 1.2e-6, 0.25),
        (_, OptimizerKind::AdamW) => (1e-3, 0.1, 1.0),
        (_, OptimizerKind::Muon) => (2e-3, 0.1, 1.0),
        (_, OptimizerKind::Sgd) => (0.3, 1.2e-6, 0.25),
    }
}

fn common(optimizer: OptimizerKind) -> Settings {
    let options = TrainOptions::default();
    Settings {
        accumulate: Some(options.accumulate),
        optimizer: Some(optimizer),
        momentum: optimizer.default_momentum(),
        average: Some(options.average),
        schedule: Some(options.schedule),
        warmup: Some(options.warmup),
        clip: Some(options.clip),
        precision: Some(Precision::default()),
        seed: Some(options.seed),
        checkpoint_every: Some(options.checkpoint_every),
        ..Settings::default()
    }
}

/// The defaults for a book and a model that is there: a few passes with a low learning rate, ended when validation no
/// longer improves. A GPT-2's falls as its width grows, and is 1e-4 for the smallest published one; adapters, which begin
/// at nothing, take ten times as much (docs/fine-tuning.md).
pub(super) fn tuning(base: &ModelConfig, adapters: bool, optimizer: OptimizerKind) -> Settings {
    let common = Settings {
        epochs: Some(4.0),
        patience: Some(3),
        weight_decay: Some(0.01),
        dropout: Some(0.1),
        ..common(optimizer)
    };
    // Of SGD's nothing is known here.
    let lr = |lr| Some(lr).filter(|_| optimizer != OptimizerKind::Sgd);
    match base {
        ModelConfig::Gpt2(shape) => Settings {
            batch: Some(4),
            context: Some(shape.context.min(256)),
            lr: lr(if adapters { 10.0 } else { 1.0 } * 1e-4 * 768.0 / shape.width as f32),
            ..common
        },
        _ => Settings {
            batch: Some(32),
            context: Some(64),
            lr: lr(1e-3),
            dropout: Some(0.0),
            dropout_hidden: Some(0.2),
            ..common
        },
    }
}

/// The settings that a base has decided.
pub(super) fn shape_of(base: &ModelConfig, level: Level) -> Settings {
    let given = |kind| Settings { model: Some(kind), level: Some(level), ..Settings::default() };
    match base {
        ModelConfig::Ngram(shape) => Settings { order: Some(shape.order), ..given(ModelKind::Ngram) },
        ModelConfig::Lstm(shape) => Settings {
            layers: Some(shape.layers),
            width: Some(shape.hidden),
            embed: Some(shape.embed),
            tied: Some(shape.tied),
            mogrifier: Some(shape.mogrifier).filter(|&rounds| rounds > 0),
            mogrifier_rank: Some(shape.mogrifier_rank).filter(|&rank| rank > 0),
            ..given(ModelKind::Lstm)
        },
        ModelConfig::Gpt2(shape) => Settings {
            layers: Some(shape.layers),
            heads: Some(shape.heads),
            width: Some(shape.width),
            ..given(ModelKind::Gpt2)
        },
    }
}
