//! What a budget buys: settings by the size of the text, the time, and the speed of the machine.
//!
//! The choices are data, `rules.toml`: settings that were best in experiments at some sizes of text and of computation
//! (docs/recipes.md). A run takes those of the rule that is nearest to it, on scales where each doubling counts alike.
//! What a person gives is never changed.

mod rules;

use std::time::Duration;

use super::Settings;
use super::budget::step_time;
use crate::Result;
use crate::layers::random;
use crate::model::ModelKind;
use crate::tokenizer::Level;
use rules::{Rule, nearest};

/// What is assumed of the machine until it is measured, in floating-point operations a second.
const NOMINAL: f64 = 3e11;
/// Ids of a vocabulary at the character level, about, for measuring.
const CHARACTERS: usize = 90;
/// The part of the budget after which no more steps are measured.
const MEASURED: f64 = 0.005;

/// Settings for a text and a budget, and why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recipe {
    /// What the person gave, and for the rest what the rules say.
    pub(super) settings: Settings,
    /// Sentences for people.
    pub(super) reasons: Vec<String>,
}

/// Chooses what was not given, for texts to train on. Only runs of a new neural model with a budget have a recipe.
/// `measuring` is called before the machine is measured.
///
/// # Errors
/// When the shape that was given cannot be built.
pub(super) fn choose(given: &Settings, texts: &[&str], measuring: &mut dyn FnMut()) -> Result<Option<Recipe>> {
    let chars = || texts.iter().map(|text| text.chars().count()).sum();
    choose_at(given, chars, &mut |settings| {
        measuring();
        measured_speed(settings)
    })
}

/// The same by a given length in characters and measure of the speed, in floating-point operations a second, of training
/// by some settings.
fn choose_at(
    given: &Settings,
    chars: impl FnOnce() -> usize,
    speed: &mut dyn FnMut(&Settings) -> Result<f64>,
) -> Result<Option<Recipe>> {
    let kind = given.kind();
    let Some(budget) = given.budget.filter(|_| given.from.is_none() && kind != ModelKind::Ngram) else {
        return Ok(None);
    };
    let chars = chars();
    let computed = |speed: f64| speed * budget.as_secs_f64();
    let first = merged(given, nearest(kind, given.level, computed(NOMINAL), chars));
    if first == *given {
        return Ok(None);
    }
    let speed = speed(&first)?;
    let rule = nearest(kind, given.level, computed(speed), chars);
    let settings = merged(given, rule);
    let reasons = reasons(given, &settings, rule, (budget, speed), chars);
    Ok(Some(Recipe { settings, reasons }))
}

/// What was given over what the rule says. What the rule says of another optimizer's step means nothing then, and a number
/// of heads must divide a width that was given.
fn merged(given: &Settings, rule: &Rule) -> Settings {
    let mut set = rule.set.clone();
    if given.optimizer.is_some() && given.optimizer != set.optimizer {
        (set.lr, set.weight_decay) = (None, None);
    }
    let mut settings = given.clone().over(set);
    if let (None, Some(heads), Some(width)) = (given.heads, settings.heads, settings.width) {
        settings.heads = (1..=heads).rev().find(|heads| width % heads == 0);
    }
    settings
}

/// The speed of training by settings, on tokens of no text: of a step's time the optimizer's is a part, though what it
/// computes is not counted.
fn measured_speed(settings: &Settings) -> Result<f64> {
    let filled = settings.clone().filled();
    let vocab = if filled.level() == Level::Char { CHARACTERS } else { filled.vocab_size.unwrap_or(4096) };
    let (config, options) = (filled.model_config(vocab), filled.train_options());
    options.check()?;
    let mut model = config.build(options.seed)?;
    let (count, limit) = (options.batch * options.context, settings.budget.unwrap_or_default().mul_f64(MEASURED));
    let tokens: Vec<u32> = (0..=count as u64).map(|n| (random(0, n) % vocab as u64) as u32).collect();
    let time = step_time(&mut *model, None, &tokens, &options, limit)?;
    let computed = config.flops_per_token() * (count * options.accumulate) as f64;
    Ok(computed / time.as_secs_f64().max(1e-9))
}

