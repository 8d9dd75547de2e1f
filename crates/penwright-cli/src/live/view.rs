//! What is known of a training as it goes: events in, numbers to show out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use penwright::train::Event;

/// Points that a curve keeps; beyond them neighbours are averaged.
const POINTS: usize = 512;

/// One curve of the loss over steps.
#[derive(Debug, Default)]
pub(super) struct Curve {
    pub(super) points: Vec<(f64, f64)>,
    /// Reports that make one point, and those waiting to become one: their sums and number.
    each: usize,
    waiting: (f64, f64, usize),
}

impl Curve {
    pub(super) fn push(&mut self, step: u64, loss: f64) {
        if !loss.is_finite() {
            return;
        }
        let (x, y, n) = self.waiting;
        self.waiting = (x + step as f64, y + loss, n + 1);
        if self.waiting.2 < self.each.max(1) {
            return;
        }
        let (x, y, n) = std::mem::take(&mut self.waiting);
        self.points.push((x / n as f64, y / n as f64));
        if self.points.len() >= 2 * POINTS {
            let halves = self.points.chunks_exact(2).map(|p| ((p[0].0 + p[1].0) / 2.0, (p[0].1 + p[1].1) / 2.0));
            self.points = halves.collect();
            self.each = 2 * self.each.max(1);
        }
    }
}

/// What the first event tells.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) model: String,
    pub(super) params: u64,
    pub(super) train_tokens: u64,
    pub(super) val_tokens: u64,
    pub(super) memory_bytes: u64,
}

/// The last report of a step.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) train_loss: f64,
    pub(super) lr: f32,
    pub(super) grad_norm: f32,
    pub(super) tokens_per_s: f64,
    pub(super) epoch: f64,
}

/// A validation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validation {
    pub(super) step: u64,
    pub(super) loss: f64,
    pub(super) bits: f64,
}

/// The end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) run: String,
    pub(super) reason: String,
    pub(super) steps: u64,
    pub(super) tokens: u64,
    pub(super) elapsed: f64,
}

/// The live view of one training.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(super) title: String,
    budget: Option<f64>,
    pub(super) plan: Option<Plan>,
    pub(super) step: u64,
    pub(super) steps: Option<u64>,
    /// Seconds trained at the last event, and the view's clock then.
    at: (f64, f64),
    /// Step and clock at which this part of the training began.
    from: Option<(u64, f64)>,
    pub(super) report: Option<Report>,
    pub(super) train: Curve,
    pub(super) val: Curve,
    pub(super) last: Option<Validation>,
    pub(super) best: Option<Validation>,
    pub(super) sample: Option<(u64, String)>,
    pub(super) end: Option<End>,
    stop: Arc<AtomicBool>,
    record: Vec<Event>,
}

impl View {
    /// A view of a model that is about to be trained; `budget` in seconds, where there is one. `stop` is raised when
    /// the person asks to stop.
    pub(crate) fn new(title: impl Into<String>, budget: Option<f64>, stop: Arc<AtomicBool>) -> Self {
        View { title: title.into(), budget, stop, ..View::default() }
    }

    /// Keeps what the record says that happened before a resumed run stopped, until the plan tells from which step it
    /// goes on; steps after a checkpoint are taken again.
    pub(crate) fn recall(&mut self, record: &[Event]) {
        self.record = record.to_vec();
    }

