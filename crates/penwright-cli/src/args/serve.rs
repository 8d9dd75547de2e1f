//! The flags of `penwright serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use penwright::duration::format;
use penwright_server::Options;

use super::Precision;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  penwright serve runs/book
  penwright serve runs/ngram runs/lstm runs/gpt2 --addr 127.0.0.1:9000
  penwright serve book=runs/2026-11 gpt2 --precision int8 --streams 32
  penwright serve runs/book --allow-training
  penwright serve runs/book --addr 0.0.0.0:8080 --api-key-file keys.txt --cors-origin https://example.org

Then, from another terminal:
  curl http://127.0.0.1:8080/v1/completions -H \"Content-Type: application/json\" \\
    -d '{\"prompt\": \"The door\", \"max_tokens\": 60}'")]
pub(crate) struct Serve {
    /// Runs, Hugging Face directories, .gguf files or hub ids such as gpt2; NAME=RUN to give requests another name
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<String>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value_t = Options::default().addr)]
    pub(crate) addr: SocketAddr,
    /// Numbers of the weights while writing; fewer bits are faster and less exact (`eval --precision` says how much)
    #[arg(long, value_enum, default_value = "auto", value_name = "P")]
    pub(crate) precision: Precision,

    /// Texts that each model writes side by side [default: what a quarter of the free memory holds, at most 64]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) streams: Option<usize>,
    /// Prompts that may wait for each model; beyond it, requests are answered with 429
    #[arg(long, value_name = "N", help_heading = "Limits", default_value_t = Options::default().queue)]
    pub(crate) queue: usize,
    /// Bytes of a request's body
    #[arg(long, value_name = "BYTES", help_heading = "Limits", default_value_t = Options::default().max_body)]
    pub(crate) max_body: usize,
    /// Tokens of a prompt
    #[arg(long, value_name = "N", help_heading = "Limits", default_value_t = Options::default().max_prompt)]
    pub(crate) max_prompt: usize,
    /// Tokens of a text
    #[arg(long, value_name = "N", help_heading = "Limits", default_value_t = Options::default().max_tokens)]
    pub(crate) max_tokens: usize,
    /// How long a request may take, waiting included
    #[arg(long, value_name = "DURATION", help_heading = "Limits", default_value_t = format(Options::default().request_timeout))]
    pub(crate) request_timeout: String,
    /// How long a client may take to send a request or to read a part of an answer
    #[arg(long, value_name = "DURATION", help_heading = "Limits", default_value_t = format(Options::default().client_timeout))]
    pub(crate) client_timeout: String,
    /// How long running requests may take to end after Ctrl-C or SIGTERM
    #[arg(long, value_name = "DURATION", help_heading = "Limits", default_value_t = format(Options::default().stop_timeout))]
    pub(crate) stop_timeout: String,

    /// File with keys, one a line; requests then need one of them (Authorization: Bearer KEY)
    #[arg(long, value_name = "FILE", help_heading = "Who may ask")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Lets whoever may ask train models, in the page's part Train: one at a time, into DIR [default: runs]
    #[arg(
        long,
        value_name = "DIR",
        help_heading = "Who may ask",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "runs"
    )]
    pub(crate) allow_training: Option<PathBuf>,
    /// Origin whose pages may ask, such as https://example.org, or * for all; can be given several times
    #[arg(long, value_name = "ORIGIN", help_heading = "Who may ask")]
    pub(crate) cors_origin: Vec<String>,
}
