//! A time budget: the speed is measured in the first steps and the schedule laid so that training ends in time.

use std::time::{Duration, Instant};

use super::trainer::Trainer;
use super::validation::SCORED;
use super::{Batches, Data, Length, Start, TrainOptions, optimizer};
use crate::Result;
use crate::layers::Dropout;
use crate::model::Trainable;
use crate::tokenizer::Tokenizer;

/// The part of a budget in which the speed is measured, and steps taken at least.
const PROBE: (f64, u64) = (0.04, 5);
/// The part of a budget after which the end is laid anew at the latest.
const RELAID: f64 = 0.1;
/// One part of so many of the validation text tells what a validation takes, if that is likely to take no more than this
/// part of the budget; else a smaller one.
const VALIDATED: usize = 40;
const PROBED: f64 = 0.02;
/// The part of the budget that validations may take, and how many there should be at least: where the text is too long for
/// so many, an excerpt of it is validated on.
const VALIDATING: f64 = 0.1;
const VALIDATIONS: u64 = 4;
/// The part of a budget that is trained in at least, however long it took to make ready.
const TRAINED: f64 = 0.25;
/// The part of a budget that making ready may take without being spoken of.
const UNSAID: f64 = 0.05;

/// Seconds of the budget, if there is one, that are over when training begins.
pub(super) fn spent(options: &TrainOptions) -> f64 {
    match options.length {
        Length::Budget(budget) => options.spent.min(budget.mul_f64(1.0 - TRAINED)).as_secs_f64(),
        Length::Steps(_) | Length::Epochs(_) => 0.0,
    }
}

/// A sentence on what making ready took of a budget, where that is much.
pub(super) fn said(budget: Duration, spent: Duration) -> Option<String> {
    if spent <= budget.mul_f64(UNSAID) {
        return None;
    }
    let whole = crate::duration::format(budget);
    let left = match spent > budget.mul_f64(1.0 - TRAINED) {
        true => format!("; training takes {:.1} s all the same", TRAINED * budget.as_secs_f64()),
        false => String::new(),
    };
    Some(format!("reading and encoding the text took {:.1} s of the {whole}{left}", spent.as_secs_f64()))
}

/// The time of an optimizer step, the lowest of a few that change nothing.
///
/// # Errors
/// When the shape is impossible, memory is short or the text too short.
pub(super) fn measure(start: &Start, data: &Data, options: &TrainOptions) -> Result<Duration> {
    options.check()?;
    start.check_memory(options)?;
    step_time(&mut *start.build(options.seed)?, Some(&start.tokenizer), &data.train, options, Duration::MAX)
}

/// The same of a model that is there. The first step touches its memory, so that there are two at least; after `limit` no
/// more begin.
///
/// # Errors
/// When the text is too short.
pub(super) fn step_time(
    model: &mut dyn Trainable,
    tokenizer: Option<&Tokenizer>,
    tokens: &[u32],
    options: &TrainOptions,
    limit: Duration,
) -> Result<Duration> {
    options.apply(model);
    let mut batches = Batches::new(tokens, options.batch, options.context, model.kind(), options.seed)?;
    let mut optimizer = optimizer(model.params(), options, tokenizer);
    let mut grads = vec![0.0; model.params().data.len()];
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    let (start, mut pass, mut update) = (Instant::now(), Duration::MAX, Duration::MAX);
    for step in 0..4 {
        if step > 1 && start.elapsed() > limit {
            break;
        }
        let began = Instant::now();
        batches.get(step, 0.0, &mut inputs, &mut targets);
        let dropout = Dropout::new(options.dropout, options.seed, step);
        model.train_step(&inputs, &targets, options.batch, &mut grads, true, dropout);
        pass = pass.min(began.elapsed());
        let began = Instant::now();
        optimizer.update(&mut model.params_mut().data, &grads, 1.0, 0.0, 0.0);
        update = update.min(began.elapsed());
    }
    Ok(pass * options.accumulate as u32 + update)
}

