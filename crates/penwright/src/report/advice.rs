//! What to do next: each finding has its steps, with commands that begin from the run's own settings.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::record::{Ending, Record};
use super::verdict::{Finding, GAP, Verdict};
use crate::train::{SETTINGS, Settings};

/// A step to take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// What and why, a sentence or two.
    pub text: String,
    /// The command that does it, where one does.
    pub command: Option<String>,
}

/// A run, its verdict and its settings.
struct Case<'a> {
    verdict: &'a Verdict,
    record: &'a Record,
    settings: &'a Settings,
    run: String,
}

/// The steps to take after a run, the most useful first. `settings` are those it was started with, as far as known.
pub fn advise(verdict: &Verdict, record: &Record, settings: &Settings, run: &Path) -> Vec<Advice> {
    let run = run.display().to_string();
    let case = Case { verdict, record, settings, run: run.trim_end_matches('/').to_string() };
    let steps = match verdict.finding {
        Finding::Diverged => vec![case.gentler()],
        Finding::Counted => vec![case.neural()],
        Finding::TooShort | Finding::StillImproving => vec![case.longer(), case.write()],
        Finding::TextTooSmall => {
            vec![case.more_text(), case.fine_tune(), case.dropout(), case.shorter(), case.smaller(), case.write()]
        }
        Finding::Overfitting => vec![case.dropout(), case.shorter(), case.smaller(), case.more_text(), case.write()],
        Finding::Interrupted | Finding::Unfinished => vec![case.resume()],
        Finding::ModelTooSmall => vec![case.larger(), case.write()],
        Finding::Converged if verdict.gap.is_some_and(|gap| gap >= GAP) => {
            vec![case.dropout(), case.more_text(), case.fine_tune(), case.write()]
        }
        Finding::Converged => vec![case.larger(), case.fine_tune(), case.write()],
    };
    steps.into_iter().flatten().collect()
}

impl Case<'_> {
    fn step(&self, text: impl Into<String>, command: Option<String>) -> Option<Advice> {
        Some(Advice { text: text.into(), command })
    }

    /// A new run with the same settings but for these flags, in a folder of its own.
    fn again(&self, flags: &str, suffix: &str) -> Option<String> {
        let config = word(&format!("{}/{SETTINGS}", self.run));
        Some(format!("penwright train --config {config} {flags} --out {}", word(&format!("{}-{suffix}", self.run))))
    }

    fn longer(&self) -> Option<Advice> {
        let twice = match (self.settings.budget, self.settings.epochs, self.settings.steps) {
            (Some(budget), _, _) => format!("--budget {}", crate::duration::format(budget.saturating_mul(2))),
            (_, Some(epochs), _) => format!("--epochs {}", epochs * 2.0),
            (_, _, Some(steps)) => format!("--steps {}", steps.saturating_mul(2)),
            _ => format!("--steps {}", self.record.done.0.saturating_mul(2).max(1)),
        };
        let text = "Train longer. The learning rate falls towards the end of a run, so begin a new one of twice the \
                    length rather than going on with this one.";
        self.step(text, self.again(&twice, "longer"))
    }

    fn resume(&self) -> Option<Advice> {
        let text = match self.record.ending {
            Ending::Interrupted => "Go on from where it stopped; the result is the same to the bit as if it never had.",
            _ => "If it is no longer being trained, go on from its last checkpoint.",
        };
        self.step(text, Some(format!("penwright train --out {} --resume", word(&self.run))))
    }

    fn gentler(&self) -> Option<Advice> {
        let lr = self.settings.lr.map_or("--lr 3e-4".into(), |lr| format!("--lr {:e}", rounded(lr / 3.0)));
        let warmup =
            self.settings.warmup.map_or(String::new(), |n| format!(" --warmup {}", n.saturating_mul(2).max(100)));
        let text = "Take smaller steps: a third of the learning rate, and a longer warm-up.";
        self.step(text, self.again(&format!("{lr}{warmup}"), "gentler"))
    }

    fn dropout(&self) -> Option<Advice> {
        let now = self.settings.dropout.unwrap_or(0.0);
        let next = if now < 0.2 { 0.2 } else { rounded(now + 0.15) };
        if next > 0.6 {
            return None;
        }
        let text = format!(
            "Make learning by heart harder: dropout of {next} instead of {now} switches off that share of the model, \
             another at each step."
        );
        self.step(text, self.again(&format!("--dropout {next}"), "dropout"))
    }

    /// A schedule that has come down when the best point is reached is better there than this one was.
    fn shorter(&self) -> Option<Advice> {
        let (best, end) = (self.verdict.best?.0, self.record.done.2);
        let steps = self.record.best()?.step;
        if best < 0.05 * end || steps == 0 {
            return None;
        }
        let length = match self.settings.budget {
            Some(_) => {
                format!("--budget {}", crate::duration::format(Duration::from_secs(best.ceil().max(1.0) as u64)))
            }
            None => format!("--steps {steps}"),
        };
        let text = "Stop in time: a run planned to end at this one's best point has its learning rate lowered by \
                    then, which this one had not, and ends a little better.";
        self.step(text, self.again(&length, "shorter"))
    }

    fn smaller(&self) -> Option<Advice> {
        if self.verdict.params_per_token < 1.0 || self.settings.from.is_some() {
            return None;
        }
        let parts = if self.verdict.params_per_token > 16.0 { 4 } else { 2 };
        let flags = self.width(|width| width / parts)?;
        self.step(
            "Take a smaller model, which cannot hold the text by heart and is faster.",
            self.again(&flags, "smaller"),
        )
    }

    fn larger(&self) -> Option<Advice> {
        if self.settings.from.is_some() {
            return None;
        }
        let (times, often) = if self.verdict.params_per_token < 0.05 { (4, "four times") } else { (2, "twice") };
        let flags = self.width(|width| width.saturating_mul(times))?;
        let text = format!(
            "Take a larger model: {often} the width has about {} times the parameters, and needs more time.",
            times * times
        );
        self.step(text, self.again(&flags, "larger"))
    }

    fn width(&self, change: impl Fn(usize) -> usize) -> Option<String> {
        let width = change(self.settings.width?);
        // A GPT-2's width is a multiple of its heads.
        let fits = self.settings.heads.is_none_or(|heads| heads > 0 && width.is_multiple_of(heads));
        (fits && width >= 16).then(|| format!("--width {width}"))
    }

    fn more_text(&self) -> Option<Advice> {
        let text = "Give it more text of the same kind: other books of the author, the genre or the time. Nothing else \
                    helps as much.";
        self.step(text, None)
    }

    fn fine_tune(&self) -> Option<Advice> {
        if self.settings.from.is_some() {
            return None;
        }
        let text = "Or begin with a model that knows the language already, and let it learn the style from this text.";
        let texts = self.texts()?;
        let out = word(&format!("{}-tuned", self.run));
        self.step(text, Some(format!("penwright train {texts} --from gpt2 --out {out}")))
    }

    fn neural(&self) -> Option<Advice> {
        let text = "Train a model that generalises, and compare: given some minutes, an LSTM or a GPT-2 predicts \
                    better than counts do.";
        let texts = self.texts()?;
        let out = word(&format!("{}-lstm", self.run));
        self.step(text, Some(format!("penwright train {texts} --model lstm --budget 5m --out {out}")))
    }

    fn texts(&self) -> Option<String> {
        let texts: Vec<String> = self.settings.text.iter().map(|path| word(&path.display().to_string())).collect();
        (!texts.is_empty() && texts.iter().all(|text| text != "-")).then(|| texts.join(" "))
    }

    fn write(&self) -> Option<Advice> {
        self.record.best()?;
        let command = format!("penwright generate {} --prompt \"The door\"", word(&self.run));
        self.step("Write with it as it is.", Some(command))
    }
}

