//! A time budget: the speed is measured in the first steps and the schedule laid so that training ends in time.

use std::time::{Duration, Instant};

use super::trainer::Trainer;
use super::{Batches, Data, Length, Start, TrainOptions, optimizer};
use crate::Result;
use crate::layers::Dropout;
use crate::model::Trainable;

/// The part of a budget in which the speed is measured, and steps taken at least.
const PROBE: (f64, u64) = (0.04, 5);

/// The time of an optimizer step, the lowest of a few that change nothing.
///
/// # Errors
/// When the shape is impossible, memory is short or the text too short.
pub(super) fn measure(start: &Start, data: &Data, options: &TrainOptions) -> Result<Duration> {
    options.check()?;
    start.check_memory(options)?;
    let mut model = start.build(options.seed)?;
    let mut optimizer = optimizer(model.params(), options);
    let mut update = Duration::MAX;
    let pass = pass_time(&mut *model, &data.train, options, Duration::MAX, &mut |model, grads| {
        let began = Instant::now();
        optimizer.update(&mut model.params_mut().data, grads, 1.0, 0.0, 0.0);
        update = update.min(began.elapsed());
    })?;
    Ok(pass * options.accumulate as u32 + update)
}

/// The time of a pass forward and backward, the lowest of a few; `after` is called with the gradients of each. The first
/// touches its memory, so that there are two at least; after `limit` no more begin.
///
/// # Errors
/// When the text is too short.
pub(super) fn pass_time(
    model: &mut dyn Trainable,
    tokens: &[u32],
    options: &TrainOptions,
    limit: Duration,
    after: &mut dyn FnMut(&mut dyn Trainable, &[f32]),
) -> Result<Duration> {
    options.apply(model);
    let batches = Batches::new(tokens, options.batch, options.context, model.kind(), options.seed)?;
    let mut grads = vec![0.0; model.params().data.len()];
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    let (start, mut lowest) = (Instant::now(), Duration::MAX);
    for step in 0..4 {
        if step > 1 && start.elapsed() > limit {
            break;
        }
        let began = Instant::now();
        batches.get(step, &mut inputs, &mut targets);
        let dropout = Dropout::new(options.dropout, options.seed, step);
        model.train_step(&inputs, &targets, options.batch, &mut grads, true, dropout);
        lowest = lowest.min(began.elapsed());
        after(model, &grads);
    }
    Ok(lowest)
}

impl Trainer<'_> {
    /// Once a budget's speed is known, fixes the number of steps and of validations.
    pub(super) fn lay_schedule(&mut self) {
        let Length::Budget(budget) = self.options.length else { return };
        if self.progress.total.is_some() && self.elapsed() >= budget.as_secs_f64() {
            self.progress.total = Some(self.progress.step);
        }
        let measured = self.progress.step >= PROBE.1 && self.elapsed() >= PROBE.0 * budget.as_secs_f64();
        if self.progress.total.is_none() && (measured || self.elapsed() >= budget.as_secs_f64()) {
            // A validation is guessed to cost a third of training on as many tokens until one is measured.
            let guess = self.data.val.len() as f64 * self.step_seconds() / self.options.step_tokens() as f64 / 3.0;
            let left = (budget.as_secs_f64() - self.elapsed()).max(0.0);
            let evals = ((0.1 * left / guess.max(1e-9)) as u64).clamp(1, self.options.evals);
            let steps = ((left - evals as f64 * guess) / self.step_seconds()).max(0.0) as u64;
            self.progress.total = Some(self.progress.step + steps);
            self.progress.eval_every = self.options.eval_every.unwrap_or((steps / evals).max(1));
        }
    }

    /// After each validation the end is laid anew, for a machine that has become slower or faster.
    pub(super) fn relay(&mut self) {
        let (Length::Budget(budget), Some(total)) = (self.options.length, self.progress.total) else { return };
        let step = self.progress.step;
        if step < total {
            let done = (step / self.progress.eval_every).max(1);
            let to_come = (total - step).div_ceil(self.progress.eval_every);
            let evals = self.progress.validating / done as f64 * to_come as f64;
            let left = budget.as_secs_f64() - self.elapsed() - evals;
            self.progress.total = Some(step + (left / self.step_seconds()).max(0.0) as u64);
        }
    }

    /// Seconds of a step, on average.
    pub(super) fn step_seconds(&self) -> f64 {
        ((self.elapsed() - self.progress.validating) / self.progress.step.max(1) as f64).max(1e-9)
    }
}
