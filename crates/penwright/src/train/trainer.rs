//! The training loop.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::budget;
use super::checkpoint::{self, Progress};
use super::metrics::{Metrics, write_samples};
use super::{
    Average, Averaging, Batches, Data, Event, LR_DECAY, Optimizer, Start, TrainOptions, global_norm, optimizer,
};
use crate::files;
use crate::formats::peft;
use crate::generate::{GenerateOptions, Length as TextLength, Sampling, generate};
use crate::layers::Dropout;
use crate::model::Trainable;
use crate::run::{self, ModelConfig};
use crate::{Error, Result};

/// Steps between reports.
const REPORT: u64 = 10;
/// Tokens of a sample shown as training goes.
const SAMPLE: usize = 200;

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went its whole length.
    Finished,
    /// Validation had not improved for as long as the patience.
    OutOfPatience,
    /// It was asked to stop; it can be resumed.
    Interrupted,
}

impl Outcome {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Outcome::Finished => "finished",
            Outcome::OutOfPatience => "patience",
            Outcome::Interrupted => "interrupted",
        }
    }
}

/// Trains a model and keeps the weights of the lowest validation loss in the directory `out`. `stop` ends it after
/// the step at hand, saving a checkpoint. With [`TrainOptions::resume`] it goes on from the last checkpoint, to
/// the bit.
///
/// # Errors
/// When a setting or text cannot work, memory is short, the loss is not finite, or writing fails.
pub fn train(
    start: &Start,
    data: &Data,
    options: &TrainOptions,
    out: &Path,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Outcome> {
    options.check()?;
    check_context(&start.config, options.context)?;
    start.check_memory(options)?;
    let mut model = start.build(options.seed)?;
    options.apply(&mut *model);
    if options.calibrate && model.logit_scales().is_empty() {
        return Err(super::options::cannot_calibrate());
    }
    let batches = Batches::new(&data.train, options.batch, options.context, model.kind(), options.seed)?;
    let batches = if options.random_length { batches.with_random_lengths()? } else { batches };
    let mut batches = if options.bpe_dropout > 0.0 { batches.with_cuts(&start.tokenizer)? } else { batches };
    let mut optimizer = optimizer(model.params(), options, Some(&start.tokenizer));
    let mut average = match options.average {
        Averaging::Decay(decay) => Some(Average::exponential(model.params().data.to_vec(), decay)),
        Averaging::Off | Averaging::Triggered => None,
    };
    let fingerprint = fingerprint(start, options, data);
    let saved = if options.resume { checkpoint::read(out)? } else { None };
    let progress = match saved {
        Some(saved) if saved.progress.fingerprint == fingerprint => {
            saved.restore(out, &mut *model, &mut *optimizer, &mut average, &mut batches)?
        }
        Some(saved) => return Err(differs(out, &saved.progress.fingerprint, &fingerprint)),
        None => {
            forget(out)?;
            start.create(out)?;
            first_progress(options, fingerprint, data.train.len() as u64)
        }
    };
    let metrics = Metrics::open(out, progress.metrics)?;
    let grads = vec![0.0; model.params().data.len()];
    let trainer = Trainer {
        start,
        model,
        optimizer,
        average,
        grads,
        batches,
        options,
        data,
        out: out.to_path_buf(),
        metrics,
        on_event,
        started: Instant::now() - Duration::from_secs_f64(progress.elapsed),
        progress,
    };
    trainer.run(stop)
}

/// What must be equal for a run to be resumed: shape, settings and texts, as readable JSON.
fn fingerprint(start: &Start, options: &TrainOptions, data: &Data) -> String {
    let digest = |tokens: &[u32]| {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        tokens.iter().for_each(|t| hash.update(&t.to_le_bytes()));
        format!("{:016x}", hash.digest())
    };
    let (train, val) = (digest(&data.train), digest(&data.val));
    let model = start.fingerprint();
    serde_json::json!({"model": model, "options": options, "train text": train, "validation text": val}).to_string()
}

/// # Errors
/// When a GPT-2 has no positions for so many tokens.
fn check_context(config: &ModelConfig, context: usize) -> Result<()> {
    match config {
        ModelConfig::Gpt2(shape) if context > shape.context => {
            let problem = format!("{context} is more than the {} positions that the model has", shape.context);
            Err(Error::setting("context", problem))
        }
        _ => Ok(()),
    }
}

fn differs(out: &Path, before: &str, now: &str) -> Error {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let (before, now) = (parse(before), parse(now));
    let mut names = Vec::new();
    for part in ["model", "options"] {
        let keys = now[part].as_object().into_iter().flatten();
        names.extend(keys.filter(|(key, value)| before[part][key.as_str()] != **value).map(|(key, _)| key.clone()));
    }
    names.extend(["train text", "validation text"].iter().filter(|&&k| before[k] != now[k]).map(ToString::to_string));
    let problem = format!(
        "was started with another {}; give the same to resume, or leave out --resume to start anew",
        names.join(", ")
    );
    Error::damaged(out, problem)
}

/// A new run in the directory of an old one must not find the old one's leavings.
pub(super) fn forget(out: &Path) -> Result<()> {
    for path in [
        checkpoint::path(out),
        out.join(run::WEIGHTS),
        out.join("config.json"),
        out.join(peft::CONFIG),
        out.join(peft::WEIGHTS),
    ] {
        files::remove(&path)?;
    }
    Ok(())
}

fn first_progress(options: &TrainOptions, fingerprint: String, train_tokens: u64) -> Progress {
    let total = options.length.steps(train_tokens, options);
    let eval_every = options.eval_every.unwrap_or(total.map_or(u64::MAX, |t| t.div_ceil(options.evals).max(1)));
    let spent = budget::spent(options);
    Progress {
        fingerprint,
        total,
        eval_every,
        step: 0,
        best: None,
        temperature: 1.0,
        since_best: 0,
        validation: 0.0,
        excerpt: None,
        laid: (0, spent, spent),
        validated: None,
        validations: Default::default(),
        places: Vec::new(),
        averaged: None,
        elapsed: spent,
        validating: spent,
        losses: (0.0, 0),
        metrics: 0,
        finished: None,
    }
}

pub(super) struct Trainer<'a> {
    pub(super) start: &'a Start,
    pub(super) model: Box<dyn Trainable>,
    optimizer: Box<dyn Optimizer>,
    /// What is validated and saved in place of the weights.
    pub(super) average: Option<Average>,
    grads: Vec<f32>,
    batches: Batches<'a>,
    pub(super) options: &'a TrainOptions,
    pub(super) data: &'a Data,
    pub(super) out: PathBuf,
    metrics: Metrics,
    on_event: &'a mut dyn FnMut(&Event),
    /// When training would have begun had it never been interrupted.
    started: Instant,
    pub(super) progress: Progress,
}

