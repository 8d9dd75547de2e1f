//! What was chosen and why: texts, model, training, and every setting as it was.

use maud::{Markup, html};

use crate::page::format::{count, duration, percent, short_names, si};
use crate::page::section as page_section;
use crate::report::Report;
use crate::tokenizer::Level;
use crate::train::Settings;

pub(super) fn section(report: &Report) -> Markup {
    let reasons = &report.record.plan.reasons;
    let intro = match reasons.is_empty() {
        true => "The settings of the run: what was given, and the defaults of the model's family for all else.",
        false => "The settings of the run, and what they were chosen by.",
    };
    let content = html! {
        @if !reasons.is_empty() { ul.reasons { @for reason in reasons { li { (reason) } } } }
        div.facts-columns {
            (group("The text", text(report)))
            (group("The model", model(report)))
            (group("The training", training(report)))
            (group("Against learning by heart", regularization(report)))
        }
        (file(&report.settings))
    };
    page_section("chosen", "What was chosen", intro, content)
}

type Rows = Vec<(&'static str, String)>;

fn group(heading: &str, rows: Rows) -> Markup {
    html! {
        @if !rows.is_empty() {
            article {
                h3 { (heading) }
                dl.facts { @for (name, value) in rows { div { dt { (name) } dd { (value) } } } }
            }
        }
    }
}

/// Rows of those values that are known.
fn known(rows: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Rows {
    rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn text(report: &Report) -> Rows {
    let (record, settings) = (&report.record, &report.settings);
    let paths: Vec<String> = settings.text.iter().map(|path| path.display().to_string()).collect();
    let names = short_names(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let names = match names.len() {
        0 => None,
        1..=3 => Some(names.join(", ")),
        n => Some(format!("{} and {} more", names[..2].join(", "), n - 2)),
    };
    let held_out = match (&settings.val, settings.val_fraction) {
        (Some(path), _) => Some(path.display().to_string()),
        (None, fraction) => fraction.map(|share| format!("the last {} of each", percent(share))),
    };
    let whole = count(record.plan.val_tokens);
    let validated = record.excerpt.map(|tokens| format!("{}, spread over {whole}", count(tokens))).unwrap_or(whole);
    let chars = record.chars_per_token().filter(|chars| (chars - 1.0).abs() > 0.005);
    known([
        ("Files", names),
        ("Held out", held_out),
        ("Tokens to train on", Some(count(record.plan.train_tokens))),
        ("Tokens to validate on", Some(validated)),
        ("A token is", settings.level.map(unit)),
        ("Characters a token", chars.map(|chars| format!("{chars:.2}"))),
    ])
}

/// What a token of a level is.
fn unit(level: Level) -> String {
    match level {
        Level::Char => "a character",
        Level::Word => "a word",
        Level::Bpe | Level::Gpt2 => "a piece of a word",
    }
    .into()
}

/// The name of a family as people write it.
fn family(name: &str) -> &str {
    match name {
        "ngram" => "n-gram",
        "lstm" => "LSTM",
        "gpt2" => "GPT-2",
        other => other,
    }
}

fn model(report: &Report) -> Rows {
    let (plan, settings) = (&report.record.plan, &report.settings);
    let number = |value: Option<usize>| value.map(|n| count(n as u64));
    known([
        ("Family", Some(family(&plan.model).into())),
        ("Begun from", settings.from.clone()),
        ("Layers", number(settings.layers)),
        ("Heads", number(settings.heads)),
        ("Width", number(settings.width)),
        ("Embedding", number(settings.embed)),
        ("Order", number(settings.order)),
        ("Adapters of rank", number(settings.lora)),
        ("Parameters", Some(count(plan.params))),
        ("of them trained", plan.trained_params.map(count)),
    ])
}

fn training(report: &Report) -> Rows {
    let (record, settings) = (&report.record, &report.settings);
    if record.plan.model == "ngram" {
        return known([("Time", Some(duration(record.done.2)))]);
    }
    let length = match (settings.budget, settings.epochs, settings.steps) {
        (Some(budget), _, _) => Some(format!("budget of {}", duration(budget.as_secs_f64()))),
        (_, Some(epochs), _) => Some(format!("{epochs} passes")),
        (_, _, steps) => steps.map(|n| format!("{} steps", count(n))),
    };
    let batch = settings.batch.zip(settings.context).map(|(batch, context)| {
        let times = settings.accumulate.filter(|n| *n > 1).map_or(String::new(), |n| format!(", {n} times"));
        format!("{batch} texts of {context} tokens{times}")
    });
    let falling = settings.lr_decay.map_or(String::new(), |part| format!(", the last {:.0} % falling", 100.0 * part));
    let schedule = settings.schedule.map(|schedule| format!("{schedule:?}").to_lowercase() + &falling);
    let flops = record.plan.flops_per_token * record.done.1 as f64;
    known([
        ("Length", length),
        ("A step reads", batch),
        ("Optimizer", settings.optimizer.map(|optimizer| format!("{optimizer:?}"))),
        ("Learning rate", settings.lr.map(|lr| lr.to_string())),
        ("Schedule", schedule),
        ("Warm-up", settings.warmup.map(|n| format!("{} steps", count(n)))),
        ("Clipped at", settings.clip.map(|x| x.to_string())),
        ("Seed", settings.seed.map(|n| n.to_string())),
        ("Computation", (flops > 0.0).then(|| si(flops, "FLOP"))),
        ("Memory", Some(crate::error::bytes(record.plan.memory_bytes))),
    ])
}

fn regularization(report: &Report) -> Rows {
    let (record, settings) = (&report.record, &report.settings);
    if record.plan.model == "ngram" {
        return Rows::new();
    }
    let number = |value: Option<f32>| value.map(|x| x.to_string());
    let calibrated = record.best().and_then(|best| best.temperature);
    known([
        ("Dropout", number(settings.dropout)),
        ("… of the input", number(settings.dropout_input)),
        ("… between layers", number(settings.dropout_hidden)),
        ("… of the output", number(settings.dropout_output)),
        ("… of whole tokens", number(settings.dropout_embed)),
        ("… of recurrent weights", number(settings.weight_drop)),
        ("Merges undone, at first", number(settings.bpe_dropout)),
        ("Activations held down (AR)", number(settings.ar)),
        ("Their changes (TAR)", number(settings.tar)),
        ("Weight decay", number(settings.weight_decay)),
        ("Logits divided by", calibrated.map(|temperature| temperature.to_string())),
    ])
}

/// The settings file, as `--config` takes it.
fn file(settings: &Settings) -> Markup {
    let text = toml::to_string(settings).unwrap_or_default();
    html! {
        @if *settings != Settings::default() {
            details { summary { "Every setting (penwright.toml)" } pre tabindex="0" { code { (text.trim_end()) } } }
        }
    }
}
