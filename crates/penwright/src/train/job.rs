//! From settings to a trained run: texts read and split, a tokenizer made, tokens encoded, a model trained.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::{
    Data, Event, Length, Outcome, Settings, Start, TrainOptions, budget, checkpoint, measure, ngram, recipe, train,
};
use crate::Result;
use crate::corpus::{self, Corpus, ReadOptions, WordFormat};
use crate::files::create_dir;
use crate::model::ModelKind;
use crate::run::ModelConfig;
use crate::tokenizer::Tokenizer;

/// How far the preparation of a job is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preparing {
    /// What is being done: "fetching" a file, "reading texts", "measuring the machine", "making the tokenizer",
    /// "encoding".
    pub stage: &'static str,
    /// How much is done, in units of the stage.
    pub done: u64,
    /// How much there is to do; 0 when not known.
    pub total: u64,
}

/// What a run will be, before it starts.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Plan {
    /// Family of the model.
    pub model: ModelKind,
    /// Number of parameters; 0 for an n-gram model, whose size is known only when it is made.
    pub params: u64,
    /// Number of them that are trained; adapters count to both.
    pub trained_params: u64,
    /// Training tokens.
    pub train_tokens: u64,
    /// Validation tokens.
    pub val_tokens: u64,
    /// Number of ids.
    pub vocab: usize,
    /// Bytes of memory that training takes.
    pub memory_bytes: u64,
    /// Bytes of memory free now.
    pub free_bytes: u64,
    /// Floating-point operations a token, forward and backward.
    pub flops_per_token: f64,
    /// Seconds of an optimizer step, measured on a few.
    pub step_seconds: Option<f64>,
    /// Optimizer steps: as asked for, or as many as the budget is expected to hold.
    pub steps: Option<u64>,
    /// Seconds of the whole training, validation not counted.
    pub seconds: Option<f64>,
}

/// A run ready to be trained.
pub struct Job {
    settings: Settings,
    reasons: Vec<String>,
    corpus: Corpus,
    start: Start,
    data: Data,
    spent: Duration,
}

impl Job {
    /// Reads the texts that the settings name and prepares all that training needs.
    ///
    /// # Errors
    /// When a text cannot be read, is too short, or a setting cannot work.
    pub fn prepare(settings: Settings, progress: &mut dyn FnMut(Preparing)) -> Result<Job> {
        Job::read(settings, true, progress)
    }

    /// The same with the settings that a run to be resumed was begun with: nothing is chosen anew.
    ///
    /// # Errors
    /// As those of [`Job::prepare`].
    pub fn prepare_resumed(settings: Settings, progress: &mut dyn FnMut(Preparing)) -> Result<Job> {
        Job::read(settings, false, progress)
    }

    fn read(settings: Settings, choose: bool, progress: &mut dyn FnMut(Preparing)) -> Result<Job> {
        let base = match &settings.from {
            Some(name) => Some(Start::from(name, &mut |_, done, total| {
                progress(Preparing { stage: "fetching the model", done, total });
            })?),
            None => None,
        };
        let began = Instant::now();
        fill(settings.clone(), base.as_ref())?;
        let options = settings.read_options();
        let mut reading = |p: &corpus::Progress| {
            progress(Preparing { stage: "reading texts", done: p.files as u64, total: p.of as u64 })
        };
        let held_out = match &settings.val {
            Some(path) => Some(corpus::read(std::slice::from_ref(path), &options, &mut reading)?),
            None => None,
        };
        // A copy of the validation text among the others would be seen in training.
        let except = held_out.as_ref().map(Corpus::hashes).unwrap_or_default();
        let corpus = corpus::read(&settings.text, &ReadOptions { except, ..options }, &mut reading)?;
        Job::new((settings, choose, began), base, corpus, held_out.as_ref(), progress)
    }

    /// The same with texts that are there already; for a new model.
    ///
    /// # Errors
    /// When the text is too short or a setting cannot work.
    pub fn from_corpus(
        settings: Settings,
        corpus: Corpus,
        held_out: Option<&Corpus>,
        progress: &mut dyn FnMut(Preparing),
    ) -> Result<Job> {
        let began = Instant::now();
        fill(settings.clone(), None)?;
        Job::new((settings, true, began), None, corpus, held_out, progress)
    }

