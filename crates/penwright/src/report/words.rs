//! The verdict in plain words.

use super::record::{Ending, Record, Validation};
use super::verdict::{Finding, GAP, Verdict};
use crate::page::format::{count, duration, percent, significant};

/// Characters of a printed page.
const PAGE: f64 = 1800.0;

impl Verdict {
    /// The verdict in a few words.
    pub fn headline(&self, record: &Record) -> String {
        let tendency = match (self.is_improving(), self.fall) {
            (true, _) => ", still improving",
            (false, Some(_)) => ", hardly improving",
            (false, None) => "",
        };
        match self.finding {
            Finding::Diverged => format!("Training diverged at step {}", count(record.done.0)),
            Finding::Counted => "Counted in one pass".into(),
            Finding::TooShort => "Too short a run to judge".into(),
            Finding::TextTooSmall => format!("The text is too small: overfitting since {}", since(self.best)),
            Finding::Overfitting => format!("Overfitting since {}", since(self.best)),
            Finding::Interrupted => format!("Interrupted{tendency}"),
            Finding::Unfinished => format!("Not ended yet{tendency}"),
            Finding::StillImproving => "Still improving when it ended".into(),
            Finding::ModelTooSmall => "The model is too small for the text".into(),
            Finding::Converged if self.is_small_text() => "Converged: this text has no more to teach it".into(),
            Finding::Converged => "Converged: it has learned what it can".into(),
        }
    }

    /// Plain sentences: what was seen, and what it means.
    pub fn explanation(&self, record: &Record) -> Vec<String> {
        let best = record.best();
        let mut sentences = match self.finding {
            Finding::Diverged => self.diverged(record),
            Finding::Counted => vec![
                "An n-gram model counts what follows what and is done when it has read the text once, so there is no \
                 course to judge."
                    .into(),
                score(best, "It needs"),
            ],
            Finding::TooShort => vec![format!(
                "There are {} validations and {} reports of the training loss, too few to see a tendency.",
                record.validations.len(),
                record.steps.len()
            )],
            Finding::TextTooSmall | Finding::Overfitting => self.overfitting(best),
            Finding::Interrupted => vec![self.stopped(record, "It was stopped at")],
            Finding::Unfinished => vec![format!(
                "{} It is being trained still, or was ended without the chance to save.",
                self.stopped(record, "The record goes up to")
            )],
            Finding::StillImproving => vec![self.falling(true)],
            Finding::ModelTooSmall => vec![
                self.falling(false),
                format!(
                    "Training and validation loss are close, {}, although the text was read {}: the model of {} \
                     parameters holds all that it can hold.",
                    self.gap_in_words(),
                    self.readings(),
                    count(record.plan.params)
                ),
            ],
            Finding::Converged => vec![self.falling(false), self.gap_sentence()],
        };
        if !matches!(self.finding, Finding::Counted | Finding::TextTooSmall | Finding::Overfitting) {
            sentences.push(score(best, "At its best it needs"));
        }
        sentences.extend(self.size(record));
        sentences.retain(|sentence| !sentence.is_empty());
        sentences
    }

    fn diverged(&self, record: &Record) -> Vec<String> {
        let seen = match (record.ending, self.climb) {
            (Ending::Diverged, _) => "The loss or its gradient was no longer a number, and training stopped.".into(),
            (_, Some(climb)) => {
                format!("The training loss ended {} above its lowest: the steps were too large.", percent(climb))
            }
            (_, None) => String::new(),
        };
        let kept = if record.best().is_some() { "The run keeps the weights of its best validation." } else { "" };
        vec![seen, kept.into()]
    }

    fn overfitting(&self, best: Option<Validation>) -> Vec<String> {
        let Some(best) = best else { return Vec::new() };
        vec![
            format!(
                "The validation loss was lowest after {} ({} nats a token, {:.2} bits per character) and has risen \
                 by {} since, while the training loss kept falling: the model learns the text by heart instead of \
                 its language.",
                duration(best.seconds),
                significant(best.loss),
                best.bits_per_char,
                percent(self.rise.unwrap_or(0.0))
            ),
            "The run keeps the weights of the best point, so only the time since then is lost.".into(),
        ]
    }

    fn stopped(&self, record: &Record, start: &str) -> String {
        let of = record.plan.steps.map_or(String::new(), |steps| format!(" of {}", count(steps)));
        format!("{start} step {}{of}, after {}.", count(record.done.0), duration(record.done.2))
    }

