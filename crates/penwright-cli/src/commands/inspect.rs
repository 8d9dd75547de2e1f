//! `penwright inspect`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use penwright::error::bytes;
use penwright::train::{Event, SETTINGS, Settings, read_metrics};
use serde_json::{Value, json};

use super::{Failure, name, open, optimizer_words};
use crate::args::{Cli, Inspect};
use crate::live::words::{duration, short, thousands};

/// The longest header of a weights file that is still one.
const MAX_HEADER: u64 = 100 << 20;
const CURVE: usize = 40;

pub(super) fn run(cli: &Cli, args: &Inspect) -> Result<(), Failure> {
    let run = open(cli, &args.run)?;
    let history = History::of(&read_metrics(&run.dir).unwrap_or_default());
    let settings = Settings::load(&run.dir.join(SETTINGS)).ok();
    let files = files(&run.dir);
    // Of one file of weights as they are stored; else as they are when loaded.
    let loaded = run
        .tensors
        .iter()
        .map(|(name, shape)| (name.clone(), "F32".to_string(), shape.iter().map(|&n| n as u64).collect::<Vec<_>>()));
    let stored = header(&run.dir.join("model.safetensors")).map(|h| tensors(&h)).unwrap_or_default();
    let tensors = if stored.is_empty() { loaded.collect() } else { stored };
    let checkpoint = header(&run.dir.join("state/checkpoint.safetensors")).and_then(|h| progress(&h));
    if cli.json {
        let tensors: Vec<Value> =
            tensors.iter().map(|(name, dtype, shape)| json!({"name": name, "dtype": dtype, "shape": shape})).collect();
        let result = json!({
            "run": name(&args.run), "model": run.model.kind(), "config": run.config, "params": run.model.num_params(),
            "adapter": run.adapter.as_ref().map(|(lora, base)| json!({"base": base, "lora": lora})),
            "tokenizer": run.tokenizer.level(), "vocab_size": run.tokenizer.vocab_size(),
            "size_bytes": files.iter().map(|f| f.1).sum::<u64>(),
            "files": files.iter().map(|(name, size)| (name.clone(), json!(size))).collect::<serde_json::Map<_, _>>(),
            "weights_memory_bytes": 4 * run.model.num_params(), "training_memory_bytes": history.memory,
            "history": history.json(),
            "optimizer": settings.and_then(|s| s.optimizer).map(|optimizer| optimizer.to_string()), "checkpoint": checkpoint.map(|(step, total)| json!({"step": step, "steps": total})),
            "tensors": tensors
        });
        writeln!(io::stdout(), "{result}")?;
        return Ok(());
    }
    let brush = cli.color.brush(&io::stdout());
    let mut out = io::stdout().lock();
    let mut row = |key: &str, value: String| writeln!(out, "  {}  {value}", brush.dim(format!("{key:<11}")));
    row("run", brush.bold(name(&args.run)))?;
    row("model", format!("{} ({})", run.model.kind(), shape(&json!(run.config))))?;
    if let Some((lora, base)) = &run.adapter {
        let targets = lora.targets.join(", ");
        row("adapters", format!("rank {}, alpha {}, on {targets} of {base}", lora.rank, lora.alpha))?;
    }
    row("parameters", thousands(run.model.num_params()))?;
    row("tokenizer", format!("{}, {} ids", run.tokenizer.level(), thousands(run.tokenizer.vocab_size() as u64)))?;
    let training = history.memory.map_or(String::new(), |m| format!(", {} while training", bytes(m)));
    row("memory", format!("{} for the weights{training}", bytes(4 * run.model.num_params())))?;
    row("on disk", bytes(files.iter().map(|f| f.1).sum()))?;
    for (file, size) in &files {
        row("", format!("{:>10}  {file}", bytes(*size)))?;
    }
    history.show(&mut row)?;
    if let Some(settings) = settings.filter(|settings| settings.optimizer.is_some()) {
        row("optimizer", optimizer_words(&settings))?;
    }
    if let Some((step, total)) = checkpoint {
        let total = total.map_or(String::new(), |t| format!(" of {}", thousands(t)));
        row("checkpoint", format!("at step {}{total}", thousands(step)))?;
    }
    let number = tensors.len();
    match args.tensors || cli.verbose {
        false => row("tensors", format!("{number}; --tensors shows them"))?,
        true => {
            row("tensors", number.to_string())?;
            let wide = tensors.iter().map(|t| t.0.len()).max().unwrap_or(0);
            for (name, dtype, shape) in &tensors {
                let shape = shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ");
                row("", format!("{name:<wide$}  {dtype}  {shape}"))?;
            }
        }
    }
    Ok(())
}

