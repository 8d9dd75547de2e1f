//! The course of a run, gathered from its events: what the page draws and the verdict judges.

use std::path::Path;

use crate::train::{Event, read_metrics};
use crate::{Error, Result};

/// Reports kept at most; beyond them neighbours are joined, so that a run of days stays small.
const KEPT: usize = 2000;

/// What was planned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planned {
    /// Family of the model.
    pub model: String,
    /// Number of parameters.
    pub params: u64,
    /// Number of them that are trained, where not all are.
    pub trained_params: Option<u64>,
    /// Training tokens.
    pub train_tokens: u64,
    /// Validation tokens.
    pub val_tokens: u64,
    /// Steps in all, where known.
    pub steps: Option<u64>,
    /// Bytes of memory that training takes.
    pub memory_bytes: u64,
    /// Floating-point operations a token.
    pub flops_per_token: f64,
    /// Why the settings are what they are.
    pub reasons: Vec<String>,
}

/// A report of some steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    /// The last of them.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Passes over the training text so far.
    pub epoch: f64,
    /// Seconds since the start.
    pub seconds: f64,
    /// Mean training loss, nats a token.
    pub loss: f64,
    /// Learning rate of the last.
    pub lr: f64,
    /// Mean of the gradient's norms that were reported.
    pub grad_norm: f64,
    /// Tokens a second since the report before, validation not counted; `None` for the first.
    pub speed: Option<f64>,
    /// Seconds spent on steps so far, validation not counted.
    busy: f64,
    /// Reports joined in it.
    reports: u64,
}

/// A validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    /// Steps taken.
    pub step: u64,
    /// Seconds since the start.
    pub seconds: f64,
    /// Nats a token.
    pub loss: f64,
    /// Bits a character.
    pub bits_per_char: f64,
    /// What the logits were divided by, of a calibrated run.
    pub temperature: Option<f32>,
}

/// What the model wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Steps taken.
    pub step: u64,
    /// Seconds since the start, of what was recorded before it.
    pub seconds: f64,
    /// Loss and bits a character of the last validation by then.
    pub validation: Option<(f64, f64)>,
    /// The text.
    pub text: String,
}

/// How a run ended, or that it has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The record has no end: training goes on, or was killed.
    #[default]
    Open,
    /// It went its whole length.
    Finished,
    /// Validation had not improved for as long as the patience.
    OutOfPatience,
    /// It was stopped and can be resumed.
    Interrupted,
    /// The loss or the gradient was no longer a number.
    Diverged,
}

/// The course of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// What was planned last: a resumed run plans anew.
    pub plan: Planned,
    /// Steps from which it was resumed, in order.
    pub resumed: Vec<u64>,
    /// Tokens of the excerpt of the validation text that validations score, where that is not the whole.
    pub excerpt: Option<u64>,
    /// Reports of steps, neighbours joined where there are many.
    pub steps: Vec<Steps>,
    /// Validations.
    pub validations: Vec<Validation>,
    /// Samples.
    pub samples: Vec<Sample>,
    /// How it ended.
    pub ending: Ending,
    /// Steps taken, tokens trained on and seconds in all, so far.
    pub done: (u64, u64, f64),
    /// Reports that are joined to one.
    join: u64,
}

impl Record {
    /// The record of a run directory.
    ///
    /// # Errors
    /// When there is none: the directory is missing, or not of a run that Penwright trained.
    pub fn read(run: &Path) -> Result<Record> {
        let events = read_metrics(run).map_err(|error| match error {
            Error::Io { source, path, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Error::damaged(path, "is not there; a report needs the record of a run that penwright train made")
            }
            other => other,
        })?;
        if events.is_empty() {
            return Err(Error::damaged(run.join("metrics.jsonl"), "holds no events; train the run first"));
        }
        let mut record = Record::default();
        events.iter().for_each(|event| record.add(event));
        Ok(record)
    }

