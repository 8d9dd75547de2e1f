//! What the course of a run says about model, text and time: one finding, by rules with fixed thresholds.
//!
//! The rules are asked in the order of [`Finding`]; the first that holds is the verdict. Losses are compared by shares,
//! not differences, so that the same thresholds serve characters and words. `docs/report.md` tells them in words.

use serde::Serialize;

use super::record::{Ending, Record};

/// Overfitting: the validation loss ended at least this share above its best …
pub const RISE: f64 = 0.01;
/// … which lies so many validations back. After one alone a rise must be [`SHARP_RISE`].
pub const AFTER_BEST: usize = 2;
/// A rise that a single validation is enough to believe.
pub const SHARP_RISE: f64 = 0.05;
/// Still improving: the second half of the time lowered the loss by at least this share.
pub const FALL: f64 = 0.02;
/// Too small a model: at the best point the training loss is less than this share below the validation loss …
pub const GAP: f64 = 0.12;
/// … after the text was read so many times at least.
pub const READ: f64 = 2.0;
/// A text of fewer characters is called small: some fifty pages.
pub const SMALL_TEXT: f64 = 100_000.0;
/// Diverged: the training loss ended this share above its lowest.
pub const CLIMB: f64 = 0.25;

/// Means that the training curve is divided into for [`CLIMB`] and, without validations, for [`FALL`].
const PARTS: usize = 20;

/// What a run shows. In the order in which the rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The loss was no longer a number, or the training loss went up and stayed up ([`CLIMB`]).
    Diverged,
    /// An n-gram model: counted in one pass, there is no course to judge.
    Counted,
    /// No validation, and too few reports of the training loss to see a tendency.
    TooShort,
    /// The validation loss rises ([`RISE`], [`AFTER_BEST`]) while the training loss falls, and the text is small.
    TextTooSmall,
    /// The same on a text that is not small.
    Overfitting,
    /// It was stopped before its length.
    Interrupted,
    /// The record has no end: training goes on, or was killed.
    Unfinished,
    /// The second half of the time still lowered the loss ([`FALL`]).
    StillImproving,
    /// The loss has come to rest, training and validation loss are close ([`GAP`]), the text was read more than once
    /// ([`READ`]), and the model has fewer parameters than the text tokens.
    ModelTooSmall,
    /// The loss has come to rest.
    Converged,
}

/// What the verdict is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// How the run ended.
    pub ending: Ending,
    /// Whether it is an n-gram model.
    pub counted: bool,
    /// Seconds and validation loss, nats a token, in the order of time.
    pub validations: Vec<(f64, f64)>,
    /// Seconds and training loss, likewise.
    pub training: Vec<(f64, f64)>,
    /// Parameters that are trained.
    pub params: u64,
    /// Tokens of the training text.
    pub train_tokens: u64,
    /// Its characters, where they can be told.
    pub train_chars: Option<f64>,
    /// How many times it was read.
    pub epochs: f64,
}

impl From<&Record> for Evidence {
    fn from(record: &Record) -> Self {
        let finite =
            |points: Vec<(f64, f64)>| points.into_iter().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
        Evidence {
            ending: record.ending,
            counted: record.plan.model == "ngram",
            validations: finite(record.validations.iter().map(|v| (v.seconds, v.loss)).collect()),
            training: finite(record.steps.iter().map(|s| (s.seconds, s.loss)).collect()),
            params: record.plan.trained_params.unwrap_or(record.plan.params),
            train_tokens: record.plan.train_tokens,
            train_chars: record.train_chars(),
            epochs: record.epochs(),
        }
    }
}