impl Trainer<'_> {
    /// Once a budget's speed is known, fixes the number of steps and of validations, and now and then lays the end anew.
    ///
    /// # Errors
    /// When a part of the validation text cannot be scored.
    pub(super) fn lay_schedule(&mut self) -> Result<()> {
        let Length::Budget(budget) = self.options.length else { return Ok(()) };
        let (budget, elapsed) = (budget.as_secs_f64(), self.elapsed());
        if self.progress.total.is_none() {
            let measured = self.progress.step >= PROBE.1 && elapsed - self.progress.laid.1 >= PROBE.0 * budget;
            if measured || elapsed >= budget { self.lay_first(budget) } else { Ok(()) }
        } else if elapsed >= budget {
            self.progress.total = Some(self.progress.step);
            Ok(())
        } else {
            if elapsed - self.progress.laid.1 >= RELAID * budget {
                self.relay();
            }
            Ok(())
        }
    }

    fn lay_first(&mut self, budget: f64) -> Result<()> {
        let whole = self.validation_seconds(budget)?;
        let left = (budget - self.elapsed()).max(0.0);
        self.progress.validation = self.shorten_validation(whole, VALIDATING * left / VALIDATIONS as f64)?;
        let (validation, step_seconds) = (self.progress.validation, self.step_seconds());
        let evals = ((VALIDATING * left / validation.max(1e-9)).round() as u64).clamp(1, self.options.evals);
        let steps = ((left - evals as f64 * validation) / step_seconds).max(0.0) as u64;
        let total = self.progress.step + steps;
        self.progress.total = Some(total);
        self.progress.eval_every = self.options.eval_every.unwrap_or(total.div_ceil(evals).max(1));
        self.mark();
        Ok(())
    }

    /// What a validation on the whole text will take, by a small part of it: as large a one as the time allows, for a
    /// recurrent model takes longer for each token of a short text.
    fn validation_seconds(&mut self, budget: f64) -> Result<f64> {
        let (val, options) = (&self.data.val, self.options);
        let of_step = options.batch * options.context * options.accumulate;
        let affordable = PROBED * budget * SCORED * of_step as f64 / self.step_seconds();
        let wanted = (val.len() / VALIDATED).max(self.model.evenly_validated_from());
        let part = wanted.min(affordable as usize).max(2 * options.context).min(val.len());
        let before = self.elapsed();
        self.model.validate_at(&val[..part], options.temperatures())?;
        let seconds = self.elapsed() - before;
        self.progress.validating += seconds;
        Ok(seconds * val.len() as f64 / part.max(1) as f64)
    }

    /// Lays the end anew, for a machine that has become slower or faster: after each validation, and between them.
    pub(super) fn relay(&mut self) {
        let (Length::Budget(budget), Some(total)) = (self.options.length, self.progress.total) else { return };
        let (step, every) = (self.progress.step, self.progress.eval_every);
        if step >= total {
            return;
        }
        let validations = self.progress.validation * (total - step).div_ceil(every) as f64;
        let left = budget.as_secs_f64() - self.elapsed() - validations;
        let laid = step + (left / self.step_seconds()).max(0.0) as u64;
        self.progress.total = Some(laid);
        if self.progress.validated.is_none() && self.options.eval_every.is_none() {
            self.progress.eval_every = laid.div_ceil(total.div_ceil(every)).max(1);
        }
        self.mark();
    }

    /// Whether the step at hand is followed by a validation; in a budget by none that would soon be followed by the last.
    pub(super) fn validates(&self) -> bool {
        let (step, every) = (self.progress.step, self.progress.eval_every);
        let soon =
            |total: u64| matches!(self.options.length, Length::Budget(_)) && 2 * total.saturating_sub(step) < every;
        step.is_multiple_of(every) && !self.progress.total.is_some_and(soon)
    }

    fn mark(&mut self) {
        self.progress.laid = (self.progress.step, self.elapsed(), self.progress.validating);
    }

    /// Seconds of a step, on average since the end was laid last, or of all steps where those are few.
    pub(super) fn step_seconds(&self) -> f64 {
        let (step, elapsed, validating) = self.progress.laid;
        let since = self.progress.step - step;
        let (step, elapsed, validating) = if since >= PROBE.1 { (step, elapsed, validating) } else { (0, 0.0, 0.0) };
        let spent = self.elapsed() - elapsed - (self.progress.validating - validating);
        (spent / (self.progress.step - step).max(1) as f64).max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn making_ready_counts_but_leaves_time_to_train() {
        let (second, budget) = (Duration::from_secs(1), Duration::from_secs(20));
        let of = |length, spent| super::spent(&TrainOptions { length, spent, ..TrainOptions::default() });
        assert_eq!(of(Length::Budget(budget), 3 * second), 3.0);
        assert_eq!(of(Length::Budget(budget), 300 * second), 15.0);
        assert_eq!(of(Length::Steps(20), 3 * second), 0.0);
        assert_eq!(said(budget, second), None);
        assert_eq!(said(budget, 3 * second).unwrap(), "reading and encoding the text took 3.0 s of the 20s");
        let late = said(budget, 300 * second).unwrap();
        assert!(late.ends_with("took 300.0 s of the 20s; training takes 5.0 s all the same"), "{late}");
    }
}
