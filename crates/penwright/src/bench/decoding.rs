//! Writing, token by token: one text, sixteen side by side, and the reading of a prompt.

use std::sync::Arc;
use std::time::Instant;

use penwright_kernels::team;

use super::clock::Times;
use super::machine::{Arithmetic, Machine};
use super::training::gpt2;
use super::{Case, Figure, Work, draw};
use crate::Result;
use crate::model::{DecodePrecision, Gpt2Config, LanguageModel, Lstm, LstmConfig, Session};
use crate::run::ModelConfig;

/// Tokens before the first that is timed, tokens of a repetition, and of a long prompt.
const BEGINNING: usize = 32;
const TOKENS: usize = 32;
const PROMPT: usize = 400;

/// A precision of weights in decoding.
#[derive(Clone, Copy)]
struct Precision {
    name: &'static str,
    model: DecodePrecision,
    /// Bytes of a weight, scales included.
    bytes: f64,
    /// What many rows are multiplied with.
    arithmetic: Arithmetic,
}

const PRECISIONS: &[Precision] = &[
    Precision { name: "f32", model: DecodePrecision::F32, bytes: 4.0, arithmetic: Arithmetic::F32 },
    Precision { name: "bf16", model: DecodePrecision::Bf16, bytes: 2.0, arithmetic: Arithmetic::Bf16 },
    Precision { name: "int8", model: DecodePrecision::Int8, bytes: 8.25 / 8.0, arithmetic: Arithmetic::Int8 },
    Precision { name: "int4", model: DecodePrecision::Int4, bytes: 4.5 / 8.0, arithmetic: Arithmetic::Int8 },
];

#[derive(Clone, Copy)]
enum Writer {
    Gpt2,
    Lstm,
}

impl Writer {
    fn name(self) -> &'static str {
        match self {
            Writer::Gpt2 => "gpt2-124m",
            Writer::Lstm => "lstm-2x512",
        }
    }

    fn config(self) -> ModelConfig {
        match self {
            Writer::Gpt2 => ModelConfig::Gpt2(Gpt2Config::default()),
            Writer::Lstm => ModelConfig::Lstm(LstmConfig {
                vocab: 65,
                embed: 512,
                hidden: 512,
                layers: 2,
                tied: false,
                ..LstmConfig::default()
            }),
        }
    }

    fn session(self, precision: Precision, streams: usize) -> Result<Box<dyn Session>> {
        let model: Arc<dyn LanguageModel> = match self.config() {
            ModelConfig::Gpt2(config) => Arc::new(gpt2(&config)?),
            ModelConfig::Lstm(config) => Arc::new(Lstm::new(config, 0)?),
            ModelConfig::Ngram(_) => unreachable!("no writer is an n-gram model"),
        };
        model.with_precision(precision.model)?.session(streams)
    }

    /// Weights that a step reads whole: all but the embeddings of which it takes a row. A tied embedding is the output
    /// layer too.
    fn weights(self) -> f64 {
        let config = self.config();
        let looked_up = match &config {
            ModelConfig::Gpt2(c) => c.context * c.width,
            ModelConfig::Lstm(c) => c.vocab * c.embed,
            ModelConfig::Ngram(_) => 0,
        };
        config.num_params() as f64 - looked_up as f64
    }
}

/// Tokens a second of `streams` texts written side by side, each going on with its likeliest token.
fn write(name: &str, machine: &mut Machine, writer: Writer, precision: Precision, streams: usize) -> Result<Figure> {
    let mut session = writer.session(precision, streams)?;
    let vocab = writer.config().vocab();
    let all: Vec<usize> = (0..streams).collect();
    let effort = machine.effort;
    let mut failed = None;
    let times = Times::measured(effort, || {
        let mut time = || -> Result<_> {
            for stream in 0..streams {
                session.reset(stream);
                session.feed(stream, &(0..BEGINNING).map(|n| draw(stream as u64, n, vocab)).collect::<Vec<_>>())?;
            }
            let start = Instant::now();
            // The threads stand by for the whole of it, as they do when a text is written.
            team(|| {
                (0..TOKENS).try_for_each(|_| {
                    let next: Vec<u32> = all.iter().map(|&stream| likeliest(session.log_probs(stream))).collect();
                    session.step(&all, &next)
                })
            })?;
            Ok(start.elapsed())
        };
        time().unwrap_or_else(|error| {
            failed = Some(error);
            std::time::Duration::MAX
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let weights = writer.weights();
    let flops = 2.0 * weights * streams as f64;
    let (least, by) = machine.least_read(flops, precision.arithmetic, precision.bytes * weights);
    let rate = |seconds: f64| streams as f64 / seconds;
    Ok(Figure::new(name, "tokens/s", rate(times.median() / TOKENS as f64), &times).within(rate(least), by))
}

fn likeliest(log_probs: &[f32]) -> u32 {
    log_probs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(token, _)| token as u32)
}

/// Tokens a second at which a prompt is read.
fn prompt(name: &str, machine: &mut Machine, writer: Writer, precision: Precision) -> Result<Figure> {
    let mut session = writer.session(precision, 1)?;
    let config = writer.config();
    let tokens: Vec<u32> = (0..PROMPT).map(|n| draw(7, n, config.vocab())).collect();
    session.feed(0, &tokens)?;
    let times = Times::measured(machine.effort, || {
        session.reset(0);
        let start = Instant::now();
        // The first time has shown that these tokens can be fed.
        let _ = session.feed(0, &tokens);
        start.elapsed()
    });
    // The output layer is needed at the last token only.
    let weights = writer.weights();
    let ModelConfig::Gpt2(shape) = &config else { unreachable!("prompts are read by GPT-2s") };
    let head = (shape.vocab * shape.width) as f64;
    let flops = 2.0 * ((weights - head) * PROMPT as f64 + head);
    let (least, by) = machine.least_read(flops, precision.arithmetic, precision.bytes * weights);
    let rate = |seconds: f64| PROMPT as f64 / seconds;
    Ok(Figure::new(name, "tokens/s", rate(times.median()), &times).within(rate(least), by))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for writer in [Writer::Gpt2, Writer::Lstm] {
        for &precision in PRECISIONS {
            let mut add = |what: &str, short, work: Work| {
                let name = format!("decode.{}.{}{what}", writer.name(), precision.name);
                cases.push(Case { name, group: "decode", short, work });
            };
            add("", true, Box::new(move |name, machine| write(name, machine, writer, precision, 1)));
            if matches!(writer, Writer::Gpt2) {
                add(".16-streams", false, Box::new(move |name, machine| write(name, machine, writer, precision, 16)));
                add(".prompt-400", false, Box::new(move |name, machine| prompt(name, machine, writer, precision)));
            }
        }
    }
    cases
}