    /// Takes up what happened, at `clock` seconds since the view was first shown.
    pub(crate) fn on_event(&mut self, event: &Event, clock: f64) {
        match event {
            Event::Plan { model, params, train_tokens, val_tokens, steps, memory_bytes, resumed_at, .. } => {
                self.plan = Some(Plan {
                    model: model.clone(),
                    params: *params,
                    train_tokens: *train_tokens,
                    val_tokens: *val_tokens,
                    memory_bytes: *memory_bytes,
                });
                (self.train, self.val) = (Curve::default(), Curve::default());
                (self.report, self.last, self.best) = (None, None, None);
                for event in std::mem::take(&mut self.record) {
                    match event {
                        Event::Step { step, .. } | Event::Eval { step, .. } if step <= *resumed_at => {
                            self.on_event(&event, clock);
                        }
                        _ => {}
                    }
                }
                (self.step, self.steps) = (*resumed_at, *steps);
                (self.at.1, self.from) = (clock, Some((*resumed_at, clock)));
            }
            Event::Step { step, steps, epoch, elapsed_s, train_loss, lr, grad_norm, tokens_per_s, .. } => {
                (self.step, self.steps) = (*step, steps.or(self.steps));
                self.at = (*elapsed_s, clock);
                self.train.push(*step, *train_loss);
                let (train_loss, lr, grad_norm) = (*train_loss, *lr, *grad_norm);
                self.report = Some(Report { train_loss, lr, grad_norm, tokens_per_s: *tokens_per_s, epoch: *epoch });
            }
            Event::Eval { step, elapsed_s, val_loss, val_bits_per_char, .. } => {
                self.step = *step;
                self.at = (*elapsed_s, clock);
                self.val.push(*step, *val_loss);
                if val_loss.is_finite() {
                    let validation = Validation { step: *step, loss: *val_loss, bits: *val_bits_per_char };
                    self.last = Some(validation);
                    if self.best.is_none_or(|best| validation.loss < best.loss) {
                        self.best = Some(validation);
                    }
                }
            }
            // Said in a line above the view.
            Event::Excerpt { .. } => {}
            Event::Sample { step, text, .. } => self.sample = Some((*step, text.clone())),
            Event::Done { run, reason, steps, tokens, elapsed_s, best_val_loss, best_val_bits_per_char, .. } => {
                self.at = (*elapsed_s, clock);
                self.step = *steps;
                if reason == "finished" {
                    self.steps = Some(*steps);
                }
                // A resumed run's best may be older than what was seen here.
                if let (None, Some(loss), Some(bits)) = (&self.best, best_val_loss, best_val_bits_per_char) {
                    self.best = Some(Validation { step: 0, loss: *loss, bits: *bits });
                }
                let (run, reason) = (run.clone(), reason.clone());
                self.end = Some(End { run, reason, steps: *steps, tokens: *tokens, elapsed: *elapsed_s });
            }
        }
    }

