//! The flags of `train`. What is not given is left to the settings file and the defaults of the model's family.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use penwright::corpus::WordFormat;
use penwright::model::ModelKind;
use penwright::tokenizer::Level;
use penwright::train::{Averaging, OptimizerKind, Precision, Schedule, Settings};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelName {
    Ngram,
    Lstm,
    Gpt2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LevelName {
    Char,
    Word,
    Bpe,
    Gpt2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum WordFormatName {
    Text,
    Ptb,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ScheduleName {
    Cosine,
    Wsd,
    Linear,
    Constant,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OptimizerName {
    Adamw,
    Muon,
    Sgd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PrecisionName {
    Auto,
    F32,
    Bf16,
}

impl From<LevelName> for Level {
    fn from(level: LevelName) -> Level {
        match level {
            LevelName::Char => Level::Char,
            LevelName::Word => Level::Word,
            LevelName::Bpe => Level::Bpe,
            LevelName::Gpt2 => Level::Gpt2,
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Regularising an LSTM")]
pub(crate) struct Regularization {
    /// Variational dropout of the embedding's output: one mask for all time steps [default: --dropout]
    #[arg(long, value_name = "P")]
    pub(crate) dropout_input: Option<f32>,
    /// Variational dropout between layers [default: --dropout]
    #[arg(long, value_name = "P")]
    pub(crate) dropout_hidden: Option<f32>,
    /// Variational dropout of the last layer's output [default: --dropout]
    #[arg(long, value_name = "P")]
    pub(crate) dropout_output: Option<f32>,
    /// Dropout of whole words: rows of the embedding [default: 0]
    #[arg(long, value_name = "P")]
    pub(crate) dropout_embed: Option<f32>,
    /// Dropout of recurrent weights (DropConnect), one mask a step [default: 0]
    #[arg(long, value_name = "P")]
    pub(crate) weight_drop: Option<f32>,
    /// Activation regularisation: this times the mean square of the last layer's output [default: 0]
    #[arg(long, value_name = "ALPHA")]
    pub(crate) ar: Option<f32>,
    /// Temporal activation regularisation: the same of the output's change from step to step [default: 0]
    #[arg(long, value_name = "BETA")]
    pub(crate) tar: Option<f32>,
    /// Windows of random length around --context, the learning rate of a step rescaled by it
    #[arg(long)]
    pub(crate) random_length: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  penwright train book.txt --model lstm --budget 5m --out runs/lstm
  penwright train books/ --layers 4 --heads 4 --width 128 --steps 2000
  penwright train book.txt --model ngram --order 6
  penwright train --out runs/lstm --resume      go on after an interruption
  penwright train book.txt --from gpt2 --out runs/tuned
  penwright train book.txt --from runs/gpt2 --lora 8 --out runs/adapter
  penwright train book.txt --out runs/book --tensorboard      then: tensorboard --logdir runs
  penwright train book.txt --budget 10m --dry-run")]
pub(crate) struct Train {
    /// Files and folders of .txt, .md, .html, .epub and .jsonl, also .gz and .zst; - is standard input
    pub(crate) text: Vec<PathBuf>,
    /// Family of the model [default: gpt2]
    #[arg(long, value_enum)]
    pub(crate) model: Option<ModelName>,
    /// Unit that the model predicts [default: bpe for GPT-2, char for LSTM and n-gram]
    #[arg(long, value_enum)]
    pub(crate) level: Option<LevelName>,
    /// Number of ids of a word or bpe tokenizer [default: by the size of the text]
    #[arg(long, value_name = "N")]
    pub(crate) vocab_size: Option<usize>,
    /// Model to train on: a run, a Hugging Face directory, a hub id such as gpt2, or a .gguf file
    #[arg(long, value_name = "RUN|ID|FILE", help_heading = "Training on a model that is there")]
    pub(crate) from: Option<String>,
    /// Train adapters of this rank (LoRA) beside the frozen weights of a GPT-2, in a quarter of the memory
    #[arg(long, value_name = "RANK", help_heading = "Training on a model that is there")]
    pub(crate) lora: Option<usize>,
    /// Weight of the adapters: alpha / rank times their product is added [default: twice the rank]
    #[arg(long, value_name = "X", help_heading = "Training on a model that is there")]
    pub(crate) lora_alpha: Option<f32>,
    /// Matrices that get adapters, separated by commas: c_attn, c_proj, attn.c_proj, mlp.c_proj, c_fc [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Training on a model that is there")]
    pub(crate) lora_targets: Option<Vec<String>>,
    /// Leave the first N blocks of a GPT-2 as they are
    #[arg(long, value_name = "N", help_heading = "Training on a model that is there")]
    pub(crate) freeze_layers: Option<usize>,
    /// Leave the embeddings of a GPT-2 as they are, and with them its tied output layer
    #[arg(long, help_heading = "Training on a model that is there")]
    pub(crate) freeze_embeddings: bool,
    /// Keep less for the backward pass and compute it once more: less memory, a third more time, the same bits
    #[arg(long)]
    pub(crate) checkpoint_activations: bool,
    /// Run directory to write [default: runs/latest]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Time to train, reading the text included, such as 90s, 10m or 1h30m; what is not given is then chosen by the text's size and the machine's speed
    #[arg(long, value_name = "DURATION", value_parser = penwright::duration::parse, conflicts_with_all = ["steps", "epochs"])]
    pub(crate) budget: Option<Duration>,
    /// Optimizer steps to train [default: 2000]
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    pub(crate) steps: Option<u64>,
    /// Passes over the training text
    #[arg(long, value_name = "X")]
    pub(crate) epochs: Option<f64>,
    /// Text to validate on
    #[arg(long, value_name = "FILE", conflicts_with = "val_fraction")]
    pub(crate) val: Option<PathBuf>,
    /// Last part of each text to validate on [default: 0.1]
    #[arg(long, value_name = "X")]
    pub(crate) val_fraction: Option<f64>,
    /// Field of .jsonl files that holds the text [default: text]
    #[arg(long, value_name = "NAME")]
    pub(crate) field: Option<String>,
    /// Leave hard-wrapped lines as they are
    #[arg(long)]
    pub(crate) keep_wrapping: bool,
    /// Words of the text at --level word: as people write them, or cut already as in Penn Treebank and WikiText
    #[arg(long, value_enum)]
    pub(crate) word_format: Option<WordFormatName>,
    /// Texts side by side [default: 12 for GPT-2, 32 for LSTM]
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<usize>,
    /// Tokens of each text a step [default: 64]
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    /// Batches whose gradients are averaged for one step [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) accumulate: Option<usize>,
    /// Blocks or layers [default: 4 for GPT-2, 2 for LSTM]
    #[arg(long, value_name = "N")]
    pub(crate) layers: Option<usize>,
    /// Attention heads (GPT-2) [default: 4]
    #[arg(long, value_name = "N")]
    pub(crate) heads: Option<usize>,
    /// Embedding size of GPT-2, hidden size of an LSTM [default: 128 for GPT-2, 256 for LSTM]
    #[arg(long, value_name = "N")]
    pub(crate) width: Option<usize>,
    /// Embedding size of an LSTM [default: 64]
    #[arg(long, value_name = "N")]
    pub(crate) embed: Option<usize>,
    /// The embedding is the output layer too; the LSTM's last layer is as wide as it
    #[arg(long)]
    pub(crate) tied: bool,
    /// Rounds in which an LSTM's inputs and hidden states gate each other before the cell (Mogrifier) [default: 0]
    #[arg(long, value_name = "ROUNDS")]
    pub(crate) mogrifier: Option<usize>,
    /// Rank of the matrices of those rounds [default: whole matrices]
    #[arg(long, value_name = "N")]
    pub(crate) mogrifier_rank: Option<usize>,
    /// Bias of a new LSTM's forget gates before its first step [default: 1, 0 with sgd]
    #[arg(long, value_name = "X")]
    pub(crate) forget_bias: Option<f32>,
    /// A new LSTM begins with the frequencies of the tokens as its output, so that it need not learn these first
    #[arg(long)]
    pub(crate) unigram_bias: bool,
    /// Order of an n-gram model: its context and the next token [default: by the level]
    #[arg(long, value_name = "N")]
    pub(crate) order: Option<usize>,
    /// Dropout rate; of an LSTM in all places where the flags below give none [default: 0; 0.2 between an LSTM's
    /// layers]
    #[arg(long, value_name = "P")]
    pub(crate) dropout: Option<f32>,
    /// Read the text in other pieces each time: the chance that a merge of two pieces is undone, at first; it falls linearly to
    /// nothing (BPE-dropout) [default: 0]
    #[arg(long, value_name = "P")]
    pub(crate) bpe_dropout: Option<f32>,
    /// Peak learning rate [default: 1e-3 for GPT-2, 3e-3 for LSTM; with muon 2e-3 and 8e-3; with --from 0.077 / width,
    /// ten times that with --lora]
    #[arg(long, value_name = "X")]
    pub(crate) lr: Option<f32>,
    /// Optimizer; muon moves the hidden matrices by Muon and all else by AdamW [default: adamw]
    #[arg(long, value_enum)]
    pub(crate) optimizer: Option<OptimizerName>,
    /// Momentum of muon or sgd [default: 0.95 for muon, 0.9 for sgd]
    #[arg(long, value_name = "X")]
    pub(crate) momentum: Option<f32>,
    /// How much of the mean of the gradients AdamW keeps in a step [default: 0.9]
    #[arg(long, value_name = "X")]
    pub(crate) beta1: Option<f32>,
    /// How much of the mean of their squares AdamW keeps in a step [default: 0.99]
    #[arg(long, value_name = "X")]
    pub(crate) beta2: Option<f32>,
    /// Peak learning rate of muon's matrices [default: that of --lr]
    #[arg(long, value_name = "X")]
    pub(crate) muon_lr: Option<f32>,
    /// Iterations that bring muon's step near an orthogonal matrix; three take less time and lead as far [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) muon_iterations: Option<usize>,
    /// Learning rate of what tokens share that are spelled alike, beside that of --lr: the rows of the embedding and the
    /// output layer learn from one another [default: 0, they share nothing]
    #[arg(long, value_name = "X")]
    pub(crate) spelling: Option<f32>,
    /// Validate and save an average of the weights: exponential with this DECAY, or nt: even, from when validation no
    /// longer improves (NT-ASGD) [default: off]
    #[arg(long, value_name = "DECAY|nt|off")]
    pub(crate) average: Option<Averaging>,
    /// Validate and save the model with its logits divided by what suits the validation text best: too sure of itself, it would
    /// lose by it
    #[arg(long)]
    pub(crate) calibrate: bool,
    /// Form of the learning rate [default: wsd]
    #[arg(long, value_enum)]
    pub(crate) schedule: Option<ScheduleName>,
    /// Last part of the training, over which the learning rate of wsd falls to nothing [default: 0.2]
    #[arg(long, value_name = "X")]
    pub(crate) lr_decay: Option<f32>,
    /// Steps of warm-up [default: 100]
    #[arg(long, value_name = "N")]
    pub(crate) warmup: Option<u64>,
    /// Weight decay on matrices [default: 0.1 for GPT-2, 0.01 for LSTM, 1.2e-6 with sgd]
    #[arg(long, value_name = "X")]
    pub(crate) weight_decay: Option<f32>,
    /// Largest norm of the gradient [default: 1, 0.25 with sgd]
    #[arg(long, value_name = "X")]
    pub(crate) clip: Option<f32>,
    /// Arithmetic of products [default: auto]
    #[arg(long, value_enum)]
    pub(crate) precision: Option<PrecisionName>,
    /// Seed of weights, batches and dropout [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Steps between validations [default: twenty validations in all]
    #[arg(long, value_name = "N")]
    pub(crate) eval_every: Option<u64>,
    /// Steps between samples, 0 for none [default: at each validation; none with --json or --quiet]
    #[arg(long, value_name = "N")]
    pub(crate) sample_every: Option<u64>,
    /// Validations without improvement after which training stops [default: never]
    #[arg(long, value_name = "N")]
    pub(crate) patience: Option<u64>,
    /// Time between checkpoints to resume from [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = penwright::duration::parse)]
    pub(crate) checkpoint_every: Option<Duration>,
    /// Go on from the last checkpoint in --out, with the same bits as if never interrupted
    #[arg(long)]
    pub(crate) resume: bool,
    /// Settings file; flags count before it
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// One setting by its name, such as lr=0.001; counts before --config, after flags
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Write event files for TensorBoard into the run directory; a resumed run that has such goes on writing them
    #[arg(long)]
    pub(crate) tensorboard: bool,
    /// Print the plan (model, parameters, memory, expected time) and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    // Last: the heading holds for all that follows.
    #[command(flatten)]
    pub(crate) regularization: Regularization,
}

impl Train {
    /// What the flags say, alone.
    pub(crate) fn settings(&self) -> Result<Settings, penwright::Error> {
        let optimizer = self.optimizer.map(|optimizer| match optimizer {
            OptimizerName::Adamw => OptimizerKind::AdamW,
            OptimizerName::Muon => OptimizerKind::Muon,
            OptimizerName::Sgd => OptimizerKind::Sgd,
        });
        let precision = match self.precision {
            Some(PrecisionName::Bf16) => Some(Precision::Bf16),
            Some(PrecisionName::Auto) => Some(Precision::Auto),
            Some(PrecisionName::F32) => Some(Precision::F32),
            None => None,
        };
        Ok(Settings {
            text: self.text.clone(),
            field: self.field.clone(),
            keep_wrapping: self.keep_wrapping.then_some(true),
            word_format: self.word_format.map(|format| match format {
                WordFormatName::Text => WordFormat::Text,
                WordFormatName::Ptb => WordFormat::Ptb,
            }),
            model: self.model.map(|model| match model {
                ModelName::Ngram => ModelKind::Ngram,
                ModelName::Lstm => ModelKind::Lstm,
                ModelName::Gpt2 => ModelKind::Gpt2,
            }),
            level: self.level.map(Level::from),
            vocab_size: self.vocab_size,
            from: self.from.clone(),
            lora: self.lora,
            lora_alpha: self.lora_alpha,
            lora_targets: self.lora_targets.clone(),
            freeze_layers: self.freeze_layers,
            freeze_embeddings: self.freeze_embeddings.then_some(true),
            checkpoint_activations: self.checkpoint_activations.then_some(true),
            budget: self.budget,
            steps: self.steps,
            epochs: self.epochs,
            val: self.val.clone(),
            val_fraction: self.val_fraction,
            batch: self.batch,
            context: self.context,
            accumulate: self.accumulate,
            layers: self.layers,
            heads: self.heads,
            width: self.width,
            embed: self.embed,
            tied: self.tied.then_some(true),
            mogrifier: self.mogrifier,
            mogrifier_rank: self.mogrifier_rank,
            forget_bias: self.forget_bias,
            unigram_bias: self.unigram_bias.then_some(true),
            order: self.order,
            dropout: self.dropout,
            bpe_dropout: self.bpe_dropout,
            dropout_input: self.regularization.dropout_input,
            dropout_hidden: self.regularization.dropout_hidden,
            dropout_output: self.regularization.dropout_output,
            dropout_embed: self.regularization.dropout_embed,
            weight_drop: self.regularization.weight_drop,
            ar: self.regularization.ar,
            tar: self.regularization.tar,
            random_length: self.regularization.random_length.then_some(true),
            lr: self.lr,
            optimizer,
            momentum: self.momentum,
            beta1: self.beta1,
            beta2: self.beta2,
            muon_lr: self.muon_lr,
            muon_iterations: self.muon_iterations,
            spelling: self.spelling,
            average: self.average,
            calibrate: self.calibrate.then_some(true),
            schedule: self.schedule.map(|schedule| match schedule {
                ScheduleName::Cosine => Schedule::Cosine,
                ScheduleName::Wsd => Schedule::Wsd,
                ScheduleName::Linear => Schedule::Linear,
                ScheduleName::Constant => Schedule::Constant,
            }),
            lr_decay: self.lr_decay,
            warmup: self.warmup,
            weight_decay: self.weight_decay,
            clip: self.clip,
            precision,
            seed: self.seed,
            eval_every: self.eval_every,
            sample_every: self.sample_every,
            patience: self.patience,
            checkpoint_every: self.checkpoint_every,
        })
    }
}