    /// Takes in what happened next.
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Plan { .. } => self.add_plan(event),
            Event::Step { .. } => self.add_steps(event),
            Event::Excerpt { tokens, .. } => self.excerpt = Some(*tokens),
            &Event::Eval {
                step,
                elapsed_s: seconds,
                val_loss: loss,
                val_bits_per_char: bits_per_char,
                temperature,
            } => {
                self.done = (self.done.0.max(step), self.done.1, self.done.2.max(seconds));
                self.validations.push(Validation { step, seconds, loss, bits_per_char, temperature });
            }
            Event::Sample { step, text } => {
                let validation = self.validations.last().map(|v| (v.loss, v.bits_per_char));
                self.samples.push(Sample { step: *step, seconds: self.done.2, validation, text: text.clone() });
            }
            Event::Done { reason, steps, tokens, elapsed_s, .. } => {
                self.done = (*steps, *tokens, *elapsed_s);
                self.ending = match reason.as_str() {
                    "patience" => Ending::OutOfPatience,
                    "interrupted" => Ending::Interrupted,
                    "diverged" => Ending::Diverged,
                    _ => Ending::Finished,
                };
            }
        }
    }

    fn add_plan(&mut self, event: &Event) {
        let Event::Plan { steps, resumed_at, reasons, .. } = event else { return };
        let Event::Plan { model, params, trained_params, train_tokens, val_tokens, .. } = event else { return };
        let Event::Plan { memory_bytes, flops_per_token, .. } = event else { return };
        self.ending = Ending::Open;
        if *resumed_at > 0 {
            self.resumed.push(*resumed_at);
        }
        // What was chosen for the run is chosen once.
        let reasons = if reasons.is_empty() { std::mem::take(&mut self.plan.reasons) } else { reasons.clone() };
        self.plan = Planned {
            model: model.clone(),
            params: *params,
            trained_params: *trained_params,
            train_tokens: *train_tokens,
            val_tokens: *val_tokens,
            steps: *steps,
            memory_bytes: *memory_bytes,
            flops_per_token: *flops_per_token,
            reasons,
        };
    }

    fn add_steps(&mut self, event: &Event) {
        let Event::Step { step, steps, tokens, epoch, elapsed_s, train_loss, lr, grad_norm, tokens_per_s } = event
        else {
            return;
        };
        self.plan.steps = steps.or(self.plan.steps);
        self.done = (*step, *tokens, self.done.2.max(*elapsed_s));
        let busy = if *tokens_per_s > 0.0 { *tokens as f64 / tokens_per_s } else { *elapsed_s };
        let one = Steps {
            step: *step,
            tokens: *tokens,
            epoch: *epoch,
            seconds: *elapsed_s,
            loss: *train_loss,
            lr: f64::from(*lr),
            grad_norm: f64::from(*grad_norm),
            speed: None,
            busy,
            reports: 1,
        };
        self.join = self.join.max(1);
        match self.steps.pop() {
            Some(last) if last.reports < self.join => self.steps.push(last.joined(one)),
            last => self.steps.extend(last.into_iter().chain([one])),
        }
        if self.steps.len() > KEPT {
            self.join *= 2;
            let pairs = self.steps.chunks(2).map(|pair| pair[1..].iter().fold(pair[0], |a, b| a.joined(*b)));
            self.steps = pairs.collect();
        }
        self.measure_speed();
    }

    /// The speed of the last report, and of all after neighbours were joined: differences of what has been counted.
    fn measure_speed(&mut self) {
        for i in (1..self.steps.len()).rev() {
            let (before, now) = (self.steps[i - 1], self.steps[i]);
            let (tokens, seconds) = (now.tokens.saturating_sub(before.tokens) as f64, now.busy - before.busy);
            let speed = (seconds > 0.0).then(|| tokens / seconds);
            if self.steps[i].speed == speed && speed.is_some() {
                return; // All before it stand as they were.
            }
            self.steps[i].speed = speed;
        }
    }

    /// The validation of the lowest loss, the first of equals.
    pub fn best(&self) -> Option<Validation> {
        let measured = self.validations.iter().filter(|v| v.loss.is_finite()).copied();
        measured.reduce(|best, next| if next.loss < best.loss { next } else { best })
    }

    /// Passes over the training text.
    pub fn epochs(&self) -> f64 {
        self.done.1 as f64 / self.plan.train_tokens.max(1) as f64
    }

    /// Characters a token has on average in the validation text: both losses are of the same text.
    pub fn chars_per_token(&self) -> Option<f64> {
        let bits = |v: &Validation| v.loss / std::f64::consts::LN_2 / v.bits_per_char;
        self.validations.last().map(bits).filter(|chars| chars.is_finite() && *chars > 0.0)
    }

    /// Characters of the training text, as the validation text's tokens tell.
    pub fn train_chars(&self) -> Option<f64> {
        self.chars_per_token().map(|chars| chars * self.plan.train_tokens as f64)
    }
}