    fn new(
        (settings, choose, began): (Settings, bool, Instant),
        base: Option<Start>,
        corpus: Corpus,
        held_out: Option<&Corpus>,
        progress: &mut dyn FnMut(Preparing),
    ) -> Result<Job> {
        let (mut train, val) = match held_out {
            Some(held_out) => (corpus.texts(), held_out.texts()),
            None => corpus.split(settings.val_fraction())?,
        };
        let mut measuring = || progress(Preparing { stage: "measuring the machine", done: 0, total: 0 });
        let recipe = if choose { recipe::choose(&settings, &train, &mut measuring)? } else { None };
        let (settings, mut reasons) = match recipe {
            Some(recipe) => (recipe.settings, recipe.reasons),
            None => (settings, Vec::new()),
        };
        let settings = fill(settings, base.as_ref())?;
        let mut start = match base {
            Some(mut start) => {
                start.tune(&settings)?;
                // Each document begins with the end-of-text token; an empty one gives the last its end too.
                train.push("");
                start
            }
            None => {
                progress(Preparing { stage: "making the tokenizer", done: 0, total: 0 });
                let tokenizer = tokenizer(&settings, &train)?;
                let start = Start::scratch(settings.model_config(tokenizer.vocab_size()), tokenizer);
                Start { forget_bias: settings.forget_bias.unwrap_or(start.forget_bias), ..start }
            }
        };
        let data = Data::encode(&start.tokenizer, &train, &val, &mut |done, total| {
            progress(Preparing { stage: "encoding", done, total });
        })?;
        if settings.unigram_bias == Some(true) {
            start.output_bias = Some(data.log_frequencies(start.config.vocab()));
        }
        let spent = began.elapsed();
        let budget = settings.budget.filter(|_| choose && settings.kind() != ModelKind::Ngram);
        reasons.extend(budget.and_then(|budget| budget::said(budget, spent)));
        Ok(Job { settings, reasons, corpus, start, data, spent })
    }

    /// The settings with every default filled in.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Why the settings that were not given are what they are, in sentences; none where defaults were taken.
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// The texts.
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// What training begins with.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// What the run will be. Of a neural model a few steps are taken to measure its speed; nothing is written.
    ///
    /// # Errors
    /// When the shape is impossible or memory is short.
    pub fn plan(&self) -> Result<Plan> {
        let options = self.options(false);
        let mut plan = Plan {
            model: self.settings.kind(),
            params: self.start.num_params(),
            trained_params: self.start.num_trained(),
            train_tokens: self.data.train.len() as u64,
            val_tokens: self.data.val.len() as u64,
            vocab: self.start.config.vocab(),
            memory_bytes: self.start.memory(&options),
            free_bytes: crate::memory::free_memory(),
            flops_per_token: self.start.config.flops_per_token(),
            step_seconds: None,
            steps: None,
            seconds: None,
        };
        if plan.model != ModelKind::Ngram {
            let step = measure(&self.start, &self.data, &options)?;
            let steps = match options.length {
                Length::Budget(budget) => {
                    ((budget.as_secs_f64() - budget::spent(&options)) / step.as_secs_f64().max(1e-9)) as u64
                }
                length => length.steps(plan.train_tokens, &options).unwrap_or_default(),
            };
            plan.step_seconds = Some(step.as_secs_f64());
            (plan.steps, plan.seconds) = (Some(steps), Some(steps as f64 * step.as_secs_f64()));
        }
        Ok(plan)
    }

    /// Trains the model and writes the run directory `out`. With `resume` it goes on from the last checkpoint there,
    /// to the bit; `stop` ends it after the step at hand, saving a checkpoint.
    ///
    /// # Errors
    /// When a setting or text cannot work, memory is short, the loss is not finite, or writing fails.
    pub fn run(
        &self,
        out: &Path,
        resume: bool,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<Outcome> {
        self.start.refuse_own_base(out)?;
        if !(resume && checkpoint::path(out).exists()) {
            create_dir(out)?;
            self.settings.save(out)?;
        }
        match &self.start.config {
            ModelConfig::Ngram(config) => ngram::train(config, &self.start.tokenizer, &self.data, out, on_event),
            _ => train(&self.start, &self.data, &self.options(resume), out, stop, on_event),
        }
    }

    fn options(&self, resume: bool) -> TrainOptions {
        TrainOptions { resume, spent: self.spent, reasons: self.reasons.clone(), ..self.settings.train_options() }
    }
}

/// The tokenizer of a new model.
fn tokenizer(settings: &Settings, texts: &[&str]) -> Result<Tokenizer> {
    match settings.word_format {
        Some(WordFormat::Ptb) => Tokenizer::train_ptb(texts, settings.vocab_size),
        _ => Tokenizer::train(settings.level(), texts, settings.vocab_size),
    }
}

/// Every default filled in, and what cannot work refused before any text is read.
fn fill(settings: Settings, base: Option<&Start>) -> Result<Settings> {
    let settings = match base {
        Some(start) => settings.filled_for(&start.config, start.tokenizer.level())?,
        None => settings.filled(),
    };
    settings.check()?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lstm_begins_with_the_frequencies_of_the_tokens_if_asked() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.txt");
        std::fs::write(&text, "aaab ".repeat(50)).unwrap();
        let job = |unigram_bias| {
            let text = vec![text.clone()];
            let settings = Settings { text, model: Some(ModelKind::Lstm), unigram_bias, ..Settings::default() };
            Job::prepare(settings, &mut |_| {}).unwrap()
        };
        let asked = job(Some(true));
        let biases = asked.start().output_bias.clone().unwrap();
        assert_eq!(biases.len(), asked.start().config.vocab());
        assert!((biases.iter().map(|bias| bias.exp()).sum::<f32>() - 1.0).abs() < 1e-5);
        assert!((biases.iter().copied().fold(f32::MIN, f32::max).exp() - 0.6).abs() < 0.05, "{biases:?}");
        assert_eq!(job(None).start().output_bias, None);
    }
}
