//! The model card: `README.md` of a Hugging Face directory. It tells what is known and nothing else: the language,
//! the license and the name of the text are the author's to tell.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::grouped;
use crate::model::{Gpt2Config, Params};
use crate::tokenizer::{Level, Tokenizer};
use crate::train::{Event, SETTINGS, Settings, read_metrics};

/// What a card tells of.
pub(super) struct Card<'a> {
    /// The model's name, its heading.
    pub(super) name: String,
    pub(super) shape: &'a Gpt2Config,
    pub(super) params: &'a Params,
    pub(super) tokenizer: &'a Tokenizer,
    /// The run directory, whose settings and record are read where they are there.
    pub(super) source: &'a Path,
}

const FRONT: &str = "\
---
# license: the author's to choose, as in https://huggingface.co/docs/hub/repositories-licenses
# language: for example en
library_name: transformers
pipeline_tag: text-generation
tags:
- gpt2
- penwright
---
";

const USE: &str = r#"
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies, or the model's name on the hub
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
inputs = tokenizer(tokenizer.bos_token + "The door", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=MOST)[0], skip_special_tokens=True))
```
"#;

impl Card<'_> {
    /// The whole file.
    pub(super) fn markdown(&self) -> String {
        let name = one_line(&self.name);
        let Gpt2Config { layers, heads, width, context, .. } = self.shape;
        let unit = match self.tokenizer.level() {
            Level::Char => "single characters",
            Level::Word => "words and punctuation; rare words in bytes",
            Level::Bpe => "sub-words (byte-level BPE)",
            Level::Gpt2 => "GPT-2's published vocabulary",
        };
        let mut text =
            format!("{FRONT}\n# {name}\n\nA GPT-2 language model, trained with Penwright.\n\n| | |\n| --- | --- |\n");
        row(&mut text, "shape", &format!("{layers} blocks, {heads} heads, width {width}, context {context} tokens"));
        row(&mut text, "parameters", &grouped(self.params.count(), ','));
        row(&mut text, "tokens", &format!("{unit}; {} ids", grouped(self.tokenizer.vocab_size() as u64, ',')));
        text.push_str(&USE.replace("MOST", &(context / 2).clamp(1, 200).to_string()));
        text.push_str("\nA text begins with the end-of-text token as its context, in training as in writing.\n");
        let training = self.training();
        if !training.is_empty() {
            text.push_str("\n## Training\n\n| | |\n| --- | --- |\n");
            training.iter().for_each(|(key, value)| row(&mut text, key, value));
        }
        text
    }

    /// What the record and the settings say.
    fn training(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        let (mut done, mut epochs, mut best) = ((0, 0, 0.0), 0.0, None::<(u64, f64, f64)>);
        for event in read_metrics(self.source).unwrap_or_default() {
            match event {
                Event::Step { step, tokens, elapsed_s, epoch, .. } => {
                    (done, epochs) = ((step, tokens, elapsed_s), epoch)
                }
                Event::Done { steps, tokens, elapsed_s, .. } => done = (steps, tokens, elapsed_s),
                Event::Eval { step, val_loss, val_bits_per_char, .. } if best.is_none_or(|b| val_loss < b.1) => {
                    best = Some((step, val_loss, val_bits_per_char));
                }
                _ => {}
            }
        }
        let (steps, tokens, seconds) = done;
        if steps > 0 {
            let (steps, tokens) = (grouped(steps, ','), grouped(tokens, ','));
            rows.push(("length", format!("{steps} steps, {tokens} tokens, {epochs:.2} passes, {seconds:.0} s")));
        }
        if let Some((step, loss, bits)) = best {
            let step = grouped(step, ',');
            let said =
                format!("{loss:.4} nats a token, {bits:.4} bits a character, at step {step}, whose weights these are");
            rows.push(("validation loss", said));
        }
        // By name, so that settings which this version does not know yet do no harm.
        let settings = Settings::load(&self.source.join(SETTINGS)).map_or(Value::Null, |s| json!(s));
        let told = [
            "batch",
            "context",
            "accumulate",
            "optimizer",
            "schedule",
            "lr",
            "warmup",
            "weight-decay",
            "clip",
            "dropout",
            "seed",
        ];
        let told = told.iter().filter_map(|&key| match settings.get(key)? {
            Value::Null => None,
            Value::String(value) => Some(format!("{key} {value}")),
            Value::Number(value) => Some(format!("{key} {}", short(value))),
            value => Some(format!("{key} {value}")),
        });
        let told = told.collect::<Vec<_>>().join(", ");
        if !told.is_empty() {
            rows.push(("settings", told));
        }
        rows
    }
}

fn row(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "| {key} | {value} |");
}

/// A name as a heading holds it.
fn one_line(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if name.trim().is_empty() { "GPT-2".into() } else { name.trim().into() }
}

/// The shortest decimal of what was an `f32`.
fn short(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(x) if number.is_f64() => (x as f32).to_string(),
        _ => number.to_string(),
    }
}