impl Steps {
    /// This report and the next as one.
    fn joined(self, next: Steps) -> Steps {
        let (a, b) = (self.reports as f64, next.reports as f64);
        let mean = |x: f64, y: f64| (a * x + b * y) / (a + b);
        Steps {
            loss: mean(self.loss, next.loss),
            grad_norm: mean(self.grad_norm, next.grad_norm),
            speed: None,
            reports: self.reports + next.reports,
            ..next
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::report) fn plan(resumed_at: u64) -> Event {
        Event::Plan {
            model: "gpt2".into(),
            params: 824_448,
            trained_params: None,
            train_tokens: 100_000,
            val_tokens: 11_000,
            steps: None,
            memory_bytes: 36 << 20,
            flops_per_token: 5e6,
            resumed_at,
            reasons: Vec::new(),
        }
    }

    /// A hundred tokens a step, a hundred steps a second.
    pub(in crate::report) fn step(step: u64, train_loss: f64) -> Event {
        let tokens = 100 * step;
        Event::Step {
            step,
            steps: Some(1000),
            tokens,
            epoch: tokens as f64 / 1e5,
            elapsed_s: step as f64 / 100.0,
            train_loss,
            lr: 1e-3,
            grad_norm: 0.5,
            tokens_per_s: 10_000.0,
        }
    }

    /// Two characters a token.
    pub(in crate::report) fn eval(step: u64, val_loss: f64) -> Event {
        let val_bits_per_char = val_loss / std::f64::consts::LN_2 / 2.0;
        Event::Eval { step, elapsed_s: step as f64 / 100.0, val_loss, val_bits_per_char, temperature: None }
    }

    pub(in crate::report) fn done(steps: u64, reason: &str) -> Event {
        Event::Done {
            run: "x".into(),
            reason: reason.into(),
            steps,
            tokens: 100 * steps,
            elapsed_s: steps as f64 / 100.0,
            best_val_loss: None,
            best_val_bits_per_char: None,
            params: 824_448,
        }
    }

    pub(in crate::report) fn record(events: impl IntoIterator<Item = Event>) -> Record {
        let mut record = Record::default();
        events.into_iter().for_each(|event| record.add(&event));
        record
    }

    #[test]
    fn a_long_run_stays_small_and_keeps_its_means() {
        let steps = 10 * 50_000;
        let record = record((1..=50_000).map(|i| step(10 * i, i as f64)));
        assert!(record.steps.len() > KEPT / 2 && record.steps.len() <= KEPT);
        assert_eq!((record.done.0, record.steps.last().unwrap().step), (steps, steps));
        let reports: u64 = record.steps.iter().map(|s| s.reports).sum();
        let mean = record.steps.iter().map(|s| s.loss * s.reports as f64).sum::<f64>() / reports as f64;
        assert!(reports == 50_000 && (mean - 25_000.5).abs() < 1e-6);
        assert!(record.steps[1..].iter().all(|s| (s.speed.unwrap() - 1e4).abs() < 1e-3));
        assert!(record.steps.windows(2).all(|pair| pair[0].step < pair[1].step));
    }

    #[test]
    fn speed_is_that_of_the_moment() {
        // The second hundred tokens took a tenth of the time of the first.
        let mut fast = step(2, 1.0);
        if let Event::Step { tokens_per_s, .. } = &mut fast {
            *tokens_per_s = 200.0 / 0.011;
        }
        let record = record([step(1, 1.0), fast]);
        assert!((record.steps[1].speed.unwrap() - 1e5).abs() < 1e-3);
    }

    #[test]
    fn a_resumed_record_is_open_again_and_samples_know_their_loss() {
        let sample = Event::Sample { step: 20, text: "x".into() };
        let events = [plan(0), step(10, 3.0), eval(20, 2.0), sample, done(20, "interrupted"), plan(20), eval(30, 2.5)];
        let record = record(events);
        assert_eq!((record.ending, &record.resumed[..]), (Ending::Open, &[20][..]));
        assert_eq!(record.samples[0].validation.map(|v| v.0), Some(2.0));
        assert_eq!(record.best().map(|v| v.step), Some(20));
        assert!((record.chars_per_token().unwrap() - 2.0).abs() < 1e-9);
        assert!((record.train_chars().unwrap() - 2e5).abs() < 1e-3);
    }
}