/// The verdict and what it was measured by. What could not be measured is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What the run shows.
    pub finding: Finding,
    /// Seconds at which the validation loss was lowest, and that loss in nats a token.
    pub best: Option<(f64, f64)>,
    /// Validations since then.
    pub after_best: usize,
    /// By what share the last validation loss is above the lowest.
    pub rise: Option<f64>,
    /// By what share the second half of the time lowered the loss: of validation, or of training where there are fewer
    /// than three validations.
    pub fall: Option<f64>,
    /// By what share the training loss at the best point is below the validation loss.
    pub gap: Option<f64>,
    /// Whether the training loss fell after the best point.
    pub training_fell: Option<bool>,
    /// By what share the training loss ended above its lowest.
    pub climb: Option<f64>,
    /// Trained parameters for each token of the training text.
    pub params_per_token: f64,
    /// Characters of the training text.
    pub train_chars: Option<f64>,
    /// How many times it was read.
    pub epochs: f64,
}

impl Verdict {
    /// Whether the text is small ([`SMALL_TEXT`]).
    pub fn is_small_text(&self) -> bool {
        self.train_chars.is_some_and(|chars| chars < SMALL_TEXT)
    }

    /// Whether more of the same training lowers the loss ([`FALL`]).
    pub fn is_improving(&self) -> bool {
        self.fall.is_some_and(|fall| fall >= FALL)
    }

    /// Whether the validation loss rises while the training loss falls.
    pub fn is_overfitting(&self) -> bool {
        let rise = self.rise.unwrap_or(0.0);
        let risen = (rise >= RISE && self.after_best >= AFTER_BEST) || (rise >= SHARP_RISE && self.after_best >= 1);
        // What is read for the first time cannot have been learned by heart.
        risen && self.training_fell != Some(false) && self.epochs > 1.0
    }
}

/// Judges a run. A pure function: the same evidence gives the same verdict.
pub fn judge(evidence: &Evidence) -> Verdict {
    let Evidence { validations, training, .. } = evidence;
    let best_at = (0..validations.len()).min_by(|&a, &b| validations[a].1.total_cmp(&validations[b].1));
    let best = best_at.map(|i| validations[i]);
    let end = validations.iter().chain(training).map(|p| p.0).fold(0.0, f64::max);
    let parts = means(training, PARTS);
    let lowest = parts.iter().copied().reduce(f64::min);
    let train_at = |seconds: f64| mean(training.iter().filter(|p| p.0 <= seconds && p.0 >= seconds - end / 10.0));
    let train_best = best.and_then(|(seconds, _)| train_at(seconds));
    let mut verdict = Verdict {
        finding: Finding::Converged,
        best,
        after_best: best_at.map_or(0, |i| validations.len() - 1 - i),
        rise: best.zip(validations.last()).map(|(best, last)| share(last.1, best.1)),
        fall: fall(validations, &parts, end),
        gap: best.zip(train_best).map(|((_, loss), train)| -share(train, loss)),
        training_fell: train_best.zip(train_at(end)).map(|(best, last)| last < best),
        climb: lowest.zip(parts.last()).map(|(lowest, last)| share(*last, lowest)),
        params_per_token: evidence.params as f64 / evidence.train_tokens.max(1) as f64,
        train_chars: evidence.train_chars,
        epochs: evidence.epochs,
    };
    verdict.finding = finding(&verdict, evidence);
    verdict
}

fn finding(verdict: &Verdict, evidence: &Evidence) -> Finding {
    let climbed = parts_enough(evidence) && verdict.climb.is_some_and(|climb| climb >= CLIMB);
    if evidence.ending == Ending::Diverged || (climbed && !evidence.counted) {
        return Finding::Diverged;
    }
    if evidence.counted {
        return Finding::Counted;
    }
    if verdict.is_overfitting() {
        return if verdict.is_small_text() { Finding::TextTooSmall } else { Finding::Overfitting };
    }
    match evidence.ending {
        Ending::Interrupted => return Finding::Interrupted,
        Ending::Open => return Finding::Unfinished,
        Ending::Diverged | Ending::Finished | Ending::OutOfPatience => {}
    }
    let close = verdict.gap.is_some_and(|gap| gap < GAP);
    match verdict.fall {
        None => Finding::TooShort,
        Some(fall) if fall >= FALL => Finding::StillImproving,
        Some(_) if close && verdict.epochs >= READ && verdict.params_per_token < 1.0 => Finding::ModelTooSmall,
        Some(_) => Finding::Converged,
    }
}

