//! The flags of `penwright chat`.

use std::path::PathBuf;

use clap::Args;

use super::Choice;

#[derive(Debug, Args)]
#[command(
    after_help = "A line that begins with a slash is a command; /help lists them: /undo, /retry, /system TEXT, /save FILE, \
/quit. A line that ends in a backslash goes on in the next. Ctrl-C stops the reply; at the prompt it leaves. \
With --json, each line of standard input is a turn as it stands, and each reply is an object.

Examples:
  penwright chat runs/book
  penwright chat runs/book --system \"A talk by the sea.\" --user Ann --bot Hale --temperature 0.7
  penwright chat runs/talk --markers chatml --history talk.jsonl
  penwright chat runs/talk --user-marker \"### Human:\" --bot-marker \"### Assistant:\" --tokens 200
  printf \"Hello\\nWho are you?\\n\" | penwright chat runs/talk --json --seed 7"
)]
pub(crate) struct Chat {
    /// Run, Hugging Face directory, .gguf file or hub id such as gpt2
    pub(crate) run: PathBuf,
    /// What the model is told before the first turn
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// File with what the model is told before the first turn
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    pub(crate) system_file: Option<PathBuf>,
    /// File with the conversation, one {"role","content"} a line: taken up if it is there, kept up to date
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// Tokens of a reply at most [default: 500 characters or 200 larger tokens]
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<usize>,
    /// Ends a reply before this string; can be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Same seed and same turns, same replies
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Your name
    #[arg(long, value_name = "NAME", default_value = "User", help_heading = "Turns")]
    pub(crate) user: String,
    /// The model's name
    #[arg(long, value_name = "NAME", default_value = "Assistant", help_heading = "Turns")]
    pub(crate) bot: String,
    /// How turns are written: names ("User: ..."), chatml, tags (<|user|>), eot (end-of-text after each), a file with a
    /// chat template, or auto: by the run's chat template or its tokenizer's tokens, else names
    #[arg(long, value_name = "auto|names|chatml|tags|eot|FILE", default_value = "auto", hide_default_value = true)]
    #[arg(help_heading = "Turns", conflicts_with_all = ["user_marker", "bot_marker", "system_marker", "end_marker"])]
    pub(crate) markers: String,
    /// What stands before your turns in the texts that the model learned from; \n is a line end
    #[arg(long, value_name = "TEXT", help_heading = "Turns")]
    pub(crate) user_marker: Option<String>,
    /// What stands before its turns
    #[arg(long, value_name = "TEXT", help_heading = "Turns")]
    pub(crate) bot_marker: Option<String>,
    /// What stands before the system's text [default: nothing]
    #[arg(long, value_name = "TEXT", help_heading = "Turns")]
    pub(crate) system_marker: Option<String>,
    /// What stands after each turn [default: a line end]
    #[arg(long, value_name = "TEXT", help_heading = "Turns")]
    pub(crate) end_marker: Option<String>,

    #[command(flatten)]
    pub(crate) choice: Choice,
}