    fn falling(&self, much: bool) -> String {
        let Some(fall) = self.fall else { return String::new() };
        let fall = if fall > 0.0 { format!("{} of the loss", percent(fall)) } else { "nothing".into() };
        match much {
            true => format!("The second half of the time brought {fall}: more time will make the model better."),
            false => format!("The second half of the time brought {fall}: more of the same will change little."),
        }
    }

    fn gap_in_words(&self) -> String {
        match self.gap {
            Some(gap) if gap >= 0.0005 => format!("{} apart", percent(gap)),
            _ => "with no gap between them".into(),
        }
    }

    fn gap_sentence(&self) -> String {
        match self.gap {
            Some(gap) if gap > 0.0 => format!(
                "At the best point the training loss is {} below the validation loss: so much of what it knows holds \
                 for the text it has read alone.",
                percent(gap)
            ),
            _ => String::new(),
        }
    }

    fn readings(&self) -> String {
        match self.epochs {
            few if few < 9.95 => format!("{few:.1} times"),
            many => format!("{} times", count(many.round() as u64)),
        }
    }

    /// How the text, its size and the model's fit together.
    fn size(&self, record: &Record) -> Option<String> {
        if matches!(self.finding, Finding::Counted | Finding::ModelTooSmall) {
            return None;
        }
        let pages = |chars: f64| count((chars / PAGE).round().max(1.0) as u64);
        let text = match self.train_chars {
            Some(chars) if self.is_small_text() => {
                format!(
                    "The text to train on has {} characters, some {} pages",
                    count(chars.round() as u64),
                    pages(chars)
                )
            }
            _ => format!("The text to train on has {} tokens", count(record.plan.train_tokens)),
        };
        let read = match self.epochs {
            e if e < 0.995 => format!("{} of it were read", percent(e)),
            _ => format!("it was read {}", self.readings()),
        };
        let by_heart = self.is_overfitting() || (self.finding == Finding::Converged && self.gap >= Some(GAP));
        let params = match self.params_per_token {
            ratio if ratio >= 1.0 && by_heart => {
                format!(
                    " The model has {} parameters for each token of it, enough to learn it by heart.",
                    significant(ratio)
                )
            }
            _ => String::new(),
        };
        Some(format!("{text}; {read}.{params}"))
    }
}

fn score(best: Option<Validation>, start: &str) -> String {
    let Some(best) = best else { return String::new() };
    format!(
        "{start} {:.3} bits for each character of the validation text ({:.4} nats a token, perplexity {}).",
        best.bits_per_char,
        best.loss,
        significant(best.loss.exp())
    )
}

/// `second 42`, `minute 6`, `hour 2.5`.
fn since(best: Option<(f64, f64)>) -> String {
    match best.map_or(0.0, |best| best.0) {
        s if s < 99.5 => format!("second {}", s.round()),
        s if s < 5970.0 => format!("minute {}", (s / 60.0).round()),
        s => format!("hour {:.1}", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{done, eval, plan, record, step};
    use super::super::verdict::{Evidence, judge};
    use super::*;

    fn told(record: &Record) -> (String, String) {
        let verdict = judge(&Evidence::from(record));
        let plain = |text: String| text.replace(['\u{a0}', '\u{202f}'], " ");
        (plain(verdict.headline(record)), plain(verdict.explanation(record).join(" ")))
    }

    #[test]
    fn overfitting_is_told_with_its_moment_and_its_cause() {
        let steps = (1..=100).map(|i| step(200 * i, 3.0 / i as f64));
        let evals = (1..=20).map(|i| eval(1000 * i, 2.0 + 0.1 * (i as f64 - 6.0).abs()));
        let run = record([plan(0)].into_iter().chain(steps).chain(evals).chain([done(20_000, "finished")]));
        let (headline, text) = told(&run);
        assert_eq!(headline, "Overfitting since second 60");
        for part in
            ["lowest after 1 min (2.00 nats", "risen by 70.0 %", "read 20 times", "8.24 parameters for each token"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn an_interrupted_run_tells_its_tendency() {
        let evals = (1..=4).map(|i| eval(100 * i, 4.0 - 0.5 * i as f64));
        let events = [plan(0), step(400, 2.0)].into_iter().chain(evals).chain([done(400, "interrupted")]);
        let (headline, text) = told(&record(events));
        assert_eq!(headline, "Interrupted, still improving");
        assert!(text.contains("stopped at step 400 of 1 000, after 4.0 s") && text.contains("40.0 % of it were read"));
    }

    #[test]
    fn moments() {
        let told = [42.4, 99.0, 360.0, 9000.0].map(|s| since(Some((s, 1.0))));
        assert_eq!(told, ["second 42", "second 99", "minute 6", "hour 2.5"]);
    }
}
