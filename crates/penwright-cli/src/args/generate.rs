//! The flags of `penwright generate`.

use std::path::PathBuf;

use clap::Args;
use penwright::generate::GenerateOptions;

use super::Choice;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  penwright generate runs/book --prompt \"The door\" --tokens 300 --temperature 0.7
  penwright generate runs/book --prompt-file start.txt --paragraphs 2 --min-p 0.05
  echo \"Once\" | penwright generate runs/book --prompt-file - --samples 5 --json
  penwright generate gpt2 --prompt \"The door\" --tokens 100
  penwright generate gpt2 --prompt-file article.txt --draft prompt --precision bf16 --stats
  penwright generate runs/book --interactive
  penwright generate runs/book --summarize article.txt --seed 3")]
pub(crate) struct Generate {
    /// Run, Hugging Face directory, .gguf file or hub id such as gpt2
    pub(crate) run: PathBuf,
    /// Text to go on from
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prompt: String,
    /// File with the text to go on from; - is standard input; a line end at its very end is left out
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// File to summarize as GPT-2's paper does: its beginning, then TL;DR:, and the first --sentences [default: 3] of at
    /// most --tokens [default: 100], by --top-k [default: 2] and --temperature [default: 1]; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "prompt_file", "words", "paragraphs", "beams"])]
    pub(crate) summarize: Option<PathBuf>,

    /// Tokens to write [default: 500 characters or 200 larger tokens]
    #[arg(long, value_name = "N", help_heading = "Length", conflicts_with_all = ["words", "paragraphs"])]
    pub(crate) tokens: Option<usize>,
    /// Words to write; the text ends with the last one's last letter
    #[arg(long, value_name = "N", help_heading = "Length", conflicts_with_all = ["sentences", "paragraphs"])]
    pub(crate) words: Option<usize>,
    /// Sentences to write, closing quotes included
    #[arg(long, value_name = "N", help_heading = "Length", conflicts_with = "paragraphs")]
    pub(crate) sentences: Option<usize>,
    /// Paragraphs to write; they end at an empty line, or, in texts of long lines without any, at a line's end
    #[arg(long, value_name = "N", help_heading = "Length")]
    pub(crate) paragraphs: Option<usize>,
    /// Ends the text before this string; can be given several times
    #[arg(long, value_name = "TEXT", help_heading = "Length")]
    pub(crate) stop: Vec<String>,

    /// Texts to write side by side, each printed with the prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) samples: usize,
    /// Same seed, same text
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) choice: Choice,
    /// The likeliest token always
    #[arg(long, help_heading = "Choice of tokens", conflicts_with = "temperature")]
    pub(crate) greedy: bool,
    /// Only the tokens nearest to the expected surprise that together have probability X
    #[arg(
        long,
        value_name = "X",
        help_heading = "Choice of tokens",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub(crate) typical: f32,
    /// No N tokens in a row come twice; 0 for no such rule
    #[arg(long, value_name = "N", help_heading = "Choice of tokens", default_value_t = 0)]
    pub(crate) no_repeat_ngram: usize,
    /// Beam search over N texts instead of chance: the likeliest whole text, not the likeliest next token
    #[arg(long, value_name = "N", help_heading = "Choice of tokens", value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with_all = ["temperature", "greedy", "top_k", "top_p", "min_p", "typical"])]
    pub(crate) beams: Option<u32>,

    /// Reads several tokens at once, where they can be guessed: prompt guesses from the text so far, an n-gram run (with
    /// the same tokenizer) from what it was trained on; off. The text is the same, only sooner; an LSTM gains little
    #[arg(
        long,
        value_name = "off|prompt|RUN",
        default_value = "off",
        help_heading = "Speed",
        conflicts_with = "interactive"
    )]
    pub(crate) draft: PathBuf,
    /// Tokens to guess at most [default: 11]
    #[arg(long, value_name = "N", help_heading = "Speed", value_parser = clap::value_parser!(u8).range(1..=64))]
    draft_tokens: Option<u8>,

    /// The model offers, you pick or type
    #[arg(long, conflicts_with_all = ["tokens", "words", "sentences", "paragraphs", "stop", "samples", "beams",
        "no_stream", "json", "summarize"])]
    pub(crate) interactive: bool,
    /// Prints a text when it is complete, not as it comes
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Speed, on standard error
    #[arg(long)]
    pub(crate) stats: bool,
}

impl Generate {
    pub(crate) fn draft_tokens(&self) -> usize {
        self.draft_tokens.map_or(GenerateOptions::default().draft_tokens, usize::from)
    }
}