    /// Whether training has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.plan.is_some()
    }

    /// Whether the person asked to stop: the step at hand is finished and saved.
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Seconds of training so far.
    pub(super) fn elapsed(&self, clock: f64) -> f64 {
        match &self.end {
            Some(end) => end.elapsed,
            None => self.at.0 + (clock - self.at.1).max(0.0),
        }
    }

    /// How much is done, from 0 to 1; `None` while nobody knows.
    pub(super) fn ratio(&self, clock: f64) -> Option<f64> {
        let ratio = match (self.steps, self.budget) {
            (Some(0), _) => 1.0,
            (Some(steps), _) => self.step as f64 / steps as f64,
            (None, Some(budget)) => self.elapsed(clock) / budget,
            (None, None) => return None,
        };
        Some(if ratio.is_finite() { ratio.clamp(0.0, 1.0) } else { 0.0 })
    }

    /// Seconds left, once they can be told.
    pub(super) fn left(&self, clock: f64) -> Option<f64> {
        let left = match (self.steps, self.from) {
            (Some(steps), Some((step, begun))) if self.step > step => {
                let pace = (self.at.1 - begun) / (self.step - step) as f64;
                pace * steps.saturating_sub(self.step) as f64 - (clock - self.at.1)
            }
            _ => self.budget? - self.elapsed(clock),
        };
        left.is_finite().then_some(left.max(0.0))
    }

    /// What is going on, where the bar does not tell.
    pub(super) fn state(&self) -> &'static str {
        match (&self.end, self.stopping()) {
            (Some(end), _) if end.reason == "interrupted" => "interrupted, saved",
            (Some(end), _) if end.reason == "patience" => "stopped: no longer improving",
            (Some(_), _) => "done",
            (None, true) => "stopping after this step …",
            (None, false) if self.plan.is_none() => "preparing …",
            (None, false) if self.steps.is_none() && self.budget.is_some() => "measuring the speed …",
            (None, false) => "",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan(steps: Option<u64>, resumed_at: u64) -> Event {
        Event::Plan {
            model: "gpt2".into(),
            params: 824_448,
            trained_params: None,
            train_tokens: 1_003_854,
            val_tokens: 111_540,
            steps,
            memory_bytes: 36 << 20,
            flops_per_token: 5e6,
            resumed_at,
            reasons: Vec::new(),
        }
    }

    pub(crate) fn step(step: u64, elapsed_s: f64, train_loss: f64) -> Event {
        let (lr, grad_norm) = (1e-3, 0.5);
        Event::Step {
            step,
            steps: Some(1000),
            tokens: step.wrapping_mul(768),
            epoch: 0.1,
            elapsed_s,
            train_loss,
            lr,
            grad_norm,
            tokens_per_s: 81_240.0,
        }
    }

    pub(crate) fn eval(step: u64, elapsed_s: f64, val_loss: f64) -> Event {
        let val_bits_per_char = val_loss * std::f64::consts::LOG2_E;
        Event::Eval { step, elapsed_s, val_loss, val_bits_per_char, temperature: None }
    }

    pub(crate) fn done(steps: u64, elapsed_s: f64) -> Event {
        Event::Done {
            run: "runs/latest".into(),
            reason: "finished".into(),
            steps,
            tokens: steps * 768,
            elapsed_s,
            best_val_loss: Some(1.75),
            best_val_bits_per_char: Some(2.52),
            params: 824_448,
        }
    }

    #[test]
    fn time_left_follows_the_pace_and_the_clock() {
        let mut view = View::new("tiny", None, Default::default());
        assert_eq!((view.ratio(0.0), view.left(0.0)), (None, None));
        view.on_event(&plan(Some(1000), 0), 1.0);
        view.on_event(&step(100, 10.0, 3.0), 11.0);
        view.on_event(&step(200, 20.0, 2.5), 21.0);
        assert_eq!(view.ratio(21.0), Some(0.2));
        assert!((view.left(21.0).unwrap() - 80.0).abs() < 1e-9);
        assert!((view.left(24.0).unwrap() - 77.0).abs() < 1e-9 && (view.elapsed(24.0) - 23.0).abs() < 1e-9);
    }

    #[test]
    fn a_resumed_run_counts_its_own_pace_only() {
        let mut view = View::new("tiny", None, Default::default());
        view.recall(&[
            plan(Some(1000), 0),
            step(490, 300.0, 3.0),
            eval(490, 301.0, 3.0),
            step(510, 310.0, 2.0),
            eval(510, 311.0, 2.5),
        ]);
        view.on_event(&plan(Some(1000), 500), 5.0);
        assert_eq!(view.train.points.len(), 1, "what comes after the checkpoint is forgotten");
        // Ten steps a second since.
        view.on_event(&step(510, 302.0, 2.0), 6.0);
        view.on_event(&step(520, 303.0, 2.0), 7.0);
        assert!((view.left(7.0).unwrap() - 48.0).abs() < 1.0, "{:?}", view.left(7.0));
        assert_eq!(view.best.unwrap().step, 490);
    }

    #[test]
    fn a_budget_tells_the_time_before_the_steps_are_known() {
        let mut view = View::new("tiny", Some(100.0), Default::default());
        view.on_event(&plan(None, 0), 0.0);
        assert_eq!((view.ratio(25.0), view.left(25.0)), (Some(0.25), Some(75.0)));
        assert!(view.state().contains("measuring"));
    }

    #[test]
    fn long_curves_are_thinned_and_nan_is_left_out() {
        let mut curve = Curve::default();
        (0..100_000).for_each(|i| curve.push(i, if i % 7 == 0 { f64::NAN } else { 2.0 }));
        assert!((POINTS..2 * POINTS).contains(&curve.points.len()));
        assert!(curve.points.iter().all(|p| p.1 == 2.0) && curve.points.is_sorted_by(|a, b| a.0 < b.0));
    }
}