/// Two significant digits.
fn rounded(x: f32) -> f32 {
    format!("{x:.1e}").parse().unwrap_or(x)
}

/// A word of a shell's command line.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=:,+@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{eval, plan, record, step};
    use super::super::verdict::{Evidence, judge};
    use super::*;

    fn commands(finding: Finding, settings: &Settings) -> Vec<String> {
        let record = record([plan(0), step(200, 2.0), eval(100, 1.0), eval(200, 2.0)]);
        let verdict = Verdict { finding, gap: Some(0.2), params_per_token: 9.0, ..judge(&Evidence::from(&record)) };
        let steps = advise(&verdict, &record, settings, Path::new("my runs/a"));
        assert!(!steps.is_empty());
        steps.into_iter().filter_map(|step| step.command).collect()
    }

    fn settings() -> Settings {
        let text = vec!["a book.txt".into()];
        let budget = Some(Duration::from_secs(90));
        let (width, heads, lr) = (Some(128), Some(4), Some(1e-3));
        Settings { text, budget, width, heads, lr, dropout: Some(0.0), ..Settings::default() }
    }

    #[test]
    fn commands_begin_from_the_runs_own_settings() {
        let start = "penwright train --config 'my runs/a/penwright.toml'";
        let longer = commands(Finding::StillImproving, &settings());
        assert_eq!(longer[0], format!("{start} --budget 3m --out 'my runs/a-longer'"));
        let overfit = commands(Finding::Overfitting, &settings());
        assert_eq!(overfit[0], format!("{start} --dropout 0.2 --out 'my runs/a-dropout'"));
        assert!(overfit.iter().any(|c| c.contains("--width 64")) && overfit.iter().any(|c| c.contains("--budget 1s")));
        assert!(commands(Finding::Diverged, &settings())[0].contains("--lr 3.3e-4"));
        assert!(commands(Finding::TextTooSmall, &settings()).iter().any(|c| c.contains("'a book.txt' --from gpt2")));
        assert_eq!(commands(Finding::Interrupted, &settings()), ["penwright train --out 'my runs/a' --resume"]);
        assert!(commands(Finding::ModelTooSmall, &settings())[0].contains("--width 256"));
    }

    #[test]
    fn what_cannot_work_is_not_advised() {
        let tuned = Settings { from: Some("gpt2".into()), ..settings() };
        let tuned = commands(Finding::TextTooSmall, &tuned);
        assert!(tuned.iter().all(|c| !c.contains("--width") && !c.contains("--from")), "{tuned:?}");
        let odd = Settings { heads: Some(48), width: Some(144), ..settings() };
        assert!(commands(Finding::Overfitting, &odd).iter().all(|c| !c.contains("--width")));
        for finding in [Finding::TooShort, Finding::Converged, Finding::Unfinished, Finding::StillImproving] {
            commands(finding, &Settings::default());
        }
    }

    #[test]
    fn words_of_a_shell() {
        assert_eq!(["runs/a", "it's", ""].map(word), ["runs/a", "'it'\\''s'", "''"]);
    }
}