fn reasons(given: &Settings, chosen: &Settings, rule: &Rule, time: (Duration, f64), chars: usize) -> Vec<String> {
    let (budget, speed) = time;
    let mut reasons = vec![format!(
        "{} characters to learn from and {} at {:.0} GFLOP/s: {:.3} TFLOP",
        chars,
        crate::duration::format(budget),
        speed / 1e9,
        speed * budget.as_secs_f64() / 1e12
    )];
    reasons.push(rule.why.clone());
    if given.calibrate.is_none() && chosen.calibrate == Some(true) {
        reasons.push("saved with its logits divided by what suits the text it is validated on best".into());
    }
    let differing = [
        ("layers", chosen.layers != rule.set.layers),
        ("width", chosen.width != rule.set.width),
        ("level", given.level.is_some() && chosen.level != rule.set.level),
        ("lr", chosen.lr != rule.set.lr),
    ];
    let unlike: Vec<&str> = differing.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect();
    if !unlike.is_empty() {
        reasons.push(format!("{} as you gave it; the rest was found for other values of it", unlike.join(", ")));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::OptimizerKind;

    fn budget(kind: ModelKind, seconds: u64) -> Settings {
        Settings { model: Some(kind), budget: Some(Duration::from_secs(seconds)), ..Settings::default() }
    }

    fn at(settings: &Settings, chars: usize, speed: f64) -> Option<Recipe> {
        choose_at(settings, || chars, &mut |_| Ok(speed)).unwrap()
    }

    #[test]
    fn more_time_and_a_faster_machine_choose_alike() {
        let params = |seconds, speed| {
            let recipe = at(&budget(ModelKind::Lstm, seconds), 300_000, speed).unwrap();
            recipe.settings.filled().model_config(90).num_params()
        };
        assert!(params(1800, 4e11) > params(20, 4e11));
        assert_eq!(params(1800, 1e11), params(180, 1e12));
    }

    #[test]
    fn what_is_given_stays() {
        let given = Settings { width: Some(100), dropout: Some(0.3), lr: Some(1e-4), ..budget(ModelKind::Gpt2, 600) };
        let recipe = at(&given, 300_000, 4e11).unwrap();
        let chosen = &recipe.settings;
        assert_eq!((chosen.width, chosen.dropout, chosen.lr), (given.width, given.dropout, given.lr));
        assert_eq!(100 % chosen.heads.unwrap(), 0);
        assert_eq!(chosen.calibrate, Some(true));
        let tied = Settings { tied: Some(true), ..given.clone() };
        assert_eq!(at(&tied, 300_000, 4e11).unwrap().settings.calibrate, None);
        assert!(recipe.reasons.iter().any(|reason| reason.contains("as you gave it")), "{:?}", recipe.reasons);
        chosen.clone().filled().check().unwrap();
    }

    #[test]
    fn what_was_found_for_another_level_or_optimizer_is_left_out() {
        for kind in [ModelKind::Gpt2, ModelKind::Lstm] {
            for level in [Level::Char, Level::Word, Level::Bpe] {
                for optimizer in [OptimizerKind::AdamW, OptimizerKind::Muon, OptimizerKind::Sgd] {
                    for (chars, time) in [(20_000, 60), (260_000, 25), (300_000, 140), (600_000, 60), (100_000_000, 60)]
                    {
                        let given = Settings { level: Some(level), optimizer: Some(optimizer), ..budget(kind, time) };
                        // A rule that says nothing chooses nothing.
                        let Some(Recipe { settings: chosen, .. }) = at(&given, chars, 4e11) else { continue };
                        assert_eq!((chosen.level, chosen.optimizer), (given.level, given.optimizer));
                        assert!(chosen.lr.is_none() || optimizer == OptimizerKind::Muon, "{chosen:?}");
                        chosen.filled().check().unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn without_a_budget_nothing_is_chosen() {
        assert_eq!(at(&Settings::default(), 300_000, 4e11), None);
        assert_eq!(at(&budget(ModelKind::Ngram, 60), 300_000, 4e11), None);
        let tuning = Settings { from: Some("run".into()), ..budget(ModelKind::Gpt2, 60) };
        assert_eq!(at(&tuning, 300_000, 4e11), None);
        // Where everything is given, the machine is not measured.
        let all = at(&budget(ModelKind::Gpt2, 60), 300_000, NOMINAL).unwrap().settings.filled();
        let not_measured = &mut |_: &Settings| -> Result<f64> { panic!("measured") };
        assert_eq!(choose_at(&all, || 300_000, not_measured).unwrap(), None);
    }

    #[test]
    fn the_machine_is_measured() {
        let speed = measured_speed(&merged(&budget(ModelKind::Gpt2, 9), nearest(ModelKind::Gpt2, None, 1e12, 300_000)));
        assert!(speed.unwrap() > 1e6);
    }
}