/// In what order a shape is told.
const SHAPE: [&str; 9] = ["order", "layers", "heads", "width", "hidden", "embed", "context", "vocab", "tied"];

/// `4 layers, 4 heads, width 128`: whatever describes the model's shape, of a GPT-2 what differs from the published ones.
fn shape(config: &Value) -> String {
    let plain = json!(penwright::model::Gpt2Config::default());
    let usual = |key: &str, value: &Value| {
        config["model"] == "gpt2" && (key == "tied" || !SHAPE.contains(&key)) && plain.get(key) == Some(value)
    };
    let mut entries: Vec<_> =
        config.as_object().into_iter().flatten().filter(|(key, value)| !usual(key, value)).collect();
    entries.sort_by_key(|(key, _)| SHAPE.iter().position(|k| k == key).unwrap_or(SHAPE.len()));
    let words = entries.into_iter().filter_map(|(key, value)| match value {
        Value::Number(n) if key.ends_with('s') => Some(format!("{n} {key}")),
        Value::Number(n) => Some(format!("{key} {n}")),
        Value::Bool(true) => Some(key.clone()),
        Value::Bool(false) if plain.get(key).is_some() => Some(format!("not {key}")),
        Value::String(word) if key != "model" => Some(word.clone()),
        _ => None,
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The files of a run with their sizes, in order of name.
fn files(dir: &Path) -> Vec<(String, u64)> {
    if let (true, Some(name), Ok(data)) = (dir.is_file(), dir.file_name(), dir.metadata()) {
        return vec![(name.to_string_lossy().into_owned(), data.len())];
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|e| {
            Some((
                e.file_name().to_string_lossy().into_owned(),
                e.path().metadata().ok().filter(|m| m.is_file())?.len(),
            ))
        })
        .collect();
    files.sort();
    files
}

/// The header of a safetensors file, without reading what follows.
fn header(path: &Path) -> Option<Value> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let mut text = Vec::new();
    file.take(length.min(MAX_HEADER)).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Names, types and shapes, in the order in which they lie in the file.
fn tensors(header: &Value) -> Vec<(String, String, Vec<u64>)> {
    let entries = header.as_object().into_iter().flatten();
    let mut tensors: Vec<_> = entries
        .filter_map(|(name, tensor)| {
            let shape = tensor.get("shape")?.as_array()?.iter().filter_map(Value::as_u64).collect();
            let place = tensor.get("data_offsets")?.get(0)?.as_u64()?;
            Some((place, (name.clone(), tensor.get("dtype")?.as_str()?.to_string(), shape)))
        })
        .collect();
    tensors.sort();
    tensors.into_iter().map(|(_, tensor)| tensor).collect()
}

/// The steps taken at a checkpoint, and those planned.
fn progress(header: &Value) -> Option<(u64, Option<u64>)> {
    let text = header.get("__metadata__")?.get("text")?.as_str()?;
    let progress: Value = serde_json::from_str(text).ok()?;
    Some((progress.get("step")?.as_u64()?, progress.get("total").and_then(Value::as_u64)))
}

/// What the record tells.
#[derive(Default)]
struct History {
    memory: Option<u64>,
    steps: u64,
    tokens: u64,
    elapsed: f64,
    ended: Option<String>,
    best: Option<(u64, f64, f64)>,
    train: Vec<(u64, f64)>,
    val: Vec<(u64, f64)>,
}

impl History {
    fn of(record: &[Event]) -> Self {
        let mut history = History::default();
        for event in record {
            match event {
                Event::Plan { memory_bytes, .. } => (history.memory, history.ended) = (Some(*memory_bytes), None),
                Event::Step { step, tokens, elapsed_s, train_loss, .. } => {
                    (history.steps, history.tokens, history.elapsed) = (*step, *tokens, *elapsed_s);
                    history.train.push((*step, *train_loss));
                }
                Event::Eval { step, elapsed_s, val_loss, val_bits_per_char, .. } => {
                    (history.steps, history.elapsed) = (history.steps.max(*step), *elapsed_s);
                    history.val.push((*step, *val_loss));
                    if history.best.is_none_or(|best| *val_loss < best.1) {
                        history.best = Some((*step, *val_loss, *val_bits_per_char));
                    }
                }
                Event::Done { reason, steps, tokens, elapsed_s, .. } => {
                    (history.steps, history.tokens, history.elapsed) = (*steps, *tokens, *elapsed_s);
                    history.ended = Some(reason.clone());
                }
                Event::Excerpt { .. } | Event::Sample { .. } => {}
            }
        }
        history
    }

    fn show(&self, row: &mut dyn FnMut(&str, String) -> io::Result<()>) -> io::Result<()> {
        if self.steps == 0 {
            return row("training", "no record (metrics.jsonl)".into());
        }
        let ended = match self.ended.as_deref() {
            Some("patience") => "stopped when validation no longer improved",
            Some("interrupted") => "interrupted",
            Some("diverged") => "diverged",
            Some(_) => "finished",
            None => "not finished",
        };
        let (steps, tokens) = (thousands(self.steps), short(self.tokens as f64));
        row("training", format!("{steps} steps, {tokens} tokens, {}; {ended}", duration(self.elapsed)))?;
        if let Some((step, loss, bits)) = self.best {
            let step = thousands(step);
            row("best", format!("validation {loss:.4} ({bits:.4} bits per character) at step {step}"))?;
        }
        for (key, curve) in [("train loss", &self.train), ("val loss", &self.val)] {
            if let (Some(first), Some(last)) = (curve.first(), curve.last()) {
                row(key, format!("{:.3} {} {:.3}", first.1, sparkline(curve, CURVE), last.1))?;
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        json!({
            "steps": self.steps, "tokens": self.tokens, "elapsed_s": self.elapsed, "ended": self.ended,
            "best_step": self.best.map(|b| b.0), "best_val_loss": self.best.map(|b| b.1),
            "best_val_bits_per_char": self.best.map(|b| b.2), "train_loss": self.train, "val_loss": self.val
        })
    }
}

/// A curve in one line of at most `columns` characters.
fn sparkline(curve: &[(u64, f64)], columns: usize) -> String {
    let part = curve.len().div_ceil(columns).max(1);
    let means: Vec<f64> = curve.chunks(part).map(|c| c.iter().map(|p| p.1).sum::<f64>() / c.len() as f64).collect();
    let low = means.iter().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |value: f64| {
        let height = if high > low { 7.0 * (value - low) / (high - low) } else { 0.0 };
        char::from_u32(0x2581 + height.round().clamp(0.0, 7.0) as u32).unwrap_or(' ')
    };
    means.into_iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::events::{done, eval, plan, step};
    use penwright::model::Gpt2Config;
    use penwright::run::ModelConfig;

    #[test]
    fn history_finds_the_best_and_the_end() {
        let record = [plan(Some(30), 0), step(10, 1.0, 3.0), eval(10, 1.5, 2.5), eval(20, 2.5, 2.75), done(30, 3.0)];
        let history = History::of(&record);
        assert_eq!(history.best.map(|b| (b.0, b.1)), Some((10, 2.5)));
        assert_eq!((history.steps, history.ended.as_deref()), (30, Some("finished")));
        assert_eq!(history.json()["val_loss"], json!([[10, 2.5], [20, 2.75]]));
    }

    #[test]
    fn shapes_read_from_the_outside_in() {
        let config = json!({"model": "lstm", "embed": 64, "hidden": 256, "layers": 2, "tied": true, "vocab": 67});
        assert_eq!(shape(&config), "2 layers, hidden 256, embed 64, vocab 67, tied");
        let odd = Gpt2Config { activation: penwright::layers::Activation::Relu, tied: false, ..Gpt2Config::default() };
        let (odd, plain) = (ModelConfig::Gpt2(odd), ModelConfig::Gpt2(Gpt2Config::default()));
        let numbers = "12 layers, 12 heads, width 768, context 1024, vocab 50257";
        assert_eq!(shape(&json!(plain)), numbers);
        assert_eq!(shape(&json!(odd)), format!("{numbers}, not tied, relu"));
    }

    #[test]
    fn sparklines_span_their_heights() {
        let curve: Vec<_> = (0..400).map(|i| (i, 400.0 - i as f64)).collect();
        let line: Vec<char> = sparkline(&curve, 40).chars().collect();
        assert_eq!((line.len(), line[0], line[39]), (40, '█', '▁'));
        assert_eq!(sparkline(&[(1, f64::NAN), (2, f64::NAN)], 40).chars().count(), 2);
        assert_eq!(sparkline(&[(1, 2.0)], 40), "▁");
    }

    #[test]
    fn a_header_is_read_without_its_data() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"b":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"text":"{\"step\":7,\"total\":9}"}}"#;
        std::fs::write(file.path(), [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()).unwrap();
        let header = header(file.path()).unwrap();
        assert_eq!(tensors(&header).iter().map(|t| t.0.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(progress(&header), Some((7, Some(9))));
        std::fs::write(file.path(), u64::MAX.to_le_bytes()).unwrap();
        assert!(super::header(file.path()).is_none());
    }
}