/// A climb is one only where there was a course before it.
fn parts_enough(evidence: &Evidence) -> bool {
    evidence.training.len() >= PARTS
}

/// By what share `a` is above `b`.
fn share(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { (a - b) / b }
}

fn mean<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> Option<f64> {
    let (sum, count) = points.fold((0.0, 0), |(sum, count), p| (sum + p.1, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Means of as many equal parts of a curve, or of its single points when there are fewer.
fn means(points: &[(f64, f64)], parts: usize) -> Vec<f64> {
    let parts = parts.min(points.len());
    (0..parts).filter_map(|i| mean(points[i * points.len() / parts..(i + 1) * points.len() / parts].iter())).collect()
}

/// By what share the second half of the time lowered the loss.
fn fall(validations: &[(f64, f64)], parts: &[f64], end: f64) -> Option<f64> {
    match (validations, parts) {
        ([first, _, .., last], _) => Some(-share(last.1, at(validations, end / 2.0).unwrap_or(first.1))),
        (_, [_, _, .., last]) => parts.get(parts.len() / 2).map(|half| -share(*last, *half)),
        _ => None,
    }
}

/// A curve's value at a time, between two points on the line through them; `None` before the first.
fn at(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = points.iter().position(|p| p.0 > x)?;
    let (a, b) = (points[after.checked_sub(1)?], points[after]);
    Some(a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of a hundred seconds whose losses are functions of the part done.
    fn run(val: impl Fn(f64) -> f64, train: impl Fn(f64) -> f64) -> Evidence {
        let curve = |n: u32, loss: &dyn Fn(f64) -> f64| {
            (1..=n).map(|i| f64::from(i) / f64::from(n)).map(|t| (100.0 * t, loss(t))).collect()
        };
        Evidence {
            ending: Ending::Finished,
            validations: curve(20, &val),
            training: curve(200, &train),
            params: 800_000,
            train_tokens: 1_000_000,
            train_chars: Some(1e6),
            epochs: 5.0,
            ..Evidence::default()
        }
    }

    fn found(evidence: &Evidence) -> Finding {
        judge(evidence).finding
    }

    #[test]
    fn overfitting_is_a_rise_of_validation_while_training_falls() {
        let bowl = |t: f64| 1.5 + (t - 0.4).abs();
        let overfit = run(bowl, |t| 2.0 - t);
        let verdict = judge(&overfit);
        assert_eq!((verdict.finding, verdict.after_best), (Finding::Overfitting, 12));
        assert!((verdict.best.unwrap().0 - 40.0).abs() < 1e-9 && (verdict.rise.unwrap() - 0.4).abs() < 1e-9);
        assert_eq!(found(&Evidence { train_chars: Some(SMALL_TEXT - 1.0), ..overfit.clone() }), Finding::TextTooSmall);
        // It is said of an interrupted run too, but not of a text that was not read once.
        assert_eq!(found(&Evidence { ending: Ending::Interrupted, ..overfit.clone() }), Finding::Overfitting);
        assert_ne!(found(&Evidence { epochs: 0.9, ..overfit }), Finding::Overfitting);
        // Training that rises as well is no overfitting.
        assert_ne!(found(&run(bowl, |t| 1.5 + 0.3 * (t - 0.4).abs())), Finding::Overfitting);
    }

    #[test]
    fn the_thresholds_of_overfitting() {
        let end = |last: [f64; 3]| {
            let mut evidence = run(|_| 2.0, |t| 2.0 - t);
            let n = evidence.validations.len();
            last.iter().enumerate().for_each(|(i, loss)| evidence.validations[n - 3 + i].1 = *loss);
            judge(&evidence).is_overfitting()
        };
        assert!(end([1.0, 1.005, 1.0101]) && !end([1.0, 1.005, 1.0099]));
        assert!(end([1.2, 1.0, 1.0501]) && !end([1.2, 1.0, 1.0499]), "one validation after the best");
        assert!(!end([1.2, 1.1, 1.0]));
    }

    #[test]
    fn improving_is_a_fall_in_the_second_half() {
        // From 2 at half the time to 2 − x at the end.
        let falling = |x: f64| run(move |t| 2.0 - x * (2.0 * t - 1.0), |t| 1.5 - 0.1 * t);
        assert_eq!(found(&falling(2.0 * FALL + 1e-6)), Finding::StillImproving);
        assert_eq!(found(&falling(2.0 * FALL - 1e-6)), Finding::Converged);
        let interrupted = Evidence { ending: Ending::Interrupted, ..falling(1.0) };
        assert_eq!(found(&interrupted), Finding::Interrupted);
        assert!(judge(&interrupted).is_improving());
        assert_eq!(found(&Evidence { ending: Ending::Open, ..falling(1.0) }), Finding::Unfinished);
        assert_eq!(found(&Evidence { ending: Ending::OutOfPatience, ..falling(0.0) }), Finding::Converged);
    }

    #[test]
    fn a_model_is_too_small_when_it_rests_without_a_gap() {
        let resting = |gap: f64| run(|_| 2.0, move |_| 2.0 * (1.0 - gap));
        assert_eq!(found(&resting(GAP - 1e-6)), Finding::ModelTooSmall);
        assert_eq!(found(&resting(GAP + 1e-6)), Finding::Converged);
        assert_eq!(found(&resting(-0.1)), Finding::ModelTooSmall, "with dropout the training loss may be higher");
        assert_eq!(found(&Evidence { epochs: READ - 0.1, ..resting(0.0) }), Finding::Converged);
        assert_eq!(found(&Evidence { params: 1_000_000, ..resting(0.0) }), Finding::Converged);
    }

    #[test]
    fn divergence_is_no_number_or_a_climb() {
        let climbing = |x: f64| run(|_| 2.0, move |t| if t > 0.95 { 2.0 * (1.0 + x) } else { 2.0 });
        assert_eq!(found(&climbing(CLIMB + 1e-6)), Finding::Diverged);
        assert_ne!(found(&climbing(CLIMB - 1e-6)), Finding::Diverged);
        assert_eq!(found(&Evidence { ending: Ending::Diverged, ..Evidence::default() }), Finding::Diverged);
    }

    #[test]
    fn few_figures_are_no_reason_to_fail() {
        let none = Evidence { ending: Ending::Finished, ..Evidence::default() };
        assert_eq!(found(&none), Finding::TooShort);
        assert_eq!(found(&Evidence { validations: vec![(1.0, 2.0)], ..none.clone() }), Finding::TooShort);
        let counted = Evidence { counted: true, validations: vec![(1.0, 2.0)], ..none.clone() };
        assert_eq!(found(&counted), Finding::Counted);
        // Without three validations the training loss tells the tendency.
        let training: Vec<(f64, f64)> = (1..=10).map(|i| (f64::from(i), 3.0 / f64::from(i))).collect();
        let short = Evidence { validations: vec![(10.0, 2.0)], training, ..none };
        assert_eq!(found(&short), Finding::StillImproving);
        assert_eq!(found(&Evidence { validations: Vec::new(), ..short }), Finding::StillImproving);
        let zero = run(|_| 0.0, |_| 0.0);
        assert!(judge(&zero).fall.unwrap().is_finite());
    }

    #[test]
    fn a_curve_between_its_points() {
        let points = [(1.0, 4.0), (3.0, 2.0), (3.0, 1.0)];
        assert_eq!((at(&points, 0.5), at(&points, 2.0), at(&points, 9.0)), (None, Some(3.0), None));
        assert_eq!(means(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)], 2), [1.0, 4.0]);
        assert_eq!(means(&[(0.0, 1.0)], 20), [1.0]);
    }
}