impl Trainer<'_> {
    fn run(mut self, stop: &AtomicBool) -> Result<Outcome> {
        let plan = Event::Plan {
            model: self.model.kind().to_string(),
            params: self.model.num_params(),
            trained_params: Some(self.start.num_trained()).filter(|&n| n < self.model.num_params()),
            train_tokens: self.data.train.len() as u64,
            val_tokens: self.data.val.len() as u64,
            steps: self.progress.total,
            memory_bytes: self.start.memory(self.options),
            flops_per_token: self.start.config.flops_per_token(),
            resumed_at: self.progress.step,
            reasons: self.options.reasons.clone(),
        };
        self.emit(plan)?;
        self.fit_validation()?;
        let mut saved = Instant::now();
        let outcome = loop {
            if self.is_over() {
                break self.finish()?;
            }
            if stop.load(Ordering::Relaxed) {
                self.keep_for_later()?;
                break Outcome::Interrupted;
            }
            self.step()?;
            self.lay_schedule()?;
            if !self.is_over() && self.validates() {
                self.evaluate()?;
                if self.options.patience.is_some_and(|p| self.progress.since_best >= p) {
                    self.progress.finished = Some(Outcome::OutOfPatience.reason().into());
                    break self.finish()?;
                }
            }
            self.sample()?;
            if saved.elapsed() >= self.options.checkpoint_every {
                self.checkpoint()?;
                saved = Instant::now();
            }
        };
        let done = Event::Done {
            run: self.out.display().to_string(),
            reason: outcome.reason().into(),
            steps: self.progress.step,
            tokens: self.tokens(),
            elapsed_s: self.elapsed(),
            best_val_loss: self.progress.best.map(|b| b.0),
            best_val_bits_per_char: self.progress.best.map(|b| b.1),
            params: self.model.num_params(),
        };
        self.emit(done)?;
        write_samples(&self.out)?;
        Ok(outcome)
    }

    fn is_over(&self) -> bool {
        self.progress.finished.is_some() || self.progress.total.is_some_and(|total| self.progress.step >= total)
    }

    /// The last validation; a resumed run that had come to its end does nothing more.
    fn finish(&mut self) -> Result<Outcome> {
        let outcome = match self.progress.finished.as_deref() {
            Some("patience") => Outcome::OutOfPatience,
            Some(_) => return Ok(Outcome::Finished),
            None => {
                // A budget may turn out to be over after a validation.
                if self.progress.validated != Some(self.progress.step) {
                    self.evaluate()?;
                }
                Outcome::Finished
            }
        };
        self.progress.finished = Some(outcome.reason().into());
        self.checkpoint()?;
        Ok(outcome)
    }

    /// A run that is stopped before its first validation still leaves a model to write with.
    fn keep_for_later(&mut self) -> Result<()> {
        if self.progress.best.is_none() {
            self.averaged(|trainer| trainer.start.save(&trainer.out, trainer.model.params()))?;
        }
        self.checkpoint()
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.progress.elapsed = self.elapsed();
        self.progress.metrics = self.metrics.length();
        self.progress.places = self.batches.places().to_vec();
        self.progress.averaged = self.average.as_ref().map(Average::steps);
        checkpoint::save(&self.out, &*self.model, &*self.optimizer, self.average.as_ref(), &self.progress)
    }

    pub(super) fn emit(&mut self, event: Event) -> Result<()> {
        (self.on_event)(&event);
        self.metrics.add(&event)
    }

    pub(super) fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn tokens(&self) -> u64 {
        self.batches.tokens_before(self.progress.step * self.options.accumulate as u64)
    }

    /// One optimizer step: `accumulate` batches forward and backward, clipping, update.
    fn step(&mut self) -> Result<()> {
        let (options, step) = (self.options, self.progress.step);
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        // Fewer and fewer, so that the model ends with the text as it is.
        let cut = f64::from(options.bpe_dropout) * (1.0 - self.done());
        let mut loss = 0.0;
        for part in 0..options.accumulate as u64 {
            let batch = step * options.accumulate as u64 + part;
            for stream in (0..options.batch).filter(|&b| self.batches.begins(batch, b)) {
                self.model.reset_stream(stream);
            }
            self.batches.get(batch, cut, &mut inputs, &mut targets);
            let dropout = Dropout::new(options.dropout, options.seed, batch);
            loss += self.model.train_step(&inputs, &targets, options.batch, &mut self.grads, part == 0, dropout);
        }
        let parts = options.accumulate as f32;
        let (loss, norm) = (loss / f64::from(parts), global_norm(&self.grads) / parts);
        for (what, value) in [("loss", loss as f32), ("gradient norm", norm)] {
            if !value.is_finite() {
                return Err(options.diverged(what, value, step + 1, &self.out));
            }
        }
        let lr = self.learning_rate();
        let scale = if norm > options.clip { options.clip / norm } else { 1.0 } / parts;
        self.optimizer.update(&mut self.model.params_mut().data, &self.grads, scale, lr, options.weight_decay);
        if let Some(average) = &mut self.average {
            average.update(&self.model.params().data);
        }
        self.progress.step += 1;
        self.progress.losses = (self.progress.losses.0 + loss, self.progress.losses.1 + 1);
        if self.progress.step.is_multiple_of(REPORT) { self.report(lr, norm) } else { Ok(()) }
    }

    /// The part of the training that is done, 0 to 1; 0 while a budget's speed is being measured.
    fn done(&self) -> f64 {
        self.progress.total.map_or(0.0, |total| self.progress.step as f64 / total.max(1) as f64)
    }

    fn learning_rate(&self) -> f32 {
        let (step, options) = (self.progress.step, self.options);
        // A short run warms up over its first tenth.
        let warmup = options.warmup.min(self.progress.total.unwrap_or(u64::MAX) / 10).max(1);
        let warm = ((step + 1) as f64 / warmup as f64).min(1.0);
        let decay = options.lr_decay.map_or(LR_DECAY, f64::from);
        (f64::from(options.lr) * warm * options.schedule.factor(self.done(), decay) * self.share()) as f32
    }

    /// The length of the step's windows as a part of the context: 1 unless lengths are random.
    fn share(&self) -> f64 {
        let (parts, first) = (self.options.accumulate as u64, self.progress.step * self.options.accumulate as u64);
        let tokens: usize = (first..first + parts).map(|batch| self.batches.length(batch)).sum();
        tokens as f64 / (parts as usize * self.options.context) as f64
    }

    fn report(&mut self, lr: f32, grad_norm: f32) -> Result<()> {
        let (sum, count) = std::mem::take(&mut self.progress.losses);
        let (tokens, elapsed_s) = (self.tokens(), self.elapsed());
        self.emit(Event::Step {
            step: self.progress.step,
            steps: self.progress.total,
            tokens,
            epoch: tokens as f64 / self.data.train.len() as f64,
            elapsed_s,
            train_loss: sum / count.max(1) as f64,
            lr,
            grad_norm,
            tokens_per_s: tokens as f64 / (elapsed_s - self.progress.validating).max(1e-9),
        })
    }

    /// Calls `f` with the average, where there is one, in the place of the weights.
    pub(super) fn averaged<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        self.exchange();
        let result = f(self);
        self.exchange();
        result
    }

    fn exchange(&mut self) {
        if let Some(average) = &mut self.average {
            std::mem::swap(&mut average.values, &mut self.model.params_mut().data);
        }
    }

    fn sample(&mut self) -> Result<()> {
        let every = match self.options.sample_every {
            Some(0) => return Ok(()),
            Some(every) => every,
            None => self.progress.eval_every,
        };
        if !self.progress.step.is_multiple_of(every) {
            return Ok(());
        }
        let before = self.elapsed();
        let defaults = Sampling::default();
        let temperature = defaults.temperature * self.progress.temperature;
        let sampling = Sampling { seed: self.options.seed, temperature, ..defaults };
        let options = GenerateOptions { length: TextLength::Tokens(SAMPLE), sampling, ..GenerateOptions::default() };
        let go_on = &mut |_: usize, _: &str| std::ops::ControlFlow::Continue(());
        let snapshot = self.averaged(|trainer| trainer.model.snapshot());
        let written = generate(&snapshot, &self.start.tokenizer, "", &options, go_on)?;
        drop(snapshot);
        self.progress.validating += self.elapsed() - before;
        let text = written.samples.into_iter().map(|sample| sample.text).collect();
        self.emit(Event::Sample { step: self.progress.step, text })
    }
}
