//! The rules as they stand in `rules.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::model::ModelKind;
use crate::tokenizer::Level;
use crate::train::Settings;

/// Settings that were found best for a size of text and of computation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Rule {
    model: ModelKind,
    /// What is computed in the budget, in 10¹² floating-point operations, as the speed of training counts them: six for
    /// each weight of a product and token.
    tflop: f64,
    /// Characters of the training text.
    chars: f64,
    /// Whether the rule counts only where its level was asked for: another one is better.
    #[serde(default)]
    only_asked: bool,
    /// A sentence for people.
    pub(super) why: String,
    /// The settings, by the names of `penwright.toml`.
    pub(super) set: Settings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rules {
    /// What a small model reads at most with a TFLOP, in characters: a text counts as no longer than what is read of it.
    read_per_tflop: f64,
    /// Characters to which no text is shortened further.
    read_at_least: f64,
    /// Settings of every rule that says nothing of them.
    all: Settings,
    rule: Vec<Rule>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let mut rules: Rules = toml::from_str(include_str!("rules.toml")).expect("the rules are tested to be readable");
    for rule in &mut rules.rule {
        rule.set = std::mem::take(&mut rule.set).over(rules.all.clone());
    }
    rules
});

impl Rule {
    fn level(&self) -> Level {
        Settings { model: Some(self.model), ..self.set.clone() }.level()
    }
}

/// The rule of a family that is nearest to a computation (in floating-point operations) and a text, where each doubling
/// counts alike; of the rules of the level that was asked for, where there are any.
pub(super) fn nearest(kind: ModelKind, asked: Option<Level>, flop: f64, chars: usize) -> &'static Rule {
    let Rules { read_per_tflop, read_at_least, rule: rules, .. } = &*RULES;
    let tflop = flop / 1e12;
    let chars = (chars as f64).min((read_per_tflop * tflop).max(*read_at_least));
    let distance = |rule: &Rule| {
        let ratio = |a: f64, b: f64| (a.max(1e-9) / b.max(1e-9)).ln().powi(2);
        ratio(tflop, rule.tflop) + ratio(chars, rule.chars)
    };
    let of_kind = || rules.iter().filter(|rule| rule.model == kind);
    let of_level = of_kind().filter(|rule| asked.is_some_and(|level| rule.level() == level));
    let by_distance = |a: &&Rule, b: &&Rule| distance(a).total_cmp(&distance(b));
    let unasked = || of_kind().filter(|rule| !rule.only_asked).min_by(by_distance);
    of_level.min_by(by_distance).or_else(unasked).expect("each family has rules")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_can_be_trained() {
        for kind in [ModelKind::Lstm, ModelKind::Gpt2] {
            assert!(RULES.rule.iter().any(|rule| rule.model == kind && !rule.only_asked));
        }
        for rule in RULES.rule.iter() {
            let settings = Settings { model: Some(rule.model), ..rule.set.clone() }.filled();
            settings.check().unwrap_or_else(|e| panic!("{} TFLOP, {} characters: {e}", rule.tflop, rule.chars));
            assert!(rule.why.ends_with(|c: char| c != '.') && rule.set.budget.is_none() && rule.set.steps.is_none());
        }
    }

    #[test]
    fn each_rule_is_nearest_to_itself_and_any_size_has_one() {
        for rule in RULES.rule.iter() {
            let asked = rule.only_asked.then_some(rule.level());
            let found = nearest(rule.model, asked, rule.tflop * 1e12, rule.chars as usize);
            assert!(std::ptr::eq(found, rule), "{} TFLOP, {} characters has two rules", rule.tflop, rule.chars);
        }
        for chars in [0, 1, 20_000, 100_000_000, usize::MAX] {
            for flop in [0.0, 1.0, 1e13, 1e18, f64::MAX] {
                nearest(ModelKind::Gpt2, None, flop, chars);
            }
        }
    }

    #[test]
    fn what_there_is_no_time_to_read_does_not_count() {
        for flop in [1e11, 3e12] {
            for kind in [ModelKind::Lstm, ModelKind::Gpt2] {
                let rule = nearest(kind, None, flop, 100_000_000);
                assert_eq!((rule.tflop, rule.chars), (3.0, 1e6));
            }
        }
        assert!(nearest(ModelKind::Lstm, None, 1e15, 100_000_000).chars > 1e7);
    }

    #[test]
    fn a_level_that_is_asked_for_has_its_own_rules_or_any() {
        let at = |asked| nearest(ModelKind::Gpt2, asked, 3e12, 600_000);
        assert!(!at(None).only_asked && at(None).level() == Level::Bpe);
        assert!(at(Some(Level::Char)).level() == Level::Char);
        assert!(RULES.rule.iter().all(|rule| rule.level() != Level::Word));
        at(Some(Level::Word));
    }
}
